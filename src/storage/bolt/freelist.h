// storage/bolt/freelist.h: the pages below the high-water mark that the newest tree does not use.
//
// Pages are free (may be taken) or pending: written by commit S and freed by commit T, they belong to the trees of the
// commits from S to before T. The older meta names the last of these until T + 1 is finished; views name any of them.
// So a pending page becomes free in the first commit after T + 1 is finished for which no view of [S, T) is open.
//
// A commit takes pages with take() and ends in exactly one of finish() and give_back().
//
// In the file it is bbolt's free list page: the ids of free and pending pages, ascending. Behind the ids, where bbolt
// reads nothing, lies our seal: magic, txid and CRC-32C. A list without the seal (bbolt's own) is not trusted; a walk
// over the tree finds the free pages instead.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "storage/bolt/format.h"

namespace cairn::storage::bolt {

struct PageRun {
  uint64_t first = 0;
  uint64_t pages = 0;
  friend bool operator==(const PageRun&, const PageRun&) = default;
};

// A set of page ids as runs that do not touch each other.
class RunSet {
 public:
  // False, and nothing changes, when a page of `run` is in the set already.
  [[nodiscard]] bool add(PageRun run);
  [[nodiscard]] bool overlaps(PageRun run) const;
  // All of `run` is in the set.
  void remove(PageRun run);
  // The lowest run of `pages` pages, removed from the set. Looks from `from` on, where the caller knows that no
  // lower run is long enough, and moves `from` to where it found one.
  std::optional<PageRun> take(uint64_t pages, uint64_t& from);
  [[nodiscard]] uint64_t pages() const { return pages_; }
  [[nodiscard]] const std::map<uint64_t, uint64_t>& runs() const { return runs_; }  // first page -> length

 private:
  std::map<uint64_t, uint64_t> runs_;
  uint64_t pages_ = 0;
};

class FreeList {
 public:
  // What was found when the file was opened.
  void restore(const std::vector<PageRun>& free);

  // Begins a commit: releases what may be reused now and returns it. `open_views`: ascending txids.
  std::vector<PageRun> begin(std::span<const uint64_t> open_views);
  [[nodiscard]] std::optional<PageRun> take(uint64_t pages);
  // The commit `txid` is finished: beside what it took it has written `grown`, which was above the high-water mark,
  // and it has freed `freed`.
  void finish(uint64_t txid, PageRun grown, const std::vector<PageRun>& freed);
  // The commit has failed: what it took is free again.
  void give_back();

  [[nodiscard]] uint64_t free_pages() const { return free_.pages(); }
  [[nodiscard]] uint64_t unused_pages() const { return unused_.pages(); }
  // The first run of `freed` with a page that is unused already or is named twice: the file's tree reached a page that
  // is not its own. nullopt: there is none.
  [[nodiscard]] std::optional<PageRun> twice(const std::vector<PageRun>& freed) const;
  // Free, pending and `freed`.
  [[nodiscard]] RunSet unused_with(const std::vector<PageRun>& freed) const;

 private:
  // Pages that the trees of the commits [born, freed) hold.
  struct Chunk {
    uint64_t born = 0;
    uint64_t freed = 0;
    std::vector<PageRun> runs;
  };
  using Chunks = std::vector<Chunk>;
  struct Birth {
    uint64_t pages;
    uint64_t txid;
  };

  void place(Chunk chunk, std::span<const uint64_t> open_views, std::vector<PageRun>& released);
  void forget_births(std::span<const uint64_t> open_views);
  void bear(PageRun run, uint64_t txid) { births_.insert_or_assign(run.first, Birth{run.pages, txid}); }
  // Forgets the births of the pages of `run`, and appends it to `by_birth` in pieces of one birth each.
  void bury(PageRun run, std::map<uint64_t, std::vector<PageRun>>& by_birth);

  RunSet free_;
  RunSet unused_;                      // free and pending
  std::deque<Chunks> finished_;        // freed by the last commits, oldest first: a meta may name them
  std::map<uint64_t, Chunks> held_;    // the lowest open view that names them -> what no meta names any more
  std::map<uint64_t, Birth> births_;   // by first page: who wrote it; not there: a commit no open view is below
  uint64_t births_above_ = 0;          // births_ holds nothing of this commit and those before
  std::vector<PageRun> taken_;         // by the running commit
  std::map<uint64_t, uint64_t> from_;  // pages -> lowest page where such a run may begin, for the running commit
};

// Pages that a list of `count` ids needs.
[[nodiscard]] uint64_t freelist_pages(uint64_t count, uint32_t page_bytes);
// The whole page `id`, `pages` long.
[[nodiscard]] std::string encode_freelist(const RunSet& set, uint64_t txid, PageRun at, uint32_t page_bytes);
// nullopt: no seal of ours for the meta's txid, or not a valid list (ascending, in [2, high water), neither the root
// nor the list itself).
[[nodiscard]] std::optional<std::vector<PageRun>> decode_freelist(std::string_view page, const Meta& meta);

}  // namespace cairn::storage::bolt
