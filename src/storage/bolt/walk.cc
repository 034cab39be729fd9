#include "storage/bolt/walk.h"

#include <algorithm>

namespace cairn::storage::bolt {
namespace {

class Walker {
 public:
  Walker(const PageSource& pages, bool heads_only)
      : pages_(pages), heads_only_(heads_only), reached_(pages.high_water) {}

  // `flat`: its leaves are known to hold no nested buckets, or will be found out when they are read.
  Status bucket(const BucketRoot& root, std::string_view name, bool flat) {
    Page page;
    if (const Fault fault = load_root(pages_, root, page)) return damaged(root.page, name, fault);
    flat_ = flat;
    if (page.id == 0) return leaf(page, name);
    int height = 0;
    for (Page below = page; !below.leaf;) {
      const Page branch = below;
      if (const Fault fault = pages_.child(branch, 0, below)) return damaged(pages_.child_id(branch, 0), name, fault);
      if (++height >= kDepthMax) return damaged(root.page, name, "the tree is deeper than any whole tree");
    }
    CAIRN_CHECK(mark(page, name));
    return children(page, height, name);
  }

  PageBitmap& reached() { return reached_; }

 private:
  Status children(const Page& branch, int height, std::string_view name) {
    if (height == 0) return leaf(branch, name);
    for (uint32_t i = 0; i < branch.count; ++i) {
      Entry entry;
      if (!branch.entry(i, entry))
        return damaged(branch.id, name, "an element does not fit its neighbours or its page");
      if (heads_only_ && flat_ && height == 1) {
        if (entry.child < kFirstPage || entry.child >= pages_.high_water || !reached_.insert(entry.child)) {
          return damaged(branch.id, name, "a child lies outside the file or is reached twice");
        }
        continue;
      }
      Page page;
      if (const Fault fault = pages_.child(branch, i, page)) return damaged(pages_.child_id(branch, i), name, fault);
      if (page.leaf != (height == 1)) return damaged(page.id, name, "leaves lie at different depths");
      CAIRN_CHECK(mark(page, name));
      CAIRN_CHECK(children(page, height - 1, name));
    }
    return {};
  }

  // A nested bucket's pages would be taken for free ones. etcd has none.
  Status leaf(const Page& page, std::string_view name) const {
    if (flat_) return {};
    for (uint32_t i = 0; i < page.count; ++i) {
      Entry entry;
      if (!page.entry(i, entry)) return damaged(page.id, name, "an element does not fit its neighbours or its page");
      if (entry.flags != 0) return damaged(page.id, name, "a nested bucket: this is not etcd's database");
    }
    return {};
  }

  Status mark(const Page& page, std::string_view name) {
    const uint64_t end = heads_only_ ? page.id + 1 : page.id + page.overflow + 1;
    for (uint64_t id = page.id; id < end; ++id) {
      if (!reached_.insert(id)) return damaged(id, name, "the page is reached twice");
    }
    return {};
  }

  PageSource pages_;
  bool heads_only_;
  bool flat_ = true;
  PageBitmap reached_;
};

Result<PageBitmap> walk(const BoltView& view, bool heads_only) {
  Walker walker(view.pages(), heads_only);
  CAIRN_CHECK(walker.bucket(view.root_bucket(), "(root)", /*flat=*/true));
  // All buckets, known to us or not: a page of an unknown one is not free.
  TreeCursor cursor(view.pages(), view.root_bucket(), "(root)", kBucketElementFlag);
  CAIRN_CHECK(cursor.seek(""));
  while (cursor.valid()) {
    BucketRoot root;
    if (const Fault fault = decode_bucket(cursor.value(), root)) return damaged(cursor.leaf_id(), cursor.key(), fault);
    const bool known = std::any_of(kAllTables.begin(), kAllTables.end(),
                                   [&](Table table) { return table_name(table) == cursor.key(); });
    CAIRN_CHECK(walker.bucket(root, cursor.key(), known));
    CAIRN_CHECK(cursor.next());
  }
  return std::move(walker.reached());
}

}  // namespace

Result<PageBitmap> reached_pages(const BoltView& view) { return walk(view, /*heads_only=*/false); }
Result<PageBitmap> reached_heads(const BoltView& view) { return walk(view, /*heads_only=*/true); }

std::vector<PageRun> unreached_runs(const PageBitmap& reached, uint64_t high_water) {
  std::vector<PageRun> runs;
  for (uint64_t id = kFirstPage; id < high_water; ++id) {
    if (reached.test(id)) continue;
    if (!runs.empty() && runs.back().first + runs.back().pages == id) {
      ++runs.back().pages;
    } else {
      runs.push_back({id, 1});
    }
  }
  return runs;
}

}  // namespace cairn::storage::bolt
