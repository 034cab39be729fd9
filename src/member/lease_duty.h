// member/lease_duty.h: what a leader does for leases: it counts their time, renews them, and asks for the revoke of
// those that ran out.
//
// Deadlines are this leader's own, beside the replicated table (lease/lessor.h). They are made anew when the member
// begins to lead: full time, or the rest that a checkpoint knows, plus the extension. After that they follow
// what is applied. No clock here: each step brings its time.
//
//     clients' requests   ask() -> waits for leadership, for the applied index, for a revoke under way -> answer
//     grants, revokes     take() -> deadlines
//     deadlines           act() -> LeaseRevoke and LeaseCheckpoint entries, "only as leader of this term"
//
// Always true: a lease is asked to be revoked only at or after its deadline, and a renewal that was answered with a
//              time has moved the deadline before. A lease whose revoke was asked for is not renewed before that is
//              decided.
// Threads:     the core thread's; part of MemberCore.
// Source:      docs/architecture.md, "Leases".
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "lease/deadlines.h"
#include "member/apply/apply_core.h"
#include "member/stages.h"
#include "raft/core.h"

namespace cairn::member {

struct LeaseOptions {
  int64_t extension_ns = 1'000'000'000;  // one election timeout: more time for all when a term begins, or two
  bool checkpoints = false;
  int64_t checkpoint_interval_ns = int64_t{300} * 1'000'000'000;
  uint64_t revokes_per_second = 1000;        // doubled each second while more are due, up to 16 times that
  int64_t revoke_interval_ns = 10'000'000;   // between two groups of them
  uint64_t revoked_keys_max = 1000;          // of a group, unless a single lease has more
  uint64_t keys_on_full_disk_max = 10'000;   // a lease with more is not revoked while space is low
  size_t revokes_under_way_max = 4096;       // asked for and not applied
  int64_t retry_ns = 3'000'000'000;          // after a revoke that was refused
  int64_t lookout_ns = 1'000'000'000;        // before a lease ends: in it the member steps at least every half of it
  unsigned quiet_spells_max = 5;             // in a row; a member whose steps are always slow ends leases, too
  int64_t applied_wait_ns = 1'000'000'000;   // for what is committed to be applied, as in etcd
  size_t waiting_max = 1 << 20;              // requests that wait for this member to lead
  uint64_t answer_keys_max = 1000;           // more keys of a lease are found elsewhere
  uint64_t answer_key_bytes_max = 64 << 10;  // and longer ones
  uint64_t listed_max = 4096;                // slots that one kList looks at
  uint64_t slots_per_step = 20'000;          // looked at when a term begins
};

class LeaseDuty {
 public:
  // What the duty is done on and with, for one call.
  struct Scene {
    const ApplyCore& apply;
    const raft::Core& raft;
    Answers& answers;
    int64_t now_ns = 0;
  };
  // Appends entries as leader of the term that began last: the index of the last of them, or nullopt when the log takes
  // none now.
  using Propose = std::function<std::optional<Index>(std::vector<std::string> entries)>;
  using NextRequestId = std::function<uint64_t()>;

  LeaseDuty(const LeaseOptions& options, NextRequestId next_request_id)
      : options_(options), next_request_id_(std::move(next_request_id)) {}

  // Everything of the terms before is applied, and this member leads.
  void begin_term(const Scene& scene);
  void end_term();
  [[nodiscard]] bool leads() const { return phase_ != Phase::kFollows; }

  // What was applied, in order.
  void take(std::span<const LeaseChange> changes, const Scene& scene);
  void ask(const LeaseRequest& request, const Scene& scene);
  // The member steps. It steps often in the last second of a lease, so a longer gap there means that the process stood
  // still: for a while no lease is asked to be revoked, since what keeps it alive may wait in a socket.
  void note_step(int64_t now_ns);
  void set_disk_is_low(bool is_low) { disk_is_low_ = is_low; }
  // Answers what can be answered by now. After take() of everything that is applied.
  void serve(const Scene& scene);
  // Asks for what is due. True: something was appended.
  bool act(const Scene& scene, const Propose& propose);
  // All that wait are answered with `error`.
  void refuse_all(const Error& error, Answers& answers);
  // Those that came at `until_ns` or before, and wait for this member to lead, are answered with `error`.
  void refuse_waiting(const Error& error, int64_t until_ns, Answers& answers);
  // When act() or serve() may have something to do although nothing else happens.
  [[nodiscard]] std::optional<int64_t> next_ns(int64_t now_ns) const;

  [[nodiscard]] uint64_t renewed() const { return renewed_; }  // since the start, as the next
  [[nodiscard]] uint64_t expired() const { return expired_; }

 private:
  enum class Phase : uint8_t { kFollows, kCounts, kSpreads, kLeads };
  struct ForTerm {  // waits for this member to lead
    LeaseRequest request;
    int64_t since_ns = 0;
  };
  struct Behind {  // waits for `floor` to be applied
    LeaseRequest request;
    Index floor;
    int64_t until_ns = 0;
  };
  struct UnderWay {  // entries up to `last` decide
    Index last;
    std::vector<lease::LeaseId> revokes;
    std::vector<lease::LeaseId> checkpoints;
    std::vector<LeaseRequest> renewals;
  };
  struct Rest {
    lease::LeaseId id = 0;
    int64_t seconds = 0;
  };
  // Leases whose time ends in the same second.
  struct Pile {
    uint64_t count = 0;
    uint64_t placed = 0;
    int64_t begins_ns = 0;  // of the first; the others follow one by one
  };

  // when a term begins
  void look_at_slots(const Scene& scene);
  void spread();
  void place(const lease::Lease& lease);
  // requests
  void serve_one(const LeaseRequest& request, Index floor, const Scene& scene);
  void serve_renewal(const LeaseRequest& request, Index floor, const Scene& scene);
  void serve_time_to_live(const LeaseRequest& request, Index floor, const Scene& scene);
  void serve_list(const LeaseRequest& request, const Scene& scene) const;
  static void serve_key_count(const LeaseRequest& request, const Scene& scene);
  void renew(const LeaseRequest& request, const lease::Lease& lease, const Scene& scene);
  void wait_for(Index floor, const LeaseRequest& request, const Scene& scene);
  void release(lease::LeaseId id, const Scene& scene);
  void decide(const Scene& scene);
  // what is due
  bool ask_for_clearing(const Scene& scene, const Propose& propose);
  bool ask_for_revokes(const Scene& scene, const Propose& propose);
  bool ask_for_checkpoints(const Scene& scene, const Propose& propose);
  [[nodiscard]] std::vector<Rest> due_checkpoints(const Scene& scene);
  [[nodiscard]] std::vector<lease::LeaseId> choose_due(const Scene& scene);
  [[nodiscard]] uint64_t revokes_at_once(int64_t now_ns) const;
  void schedule_checkpoint(const lease::Lease& lease, int64_t now_ns);
  [[nodiscard]] std::string revoke_entry(lease::LeaseId id) const;
  [[nodiscard]] std::string checkpoint_entry(const std::vector<Rest>& rests) const;

  const LeaseOptions options_;
  const NextRequestId next_request_id_;
  Phase phase_ = Phase::kFollows;
  lease::Deadlines deadlines_;
  lease::Deadlines checkpoints_;  // when each is due

  // the beginning of a term
  lease::Slot slot_ = 0;
  int64_t began_ns_ = 0;
  int64_t extension_ns_ = 0;
  int64_t others_renew_until_ns_ = 0;  // who led before may not know yet that it does not lead any more
  std::map<int64_t, Pile> piles_;      // by seconds that are left

  // requests that wait
  std::vector<ForTerm> for_term_;
  std::deque<Behind> behind_;
  std::unordered_map<lease::LeaseId, std::vector<LeaseRequest>> for_revoke_;
  std::vector<LeaseRequest> clearing_;  // renewals of leases with a rest, which is cleared first
  // Renewals of a lease that wait for that, in clearing_ or under way. Until the last is decided it does not end; if
  // all of them are refused then, it ends when it would have ended without them.
  struct Clearing {
    size_t count = 0;
    int64_t deadline_ns = INT64_MAX;
  };
  std::unordered_map<lease::LeaseId, Clearing> clearings_;

  // what is due
  std::deque<UnderWay> under_way_;
  size_t revokes_under_way_ = 0;
  std::unordered_map<lease::LeaseId, Index> checkpoints_under_way_;  // the entry; a rest that is about to be known
  int64_t next_revokes_ns_ = 0;                                      // no group before
  int64_t next_clearing_ns_ = 0;                                     // after the log took no entry
  std::optional<int64_t> piled_up_since_ns_;                         // more has been due than was asked for
  int64_t last_step_ns_ = 0;
  int64_t quiet_until_ns_ = 0;
  unsigned quiet_spells_ = 0;  // in a row, with a lease that was due
  bool disk_is_low_ = false;

  uint64_t renewed_ = 0;
  uint64_t expired_ = 0;
};

}  // namespace cairn::member
