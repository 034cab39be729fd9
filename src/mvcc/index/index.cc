#include "mvcc/index/index.h"

#include "mvcc/index/index_writer.h"

namespace cairn::mvcc {

static_assert(detail::kSubMask == kSubMax);

using namespace detail;

Index::Index() : writer_(std::make_unique<Writer>()) {}
Index::~Index() = default;

const KeyState& Index::locate(std::string_view key) {
  writer_->locate(key);
  return writer_->state;
}

KeyState Index::put(std::string_view key, Revision revision, uint32_t size, int64_t lease) {
  const KeyState before = locate(key);
  CAIRN_ASSERT(revision > before.mod && revision.sub >= 0 && revision.sub <= int64_t{kSubMask});
  Writer::NewEntry next;
  next.entry = {.main = revision.main,
                .create = before.next_create(revision.main),
                .version = before.next_version(),
                .sub_and_flags = static_cast<uint32_t>(revision.sub) | (lease != 0 ? kHasLease : 0),
                .size = size};
  next.lease = lease;
  writer_->write(key, next);
  return before;
}

KeyState Index::remove(std::string_view key, Revision revision) {
  const KeyState before = locate(key);
  if (!before.live) return before;
  CAIRN_ASSERT(revision > before.mod);
  restore({.key = key, .mod = revision, .tombstone = true});
  return before;
}

void Index::restore(const IndexRecord& record) {
  const KeyState& before = locate(record.key);
  if (record.mod <= before.mod) return;
  CAIRN_ASSERT(record.mod.sub >= 0 && record.mod.sub <= int64_t{kSubMask});
  writer_->write(record.key, Writer::from_record(record));
}

IndexRoot Index::working() const { return IndexRoot(writer_->root, writer_->batch, writer_->newest_main); }

const IndexRoot& Index::publish(int64_t revision) {
  CAIRN_ASSERT(revision >= writer_->newest_main);
  published_ = IndexRoot(writer_->root, writer_->batch, revision);
  ++writer_->batch;
  writer_->located = false;
  return published_;
}

// What was made before counts as of an older batch, which nobody holds.
void Index::number_batches_from(uint64_t batch) {
  CAIRN_ASSERT(published_.batch() == 0 && batch >= writer_->batch);
  writer_->batch = batch;
  writer_->located = false;
}

void Index::compact(int64_t revision) { writer_->compact_revision = std::max(writer_->compact_revision, revision); }
int64_t Index::compacted() const { return writer_->compact_revision; }
bool Index::trim_step(int64_t floor, uint64_t entries_max) { return writer_->trim_step(floor, entries_max); }

bool Index::reclaim(std::span<const uint64_t> held_batches, uint64_t blocks_max) {
  return writer_->reclaim(held_batches, blocks_max);
}

IndexStats Index::stats() const {
  const Writer& writer = *writer_;
  return {.keys = writer.root == nullptr ? 0 : summary(writer.root).live,
          .nodes = writer.nodes,
          .history_chunks = writer.chunks,
          .large_keys = writer.large_keys,
          .retired_blocks = writer.retired_count,
          .retired_bytes = writer.retired_bytes,
          .block_bytes = writer.arena.block_bytes() + writer.history_arena.block_bytes(),
          .reserved_bytes = writer.arena.reserved_bytes() + writer.history_arena.reserved_bytes()};
}

void Index::adopt(std::unique_ptr<Writer> writer) {
  CAIRN_ASSERT(writer_->root == nullptr && writer_->batch == 1);
  writer_ = std::move(writer);
}

void Index::check() const { writer_->check(); }

// --- Writer: one key ---

Index::Writer::~Writer() {
  if (root != nullptr) free_tree(root);
  for (const Retired& retired : fresh) free_retired(retired);
  for (const auto& [held, group] : waiting) {
    for (const Retired& retired : group) free_retired(retired);
  }
  CAIRN_ASSERT(arena.blocks() == 0 && history_arena.blocks() == 0 && retired_count == 0 && retired_bytes == 0);
}

Index::Writer::NewEntry Index::Writer::from_record(const IndexRecord& record) {
  NewEntry next;
  next.entry = {.main = record.mod.main,
                .create = record.create,
                .version = record.version,
                .sub_and_flags = static_cast<uint32_t>(record.mod.sub) | (record.lease != 0 ? kHasLease : 0),
                .size = record.size};
  next.lease = record.lease;
  if (record.tombstone) {
    next.entry.create = 0;
    next.entry.version = 0;
    next.entry.sub_and_flags = static_cast<uint32_t>(record.mod.sub) | kDead;
    next.entry.size = static_cast<uint32_t>(wire::bytes_field_size(1, record.key.size()));
    next.lease = 0;
  }
  return next;
}

KeyState Index::Writer::state_at(const Node* leaf, uint32_t at) {
  const Entry& entry = entries(leaf)[at];
  return {.live = is_live(entry),
          .mod = revision_of(entry),
          .size = entry.size,
          .create = entry.create,
          .version = entry.version,
          .lease = lease_of(leaf, at)};
}

void Index::Writer::descend(std::string_view key) {
  depth = 0;
  found = false;
  Node* node = root;
  if (node == nullptr) return;
  while (node->level > 0) {
    const uint32_t at = child_for(node, key);
    Node* below = children(node)[at].node;
    detail::prefetch(below, kCopyLines);  // it is about to be copied as a whole
    CAIRN_ASSERT(below->level + 1 == node->level && depth + 2 < kLevelsMax);
    path[depth++] = {node, at};
    node = below;
  }
  const Found place = lower_bound(node, 0, key);
  path[depth++] = {node, place.at};
  found = place.equal;
}

void Index::Writer::locate(std::string_view key) {
  CAIRN_ASSERT(!key.empty());
  if (located && located_key == key) return;
  descend(key);
  located = true;
  located_key = key;
  state = found ? state_at(path[depth - 1].node, path[depth - 1].at) : KeyState{};
  // Most likely a put follows, and appends to the history.
  if (found) __builtin_prefetch(history_of(path[depth - 1].node, path[depth - 1].at), 1);
}

void Index::Writer::write(std::string_view key, const NewEntry& next) {
  locate(key);
  located = false;
  newest_main = std::max(newest_main, next.entry.main);
  if (found) {
    update_entry(next);
  } else {
    insert_entry(key, next);
  }
}

void Index::Writer::update_entry(const NewEntry& next) {
  own_path();
  const auto [leaf, at] = path[depth - 1];
  const Entry before = entries(leaf)[at];
  const uint32_t old_extra = extra_bytes(before.sub_and_flags);
  Chunk* history = append(history_of(leaf, at), before, next.entry);

  Entry now = next.entry;
  now.sub_and_flags |= kHasHistory | (before.sub_and_flags & kLarge);
  const uint32_t new_extra = extra_bytes(now.sub_and_flags);
  Node* changed =
      reshape(leaf, at, false, ends(leaf)[at], static_cast<int32_t>(new_extra) - static_cast<int32_t>(old_extra));
  set_node(depth - 1, changed);
  entries(changed)[at] = now;
  char* extra = heap(changed) + ends(changed)[at] - new_extra;
  if (next.lease != 0) {
    store_le(extra, next.lease);
    extra += 8;
  }
  store_le(extra, history);

  Delta delta{.trim = is_trimmable(before) ? 0 : 1, .newest = now.main};
  if (is_live(before)) {
    --delta.live;
    delta.bytes -= static_cast<int64_t>(framed_size(before.size));
  }
  if (is_live(now)) {
    ++delta.live;
    delta.bytes += static_cast<int64_t>(framed_size(now.size));
  }
  add_above(delta);
}

void Index::Writer::insert_entry(std::string_view key, const NewEntry& next) {
  Slot slot = slot_for(key);
  slot.entry = next.entry;
  slot.lease = next.lease;
  if (root == nullptr) {
    root = make(0, &slot, 1, 0);
    return;
  }
  own_path();
  const bool live = is_live(next.entry);
  add_above({.live = live ? 1 : 0,
             .bytes = live ? static_cast<int64_t>(framed_size(next.entry.size)) : 0,
             .trim = live ? 0 : 1,
             .newest = next.entry.main});
  insert_slot(depth - 1, path[depth - 1].at, slot);
}

}  // namespace cairn::mvcc
