// storage/random_life.h: one engine beside a map, through a random life: appends, random puts and deletes with small
// and huge values, passes that reclaim some, most or all records, views held across commits, images, reopening in both
// ways. Every difference is a test failure.
#pragma once

#include <memory>
#include <set>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "env/fs.h"
#include "storage/bolt/check.h"
#include "storage/bolt/engine.h"
#include "storage/memory/engine.h"
#include "storage/memory/file_system.h"
#include "storage/test_support.h"

namespace cairn::storage::test {

struct Held {
  std::shared_ptr<const View> view;
  Model model;
};

enum class Kind { kMemory, kBoltInMemory, kBoltOnDisk };

class Life {
 public:
  Life(uint64_t seed, Kind kind)
      : random_(seed), bolt_(kind != Kind::kMemory), fs_(kind == Kind::kBoltOnDisk ? env::posix_fs() : memory_fs_) {
    const uint32_t page_sizes[] = {1024, 4096, 4096, 16384};
    options_.page_bytes = page_sizes[random_.below(4)];
    options_.reserved_bytes = 256 << 20;
    options_.poison_free_pages = true;
    options_.freelist_bytes_max = random_.one_in(3) ? 200 : 256 << 10;
    options_.space = {.move_above_bytes = 64 << 10,
                      .move_bytes_max = uint64_t{1} << random_.between(10, 21),
                      .punch_bytes_min = uint64_t{4096} << random_.below(7),
                      .solid_bytes_kept = random_.below(1 << 20)};
    value_bytes_max_ = random_.one_in(3) ? 20'000 : 300;
    reopen(false);
  }

  void run(int commits) {
    for (int i = 0; i < commits && !::testing::Test::HasFailure(); ++i) {
      step();
      check(i);
      if (random_.one_in(10)) reopen(random_.one_in(2));
    }
    reopen(true);
  }

  // The file, after run(): closed properly.
  [[nodiscard]] const std::string& path() const { return path_; }
  void close() { engine_.reset(); }

  // A snapshot of the newest view, checked; returns its path.
  std::string write_image() {
    const std::string copy = directory_ / "image";
    check_image(copy);
    return copy;
  }

 private:
  void step() {
    Batch batch;
    if (!random_.one_in(4)) {
      const uint64_t count = random_.one_in(5) ? 1 + random_.below(600) : 1 + random_.below(20);
      for (uint64_t i = 0; i < count; ++i) {
        next_revision_ += random_.below(2);
        batch.put(Table::kKey, revision_key(next_revision_, sub_++), value());
      }
      ++next_revision_;
    }
    // Other tables in bursts: some stay inline, some grow deep.
    const uint64_t changes = random_.one_in(4) ? random_.below(400) : random_.below(10);
    for (uint64_t i = 0; i < changes; ++i) {
      const Table table = random_.one_in(3) ? Table::kAuthUsers : (random_.one_in(2) ? Table::kLease : Table::kMeta);
      const uint64_t space = table == Table::kMeta ? 8 : 1500;
      std::string key = std::to_string(random_.below(space));
      if (random_.one_in(20)) key += std::string(random_.below(500), 'k');
      if (random_.below(100) < delete_percent_) {
        batch.erase(table, key);
      } else {
        batch.put(table, key, value());
      }
    }
    if (random_.one_in(15)) delete_percent_ = random_.below(101);
    // Now and then a table, or a piece of one, goes away at once.
    if (random_.one_in(12)) erase_range(batch, random_.one_in(2) ? Table::kAuthUsers : Table::kLease);

    Commit commit = batch.commit(open_views());
    Reclaim reclaim;
    if (reclaim_end_.empty() && random_.one_in(6)) start_pass();
    if (!reclaim_end_.empty()) {
      reclaim.first = reclaim_position_;
      reclaim.end = reclaim_end_;
      reclaim.keep = [this](std::string_view key, std::string_view) { return kept(key); };
      reclaim.dirty_bytes_max = 1 + random_.below(200'000);
      reclaim.visits_max = 1 + random_.below(5000);
      if (random_.one_in(3)) reclaim.entries_max = 1 + random_.below(200);
      commit.reclaim = &reclaim;
    }
    if (random_.one_in(30)) give_back_ = static_cast<GiveBack>(random_.below(3));
    commit.give_back = give_back_;
    const auto result = engine_->commit(commit);
    ASSERT_TRUE(result) << result.error().message;
    moved_bytes_ += result->moved_bytes;
    if (commit.reclaim != nullptr) {
      const std::string end = result->reclaim_done ? reclaim_end_ : result->reclaim_position;
      ASSERT_GE(end, reclaim_position_);
      auto& keys = of(model_, Table::kKey);
      const uint64_t removed = std::erase_if(keys, [&](const auto& entry) {
        return entry.first >= reclaim_position_ && entry.first < end && !kept(entry.first);
      });
      EXPECT_EQ(result->reclaimed_entries, removed);
      reclaim_position_ = result->reclaim_position;
      if (result->reclaim_done) reclaim_end_.clear();
    }
    batch.apply_to(model_);
    EXPECT_GT(result->view->txid(), last_txid_);
    last_txid_ = result->view->txid();
    if (random_.one_in(8)) held_.push_back({result->view, model_});
    if (held_.size() > 3 || (!held_.empty() && random_.one_in(8))) {
      const size_t which = random_.below(held_.size());
      EXPECT_EQ(difference(*held_[which].view, held_[which].model, random_), "") << "a held view";
      held_.erase(held_.begin() + static_cast<std::ptrdiff_t>(which));
    }
  }

  void start_pass() {
    const auto& keys = of(model_, Table::kKey);
    if (keys.empty()) return;
    reclaim_position_ = random_.one_in(2) ? "" : keys.begin()->first;
    const uint64_t at = random_.below(keys.size());
    reclaim_end_ = random_.one_in(3) ? "\xff" : std::next(keys.begin(), static_cast<std::ptrdiff_t>(at))->first + "x";
    keep_of_100_ = random_.one_in(3) ? 0 : (random_.one_in(2) ? random_.below(10) : random_.below(100));
    keep_blocks_ = random_.one_in(2);
  }

  // Single records, or whole stretches of them.
  bool kept(std::string_view key) const {
    const uint64_t number = load_be64(key.data()) / (keep_blocks_ ? 500 : 1);
    return (number * 0x9e3779b97f4a7c15 >> 32) % 100 < keep_of_100_;
  }

  void erase_range(Batch& batch, Table table) {
    const auto& entries = of(model_, table);
    const uint64_t from = random_.one_in(2) ? 0 : random_.below(entries.size() + 1);
    const uint64_t count = random_.one_in(2) ? entries.size() : random_.below(entries.size() + 1);
    auto it = std::next(entries.begin(), static_cast<std::ptrdiff_t>(from));
    for (uint64_t i = 0; i < count && it != entries.end(); ++i, ++it) batch.erase(table, it->first);
  }

  std::string value() {
    const uint64_t size = random_.one_in(10) ? random_.below(value_bytes_max_) : random_.below(100);
    return random_bytes(random_, size);
  }

  std::vector<uint64_t> open_views() const {
    std::set<uint64_t> txids{engine_->view()->txid()};
    for (const Held& held : held_) txids.insert(held.view->txid());
    return {txids.begin(), txids.end()};
  }

  void check(int step) {
    SCOPED_TRACE(step);
    ASSERT_EQ(difference(*engine_->view(), model_, random_), "");
    const Space space = engine_->space();
    EXPECT_LE(space.in_use_bytes, space.total_bytes);
    if (!bolt_) return;
    EXPECT_LE(space.total_bytes, space.file_bytes);
    const auto report = check_bolt(fs_, path_, {.older_tree_too = true});
    ASSERT_TRUE(report) << report.error().message;
    EXPECT_EQ(report->high_water * report->page_bytes, space.high_water_bytes);
    EXPECT_LE(space.total_bytes, space.high_water_bytes);
    if (report->freelist_persisted) {
      EXPECT_GE(space.in_use_bytes, (report->high_water - report->free_pages) * report->page_bytes);
    }
    if (random_.one_in(20)) check_image(directory_ / "image");
  }

  void check_image(const std::string& copy) {
    auto image = open_image(engine_->view());
    ASSERT_TRUE(image) << image.error().message;
    std::string bytes((*image)->size(), '\0');
    const auto got = (*image)->read(bytes.data(), bytes.size());
    ASSERT_TRUE(got) << got.error().message;
    ASSERT_EQ(*got, bytes.size());
    ASSERT_TRUE(env::write_file(fs_, copy, bytes));
    const auto report = check_bolt(fs_, copy, {.older_tree_too = true});
    ASSERT_TRUE(report) << report.error().message;
    const auto engine = open_bolt(fs_, copy, options_);
    ASSERT_TRUE(engine) << engine.error().message;
    EXPECT_EQ(difference(*(*engine)->view(), model_, random_), "");
  }

  void reopen(bool close) {
    held_.clear();
    if (close && engine_ != nullptr) {
      ASSERT_TRUE(engine_->close());
    }
    if (!bolt_) {
      const auto view = engine_ == nullptr ? nullptr : engine_->view();
      auto engine = open_memory(view);
      ASSERT_TRUE(engine);
      engine_ = *std::move(engine);
    } else {
      engine_.reset();
      auto engine = open_bolt(fs_, path_, options_);
      ASSERT_TRUE(engine) << engine.error().message;
      engine_ = *std::move(engine);
    }
    EXPECT_EQ(difference(*engine_->view(), model_, random_), "") << "after reopening";
    last_txid_ = engine_->view()->txid();
  }

  Random random_;
  bool bolt_;
  MemoryFileSystem memory_fs_{256 << 20};
  env::FileSystem& fs_;
  BoltOptions options_;
  uint64_t value_bytes_max_;
  TempDir directory_;
  std::string path_ = directory_ / "db";
  std::unique_ptr<Engine> engine_;
  Model model_;
  std::vector<Held> held_;
  uint64_t next_revision_ = 2;
  uint64_t sub_ = 0;
  uint64_t last_txid_ = 0;
  uint64_t delete_percent_ = 30;
  std::string reclaim_position_;
  std::string reclaim_end_;
  uint64_t keep_of_100_ = 0;
  GiveBack give_back_ = GiveBack::kNone;
  uint64_t moved_bytes_ = 0;
  bool keep_blocks_ = false;
};

}  // namespace cairn::storage::test
