// Histories: appends to them, and removes revisions that a compaction made superfluous.
#include "mvcc/index/index_writer.h"

namespace cairn::mvcc {

using namespace detail;

using Chunk = Index::Writer::Chunk;

namespace {

uint32_t items_in(const Chunk* chunk) { return chunk->count.load(std::memory_order_relaxed); }

HistoryItem item_of(const Entry& entry) {
  return {.main = entry.main, .sub_and_flags = entry.sub_and_flags & (kSubMask | kDead), .size = entry.size};
}

void push(Chunk* chunk, const HistoryItem& item) {
  const uint32_t count = items_in(chunk);
  CAIRN_ASSERT(count < chunk->cap);
  chunk->items()[count] = item;
  chunk->count.store(count + 1, std::memory_order_release);
}

}  // namespace

// The history with `now` at its end; a key's first history begins with `before`.
Chunk* Index::Writer::append(Chunk* history, const Entry& before, const Entry& now) {
  if (history == nullptr) {
    history = make_chunk(kChunkItemsFirst);
    push(history, item_of(before));
  } else if (items_in(history) == history->cap) {
    // A good moment to look at the front: it comes once a chunk.
    const uint32_t retained = cut_front(history, pass_floor);
    Chunk* fresh_chunk = make_chunk(std::clamp(retained, kChunkItemsFirst, kChunkItemsMax));
    fresh_chunk->before.store(history, std::memory_order_release);
    history = fresh_chunk;
  }
  push(history, item_of(now));
  return history;
}

// Cuts off the chunks that lie wholly below the newest item at `floor`; returns the number of items left. Readers at
// or above the floor never look behind the cut.
uint32_t Index::Writer::cut_front(Chunk* history, int64_t floor) {
  uint32_t retained = 0;
  Chunk* chunk = history;
  while (chunk->items()[0].main > floor) {
    retained += items_in(chunk);
    chunk = chunk->before.load(std::memory_order_relaxed);
    if (chunk == nullptr) return retained;
  }
  retained += items_in(chunk);
  if (Chunk* older = chunk->before.load(std::memory_order_relaxed); older != nullptr) {
    chunk->before.store(nullptr, std::memory_order_release);
    drop_chunks(older);
  }
  return retained;
}

// The history that the entry shall have at the floor of the pass, which may be the same one; or `erase`: the entry
// is superfluous altogether.
Chunk* Index::Writer::trim_history(const Entry& entry, Chunk* history, bool& erase, uint64_t& visits) {
  ++visits;
  const int64_t floor = pass_floor;
  erase = false;
  if (history == nullptr) {
    erase = !is_live(entry) && entry.main < floor;
    return nullptr;
  }
  const Chunk* at = history;
  const HistoryItem* first = find_item(at, floor);
  if (first == nullptr) return history;  // all of it is newer
  if (first->dead() && first->main < floor) ++first;

  uint64_t retained = static_cast<uint64_t>(at->items() + items_in(at) - first);
  uint64_t room = at->cap;
  for (const Chunk* chunk = history; chunk != at; chunk = chunk->before.load(std::memory_order_relaxed)) {
    retained += items_in(chunk);
    room += chunk->cap;
    ++visits;
  }
  if (retained <= 1) {
    erase = retained == 0;
    drop_chunks(history);
    return nullptr;
  }
  cut_front(history, floor);
  if (room <= 2 * retained + 8) return history;

  // Most of it is empty or superfluous: a smaller one. needs no more than one chunk, since room was ample
  Chunk* tight = make_chunk(static_cast<uint32_t>(retained) + 1);
  visits += retained;
  std::vector<const Chunk*> in_order;
  for (const Chunk* chunk = history; chunk != at; chunk = chunk->before.load(std::memory_order_relaxed)) {
    in_order.push_back(chunk);
  }
  for (const HistoryItem* item = first; item != at->items() + items_in(at); ++item) push(tight, *item);
  for (auto chunk = in_order.rbegin(); chunk != in_order.rend(); ++chunk) {
    for (uint32_t i = 0; i < items_in(*chunk); ++i) push(tight, (*chunk)->items()[i]);
  }
  drop_chunks(history);
  return tight;
}

// Moves the path to the first leaf at or behind key `from` that has something to trim.
bool Index::Writer::next_trimmable(std::string_view from) {
  if (root == nullptr) return false;
  descend(from);
  if (depth == 1) return true;  // looked at again when it became the only one in the middle of a pass
  if (const Step& last = path[depth - 2]; trim_count(children(last.node)[last.at]) > 0) return true;
  for (int i = depth - 2; i >= 0; --i) {
    Step* step = &path[i];
    ++step->at;
    while (step->at < step->node->count && trim_count(children(step->node)[step->at]) == 0) ++step->at;
    if (step->at == step->node->count) continue;
    // Down again, to the first leaf below that has some.
    while (step->node->level > 0) {
      Node* below = children(step->node)[step->at].node;
      step = &path[++i];
      *step = {below, 0};
      if (below->level == 0) break;
      while (trim_count(children(below)[step->at]) == 0) ++step->at;
    }
    return true;
  }
  return false;
}

// Trims the leaf at the path's end; `next` becomes the key where the leaf behind it begins, empty: there is none.
// Returns the number of visits.
uint64_t Index::Writer::trim_leaf(std::string& next) {
  next.clear();
  for (int i = depth - 2; i >= 0 && next.empty(); --i) {
    if (path[i].at + 1 < path[i].node->count) append_key(path[i].node, path[i].at + 1, next);
  }
  Node* leaf = path[depth - 1].node;
  uint64_t visits = 1;
  bool any = false;
  Chunk* histories[kLeafMax];
  bool erased[kLeafMax];
  for (uint32_t i = 0; i < leaf->count; ++i) {
    const Entry& entry = entries(leaf)[i];
    histories[i] = history_of(leaf, i);
    erased[i] = false;
    if (!is_trimmable(entry)) continue;
    Chunk* const history = histories[i];
    histories[i] = trim_history(entry, history, erased[i], visits);
    any = any || erased[i] || histories[i] != history;
  }
  if (!any) return visits;

  own_path();
  scratch.reserve(leaf, nullptr, 0);
  scratch.add(leaf);
  std::vector<Slot>& all = scratch.all;
  int64_t trim = 0;
  size_t kept = 0;
  for (uint32_t i = 0; i < leaf->count; ++i) {
    Slot& slot = all[i];
    trim -= is_trimmable(slot.entry) ? 1 : 0;
    if (erased[i]) {
      if (slot.large != nullptr) drop(slot.large, slot.large->made, Kind::kLargeKey);
      continue;
    }
    slot.history = histories[i];
    if (histories[i] == nullptr) slot.entry.sub_and_flags &= ~kHasHistory;
    trim += is_trimmable(slot.entry) ? 1 : 0;
    all[kept++] = slot;
  }
  add_above({.trim = trim});
  Node* trimmed = make(0, all.data(), kept, leaf->prefix_bytes);
  drop_node(leaf);
  set_node(depth - 1, trimmed);
  mend(depth - 1);
  return visits;
}

bool Index::Writer::trim_step(int64_t floor, uint64_t entries_max) {
  const int64_t wanted = std::min(compact_revision, floor);
  located = false;
  if (!pass_active) {
    if (wanted <= pass_floor) return false;
    pass_floor = wanted;
    pass_active = true;
    pass_position.clear();
  }
  uint64_t visits = 0;
  std::string next;
  while (visits < entries_max) {
    if (!next_trimmable(pass_position)) {
      pass_active = false;
      return wanted > pass_floor;
    }
    visits += trim_leaf(next);
    if (next.empty()) {
      pass_active = false;
      return wanted > pass_floor;
    }
    pass_position.swap(next);
  }
  return true;
}

}  // namespace cairn::mvcc
