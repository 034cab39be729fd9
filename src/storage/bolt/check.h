// storage/bolt/check.h: checks that a file is a bbolt file on which bbolt's writer can continue.
//
// It covers bbolt's own check and the properties that bbolt's writer silently relies on: page ids and flags, bounds,
// each page reached once and not free, key order, each branch key equal to the first key of the page it names, at least
// two children in a branch, no empty page but the root leaf of an empty bucket, all leaves of a bucket at one depth;
// with a persisted free list, every page either reached or free. Shares no reading code with the engine.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "base/error.h"
#include "env/fs.h"

namespace cairn::storage {

struct CheckReport {
  uint32_t page_bytes = 0;
  uint64_t txid = 0;
  uint64_t high_water = 0;     // pages
  uint64_t reached_pages = 0;  // with both metas and the free list's own
  uint64_t free_pages = 0;     // in the persisted list; 0 without one
  bool freelist_persisted = false;
  bool both_metas_valid = false;
  std::map<std::string, uint64_t> bucket_entries;
  std::map<std::string, uint32_t> bucket_depth;  // 0: inline, 1: one leaf page, ...
};

struct CheckOptions {
  // The tree of the older meta must be whole, too. It is after each of our commits, finished or crashed.
  bool older_tree_too = false;
};

//   errors: kDataLoss with the first violation found
[[nodiscard]] Result<CheckReport> check_bolt(env::FileSystem& fs, const std::string& path,
                                             const CheckOptions& options = {});

}  // namespace cairn::storage
