// Both engines against a map.
#include <gtest/gtest.h>

#include "storage/random_life.h"
#include "testing/seeds.h"

namespace cairn::storage {
namespace {

using test::Batch;
using test::Kind;
using test::Life;

void run_lives(Kind kind, uint64_t count) {
  const uint64_t first = cairn::testing::first_seed(1);
  for (uint64_t seed = first; seed < first + count; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Life(seed, kind).run(100);
    if (::testing::Test::HasFailure()) return;
  }
}

TEST(EngineModel, BoltHoldsWhatAMapHolds) { run_lives(Kind::kBoltInMemory, 30); }
TEST(EngineModel, BoltHoldsWhatAMapHoldsInRealFiles) { run_lives(Kind::kBoltOnDisk, 2); }
TEST(EngineModel, MemoryHoldsWhatAMapHolds) { run_lives(Kind::kMemory, 10); }

// A crash of the memory engine is a return to an earlier view, which goes on by itself.
TEST(EngineModel, MemoryGoesOnFromAnEarlierView) {
  const auto engine = *open_memory();
  Batch first;
  first.put(Table::kMeta, "k", "1");
  const auto early = engine->commit(first.commit())->view;
  Batch second;
  second.put(Table::kMeta, "k", "2");
  second.put(Table::kKey, "x", "y");
  const auto late = engine->commit(second.commit())->view;
  const auto again = *open_memory(early);
  EXPECT_EQ(again->view()->get(Table::kMeta, "k")->value(), "1");
  Batch third;
  third.put(Table::kMeta, "k", "3");
  const auto other = again->commit(third.commit())->view;
  EXPECT_EQ(early->get(Table::kMeta, "k")->value(), "1");
  EXPECT_EQ(late->get(Table::kMeta, "k")->value(), "2");
  EXPECT_EQ(other->get(Table::kMeta, "k")->value(), "3");
  EXPECT_FALSE(other->get(Table::kKey, "x")->has_value());
}

}  // namespace
}  // namespace cairn::storage
