#include "raft/progress.h"

#include "base/check.h"

namespace cairn::raft {

std::string_view name_of(ProgressState state) {
  switch (state) {
    case ProgressState::kProbe: return "probe";
    case ProgressState::kReplicate: return "replicate";
    case ProgressState::kSnapshot: return "snapshot";
  }
  return "unknown";
}

void Inflights::add(Index last, uint64_t bytes) {
  CAIRN_ASSERT(!full());
  if (count_ == ring_.size()) {
    // Straightened out while it grows, so that the oldest comes first again.
    std::vector<Sent> grown(std::min<size_t>(std::max<size_t>(8, ring_.size() * 2), messages_max_));
    for (uint32_t i = 0; i < count_; ++i) grown[i] = ring_[(start_ + i) % ring_.size()];
    ring_ = std::move(grown);
    start_ = 0;
  }
  ring_[(start_ + count_) % ring_.size()] = {last, bytes};
  ++count_;
  bytes_ += bytes;
}

void Inflights::free_to(Index index) {
  while (count_ > 0 && ring_[start_].last <= index) {
    bytes_ -= ring_[start_].bytes;
    start_ = static_cast<uint32_t>((start_ + 1) % ring_.size());
    --count_;
  }
}

void Inflights::clear() {
  start_ = 0;
  count_ = 0;
  bytes_ = 0;
}

void Progress::enter(ProgressState to) {
  state = to;
  probe_sent = false;
  log_waits = false;
  inflights.clear();
}

void Progress::become_probe() {
  const Index snapshot = state == ProgressState::kSnapshot ? pending_snapshot : Index(0);
  enter(ProgressState::kProbe);
  pending_snapshot = Index(0);
  next = std::max(match, snapshot) + 1;
  sent_commit = std::min(sent_commit, next - 1);
}

void Progress::become_replicate() {
  enter(ProgressState::kReplicate);
  pending_snapshot = Index(0);
  next = match + 1;
}

void Progress::become_snapshot(Index index) {
  enter(ProgressState::kSnapshot);
  pending_snapshot = index;
  next = index + 1;
  sent_commit = index;
}

void Progress::sent(Index last, uint64_t count, uint64_t bytes, Index commit) {
  sent_commit = std::max(sent_commit, commit);
  if (state == ProgressState::kProbe) {
    probe_sent = true;
  } else if (count > 0) {
    next = last + 1;
    inflights.add(last, bytes);
  }
}

bool Progress::acked(Index index) {
  if (index <= match) return false;
  match = index;
  next = std::max(next, index + 1);
  probe_sent = false;
  return true;
}

bool Progress::refused(Index refused, Index hint) {
  if (state == ProgressState::kReplicate) {
    if (refused <= match) return false;
    next = match + 1;
  } else {
    // Probing sends one append at a time: a refusal of another one is late.
    if (next - 1 != refused) return false;
    next = std::max(std::min(refused, hint + 1), match + 1);
  }
  // The commit index that we sent may have been lost with the append.
  sent_commit = std::min(sent_commit, next - 1);
  probe_sent = false;
  return true;
}

}  // namespace cairn::raft
