#include "mvcc/index/index_arena.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

#include "base/bytes.h"
#include "base/check.h"

namespace cairn::mvcc::detail {

namespace {

constexpr uint32_t kSystemMark = 0;  // `units` of a block that the system allocator gave

char* payload_of(void* block) { return static_cast<char*>(block) + 8; }

}  // namespace

Arena::~Arena() {
  for (char* region : regions_) munmap(region, kRegionBytes);
}

// A block of the system allocator: 16 bytes of header, of which the last 8 look like a block's with the mark. The
// first 8 hold the size.
void* Arena::system_allocate(size_t bytes) {
  char* raw = static_cast<char*>(std::malloc(bytes + kUnit));
  CAIRN_ASSERT(raw != nullptr);
  const uint64_t size = bytes + kUnit;
  std::memcpy(raw, &size, sizeof size);
  const uint32_t marks[2] = {kSystemMark, 0};
  std::memcpy(raw + 8, marks, sizeof marks);
  ++blocks_;
  block_bytes_ += size;
  reserved_bytes_ += size;
  return raw + kUnit;
}

uint32_t Arena::bin_of(uint32_t units) {
  if (units < kExactBins) return units;
  // Sixteen bins per doubling above the exact ones.
  const auto log = static_cast<uint32_t>(std::bit_width(units)) - 1;  // 2^log <= units, log >= 8
  const uint32_t sixteenth = (units >> (log - 4)) & 15;
  return std::min(kExactBins + (log - 8) * 16 + sixteenth, kBins - 1);
}

Arena::Block* Arena::after(Block* block) {
  return reinterpret_cast<Block*>(reinterpret_cast<char*>(block) + size_t{block->units & ~kInUse} * kUnit);
}

void Arena::link(Block* block) {
  const uint32_t bin = bin_of(block->units);
  block->prev_free = nullptr;
  block->next_free = bins_[bin];
  if (bins_[bin] != nullptr) bins_[bin]->prev_free = block;
  bins_[bin] = block;
  bin_bits_[bin / 64] |= uint64_t{1} << (bin % 64);
}

void Arena::unlink(Block* block) {
  const uint32_t bin = bin_of(block->units);
  if (block->next_free != nullptr) block->next_free->prev_free = block->prev_free;
  if (block->prev_free != nullptr) {
    block->prev_free->next_free = block->next_free;
  } else {
    bins_[bin] = block->next_free;
    if (bins_[bin] == nullptr) bin_bits_[bin / 64] &= ~(uint64_t{1} << (bin % 64));
  }
}

void Arena::add_region() {
  // Twice as much, and what lies around an aligned region goes back.
  void* memory = mmap(nullptr, 2 * kRegionBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CAIRN_ASSERT(memory != MAP_FAILED);
  const size_t before = (kRegionBytes - reinterpret_cast<uintptr_t>(memory) % kRegionBytes) % kRegionBytes;
  char* base = static_cast<char*>(memory) + before;
  if (before > 0) munmap(memory, before);
  munmap(base + kRegionBytes, kRegionBytes - before);
  // Random look-ups miss the address cache less often with huge pages; a small index does without their size.
  if (!regions_.empty()) madvise(base, kRegionBytes, MADV_HUGEPAGE);
  regions_.insert(std::lower_bound(regions_.begin(), regions_.end(), base), base);
  reserved_bytes_ += kRegionBytes;
  // Blocks lie at 8 modulo 16, so that payloads are aligned to 16. The end mark is a block in use without payload.
  auto* block = reinterpret_cast<Block*>(base + 8);
  block->units = kRegionUnits;
  block->units_before = 0;
  Block* end = after(block);
  end->units = 1 | kInUse;
  end->units_before = block->units;
  link(block);
  has_spare_ = true;
}

Arena::Block* Arena::take_free(uint32_t units) {
  uint32_t bin = bin_of(units);
  if (units >= kExactBins) {
    // A list of mixed sizes: the first that fits.
    for (Block* block = bins_[bin]; block != nullptr; block = block->next_free) {
      if (block->units >= units) return block;
    }
    ++bin;
  }
  for (uint32_t word = bin / 64; word < kBins / 64; ++word) {
    uint64_t bits = bin_bits_[word];
    if (word == bin / 64) bits &= ~uint64_t{0} << (bin % 64);
    if (bits != 0) return bins_[word * 64 + static_cast<uint32_t>(std::countr_zero(bits))];
  }
  return nullptr;
}

void* Arena::allocate(size_t bytes) {
  if (kAllFromSystem || bytes >= kSystemBytesMin) return system_allocate(bytes);
  const auto units = std::max(kUnitsMin, static_cast<uint32_t>((bytes + kHeaderBytes + kUnit - 1) / kUnit));
  Block* block = take_free(units);
  if (block == nullptr) {
    add_region();
    block = take_free(units);
  }
  unlink(block);
  if (block->units == kRegionUnits) has_spare_ = false;
  const uint32_t rest = block->units - units;
  if (rest >= kUnitsSplit) {
    block->units = units;
    Block* tail = after(block);
    tail->units = rest;
    tail->units_before = units;
    after(tail)->units_before = rest;
    link(tail);
  }
  ++blocks_;
  block_bytes_ += size_t{block->units} * kUnit;
  block->units |= kInUse;
  return payload_of(block);
}

size_t Arena::usable(const void* payload) {
  uint32_t units = 0;
  std::memcpy(&units, static_cast<const char*>(payload) - kHeaderBytes, sizeof units);
  if (units == kSystemMark) {
    uint64_t size = 0;
    std::memcpy(&size, static_cast<const char*>(payload) - kUnit, sizeof size);
    return size - kUnit;
  }
  return size_t{units & ~kInUse} * kUnit - kHeaderBytes;
}

void Arena::prefetch_for_free(const void* payload) {
  if (kAllFromSystem) return;
  const char* block = static_cast<const char*>(payload) - kHeaderBytes;
  __builtin_prefetch(block + (load_le<uint32_t>(block) & ~kInUse) * kUnit);
  __builtin_prefetch(block - size_t{load_le<uint32_t>(block + 4)} * kUnit);
}

void Arena::free(void* payload) {
  --blocks_;
  auto* block = reinterpret_cast<Block*>(static_cast<char*>(payload) - kHeaderBytes);
  if (block->units == kSystemMark) {
    const size_t size = usable(payload) + kUnit;
    block_bytes_ -= size;
    reserved_bytes_ -= size;
    std::free(static_cast<char*>(payload) - kUnit);
    return;
  }
  CAIRN_ASSERT((block->units & kInUse) != 0);
  block->units &= ~kInUse;
  block_bytes_ -= size_t{block->units} * kUnit;
  Block* next = after(block);
  if ((next->units & kInUse) == 0) {
    unlink(next);
    block->units += next->units;
  }
  if (block->units_before != 0) {
    auto* before = reinterpret_cast<Block*>(reinterpret_cast<char*>(block) - size_t{block->units_before} * kUnit);
    if ((before->units & kInUse) == 0) {
      unlink(before);
      before->units += block->units;
      block = before;
    }
  }
  after(block)->units_before = block->units;
  // A region that is free as a whole goes back, unless it is the only such one.
  if (block->units == kRegionUnits) {
    if (has_spare_) {
      remove_region(block);
      return;
    }
    has_spare_ = true;
  }
  link(block);
}

// `whole` is a region's only block, free and in no list.
void Arena::remove_region(Block* whole) {
  char* base = reinterpret_cast<char*>(whole) - 8;
  regions_.erase(std::lower_bound(regions_.begin(), regions_.end(), base));
  munmap(base, kRegionBytes);
  reserved_bytes_ -= kRegionBytes;
}

void Arena::absorb(Arena& other) {
  for (uint32_t bin = 0; bin < kBins; ++bin) {
    while (Block* block = other.bins_[bin]) {
      other.unlink(block);
      if (block->units == kRegionUnits) {
        if (has_spare_) {
          other.remove_region(block);
          continue;
        }
        has_spare_ = true;
      }
      link(block);
    }
  }
  std::vector<char*> all(regions_.size() + other.regions_.size());
  std::merge(regions_.begin(), regions_.end(), other.regions_.begin(), other.regions_.end(), all.begin());
  regions_ = std::move(all);
  other.regions_.clear();
  other.has_spare_ = false;
  blocks_ += std::exchange(other.blocks_, 0);
  block_bytes_ += std::exchange(other.block_bytes_, 0);
  reserved_bytes_ += std::exchange(other.reserved_bytes_, 0);
}

}  // namespace cairn::mvcc::detail
