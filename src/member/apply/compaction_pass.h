// member/apply/compaction_pass.h: how far the deletion of what compactions made superfluous has come.
//
// A pass belongs to one compaction and goes through table `key` once, a part in each commit that has one. When all is
// deleted the next commit says so in the tables, and when that is done the pass has ended: who asked for a physical
// compaction is answered. A compaction that comes meanwhile waits for the next pass; of several only the last counts.
//
// Threads: the core thread's.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "member/stages.h"

namespace cairn::member {

class CompactionPass {
 public:
  // `waiter`, or 0, is answered when the pass has ended.
  void schedule(int64_t revision, Tag waiter);

  [[nodiscard]] bool in_progress() const { return phase_ != Phase::kNone; }
  [[nodiscard]] int64_t revision() const { return revision_; }  // of the compaction; 0: no pass
  [[nodiscard]] bool has_more() const { return phase_ == Phase::kDeletes || phase_ == Phase::kPartUnderWay; }
  [[nodiscard]] bool is_part_under_way() const { return phase_ == Phase::kPartUnderWay; }
  // All is deleted: the next commit says so.
  [[nodiscard]] bool is_deleted() const { return phase_ == Phase::kDeleted; }

  // The next part goes into a commit; done() tells how it went.
  ReclaimPart begin_part();
  // A commit is done: with a part, or with what says that all is deleted. The waiters when the pass has ended with it.
  std::optional<std::vector<Tag>> commit_done(const storage::CommitResult& result);
  // There will be none: all who wait.
  [[nodiscard]] std::vector<Tag> take_waiters() {
    std::vector<Tag> all = std::exchange(waiters_, {});
    all.insert(all.end(), next_waiters_.begin(), next_waiters_.end());
    next_waiters_.clear();
    return all;
  }

 private:
  enum class Phase : uint8_t { kNone, kDeletes, kPartUnderWay, kDeleted };

  Phase phase_ = Phase::kNone;
  int64_t revision_ = 0;
  std::string position_;      // where the next part begins
  std::vector<Tag> waiters_;  // for this pass
  int64_t next_revision_ = 0;
  std::vector<Tag> next_waiters_;
};

}  // namespace cairn::member
