#include "member/installation.h"

#include <utility>

#include "base/check.h"

namespace cairn::member {

void Installation::begin(raft::SnapshotPtr snapshot, uint64_t number) {
  CAIRN_ASSERT(number != 0);
  CAIRN_ASSERT(pending_.empty() ||
               (number > pending_.back().number && snapshot->index > pending_.back().snapshot->index));
  pending_.push_back({std::move(snapshot), number, false});
}

bool Installation::hold(WalDone& done) {
  if (pending_.empty()) return false;
  if (held_.empty() && done.number != pending_.front().number) return false;  // it was written before
  held_.push_back(std::move(done));
  return true;
}

std::optional<InstallOrder> Installation::order(bool commit_under_way) {
  if (pending_.empty() || commit_under_way || !is_in_log()) return std::nullopt;
  Pending& first = pending_.front();
  if (std::exchange(first.is_ordered, true)) return std::nullopt;
  return InstallOrder{first.snapshot};
}

std::vector<WalDone> Installation::installed() {
  CAIRN_ASSERT(!pending_.empty() && pending_.front().is_ordered && is_in_log());
  pending_.pop_front();
  std::vector<WalDone> out;
  do {
    out.push_back(std::move(held_.front()));
    held_.pop_front();
  } while (!held_.empty() && (pending_.empty() || held_.front().number != pending_.front().number));
  return out;
}

}  // namespace cairn::member
