#include "mvcc/index/index_node.h"

#include "mvcc/index/index.h"

namespace cairn::mvcc::detail {

namespace {

size_t common_prefix(std::string_view a, std::string_view b) {
  const size_t size = std::min(a.size(), b.size());
  size_t i = 0;
  while (i < size && a[i] == b[i]) ++i;
  return i;
}

}  // namespace

void Slots::reserve(const Node* left, const Node* right, size_t more_bytes) {
  all.clear();
  used_ = 0;
  size_t bytes = more_bytes;
  for (const Node* node : {left, right}) {
    if (node != nullptr) bytes += size_t{node->count} * node->prefix_bytes + node->heap_used;
  }
  if (bytes_.size() < bytes) bytes_.resize(std::max(bytes, size_t{16} << 10));
}

std::string_view Slots::keep(std::string_view key) {
  CAIRN_ASSERT(used_ + key.size() <= bytes_.size());
  char* to = bytes_.data() + used_;
  if (!key.empty()) std::memcpy(to, key.data(), key.size());
  used_ += key.size();
  return {to, key.size()};
}

void Slots::add(const Node* node) {
  const std::string_view common = prefix(node);
  for (uint32_t i = 0; i < node->count; ++i) {
    Slot& slot = all.emplace_back();
    std::memcpy(static_cast<void*>(&slot.entry), slots(node) + i * kSlotBytes, kSlotBytes);
    slot.lease = 0;
    slot.history = nullptr;
    slot.large = nullptr;
    if (node->level == 0) {
      slot.lease = lease_of(node, i);
      slot.history = history_of(node, i);
    }
    if (node->level > 0 && i == 0) {
      slot.key = {};
    } else if ((slot.flags() & kLarge) != 0) {
      slot.large = large_key(node, i);
      slot.key = slot.large->view();
    } else {
      CAIRN_ASSERT(used_ + common.size() + suffix(node, i).size() <= bytes_.size());
      char* to = bytes_.data() + used_;
      const std::string_view head = keep(common);
      const std::string_view tail = keep(suffix(node, i));
      slot.key = {to, head.size() + tail.size()};
    }
  }
}

Node* encode(Arena& arena, uint64_t batch, uint8_t level, const Slot* from, uint32_t count, size_t prefix_hint) {
  const uint32_t first = level == 0 ? 0 : 1;  // slot 0 of an inner node has no key
  size_t shared = 0;
  if (count > first) {
    // Keys are in order, so a prefix of the first and the last is a prefix of all.
    shared = common_prefix(from[first].key, from[count - 1].key);
    if (count - first == 1) shared = std::min(shared, prefix_hint);
    shared = std::min(shared, kPrefixBytesMax);
  }
  size_t heap_bytes = 0;
  for (uint32_t i = first; i < count; ++i) {
    heap_bytes += from[i].large != nullptr ? 8 : from[i].key.size() - shared;
    if (level == 0) heap_bytes += extra_bytes(from[i].entry.sub_and_flags);
  }
  const uint32_t cap = (count + 3) & ~3u;
  const size_t bytes = node_bytes(cap, shared, heap_bytes);
  auto* node = static_cast<Node*>(arena.allocate(bytes));
  const size_t room = Arena::usable(node) - node_bytes(cap, shared, 0);
  CAIRN_ASSERT(heap_bytes <= UINT16_MAX);
  node->made = batch;
  node->count = static_cast<uint16_t>(count);
  node->cap = static_cast<uint16_t>(cap);
  node->level = level;
  node->unused = 0;
  node->prefix_bytes = static_cast<uint16_t>(shared);
  node->heap_used = static_cast<uint16_t>(heap_bytes);
  node->heap_cap = static_cast<uint16_t>(std::min<size_t>(room, UINT16_MAX));
  if (count > first) std::memcpy(raw(node) + prefix_offset(cap), from[first].key.data(), shared);

  char* const base = heap(node);
  char* to = base;
  for (uint32_t i = 0; i < count; ++i) {
    const Slot& slot = from[i];
    std::memcpy(slots(node) + i * kSlotBytes, static_cast<const void*>(&slot.entry), kSlotBytes);
    uint32_t flags = slot.flags() & ~kLarge;
    if (i < first) {
      heads(node)[i] = 0;
    } else {
      const std::string_view tail = slot.key.substr(shared);
      heads(node)[i] = head_of(tail);
      if (slot.large != nullptr) {
        flags |= kLarge;
        store_le(to, slot.large);
        to += 8;
      } else {
        to = static_cast<char*>(std::memcpy(to, tail.data(), tail.size())) + tail.size();
      }
      if (level == 0 && (flags & kHasLease) != 0) {
        store_le(to, slot.lease);
        to += 8;
      }
      if (level == 0 && (flags & kHasHistory) != 0) {
        store_le(to, slot.history);
        to += 8;
      }
    }
    store_le(slots(node) + i * kSlotBytes + kFlagsOffset, flags);
    ends(node)[i] = static_cast<uint16_t>(to - base);
  }
  return node;
}

Child summary(Node* node) {
  Child sum{.node = node, .bytes = 0, .newest = 0, .trim_and_flags = 0, .live = 0};
  for (uint32_t i = 0; i < node->count; ++i) {
    if (node->level == 0) {
      const Entry& entry = entries(node)[i];
      sum.newest = std::max(sum.newest, entry.main);
      sum.trim_and_flags += is_trimmable(entry) ? 1 : 0;
      if (is_live(entry)) {
        ++sum.live;
        sum.bytes += framed_size(entry.size);
      }
    } else {
      const Child& child = children(node)[i];
      sum.newest = std::max(sum.newest, child.newest);
      sum.trim_and_flags += trim_count(child);
      sum.live += child.live;
      sum.bytes += child.bytes;
    }
  }
  return sum;
}

std::string_view separator(std::string_view left, std::string_view right) {
  return right.substr(0, common_prefix(left, right) + 1);
}

void append_key(const Node* node, uint32_t at, std::string& out) {
  if (node->level > 0 && at == 0) return;
  out.append(prefix(node));
  out.append(suffix(node, at));
}

}  // namespace cairn::mvcc::detail
