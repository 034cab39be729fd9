#include "storage/bolt/mover.h"

#include <algorithm>
#include <set>

#include "base/check.h"
#include "base/fault.h"

namespace cairn::storage::bolt {
namespace {

// What a commit writes beside the pages that it moves; below that there is nothing to win.
constexpr uint64_t kSlackPages = 32;
constexpr uint64_t kLooksMax = 64 << 10;    // pages whose header is looked at for one commit
constexpr uint64_t kJoinVisitsMax = 16384;  // leaves
constexpr uint64_t kFillPercent = 90;
constexpr uint64_t kEvacuatedBytesMax = 8 << 20;
// Commits that moved something while the high-water mark did not fall.
constexpr int kCommitsBeforeEvacuation = 8;
constexpr int kCommitsInVainMax = 64;
constexpr int kCommitsToRest = 256;

bool has_copies(const Moves& moves) {
  return std::any_of(moves.of.begin(), moves.of.end(), [](const auto& tree) {
    return std::any_of(tree.begin(), tree.end(), [](const Move& move) { return move.to.pages > 0; });
  });
}

bool by_key(const Move& a, const Move& b) {
  const int order = compare(a.key, b.key);
  return order != 0 ? order < 0 : a.page < b.page;
}

// Up to where the page is filled.
uint64_t used_bytes(const Page& page) {
  if (page.count == 0) return kHeaderBytes;
  Entry last;
  if (!page.entry(page.count - 1, last)) return page.bytes;
  return static_cast<uint64_t>(last.value.data() + last.value.size() - page.data);
}

// Goes over the leaves of a tree that has branches, from left to right. It stops at the end and at damage.
class LeafWalk {
 public:
  LeafWalk(const PageSource& pages, const BucketRoot& root) : pages_(pages), root_(root) {}

  // To the leaf where `key` is or would be.
  bool seek(std::string_view key) {
    Page page;
    depth_ = -1;
    if (!root_.exists || root_.page == 0 || load_root(pages_, root_, page) != nullptr) return false;
    while (!page.leaf) {
      Place place;
      if (depth_ + 2 >= kDepthMax || find(page, key, place) != nullptr) return false;
      stack_[static_cast<size_t>(++depth_)] = {page, child_index(place)};
      if (pages_.child(page, child_index(place), page) != nullptr) return false;
    }
    return depth_ >= 0 && take(page);
  }
  bool next() {
    int depth = depth_;
    while (depth >= 0 && ++at(depth).index == at(depth).page.count) --depth;
    if (depth < 0) return false;
    for (;;) {
      Page below;
      if (pages_.child(at(depth).page, at(depth).index, below) != nullptr) return false;
      if (below.leaf) return depth == depth_ && take(below);
      if (depth == depth_) return false;
      stack_[static_cast<size_t>(++depth)] = {below, 0};
    }
  }
  [[nodiscard]] const Page& leaf() const { return leaf_; }
  [[nodiscard]] std::string_view key() const { return first_.key; }
  [[nodiscard]] uint64_t branch() const { return stack_[static_cast<size_t>(depth_)].page.id; }

 private:
  struct Level {
    Page page;
    uint32_t index = 0;
  };
  Level& at(int depth) { return stack_[static_cast<size_t>(depth)]; }
  bool take(const Page& page) {
    leaf_ = page;
    return page.count > 0 && page.entry(0, first_);
  }

  const PageSource& pages_;
  BucketRoot root_;
  std::array<Level, kDepthMax> stack_;
  int depth_ = -1;  // of the branch above the leaf
  Page leaf_;
  Entry first_;
};

}  // namespace

// Finds the page in use that covers a place in the file.
class Mover::Search {
 public:
  struct Found {
    Page page;
    std::string_view key;
    size_t tree = 0;
    bool is_root = false;
    std::vector<uint64_t> branches;  // above it
  };

  explicit Search(const BoltView& view) : view_(view) {}
  [[nodiscard]] const PageSource& pages() const { return view_.pages(); }

  // Looks from there down to `lowest`, as far as `looks` lasts, which it counts down. nullopt: none is found, as in
  // damaged pages, in the free list, and in buckets that are not etcd's.
  [[nodiscard]] std::optional<Found> covering(uint64_t id, uint64_t lowest, uint64_t& looks) const {
    for (uint64_t head = id; head >= lowest && looks > 0; --head, --looks) {
      const PageHeader header = load_header(pages().base + head * pages().page_bytes);
      if (header.id != head || header.overflow < id - head) continue;
      if (auto found = at(head)) return found;
    }
    return {};
  }

  // The page that begins there.
  [[nodiscard]] std::optional<Found> at(uint64_t id) const {
    Found found;
    Entry first;
    if (pages().load(id, found.page) != nullptr || found.page.count == 0 || !found.page.entry(0, first)) return {};
    found.key = first.key;
    for (const Table table : kAllTables) {
      found.tree = static_cast<size_t>(table);
      if (lies_below(view_.root(table), found)) return found;
    }
    found.tree = Moves::kRootBucket;
    if (lies_below(view_.root_bucket(), found)) return found;
    return {};
  }

 private:
  bool lies_below(const BucketRoot& root, Found& found) const {
    found.branches.clear();
    Page page;
    if (!root.exists || root.page == 0 || load_root(pages(), root, page) != nullptr) return false;
    for (int depth = 0; depth < kDepthMax; ++depth) {
      if (page.id == found.page.id) {
        found.is_root = depth == 0;
        return true;
      }
      if (page.leaf) return false;
      found.branches.push_back(page.id);
      Place place;
      Page below;
      if (find(page, found.key, place) != nullptr) return false;
      if (pages().child(page, child_index(place), below) != nullptr) return false;
      page = below;
    }
    return false;
  }

  const BoltView& view_;
};

bool Mover::is_due(const Meta& meta, const FreeList& freelist) const {
  const uint64_t high_water = meta.high_water;
  const uint64_t in_use = high_water - freelist.unused_pages();
  const uint64_t bytes = high_water * meta.page_bytes;
  if (bytes > limits_.above_bytes && high_water > in_use + in_use / 2) return true;
  // etcd counts the whole file against its quota.
  return limits_.quota_bytes > 0 && bytes > limits_.quota_bytes &&
         in_use * meta.page_bytes < limits_.quota_bytes / 10 * 9;
}

Moves Mover::choose(const BoltView& view, FreeList& freelist, Plan& plan, PageRun list, GiveBack give_back) {
  Moves moves;
  const Meta& meta = view.meta();
  const bool gives_all = give_back == GiveBack::kAll;
  if (gives_all && !gave_all_back_) {
    CAIRN_FAULT("defragBeforeCopy");
    join_from_ = "";
    lowest_high_water_ = ~uint64_t{0};
    commits_to_rest_ = 0;
  }
  gave_all_back_ = gives_all;
  join_from_next_ = join_from_;
  if (commits_to_rest_ > 0) return moves;
  if (!gives_all && (give_back == GiveBack::kNone || !is_due(meta, freelist))) return moves;
  if (is_in_vain(meta, meta.high_water - freelist.unused_pages())) return moves;
  // A branch that is written anew must not go to the end again.
  freelist.take_lowest_first();
  const uint64_t pages_max = std::max<uint64_t>(1, limits_.bytes_max / meta.page_bytes);
  if (joins()) {
    join_leaves(view, pages_max, moves);
  } else {
    const Search search(view);
    RunSet taken;
    const uint64_t room = move_down(search, freelist, list, pages_max, taken, moves);
    // What an evacuation has cleared is not free at once.
    const bool waits = freelist.unused_pages() - freelist.free_pages() > kSlackPages + 2 * list.pages;
    if (evacuated_at_ && meta.high_water > 2 * *evacuated_at_) evacuated_at_.reset();
    const bool goes_on = has_copies(moves) && commits_in_vain_ < kCommitsBeforeEvacuation;
    if (room > 0 && !goes_on) {
      // Branches alone would take turns for ever.
      for (const auto& tree : moves.of) {
        for (const Move& move : tree) {
          if (move.to.pages > 0) plan.give_back(move.to);
        }
      }
      moves = Moves{};
      if (!waits && (!evacuated_at_ || meta.high_water < *evacuated_at_)) {
        evacuate(search, freelist, taken, plan, room, moves);
        if (moves.pages > 0) evacuated_at_ = meta.high_water;
      }
    }
  }
  for (auto& tree : moves.of) std::sort(tree.begin(), tree.end(), by_key);
  return moves;
}

bool Mover::is_in_vain(const Meta& meta, uint64_t in_use) {
  const bool is_new = meta.high_water > lowest_high_water_ + lowest_high_water_ / 8 ||
                      in_use + in_use / 8 < lowest_in_use_ || lowest_high_water_ == ~uint64_t{0};
  if (is_new) {
    lowest_high_water_ = meta.high_water;
    lowest_in_use_ = in_use;
    moved_in_vain_ = 0;
    commits_in_vain_ = 0;
  }
  return moved_in_vain_ > 2 * meta.high_water || commits_in_vain_ >= kCommitsInVainMax;
}

void Mover::found_no_space() {
  join_from_.reset();
  commits_to_rest_ = kCommitsToRest;
}

void Mover::finished(const Meta& meta, const Moves& moves) {
  if (commits_to_rest_ > 0) --commits_to_rest_;
  if (joins()) {
    commits_in_vain_ = 0;
  } else if (moves.pages > 0) {
    ++commits_in_vain_;
  }
  join_from_ = join_from_next_;
  moved_in_vain_ += moves.pages;
  if (meta.high_water >= lowest_high_water_) return;
  lowest_high_water_ = meta.high_water;
  moved_in_vain_ = 0;
  commits_in_vain_ = 0;
}

// Leaves that fit into one page with their neighbours, below the same branch, are written together.
void Mover::join_leaves(const BoltView& view, uint64_t pages_max, Moves& moves) {
  constexpr auto kTree = static_cast<size_t>(Table::kKey);
  const uint64_t room = view.meta().page_bytes * kFillPercent / 100;
  LeafWalk walk(view.pages(), view.root(Table::kKey));
  std::vector<Move> group;
  uint64_t bytes = 0;
  uint64_t branch = 0;
  const auto close_group = [&] {
    if (group.size() > 1) {
      moves.pages += group.size();
      for (Move& move : group) moves.of[kTree].push_back(std::move(move));
    }
    group.clear();
  };
  uint64_t visits = 0;
  bool more = walk.seek(*join_from_);
  for (; more && visits < kJoinVisitsMax && moves.pages < pages_max; more = walk.next(), ++visits) {
    const uint64_t used = used_bytes(walk.leaf());
    if (walk.branch() != branch || bytes + used > room) {
      close_group();
      bytes = kHeaderBytes;
    }
    branch = walk.branch();
    bytes += used - kHeaderBytes;
    group.push_back({.key = std::string(walk.key()), .page = walk.leaf().id, .to = {}});
  }
  join_from_next_.reset();
  if (more) join_from_next_ = group.empty() ? std::string(walk.key()) : group.front().key;
  // A group that would begin again where this part did does not end.
  if (more && *join_from_next_ == *join_from_) join_from_next_ = std::string(walk.key());
  if (!more) close_group();
}

uint64_t Mover::move_down(const Search& search, FreeList& freelist, PageRun list, uint64_t pages_max, RunSet& taken,
                          Moves& moves) {
  std::set<uint64_t> branches;  // that will be written, too
  uint64_t blocked = 0;
  uint64_t end = search.pages().high_water;  // what is above has been looked at
  const auto has_room = [&] {
    return freelist.free_pages() > kSlackPages + branches.size() && freelist.free().runs().begin()->first < end;
  };
  uint64_t looks = kLooksMax;
  while (looks > 0 && moves.pages < pages_max && end > kFirstPage && has_room()) {
    const uint64_t last = end - 1;
    const auto unused = freelist.unused().holding(last);
    if (const auto run = unused ? unused : taken.holding(last)) {
      end = run->first;
      continue;
    }
    if (last >= list.first && last < list.first + list.pages) {
      end = list.first;
      continue;
    }
    const uint64_t lowest =
        std::max(freelist.unused().end_below(last).value_or(kFirstPage), taken.end_below(last).value_or(kFirstPage));
    const auto found = search.covering(last, lowest, looks);
    if (!found) {
      --end;
      continue;
    }
    end = found->page.id;
    const uint64_t pages = uint64_t{found->page.overflow} + 1;
    Move move{.key = std::string(found->key), .page = found->page.id, .to = {}};
    if (found->page.leaf && !found->is_root) {
      const auto to = freelist.take_below(pages, end);
      if (!to) {
        if (blocked == 0) blocked = pages;
        continue;
      }
      CAIRN_ASSERT(taken.add(*to));
      move.to = *to;
    } else if (!freelist.has_below(pages, end)) {
      continue;
    }
    branches.insert(found->branches.begin(), found->branches.end());
    moves.pages += pages;
    moves.of[found->tree].push_back(std::move(move));
  }
  return blocked;
}

// Clears a stretch of the file that has twice `room` free pages, the one with the fewest pages in use, so that
// afterwards a page of that length fits and more is free in one piece than before.
void Mover::evacuate(const Search& search, const FreeList& freelist, const RunSet& taken, Plan& plan, uint64_t room,
                     Moves& moves) {
  const auto& runs = freelist.free().runs();
  uint64_t fewest = std::max<uint64_t>(8 * room, kEvacuatedBytesMax / search.pages().page_bytes);
  std::optional<PageRun> stretch;
  uint64_t free = 0;
  for (auto first = runs.begin(), last = first; last != runs.end(); ++last) {
    free += last->second;
    for (; free - first->second >= 2 * room; ++first) free -= first->second;
    const uint64_t pages = last->first + last->second - first->first;
    if (free < 2 * room || pages - free >= fewest) continue;
    fewest = pages - free;
    stretch = PageRun{first->first, pages};
  }
  if (!stretch) return;
  for (uint64_t at = stretch->first; at < stretch->first + stretch->pages;) {
    const auto free_run = freelist.free().holding(at);
    if (const auto run = free_run ? free_run : taken.holding(at)) {
      at = run->first + run->pages;
      continue;
    }
    // Free pages of which a meta still knows, and the free list itself, are nobody's.
    const auto found = search.at(at);
    if (!found) {
      ++at;
      continue;
    }
    const uint64_t pages = uint64_t{found->page.overflow} + 1;
    at += pages;
    if (!found->page.leaf || found->is_root) continue;
    moves.pages += pages;
    moves.of[found->tree].push_back({.key = std::string(found->key), .page = found->page.id, .to = plan.grow(pages)});
  }
}

}  // namespace cairn::storage::bolt
