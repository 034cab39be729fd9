// sim/cluster/judge.h: what must be true of a cluster, checked at each thing that happens.
//
//   - The log: all members hand out the same entry at the same index, without a gap, and it never changes. It holds
//     only what somebody asked for, nothing twice and nothing that was refused for good.
//   - A term has one leader.
//   - An append is acknowledged only when it is on the disk.
//   - Answers: each equals the model's answer for the request's entry. A request has one answer, unless its member
//   dies.
//   - Reads: what a member shows equals the model at the member's index; a linearizable read shows all that was
//     answered to anybody before the read began.
//   - Members: who has applied the same entries has the same members and the same configuration.
//   - Leases: a member asks for the revoke of a lease only when its time is over since it was granted, and since each
//     renewal that was answered was asked for.
//
// The log is the order of all writes, so a history is linearizable exactly when each answer fits its entry and no read
// lies below what was known to be done when it began. A write cannot lie below: its entry is made after its call.
//
// Threads: one.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "cluster/membership.h"
#include "member/published.h"
#include "member/stages.h"
#include "proto/raft_internal.pb.h"
#include "sim/cluster/membership_check.h"
#include "sim/coverage.h"
#include "sim/model.h"

namespace cairn::sim {

// One call of a client.
struct ClusterCall {
  enum class State : uint8_t { kWaiting, kAnswered, kRefused, kUnknown };
  uint64_t number = 0;
  size_t client = 0;
  size_t node = 0;
  State state = State::kWaiting;
  bool is_late = false;  // its client waits no more, and its member may still answer
  int64_t call_ns = 0;
  int64_t return_ns = 0;
  Index floor;  // entries up to here were known to be done when it was made

  std::string payload;  // of a write: the entry's bytes
  bool changes_members = false;
  Index index;  // where it is
  std::optional<Reply> reply;
  Code code = Code::kOk;  // of what its client was told, and the response or the error's text
  std::string response;

  etcdserverpb::RangeRequest range;  // of a read
  int64_t renewed = 0;               // the lease that a renewal names
};

class Judge {
 public:
  using Violation = std::function<void(std::string)>;
  Judge(Coverage& coverage, Violation violation) : coverage_(coverage), violation_(std::move(violation)) {}

  void begin(const Model::Options& options, size_t members);
  // There is one more.
  void add_member();
  // A process of this member starts with everything up to `applied`.
  void on_start(size_t member, Index applied);

  // This member has been sent a snapshot, and may go on behind it.
  void on_snapshot(size_t member, const raft::Snapshot& snapshot);

  // --- the log

  void on_committed(size_t member, const std::vector<raft::Entry>& entries, int64_t now_ns);
  // By a member that has applied everything up to `applied`.
  void on_own_proposal(const member::Proposal& proposal, Index applied, int64_t now_ns);
  void on_leader(size_t member, Term term);
  [[nodiscard]] Index last() const { return model_.last(); }
  [[nodiscard]] const std::vector<raft::Entry>& log() const { return log_; }

  // --- calls

  ClusterCall& begin_call(size_t client, size_t node, int64_t now_ns);
  void begin_write(ClusterCall& call, std::string payload);
  [[nodiscard]] ClusterCall& call(uint64_t number) { return calls_[number - 1]; }
  [[nodiscard]] const std::deque<ClusterCall>& calls() const { return calls_; }
  // This member shows these members after the entries up to `applied`.
  void on_members(size_t member, Index applied, const cluster::Membership& members, const raft::ConfState& conf);
  // Of a write.
  void on_answer(ClusterCall& call, uint64_t member_id, Code code, std::string_view text, int64_t now_ns);
  // It is answered with an error, and its member knows nothing of what becomes of it; or surely it is never an entry.
  void on_refused(ClusterCall& call, const Error& error, int64_t now_ns);
  // Nobody will answer.
  void on_lost(ClusterCall& call, int64_t now_ns);
  // Of a renewal; `ttl`: in seconds, 0: there is no such lease.
  void on_renewed(ClusterCall& call, int64_t ttl, int64_t now_ns);
  // Nobody of this member will.
  void on_gone(size_t node, int64_t now_ns);
  // Something other than a write is answered. False: its client has given up.
  [[nodiscard]] bool takes_answer(ClusterCall& call);
  // Of a read: what `member_id` showed at its index.
  void on_read(ClusterCall& call, const member::Published& state, uint64_t member_id, const Result<std::string>& text,
               int64_t now_ns);
  // HashKV of a member that shows `state`; nullopt: it cannot be taken.
  void on_hash(size_t member, const member::Published& state, std::optional<uint32_t> hash);
  // In seconds, of those that live; 0: there is none.
  [[nodiscard]] int64_t longest_lease() const;
  // When the last of them has to end by itself, under a leader since `leads_since_ns`; 0: there is none.
  [[nodiscard]] int64_t leases_end_ns(int64_t leads_since_ns) const;
  // All members have stopped: who asked one that did not die has been answered.
  void check_answered();

  [[nodiscard]] const Model& model() const { return model_; }
  [[nodiscard]] uint64_t answered() const { return answered_; }

 private:
  void on_entry(size_t member, const raft::Entry& entry, int64_t now_ns);
  void note_lease(const raft::Entry& entry, int64_t now_ns);
  void check_answer(const ClusterCall& call, uint64_t member_id, Code code, std::string_view text);
  void violation(std::string text) { violation_(std::move(text)); }

  Coverage& coverage_;
  Violation violation_;
  Model model_;
  uint64_t cluster_id_ = 0;
  Index founded_;                  // by the entries up to here
  std::vector<raft::Entry> log_;   // [i] has index i + 1
  std::vector<Index> of_members_;  // entries that say something of members
  struct Members {
    size_t member = 0;  // who showed it first
    cluster::Membership members;
    raft::ConfState conf;
  };
  std::map<Index, Members> members_;  // by the last of those entries
  MembershipCheck membership_;
  std::vector<Index> handed_;               // by member: the last one it handed out
  std::vector<std::set<Index>> snapshots_;  // by member: those that this process was sent
  std::map<Term, size_t> leaders_;
  std::map<std::string, uint64_t> own_;       // what members proposed themselves, and is no entry yet
  std::map<std::string, std::string> early_;  // of these: what is wrong if it becomes one
  std::deque<ClusterCall> calls_;
  std::unordered_map<std::string_view, uint64_t> by_payload_;
  struct Promise {
    Index granted;  // the entry
    int64_t ttl = 0;
    int64_t since_ns = 0;
  };
  std::map<int64_t, Promise> leases_;
  Index done_;  // the highest entry that a client knows of
  uint64_t answered_ = 0;
};

// The bytes of a response are its header, field 1, and the rest.
struct SplitResponse {
  etcdserverpb::ResponseHeader header;
  std::string_view rest;
};
[[nodiscard]] std::optional<SplitResponse> split_response(std::string_view text);

}  // namespace cairn::sim
