// sim/leases.h: clients of leases: they renew, ask and list, and know what they were promised.
//
// What is checked:
//   - Never early: the member asks for the revoke of a lease only after its time, counted from its grant, from each
//     renewal that was answered, and from the member's start (full time, or the rest that a checkpoint knows).
//   - A renewal that was sent in time counts, even if the process stood still before it arrived.
//   - At last: the member asks for the revoke of a lease whose time is over, as long as it leads and its log and db are
//     not full. It counts from where it applied the grant, or from where it began to lead. A step that takes long
//     because the log is slow excuses it, but not many in a row.
//   - Answers: what a client is told about a lease was true between its question and its answer.
//   - A checkpoint takes no time away that was promised, nor is it applied to another lease of the same id.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/random.h"
#include "member/stages.h"
#include "proto/raft_internal.pb.h"
#include "sim/coverage.h"
#include "sim/model.h"

namespace cairn::sim {

class Leases {
 public:
  using Violation = std::function<void(std::string)>;

  Leases(Random chance, const Model& model, Coverage& coverage, Violation violation)
      : chance_(chance), model_(model), coverage_(coverage), violation_(std::move(violation)) {}

  // `extension_ns`: what a new leader adds. `slack_ns`: how late a lease may end.
  void set_times(int64_t extension_ns, int64_t slack_ns) {
    extension_ns_ = extension_ns;
    slack_ns_ = slack_ns;
  }
  // A member has started. What it proposes has ids from `first_request_id` on.
  void begin_round(uint64_t first_request_id, int64_t now_ns);
  // The process stood still until now.
  void on_pause(int64_t now_ns);

  // The model has applied it, with this reply.
  // `is_own`: the member asked for it, and no client.
  void on_entry(const raft::Entry& entry, const Reply& reply, bool is_own, int64_t now_ns);
  // The member proposes it, and has applied up to `applied`.
  void on_own_proposal(const etcdserverpb::InternalRaftRequest& request, Index applied, int64_t now_ns);

  [[nodiscard]] member::LeaseRequest next(member::Tag tag, Index applied, int64_t now_ns);
  [[nodiscard]] bool asked(member::Tag tag) const { return asked_.contains(tag); }
  // needs: asked(tag). `committed`: the newest entry by now. True: it has been answered to the end; false: `more` is to
  // be asked.
  bool on_answer(member::Tag tag, Code code, std::string_view text, Index committed, int64_t now_ns,
                 member::LeaseRequest& more);
  // After each step. `applied`: by the member, which leads or not.
  void on_step(Index applied, bool leads, int64_t now_ns);
  // The member leads, and its log and db take entries.
  void check_late(int64_t now_ns) const;

 private:
  struct Span {  // a lease lives from one entry to another
    Index from;
    std::optional<Index> to;
    int64_t ttl = 0;
  };
  struct Times {
    int64_t promised_ns = 0;  // it does not end before
    int64_t late_ns = 0;      // its end has been asked for then
    int64_t longest = 0;      // seconds that a leader may count from when it begins
    Index granted;
    Index foreign{};            // of the last checkpoint that no leader made
    int slow_steps = 0;         // that excused it when it was due
    bool counts = false;        // a leader counts its time
    bool end_is_asked = false;  // the log has the revoke, or is about to
  };
  struct Asked {
    member::LeaseRequest request;
    Index applied;
    int64_t sent_ns = 0;
    int64_t promised_ns = 0;  // of the lease, when it was sent
    bool promises = true;     // a renewal; false: somebody else has set the lease's rest meanwhile
    std::vector<int64_t> listed;
  };

  [[nodiscard]] int64_t some_lease();
  [[nodiscard]] bool lives_throughout(int64_t id, Index first, Index last) const;
  // nullptr: at no time in between.
  [[nodiscard]] const Span* lives_sometime(int64_t id, Index first, Index last) const;
  void check_renewal(const Asked& asked, std::string_view text, Index committed, int64_t now_ns);
  void check_time_to_live(const Asked& asked, std::string_view text, Index committed, int64_t now_ns) const;
  void check_list(const Asked& asked, Index committed) const;

  Random chance_;
  const Model& model_;
  Coverage& coverage_;
  Violation violation_;
  int64_t extension_ns_ = 0;
  int64_t slack_ns_ = 0;
  int64_t began_ns_ = 0;
  bool leads_ = false;
  int64_t last_step_ns_ = 0;
  uint64_t first_request_id_ = 0;
  std::map<int64_t, std::vector<Span>> spans_;
  std::map<int64_t, Times> times_;  // of leases that live
  std::map<member::Tag, Asked> asked_;
  std::map<uint64_t, Index> checkpoints_;  // that the member made, by request: what it had applied then
};

}  // namespace cairn::sim
