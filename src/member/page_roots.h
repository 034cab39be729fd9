// member/page_roots.h: index roots kept for lists that clients read page by page at one revision.
//
// A page at an older revision would walk every index entry that has changed since, to count and to leave out; from the
// root of that revision it costs what a page of the newest one does. So the first page of a long list leaves its root
// here. A few are kept, each for a minute after its last use. They are dropped when their revision is compacted away,
// and, longest unused first, when what they keep of the index takes too much memory. Without a root a page is answered
// all the same, only slower.
//
// Always true: a root that is kept is pinned, and no compaction of a revision above its own is known here.
// Threads:     keep(), find() and retired() from any that reads; tidy() is the core thread's.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "base/mutex.h"
#include "env/clock.h"
#include "member/published.h"

namespace cairn::member {

class PageRoots {
 public:
  static constexpr size_t kRootsMax = 4;
  static constexpr int64_t kIdleMaxNs = 60'000'000'000;
  static constexpr uint64_t kRetiredBytesMax = 32 << 20;

  struct Kept {
    mvcc::IndexRoot root;  // its own revision is the one asked for
    PublishedDomain::Pin pin;
  };

  explicit PageRoots(const env::Clock& clock) : clock_(clock) {}

  // Keeps the root of `state`.
  void keep(const PublishedDomain::Guard& state);
  // The root of `revision`, with a pin for its user; nullopt: not kept.
  [[nodiscard]] std::optional<Kept> find(int64_t revision);

  // Drops what is below `compact_revision`, idle, or too much: `retired_bytes` is what all readers together keep of
  // the index besides its newest root.
  void tidy(int64_t compact_revision, uint64_t retired_bytes);
  [[nodiscard]] size_t count() const { return count_.load(std::memory_order_relaxed); }

  // What readers keep, and how often that has grown from one tidy() to the next. Whoever ends a reader waits until it
  // grows again: what that reader kept is freed in slices.
  struct Retired {
    uint64_t bytes = 0;
    uint64_t growths = 0;
  };
  [[nodiscard]] Retired retired() const {
    const uint64_t growths = growths_.load(std::memory_order_acquire);
    return {retired_bytes_.load(std::memory_order_relaxed), growths};  // as of then, or later
  }

 private:
  struct Entry {
    Kept kept;
    int64_t used_ns = 0;
  };
  void drop(size_t i) CAIRN_REQUIRES(mutex_);
  void drop_longest_unused() CAIRN_REQUIRES(mutex_);

  const env::Clock& clock_;
  std::atomic<size_t> count_{0};
  std::atomic<uint64_t> retired_bytes_{0};
  std::atomic<uint64_t> growths_{0};     // stored after retired_bytes_
  int64_t thinned_ns_ = 0;               // the core thread's: when tidy() last dropped a root for its memory
  int64_t tidied_compact_revision_ = 0;  // the core thread's
  Mutex mutex_;
  int64_t compact_revision_ CAIRN_GUARDED_BY(mutex_) = 0;
  std::vector<Entry> entries_ CAIRN_GUARDED_BY(mutex_);
};

}  // namespace cairn::member
