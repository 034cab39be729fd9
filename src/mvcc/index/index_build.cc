#include "mvcc/index/index_build.h"

#include <algorithm>

#include "mvcc/index/index_writer.h"

namespace cairn::mvcc {

using namespace detail;

namespace {

constexpr size_t kLeafFill = 29;  // nine tenths
constexpr size_t kInnerFill = 43;
constexpr size_t kTail = 16;  // slots held back, so that the last node of a level is not too small

size_t fill_of(size_t level) { return level == 0 ? kLeafFill : kInnerFill; }
size_t max_of(size_t level) { return level == 0 ? kLeafMax : kInnerMax; }

}  // namespace

// --- BulkLoad ---

BulkLoad::~BulkLoad() {
  if (!finished_) finish();
}

void BulkLoad::add(const Slot& slot) {
  writer_.newest_main = std::max(writer_.newest_main, slot.entry.main);
  if (extent_ == Extent::kLeaves && levels_.empty()) first_key_ = slot.key;
  add_to(0, slot);
}

void BulkLoad::add_to(size_t level, const Slot& slot) {
  if (level == levels_.size()) {
    auto& fresh = levels_.emplace_back(std::make_unique<Level>());
    fresh->bytes.resize((kInnerFill + kTail) * kInlineKeyBytesMax);
    fresh->spare.resize(fresh->bytes.size());
  }
  Level& own = *levels_[level];
  Slot& kept = own.pending.emplace_back(slot);
  if (slot.large == nullptr && !slot.key.empty()) {
    char* to = own.bytes.data() + own.used;
    std::memcpy(to, slot.key.data(), slot.key.size());
    kept.key = {to, slot.key.size()};
    own.used += slot.key.size();
  }
  if (own.pending.size() == fill_of(level) + kTail) flush(level, fill_of(level));
}

// Makes a node of the first `count` pending slots.
void BulkLoad::flush(size_t level, size_t count) {
  Level& own = *levels_[level];
  Slot up{.key = {}, .child = {}, .lease = 0, .history = nullptr, .large = nullptr};
  if (own.any) {
    const Slot& first = own.pending.front();
    if (level == 0) {
      up = writer_.slot_for(separator(own.last_key, first.key));
    } else {
      up = first;
    }
  }
  up.child = summary(writer_.make(static_cast<uint8_t>(level), own.pending.data(), count, 0));
  if (level == 0) own.last_key = own.pending[count - 1].key;
  own.any = true;
  if (extent_ == Extent::kLeaves) {
    leaves_.push_back(
        {.key_begin = leaf_keys_.size(), .key_size = up.key.size(), .large = up.large, .child = up.child});
    if (up.large == nullptr) leaf_keys_.append(up.key);
  } else {
    add_to(level + 1, up);
  }

  own.pending.erase(own.pending.begin(), own.pending.begin() + static_cast<ptrdiff_t>(count));
  own.bytes.swap(own.spare);
  own.used = 0;
  for (Slot& slot : own.pending) {
    if (slot.large != nullptr || slot.key.empty()) continue;
    char* to = own.bytes.data() + own.used;
    std::memcpy(to, slot.key.data(), slot.key.size());
    own.used += slot.key.size();
    slot.key = {to, slot.key.size()};
  }
}

void BulkLoad::settle(size_t level) {
  const size_t count = levels_[level]->pending.size();
  if (count <= max_of(level)) {
    flush(level, count);
  } else {
    flush(level, count / 2);
    flush(level, count - count / 2);
  }
}

bool BulkLoad::append(BulkLoad& part) {
  CAIRN_ASSERT(extent_ == Extent::kTree && part.extent_ == Extent::kLeaves && part.finished_);
  writer_.newest_main = std::max(writer_.newest_main, part.writer_.newest_main);
  writer_.absorb_blocks(part.writer_);
  if (part.leaves_.empty()) return true;
  if (levels_.empty()) levels_.push_back(std::make_unique<Level>());
  Level& row = *levels_.front();
  CAIRN_ASSERT(row.pending.empty());
  const bool ascends = !row.any || row.last_key < part.first_key_;
  for (size_t i = 0; i < part.leaves_.size(); ++i) {
    const Leaf& leaf = part.leaves_[i];
    Slot up{.key = {}, .child = {}, .lease = 0, .history = nullptr, .large = nullptr};
    if (i > 0) {
      up.large = leaf.large;
      up.key = leaf.large != nullptr ? leaf.large->view()
                                     : std::string_view(part.leaf_keys_).substr(leaf.key_begin, leaf.key_size);
    } else if (row.any) {
      up = writer_.slot_for(ascends ? separator(row.last_key, part.first_key_) : std::string_view(part.first_key_));
    }
    up.child = leaf.child;
    add_to(1, up);
  }
  row.any = true;
  row.last_key = part.levels_.front()->last_key;
  return ascends;
}

void BulkLoad::finish() {
  finished_ = true;
  if (extent_ == Extent::kLeaves) {
    if (!levels_.empty()) settle(0);
    return;
  }
  const bool has_row = !levels_.empty() && levels_.front()->pending.empty();  // of append()
  for (size_t level = has_row ? 1 : 0; level < levels_.size(); ++level) {
    const Level& own = *levels_[level];
    if (!own.any && level > 0 && own.pending.size() == 1) {
      writer_.root = own.pending.front().child.node;
      return;
    }
    settle(level);
  }
}

// --- IndexBuilder ---

struct IndexBuilder::State {
  struct Item {
    const char* key;
    uint64_t key_size;
    Entry entry;
    int64_t lease;
    Chunk* history;
    LargeKey* large;
  };
  static constexpr size_t kBlockBytes = 1 << 20;

  std::unique_ptr<Index::Writer> writer = std::make_unique<Index::Writer>();
  std::vector<Item> items;
  std::vector<uint64_t> table = std::vector<uint64_t>(1024);  // upper half: of the hash; lower: item + 1; 0: free
  std::vector<std::unique_ptr<char[]>> blocks;
  size_t block_used = kBlockBytes;

  ~State() {
    if (writer != nullptr) {
      for (Item& item : items) forget(item);
    }
  }
  void forget(Item& item) {
    writer->drop_chunks(item.history);
    if (item.large != nullptr) writer->drop(item.large, item.large->made, Index::Writer::Kind::kLargeKey);
  }

  static uint64_t hash(std::string_view key) {
    uint64_t h = key.size() * 0x9e3779b97f4a7c15;
    const auto mix = [&](uint64_t word) {
      h = (h ^ word) * 0xff51afd7ed558ccd;
      h ^= h >> 32;
    };
    for (; key.size() >= 8; key.remove_prefix(8)) mix(load_le<uint64_t>(key.data()));
    uint64_t rest = 0;
    if (!key.empty()) std::memcpy(&rest, key.data(), key.size());
    mix(rest);
    return h ^ (h >> 29);
  }

  void grow() {
    std::vector<uint64_t> old(table.size() * 2);
    old.swap(table);
    const size_t mask = table.size() - 1;
    for (const uint64_t cell : old) {
      if (cell == 0) continue;
      const Item& item = items[static_cast<uint32_t>(cell) - 1];
      size_t at = hash({item.key, item.key_size}) & mask;
      while (table[at] != 0) at = (at + 1) & mask;
      table[at] = cell;
    }
  }

  // The item of `key`; a new one has version 0 and main 0.
  Item& find(std::string_view key) {
    if (items.size() * 2 >= table.size()) grow();
    const uint64_t h = hash(key);
    const size_t mask = table.size() - 1;
    const uint64_t tag = h >> 32 << 32;
    size_t at = h & mask;
    for (; table[at] != 0; at = (at + 1) & mask) {
      if ((table[at] ^ tag) >> 32 != 0) continue;
      Item& item = items[static_cast<uint32_t>(table[at]) - 1];
      if (std::string_view(item.key, item.key_size) == key) return item;
    }
    CAIRN_ASSERT(items.size() < UINT32_MAX - 1);
    Item& item = items.emplace_back();
    table[at] = tag | items.size();
    item = {.key = nullptr, .key_size = key.size(), .entry = {}, .lease = 0, .history = nullptr, .large = nullptr};
    if (key.size() > kInlineKeyBytesMax) {
      item.large = writer->make_large(key);
      item.key = item.large->bytes();
      return item;
    }
    if (block_used + key.size() > kBlockBytes) {
      blocks.push_back(std::make_unique_for_overwrite<char[]>(kBlockBytes));
      block_used = 0;
    }
    char* to = blocks.back().get() + block_used;
    std::memcpy(to, key.data(), key.size());
    block_used += key.size();
    item.key = to;
    return item;
  }

  struct Place {
    uint64_t head;  // eight bytes of the key, big-endian
    uint32_t item;
  };

  // The items in the order of their keys. Sorted by eight bytes at a time: where those agree, by the next eight.
  std::vector<Place> sorted() const {
    std::vector<Place> places(items.size());
    for (uint32_t i = 0; i < places.size(); ++i) places[i].item = i;
    struct Run {
      size_t first;
      size_t end;
      size_t depth;
    };
    std::vector<Run> runs;
    if (!places.empty()) runs.push_back({0, places.size(), 0});
    while (!runs.empty()) {
      auto [first, end, depth] = runs.back();
      runs.pop_back();
      const auto begin = places.begin() + static_cast<ptrdiff_t>(first);
      const auto stop = places.begin() + static_cast<ptrdiff_t>(end);
      if (end - first <= 24) {
        std::sort(begin, stop, [&](const Place& a, const Place& b) {
          const int order = tail(a, depth).compare(tail(b, depth));
          // Ended before `depth`, both: only zeros apart, and the shorter is the prefix of the longer.
          return order != 0 ? order < 0 : items[a.item].key_size < items[b.item].key_size;
        });
        continue;
      }
      // Bytes after `depth` that all of them share need no sorting.
      const std::string_view model = tail(*begin, depth);
      size_t shared = model.size();
      for (auto place = begin; place != stop && shared > 0; ++place) {
        const std::string_view other = tail(*place, depth);
        shared = std::min(shared, other.size());
        while (shared > 0 && std::memcmp(model.data(), other.data(), shared) != 0) {
          const auto [at, unused] =
              std::mismatch(model.begin(), model.begin() + static_cast<ptrdiff_t>(shared), other.begin());
          shared = static_cast<size_t>(at - model.begin());
        }
      }
      depth += shared;
      bool ended = true;
      for (auto place = begin; place != stop; ++place) {
        const std::string_view rest = tail(*place, depth);
        ended = ended && rest.empty();
        uint64_t head = 0;
        if (!rest.empty()) std::memcpy(&head, rest.data(), std::min<size_t>(rest.size(), 8));
        place->head = __builtin_bswap64(head);
      }
      if (ended) {
        std::sort(begin, stop,
                  [&](const Place& a, const Place& b) { return items[a.item].key_size < items[b.item].key_size; });
        continue;
      }
      std::sort(begin, stop, [](const Place& a, const Place& b) { return a.head < b.head; });
      for (size_t i = first; i < end;) {
        size_t j = i + 1;
        while (j < end && places[j].head == places[i].head) ++j;
        if (j - i > 1) runs.push_back({i, j, depth + 8});
        i = j;
      }
    }
    return places;
  }
  [[nodiscard]] std::string_view tail(const Place& place, size_t depth) const {
    const Item& item = items[place.item];
    return depth >= item.key_size ? std::string_view{} : std::string_view(item.key, item.key_size).substr(depth);
  }
};

IndexBuilder::IndexBuilder() : state_(std::make_unique<State>()) {}
IndexBuilder::~IndexBuilder() = default;

void IndexBuilder::add(const IndexRecord& record) {
  CAIRN_ASSERT(!record.key.empty() && record.mod.sub >= 0 && record.mod.sub <= int64_t{kSubMask});
  State::Item& item = state_->find(record.key);
  const Index::Writer::NewEntry next = Index::Writer::from_record(record);
  if (item.entry.main == 0) {
    item.entry = next.entry;
  } else {
    if (record.mod <= revision_of(item.entry)) return;
    item.history = state_->writer->append(item.history, item.entry, next.entry);
    item.entry = next.entry;
    item.entry.sub_and_flags |= kHasHistory;
  }
  item.lease = next.lease;
}

void IndexBuilder::finish(Index& index, int64_t compact) {
  State& state = *state_;
  Index::Writer& writer = *state.writer;
  writer.compact_revision = std::max<int64_t>(compact, 0);
  writer.pass_floor = writer.compact_revision;
  const std::vector<State::Place> places = state.sorted();
  {
    BulkLoad load(writer);
    uint64_t visits = 0;
    for (size_t i = 0; i < places.size(); ++i) {
      if (i + 16 < places.size()) __builtin_prefetch(&state.items[places[i + 16].item]);
      if (i + 8 < places.size()) __builtin_prefetch(state.items[places[i + 8].item].key);
      State::Item& item = state.items[places[i].item];
      if (is_trimmable(item.entry)) {
        bool erase = false;
        item.history = writer.trim_history(item.entry, item.history, erase, visits);
        if (erase) {
          state.forget(item);
          continue;
        }
        if (item.history == nullptr) item.entry.sub_and_flags &= ~kHasHistory;
      }
      load.add({.key = {item.key, item.key_size},
                .entry = item.entry,
                .lease = item.lease,
                .history = item.history,
                .large = item.large});
    }
    load.finish();
  }
  index.adopt(std::move(state.writer));
}

}  // namespace cairn::mvcc
