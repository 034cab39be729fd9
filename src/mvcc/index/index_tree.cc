// Nodes: making them the batch's own, splitting, merging; and giving blocks back.
#include <utility>

#include "mvcc/index/index_writer.h"

namespace cairn::mvcc {

using namespace detail;

using Node = Index::Writer::Node;

namespace {

uint32_t slots_max(const Node* node) { return node->level == 0 ? kLeafMax : kInnerMax; }
uint32_t slots_min(const Node* node) { return node->level == 0 ? kLeafMin : kInnerMin; }

// The key of the slot stays.
void set_child(Node* inner, uint32_t at, Child child) {
  child.trim_and_flags |= slot_flags(inner, at) & kLarge;
  children(inner)[at] = child;
}

}  // namespace

void Index::Writer::set_node(int i, Node* fresh_node) {
  path[i].node = fresh_node;
  if (i == 0) {
    root = fresh_node;
  } else {
    children(path[i - 1].node)[path[i - 1].at].node = fresh_node;
  }
}

void Index::Writer::own_path() {
  for (int i = 0; i + 1 < depth; ++i) {
    Node* node = path[i].node;
    if (!own(node)) set_node(i, reshape(node, node->count, false, node->heap_used, 0));
  }
}

void Index::Writer::add_above(const Delta& delta) {
  for (int i = 0; i + 1 < depth; ++i) {
    Child& child = children(path[i].node)[path[i].at];
    child.live = static_cast<uint32_t>(child.live + delta.live);
    child.bytes = static_cast<uint64_t>(static_cast<int64_t>(child.bytes) + delta.bytes);
    child.trim_and_flags = static_cast<uint32_t>(child.trim_and_flags + delta.trim);
    child.newest = std::max(child.newest, delta.newest);
  }
}

Node* Index::Writer::reshape(Node* node, uint32_t at, bool new_slot, uint32_t offset, int32_t bytes) {
  const bool mine = own(node);
  const uint32_t old_count = node->count;
  const uint32_t count = old_count + (new_slot ? 1 : 0);
  const auto heap_used = static_cast<uint32_t>(node->heap_used + bytes);
  const uint32_t after = node->heap_used - offset;  // bytes of records behind the change
  const auto moved_to = static_cast<uint32_t>(static_cast<int32_t>(offset) + bytes);
  Node* to = node;
  if (!mine || count > node->cap || heap_used > node->heap_cap) {
    const uint32_t cap = (count + 3) & ~3u;
    // A node that this batch changes a second time is likely to be changed again.
    const uint32_t slack = mine && new_slot ? (cap - count) * (heap_used / count) : 0;
    to = static_cast<Node*>(arena.allocate(node_bytes(cap, node->prefix_bytes, heap_used + slack)));
    ++nodes;
    std::memcpy(raw(to), raw(node), kNodeHeaderBytes);
    to->made = batch;
    to->cap = static_cast<uint16_t>(cap);
    const size_t room = Arena::usable(to) - node_bytes(cap, node->prefix_bytes, 0);
    to->heap_cap = static_cast<uint16_t>(std::min<size_t>(room, UINT16_MAX));
    std::memcpy(heads(to), heads(node), at * sizeof(uint32_t));
    std::memcpy(ends(to), ends(node), at * sizeof(uint16_t));
    std::memcpy(slots(to), slots(node), at * kSlotBytes);
    std::memcpy(raw(to) + prefix_offset(cap), prefix(node).data(), node->prefix_bytes);
    std::memcpy(heap(to), heap(node), std::min(offset, moved_to));
  }
  const uint32_t shift = new_slot ? 1 : 0;
  const uint32_t rest = old_count - at;
  std::memmove(heads(to) + at + shift, heads(node) + at, rest * sizeof(uint32_t));
  std::memmove(slots(to) + (at + shift) * kSlotBytes, slots(node) + at * kSlotBytes, rest * kSlotBytes);
  std::memmove(heap(to) + moved_to, heap(node) + offset, after);
  uint16_t* to_ends = ends(to);
  const uint16_t* from_ends = ends(node);
  for (uint32_t i = old_count; i-- > at;) to_ends[i + shift] = static_cast<uint16_t>(from_ends[i] + bytes);
  if (new_slot) to_ends[at] = static_cast<uint16_t>(moved_to);
  to->count = static_cast<uint16_t>(count);
  to->heap_used = static_cast<uint16_t>(heap_used);
  if (to != node) drop_node(node);
  return to;
}

Node* Index::Writer::make(uint8_t level, const Slot* from, size_t count, size_t prefix_hint) {
  ++nodes;
  return encode(arena, batch, level, from, static_cast<uint32_t>(count), prefix_hint);
}

Index::Writer::Slot Index::Writer::slot_for(std::string_view key) {
  Slot slot{.key = key, .entry = {}, .lease = 0, .history = nullptr, .large = nullptr};
  if (key.size() > kInlineKeyBytesMax) {
    slot.large = make_large(key);
    slot.key = slot.large->view();
  }
  return slot;
}

// The path's inner nodes are own, and the sums above the node count the slot already.
void Index::Writer::insert_slot(int i, uint32_t at, const Slot& slot) {
  Node* node = path[i].node;
  if (node->count < slots_max(node) && slot.large == nullptr && slot.key.starts_with(prefix(node))) {
    const std::string_view tail = slot.key.substr(node->prefix_bytes);
    const uint32_t extra = node->level == 0 && slot.lease != 0 ? 8 : 0;
    const auto bytes = static_cast<uint32_t>(tail.size() + extra);
    const uint32_t begin = record_begin(node, at);
    Node* wider = reshape(node, at, true, begin, static_cast<int32_t>(bytes));
    set_node(i, wider);
    heads(wider)[at] = head_of(tail);
    std::memcpy(slots(wider) + at * kSlotBytes, static_cast<const void*>(&slot.entry), kSlotBytes);
    char* to = static_cast<char*>(std::memcpy(heap(wider) + begin, tail.data(), tail.size())) + tail.size();
    if (extra != 0) store_le(to, slot.lease);
    return;
  }
  scratch.reserve(node, nullptr, 0);
  scratch.add(node);
  scratch.all.insert(scratch.all.begin() + at, slot);
  if (scratch.all.size() > slots_max(node)) {
    split(i, at);
    return;
  }
  Node* wider = make(node->level, scratch.all.data(), scratch.all.size(), node->prefix_bytes);
  drop_node(node);
  set_node(i, wider);
}

// The slots of the node at level `i` are in scratch, one too many.
void Index::Writer::split(int i, uint32_t inserted_at) {
  Node* node = path[i].node;
  const uint8_t level = node->level;
  std::vector<Slot>& all = scratch.all;
  // Keys that come in ascending order leave full nodes behind.
  bool at_right_edge = inserted_at + 1 == all.size();
  for (int j = 0; j < i; ++j) at_right_edge = at_right_edge && path[j].at + 1 == path[j].node->count;
  const size_t left_count = !at_right_edge ? all.size() / 2 : all.size() - (level == 0 ? 1 : 2);

  Slot up;
  std::string up_key;  // scratch is used again further up
  if (level == 0) {
    up_key = separator(all[left_count - 1].key, all[left_count].key);
    up = slot_for(up_key);
  } else {
    up = all[left_count];
    if (up.large == nullptr) up_key = up.key;
  }
  if (up.large == nullptr) up.key = up_key;

  Node* left = make(level, all.data(), left_count, node->prefix_bytes);
  Node* right = make(level, all.data() + left_count, all.size() - left_count, node->prefix_bytes);
  drop_node(node);
  up.child = summary(right);
  if (i == 0) {
    Slot first{.key = {}, .child = summary(left), .lease = 0, .history = nullptr, .large = nullptr};
    const Slot both[2] = {first, up};
    root = make(static_cast<uint8_t>(level + 1), both, 2, 0);
    return;
  }
  set_child(path[i - 1].node, path[i - 1].at, summary(left));
  insert_slot(i - 1, path[i - 1].at + 1, up);
}

// Removes child `at` from the inner node at level `i`; the child and a large key stay the caller's.
void Index::Writer::erase_child(int i, uint32_t at) {
  Node* node = path[i].node;
  scratch.reserve(node, nullptr, 0);
  scratch.add(node);
  scratch.all.erase(scratch.all.begin() + at);
  Node* narrower = make(node->level, scratch.all.data(), scratch.all.size(), 0);
  drop_node(node);
  set_node(i, narrower);
}

// The node at level `i` may have become too small: merges it with a neighbour or shares with it, up to the root.
void Index::Writer::mend(int i) {
  Node* node = path[i].node;
  if (i == 0) {
    if (node->count == 0) {
      drop_node(node);
      root = nullptr;
      return;
    }
    while (root->level > 0 && root->count == 1) {
      Node* only = children(root)[0].node;
      drop_node(root);
      root = only;
    }
    return;
  }
  if (node->count >= slots_min(node)) return;

  Node* parent = path[i - 1].node;
  CAIRN_ASSERT(parent->count >= 2);
  const uint32_t left_at = path[i - 1].at + 1 < parent->count ? path[i - 1].at : path[i - 1].at - 1;
  Node* left = children(parent)[left_at].node;
  Node* right = children(parent)[left_at + 1].node;
  std::string between;
  append_key(parent, left_at + 1, between);
  LargeKey* between_large = (slot_flags(parent, left_at + 1) & kLarge) != 0 ? large_key(parent, left_at + 1) : nullptr;

  scratch.reserve(left, right, 0);
  scratch.add(left);
  scratch.add(right);
  std::vector<Slot>& all = scratch.all;
  if (node->level > 0) {
    // The key between them comes down to the right one's first child.
    all[left->count].large = between_large;
    all[left->count].key = between_large != nullptr ? between_large->view() : std::string_view(between);
  }
  const uint8_t level = node->level;
  const bool merge = all.size() <= slots_max(node);
  const size_t left_count = merge ? all.size() : all.size() / 2;
  path[i - 1].at = left_at;
  Slot up;
  std::string up_key;
  if (!merge) {
    if (level == 0) {
      up_key = separator(all[left_count - 1].key, all[left_count].key);
      up = slot_for(up_key);
    } else {
      up = all[left_count];
      up_key = up.key;
    }
    if (up.large == nullptr) up.key = up_key;
    Node* second = make(level, all.data() + left_count, all.size() - left_count, 0);
    up.child = summary(second);
  }
  Node* first = make(level, all.data(), left_count, 0);
  set_child(parent, left_at, summary(first));
  drop_node(left);
  drop_node(right);
  erase_child(i - 1, left_at + 1);
  if (level == 0 && between_large != nullptr) drop(between_large, between_large->made, Kind::kLargeKey);
  if (merge) {
    mend(i - 1);
  } else {
    insert_slot(i - 1, left_at + 1, up);
  }
}

// --- blocks ---

LargeKey* Index::Writer::make_large(std::string_view key) {
  auto* large = static_cast<LargeKey*>(arena.allocate(sizeof(LargeKey) + key.size()));
  large->made = batch;
  large->size = key.size();
  std::memcpy(large->bytes(), key.data(), key.size());
  ++large_keys;
  return large;
}

Chunk* Index::Writer::make_chunk(uint32_t cap) {
  static_assert(sizeof(Chunk) % alignof(HistoryItem) == 0);
  auto* chunk = new (history_arena.allocate(sizeof(Chunk) + cap * sizeof(HistoryItem))) Chunk;
  chunk->before.store(nullptr, std::memory_order_relaxed);
  chunk->made = batch;
  chunk->count.store(0, std::memory_order_relaxed);
  chunk->cap = cap;
  ++chunks;
  return chunk;
}

void Index::Writer::drop(void* block, uint64_t made, Kind kind) {
  const Retired retired{.block = block, .made = made, .replaced = batch, .kind = kind};
  if (made == batch) {
    free_block(retired);  // nobody else has seen it
  } else {
    ++retired_count;
    retired_bytes += Arena::usable(block);
    fresh.push_back(retired);
  }
}

void Index::Writer::drop_chunks(Chunk* chunk) {
  while (chunk != nullptr) {
    Chunk* older = chunk->before.load(std::memory_order_relaxed);
    drop(chunk, chunk->made, Kind::kChunk);
    chunk = older;
  }
}

void Index::Writer::free_block(const Retired& retired) {
  switch (retired.kind) {
    case Kind::kNode:
      static_cast<Node*>(retired.block)->level = kLevelFreed;
      --nodes;
      break;
    case Kind::kChunk: --chunks; break;
    case Kind::kLargeKey: --large_keys; break;
  }
  (retired.kind == Kind::kChunk ? history_arena : arena).free(retired.block);
}

void Index::Writer::free_retired(const Retired& retired) {
  --retired_count;
  retired_bytes -= Arena::usable(retired.block);
  free_block(retired);
}

bool Index::Writer::reclaim(std::span<const uint64_t> held, uint64_t blocks_max) {
  const uint64_t newest = batch - 1;
  const auto is_held = [&](uint64_t number) {
    return number == newest || std::binary_search(held.begin(), held.end(), number);
  };
  uint64_t left = blocks_max;
  // Frees the block, or lets it wait for the lowest held batch that sees it.
  const auto settle = [&](const Retired& retired) {
    const auto first = std::lower_bound(held.begin(), held.end(), retired.made);
    const uint64_t sees = first == held.end() ? newest : std::min(*first, newest);
    const bool seen = sees < retired.replaced;
    if (seen && !CAIRN_MUTANT("mvcc.node_freed_under_root")) {
      waiting[sees].push_back(retired);
    } else {
      free_retired(retired);
    }
  };
  for (auto group = waiting.begin(); group != waiting.end();) {
    if (is_held(group->first)) {
      ++group;
      continue;
    }
    while (!group->second.empty()) {
      if (left-- == 0) return true;
      const Retired retired = group->second.back();
      group->second.pop_back();
      settle(retired);
    }
    group = waiting.erase(group);
  }
  // The newest root still sees the blocks that this batch replaced.
  while (!fresh.empty() && fresh.front().replaced < batch) {
    if (left-- == 0) return true;
    if (fresh.size() > 8) {
      __builtin_prefetch(static_cast<const char*>(fresh[8].block) - 8);
      Arena::prefetch_for_free(fresh[4].block);
    }
    const Retired retired = fresh.front();
    fresh.pop_front();
    settle(retired);
  }
  return false;
}

void Index::Writer::absorb_blocks(Writer& other) {
  CAIRN_ASSERT(other.root == nullptr && other.batch == batch && other.retired_count == 0);
  arena.absorb(other.arena);
  history_arena.absorb(other.history_arena);
  nodes += std::exchange(other.nodes, 0);
  chunks += std::exchange(other.chunks, 0);
  large_keys += std::exchange(other.large_keys, 0);
}

void Index::Writer::free_tree(Node* node) {
  const uint64_t none = 0;
  for (uint32_t i = 0; i < node->count; ++i) {
    if (node->level > 0) {
      free_tree(children(node)[i].node);
      if (i == 0) continue;
    } else {
      for (Chunk* chunk = history_of(node, i); chunk != nullptr;) {
        Chunk* older = chunk->before.load(std::memory_order_relaxed);
        free_block({chunk, none, none, Kind::kChunk});
        chunk = older;
      }
    }
    if ((slot_flags(node, i) & kLarge) != 0) {
      free_block({large_key(node, i), none, none, Kind::kLargeKey});
    }
  }
  free_block({node, none, none, Kind::kNode});
}

}  // namespace cairn::mvcc
