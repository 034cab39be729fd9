// mvcc/index/index_arena.h: the index's own memory.
//
// Nodes have every size between 200 bytes and 3 KB, and a node is rarely freed by the batch that made it. Size classes
// would waste a tenth of each node, or strand whole slabs when most nodes of a B+tree filled in random order outgrow a
// class together. So blocks are cut to size from regions of 4 MB (aligned to 4 MB), best fit first, and are merged with
// free neighbours at once.
//
//     region   | block | block | ... | end mark |
//     block    u32 size | u32 size of the block before | payload          sizes in units of 16 bytes; bit 31 of the
//              first: in use. A free block's payload begins with its links in the list of its size.
//
// Blocks above 256 KB come from the system allocator. Under a sanitizer all blocks do, so that it sees every misuse.
//
// Threads: the index's writer. Readers only read payloads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

// Sanitizers look at blocks of the system allocator only.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define CAIRN_ARENA_OF_SYSTEM 1
#elif defined(__clang__)
#define CAIRN_ARENA_OF_SYSTEM (__has_feature(address_sanitizer) || __has_feature(thread_sanitizer))
#else
#define CAIRN_ARENA_OF_SYSTEM 0
#endif

namespace cairn::mvcc::detail {

class Arena {
 public:
  static constexpr bool kAllFromSystem = CAIRN_ARENA_OF_SYSTEM != 0;

  Arena() = default;
  ~Arena();  // everything at once, used or not
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  // At least `bytes`, aligned to 8.
  [[nodiscard]] void* allocate(size_t bytes);
  void free(void* payload);
  // Takes over all of `other`, which is empty afterwards.
  void absorb(Arena& other);
  // Fetches the neighbours of a block that is about to be freed.
  static void prefetch_for_free(const void* payload);
  // Payload bytes that a block really has, at least what was asked for.
  [[nodiscard]] static size_t usable(const void* payload);

  [[nodiscard]] uint64_t blocks() const { return blocks_; }
  [[nodiscard]] uint64_t block_bytes() const { return block_bytes_; }        // headers included
  [[nodiscard]] uint64_t reserved_bytes() const { return reserved_bytes_; }  // taken from the system

 private:
  static constexpr size_t kUnit = 16;
  static constexpr size_t kHeaderBytes = 8;
  static constexpr size_t kRegionBytes = 4 << 20;
  static constexpr size_t kSystemBytesMin = 256 << 10;
  static constexpr uint32_t kInUse = 1u << 31;
  static constexpr uint32_t kRegionUnits = (kRegionBytes - 2 * kUnit) / kUnit;
  static constexpr uint32_t kUnitsMin = 2;     // header and two links
  static constexpr uint32_t kUnitsSplit = 3;   // a smaller rest stays with the block
  static constexpr uint32_t kExactBins = 256;  // one list per size below this many units
  static constexpr uint32_t kBins = kExactBins + 128;

  struct Block {
    uint32_t units;
    uint32_t units_before;
    Block* next_free;  // these two only while free
    Block* prev_free;
  };

  static uint32_t bin_of(uint32_t units);
  static Block* after(Block* block);
  void link(Block* block);
  void unlink(Block* block);
  Block* take_free(uint32_t units);
  void add_region();
  void remove_region(Block* whole);
  void* system_allocate(size_t bytes);

  Block* bins_[kBins] = {};
  uint64_t bin_bits_[kBins / 64] = {};
  std::vector<char*> regions_;  // ascending by address
  bool has_spare_ = false;      // one of them is free as a whole
  uint64_t blocks_ = 0;
  uint64_t block_bytes_ = 0;
  uint64_t reserved_bytes_ = 0;
};

}  // namespace cairn::mvcc::detail
