#include "storage/bolt/engine.h"

#include <gtest/gtest.h>

#include "env/fs.h"
#include "storage/bolt/check.h"
#include "storage/bolt/engine_testing.h"
#include "storage/bolt/format.h"
#include "storage/memory/engine.h"
#include "storage/memory/file_system.h"
#include "storage/test_support.h"

namespace cairn::storage {
namespace {

using test::Batch;
using test::expect_sound;
using test::Model;
using test::open;
using test::revision_key;
using test::TempDir;

TEST(BoltEngine, StartsAFileWithAllTenTables) {
  const TempDir directory;
  const std::string path = directory / "db";
  {
    const auto engine = open(env::posix_fs(), path);
    EXPECT_FALSE(engine->view()->get(Table::kKey, "k")->has_value());
    expect_sound(env::posix_fs(), path);
    ASSERT_TRUE(engine->commit({}));
    ASSERT_TRUE(engine->close());
  }
  const auto report = check_bolt(env::posix_fs(), path, {.older_tree_too = true});
  ASSERT_TRUE(report) << report.error().message;
  EXPECT_EQ(report->bucket_entries.size(), kTableCount);
  EXPECT_TRUE(report->freelist_persisted);
  for (const auto& [name, depth] : report->bucket_depth) EXPECT_EQ(depth, 0) << name << ": empty tables are inline";
}

// A view descends from the commits of its opening before it, and from the ancestor that it was told.
TEST(BoltEngine, ViewsKnowWhereTheyComeFrom) {
  const TempDir directory;
  const std::string path = directory / "db";
  CommitId first;
  for (const uint64_t opening : {uint64_t{7}, uint64_t{8}, uint64_t{9}}) {
    const auto engine = open(env::posix_fs(), path, {.opening = opening});
    if (opening == 7) {
      ASSERT_TRUE(engine->commit({}));
      first = {.opening = 7, .txid = engine->view()->txid()};
    } else {
      EXPECT_TRUE(engine->view()->descends_from(first)) << opening;
      engine->remember(first);
    }
    ASSERT_TRUE(engine->commit({}));
    const View& view = *engine->view();
    EXPECT_EQ(view.lineage().opening, opening);
    EXPECT_TRUE(view.descends_from(first));
    EXPECT_TRUE(view.descends_from({.opening = opening, .txid = view.txid()}));
    EXPECT_FALSE(view.descends_from({.opening = opening, .txid = view.txid() + 1}));
    EXPECT_FALSE(view.descends_from({.opening = opening + 1, .txid = 1}));
    EXPECT_FALSE(view.descends_from({.opening = 0, .txid = 0}));
  }
  // Nothing was remembered: the line is broken. Nothing is sealed: nobody knows.
  {
    const auto engine = open(env::posix_fs(), path, {.opening = 10});
    ASSERT_TRUE(engine->commit({}));
    EXPECT_FALSE(engine->view()->descends_from(first));
  }
  const auto engine = open(env::posix_fs(), path);
  EXPECT_EQ(engine->view()->lineage().opening, 10u);
  ASSERT_TRUE(engine->commit({}));
  EXPECT_EQ(engine->view()->lineage(), Lineage{});
}

// What leaves as a snapshot may be changed by anybody.
TEST(BoltEngine, AnImageIsNotSealed) {
  const TempDir directory;
  const auto engine = open(env::posix_fs(), directory / "db", {.opening = 7});
  ASSERT_TRUE(engine->commit({}));
  const auto image = open_image(engine->view());
  ASSERT_TRUE(image);
  std::string metas(2 * 4096, 'x');
  ASSERT_TRUE((*image)->read(metas.data(), metas.size()));
  for (const size_t slot : {size_t{0}, size_t{1}}) {
    const auto sealed =
        std::string_view(metas).substr(slot * 4096 + bolt::kHeaderBytes, bolt::kMetaBytes + bolt::kMetaSealBytes);
    EXPECT_TRUE(bolt::decode_meta(sealed));
    EXPECT_EQ(bolt::decode_seal(sealed), Lineage{});
  }
}

TEST(BoltEngine, RefusesAFileThatSomebodyElseHasOpen) {
  const TempDir directory;
  const auto first = open(env::posix_fs(), directory / "db");
  const auto second = open_bolt(env::posix_fs(), directory / "db");
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, Code::kUnavailable);
}

TEST(BoltEngine, BringsBackWhatWasCommitted) {
  const TempDir directory;
  const std::string path = directory / "db";
  Model model;
  Random random(7);
  for (int round = 0; round < 3; ++round) {
    const auto engine = open(env::posix_fs(), path);
    EXPECT_EQ(test::difference(*engine->view(), model, random), "") << round;
    Batch batch;
    for (uint64_t i = 0; i < 500; ++i) {
      batch.put(Table::kKey, revision_key(static_cast<uint64_t>(round) * 1000 + i), std::string(300, 'v'));
    }
    batch.put(Table::kMeta, "consistent_index", std::to_string(round));
    batch.apply_to(model);
    const auto result = engine->commit(batch.commit());
    ASSERT_TRUE(result) << result.error().message;
    EXPECT_EQ(test::difference(*result->view, model, random), "");
    // Closed in the second round only: a process may end in any way.
    if (round == 1) {
      ASSERT_TRUE(engine->close());
    }
    expect_sound(env::posix_fs(), path);
  }
}

TEST(BoltEngine, WritesTheMetasInTurnWithTxidsOfTheirParity) {
  const TempDir directory;
  const std::string path = directory / "db";
  const auto engine = open(env::posix_fs(), path);
  uint64_t before = engine->view()->txid();
  for (int i = 0; i < 5; ++i) {
    const auto result = engine->commit({});
    ASSERT_TRUE(result);
    EXPECT_EQ(result->view->txid(), before + 1);
    before = result->view->txid();
    const auto file = env::posix_fs().open(path, env::OpenMode::kRead);
    const auto metas = bolt::read_metas(**file, path);
    ASSERT_TRUE(metas && metas->page[0] && metas->page[1]);
    EXPECT_EQ(metas->page[0]->txid % 2, 0);
    EXPECT_EQ(metas->page[1]->txid % 2, 1);
  }
}

// A snapshot's newest meta lies on page 0 whatever its parity.
TEST(BoltEngine, GoesOnFromAMetaOfTheWrongParity) {
  const TempDir directory;
  const std::string path = directory / "db";
  {
    const auto engine = open(env::posix_fs(), path);
    Batch batch;
    batch.put(Table::kMeta, "k", "v");
    ASSERT_TRUE(engine->commit(batch.commit()));
  }
  auto bytes = env::read_file(env::posix_fs(), path);
  ASSERT_TRUE(bytes);
  {
    const auto file = env::posix_fs().open(path, env::OpenMode::kRead);
    bolt::Meta meta = bolt::read_metas(**file, path)->meta();
    meta.freelist = bolt::kNoFreelist;
    meta.txid = 101;
    bytes->replace(0, 4096, bolt::meta_page(meta, 0, 4096));
    meta.txid = 100;
    bytes->replace(4096, 4096, bolt::meta_page(meta, 1, 4096));
  }
  ASSERT_TRUE(env::write_file(env::posix_fs(), path, *bytes));
  const auto engine = open(env::posix_fs(), path);
  EXPECT_EQ(engine->view()->txid(), 101);
  EXPECT_EQ(engine->commit({})->view->txid(), 103) << "page 1 takes odd ones";
  EXPECT_EQ(engine->commit({})->view->txid(), 104);
  EXPECT_EQ(engine->view()->get(Table::kMeta, "k")->value(), "v");
  expect_sound(env::posix_fs(), path);
}

TEST(BoltEngine, UsesTheOtherMetaWhenOneIsBad) {
  for (const uint64_t bad_page : {0, 1}) {
    const TempDir directory;
    const std::string path = directory / "db";
    uint64_t txid = 0;
    {
      const auto engine = open(env::posix_fs(), path, {.page_bytes = 16384});
      for (int i = 0; i < 3; ++i) {
        Batch batch;
        batch.put(Table::kMeta, "k", std::to_string(i));
        txid = engine->commit(batch.commit())->view->txid();
      }
    }
    {
      const auto file = env::posix_fs().open(path, env::OpenMode::kReadWrite);
      ASSERT_TRUE((*file)->pwrite(std::string(64, '\x55'), bad_page * 16384 + 16));
    }
    const auto engine = open(env::posix_fs(), path);
    const bool newest_is_bad = txid % 2 == bad_page;
    EXPECT_EQ(engine->view()->get(Table::kMeta, "k")->value(), newest_is_bad ? "1" : "2");
    Batch batch;
    batch.put(Table::kMeta, "k", "again");
    ASSERT_TRUE(engine->commit(batch.commit()));
    EXPECT_EQ(engine->view()->get(Table::kMeta, "k")->value(), "again");
    expect_sound(env::posix_fs(), path);
    EXPECT_TRUE(check_bolt(env::posix_fs(), path)->both_metas_valid);
  }
}

TEST(BoltEngine, RefusesAFileWithoutAMetaOrCutShort) {
  const TempDir directory;
  const std::string path = directory / "db";
  {
    open(env::posix_fs(), path);
  }
  const auto bytes = env::read_file(env::posix_fs(), path);
  std::string bad = *bytes;
  bad.replace(16, 64, std::string(64, 'x'));
  bad.replace(4096 + 16, 64, std::string(64, 'x'));
  ASSERT_TRUE(env::write_file(env::posix_fs(), path, bad));
  EXPECT_EQ(open_bolt(env::posix_fs(), path).error().code, Code::kDataLoss);
  ASSERT_TRUE(env::write_file(env::posix_fs(), path, bytes->substr(0, 3 * 4096)));
  EXPECT_EQ(open_bolt(env::posix_fs(), path).error().code, Code::kDataLoss);
}

TEST(BoltEngine, FillsAppendedLeavesToNineTenths) {
  const TempDir directory;
  const std::string path = directory / "db";
  const auto engine = open(env::posix_fs(), path);
  uint64_t bytes = 0;
  uint64_t revision = 2;
  for (int commit = 0; commit < 20; ++commit) {
    Batch batch;
    for (int i = 0; i < 1000; ++i) batch.put(Table::kKey, revision_key(revision++), std::string(300, 'v'));
    bytes += 1000 * (16 + 17 + 300);
    ASSERT_TRUE(engine->commit(batch.commit()));
  }
  expect_sound(env::posix_fs(), path);
  const auto report = check_bolt(env::posix_fs(), path);
  EXPECT_EQ(report->bucket_entries.at("key"), 20'000);
  EXPECT_LT(static_cast<double>(report->reached_pages) * 4096, static_cast<double>(bytes) / 0.85);
}

TEST(BoltEngine, PutsLargeValuesOnOverflowPages) {
  const TempDir directory;
  const std::string path = directory / "db";
  Model model;
  Random random(11);
  {
    const auto engine = open(env::posix_fs(), path);
    for (uint64_t i = 0; i < 20; ++i) {
      Batch batch;
      batch.put(Table::kKey, revision_key(i), test::random_bytes(random, random.below(1 << 20)));
      batch.put(Table::kLease, "lease" + std::to_string(random.below(6)),
                test::random_bytes(random, random.below(40'000)));
      batch.apply_to(model);
      ASSERT_TRUE(engine->commit(batch.commit()));
    }
    EXPECT_EQ(test::difference(*engine->view(), model, random), "");
  }
  expect_sound(env::posix_fs(), path);
}

TEST(BoltEngine, KeepsAViewWholeWhileItIsRegistered) {
  const TempDir directory;
  const std::string path = directory / "db";
  const auto engine = open(env::posix_fs(), path, {.poison_free_pages = true});
  Random random(5);
  Model model;
  const auto change = [&](uint64_t oldest) {
    Batch batch;
    for (int i = 0; i < 200; ++i) {
      batch.put(Table::kLease, "key" + std::to_string(random.below(1000)), test::random_bytes(random, 100));
    }
    batch.apply_to(model);
    const auto result = engine->commit(batch.commit({oldest}));
    ASSERT_TRUE(result) << result.error().message;
  };
  for (int i = 0; i < 5; ++i) change(engine->view()->txid());
  const auto held = engine->view();
  const Model held_model = model;
  for (int i = 0; i < 20; ++i) {
    change(held->txid());
    ASSERT_EQ(test::difference(*held, held_model, random), "") << i;
  }
  const uint64_t in_use = engine->space().in_use_bytes;
  for (int i = 0; i < 4; ++i) change(engine->view()->txid());
  EXPECT_LT(engine->space().in_use_bytes, in_use) << "released, its pages are used again";
  EXPECT_EQ(test::difference(*engine->view(), model, random), "");
  expect_sound(env::posix_fs(), path);
}

TEST(BoltEngine, DoesNotGrowWhenPagesAreReused) {
  MemoryFileSystem fs(16 << 20);
  const std::string path = "/db";
  const auto engine = open(fs, path);
  uint64_t after_ten = 0;
  for (int i = 0; i < 500; ++i) {
    Batch batch;
    batch.put(Table::kMeta, "consistent_index", std::to_string(i));
    batch.put(Table::kLease, std::string(200, 'k'), std::string(3000, static_cast<char>(i)));
    ASSERT_TRUE(engine->commit(batch.commit({engine->view()->txid()})));
    if (i == 10) after_ten = engine->space().high_water_bytes;
  }
  EXPECT_LE(engine->space().high_water_bytes, after_ten + 4096);
  expect_sound(fs, path);
}

TEST(BoltEngine, ReclaimCountsEntriesExactly) {
  const TempDir directory;
  for (const bool is_memory : {false, true}) {
    auto engine = is_memory ? *open_memory({}) : open(env::posix_fs(), directory / "db");
    Batch batch;
    for (uint64_t i = 1; i <= 9; ++i) batch.put(Table::kKey, revision_key(i), "value");
    ASSERT_TRUE(engine->commit(batch.commit()));
    Reclaim reclaim;
    reclaim.end = revision_key(7);
    reclaim.entries_max = 3;
    reclaim.keep = [](std::string_view key, std::string_view) { return load_be64(key.data()) % 2 == 0; };
    std::vector<uint64_t> removed;
    for (bool done = false; !done;) {
      ASSERT_LT(removed.size(), 5u);
      Commit commit;
      commit.reclaim = &reclaim;
      const auto result = engine->commit(commit);
      ASSERT_TRUE(result) << result.error().message;
      done = result->reclaim_done;
      removed.push_back(result->reclaimed_entries);
      reclaim.first = result->reclaim_position;
    }
    // 1 2 3, 4 5 6, and one that finds nothing more.
    EXPECT_EQ(removed, (std::vector<uint64_t>{2, 1, 0})) << is_memory;
  }
}

TEST(BoltEngine, KeepsInMemoryWhatTheFileHas) {
  const TempDir directory;
  std::vector<std::pair<const char*, uint64_t>> kept;
  bool is_allowed = true;
  BoltOptions options;
  options.keep_in_memory = [&](const char* from, uint64_t bytes) -> Status {
    if (!is_allowed) return fail(Code::kFailedPrecondition, "mlock error: not allowed");
    kept.emplace_back(from, bytes);
    return {};
  };
  {
    const auto engine = *open_bolt(env::posix_fs(), directory / "db", options);
    ASSERT_EQ(kept.size(), 1u) << "at the start";
    for (uint64_t i = 1; i <= 3; ++i) {
      Batch batch;
      batch.put(Table::kKey, revision_key(i), std::string(40 << 20, 'x'));
      ASSERT_TRUE(engine->commit(batch.commit()));
      is_allowed = i != 1;  // a failure is only told
    }
    ASSERT_GE(kept.size(), 3u) << "when it grows";
    for (size_t i = 1; i < kept.size(); ++i) EXPECT_GE(kept[i].first, kept[i - 1].first + kept[i - 1].second);
    ASSERT_TRUE(engine->close());
  }
  is_allowed = false;
  const auto refused = open_bolt(env::posix_fs(), directory / "db", options);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().message, "mlock error: not allowed");
}

TEST(BoltEngine, ReclaimRemovesInPartsWhatIsNotKept) {
  const TempDir directory;
  const std::string path = directory / "db";
  const auto engine = open(env::posix_fs(), path);
  Model model;
  Random random(3);
  {
    Batch batch;
    for (uint64_t i = 1; i <= 20'000; ++i) batch.put(Table::kKey, revision_key(i), test::random_bytes(random, 200));
    batch.apply_to(model);
    ASSERT_TRUE(engine->commit(batch.commit()));
  }
  const uint64_t in_use = engine->space().in_use_bytes;
  Reclaim reclaim;
  reclaim.first = "";
  reclaim.end = revision_key(18'000);
  reclaim.dirty_bytes_max = 256 << 10;
  reclaim.keep = [](std::string_view key, std::string_view) { return load_be64(key.data()) % 10 == 0; };
  int parts = 0;
  uint64_t removed = 0;
  for (bool done = false; !done; ++parts) {
    ASSERT_LT(parts, 100);
    Batch batch;
    batch.put(Table::kKey, revision_key(20'001 + static_cast<uint64_t>(parts)), "new");
    batch.apply_to(model);
    Commit commit = batch.commit({engine->view()->txid()});
    commit.reclaim = &reclaim;
    const auto result = engine->commit(commit);
    ASSERT_TRUE(result) << result.error().message;
    done = result->reclaim_done;
    removed += result->reclaimed_entries;
    reclaim.first = result->reclaim_position;
    expect_sound(env::posix_fs(), path);
  }
  EXPECT_GT(parts, 5) << "a part dirties little";
  EXPECT_EQ(removed, 17'999 - 1799);
  std::erase_if(test::of(model, Table::kKey), [&](const auto& entry) {
    return entry.first < reclaim.end && !reclaim.keep(entry.first, entry.second);
  });
  EXPECT_EQ(test::difference(*engine->view(), model, random), "");
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(engine->commit({}));
  EXPECT_LT(engine->space().in_use_bytes, in_use / 3);
}

// So that a quota is right from the start, and a server that is killed again and again does not grow.
TEST(BoltEngine, PagesFoundFreeCountAsFreeAndAreUsedByTheFirstCommit) {
  for (const bool closed : {true, false}) {
    const TempDir directory;
    const std::string path = directory / "db";
    uint64_t in_use = 0;
    uint64_t total = 0;
    {
      const auto engine = open(env::posix_fs(), path);
      Batch fill;
      for (uint64_t i = 1; i <= 5000; ++i) fill.put(Table::kKey, revision_key(i), std::string(1000, 'v'));
      ASSERT_TRUE(engine->commit(fill.commit()));
      Batch erase;
      for (uint64_t i = 1; i <= 4500; ++i) erase.erase(Table::kKey, revision_key(i));
      ASSERT_TRUE(engine->commit(erase.commit()));
      total = engine->space().high_water_bytes;
      if (closed) {
        ASSERT_TRUE(engine->close());
      }
    }
    for (uint64_t round = 0; round < 5; ++round) {
      const auto engine = open(env::posix_fs(), path);
      EXPECT_LT(engine->space().in_use_bytes, total / 4) << round;
      if (round > 0) {
        EXPECT_LE(engine->space().in_use_bytes, in_use) << "what the last commit freed is free now";
      }
      Batch batch;
      for (uint64_t i = 0; i < 100; ++i) {
        batch.put(Table::kKey, revision_key(5001 + round * 100 + i), std::string(1000, 'v'));
      }
      ASSERT_TRUE(engine->commit(batch.commit({engine->view()->txid()})));
      EXPECT_LE(engine->space().high_water_bytes, total) << round << ": there is room in the file";
      in_use = engine->space().in_use_bytes;
      expect_sound(env::posix_fs(), path);
    }
  }
}

// Another program's list may be wrong: its pages are found by a walk, and used only when no meta names it any more.
TEST(BoltEngine, AListThatIsNotTrustedStaysUntilNoMetaNamesIt) {
  const TempDir directory;
  const std::string path = directory / "db";
  {
    const auto engine = open(env::posix_fs(), path);
    Batch batch;
    for (int i = 0; i < 100; ++i) batch.put(Table::kLease, std::to_string(i), std::string(900, 'v'));
    ASSERT_TRUE(engine->commit(batch.commit()));
    Batch erase;
    for (int i = 0; i < 90; ++i) erase.erase(Table::kLease, std::to_string(i));
    ASSERT_TRUE(engine->commit(erase.commit()));
  }
  const auto metas_of = [&] { return bolt::read_metas(**env::posix_fs().open(path, env::OpenMode::kRead), path); };
  const bolt::Meta found = metas_of()->meta();
  {
    // bbolt's own has no seal.
    const auto file = env::posix_fs().open(path, env::OpenMode::kReadWrite);
    std::string page(4096, '\0');
    ASSERT_TRUE((*file)->pread(page.data(), page.size(), found.freelist * 4096));
    const auto ids = load_le<uint16_t>(page.data() + 10);
    std::fill(page.begin() + 16 + 8 * ids, page.end(), '\0');
    ASSERT_TRUE((*file)->pwrite(page, found.freelist * 4096));
  }
  const auto engine = open(env::posix_fs(), path, {.poison_free_pages = true});
  EXPECT_LT(engine->space().in_use_bytes, engine->space().high_water_bytes / 2);
  for (int i = 0; i < 4; ++i) {
    Batch batch;
    batch.put(Table::kMeta, "i", std::to_string(i));
    ASSERT_TRUE(engine->commit(batch.commit()));
    const auto metas = metas_of();
    for (const auto& meta : metas->page) {
      const auto header = bolt::load_header(env::read_file(env::posix_fs(), path)->data() + meta->freelist * 4096);
      EXPECT_EQ(header.id, meta->freelist) << i;
      EXPECT_EQ(header.flags, bolt::kFreelistFlag) << i;
    }
    expect_sound(env::posix_fs(), path);
  }
}

// What the commit itself writes in the range of the pass waits for the next part.
TEST(BoltEngine, ReclaimStopsBeforeEntriesOfItsOwnCommit) {
  const TempDir directory;
  const auto engine = open(env::posix_fs(), directory / "db");
  Batch first;
  for (uint64_t i = 1; i <= 10; ++i) first.put(Table::kKey, revision_key(i), "v");
  ASSERT_TRUE(engine->commit(first.commit()));
  Reclaim reclaim;
  reclaim.end = revision_key(100);
  reclaim.keep = [](std::string_view, std::string_view) { return false; };
  Batch second;
  for (uint64_t i = 11; i <= 15; ++i) second.put(Table::kKey, revision_key(i), "v");
  Commit commit = second.commit();
  commit.reclaim = &reclaim;
  auto result = engine->commit(commit);
  ASSERT_TRUE(result);
  EXPECT_EQ(result->reclaimed_entries, 10);
  EXPECT_FALSE(result->reclaim_done);
  EXPECT_EQ(result->reclaim_position, revision_key(11));
  reclaim.first = result->reclaim_position;
  result = engine->commit({.changes = {}, .reclaim = &reclaim});
  ASSERT_TRUE(result);
  EXPECT_EQ(result->reclaimed_entries, 5);
  EXPECT_TRUE(result->reclaim_done);
  expect_sound(env::posix_fs(), directory / "db");
}

TEST(BoltEngine, WritingTheSameAgainTouchesNothing) {
  const TempDir directory;
  const auto engine = open(env::posix_fs(), directory / "db");
  Batch batch;
  for (uint64_t i = 1; i <= 1000; ++i) batch.put(Table::kKey, revision_key(i), std::string(100, 'v'));
  ASSERT_TRUE(engine->commit(batch.commit()));
  batch.erase(Table::kLease, "not there");
  const auto again = engine->commit(batch.commit());
  ASSERT_TRUE(again);
  EXPECT_LE(again->written_bytes, 4096) << "nothing but the free list";
}

TEST(BoltEngine, LeavesTheFreeListOutWhenItIsLongAndWritesItAtClose) {
  const TempDir directory;
  const std::string path = directory / "db";
  Model model;
  Random random(9);
  {
    const auto engine = open(env::posix_fs(), path, {.freelist_bytes_max = 400});
    Batch batch;
    for (uint64_t i = 1; i <= 3000; ++i) batch.put(Table::kKey, revision_key(i), std::string(1000, 'v'));
    ASSERT_TRUE(engine->commit(batch.commit()));
    Batch erase;
    for (uint64_t i = 1; i <= 2000; ++i) erase.erase(Table::kKey, revision_key(i));
    ASSERT_TRUE(engine->commit(erase.commit()));
    batch.apply_to(model);
    erase.apply_to(model);
    EXPECT_FALSE(check_bolt(env::posix_fs(), path)->freelist_persisted);
  }
  {
    // Found by a walk.
    const auto engine = open(env::posix_fs(), path, {.freelist_bytes_max = 400});
    EXPECT_EQ(test::difference(*engine->view(), model, random), "");
    ASSERT_TRUE(engine->close());
  }
  const auto report = check_bolt(env::posix_fs(), path, {.older_tree_too = true});
  ASSERT_TRUE(report) << report.error().message;
  EXPECT_TRUE(report->freelist_persisted);
  EXPECT_GT(report->free_pages, 400);
  const auto engine = open(env::posix_fs(), path);
  EXPECT_EQ(test::difference(*engine->view(), model, random), "");
}

TEST(BoltEngine, ImageIsASnapshotOfTheView) {
  const TempDir directory;
  const std::string path = directory / "db";
  const auto engine = open(env::posix_fs(), path);
  Model model;
  Random random(13);
  for (int i = 0; i < 10; ++i) {
    Batch batch;
    for (int j = 0; j < 100; ++j) {
      batch.put(Table::kKey, revision_key(static_cast<uint64_t>(i * 100 + j)), test::random_bytes(random, 500));
      batch.put(Table::kLease, std::to_string(random.below(200)), test::random_bytes(random, random.below(9000)));
    }
    batch.apply_to(model);
    ASSERT_TRUE(engine->commit(batch.commit({engine->view()->txid()})));
  }
  const auto view = engine->view();
  auto reader = open_image(view);
  ASSERT_TRUE(reader) << reader.error().message;
  std::string image;
  char buffer[10'000];
  for (;;) {
    const auto got = (*reader)->read(buffer, 1 + random.below(sizeof buffer));
    ASSERT_TRUE(got) << got.error().message;
    if (*got == 0) break;
    image.append(buffer, *got);
    if (image.size() > 100'000 && image.size() < 120'000) {
      // Commits go on meanwhile.
      Batch batch;
      batch.put(Table::kMeta, "k", std::to_string(image.size()));
      ASSERT_TRUE(engine->commit(batch.commit({view->txid()})));
    }
  }
  EXPECT_EQ(image.size(), (*reader)->size());
  const std::string copy = directory / "copy";
  ASSERT_TRUE(env::write_file(env::posix_fs(), copy, image));
  expect_sound(env::posix_fs(), copy);
  const auto report = check_bolt(env::posix_fs(), copy);
  EXPECT_FALSE(report->freelist_persisted);
  EXPECT_EQ(report->txid, view->txid());
  const auto restored = open(env::posix_fs(), copy);
  EXPECT_EQ(test::difference(*restored->view(), model, random), "");
}

TEST(BoltEngine, NewMappingWhenTheFileOutgrowsTheOld) {
  const TempDir directory;
  const std::string path = directory / "db";
  const auto engine = open(env::posix_fs(), path, {.reserved_bytes = 1 << 20});
  Model model;
  Random random(17);
  std::vector<std::pair<std::shared_ptr<const View>, Model>> held;
  std::vector<uint64_t> open_views;
  for (uint64_t i = 0; i < 8; ++i) {
    Batch batch;
    for (uint64_t j = 0; j < 1000; ++j) batch.put(Table::kKey, revision_key(i * 1000 + j), std::string(700, 'v'));
    batch.apply_to(model);
    ASSERT_TRUE(engine->commit(batch.commit(open_views)));
    held.emplace_back(engine->view(), model);
    open_views.push_back(engine->view()->txid());
  }
  for (const auto& [view, expected] : held) EXPECT_EQ(test::difference(*view, expected, random), "");
  expect_sound(env::posix_fs(), path);
}

TEST(BoltEngine, WorksWithEveryPageSize) {
  for (uint32_t page_bytes = 1024; page_bytes <= 65536; page_bytes *= 2) {
    const TempDir directory;
    const std::string path = directory / "db";
    Model model;
    Random random(page_bytes);
    for (int round = 0; round < 2; ++round) {
      const auto engine = open(env::posix_fs(), path, {.page_bytes = page_bytes});
      for (int i = 0; i < 5; ++i) {
        Batch batch;
        for (int j = 0; j < 300; ++j) {
          batch.put(Table::kLease, std::to_string(random.below(2000)), test::random_bytes(random, random.below(200)));
          batch.erase(Table::kLease, std::to_string(random.below(2000)));
          batch.put(Table::kMembers, std::to_string(random.below(3)), test::random_bytes(random, 100));
        }
        batch.apply_to(model);
        ASSERT_TRUE(engine->commit(batch.commit({engine->view()->txid()})));
      }
      EXPECT_EQ(test::difference(*engine->view(), model, random), "") << page_bytes;
    }
    expect_sound(env::posix_fs(), path);
    EXPECT_EQ(check_bolt(env::posix_fs(), path)->page_bytes, page_bytes);
  }
}

}  // namespace
}  // namespace cairn::storage
