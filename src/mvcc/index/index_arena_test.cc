#include "mvcc/index/index_arena.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "base/random.h"

namespace cairn::mvcc::detail {
namespace {

struct Held {
  char* payload;
  size_t bytes;
  char fill;
};

bool intact(const Held& held) {
  for (size_t i = 0; i < held.bytes; ++i) {
    if (held.payload[i] != held.fill) return false;
  }
  return true;
}

TEST(IndexArena, BlocksDoNotOverlapAndComeBack) {
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Random random(seed);
    Arena arena;
    std::vector<Held> held;
    size_t in_use = 0;
    for (int i = 0; i < 60'000; ++i) {
      if (held.size() < 200 || random.below(20'000) > held.size()) {
        size_t bytes = random.one_in(50) ? random.below(100'000) : random.between(1, 3000);
        if (random.one_in(2000)) bytes = 1 << 20;
        Held fresh{static_cast<char*>(arena.allocate(bytes)), bytes, static_cast<char>(random.next())};
        ASSERT_EQ(reinterpret_cast<uintptr_t>(fresh.payload) % 8, 0u);
        ASSERT_GE(Arena::usable(fresh.payload), bytes);
        fresh.bytes = Arena::usable(fresh.payload);
        std::memset(fresh.payload, fresh.fill, fresh.bytes);
        in_use += fresh.bytes;
        held.push_back(fresh);
      } else {
        std::swap(held[random.below(held.size())], held.back());
        ASSERT_TRUE(intact(held.back()));
        in_use -= held.back().bytes;
        arena.free(held.back().payload);
        held.pop_back();
      }
    }
    EXPECT_EQ(arena.blocks(), held.size());
    EXPECT_GE(arena.block_bytes(), in_use);
    EXPECT_LE(arena.block_bytes(), in_use + held.size() * 16);
    while (!held.empty()) {
      std::swap(held[random.below(held.size())], held.back());
      ASSERT_TRUE(intact(held.back()));
      arena.free(held.back().payload);
      held.pop_back();
    }
    EXPECT_EQ(arena.block_bytes(), 0u);
    EXPECT_LE(arena.reserved_bytes(), size_t{4} << 20);  // one region is kept
  }
}

// Nodes of a tree that grows: each is replaced by a larger one now and then. Slack stays small.
TEST(IndexArena, LittleIsLostBetweenBlocksOfManySizes) {
  Random random(1);
  Arena arena;
  std::vector<std::pair<void*, size_t>> nodes(30'000);
  size_t in_use = 0;
  for (auto& [node, bytes] : nodes) {
    bytes = random.between(900, 1800);
    node = arena.allocate(bytes);
    in_use += bytes;
  }
  for (int i = 0; i < 300'000; ++i) {
    auto& [node, bytes] = nodes[random.below(nodes.size())];
    const size_t now = bytes + 64 > 1800 ? 900 : bytes + 64;
    void* replaced = node;
    node = arena.allocate(now);
    arena.free(replaced);
    in_use += now - bytes;
    bytes = now;
  }
  EXPECT_LE(arena.reserved_bytes(), in_use + in_use / 6 + (size_t{8} << 20));
  for (auto& [node, bytes] : nodes) arena.free(node);
}

// What another arena gave out is freed here, and its free memory is given again.
TEST(IndexArena, AbsorbsAnother) {
  Arena arena;
  std::vector<void*> held;
  {
    Arena other;
    for (Arena* from : {&arena, &other}) {
      for (int i = 0; i < 10'000; ++i) held.push_back(from->allocate(1000));
      held.push_back(from->allocate(1 << 20));  // the system's
      for (int i = 0; i < 2000; ++i) {          // holes
        from->free(held[held.size() - 2]);
        held.erase(held.end() - 2);
      }
    }
    const uint64_t reserved = arena.reserved_bytes() + other.reserved_bytes();
    arena.absorb(other);
    EXPECT_EQ(arena.blocks(), held.size());
    EXPECT_LE(arena.reserved_bytes(), reserved);  // of two regions that were free as a whole, one has gone back
    EXPECT_EQ(other.blocks(), 0u);
    EXPECT_EQ(other.reserved_bytes(), 0u);
    for (int i = 0; i < 2000; ++i) held.push_back(arena.allocate(1000));
    // The system allocator has taken the holes back, so there each is reserved anew.
    EXPECT_LE(arena.reserved_bytes(), reserved + (Arena::kAllFromSystem ? 2000 * 1024 : 0));
    other.free(other.allocate(100));  // usable, from nothing
  }
  for (void* payload : held) arena.free(payload);
  EXPECT_EQ(arena.blocks(), 0u);
  EXPECT_EQ(arena.block_bytes(), 0u);
}

}  // namespace
}  // namespace cairn::mvcc::detail
