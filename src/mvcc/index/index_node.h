// mvcc/index/index_node.h: the bytes of the index's nodes, histories and large keys. Private to the index.
//
//     node   | header | heads: u32[cap] | ends: u16[cap] | prefix, padded to 8 | slots: 32 bytes [cap] | records |
//
// A slot is an Entry in a leaf and a Child in an inner node. Keys are stored without the prefix that all keys of the
// node share. heads[i] is the first four bytes of key i behind the prefix, big-endian and padded with zeros, so that
// a search compares integers and touches the bytes of about one key. Record i ends at ends[i] and is, in a leaf,
//
//     key behind the prefix, or u64 address of a LargeKey | i64 lease, if any | u64 address of a Chunk, if any
//
// and in an inner node only the key: child i holds the keys from key i on. Slot 0 of an inner node has no key.
// Records lie in the order of their slots without gaps: a node is copied with a few memcpy.
#pragma once

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/check.h"
#include "base/strong.h"
#include "mvcc/index/index_arena.h"

namespace cairn::mvcc::detail {

inline constexpr uint32_t kLeafMax = 32;
inline constexpr uint32_t kLeafMin = 16;
inline constexpr uint32_t kInnerMax = 48;
inline constexpr uint32_t kInnerMin = 16;
inline constexpr size_t kInlineKeyBytesMax = 256;
inline constexpr size_t kPrefixBytesMax = kInlineKeyBytesMax;
inline constexpr int kLevelsMax = 12;

// The upper bits of Entry::sub_and_flags, Child::trim_and_flags and HistoryItem::sub_and_flags.
inline constexpr uint32_t kLarge = 1u << 31;  // the key's bytes lie in a LargeKey
inline constexpr uint32_t kDead = 1u << 30;   // the newest revision is a tombstone
inline constexpr uint32_t kHasLease = 1u << 29;
inline constexpr uint32_t kHasHistory = 1u << 28;
inline constexpr uint32_t kSubMask = kHasHistory - 1;

struct Node {
  uint64_t made;  // batch
  uint16_t count;
  uint16_t cap;   // a multiple of 4, so that slots are aligned
  uint8_t level;  // 0: leaf
  uint8_t unused;
  uint16_t prefix_bytes;
  uint16_t heap_used;  // of the records
  uint16_t heap_cap;
};
inline constexpr size_t kNodeHeaderBytes = 24;
static_assert(sizeof(Node) <= kNodeHeaderBytes);
inline constexpr uint8_t kLevelFreed = 0xdd;  // what a freed node shows

struct Entry {
  int64_t main;
  int64_t create;
  int64_t version;
  uint32_t sub_and_flags;
  uint32_t size;
};

struct Child {
  Node* node;
  uint64_t bytes;           // framed length of the live records below
  int64_t newest;           // no revision below is newer
  uint32_t trim_and_flags;  // entries below that are dead or have a history
  uint32_t live;            // keys below
};

inline constexpr size_t kSlotBytes = 32;
inline constexpr size_t kFlagsOffset = 24;
static_assert(sizeof(Entry) == kSlotBytes && sizeof(Child) == kSlotBytes);
static_assert(offsetof(Entry, sub_and_flags) == kFlagsOffset && offsetof(Child, trim_and_flags) == kFlagsOffset);

// A key above kInlineKeyBytesMax. Immutable; belongs to the slot that names it, in all versions of its node.
struct LargeKey {
  uint64_t made;
  uint64_t size;
  [[nodiscard]] char* bytes() { return reinterpret_cast<char*>(this + 1); }
  [[nodiscard]] std::string_view view() const { return {reinterpret_cast<const char*>(this + 1), size}; }
};

struct HistoryItem {
  int64_t main;
  uint32_t sub_and_flags;
  uint32_t size;

  [[nodiscard]] bool dead() const { return (sub_and_flags & kDead) != 0; }
  [[nodiscard]] Revision revision() const { return {main, sub_and_flags & kSubMask}; }
};

// A part of a key's history, oldest first, at least one item. Writer appends; readers of any root may look. Front
// chunks are cut off by the writer when no reader can need them.
struct Chunk {
  std::atomic<Chunk*> before;  // older items
  uint64_t made;
  std::atomic<uint32_t> count;  // stored after the item
  uint32_t cap;
  [[nodiscard]] HistoryItem* items() { return reinterpret_cast<HistoryItem*>(this + 1); }
  [[nodiscard]] const HistoryItem* items() const { return reinterpret_cast<const HistoryItem*>(this + 1); }
};
inline constexpr uint32_t kChunkItemsFirst = 3;
inline constexpr uint32_t kChunkItemsMax = 4096;

// --- parts of a node ---

inline size_t ends_offset(uint32_t cap) { return kNodeHeaderBytes + cap * sizeof(uint32_t); }
inline size_t prefix_offset(uint32_t cap) { return ends_offset(cap) + cap * sizeof(uint16_t); }
inline size_t slots_offset(uint32_t cap, size_t prefix_bytes) {
  return prefix_offset(cap) + ((prefix_bytes + 7) & ~size_t{7});
}
inline size_t heap_offset(uint32_t cap, size_t prefix_bytes) {
  return slots_offset(cap, prefix_bytes) + cap * kSlotBytes;
}
inline size_t node_bytes(uint32_t cap, size_t prefix_bytes, size_t heap_bytes) {
  return heap_offset(cap, prefix_bytes) + heap_bytes;
}
inline char* raw(Node* node) { return reinterpret_cast<char*>(node); }
inline const char* raw(const Node* node) { return reinterpret_cast<const char*>(node); }
inline uint32_t* heads(Node* node) { return reinterpret_cast<uint32_t*>(raw(node) + kNodeHeaderBytes); }
inline const uint32_t* heads(const Node* node) {
  return reinterpret_cast<const uint32_t*>(raw(node) + kNodeHeaderBytes);
}
inline uint16_t* ends(Node* node) { return reinterpret_cast<uint16_t*>(raw(node) + ends_offset(node->cap)); }
inline const uint16_t* ends(const Node* node) {
  return reinterpret_cast<const uint16_t*>(raw(node) + ends_offset(node->cap));
}
inline char* slots(Node* node) { return raw(node) + slots_offset(node->cap, node->prefix_bytes); }
inline const char* slots(const Node* node) { return raw(node) + slots_offset(node->cap, node->prefix_bytes); }
inline Entry* entries(Node* node) { return reinterpret_cast<Entry*>(slots(node)); }
inline const Entry* entries(const Node* node) { return reinterpret_cast<const Entry*>(slots(node)); }
inline Child* children(Node* node) { return reinterpret_cast<Child*>(slots(node)); }
inline const Child* children(const Node* node) { return reinterpret_cast<const Child*>(slots(node)); }
inline std::string_view prefix(const Node* node) { return {raw(node) + prefix_offset(node->cap), node->prefix_bytes}; }
inline char* heap(Node* node) { return raw(node) + heap_offset(node->cap, node->prefix_bytes); }
inline const char* heap(const Node* node) { return raw(node) + heap_offset(node->cap, node->prefix_bytes); }
inline uint32_t record_begin(const Node* node, uint32_t at) { return at == 0 ? 0 : ends(node)[at - 1]; }

inline uint32_t slot_flags(const Node* node, uint32_t at) {
  return load_le<uint32_t>(slots(node) + at * kSlotBytes + kFlagsOffset);
}
// Bytes of the record behind the key.
inline uint32_t extra_bytes(uint32_t flags) {
  return ((flags & kHasLease) != 0 ? 8u : 0u) + ((flags & kHasHistory) != 0 ? 8u : 0u);
}
inline uint32_t extra_bytes(const Node* node, uint32_t at) {
  return node->level == 0 ? extra_bytes(slot_flags(node, at)) : 0;
}
inline LargeKey* large_key(const Node* node, uint32_t at) {
  return load_le<LargeKey*>(heap(node) + record_begin(node, at));
}
// Key `at` behind the node's prefix.
inline std::string_view suffix(const Node* node, uint32_t at) {
  if ((slot_flags(node, at) & kLarge) != 0) return large_key(node, at)->view().substr(node->prefix_bytes);
  const uint32_t begin = record_begin(node, at);
  return {heap(node) + begin, ends(node)[at] - begin - extra_bytes(node, at)};
}
inline int64_t lease_of(const Node* leaf, uint32_t at) {
  const uint32_t flags = slot_flags(leaf, at);
  if ((flags & kHasLease) == 0) return 0;
  return load_le<int64_t>(heap(leaf) + ends(leaf)[at] - extra_bytes(flags));
}
inline Chunk* history_of(const Node* leaf, uint32_t at) {
  if ((slot_flags(leaf, at) & kHasHistory) == 0) return nullptr;
  return load_le<Chunk*>(heap(leaf) + ends(leaf)[at] - 8);
}
inline bool is_live(const Entry& entry) { return (entry.sub_and_flags & kDead) == 0; }
inline bool is_trimmable(const Entry& entry) { return (entry.sub_and_flags & (kDead | kHasHistory)) != 0; }
inline Revision revision_of(const Entry& entry) { return {entry.main, entry.sub_and_flags & kSubMask}; }
inline uint32_t trim_count(const Child& child) { return child.trim_and_flags & ~kLarge; }

inline uint32_t head_of(std::string_view key) {
  if (key.size() >= 4) return load_be32(key.data());
  uint32_t head = 0;
  for (size_t i = 0; i < 4; ++i) head = (head << 8) | (i < key.size() ? static_cast<uint8_t>(key[i]) : 0u);
  return head;
}

// --- searches ---

// Asks for the first lines of a node all at once. A search needs header, heads, ends and prefix; a copy needs all.
inline constexpr size_t kSearchLines = 5;
inline constexpr size_t kCopyLines = 24;
inline void prefetch(const Node* node, size_t lines) {
  for (size_t line = 0; line < lines; ++line) __builtin_prefetch(raw(node) + line * 64);
}

struct Found {
  uint32_t at;
  bool equal;
};

// The first slot of [first, count) whose key is not below `key`.
inline Found lower_bound(const Node* node, uint32_t first, std::string_view key) {
  const std::string_view common = prefix(node);
  const size_t shared = std::min(common.size(), key.size());
  if (const int order = shared == 0 ? 0 : std::memcmp(key.data(), common.data(), shared); order != 0) {
    return {order < 0 ? first : node->count, false};
  }
  if (key.size() < common.size()) return {first, false};
  key.remove_prefix(shared);
  const uint32_t head = head_of(key);
  const uint32_t* all = heads(node);
  // Without branches, because the place of a random key cannot be predicted.
  const uint32_t* from = all + first;
  for (uint32_t size = node->count - first; size > 0;) {
    const uint32_t half = (size + 1) / 2;
    from = from[half - 1] < head ? from + half : from;
    size -= half;
  }
  auto low = static_cast<uint32_t>(from - all);
  uint32_t high = low;
  while (high < node->count && all[high] == head) ++high;
  while (low < high) {
    const uint32_t middle = low + (high - low) / 2;
    const int order = suffix(node, middle).compare(key);
    if (order == 0) return {middle, true};
    if (order < 0) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return {low, false};
}

// The child that holds `key`.
inline uint32_t child_for(const Node* inner, std::string_view key) {
  const Found found = lower_bound(inner, 1, key);
  return found.equal ? found.at : found.at - 1;
}

// The history's newest item at or below main revision `revision`; nullptr: none is retained. `chunk` is set to its
// chunk.
inline const HistoryItem* find_item(const Chunk*& chunk, int64_t revision) {
  for (; chunk != nullptr; chunk = chunk->before.load(std::memory_order_acquire)) {
    const HistoryItem* items = chunk->items();
    if (items[0].main > revision) continue;
    const uint32_t count = chunk->count.load(std::memory_order_acquire);
    const HistoryItem* above = std::upper_bound(
        items, items + count, revision, [](int64_t wanted, const HistoryItem& item) { return wanted < item.main; });
    return above - 1;
  }
  return nullptr;
}

// --- a node taken apart ---

struct Slot {
  std::string_view key;  // whole
  union {
    Entry entry;
    Child child;
  };
  int64_t lease;
  Chunk* history;
  LargeKey* large;

  [[nodiscard]] uint32_t flags() const {
    return load_le<uint32_t>(reinterpret_cast<const char*>(&entry) + kFlagsOffset);
  }
};

// The slots of one or two nodes, with the bytes of their keys.
class Slots {
 public:
  // Room for the keys of these nodes and one more key; forgets what was there. `right` may be null.
  void reserve(const Node* left, const Node* right, size_t more_bytes);
  void add(const Node* node);
  // Copies a key into the storage reserved.
  std::string_view keep(std::string_view key);

  std::vector<Slot> all;

 private:
  std::vector<char> bytes_;
  size_t used_ = 0;
};

// Makes a node of `count` slots. `prefix_hint`: how much of a single key to take as the prefix.
Node* encode(Arena& arena, uint64_t batch, uint8_t level, const Slot* from, uint32_t count, size_t prefix_hint);

// What a parent notes about a node.
Child summary(Node* node);

// The shortest key that is above `left` and not above `right`. needs: left < right. A view of `right`.
std::string_view separator(std::string_view left, std::string_view right);

// Appends the whole of key `at` to `out`.
void append_key(const Node* node, uint32_t at, std::string& out);

}  // namespace cairn::mvcc::detail
