// Looks up one key in a view, or many keys in step.
//
// The keys of the table `key` begin with a number that grows with each write, so they are spread about evenly between
// the bounds of a page. The look-up guesses a key's place and searches from there. A wrong guess only costs time. Bytes
// read on the way are checked as everywhere (reader.h).
//
// A look-up in a large file mostly waits for memory: the leaf's header, an element, the record. Many look-ups go down
// together, and each step is done for all before the next step for any, so that their waits overlap.
#include <algorithm>
#include <array>

#include "base/check.h"
#include "storage/bolt/reader.h"

namespace cairn::storage::bolt {
namespace {

constexpr uint64_t kNoBound = ~uint64_t{0};
constexpr size_t kLineBytes = 64;
constexpr size_t kPrefetchBytesMax = 512;  // of a record; behind it the processor sees where a copy is going

uint64_t number_of(std::string_view key) { return key.size() < 8 ? 0 : load_be64(key.data()); }

void prefetch(const char* from, size_t bytes) {
  for (size_t at = 0; at < bytes; at += kLineBytes) __builtin_prefetch(from + at);
}

void prefetch_record(const Entry& entry) {
  prefetch(entry.key.data(), std::min(entry.key.size() + entry.value.size(), kPrefetchBytesMax));
}

// The numbers that the keys of a page lie between: [low, high).
struct Bounds {
  uint64_t low = 0;
  uint64_t high = kNoBound;

  // About where `key` stands among `count` entries.
  [[nodiscard]] uint32_t guess(std::string_view key, uint32_t count) const {
    const uint64_t number = number_of(key);
    if (number <= low || count == 0) return 0;
    const uint64_t distance = number - low;
    const uint64_t last = count - 1;
    if (high == kNoBound || high <= low) return static_cast<uint32_t>(std::min(distance, last));
    const double share = static_cast<double>(distance) / static_cast<double>(high - low);
    return static_cast<uint32_t>(std::min(share * count, static_cast<double>(last)));
  }
};

// As find(), looking first at `guess` and then around it, in growing steps.
Fault find_near(const Page& page, std::string_view key, uint32_t guess, Place& out) {
  uint32_t low = 0;
  uint32_t high = page.count;
  uint32_t at = guess;
  uint32_t stride = 1;
  bool seen_below = false;
  bool seen_above = false;
  Entry entry;
  while (low < high) {
    if (!page.entry(at, entry)) return kBadElement;
    const int order = compare(entry.key, key);
    if (order == 0) {
      out = {at, true};
      return nullptr;
    }
    if (order < 0) {
      low = at + 1;
      seen_below = true;
    } else {
      high = at;
      seen_above = true;
    }
    if (seen_below && seen_above) {
      at = low + (high - low) / 2;
    } else {
      at = seen_below ? low + std::min(stride, high - low) - 1 : high - std::min(stride, high);
    }
    stride *= 4;
  }
  out = {low, false};
  return nullptr;
}

Fault find_in(Table table, const Page& page, const Bounds& bounds, std::string_view key, Place& out) {
  return table == Table::kKey ? find_near(page, key, bounds.guess(key, page.count), out) : find(page, key, out);
}

// The entry to go down at, and the bounds of the page below.
Fault choose(const Page& branch, std::string_view key, Bounds& bounds, Entry& named, uint32_t& index) {
  Place place;
  if (const Fault fault = find_near(branch, key, bounds.guess(key, branch.count), place)) return fault;
  index = child_index(place);
  if (index + 1 < branch.count) {
    if (!branch.entry(index + 1, named)) return kBadElement;
    bounds.high = number_of(named.key);
  }
  if (!branch.entry(index, named)) return kBadElement;
  bounds.low = number_of(named.key);
  return nullptr;
}

// One of many look-ups.
struct Way {
  Page page;
  Bounds bounds;
  Entry named;        // the branch's entry for the next page
  uint32_t guess;     // in the page
  bool lost = false;  // something is not as expected: to be done alone, which says what
};

}  // namespace

Result<std::optional<std::string_view>> BoltView::get(Table table, std::string_view key) const {
  const BucketRoot& root = this->root(table);
  Page page;
  if (const Fault fault = load_root(pages_, root, page)) return damaged(root.page, table_name(table), fault);
  Page bound;  // the lowest branch that named a higher key beside the way down
  uint32_t bound_index = 0;
  Bounds bounds;
  Place place;
  for (int depth = 1;; ++depth) {
    if (const Fault fault = find_in(table, page, bounds, key, place)) return damaged(page.id, table_name(table), fault);
    if (page.leaf) break;
    if (depth == kDepthMax) return damaged(page.id, table_name(table), kTooDeep);
    const uint32_t index = child_index(place);
    const Page branch = page;
    Entry entry;
    if (index + 1 < branch.count) {
      bound = branch;
      bound_index = index + 1;
      if (branch.entry(bound_index, entry)) bounds.high = number_of(entry.key);
    }
    if (branch.entry(index, entry)) bounds.low = number_of(entry.key);
    if (const Fault fault = pages_.child(branch, index, page)) {
      return damaged(pages_.child_id(branch, index), table_name(table), fault);
    }
    if (page.leaf && page.entry(bounds.guess(key, page.count), entry)) prefetch_record(entry);
  }
  if (place.exact) {
    Entry entry;
    (void)page.entry(place.index, entry);
    if (entry.flags != 0) return damaged(page.id, table_name(table), "an element has the wrong flags");
    return std::optional(entry.value);
  }
  // Not found. Behind the last entry of a leaf this is only certain if the branch keys that led here are right: the key
  // below `key` was checked on the way down, the key above it is checked now.
  if (place.index == page.count && bound.data != nullptr) {
    if (const Fault fault = pages_.child(bound, bound_index, page)) {
      return damaged(pages_.child_id(bound, bound_index), table_name(table), fault);
    }
  }
  return std::optional<std::string_view>{};
}

Status BoltView::get_many(Table table, std::span<const std::string_view> keys,
                          std::span<std::optional<std::string_view>> values) const {
  const BucketRoot& root = this->root(table);
  Page top;
  if (table != Table::kKey || keys.size() < 2 || load_root(pages_, root, top) != nullptr || top.leaf) {
    return View::get_many(table, keys, values);
  }
  CAIRN_ASSERT(keys.size() == values.size() && keys.size() <= kGetManyMax);
  std::array<Way, kGetManyMax> all;
  const std::span<Way> ways = std::span(all).first(keys.size());
  for (Way& way : ways) way.page = top;

  bool on_branches = true;
  for (int depth = 1; on_branches && depth < kDepthMax; ++depth) {
    on_branches = false;
    for (size_t i = 0; i < ways.size(); ++i) {
      Way& way = ways[i];
      if (way.lost) continue;
      uint32_t index = 0;
      way.lost = way.page.leaf || choose(way.page, keys[i], way.bounds, way.named, index) != nullptr ||
                 way.named.child >= pages_.high_water;
      if (way.lost) continue;
      // The header; and the element, were it a leaf of records that follow each other.
      const char* const page = pages_.base + way.named.child * pages_.page_bytes;
      const uint64_t distance = number_of(keys[i]) - way.bounds.low;
      __builtin_prefetch(page);
      if (distance < pages_.page_bytes / kElementBytes) prefetch(page + kHeaderBytes + distance * kElementBytes, 1);
    }
    for (size_t i = 0; i < ways.size(); ++i) {
      Way& way = ways[i];
      if (way.lost) continue;
      way.lost = pages_.load(way.named.child, way.page) != nullptr || way.page.count == 0;
      if (way.lost) continue;
      way.guess = way.bounds.guess(keys[i], way.page.count);
      way.page.prefetch_element(way.guess);
      if (!way.page.leaf) way.page.prefetch_first_key();
    }
    for (Way& way : ways) {
      if (way.lost) continue;
      Entry guessed;
      way.lost = !way.page.entry(way.guess, guessed);
      if (way.lost) continue;
      prefetch_record(guessed);
      if (way.page.leaf) continue;
      on_branches = true;
      Entry first;
      way.lost = !way.page.entry(0, first) || first.key != way.named.key;
    }
  }
  for (size_t i = 0; i < ways.size(); ++i) {
    Way& way = ways[i];
    Place place;
    Entry entry;
    // The key itself, in a leaf, needs no other proof.
    if (!way.lost && way.page.leaf && find_near(way.page, keys[i], way.guess, place) == nullptr && place.exact &&
        way.page.entry(place.index, entry) && entry.flags == 0) {
      values[i] = entry.value;
      continue;
    }
    CAIRN_TRY(values[i], get(table, keys[i]));
  }
  return {};
}

}  // namespace cairn::storage::bolt
