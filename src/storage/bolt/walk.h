// storage/bolt/walk.h: which pages a tree reaches.
#pragma once

#include <cstdint>
#include <vector>

#include "storage/bolt/freelist.h"
#include "storage/bolt/reader.h"

namespace cairn::storage::bolt {

// A set of page ids.
class PageBitmap {
 public:
  explicit PageBitmap(uint64_t pages) : words_((pages + 63) / 64) {}
  [[nodiscard]] bool test(uint64_t id) const { return (words_[id / 64] >> (id % 64) & 1) != 0; }
  // False when it was in the set already.
  bool insert(uint64_t id) {
    uint64_t& word = words_[id / 64];
    const uint64_t bit = uint64_t{1} << (id % 64);
    if ((word & bit) != 0) return false;
    word |= bit;
    return true;
  }

 private:
  std::vector<uint64_t> words_;
};

// All pages of the trees of `view`, overflow pages too.
//   errors: kDataLoss, also when a page is reached twice
[[nodiscard]] Result<PageBitmap> reached_pages(const BoltView& view);

// The first pages (without overflow) of the trees of `view`. Reads branches, no leaf of a bucket but the leftmost.
[[nodiscard]] Result<PageBitmap> reached_heads(const BoltView& view);

// The pages from 2 on that are not in `reached`.
[[nodiscard]] std::vector<PageRun> unreached_runs(const PageBitmap& reached, uint64_t high_water);

}  // namespace cairn::storage::bolt
