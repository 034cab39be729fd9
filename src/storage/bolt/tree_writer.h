// storage/bolt/tree_writer.h: applies sorted changes to one bucket's tree, copy on write.
//
// One pass goes from left to right. An unchanged page stays as it is. The content of a changed page becomes a Bag. A
// Bag that is too small is joined with a neighbour, a large one is split over several pages; it is planned when the
// next page begins. The rest of a subtree may be too small for its height. It is then handed up as a lower Bag and
// joined into the neighbouring subtree. So in the planned tree
//
//   * each branch key is the first key of the page it names: entries are made from the pages' items themselves,
//   * each branch has two children or more, no page below a root is empty, and all leaves have one depth.
//
// Pages whose content does not change can be moved as well (struct Move). A leaf below a branch is copied as it is to a
// place that was chosen before, unless the commit changes it or joins it with a neighbour anyway. A branch, a root and
// a leaf that is to be joined with its neighbours are written like changed ones.
#pragma once

#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "storage/bolt/plan.h"
#include "storage/bolt/reader.h"

namespace cairn::storage::bolt {

// A page that is to be written although nothing in it changes.
struct Move {
  std::string key;    // the first key of the page, and of what lies below it
  uint64_t page = 0;  // where it lies
  PageRun to;         // a leaf's new place, taken from the free list; 0 pages: where there is room
};

struct TreePolicy {
  // New entries come at the right end: pages there are filled to 90 % (branches wholly) instead of being balanced.
  bool append = false;
  uint32_t element_flags = 0;
  // A root leaf up to this size is kept inline. 0: never.
  uint64_t inline_bytes_max = 0;
};

struct NewTree {
  uint64_t page = 0;        // 0: inline
  std::string inline_page;  // then its bytes
};

class TreeWriter {
 public:
  TreeWriter(const PageSource& pages, Plan& plan, std::string_view bucket, const TreePolicy& policy)
      : pages_(pages), plan_(plan), bucket_(bucket), policy_(policy) {}

  // Both strictly ascending by key, except that a page and the first one below it have the same. nullopt: they change
  // nothing.
  //   errors: kDataLoss
  Result<std::optional<NewTree>> apply(const BucketRoot& root, std::span<const Change> changes,
                                       std::span<const Move> moves = {});

 private:
  using Changes = std::span<const Change>;
  // What is to be done below a page.
  struct Work {
    Changes changes;
    std::span<const Move> moves;

    [[nodiscard]] bool empty() const { return changes.empty() && moves.empty(); }
    // Takes out what lies below `key`; all, if there is none.
    Work take_below(const std::string_view* key);
    [[nodiscard]] const Move* move_of(uint64_t page) const;
  };

  // Puts the content of `page` after `work` into `out`, which may end up lower than `height`, or empty. Returns
  // false when nothing changed; `out` is then meaningless.
  Result<bool> collect(const Page& page, int height, Work work, bool edge, Bag& out);
  Result<bool> collect_leaf(const Page& page, Work work, Bag& out);
  Result<bool> collect_branch(const Page& page, int height, Work work, bool edge, Bag& out);
  Result<NewTree> plan_root(Bag bag);
  // The content of a moved leaf goes to its new place, if the new tree names that.
  void finish_moves(std::span<const Move> moves);
  Result<Page> load_child(const Page& branch, uint32_t i, int height) const;
  Result<int> height_of(const Page& root) const;

  // The items of a page that is in the file; it is released.
  Status absorb(const Page& page, Bag& out);
  // The items of a page, planned or in the file, which is not used any more.
  Status open_page(uint64_t id, int height, Bag& out);
  // left := left, then right, whatever their heights.
  Status join(Bag& left, Bag&& right);
  // Plans the pages for `bag` and appends their entries to `out`.
  void flush(const Bag& bag, Bag& out);
  // Where each page ends that `bag` needs.
  void split(const Bag& bag, std::vector<size_t>& ends) const;
  [[nodiscard]] bool too_little(const Bag& bag) const;
  [[nodiscard]] bool fit_one_page(const Bag& left, const Bag& right) const;
  [[nodiscard]] std::unexpected<Error> fault(const Page& page, Fault text) const {
    return damaged(page.id, bucket_, text);
  }

  PageSource pages_;
  Plan& plan_;
  std::string_view bucket_;
  TreePolicy policy_;
  std::map<uint64_t, uint64_t> moved_;  // the new place of a leaf that the new tree names -> the old one
};

}  // namespace cairn::storage::bolt
