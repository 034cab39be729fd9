// storage/bolt/page.h: one page as it lies in the file, read with checks and without copies.
//
// Damaged bytes must never cause a crash. Where damage can be noticed, it must give an error, not a wrong answer. A
// page is packed without gaps, so each visited element must begin where the previous one ends; this shows a changed
// position or size at once. The last element has no next neighbour, so only its bounds are checked.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/bytes.h"
#include "storage/bolt/format.h"

namespace cairn::storage::bolt {

// Keys in byte order.
[[nodiscard]] inline int compare(std::string_view a, std::string_view b) {
  if (a.size() >= 8 && b.size() >= 8) {
    const uint64_t x = load_be64(a.data());
    const uint64_t y = load_be64(b.data());
    if (x != y) return x < y ? -1 : 1;
  }
  const size_t shorter = a.size() < b.size() ? a.size() : b.size();
  const int order = std::memcmp(a.data(), b.data(), shorter);
  if (order != 0) return order;
  return a.size() < b.size() ? -1 : (a.size() > b.size() ? 1 : 0);
}

struct Entry {
  std::string_view key;
  std::string_view value;  // of a leaf
  uint64_t child = 0;      // of a branch
  uint32_t flags = 0;      // of a leaf
};

struct Page {
  const char* data = nullptr;
  uint64_t bytes = 0;  // with its overflow pages
  uint64_t id = 0;     // 0: inline
  uint32_t count = 0;
  uint32_t overflow = 0;
  bool leaf = true;

  // Entry `i`; false when the element is damaged.
  [[nodiscard]] bool entry(uint32_t i, Entry& out) const {
    const Element at = element(i);
    if (at.key_bytes == 0 || at.key_bytes > kKeyBytesMax || at.value_bytes > kValueBytesMax) return false;
    const uint64_t end = at.start + at.key_bytes + at.value_bytes;
    if (end > bytes) return false;
    if (i + 1 < count) {
      if (element_start(i + 1) != end) return false;
    } else if (i > 0) {
      const Element before = element(i - 1);
      if (before.start + before.key_bytes + before.value_bytes != at.start) return false;
    }
    if (i == 0 && at.start != kHeaderBytes + uint64_t{count} * kElementBytes) return false;
    out.key = {data + at.start, at.key_bytes};
    out.value = {data + at.start + at.key_bytes, at.value_bytes};
    out.child = at.child;
    out.flags = at.flags;
    return true;
  }

  // The elements fit and the first key lies right behind them.
  [[nodiscard]] bool layout_ok() const {
    const uint64_t table_end = kHeaderBytes + uint64_t{count} * kElementBytes;
    if (table_end > bytes) return false;
    return count == 0 || element_start(0) == table_end;
  }

  // Ask for memory that is about to be read. needs: i < count
  void prefetch_element(uint32_t i) const {
    __builtin_prefetch(data + kHeaderBytes + uint64_t{i} * kElementBytes);
    __builtin_prefetch(data + kHeaderBytes + uint64_t{i + 1} * kElementBytes);
  }
  void prefetch_first_key() const { __builtin_prefetch(data + kHeaderBytes + uint64_t{count} * kElementBytes); }

 private:
  struct Element {
    uint64_t start;
    uint32_t key_bytes;
    uint32_t value_bytes;
    uint32_t flags;
    uint64_t child;
  };

  [[nodiscard]] uint64_t element_start(uint32_t i) const {
    const uint64_t at = kHeaderBytes + uint64_t{i} * kElementBytes;
    return at + load_le<uint32_t>(data + at + (leaf ? 4 : 0));
  }
  [[nodiscard]] Element element(uint32_t i) const {
    const uint64_t at = kHeaderBytes + uint64_t{i} * kElementBytes;
    const char* from = data + at;
    if (leaf) {
      return {at + load_le<uint32_t>(from + 4), load_le<uint32_t>(from + 8), load_le<uint32_t>(from + 12),
              load_le<uint32_t>(from), 0};
    }
    return {at + load_le<uint32_t>(from), load_le<uint32_t>(from + 4), 0, 0, load_le<uint64_t>(from + 8)};
  }
};

}  // namespace cairn::storage::bolt
