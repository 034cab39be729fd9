#include <algorithm>

#include "base/crc32c.h"
#include "mvcc/index/index_build.h"
#include "mvcc/index/index_checkpoint_format.h"
#include "mvcc/index/index_writer.h"

namespace cairn::mvcc {

using namespace detail;

namespace {

constexpr size_t kEntryBytesMax = 10 * 10;  // but for the key and older revisions
constexpr size_t kOlderBytesMax = 3 * 10;

template <class Int>
void append_le(std::string& out, Int value) {
  char bytes[sizeof value];
  store_le(bytes, value);
  out.append(bytes, sizeof bytes);
}

size_t shared_bytes(std::string_view a, std::string_view b) {
  const size_t most = std::min(a.size(), b.size());
  size_t i = 0;
  while (i < most && a[i] == b[i]) ++i;
  return i;
}

}  // namespace

struct IndexSaver::State {
  struct Step {
    const Node* node;
    uint32_t at;
  };
  enum class Phase : uint8_t { kHeader, kBlocks, kTrailer, kDone };

  const Node* root;
  int64_t revision;
  int64_t compacted;
  Phase phase = Phase::kHeader;
  std::vector<Step> path;  // to the entry that comes next; empty: none
  uint32_t crc = 0;
  uint64_t keys = 0;
  uint64_t live_keys = 0;
  std::string last_key;
  std::string key;
  std::string payload;  // only grows; the first `used` bytes count
  size_t used = 0;

  void down(const Node* node) {
    for (; node->level > 0; node = children(node)[0].node) path.push_back({node, 0});
    path.push_back({node, 0});
    // Histories lie anywhere: all of a leaf are fetched at once.
    for (uint32_t i = 0; i < node->count; ++i) {
      if (const Chunk* chunk = history_of(node, i); chunk != nullptr) __builtin_prefetch(chunk);
    }
  }
  void step() {
    while (!path.empty() && ++path.back().at == path.back().node->count) path.pop_back();
    if (path.empty() || path.back().node->level == 0) return;
    down(children(path.back().node)[path.back().at].node);
  }

  // The end of the payload, with room for `bytes` more.
  char* room(size_t bytes) {
    if (payload.size() < used + bytes) {
      payload.resize_and_overwrite(2 * (used + bytes), [](char*, size_t size) { return size; });
    }
    return payload.data() + used;
  }

  // Appends the entry at the path, unless a compaction at `compacted` makes it superfluous.
  bool append_entry(const Node* leaf, uint32_t at) {
    const Entry& entry = entries(leaf)[at];
    const bool dead = !is_live(entry);
    if (dead && entry.main < compacted) return false;
    const Chunk* const history = entry.main > compacted ? history_of(leaf, at) : nullptr;
    uint64_t older = 0;
    visit_older(history, revision_of(entry), [&older](const HistoryItem&) { ++older; });
    key.clear();
    append_key(leaf, at, key);
    const size_t shared = shared_bytes(key, last_key);
    const int64_t lease = lease_of(leaf, at);
    char* at_end = room(kEntryBytesMax + key.size());
    const auto add = [&at_end](uint64_t value) { at_end = wire::put_varint(at_end, value); };
    add(shared);
    add(key.size() - shared);
    at_end = wire::put_bytes(at_end, std::string_view(key).substr(shared));
    add((dead ? kFlagDead : 0) | (lease != 0 ? kFlagLease : 0) | (older != 0 ? kFlagHistory : 0));
    add(static_cast<uint64_t>(revision - entry.main));
    add(entry.sub_and_flags & kSubMask);
    add(entry.size);
    if (!dead) {
      add(static_cast<uint64_t>(entry.main - entry.create));
      add(static_cast<uint64_t>(entry.version));
      if (lease != 0) add(static_cast<uint64_t>(lease));
      ++live_keys;
    }
    if (older != 0) add(older);
    used = static_cast<size_t>(at_end - payload.data());
    // There may be millions, so they are written as they are met and not collected first.
    int64_t newer = entry.main;
    visit_older(history, revision_of(entry), [&](const HistoryItem& item) {
      at_end = room(kOlderBytesMax);
      add(static_cast<uint64_t>(newer - item.main));
      add((uint64_t{item.sub_and_flags & kSubMask} << 1) | (item.dead() ? 1 : 0));
      add(item.size);
      used = static_cast<size_t>(at_end - payload.data());
      newer = item.main;
    });
    ++keys;
    last_key.swap(key);
    return true;
  }

  // From new to old, without the newest; what later roots appended is passed over.
  // It is walked twice with the same result: below `newest` nothing is added, and what the pin holds is not trimmed.
  template <class Take>
  void visit_older(const Chunk* chunk, Revision newest, const Take& take) const {
    for (; chunk != nullptr; chunk = chunk->before.load(std::memory_order_acquire)) {
      for (uint32_t i = chunk->count.load(std::memory_order_acquire); i-- > 0;) {
        const HistoryItem& item = chunk->items()[i];
        if (item.revision() >= newest) continue;
        if (item.dead() && item.main < compacted) return;
        take(item);
        if (item.main <= compacted) return;
      }
    }
  }
};

IndexSaver::IndexSaver(const IndexRoot& root, int64_t compacted, std::string scratch)
    : state_(std::make_unique<State>()) {
  state_->payload = std::move(scratch);
  state_->root = root.node_;
  state_->revision = root.revision_;
  state_->compacted = std::max<int64_t>(compacted, 0);
  if (root.node_ != nullptr) state_->down(root.node_);
}
IndexSaver::~IndexSaver() = default;

std::string IndexSaver::take_scratch() { return std::move(state_->payload); }

bool IndexSaver::next(std::string& out, uint64_t keys_max) {
  State& state = *state_;
  switch (state.phase) {
    case State::Phase::kHeader: {
      std::string rest;
      append_le(rest, state.revision);
      append_le(rest, state.compacted);
      state.crc = crc32c(0, rest);
      out.append(kCheckpointMagic);
      append_le(out, state.crc);
      out.append(rest);
      state.phase = state.path.empty() ? State::Phase::kTrailer : State::Phase::kBlocks;
      return true;
    }
    case State::Phase::kBlocks: {
      state.used = 0;
      state.last_key.clear();
      uint32_t keys = 0;
      // Dead keys that are left out count too: a piece is a bounded amount of work.
      for (uint64_t visits = 0; visits < std::max<uint64_t>(keys_max, 1) && !state.path.empty(); ++visits) {
        if (state.used > (1 << 20)) break;
        const auto& place = state.path.back();
        if (state.append_entry(place.node, place.at)) ++keys;
        state.step();
      }
      if (state.path.empty()) state.phase = State::Phase::kTrailer;
      if (keys == 0) return true;
      const std::string_view payload(state.payload.data(), state.used);
      state.crc = crc32c(state.crc, payload);
      append_le(out, static_cast<uint32_t>(payload.size()));
      append_le(out, keys);
      append_le(out, state.crc);
      out.append(payload);
      return true;
    }
    case State::Phase::kTrailer: {
      std::string counts;
      append_le(counts, state.keys);
      append_le(counts, state.live_keys);
      append_le(out, uint32_t{0});
      out.append(counts);
      append_le(out, crc32c(state.crc, counts));
      state.phase = State::Phase::kDone;
      return true;
    }
    case State::Phase::kDone: break;
  }
  return false;
}

}  // namespace cairn::mvcc
