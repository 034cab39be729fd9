#include "rpc/pending_answers.h"

#include "base/check.h"

namespace cairn::rpc {

uint64_t PendingAnswers::add(Pending pending) {
  uint32_t at = 0;
  if (free_.empty()) {
    CAIRN_ASSERT(!full());
    at = static_cast<uint32_t>(slots_.size());
    slots_.emplace_back();
  } else {
    at = free_.back();
    free_.pop_back();
  }
  Slot& slot = slots_[at];
  slot.generation = (slot.generation + 1) & kGenerationMask;
  slot.pending = std::move(pending);
  return slot.generation << kSlotBits | at;
}

const PendingAnswers::Pending* PendingAnswers::find(uint64_t ticket) const {
  const uint64_t at = ticket & (kPendingMax - 1);
  if (at >= slots_.size()) return nullptr;
  const Slot& slot = slots_[at];
  const bool in_use = slot.generation % 2 == 1;
  return in_use && slot.generation == ticket >> kSlotBits ? &slot.pending : nullptr;
}

std::optional<PendingAnswers::Pending> PendingAnswers::take(uint64_t ticket) {
  if (find(ticket) == nullptr) return std::nullopt;
  const auto at = static_cast<uint32_t>(ticket & (kPendingMax - 1));
  Slot& slot = slots_[at];
  ++slot.generation;
  free_.push_back(at);
  return std::exchange(slot.pending, {});
}

}  // namespace cairn::rpc
