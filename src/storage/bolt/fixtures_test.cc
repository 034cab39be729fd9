// Databases that etcd 3.4.23 wrote: tests/data/etcd-3.4.23/snapshots.
#include <zlib.h>

#include <gtest/gtest.h>

#include "env/fs.h"
#include "storage/bolt/check.h"
#include "storage/bolt/engine.h"
#include "storage/test_support.h"

namespace cairn::storage {
namespace {

const std::string kFolder = "tests/data/etcd-3.4.23/snapshots/";

std::string read_gz(const std::string& path) {
  gzFile file = ::gzopen(path.c_str(), "rb");
  if (file == nullptr) return "";
  std::string bytes;
  char buffer[65536];
  for (int count; (count = ::gzread(file, buffer, sizeof buffer)) > 0;)
    bytes.append(buffer, static_cast<size_t>(count));
  ::gzclose(file);
  return bytes;
}

// A copy of the fixture in `directory`; gzread passes through what is not compressed.
std::string unpack(const test::TempDir& directory, const std::string& name) {
  const std::string path = directory / "db";
  EXPECT_TRUE(env::write_file(env::posix_fs(), path, read_gz(kFolder + name)));
  return path;
}

struct Fixture {
  std::string name;
  uint64_t keys;         // entries of the bucket `key`
  uint64_t all_entries;  // what `snapshot status` of 3.4 counts
  uint64_t file_bytes;   // without the hash
};

class Fixtures : public ::testing::TestWithParam<Fixture> {};

test::Model read_all(const View& view) {
  test::Model model;
  for (const Table table : kAllTables) {
    const auto cursor = view.cursor(table);
    EXPECT_TRUE(cursor->seek(""));
    while (cursor->valid()) {
      test::of(model, table)[std::string(cursor->key())] = cursor->value();
      const Status status = cursor->next();
      EXPECT_TRUE(status) << status.error().message;
      if (!status) break;
    }
  }
  return model;
}

TEST_P(Fixtures, AreReadWhollyAndWrittenOn) {
  const test::TempDir directory;
  const std::string path = unpack(directory, GetParam().name);
  const auto before = check_bolt(env::posix_fs(), path, {.older_tree_too = true});
  ASSERT_TRUE(before) << before.error().message;
  EXPECT_EQ(before->bucket_entries.at("key"), GetParam().keys);
  EXPECT_EQ(before->high_water * before->page_bytes, GetParam().file_bytes);
  uint64_t total = 0;
  for (const auto& [bucket, count] : before->bucket_entries) total += count;
  EXPECT_EQ(total, GetParam().all_entries);

  test::Model model;
  Random random(1);
  {
    auto engine = open_bolt(env::posix_fs(), path);
    ASSERT_TRUE(engine) << engine.error().message;
    model = read_all(*(*engine)->view());
    EXPECT_EQ(test::of(model, Table::kKey).size(), GetParam().keys);
    EXPECT_EQ(test::difference(*(*engine)->view(), model, random), "");

    test::Batch batch;
    batch.put(Table::kKey, test::revision_key(1'000'000), "appended");
    batch.put(Table::kMeta, "consistent_index", "12345678");
    batch.erase(Table::kMembers, test::of(model, Table::kMembers).begin()->first);
    batch.apply_to(model);
    auto result = (*engine)->commit(batch.commit());
    ASSERT_TRUE(result) << result.error().message;
    EXPECT_EQ(test::difference(*result->view, model, random), "");
    ASSERT_TRUE((*engine)->close());
  }
  const auto after = check_bolt(env::posix_fs(), path, {.older_tree_too = true});
  ASSERT_TRUE(after) << after.error().message;
  EXPECT_TRUE(after->freelist_persisted);
  auto engine = open_bolt(env::posix_fs(), path);
  ASSERT_TRUE(engine) << engine.error().message;
  EXPECT_EQ(test::difference(*(*engine)->view(), model, random), "");
}

INSTANTIATE_TEST_SUITE_P(
    Etcd, Fixtures,
    ::testing::Values(Fixture{"basic.db", 54, 60, 36864}, Fixture{"compacted.db", 50, 58, 36864},
                      Fixture{"auth.db", 53, 66, 61440}, Fixture{"auth-bulkwritten.db", 53, 66, 28672},
                      Fixture{"alarm.db", 6, 12, 20480}, Fixture{"tombstone-before-compact.db", 7, 11, 20480},
                      Fixture{"tombstone-after-compact.db", 1, 7, 20480}, Fixture{"datadir-auth-db", 53, 66, 61440},
                      Fixture{"cluster.db.gz", 5604, 5611, 409600}),
    [](const auto& fixture) {
      std::string name = fixture.param.name;
      for (char& c : name) {
        if (c == '.' || c == '-') c = '_';
      }
      return name;
    });

TEST(EtcdDatabase, HasTheValuesThatWereWritten) {
  const test::TempDir directory;
  auto engine = open_bolt(env::posix_fs(), unpack(directory, "basic.db"));
  ASSERT_TRUE(engine) << engine.error().message;
  const auto view = (*engine)->view();
  EXPECT_EQ(view->txid(), 12);
  EXPECT_EQ(to_hex(view->get(Table::kMeta, "consistent_index")->value()), "0000000000000039");
  EXPECT_EQ(to_hex(view->get(Table::kKey, test::revision_key(2))->value()),
            to_hex("\n\n/fix/key01\x10\x02\x18\x02 \x01*\bvalue-01"));
  EXPECT_EQ(view->get(Table::kCluster, "clusterVersion")->value(), "3.4.0");
  EXPECT_FALSE(view->get(Table::kKey, test::revision_key(2, 1))->has_value());
}

}  // namespace
}  // namespace cairn::storage
