#include "storage/bolt/check.h"

#include <memory>
#include <optional>
#include <set>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "storage/bolt/format.h"

namespace cairn::storage {
namespace bolt {
namespace {

constexpr uint64_t kCountInBody = 0xFFFF;

template <class... Args>
std::unexpected<Error> wrong(fmt::format_string<Args...> format, Args&&... args) {
  return fail(Code::kDataLoss, "check: {}", fmt::format(format, std::forward<Args>(args)...));
}

// A slice of the file, or of a bucket's value.
struct Slice {
  const char* data;
  uint64_t bytes;
};

struct Item {
  std::string_view key;
  std::string_view value;
  uint64_t child = 0;
  uint32_t flags = 0;
};

class Checker {
 public:
  Checker(const char* base, const Meta& meta, CheckReport& report)
      : base_(base), meta_(meta), report_(report), reached_(meta.high_water, false), free_(meta.high_water, false) {}

  Status run(bool read_freelist) {
    for (const uint64_t id : {0, 1}) reached_[id] = true;
    // The list of an older meta is not read: its page may be taken.
    if (read_freelist && meta_.freelist != kNoFreelist) CAIRN_CHECK(freelist());
    uint64_t entries = 0;
    std::optional<uint32_t> depth;
    CAIRN_CHECK(tree(meta_.root, "(root)", {}, {}, 1, /*root_bucket=*/true, entries, depth));
    for (uint64_t id = 0; id < meta_.high_water; ++id) {
      if (reached_[id]) ++report_.reached_pages;
      if (read_freelist && meta_.freelist != kNoFreelist && !reached_[id] && !free_[id]) {
        return wrong("page {} is neither reached nor free", id);
      }
    }
    return {};
  }

 private:
  Status freelist() {
    const uint64_t id = meta_.freelist;
    const char* at = base_ + id * meta_.page_bytes;
    const PageHeader header = load_header(at);
    if (header.id != id || header.flags != kFreelistFlag) return wrong("page {} is not the free list", id);
    if (header.overflow >= meta_.high_water - id) return wrong("free list page {} overflows the file", id);
    for (uint64_t i = id; i <= id + header.overflow; ++i) reached_[i] = true;
    const uint64_t bytes = (uint64_t{header.overflow} + 1) * meta_.page_bytes;
    uint64_t count = header.count;
    const char* list = at + kHeaderBytes;
    if (count == kCountInBody) {
      count = load_le<uint64_t>(list);
      list += 8;
    }
    if (count > bytes / 8 || static_cast<uint64_t>(list - at) + count * 8 > bytes) {
      return wrong("free list of {} ids does not fit its {} bytes", count, bytes);
    }
    uint64_t before = 0;
    for (uint64_t i = 0; i < count; ++i) {
      const auto page = load_le<uint64_t>(list + i * 8);
      if (page < kFirstPage || page >= meta_.high_water) return wrong("free page {} is outside the file", page);
      if (page <= before) return wrong("free pages {} and {} are not ascending", before, page);
      if (reached_[page]) return wrong("free page {} belongs to the free list", page);
      before = page;
      free_[page] = true;
    }
    report_.free_pages = count;
    return {};
  }

  // The tree below page `id`, all of whose keys lie in [low, high) where given; `low` must be the first one.
  Status tree(uint64_t id, const std::string& bucket, std::optional<std::string_view> low,
              std::optional<std::string_view> high, uint32_t depth, bool root_bucket, uint64_t& entries,
              std::optional<uint32_t>& leaf_depth) {
    if (depth > kDepthMax) return wrong("bucket {}: deeper than {} at page {}", bucket, kDepthMax, id);
    if (id < kFirstPage || id >= meta_.high_water) return wrong("bucket {}: page {} is outside the file", bucket, id);
    const char* at = base_ + id * meta_.page_bytes;
    const PageHeader header = load_header(at);
    if (header.id != id) return wrong("bucket {}: page {} says it is page {}", bucket, id, header.id);
    if (header.flags != kLeafFlag && header.flags != kBranchFlag) {
      return wrong("bucket {}: page {} has flags {:#x}", bucket, id, header.flags);
    }
    if (header.overflow >= meta_.high_water - id) return wrong("bucket {}: page {} overflows the file", bucket, id);
    for (uint64_t page = id; page <= id + header.overflow; ++page) {
      if (reached_[page]) return wrong("bucket {}: page {} is reached twice", bucket, page);
      if (free_[page]) return wrong("bucket {}: page {} is reached and free", bucket, page);
      reached_[page] = true;
    }
    std::vector<Item> items;
    const bool leaf = header.flags == kLeafFlag;
    CAIRN_CHECK(read_items({at, (uint64_t{header.overflow} + 1) * meta_.page_bytes}, leaf, bucket, id, items));
    if (items.empty() && depth > 1) return wrong("bucket {}: page {} below a branch is empty", bucket, id);
    if (!leaf && items.size() < 2) return wrong("bucket {}: branch {} has {} children", bucket, id, items.size());
    if (low && items[0].key != *low) {
      return wrong("bucket {}: page {} begins with key {}, its branch says {}", bucket, id, to_hex(items[0].key),
                   to_hex(*low));
    }
    if (high && !items.empty() && items.back().key >= *high) {
      return wrong("bucket {}: page {} ends with key {}, not below {}", bucket, id, to_hex(items.back().key),
                   to_hex(*high));
    }
    if (!leaf) {
      for (size_t i = 0; i < items.size(); ++i) {
        const auto child_high = i + 1 < items.size() ? std::optional(items[i + 1].key) : high;
        CAIRN_CHECK(
            tree(items[i].child, bucket, items[i].key, child_high, depth + 1, root_bucket, entries, leaf_depth));
      }
      return {};
    }
    if (leaf_depth && *leaf_depth != depth)
      return wrong("bucket {}: leaf {} at depth {}, others at {}", bucket, id, depth, *leaf_depth);
    leaf_depth = depth;
    return leaf_items(items, bucket, id, root_bucket, entries);
  }

  Status leaf_items(const std::vector<Item>& items, const std::string& bucket, uint64_t id, bool root_bucket,
                    uint64_t& entries) {
    entries += items.size();
    for (const Item& item : items) {
      if (item.flags != (root_bucket ? kBucketElementFlag : 0)) {
        return wrong("bucket {}: page {} has an element with flags {:#x}", bucket, id, item.flags);
      }
      if (root_bucket) CAIRN_CHECK(bucket_value(std::string(item.key), item.value));
    }
    return {};
  }

  Status bucket_value(const std::string& name, std::string_view value) {
    if (value.size() < kBucketBytes) return wrong("bucket {}: header of {} bytes", name, value.size());
    const auto root = load_le<uint64_t>(value.data());
    uint64_t entries = 0;
    if (root != 0) {
      if (value.size() != kBucketBytes) return wrong("bucket {}: header of {} bytes", name, value.size());
      std::optional<uint32_t> depth;
      CAIRN_CHECK(tree(root, name, {}, {}, 1, /*root_bucket=*/false, entries, depth));
      report_.bucket_depth[name] = depth.value_or(0);
    } else {
      const std::string_view page = value.substr(kBucketBytes);
      if (page.size() < kHeaderBytes) return wrong("bucket {}: inline page of {} bytes", name, page.size());
      const PageHeader header = load_header(page.data());
      if (header.id != 0 || header.flags != kLeafFlag || header.overflow != 0) {
        return wrong("bucket {}: inline page with flags {:#x}", name, header.flags);
      }
      std::vector<Item> items;
      CAIRN_CHECK(read_items({page.data(), page.size()}, /*leaf=*/true, name, 0, items));
      CAIRN_CHECK(leaf_items(items, name, 0, /*root_bucket=*/false, entries));
      report_.bucket_depth[name] = 0;
    }
    report_.bucket_entries[name] = entries;
    return {};
  }

  // All elements of one page, in strictly ascending key order and packed without gaps.
  static Status read_items(Slice page, bool leaf, const std::string& bucket, uint64_t id, std::vector<Item>& items) {
    const uint64_t count = load_header(page.data).count;
    uint64_t at = kHeaderBytes + count * kElementBytes;
    if (at > page.bytes) return wrong("bucket {}: page {} has {} elements", bucket, id, count);
    for (uint64_t i = 0; i < count; ++i) {
      const uint64_t element = kHeaderBytes + i * kElementBytes;
      const char* from = page.data + element;
      Item item;
      uint64_t pos = 0;
      uint64_t key_bytes = 0;
      uint64_t value_bytes = 0;
      if (leaf) {
        item.flags = load_le<uint32_t>(from);
        pos = load_le<uint32_t>(from + 4);
        key_bytes = load_le<uint32_t>(from + 8);
        value_bytes = load_le<uint32_t>(from + 12);
      } else {
        pos = load_le<uint32_t>(from);
        key_bytes = load_le<uint32_t>(from + 4);
        item.child = load_le<uint64_t>(from + 8);
      }
      if (element + pos != at)
        return wrong("bucket {}: page {} element {} lies at {}, not {}", bucket, id, i, element + pos, at);
      if (key_bytes == 0 || key_bytes > kKeyBytesMax)
        return wrong("bucket {}: page {} element {} has a key of {} bytes", bucket, id, i, key_bytes);
      if (at + key_bytes + value_bytes > page.bytes)
        return wrong("bucket {}: page {} element {} leaves the page", bucket, id, i);
      item.key = {page.data + at, key_bytes};
      item.value = {page.data + at + key_bytes, value_bytes};
      at += key_bytes + value_bytes;
      if (!items.empty() && items.back().key >= item.key)
        return wrong("bucket {}: page {} element {} is out of order", bucket, id, i);
      items.push_back(item);
    }
    return {};
  }

  const char* base_;
  const Meta& meta_;
  CheckReport& report_;
  std::vector<bool> reached_;
  std::vector<bool> free_;
};

}  // namespace
}  // namespace bolt

Result<CheckReport> check_bolt(env::FileSystem& fs, const std::string& path, const CheckOptions& options) {
  CAIRN_TRY(const std::unique_ptr<env::File> file, fs.open(path, env::OpenMode::kRead));
  CAIRN_TRY(const bolt::MetaPair metas, bolt::read_metas(*file, path));
  CAIRN_TRY(const uint64_t size, file->size());
  CAIRN_TRY(const std::unique_ptr<env::Mapping> mapping, file->map(size));
  const bolt::Meta& meta = metas.meta();
  CheckReport report;
  report.page_bytes = meta.page_bytes;
  report.txid = meta.txid;
  report.high_water = meta.high_water;
  report.freelist_persisted = meta.freelist != bolt::kNoFreelist;
  report.both_metas_valid = metas.page[0] && metas.page[1];
  CAIRN_CHECK(bolt::Checker(mapping->base(), meta, report).run(/*read_freelist=*/true));
  if (options.older_tree_too && metas.other()) {
    const bolt::Meta& other = *metas.other();
    if (other.high_water > size / other.page_bytes) {
      return fail(Code::kDataLoss, "check: the older meta's {} pages are not all in the file", other.high_water);
    }
    CheckReport ignored;
    auto whole = bolt::Checker(mapping->base(), other, ignored).run(/*read_freelist=*/false);
    if (!whole) return fail(Code::kDataLoss, "{} (tree of the older meta)", whole.error().message);
  }
  return report;
}

}  // namespace cairn::storage
