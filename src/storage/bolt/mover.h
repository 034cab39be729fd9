// storage/bolt/mover.h: which pages a commit moves so that the free pages come to the end of the file.
//
// A commit takes some of the highest pages that are in use and puts them, with the branches above them, into the lowest
// free runs that fit. A page for which no lower run is long enough stays; if all stay, the pages between some low free
// runs go to the end of the file instead, so that these runs become one (evacuation). As the highest free pages are
// always cut off, the file becomes shorter commit by commit, and no state need survive a restart.
//
// The page that holds some bytes says neither where it begins nor which tree it belongs to. So each page is looked for:
// its own header gives its first key, and it counts if the search for that key in a tree comes past it.
//
// Ends: moved pages lie lower than before, but each commit also writes branches. If the file does not get shorter
// although as much was moved as it holds, nothing is moved until that changes. Neither is anything for a while after
// the disk was full. Threads: the engine's.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "storage/bolt/freelist.h"
#include "storage/bolt/plan.h"
#include "storage/bolt/reader.h"
#include "storage/bolt/tree_writer.h"

namespace cairn::storage::bolt {

// For each tree, ascending by key; the last is that of the buckets.
struct Moves {
  static constexpr size_t kRootBucket = kTableCount;
  std::array<std::vector<Move>, kTableCount + 1> of;
  uint64_t pages = 0;
};

class Mover {
 public:
  struct Limits {
    uint64_t above_bytes = 0;  // a shorter file is left as it is
    uint64_t bytes_max = 0;    // for one commit
    uint64_t quota_bytes = 0;  // 0: none
  };
  explicit Mover(const Limits& limits) : limits_(limits) {}

  // Whether the file is much longer than what is in use.
  [[nodiscard]] bool is_due(const Meta& meta, const FreeList& freelist) const;

  // Chooses what the commit that is being planned moves, and takes the places for it. `list`: the pages of the free
  // list, which moves by itself.
  Moves choose(const BoltView& view, FreeList& freelist, Plan& plan, PageRun list, GiveBack give_back);
  // That commit is finished; a failed one is chosen for again.
  void finished(const Meta& meta, const Moves& moves);
  // That commit found no space on the disk. Nothing is moved for some commits, and a defragmentation ends.
  void found_no_space();
  // Nothing is left to be done for the defragmentation; the next commit that is to give all back begins another one.
  void end_defragmentation() { gave_all_back_ = false; }
  // Leaves are still to be joined.
  [[nodiscard]] bool joins() const { return gave_all_back_ && join_from_.has_value(); }

 private:
  class Search;

  [[nodiscard]] bool is_in_vain(const Meta& meta, uint64_t in_use);
  void join_leaves(const BoltView& view, uint64_t pages_max, Moves& moves);
  // Returns the length of the highest page that could not be moved; 0: all could, or there is no room for any.
  // `taken`: the places that were chosen. They may be holes, which nobody reads: on a full tmpfs that needs a block.
  uint64_t move_down(const Search& search, FreeList& freelist, PageRun list, uint64_t pages_max, RunSet& taken,
                     Moves& moves);
  void evacuate(const Search& search, const FreeList& freelist, const RunSet& taken, Plan& plan, uint64_t room,
                Moves& moves);

  Limits limits_;
  bool gave_all_back_ = false;  // as the last commit was asked to
  // Joining leaves, which goes once through table `key`: where it goes on. nullopt: it is done.
  std::optional<std::string> join_from_;
  std::optional<std::string> join_from_next_;  // once the commit is finished
  std::optional<uint64_t> evacuated_at_;       // the high-water mark then: it must fall before the next time
  uint64_t lowest_high_water_ = ~uint64_t{0};  // while pages were moved
  uint64_t lowest_in_use_ = 0;                 // at that time
  uint64_t moved_in_vain_ = 0;                 // pages, since then
  int commits_in_vain_ = 0;                    // that moved them
  int commits_to_rest_ = 0;                    // since the disk was full
};

}  // namespace cairn::storage::bolt
