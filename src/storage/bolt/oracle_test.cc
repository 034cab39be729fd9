// The judge from outside: bbolt itself, as tests/oracles/boltcheck, on files we leave; and our reader on files it
// makes. Skipped where the program is not built (tests/oracles/build).
#include <cstdlib>
#include <filesystem>

#include <gtest/gtest.h>

#include "storage/bolt/exercise.h"
#include "storage/random_life.h"
#include "testing/seeds.h"

namespace cairn::storage {
namespace {

const std::string kProgram = "build/oracles/boltcheck";

int boltcheck(const std::string& arguments) {
  return std::system((kProgram + " " + arguments + " >/dev/null 2>&1").c_str());
}

// etcd's own tool, where it is installed; it reads revisions, so the table `key` must hold nothing else.
void expect_status_of_etcdctl(const std::string& path) {
  if (!std::filesystem::exists("/usr/bin/etcdctl")) return;
  EXPECT_EQ(std::system(("ETCDCTL_API=3 /usr/bin/etcdctl snapshot status " + path + " >/dev/null 2>&1").c_str()), 0);
}

void expect_sound_for_both(const std::string& path) {
  EXPECT_EQ(boltcheck("check " + path), 0) << path;
  const auto report = check_bolt(env::posix_fs(), path, {.older_tree_too = true});
  EXPECT_TRUE(report) << report.error().message;
}

struct Oracle : ::testing::Test {
  void SetUp() override {
    if (!std::filesystem::exists(kProgram)) GTEST_SKIP() << kProgram << " is not built";
  }

  // Opens, reads, changes and closes.
  static void write_on(const std::string& path, uint64_t seed) {
    const auto engine = open_bolt(env::posix_fs(), path, {.opening = seed});
    ASSERT_TRUE(engine) << engine.error().message;
    const Status read = bolt::read_everything(*(*engine)->view());
    ASSERT_TRUE(read) << read.error().message;
    Random random(seed);
    for (int i = 0; i < 5; ++i) {
      test::Batch batch;
      for (const Table table : kAllTables) {
        const auto cursor = (*engine)->view()->cursor(table);
        ASSERT_TRUE(cursor->seek(""));
        while (cursor->valid()) {
          const std::string key(cursor->key());
          if (random.one_in(3)) batch.erase(table, key);
          if (random.one_in(5)) batch.put(table, key, test::random_bytes(random, random.below(2000)));
          ASSERT_TRUE(cursor->next());
        }
        batch.put(table, test::random_bytes(random, 1 + random.below(60)),
                  test::random_bytes(random, random.below(300)));
      }
      const auto result = (*engine)->commit(batch.commit({(*engine)->view()->txid()}));
      ASSERT_TRUE(result) << result.error().message;
    }
    ASSERT_TRUE((*engine)->close());
  }
};

TEST_F(Oracle, BboltAcceptsAndGoesOnWithWhatWeWrite) {
  const uint64_t first = cairn::testing::first_seed(101);
  for (uint64_t seed = first; seed < first + 6; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    test::Life life(seed, test::Kind::kBoltOnDisk);
    life.run(40);
    const std::string image = life.write_image();
    life.close();
    expect_sound_for_both(image);
    expect_status_of_etcdctl(image);
    expect_sound_for_both(life.path());
    expect_status_of_etcdctl(life.path());
    // What bbolt's own writer relies on shows when it writes.
    ASSERT_EQ(boltcheck("mutate " + life.path() + " --transactions 150 --seed " + std::to_string(seed)), 0);
    expect_sound_for_both(life.path());
    write_on(life.path(), seed);
    expect_sound_for_both(life.path());
    ASSERT_EQ(boltcheck("mutate " + life.path() + " --transactions 50 --mmap 0 --seed " + std::to_string(seed)), 0);
    if (HasFailure()) return;
  }
}

TEST_F(Oracle, WeReadAndGoOnWithWhatBboltMakes) {
  const uint64_t first = cairn::testing::first_seed(1);
  for (const std::string shape : {"etcd", "plain", "inline"}) {
    for (uint64_t seed = first; seed < first + 2; ++seed) {
      SCOPED_TRACE(shape + " seed " + std::to_string(seed));
      const test::TempDir directory;
      const std::string path = directory / "db";
      ASSERT_EQ(boltcheck("make " + path + " --buckets " + shape + " --seed " + std::to_string(seed)), 0);
      expect_sound_for_both(path);
      write_on(path, seed);
      expect_sound_for_both(path);
      ASSERT_EQ(boltcheck("mutate " + path + " --transactions 50 --seed " + std::to_string(seed)), 0);
      expect_sound_for_both(path);
      if (HasFailure()) return;
    }
  }
}

// Nested buckets: not etcd's. They are refused, or not touched; never taken for free space.
TEST_F(Oracle, NestedBucketsAreNeverDestroyed) {
  for (uint64_t seed = 1; seed <= 4; ++seed) {
    SCOPED_TRACE(seed);
    const test::TempDir directory;
    const std::string path = directory / "db";
    ASSERT_EQ(boltcheck("make " + path + " --buckets nested --seed " + std::to_string(seed)), 0);
    const auto engine = open_bolt(env::posix_fs(), path);
    if (engine) {
      test::Batch batch;
      for (const Table table : kAllTables) batch.put(table, "key", std::string(10'000, 'v'));
      for (int i = 0; i < 3; ++i) (void)(*engine)->commit(batch.commit({(*engine)->view()->txid()}));
    }
    EXPECT_EQ(boltcheck("check " + path), 0);
  }
}

}  // namespace
}  // namespace cairn::storage
