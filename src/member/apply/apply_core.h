// member/apply/apply_core.h: the stage that turns committed entries into state: keys, leases, users, alarms,
// membership.
//
// Deterministic: the same entries give the same tables on every member. Each batch ends in this order: buffers are
// filled, one Published is stored, answers leave. When changes are due for the file, the buffer is frozen and, once
// the WAL holds a hard state that commits it, given to CommitStage.
//
// Always true: the tables in a commit and its consistent_index belong to the same entry; the file is never ahead of
//              this member's own WAL.
// Threads:     the apply thread's; readers see only Published.
// Source:      docs/architecture.md.
#pragma once

#include <array>
#include <deque>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "auth/store.h"
#include "cluster/membership.h"
#include "lease/lessor.h"
#include "member/published.h"
#include "member/stages.h"
#include "mvcc/kv/store.h"
#include "mvcc/kv/txn.h"

namespace etcdserverpb {
class AlarmRequest;
class InternalRaftRequest;
}  // namespace etcdserverpb

namespace cairn::member {

// What a directory's tables look like; it decides what we write into it (docs/compatibility.md).
enum class Schema : uint8_t { k3_4, k3_5, k3_6, k3_7 };
// Up to 3.5 it is 1 whatever the flags say: what was refused then is refused again.
[[nodiscard]] constexpr size_t learner_count_max(Schema schema, size_t configured) {
  return schema < Schema::k3_6 ? 1 : configured;
}

// The replicated state at `applied`, as found at start.
struct AppliedState {
  std::unique_ptr<mvcc::Index> index;
  std::shared_ptr<const storage::View> file;
  mvcc::Store::Options store;
  lease::Lessor lessor{2};
  auth::Store auth;
  std::set<Alarm> alarms;
  cluster::Membership members;
  std::optional<cluster::Membership> replaced_members;  // what the tables hold instead of `members`: to be rewritten
  raft::ConfState conf;
  std::string storage_version;
  Schema schema = Schema::k3_7;
  Index applied;
  Term applied_term;
  Index snapshot_index;  // of the .snap file that the log follows
  storage::Space space;
  int64_t unfinished_compaction = 0;  // scheduled, not known to be finished; 0: none
  bool new_directory = false;         // auth and meta tables get their first entries
};

struct ApplyOptions {
  uint64_t member_id = 0;
  uint64_t buffer_bytes_max = 16 << 20;
  uint64_t buffer_entries_max = 50'000;
  uint64_t wal_bytes_max = 64 << 20;
  int64_t commit_interval_ns = 1'000'000'000;
  int64_t reclaim_interval_ns = 20'000'000;  // between commits that only carry on a compaction
  int64_t snapshot_interval_ns = 1'000'000'000;
  uint64_t snapshot_entries = 10'000;
  size_t learner_count_max = 1;
  uint64_t quota_bytes = uint64_t{2} << 30;  // 0: no quota
};

struct ApplyOutput {
  AppliedNotice notice;
  std::optional<CommitJob> commit;
  std::vector<Proposal> proposals;  // of this member itself: alarms
};

class ApplyCore {
 public:
  // What was applied since the start, for metrics.
  struct Counters {
    uint64_t puts = 0;
    uint64_t deletes = 0;  // keys
    uint64_t txns = 0;
    uint64_t put_bytes = 0;
    uint64_t compacted_records = 0;
  };

  // `answers` takes what callers get, and outlives this.
  ApplyCore(const ApplyOptions& options, AppliedState state, Answers& answers, int64_t now_ns);
  ~ApplyCore();

  // needs: !stalled() when the batch has entries, or the caller bounds what the live buffer takes
  //   errors: kDataLoss, kFailedPrecondition: an entry that cannot be applied; the member must end, saying so
  Status apply(ApplyBatch batch, int64_t now_ns, bool beyond_buffers = false);
  // A batch that waits because both buffers are full brings this first: the commit that frees one may wait for it.
  void note_durable_commit(Index index);
  //   errors: a commit that failed for good; the member must end
  Status commit_done(CommitDone done, int64_t now_ns);
  // Time passed: commits that are due begin.
  void tick(int64_t now_ns);
  // When tick() should be called next; nullopt: nothing is pending.
  [[nodiscard]] std::optional<int64_t> next_tick_ns() const;

  // Both buffers are full: entries must wait for commit_done().
  [[nodiscard]] bool stalled() const;
  // Nothing happens any more: both meta pages come to where the state is, a snapshot point follows, and what the log
  // need not keep is released.
  void settle(int64_t now_ns);
  // Everything applied is in the file, or about to be: used at a clean stop.
  void request_commit(int64_t now_ns);
  [[nodiscard]] bool commit_pending() const { return store_.committing(); }
  [[nodiscard]] bool is_clean() const { return !store_.committing() && store_.live().empty() && entries_since_ == 0; }

  [[nodiscard]] bool has_output() const { return has_output_; }
  [[nodiscard]] ApplyOutput take_output();

  [[nodiscard]] PublishedDomain& published() { return *published_; }
  [[nodiscard]] const mvcc::Store& store() const { return store_; }
  [[nodiscard]] const lease::Lessor& lessor() const { return lessor_; }
  [[nodiscard]] const auth::Store& auth() const { return auth_; }
  [[nodiscard]] const cluster::Membership& members() const { return *members_; }
  [[nodiscard]] const Counters& counters() const { return counters_; }
  [[nodiscard]] const storage::Space& space() const { return space_; }
  [[nodiscard]] Index applied() const { return applied_; }
  // Members of 3.5 and older read bare v2 requests.
  [[nodiscard]] Schema schema() const { return schema_; }
  [[nodiscard]] size_t retired_buffer_count() const { return retired_buffers_.size(); }  // held by readers
  [[nodiscard]] int64_t compaction_in_progress() const { return pass_ ? pass_->compact_revision : 0; }

 private:
  struct Pass {
    int64_t compact_revision = 0;
    std::string position;
    bool in_commit = false;    // the running commit carries a part
    bool done = false;         // all is deleted; finishedCompactRev goes into the next commit
    std::vector<Tag> waiters;  // physical compactions
  };
  struct CommitPoint {
    Index index;
    Term term;
    raft::ConfState conf;
    std::shared_ptr<const cluster::Membership> members;
  };

  // apply_core.cc
  Status apply_entry(const raft::Entry& entry);
  Status apply_conf_change(const raft::Entry& entry);
  void answer(Tag tag, Code code, std::string_view text);
  void answer_error(Tag tag, const Error& error) { answer(tag, error.code, error.message); }
  std::string& answer_bytes(Tag tag) { return answers_.begin(tag); }
  void end_answer(Tag tag, size_t offset) { answers_.end(tag, offset); }
  [[nodiscard]] mvcc::HeaderValues header(int64_t revision) const;
  void publish();
  void answer_controls();
  void tidy();

  // apply_kv.cc
  Status apply_request(std::string_view bytes, Tag tag);
  Status apply_put(std::string_view bytes, Tag tag);
  Status apply_delete_range(std::string_view bytes, Tag tag);
  Status apply_txn(std::string_view bytes, Tag tag);
  Status apply_compaction(std::string_view bytes, Tag tag);
  Status apply_range(std::string_view bytes, Tag tag);
  void end_write();
  std::optional<Error> refused_by_alarm(bool puts) const;
  [[nodiscard]] bool within_quota(uint64_t cost) const;
  // What was written has exceeded the quota: the alarm is proposed, once.
  void raise_no_space();

  // apply_tables.cc
  Status apply_other(std::string_view bytes, Tag tag);
  Status apply_lease_revoke(int64_t id, Tag tag);
  void apply_alarm(const etcdserverpb::AlarmRequest& request, Tag tag);
  void propose_no_space();
  Status apply_auth(const etcdserverpb::InternalRaftRequest& request, Tag tag, bool& handled);
  Status apply_v2(std::string_view bytes);
  void set_version(const std::string& version);
  void set_attributes(NodeId id, std::string name, std::vector<std::string> client_urls);
  void store_member(NodeId id);
  void store_conf_state();
  void store_first_tables();
  void rewrite_members(const cluster::Membership& old);

  // apply_commit.cc
  void consider_commit(int64_t now_ns);
  void begin_commit(int64_t now_ns);
  void release_commit();
  void finish_pass_part(const storage::CommitResult& result);
  void consider_snapshot(int64_t now_ns);
  void free_buffers();
  [[nodiscard]] bool pass_may_go() const;
  [[nodiscard]] int64_t lowest_asked_revision() const;
  [[nodiscard]] int64_t trim_floor() const;
  [[nodiscard]] std::vector<uint64_t> open_views();
  [[nodiscard]] bool reads_old_view() const;

  ApplyOptions options_;
  Answers& answers_;
  mvcc::Store store_;
  mvcc::TxnRequest txn_;  // the one that is applied: kept for its memory
  lease::Lessor lessor_;
  auth::Store auth_;
  std::set<Alarm> alarms_;
  std::shared_ptr<const std::vector<Alarm>> alarm_list_;
  std::shared_ptr<const cluster::Membership> members_;
  raft::ConfState conf_;
  std::string storage_version_;
  Schema schema_;
  Index applied_;
  Term applied_term_;
  LeaderState leader_;
  storage::Space space_;

  std::unique_ptr<PublishedDomain> published_;
  std::vector<uint64_t> held_;
  int64_t published_compact_revision_ = 0;
  uint64_t compact_number_ = 0;  // the compaction is visible from this published number on
  bool dirty_ = false;           // something to publish
  bool untidy_ = false;          // index work is left
  ApplyOutput output_;
  bool has_output_ = false;
  uint64_t term_for_headers_ = 0;
  std::vector<ControlRequest> controls_;

  int64_t last_tick_ns_ = 0;

  // commits
  Index durable_commit_;
  std::optional<CommitJob> waiting_job_;  // for durable_commit_
  CommitPoint committing_point_;
  std::array<std::optional<CommitPoint>, 2> reached_;  // newest meta, older meta; empty: not known since start
  uint64_t entries_since_ = 0;                         // applied since the last freeze
  uint64_t wal_bytes_since_ = 0;
  std::optional<int64_t> changed_at_ns_;  // first change since the last freeze
  bool commit_now_ = false;
  std::vector<Tag> commit_waiters_;      // of the next commit
  std::vector<Tag> committing_waiters_;  // of the running one
  int64_t last_commit_ns_ = 0;
  std::optional<Pass> pass_;
  std::vector<Tag> next_physical_;  // compactions that wait for a pass to come
  int64_t next_compaction_ = 0;     // its revision, when one was scheduled during a pass
  struct RetiredBuffer {
    uint64_t first_number = 0;  // of what is published, [first_number, number) may show it
    uint64_t number = 0;
    std::unique_ptr<storage::WriteBuffer> buffer;
  };
  std::deque<RetiredBuffer> retired_buffers_;
  uint64_t live_since_ = 0;    // the number published last when the live buffer was begun
  uint64_t frozen_since_ = 0;  // as much of the frozen one
  std::deque<std::weak_ptr<const storage::View>> views_;
  uint64_t view_before_txid_ = 0;  // of the view that the newest one replaced
  Index snapshot_index_;
  Index settle_to_;  // a snapshot point there, or behind it, is wanted soon; 0: none is
  int64_t last_snapshot_ns_ = 0;
  bool nospace_proposed_ = false;
  Counters counters_;
};

}  // namespace cairn::member
