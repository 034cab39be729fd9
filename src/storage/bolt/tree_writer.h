// storage/bolt/tree_writer.h: applies sorted changes to one bucket's tree, copy on write.
//
// One pass goes from left to right. An unchanged page stays as it is. The content of a changed page becomes a Bag. A
// Bag that is too small is joined with a neighbour, a large one is split over several pages; it is planned when the
// next page begins. The rest of a subtree may be too small for its height. It is then handed up as a lower Bag and
// joined into the neighbouring subtree. So in the planned tree
//
//   * each branch key is the first key of the page it names: entries are made from the pages' items themselves,
//   * each branch has two children or more, no page below a root is empty, and all leaves have one depth.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "storage/bolt/plan.h"
#include "storage/bolt/reader.h"

namespace cairn::storage::bolt {

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

  // `changes`: strictly ascending by key. nullopt: they change nothing.
  //   errors: kDataLoss
  Result<std::optional<NewTree>> apply(const BucketRoot& root, std::span<const Change> changes);

 private:
  using Changes = std::span<const Change>;

  // Puts the content of `page` after `changes` into `out`, which may end up lower than `height`, or empty. Returns
  // false when nothing changed; `out` is then meaningless.
  Result<bool> collect(const Page& page, int height, Changes changes, bool edge, Bag& out);
  Result<bool> collect_leaf(const Page& page, Changes changes, Bag& out);
  Result<bool> collect_branch(const Page& page, int height, Changes changes, bool edge, Bag& out);
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
  [[nodiscard]] std::unexpected<Error> fault(const Page& page, Fault text) const {
    return damaged(page.id, bucket_, text);
  }

  PageSource pages_;
  Plan& plan_;
  std::string_view bucket_;
  TreePolicy policy_;
};

}  // namespace cairn::storage::bolt
