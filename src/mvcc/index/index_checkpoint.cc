#include <algorithm>

#include "base/crc32c.h"
#include "mvcc/index/index_build.h"
#include "mvcc/index/index_writer.h"

namespace cairn::mvcc {

using namespace detail;

// A key in a block's payload, all numbers varints:
//     bytes shared with the key before it in the block | more bytes | those bytes | flags | revision - main | sub |
//     size | live: main - create, version, lease if any | older revisions, if any: their number, then from new to
//     old: newer main - main, sub * 2 + dead, size
namespace {

constexpr std::string_view kMagic = "CAIRNIX1";
constexpr size_t kHeaderBytes = 8 + 4 + 8 + 8;
constexpr size_t kBlockHeaderBytes = 12;
constexpr size_t kTrailerBytes = 4 + 16 + 4;
constexpr size_t kEntryBytesMax = 10 * 10;  // but for the key and older revisions
constexpr size_t kOlderBytesMax = 3 * 10;
constexpr uint64_t kFlagDead = 1;
constexpr uint64_t kFlagLease = 2;
constexpr uint64_t kFlagHistory = 4;

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
  std::vector<HistoryItem> older;

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
    if (payload.size() < used + bytes) payload.resize(2 * (used + bytes));
    return payload.data() + used;
  }

  // Appends the entry at the path, unless a compaction at `compacted` makes it superfluous.
  bool append_entry(const Node* leaf, uint32_t at) {
    const Entry& entry = entries(leaf)[at];
    const bool dead = !is_live(entry);
    if (dead && entry.main < compacted) return false;
    older.clear();
    if (entry.main > compacted) collect_older(history_of(leaf, at), revision_of(entry));
    key.clear();
    append_key(leaf, at, key);
    const size_t shared = shared_bytes(key, last_key);
    const int64_t lease = lease_of(leaf, at);
    char* at_end = room(kEntryBytesMax + key.size() + older.size() * kOlderBytesMax);
    const auto add = [&at_end](uint64_t value) { at_end = wire::put_varint(at_end, value); };
    add(shared);
    add(key.size() - shared);
    at_end = wire::put_bytes(at_end, std::string_view(key).substr(shared));
    add((dead ? kFlagDead : 0) | (lease != 0 ? kFlagLease : 0) | (!older.empty() ? kFlagHistory : 0));
    add(static_cast<uint64_t>(revision - entry.main));
    add(entry.sub_and_flags & kSubMask);
    add(entry.size);
    if (!dead) {
      add(static_cast<uint64_t>(entry.main - entry.create));
      add(static_cast<uint64_t>(entry.version));
      if (lease != 0) add(static_cast<uint64_t>(lease));
      ++live_keys;
    }
    if (!older.empty()) {
      add(older.size());
      int64_t newer = entry.main;
      for (const HistoryItem& item : older) {
        add(static_cast<uint64_t>(newer - item.main));
        add((uint64_t{item.sub_and_flags & kSubMask} << 1) | (item.dead() ? 1 : 0));
        add(item.size);
        newer = item.main;
      }
    }
    used = static_cast<size_t>(at_end - payload.data());
    ++keys;
    last_key.swap(key);
    return true;
  }

  // From new to old, without the newest; what later roots appended is passed over.
  void collect_older(const Chunk* chunk, Revision newest) {
    for (; chunk != nullptr; chunk = chunk->before.load(std::memory_order_acquire)) {
      for (uint32_t i = chunk->count.load(std::memory_order_acquire); i-- > 0;) {
        const HistoryItem& item = chunk->items()[i];
        if (item.revision() >= newest) continue;
        if (item.dead() && item.main < compacted) return;
        older.push_back(item);
        if (item.main <= compacted) return;
      }
    }
  }
};

IndexSaver::IndexSaver(const IndexRoot& root, int64_t compacted) : state_(std::make_unique<State>()) {
  state_->root = root.node_;
  state_->revision = root.revision_;
  state_->compacted = std::max<int64_t>(compacted, 0);
  if (root.node_ != nullptr) state_->down(root.node_);
}
IndexSaver::~IndexSaver() = default;

bool IndexSaver::next(std::string& out, uint64_t keys_max) {
  State& state = *state_;
  switch (state.phase) {
    case State::Phase::kHeader: {
      std::string rest;
      append_le(rest, state.revision);
      append_le(rest, state.compacted);
      state.crc = crc32c(0, rest);
      out.append(kMagic);
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

// --- loading ---

namespace {

class Input {
 public:
  explicit Input(std::string_view bytes) : at_(bytes.data()), end_(bytes.data() + bytes.size()) {}
  uint64_t varint() {
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64 && at_ != end_; shift += 7) {
      const auto byte = static_cast<uint8_t>(*at_++);
      value |= uint64_t{byte & 0x7fu} << shift;
      if (byte < 0x80) return value;
    }
    ok_ = false;
    return 0;
  }
  std::string_view bytes(uint64_t size) {
    if (size > static_cast<uint64_t>(end_ - at_)) {
      ok_ = false;
      return {};
    }
    const std::string_view out(at_, size);
    at_ += size;
    return out;
  }
  [[nodiscard]] bool ok() const { return ok_; }
  [[nodiscard]] bool done() const { return at_ == end_; }

 private:
  const char* at_;
  const char* end_;
  bool ok_ = true;
};

class Loader {
 public:
  Loader(Index::Writer& writer, int64_t revision) : writer_(writer), load_(writer), revision_(revision) {}

  // False: the payload is not what a saver writes.
  bool block(std::string_view payload, uint32_t keys) {
    Input in(payload);
    const bool first_block = keys_ == 0;
    std::string before;
    before.swap(key_);
    for (uint32_t i = 0; i < keys; ++i) {
      const uint64_t shared = in.varint();
      const uint64_t more = in.varint();
      const std::string_view tail = in.bytes(more);
      if (!in.ok() || shared > key_.size() || shared + more == 0) return false;
      // Ascending: the first byte that differs is higher, or the last key was a prefix.
      if (i == 0) {
        if (shared != 0 || (!first_block && tail <= before)) return false;
      } else if (more == 0 ||
                 (shared < key_.size() && static_cast<uint8_t>(tail[0]) <= static_cast<uint8_t>(key_[shared]))) {
        return false;
      }
      key_.resize(shared);
      key_.append(tail);
      if (!entry(in)) return false;
    }
    return in.done();
  }
  void finish() { load_.finish(); }
  [[nodiscard]] uint64_t keys() const { return keys_; }
  [[nodiscard]] uint64_t live_keys() const { return live_keys_; }

 private:
  bool entry(Input& in) {
    const uint64_t flags = in.varint();
    const uint64_t age = in.varint();
    const uint64_t sub = in.varint();
    const uint64_t size = in.varint();
    if (age >= static_cast<uint64_t>(revision_) || sub > kSubMask || size > UINT32_MAX) return false;
    if (flags > (kFlagDead | kFlagLease | kFlagHistory)) return false;
    const bool dead = (flags & kFlagDead) != 0;
    Slot slot{.key = key_, .entry = {}, .lease = 0, .history = nullptr, .large = nullptr};
    Entry& entry = slot.entry;
    entry.main = revision_ - static_cast<int64_t>(age);
    entry.sub_and_flags = static_cast<uint32_t>(sub) | (dead ? kDead : 0);
    entry.size = static_cast<uint32_t>(size);
    if (!dead) {
      const uint64_t life = in.varint();
      entry.version = static_cast<int64_t>(in.varint());
      if (life > static_cast<uint64_t>(entry.main) || entry.version <= 0) return false;
      entry.create = entry.main - static_cast<int64_t>(life);
      if ((flags & kFlagLease) != 0) {
        slot.lease = static_cast<int64_t>(in.varint());
        if (slot.lease == 0) return false;
        entry.sub_and_flags |= kHasLease;
      }
    }
    older_.clear();
    if ((flags & kFlagHistory) != 0) {
      if (!older(in, revision_of(entry))) return false;
      entry.sub_and_flags |= kHasHistory;
    }
    if (!in.ok()) return false;
    if (!older_.empty()) slot.history = history(entry);
    if (key_.size() > kInlineKeyBytesMax) {
      slot.large = writer_.make_large(key_);
      slot.key = slot.large->view();
    }
    load_.add(slot);
    ++keys_;
    if (!dead) ++live_keys_;
    return true;
  }

  bool older(Input& in, Revision newer) {
    const uint64_t count = in.varint();
    if (count == 0) return false;
    for (uint64_t i = 0; i < count; ++i) {
      const uint64_t step = in.varint();
      const uint64_t sub = in.varint();
      const uint64_t size = in.varint();
      if (!in.ok() || step >= static_cast<uint64_t>(newer.main) || sub >> 1 > kSubMask || size > UINT32_MAX) {
        return false;
      }
      const HistoryItem item{.main = newer.main - static_cast<int64_t>(step),
                             .sub_and_flags = static_cast<uint32_t>(sub >> 1) | ((sub & 1) != 0 ? kDead : 0),
                             .size = static_cast<uint32_t>(size)};
      if (item.revision() >= newer) return false;
      newer = item.revision();
      older_.push_back(item);
    }
    return true;
  }

  Chunk* history(const Entry& newest) {
    Chunk* chunk = nullptr;
    const auto push = [&](const HistoryItem& item, size_t left) {
      if (chunk == nullptr || chunk->count.load(std::memory_order_relaxed) == chunk->cap) {
        const size_t cap = std::clamp<size_t>(left, kChunkItemsFirst, kChunkItemsMax);
        Chunk* fresh = writer_.make_chunk(static_cast<uint32_t>(cap));
        fresh->before.store(chunk, std::memory_order_relaxed);
        chunk = fresh;
      }
      const uint32_t count = chunk->count.load(std::memory_order_relaxed);
      chunk->items()[count] = item;
      chunk->count.store(count + 1, std::memory_order_relaxed);
    };
    for (size_t i = older_.size(); i-- > 0;) push(older_[i], i + 2);
    push({newest.main, newest.sub_and_flags & (kSubMask | kDead), newest.size}, 1);
    return chunk;
  }

  Index::Writer& writer_;
  BulkLoad load_;
  int64_t revision_;
  std::string key_;
  std::vector<HistoryItem> older_;
  uint64_t keys_ = 0;
  uint64_t live_keys_ = 0;
};

std::unexpected<Error> damaged(std::string_view what, size_t offset) {
  return fail(Code::kDataLoss, "mvcc: index checkpoint: {} at offset {}", what, offset);
}

}  // namespace

Result<LoadedIndex> load_index(std::string_view bytes, Index& index) {
  Index::Writer& writer = index.writer();
  CAIRN_ASSERT(writer.root == nullptr && writer.batch == 1);
  if (bytes.size() < kHeaderBytes || !bytes.starts_with(kMagic)) return damaged("no header", 0);
  uint32_t crc = crc32c(0, bytes.substr(12, 16));
  if (crc != load_le<uint32_t>(bytes.data() + 8)) return damaged("checksum of the header", 8);
  LoadedIndex loaded{.revision = load_le<int64_t>(bytes.data() + 12), .compacted = load_le<int64_t>(bytes.data() + 20)};
  if (loaded.revision < 0 || loaded.compacted < 0) return damaged("revisions", 12);

  Loader loader(writer, loaded.revision);
  size_t at = kHeaderBytes;
  for (;;) {
    if (bytes.size() - at < kBlockHeaderBytes) return damaged("cut off", at);
    const auto size = load_le<uint32_t>(bytes.data() + at);
    if (size == 0) break;
    const auto keys = load_le<uint32_t>(bytes.data() + at + 4);
    if (bytes.size() - at - kBlockHeaderBytes < size) return damaged("cut off", at);
    const std::string_view payload = bytes.substr(at + kBlockHeaderBytes, size);
    crc = crc32c(crc, payload);
    if (crc != load_le<uint32_t>(bytes.data() + at + 8)) return damaged("checksum", at);
    if (!loader.block(payload, keys)) return damaged("block", at);
    at += kBlockHeaderBytes + size;
  }
  if (bytes.size() - at != kTrailerBytes) return damaged("trailer", at);
  const std::string_view counts = bytes.substr(at + 4, 16);
  if (crc32c(crc, counts) != load_le<uint32_t>(bytes.data() + at + 20)) return damaged("checksum", at);
  if (load_le<uint64_t>(counts.data()) != loader.keys() || load_le<uint64_t>(counts.data() + 8) != loader.live_keys()) {
    return damaged("number of keys", at);
  }
  loader.finish();
  writer.compact_revision = loaded.compacted;
  writer.pass_floor = loaded.compacted;
  loaded.keys = loader.keys();
  return loaded;
}

}  // namespace cairn::mvcc
