// lease/slots.h: records by lease id: tightly packed, without a pause while they grow.
//
// A record stays in its slot, a number below end(), until it is erased; then another id may get the slot. Slots lie in
// chunks of 1024, so growing moves nothing. The index from id to slot is a hash set of slot numbers in 64 shards: each
// grows by itself. A million records take their own size and about nine bytes each.
//
// Threads: those of the owner; a value.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include <boost/unordered/unordered_flat_set.hpp>

#include "base/check.h"

namespace cairn::lease {

using LeaseId = int64_t;

using Slot = uint32_t;
inline constexpr Slot kNoSlot = UINT32_MAX;

// A Record has a member `LeaseId id`, 0 in a slot that is free, and is as good as new after `record = Record{}`.
template <class Record>
class SlotTable {
 public:
  SlotTable() { clear(); }
  SlotTable(SlotTable&& other) noexcept = default;
  SlotTable& operator=(SlotTable&& other) noexcept = default;

  [[nodiscard]] size_t size() const { return size_; }
  // Slots in use lie below.
  [[nodiscard]] Slot end() const { return end_; }

  [[nodiscard]] Slot find(LeaseId id) const {
    const Shard& shard = shards_[shard_of(id)];
    const auto found = shard.find(id);
    return found == shard.end() ? kNoSlot : *found;
  }
  // needs: id != 0, and no record has it
  Slot insert(LeaseId id) {
    Slot slot = end_;
    if (free_.empty()) {
      if (end_ % kChunkRecords == 0) chunks_->push_back(std::make_unique<Chunk>());
      ++end_;
    } else {
      slot = free_.back();
      free_.pop_back();
    }
    at(slot).id = id;
    CAIRN_ASSERT(shards_[shard_of(id)].insert(slot).second);
    ++size_;
    return slot;
  }
  void erase(Slot slot) {
    Record& record = at(slot);
    Shard& shard = shards_[shard_of(record.id)];
    shard.erase(shard.find(record.id));
    if (--size_ == 0) return clear();  // gives the memory back
    record = Record{};
    free_.push_back(slot);
  }
  void clear() {
    chunks_ = std::make_unique<Chunks>();
    shards_.clear();
    for (size_t i = 0; i < kShards; ++i) shards_.emplace_back(0, Hash{chunks_.get()}, Equal{chunks_.get()});
    free_ = {};
    size_ = 0;
    end_ = 0;
  }

  [[nodiscard]] Record& at(Slot slot) { return (*(*chunks_)[slot / kChunkRecords])[slot % kChunkRecords]; }
  [[nodiscard]] const Record& at(Slot slot) const { return record_of(*chunks_, slot); }
  // The record in a slot; null when the slot is free.
  [[nodiscard]] const Record* in(Slot slot) const {
    const Record& record = at(slot);
    return record.id == 0 ? nullptr : &record;
  }

 private:
  static constexpr size_t kChunkRecords = 1024;
  static constexpr size_t kShards = 64;

  using Chunk = std::array<Record, kChunkRecords>;
  using Chunks = std::vector<std::unique_ptr<Chunk>>;

  static const Record& record_of(const Chunks& chunks, Slot slot) {
    return (*chunks[slot / kChunkRecords])[slot % kChunkRecords];
  }
  // Clients choose ids. The address of the chunks makes the hash another one in each process; nothing depends on the
  // order in a shard.
  static uint64_t hash_of(LeaseId id, const Chunks* chunks) {
    uint64_t mixed = static_cast<uint64_t>(id) ^ static_cast<uint64_t>(reinterpret_cast<uintptr_t>(chunks));
    mixed = (mixed ^ (mixed >> 32)) * 0xd6e8feb86659fd93;
    mixed = (mixed ^ (mixed >> 32)) * 0xd6e8feb86659fd93;
    return mixed ^ (mixed >> 32);
  }
  struct Hash {
    using is_transparent = void;
    using is_avalanching = void;
    const Chunks* chunks;
    size_t operator()(Slot slot) const { return hash_of(record_of(*chunks, slot).id, chunks); }
    size_t operator()(LeaseId id) const { return hash_of(id, chunks); }
  };
  struct Equal {
    using is_transparent = void;
    const Chunks* chunks;
    bool operator()(Slot a, Slot b) const { return a == b; }
    bool operator()(LeaseId id, Slot slot) const { return id == record_of(*chunks, slot).id; }
    bool operator()(Slot slot, LeaseId id) const { return id == record_of(*chunks, slot).id; }
  };
  using Shard = boost::unordered_flat_set<Slot, Hash, Equal>;

  // By other bits of the hash than those that the shard uses first.
  [[nodiscard]] size_t shard_of(LeaseId id) const { return hash_of(id, chunks_.get()) >> 20 & (kShards - 1); }

  std::unique_ptr<Chunks> chunks_;  // has an address of its own: the hashes know it
  std::vector<Shard> shards_;
  std::vector<Slot> free_;
  size_t size_ = 0;
  Slot end_ = 0;
};

}  // namespace cairn::lease
