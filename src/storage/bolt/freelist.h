// storage/bolt/freelist.h: the pages below the high-water mark that the newest tree does not use.
//
// Pages are free (may be taken) or pending: written by commit S and freed by commit T, they belong to the trees of the
// commits from S to before T. The older meta names the last of these until T + 1 is finished; views name any of them.
// So a pending page becomes free in the first commit after T + 1 is finished for which no view of [S, T) is open.
//
// A free page may have been punched: it has no blocks on the disk. Of pages found free when the file was opened the
// file system tells; where it does not, they count as not punched. What a commit takes of both it has to allocate.
// Pages that are not known to be punched are usually taken first.
//
// A commit takes pages with take() and take_below() and ends in exactly one of finish() and give_back().
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
  // The lowest run of `pages` pages that ends at or below `end`. Looks from `from` on, where the caller knows that no
  // lower run is long enough, and moves `from` to where it looked last.
  [[nodiscard]] std::optional<PageRun> find_below(uint64_t pages, uint64_t end, uint64_t& from) const;
  // The parts of `run` that are in the set, and those that are not.
  struct Parts {
    std::vector<PageRun> inside;
    std::vector<PageRun> outside;
  };
  [[nodiscard]] Parts split(PageRun run) const;
  // The end of the last run that lies below `page`.
  [[nodiscard]] std::optional<uint64_t> end_below(uint64_t page) const;
  // The run that holds `page`.
  [[nodiscard]] std::optional<PageRun> holding(uint64_t page) const;
  [[nodiscard]] uint64_t pages() const { return pages_; }
  [[nodiscard]] const std::map<uint64_t, uint64_t>& runs() const { return runs_; }  // first page -> length

 private:
  std::map<uint64_t, uint64_t> runs_;
  uint64_t pages_ = 0;
};

class FreeList {
 public:
  // What was found when the file was opened. `holes`: pages without blocks, free or not.
  void restore(const std::vector<PageRun>& free, const std::vector<PageRun>& holes = {});

  // Begins a commit: releases what may be reused now and returns it. `open_views`: ascending txids.
  std::vector<PageRun> begin(std::span<const uint64_t> open_views);
  [[nodiscard]] std::optional<PageRun> take(uint64_t pages);
  // From now on this commit takes what lies lowest, hole or not.
  void take_lowest_first() { takes_lowest_ = true; }
  [[nodiscard]] bool takes_lowest_first() const { return takes_lowest_; }
  // A run that ends at or below the page `end`.
  [[nodiscard]] std::optional<PageRun> take_below(uint64_t pages, uint64_t end);
  [[nodiscard]] bool has_below(uint64_t pages, uint64_t end) const {
    uint64_t from = 0;
    return free_.find_below(pages, end, from).has_value();
  }
  // What the commit has taken that may have no blocks.
  [[nodiscard]] std::vector<PageRun> taken_holes() const {
    std::vector<PageRun> holes = taken_punched_;
    holes.insert(holes.end(), taken_found_.begin(), taken_found_.end());
    return holes;
  }
  // The commit `txid` is finished: beside what it took it has written `grown`, which was above the high-water mark,
  // and it has freed `freed`.
  void finish(uint64_t txid, PageRun grown, const std::vector<PageRun>& freed);
  // Where the free pages at the end begin, which are all below `high_water`; `high_water` if the last page is not free.
  [[nodiscard]] uint64_t tail(uint64_t high_water) const;
  // The pages from `first` on, all free, are above the new high-water mark.
  void cut(uint64_t first);

  // Runs of `pages_min` or more that are not punched, from the highest down, `pages_max` pages in all. At least
  // `pages_kept` such pages stay.
  [[nodiscard]] std::vector<PageRun> worth_punching(uint64_t pages_min, uint64_t pages_kept, uint64_t pages_max) const;
  // All free, and not punched before.
  void punched(PageRun run);
  // The commit has failed: what it took is free again.
  void give_back();

  [[nodiscard]] uint64_t free_pages() const { return free_.pages(); }
  [[nodiscard]] uint64_t punched_pages() const { return punched_.pages(); }
  [[nodiscard]] const RunSet& unused() const { return unused_; }
  [[nodiscard]] const RunSet& free() const { return free_; }
  // Pages that no meta names any more, and that were not free at the last begin() because a view may read them.
  [[nodiscard]] std::vector<PageRun> held_by_views() const;
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
  void take_out(PageRun run);
  // Forgets the births of the pages of `run`, and appends it to `by_birth` in pieces of one birth each.
  void bury(PageRun run, std::map<uint64_t, std::vector<PageRun>>& by_birth);

  RunSet free_;  // unpunched and punched
  RunSet unpunched_;
  RunSet punched_;
  RunSet found_;                      // of the unpunched ones, as far as is known
  RunSet unused_;                     // free and pending
  std::deque<Chunks> finished_;       // freed by the last commits, oldest first: a meta may name them
  std::map<uint64_t, Chunks> held_;   // the lowest open view that names them -> what no meta names any more
  std::map<uint64_t, Birth> births_;  // by first page: who wrote it; not there: a commit no open view is below
  uint64_t births_above_ = 0;         // births_ holds nothing of this commit and those before
  std::vector<PageRun> taken_;        // by the running commit
  std::vector<PageRun> taken_punched_;
  std::vector<PageRun> taken_found_;
  bool takes_lowest_ = false;
  // pages -> lowest page where such a run may begin, for the running commit
  std::map<uint64_t, uint64_t> from_unpunched_;
  std::map<uint64_t, uint64_t> from_;
};

// Pages that a list of `count` ids needs.
[[nodiscard]] uint64_t freelist_pages(uint64_t count, uint32_t page_bytes);
// The whole page `id`, `pages` long.
[[nodiscard]] std::string encode_freelist(const RunSet& set, uint64_t txid, PageRun at, uint32_t page_bytes);
// nullopt: no seal of ours for the meta's txid, or not a valid list (ascending, in [2, high water), neither the root
// nor the list itself).
[[nodiscard]] std::optional<std::vector<PageRun>> decode_freelist(std::string_view page, const Meta& meta);

}  // namespace cairn::storage::bolt
