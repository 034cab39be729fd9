// storage/bolt/reader.h: reads committed trees straight from the mapped file and checks each page on every visit.
//
// On the way down each page must carry its own id, be a branch or a leaf, lie below the high-water mark, and begin
// with the key under which its parent names it. A walk stops with an error unless its leaves are in ascending key
// order. So it also ends in a file whose pages point at each other.
//
// Threads:  all of it may be used by any thread while the view is registered (storage/engine.h).
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <span>
#include <string_view>

#include "env/fs.h"
#include "storage/bolt/page.h"
#include "storage/engine.h"

namespace cairn::storage::bolt {

// A description of the fault, or nullptr. It becomes an Error only outside this folder, so a good read builds no
// strings.
using Fault = const char*;
inline constexpr Fault kBadElement = "an element does not fit its neighbours or its page";
inline constexpr Fault kTooDeep = "the tree is deeper than any whole tree";
[[nodiscard]] std::unexpected<Error> damaged(uint64_t page, std::string_view bucket, Fault fault);

// The pages of one committed file state.
struct PageSource {
  const char* base = nullptr;
  uint32_t page_bytes = 0;
  uint64_t high_water = 0;

  // The branch or leaf page `id`.
  [[nodiscard]] Fault load(uint64_t id, Page& out) const;
  // The page that entry `i` of `branch` names. Not empty; begins with the entry's key.
  [[nodiscard]] Fault child(const Page& branch, uint32_t i, Page& out) const;
  // Which page to name when child() finds a fault.
  [[nodiscard]] uint64_t child_id(const Page& branch, uint32_t i) const;
};

// Where a bucket's tree begins.
struct BucketRoot {
  bool exists = false;
  uint64_t page = 0;  // 0: inline
  uint64_t sequence = 0;
  std::string_view inline_page;

  friend bool operator==(const BucketRoot&, const BucketRoot&) = default;
};
// The root page, wherever it is. A bucket that does not exist gives an empty leaf.
[[nodiscard]] Fault load_root(const PageSource& pages, const BucketRoot& root, Page& out);
// Reads the value of a bucket's element in the root bucket.
[[nodiscard]] Fault decode_bucket(std::string_view value, BucketRoot& out);

// The place of `key` in a page: its first entry that is not below `key`, `count` when there is none.
struct Place {
  uint32_t index = 0;
  bool exact = false;
};
[[nodiscard]] Fault find(const Page& page, std::string_view key, Place& out);
// The child to go to for `key`.
[[nodiscard]] inline uint32_t child_index(Place place) {
  return place.exact || place.index == 0 ? place.index : place.index - 1;
}

// Walks one tree. `flags` is what every leaf element must carry.
class TreeCursor {
 public:
  TreeCursor(const PageSource& pages, const BucketRoot& root, std::string_view bucket, uint32_t flags)
      : pages_(pages), root_(root), bucket_(bucket), flags_(flags) {}

  Status seek(std::string_view key);
  Status seek_last();
  Status next();
  [[nodiscard]] bool valid() const { return valid_; }
  [[nodiscard]] std::string_view key() const { return entry_.key; }
  [[nodiscard]] std::string_view value() const { return entry_.value; }
  // Of the leaf it stands on; 0 in an inline bucket.
  [[nodiscard]] uint64_t leaf_id() const { return stack_[static_cast<size_t>(depth_)].page.id; }
  [[nodiscard]] uint64_t leaf_bytes() const { return stack_[static_cast<size_t>(depth_)].page.bytes; }

 private:
  struct Level {
    Page page;
    uint32_t index = 0;
  };

  Status fault(uint64_t page, Fault text);
  Status take();       // the entry the cursor stands on
  Status next_leaf();  // to the first entry of the leaf after this one

  PageSource pages_;
  BucketRoot root_;
  std::string_view bucket_;
  uint32_t flags_;
  std::array<Level, kDepthMax> stack_;
  int depth_ = 0;
  bool valid_ = false;
  Entry entry_;
};

class BoltView final : public View {
 public:
  // Reads the root bucket of the tree that `meta` names.
  static Result<std::shared_ptr<const BoltView>> open(std::shared_ptr<const env::Mapping> mapping, const Meta& meta,
                                                      const Lineage& lineage);

  [[nodiscard]] Result<std::optional<std::string_view>> get(Table table, std::string_view key) const override;
  [[nodiscard]] Status get_many(Table table, std::span<const std::string_view> keys,
                                std::span<std::optional<std::string_view>> values) const override;
  [[nodiscard]] std::unique_ptr<Cursor> cursor(Table table) const override;
  [[nodiscard]] uint64_t txid() const override { return meta_.txid; }
  [[nodiscard]] Lineage lineage() const override { return lineage_; }
  [[nodiscard]] bool resident(Table table, std::string_view key) const override;

  [[nodiscard]] const Meta& meta() const { return meta_; }
  [[nodiscard]] const PageSource& pages() const { return pages_; }
  [[nodiscard]] const BucketRoot& root(Table table) const { return roots_[static_cast<size_t>(table)]; }
  [[nodiscard]] BucketRoot root_bucket() const {
    return {.exists = true, .page = meta_.root, .sequence = 0, .inline_page = {}};
  }

 private:
  Result<std::unique_ptr<ImageReader>> make_image(std::shared_ptr<const View> self) const override;  // image.cc

  BoltView(std::shared_ptr<const env::Mapping> mapping, const Meta& meta, const Lineage& lineage)
      : mapping_(std::move(mapping)),
        meta_(meta),
        lineage_(lineage),
        pages_{mapping_->base(), meta.page_bytes, meta.high_water} {}

  std::shared_ptr<const env::Mapping> mapping_;
  Meta meta_;
  Lineage lineage_;
  PageSource pages_;
  std::array<BucketRoot, kTableCount> roots_;
};

}  // namespace cairn::storage::bolt
