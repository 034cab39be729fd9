#include "storage/bolt/reader.h"

namespace cairn::storage::bolt {
namespace {

constexpr Fault kUnordered = "keys do not ascend from page to page";

// Makes an inline page, or the empty leaf of a bucket that is not there.
Fault load_inline(std::string_view bytes, Page& out) {
  out = Page{};
  if (bytes.size() < kHeaderBytes) return "the inline bucket is too short";
  const PageHeader header = load_header(bytes.data());
  if (header.id != 0 || header.flags != kLeafFlag || header.overflow != 0) return "the inline bucket is not a leaf";
  out.data = bytes.data();
  out.bytes = bytes.size();
  out.count = header.count;
  return out.layout_ok() ? nullptr : "the element table of the inline bucket is wrong";
}

}  // namespace

std::unexpected<Error> damaged(uint64_t page, std::string_view bucket, Fault fault) {
  return fail(Code::kDataLoss, "bolt: page {} of bucket {}: {}", page, bucket, fault);
}

Fault PageSource::load(uint64_t id, Page& out) const {
  if (id < kFirstPage || id >= high_water) return "page id outside the file";
  const char* at = base + id * page_bytes;
  const PageHeader header = load_header(at);
  if (header.id != id) return "the page carries another page's id";
  if (header.flags != kLeafFlag && header.flags != kBranchFlag) return "the page is neither branch nor leaf";
  if (header.overflow >= high_water - id) return "the page's overflow lies outside the file";
  out.data = at;
  out.bytes = (uint64_t{header.overflow} + 1) * page_bytes;
  out.id = id;
  out.count = header.count;
  out.overflow = header.overflow;
  out.leaf = header.flags == kLeafFlag;
  if (!out.layout_ok()) return "the element table is wrong";
  if (!out.leaf && out.count == 0) return "the branch is empty";
  return nullptr;
}

Fault PageSource::child(const Page& branch, uint32_t i, Page& out) const {
  Entry named;
  if (!branch.entry(i, named)) return kBadElement;
  if (named.child < high_water) {
    // The header and what is read of most element tables.
    const char* const at = base + named.child * page_bytes;
    for (int line = 0; line < 4; ++line) __builtin_prefetch(at + line * 64);
  }
  if (const Fault fault = load(named.child, out)) return fault;
  Entry first;
  if (out.count == 0) return "the leaf below a branch is empty";
  if (!out.entry(0, first)) return kBadElement;
  if (first.key != named.key) return "the page does not begin with its key in the branch";
  return nullptr;
}

uint64_t PageSource::child_id(const Page& branch, uint32_t i) const {
  Entry named;
  return branch.entry(i, named) && named.child < high_water ? named.child : branch.id;
}

Fault load_root(const PageSource& pages, const BucketRoot& root, Page& out) {
  if (!root.exists) {
    out = Page{};
    return nullptr;
  }
  if (root.page != 0) return pages.load(root.page, out);
  return load_inline(root.inline_page, out);
}

Fault decode_bucket(std::string_view value, BucketRoot& out) {
  if (value.size() < kBucketBytes) return "the bucket's header is too short";
  out.exists = true;
  out.page = load_le<uint64_t>(value.data());
  out.sequence = load_le<uint64_t>(value.data() + 8);
  out.inline_page = out.page == 0 ? value.substr(kBucketBytes) : std::string_view{};
  if (out.page != 0 && value.size() != kBucketBytes) return "the bucket's header has the wrong length";
  return nullptr;
}

Fault find(const Page& page, std::string_view key, Place& out) {
  uint32_t low = 0;
  uint32_t high = page.count;
  out.exact = false;
  Entry entry;
  while (low < high) {
    const uint32_t middle = (low + high) / 2;
    if (!page.entry(middle, entry)) return kBadElement;
    const int order = compare(entry.key, key);
    if (order == 0) {
      out = {middle, true};
      return nullptr;
    }
    if (order < 0) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  out.index = low;
  return nullptr;
}

// --- TreeCursor

Status TreeCursor::fault(uint64_t page, Fault text) {
  valid_ = false;
  return damaged(page, bucket_, text);
}

Status TreeCursor::take() {
  const Level& leaf = stack_[static_cast<size_t>(depth_)];
  if (!leaf.page.entry(leaf.index, entry_)) return fault(leaf.page.id, kBadElement);
  if (entry_.flags != flags_) return fault(leaf.page.id, "an element has the wrong flags");
  valid_ = true;
  return {};
}

Status TreeCursor::seek(std::string_view key) {
  valid_ = false;
  depth_ = 0;
  if (const Fault text = load_root(pages_, root_, stack_[0].page)) return fault(root_.page, text);
  for (;;) {
    Level& level = stack_[static_cast<size_t>(depth_)];
    Place place;
    if (const Fault text = find(level.page, key, place)) return fault(level.page.id, text);
    if (level.page.leaf) {
      level.index = place.index;
      break;
    }
    level.index = child_index(place);
    if (depth_ + 1 == kDepthMax) return fault(level.page.id, kTooDeep);
    const Fault text = pages_.child(level.page, level.index, stack_[static_cast<size_t>(depth_) + 1].page);
    if (text != nullptr) return fault(pages_.child_id(level.page, level.index), text);
    ++depth_;
  }
  const Level& leaf = stack_[static_cast<size_t>(depth_)];
  if (leaf.index < leaf.page.count) return take();
  if (leaf.page.count == 0) return {};
  // The last key of this leaf is what the next one must lie above.
  stack_[static_cast<size_t>(depth_)].index = leaf.page.count - 1;
  CAIRN_CHECK(take());
  return next();
}

Status TreeCursor::seek_last() {
  valid_ = false;
  depth_ = 0;
  if (const Fault text = load_root(pages_, root_, stack_[0].page)) return fault(root_.page, text);
  for (;;) {
    Level& level = stack_[static_cast<size_t>(depth_)];
    if (level.page.count == 0) return {};
    level.index = level.page.count - 1;
    if (level.page.leaf) return take();
    if (depth_ + 1 == kDepthMax) return fault(level.page.id, kTooDeep);
    const Fault text = pages_.child(level.page, level.index, stack_[static_cast<size_t>(depth_) + 1].page);
    if (text != nullptr) return fault(pages_.child_id(level.page, level.index), text);
    ++depth_;
  }
}

Status TreeCursor::next() {
  Level& leaf = stack_[static_cast<size_t>(depth_)];
  if (++leaf.index < leaf.page.count) return take();
  return next_leaf();
}

Status TreeCursor::next_leaf() {
  const std::string_view before = entry_.key;
  valid_ = false;
  int depth = depth_ - 1;
  while (depth >= 0 && stack_[static_cast<size_t>(depth)].index + 1 >= stack_[static_cast<size_t>(depth)].page.count) {
    --depth;
  }
  if (depth < 0) return {};
  ++stack_[static_cast<size_t>(depth)].index;
  for (;;) {
    const Level& level = stack_[static_cast<size_t>(depth)];
    if (depth + 1 == kDepthMax) return fault(level.page.id, kTooDeep);
    Level& below = stack_[static_cast<size_t>(depth) + 1];
    if (const Fault text = pages_.child(level.page, level.index, below.page)) {
      return fault(pages_.child_id(level.page, level.index), text);
    }
    below.index = 0;
    ++depth;
    if (below.page.leaf) break;
  }
  depth_ = depth;
  CAIRN_CHECK(take());
  if (compare(before, entry_.key) >= 0) return fault(leaf_id(), kUnordered);
  return {};
}

// --- BoltView

namespace {

class BoltCursor final : public Cursor {
 public:
  BoltCursor(const BoltView& view, Table table)
      : cursor_(view.pages(), view.root(table), table_name(table), /*flags=*/0) {}

  Status seek(std::string_view key) override { return cursor_.seek(key); }
  Status seek_last() override { return cursor_.seek_last(); }
  Status next() override { return cursor_.next(); }
  bool valid() const override { return cursor_.valid(); }
  std::string_view key() const override { return cursor_.key(); }
  std::string_view value() const override { return cursor_.value(); }

 private:
  TreeCursor cursor_;
};

}  // namespace

Result<std::shared_ptr<const BoltView>> BoltView::open(std::shared_ptr<const env::Mapping> mapping, const Meta& meta,
                                                       const Lineage& lineage) {
  std::shared_ptr<BoltView> view(new BoltView(std::move(mapping), meta, lineage));
  TreeCursor cursor(view->pages_, view->root_bucket(), "(root)", kBucketElementFlag);
  for (const Table table : kAllTables) {
    CAIRN_CHECK(cursor.seek(table_name(table)));
    if (!cursor.valid() || cursor.key() != table_name(table)) continue;
    BucketRoot& root = view->roots_[static_cast<size_t>(table)];
    if (const Fault fault = decode_bucket(cursor.value(), root)) return damaged(root.page, table_name(table), fault);
    Page page;
    if (const Fault fault = load_root(view->pages_, root, page)) return damaged(root.page, table_name(table), fault);
  }
  return view;
}

std::unique_ptr<Cursor> BoltView::cursor(Table table) const { return std::make_unique<BoltCursor>(*this, table); }

bool BoltView::resident(Table table, std::string_view key) const {
  const auto in_memory = [this](uint64_t id) {
    if (id < kFirstPage || id >= pages_.high_water) return true;  // the read will say so without touching it
    const uint64_t at = id * pages_.page_bytes;
    if (!mapping_->resident(at, pages_.page_bytes)) return false;
    const PageHeader header = load_header(pages_.base + at);
    if (header.overflow == 0 || header.overflow >= pages_.high_water - id) return true;
    return mapping_->resident(at, (uint64_t{header.overflow} + 1) * pages_.page_bytes);
  };
  const BucketRoot& root = this->root(table);
  if (!root.exists || root.page == 0) return !root.exists || in_memory(meta_.root);
  uint64_t id = root.page;
  for (int depth = 0; depth < kDepthMax; ++depth) {
    if (!in_memory(id)) return false;
    Page page;
    if (pages_.load(id, page) != nullptr || page.leaf) return true;
    Place place;
    Entry entry;
    if (find(page, key, place) != nullptr || !page.entry(child_index(place), entry)) return true;
    id = entry.child;
  }
  return true;
}

}  // namespace cairn::storage::bolt
