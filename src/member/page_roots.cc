#include "member/page_roots.h"

#include <algorithm>

namespace cairn::member {
namespace {

constexpr int64_t kThinIntervalNs = 100'000'000;  // memory comes free some time after its root was dropped

}  // namespace

void PageRoots::keep(const PublishedDomain::Guard& state) {
  const int64_t now_ns = clock_.monotonic_ns();
  const mvcc::IndexRoot& root = state->kv.root;
  MutexLock lock(mutex_);
  if (root.revision() < compact_revision_) return;
  for (Entry& entry : entries_) {
    if (entry.kept.root.revision() != root.revision()) continue;
    entry.used_ns = now_ns;
    return;
  }
  if (entries_.size() == kRootsMax) drop_longest_unused();
  entries_.push_back({{root, state.pin(root.revision())}, now_ns});
  count_.store(entries_.size(), std::memory_order_relaxed);
}

std::optional<PageRoots::Kept> PageRoots::find(int64_t revision) {
  if (count() == 0) return std::nullopt;
  const int64_t now_ns = clock_.monotonic_ns();
  MutexLock lock(mutex_);
  for (Entry& entry : entries_) {
    if (entry.kept.root.revision() != revision) continue;
    entry.used_ns = now_ns;
    return Kept{entry.kept.root, entry.kept.pin.duplicate()};
  }
  return std::nullopt;
}

void PageRoots::tidy(int64_t compact_revision, uint64_t retired_bytes) {
  const uint64_t before = retired_bytes_.exchange(retired_bytes, std::memory_order_relaxed);
  if (retired_bytes > before) growths_.fetch_add(1, std::memory_order_release);
  // A reader that looked before the compaction may keep a root after it, hence the mark and not only the sweep.
  if (compact_revision == tidied_compact_revision_ && count() == 0) return;
  tidied_compact_revision_ = compact_revision;
  const int64_t now_ns = clock_.monotonic_ns();
  MutexLock lock(mutex_);
  compact_revision_ = std::max(compact_revision_, compact_revision);
  for (size_t i = entries_.size(); i-- > 0;) {
    const Entry& entry = entries_[i];
    if (entry.kept.root.revision() < compact_revision_ || now_ns - entry.used_ns >= kIdleMaxNs) drop(i);
  }
  if (entries_.empty() || retired_bytes <= kRetiredBytesMax || now_ns - thinned_ns_ < kThinIntervalNs) return;
  drop_longest_unused();
  thinned_ns_ = now_ns;
}

void PageRoots::drop(size_t i) {
  entries_.erase(entries_.begin() + static_cast<std::ptrdiff_t>(i));
  count_.store(entries_.size(), std::memory_order_relaxed);
}

void PageRoots::drop_longest_unused() {
  const auto oldest = std::min_element(entries_.begin(), entries_.end(),
                                       [](const Entry& a, const Entry& b) { return a.used_ns < b.used_ns; });
  drop(static_cast<size_t>(oldest - entries_.begin()));
}

}  // namespace cairn::member
