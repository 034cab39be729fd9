// The engine on a disk that fails, and what a start makes of it.
#include <gtest/gtest.h>

#include "sim/disk/sim_fs.h"
#include "storage/bolt/engine_testing.h"
#include "storage/bolt/format.h"
#include "storage/test_support.h"

namespace cairn::storage {
namespace {

using test::Batch;
using test::expect_sound;
using test::Model;
using test::open;
using test::revision_key;

struct OnSimulatedDisk : ::testing::Test {
  OnSimulatedDisk() { fs.make_durable_directories("/data"); }
  sim::SimFileSystem fs{{.seed = 1}};
  const std::string path = "/data/db";

  static Batch batch_of(uint64_t first, uint64_t count) {
    Batch batch;
    for (uint64_t i = first; i < first + count; ++i) batch.put(Table::kKey, revision_key(i), std::string(500, 'v'));
    batch.put(Table::kMeta, "consistent_index", std::to_string(first));
    return batch;
  }
};

TEST_F(OnSimulatedDisk, ACommitThatFindsNoSpaceChangesNothingAndCanBeTriedAgain) {
  for (const sim::Op op : {sim::Op::kAllocate, sim::Op::kWrite}) {
    const std::string own = path + std::string(sim::op_name(op));
    const auto engine = open(fs, own);
    Model model;
    Random random(1);
    Batch first = batch_of(1, 1000);
    first.apply_to(model);
    ASSERT_TRUE(engine->commit(first.commit()));
    const uint64_t txid = engine->view()->txid();
    const uint64_t in_use = engine->space().in_use_bytes;

    Batch second = batch_of(1001, 1000);
    for (int attempt = 0; attempt < 3; ++attempt) {
      // Twice for allocate: the engine asks for less when it does not get what it would like.
      fs.plan(op, sim::Fault::kNoSpace, 1);
      if (op == sim::Op::kAllocate) fs.plan(op, sim::Fault::kNoSpace, 2);
      const auto failed = engine->commit(second.commit());
      ASSERT_FALSE(failed) << sim::op_name(op);
      EXPECT_EQ(failed.error().code, Code::kResourceExhausted);
      EXPECT_EQ(engine->view()->txid(), txid);
      EXPECT_EQ(engine->space().in_use_bytes, in_use);
      EXPECT_EQ(test::difference(*engine->view(), model, random), "");
      expect_sound(fs, own);
    }
    fs.clear_faults();
    second.apply_to(model);
    const auto result = engine->commit(second.commit());
    ASSERT_TRUE(result) << result.error().message;
    EXPECT_EQ(test::difference(*engine->view(), model, random), "");
    expect_sound(fs, own);
  }
}

// "A commit reserves before it writes."
TEST_F(OnSimulatedDisk, NoPageIsWrittenBeforeAllSpaceIsThere) {
  const auto engine = open(fs, path);
  ASSERT_TRUE(engine->commit({}));
  fs.options().capacity_bytes = fs.used_bytes() + (1 << 20);
  uint64_t writes = 0;
  fs.set_observer([&](const sim::Operation& operation) { writes += operation.op == sim::Op::kWrite ? 1 : 0; });
  Batch batch = batch_of(1, 10'000);
  const auto result = engine->commit(batch.commit());
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, Code::kResourceExhausted);
  EXPECT_EQ(writes, 0);
  fs.options().capacity_bytes += 100 << 20;
  EXPECT_TRUE(engine->commit(batch.commit()));
  expect_sound(fs, path);
}

TEST_F(OnSimulatedDisk, AViewKnowsWhatIsInMemory) {
  const auto engine = open(fs, path);
  Batch batch = batch_of(1, 1000);
  batch.put(Table::kLease, "large", std::string(20'000, 'v'));
  const auto view = engine->commit(batch.commit())->view;
  for (const auto& [table, key] : {std::pair(Table::kKey, revision_key(500)), {Table::kLease, std::string("large")}}) {
    fs.options().not_resident_one_in = 0;
    EXPECT_TRUE(view->resident(table, key));
    fs.options().not_resident_one_in = 1;
    EXPECT_FALSE(view->resident(table, key));
  }
}

TEST_F(OnSimulatedDisk, FillsWithZerosWhereAllocateIsNotSupported) {
  fs.options().can_allocate = false;
  const auto engine = open(fs, path);
  Batch batch = batch_of(1, 2000);
  const auto result = engine->commit(batch.commit());
  ASSERT_TRUE(result) << result.error().message;
  expect_sound(fs, path);
}

TEST_F(OnSimulatedDisk, AFailedSyncOrMetaWriteEndsTheEngine) {
  // The second write of a small commit is the meta page.
  const std::pair<sim::Op, uint64_t> faults[] = {{sim::Op::kSync, 1}, {sim::Op::kSync, 2}, {sim::Op::kWrite, 2}};
  for (const auto& [op, nth] : faults) {
    const std::string own = path + std::to_string(static_cast<int>(op)) + std::to_string(nth);
    const auto engine = open(fs, own);
    Batch first;
    first.put(Table::kMeta, "k", "1");
    ASSERT_TRUE(engine->commit(first.commit()));
    Batch second;
    second.put(Table::kMeta, "k", "2");
    // Pages that follow each other go out in one write.
    fs.plan(op, sim::Fault::kIo, nth);
    const auto failed = engine->commit(second.commit());
    ASSERT_FALSE(failed);
    fs.clear_faults();
    const auto later = engine->commit(second.commit());
    ASSERT_FALSE(later);
    EXPECT_EQ(later.error(), failed.error());
    EXPECT_FALSE(engine->close());
  }
}

// It does not read as "try again", and says what to do.
TEST_F(OnSimulatedDisk, AMetaWithoutRoomEndsTheEngineAndTheMessageSaysTheWayOut) {
  const auto engine = open(fs, path);
  Batch first = batch_of(1, 1);
  ASSERT_TRUE(engine->commit(first.commit()));
  Batch second = batch_of(2, 1);
  fs.plan(sim::Op::kWrite, sim::Fault::kNoSpace, 2);
  const auto failed = engine->commit(second.commit());
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().code, Code::kInternal);
  EXPECT_NE(failed.error().message.find("make room on that device"), std::string::npos) << failed.error().message;
  EXPECT_NE(failed.error().message.find("write"), std::string::npos) << failed.error().message;
}

// After a sync of a meta page that failed the kernel shows it and never writes it again.
TEST_F(OnSimulatedDisk, AStartAfterAFailedSyncOfAMetaWritesItAgain) {
  for (int later = 0; later < 4; ++later) {
    const std::string own = path + std::to_string(later);
    {
      const auto engine = open(fs, own);
      for (uint64_t i = 0; i < 4; ++i) {
        Batch batch = batch_of(1 + i * 20, 20);
        for (uint64_t j = 0; j < 10; ++j) batch.put(Table::kLease, std::to_string(j * (i + 1)), std::string(700, 'v'));
        ASSERT_TRUE(engine->commit(batch.commit()));
      }
      fs.plan(sim::Op::kSync, sim::Fault::kIo, 2);
      Batch lost = batch_of(100, 20);
      ASSERT_FALSE(engine->commit(lost.commit()));
    }  // the process ends, the page cache stays
    {
      const auto engine = open(fs, own, {.poison_free_pages = true});
      EXPECT_EQ(engine->view()->get(Table::kMeta, "consistent_index")->value(), "100");
      for (int i = 0; i < later; ++i) {
        Batch batch = batch_of(200 + static_cast<uint64_t>(i) * 20, 20);
        ASSERT_TRUE(engine->commit(batch.commit()));
      }
    }
    fs.crash(sim::Damage::kLoseUnsynced);
    expect_sound(fs, own);
    const auto engine = open(fs, own);
    EXPECT_EQ(engine->view()->get(Table::kMeta, "consistent_index")->value(),
              later == 0 ? "100" : std::to_string(180 + later * 20));
  }
}

// A power cut while the file is made leaves one that is made anew.
TEST(BoltEngine, AnInterruptedBeginningIsBegunAgain) {
  for (uint64_t point = 1; point <= 8; ++point) {
    for (uint64_t seed = 1; seed <= 20; ++seed) {
      sim::SimFileSystem fs({.seed = seed});
      fs.make_durable_directories("/data");
      fs.crash_at(fs.mutations() + point);
      (void)open_bolt(fs, "/data/db");
      fs.crash();
      const auto engine = open(fs, "/data/db");
      Batch batch;
      batch.put(Table::kMeta, "k", "v");
      ASSERT_TRUE(engine->commit(batch.commit()));
      expect_sound(fs, "/data/db");
    }
  }
}

TEST_F(OnSimulatedDisk, TheFirstCommitMakesBothMetasNameOneTreeFirst) {
  const auto order_of_commit = [&](Engine& engine) {
    std::string order;
    fs.set_observer([&](const sim::Operation& operation) {
      if (operation.op == sim::Op::kWrite) order += operation.offset < 2 * 4096 ? 'm' : 'p';
      if (operation.op == sim::Op::kSync) order += 's';
    });
    Batch batch = batch_of(1000, 3);
    EXPECT_TRUE(engine.commit(batch.commit()));
    fs.set_observer({});
    return order.substr(0, order.find('p')) + "p" + order.substr(order.find('s', order.find('p')));
  };
  {
    const auto engine = open(fs, path);
    EXPECT_EQ(order_of_commit(*engine), "psms") << "both metas of a new file name one tree";
    EXPECT_EQ(order_of_commit(*engine), "psms");
  }
  const auto engine = open(fs, path);
  const uint64_t found = engine->view()->txid();
  EXPECT_EQ(order_of_commit(*engine), "mspsms");
  EXPECT_EQ(engine->view()->txid(), found + 2);
  EXPECT_EQ(order_of_commit(*engine), "psms");
  expect_sound(fs, path);
}

// A file system that copies when it writes may have no room even for a page that exists.
TEST_F(OnSimulatedDisk, AMetaOfTheFoundTreeThatFindsNoSpaceCanBeTriedAgain) {
  for (uint64_t first = 1; first <= 21; first += 20) {
    Batch batch = batch_of(first, 20);
    ASSERT_TRUE(open(fs, path)->commit(batch.commit()));
  }
  const auto engine = open(fs, path);
  Batch batch = batch_of(41, 20);
  for (int attempt = 0; attempt < 3; ++attempt) {
    fs.plan(sim::Op::kWrite, sim::Fault::kNoSpace, 1);
    const auto failed = engine->commit(batch.commit());
    ASSERT_FALSE(failed);
    EXPECT_EQ(failed.error().code, Code::kResourceExhausted);
    expect_sound(fs, path);
  }
  fs.clear_faults();
  const auto result = engine->commit(batch.commit());
  ASSERT_TRUE(result) << result.error().message;
  EXPECT_EQ(engine->view()->get(Table::kMeta, "consistent_index")->value(), "41");
  expect_sound(fs, path);
}

TEST_F(OnSimulatedDisk, PagesAreSyncedBeforeTheMetaIsWritten) {
  const auto engine = open(fs, path);
  ASSERT_TRUE(engine->commit({}));
  std::string order;
  fs.set_observer([&](const sim::Operation& operation) {
    if (operation.op == sim::Op::kAllocate) order += 'a';
    if (operation.op == sim::Op::kWrite) order += operation.offset < 2 * 4096 ? 'm' : 'p';
    if (operation.op == sim::Op::kSync) order += 's';
  });
  Batch batch = batch_of(1, 20);
  ASSERT_TRUE(engine->commit(batch.commit()));
  const size_t first_sync = order.find('s');
  ASSERT_NE(first_sync, std::string::npos);
  EXPECT_EQ(order.substr(first_sync), "sms") << order;
  EXPECT_EQ(order.find('m'), first_sync + 1) << order;
}

}  // namespace
}  // namespace cairn::storage
