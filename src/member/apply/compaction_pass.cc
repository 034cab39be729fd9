#include "member/apply/compaction_pass.h"

#include "base/check.h"

namespace cairn::member {

void CompactionPass::schedule(int64_t revision, Tag waiter) {
  if (in_progress()) {
    next_revision_ = revision;
    if (waiter != 0) next_waiters_.push_back(waiter);
    return;
  }
  phase_ = Phase::kDeletes;
  revision_ = revision;
  position_.clear();
  if (waiter != 0) waiters_.push_back(waiter);
}

ReclaimPart CompactionPass::begin_part() {
  CAIRN_ASSERT(phase_ == Phase::kDeletes);
  phase_ = Phase::kPartUnderWay;
  return {position_, revision_};
}

std::optional<std::vector<Tag>> CompactionPass::commit_done(const storage::CommitResult& result) {
  if (phase_ == Phase::kPartUnderWay) {
    phase_ = result.reclaim_done ? Phase::kDeleted : Phase::kDeletes;
    if (!result.reclaim_done) position_ = result.reclaim_position;
    return std::nullopt;
  }
  if (phase_ != Phase::kDeleted) return std::nullopt;
  phase_ = Phase::kNone;
  revision_ = 0;
  std::vector<Tag> ended = std::exchange(waiters_, {});
  if (next_revision_ > 0) {
    schedule(std::exchange(next_revision_, 0), 0);
    waiters_ = std::exchange(next_waiters_, {});
  }
  return ended;
}

}  // namespace cairn::member
