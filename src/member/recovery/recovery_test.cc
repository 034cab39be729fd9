// Directories and snapshots that etcd 3.4.23 wrote: what they mean, and the hashes that etcd printed for them.
#include "member/recovery/recovery.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <optional>

#include "base/bytes.h"
#include "cluster/codec.h"
#include "member/recovery/bootstrap.h"
#include "mvcc/kv/hash.h"
#include "mvcc/kv/txn.h"
#include "proto/raft_internal.pb.h"
#include "storage/bolt/engine.h"
#include "storage/write_buffer.h"
#include "testing/file_systems.h"
#include "testing/temp_dir.h"

namespace cairn::member {
namespace {

namespace fs = std::filesystem;
const std::string kData = "tests/data/etcd-3.4.23/";

using cairn::testing::InterruptedFileSystem;
using TemporaryDirectory = cairn::testing::TempDir;

// A db file with its index, as recovery builds it.
struct OpenedDb {
  std::unique_ptr<storage::Engine> engine;
  std::unique_ptr<mvcc::Index> index = std::make_unique<mvcc::Index>();
  std::shared_ptr<const storage::View> view;
  int64_t newest = 0;

  [[nodiscard]] uint32_t hash(int64_t revision, int64_t compact_revision) {
    const mvcc::IndexRoot root = index->published();
    mvcc::KvHasher hasher(root, revision, compact_revision);
    const mvcc::RecordView records{view.get(), newest, {}, {}};
    bool done = false;
    while (!done) {
      const auto step = hasher.step(records, 7);  // small slices: the end of one is the start of the next
      EXPECT_TRUE(step) << step.error().message;
      done = !step || *step;
    }
    return hasher.hash();
  }
};

OpenedDb open_db(const std::string& file, const TemporaryDirectory& directory, int64_t compact_revision) {
  OpenedDb out;
  const std::string copy = directory.path() + "/" + file;
  fs::copy_file(kData + "snapshots/" + file, copy, fs::copy_options::overwrite_existing);
  auto engine = storage::open_bolt(env::posix_fs(), copy);
  EXPECT_TRUE(engine) << engine.error().message;
  out.engine = *std::move(engine);
  out.view = out.engine->view();
  const auto newest = build_index(*out.view, *out.index, std::max<int64_t>(compact_revision, 0));
  EXPECT_TRUE(newest) << newest.error().message;
  out.newest = std::max(newest->newest, compact_revision);
  out.index->publish(out.newest);
  return out;
}

TEST(Recovery, HashKvIsWhatEtcdPrinted) {
  const TemporaryDirectory directory;
  struct Case {
    const char* file;
    int64_t compact_revision;
    int64_t revision;
    uint32_t hash;
  };
  const Case cases[] = {
      {"basic.db", -1, 52, 1699119974},
      {"basic.db", -1, 20, 3378598244},
      {"basic.db", -1, 36, 234403474},
      {"basic.db", -1, 37, 1876332290},
      {"basic.db", -1, 38, 462792644},
      {"basic.db", -1, 39, 311140346},
      {"basic.db", -1, 45, 2089472987},
      {"compacted.db", 38, 52, 3586648843},
      {"compacted.db", 38, 39, 706203715},
      {"compacted.db", 38, 45, 2403152683},
      {"auth.db", 38, 55, 2533385242},
      {"auth-bulkwritten.db", 38, 55, 2533385242},
      {"alarm.db", -1, 7, 1798934705},
      {"tombstone-before-compact.db", -1, 8, 3225570257},
      {"tombstone-before-compact.db", 8, 8, 3236739860},
      {"tombstone-after-compact.db", 8, 8, 3236739860},
  };
  for (const Case& one : cases) {
    // Hashing with a compaction whose pass has not begun must not differ: the index still has it all then.
    OpenedDb db = open_db(one.file, directory, one.compact_revision);
    EXPECT_EQ(db.hash(one.revision, one.compact_revision), one.hash) << one.file << " at " << one.revision;
  }
}

TEST(Recovery, KeysAreThoseOfTheFile) {
  const TemporaryDirectory directory;
  OpenedDb basic = open_db("basic.db", directory, -1);
  EXPECT_EQ(basic.newest, 52);
  EXPECT_EQ(basic.index->published().tally({}).count, 48u);
  const auto found = basic.index->published().find("/fix/key01");
  ASSERT_TRUE(found);
  EXPECT_EQ(found->create, 2);
  EXPECT_FALSE(basic.index->published().find("/fix/key30"));
  EXPECT_TRUE(basic.index->published().find("/fix/key30", 36));
  EXPECT_EQ(basic.index->published().find("/fix/leased/a")->lease, 0x1122334455667788);
  // The revision survives a compaction that deleted the newest record.
  OpenedDb after = open_db("tombstone-after-compact.db", directory, 8);
  EXPECT_EQ(after.newest, 8);
  EXPECT_EQ(after.index->published().tally({}).count, 1u);
}

void copy_directory(const std::string& name, const TemporaryDirectory& to) {
  fs::copy(kData + name, to.path() + "/data", fs::copy_options::recursive);
  fs::create_directories(to.path() + "/data/member/snap");
}

BootstrapOptions options_for(const TemporaryDirectory& directory) {
  BootstrapOptions options;
  options.data_dir = directory.path() + "/data";
  options.name = "m1";
  return options;
}

TEST(Recovery, ADirectoryWithAuthOpens) {
  const TemporaryDirectory directory;
  copy_directory("datadir-auth", directory);
  fs::copy_file(kData + "snapshots/datadir-auth-db", directory.path() + "/data/member/snap/db");
  const auto opened = bootstrap(env::posix_fs(), options_for(directory));
  ASSERT_TRUE(opened) << opened.error().message;
  const auto& rules = opened->state.auth.rules();
  EXPECT_TRUE(rules->enabled());
  ASSERT_NE(rules->find("root"), nullptr);
  EXPECT_TRUE(rules->find("root")->is_root);
  ASSERT_NE(rules->find("alice"), nullptr);
  EXPECT_FALSE(rules->find("alice")->is_root);
  EXPECT_FALSE(rules->find("alice")->permissions->readable.empty());
}

TEST(Recovery, ARestoredDirectoryTakesItsMembersFromTheSnapFile) {
  const TemporaryDirectory directory;
  copy_directory("datadir-restored", directory);
  // The restored db: basic.db with other ids; its members table still names the member of the old cluster.
  fs::copy_file(kData + "snapshots/basic.db", directory.path() + "/data/member/snap/db");
  auto opened = bootstrap(env::posix_fs(), options_for(directory));
  // basic.db itself is ahead of this log: that is found, with both numbers.
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, Code::kDataLoss);
  EXPECT_NE(opened.error().message.find("the db has applied entry 57, but the WAL ends at 2"), std::string::npos)
      << opened.error().message;
}

TEST(Recovery, ADamagedTailIsCutAndAWrongChecksumRefused) {
  struct Case {
    const char* file;
    bool opens;
  };
  for (const Case& one :
       {Case{"zero-sector.wal", true}, Case{"short-tail.wal", true}, Case{"crc-corrupt.wal", false}}) {
    const TemporaryDirectory directory;
    fs::create_directories(directory.path() + "/data/member/wal");
    fs::create_directories(directory.path() + "/data/member/snap");
    fs::copy_file(kData + "wal-torn/" + one.file,
                  directory.path() + "/data/member/wal/0000000000000000-0000000000000000.wal");
    fs::copy_file(kData + "snapshots/datadir-auth-db", directory.path() + "/data/member/snap/db");
    const auto opened = bootstrap(env::posix_fs(), options_for(directory));
    EXPECT_EQ(opened.has_value(), one.opens) << one.file;
    if (!one.opens) {
      ASSERT_FALSE(opened);
      EXPECT_EQ(opened.error().code, Code::kDataLoss) << one.file;
      EXPECT_NE(opened.error().message.find("checksum"), std::string::npos) << opened.error().message;
    }
  }
}

TEST(Bootstrap, FoundsAMemberWithEtcdsIds) {
  const TemporaryDirectory directory;
  BootstrapOptions options = options_for(directory);
  options.initial_cluster = {{"m1", {"http://127.0.0.1:32101"}}};
  options.initial_cluster_token = "fixtok";
  {
    const auto opened = bootstrap(env::posix_fs(), options);
    ASSERT_TRUE(opened) << opened.error().message;
    EXPECT_EQ(hex_id(opened->member_id), "b01c7f285a70202e");
    EXPECT_EQ(hex_id(opened->cluster_id), "f18d1db612e96aa1");
    EXPECT_TRUE(opened->new_directory);
    EXPECT_EQ(opened->start.hard.commit, Index(1));
    EXPECT_EQ(opened->raft_log.last_index(), Index(1));
    EXPECT_EQ(opened->state.schema, Schema::k3_7);
  }
  // Stopped before anything was committed to the db: it is founded on the same entries again.
  const auto again = bootstrap(env::posix_fs(), options);
  ASSERT_TRUE(again) << again.error().message;
  EXPECT_EQ(again->raft_log.last_index(), Index(1));
  // While it is open, nobody else opens it.
  const auto third = bootstrap(env::posix_fs(), options);
  ASSERT_FALSE(third);
  EXPECT_EQ(third.error().code, Code::kUnavailable);
}

// Only the leftovers of a receive or a defragmentation are removed, and what has such a name and cannot be removed does
// not matter.
TEST(Bootstrap, ForeignFilesInTheSnapshotDirectoryAreNoHindrance) {
  const TemporaryDirectory directory;
  BootstrapOptions options = options_for(directory);
  options.initial_cluster = {{"m1", {"http://127.0.0.1:32101"}}};
  const std::filesystem::path snap = std::filesystem::path(options.data_dir) / "member" / "snap";
  for (int start = 0; start < 2; ++start) {  // the first one founds the member
    std::filesystem::create_directories(snap / "tmp123" / "deep");
    std::filesystem::create_directories(snap / "db.tmp.1" / "deep");
    std::filesystem::create_directories(snap / "somebodys.snap");
    std::ofstream(snap / "tmp-left").put('x');
    std::filesystem::create_symlink("/nowhere/at/all", snap / "tmp-link");
    const auto opened = bootstrap(env::posix_fs(), options);
    ASSERT_TRUE(opened) << opened.error().message;
    EXPECT_FALSE(std::filesystem::exists(snap / "tmp-left"));
    EXPECT_EQ(std::filesystem::symlink_status(snap / "tmp-link").type(), std::filesystem::file_type::not_found);
    EXPECT_TRUE(std::filesystem::exists(snap / "tmp123" / "deep"));
  }
}

// Whether the other one stays or ends at once, nobody is told that something is damaged or missing.
TEST(Bootstrap, OfTwoStartsOnNothingOneFoundsAndTheOtherWaits) {
  for (const bool stays : {true, false}) {
    bool happened = true;
    for (uint64_t nth = 1; happened; ++nth) {
      SCOPED_TRACE(nth);
      const TemporaryDirectory folder;
      BootstrapOptions options;
      options.data_dir = folder / "data";
      options.initial_cluster = {{"default", {"http://127.0.0.1:2380"}}};
      std::optional<Bootstrapped> second;
      bool second_began = false;
      InterruptedFileSystem fs(nth, [&] {
        auto opened = bootstrap(env::posix_fs(), options);
        ASSERT_TRUE(opened || opened.error().code == Code::kUnavailable) << opened.error().message;
        if (!opened) return;
        second_began = true;
        storage::WriteBuffer buffer;
        buffer.put(storage::Table::kMeta, "consistent_index", std::string_view("\0\0\0\0\0\0\0\1", 8));
        buffer.freeze();
        storage::Commit commit;
        commit.changes = buffer.changes();
        ASSERT_TRUE(opened->engine->commit(commit));
        if (stays) second = *std::move(opened);
      });
      auto first = bootstrap(fs, options);
      happened = fs.happened();
      if (!first) {
        ASSERT_EQ(first.error().code, Code::kUnavailable) << first.error().message;
        ASSERT_TRUE(second_began);
        second.reset();
        first = bootstrap(env::posix_fs(), options);
        ASSERT_TRUE(first) << first.error().message;
        EXPECT_EQ(first->state.applied, Index(1)) << "what the other one committed";
      }
      EXPECT_FALSE(second);
    }
  }
}

// etcd writes its storage version a moment after the cluster's, and the cluster's after its attributes. A directory
// that was left before then is not one of 3.5, whose members write to the log what etcd 3.7 does not read.
TEST(Bootstrap, WithoutAStorageVersionTheOthersSayWhoseDirectoryItIs) {
  etcdserverpb::InternalRaftRequest published;
  published.mutable_cluster_member_attr_set()->set_member_id(1);
  etcdserverpb::InternalRaftRequest decided;
  decided.mutable_cluster_version_set()->set_ver("3.6.0");
  const std::string v2 = cluster::encode_v2_attributes(1, {NodeId(1), "m", {}});
  etcdserverpb::InternalRaftRequest put;
  put.mutable_put()->set_key("a");
  struct Case {
    std::string cluster_version;
    std::vector<std::string> log;
    Schema schema;
    uint64_t snapshot = 0;  // is recorded behind this entry, which the db has applied; 0: none is
  };
  const Case cases[] = {
      {"3.7.0", {}, Schema::k3_7},
      {"3.6.0", {published.SerializeAsString()}, Schema::k3_6},
      {"3.5.0", {}, Schema::k3_5},
      {"3.4.0", {v2}, Schema::k3_5},
      {"", {published.SerializeAsString()}, Schema::k3_7},
      {"", {published.SerializeAsString(), decided.SerializeAsString()}, Schema::k3_6},
      {"", {v2}, Schema::k3_5},
      {"", {}, Schema::k3_7},
      // Ours: its leader was far behind for long, so nobody has decided on a version, and what its members have
      // published the log has released.
      {"", {put.SerializeAsString()}, Schema::k3_7, 2},
      // Restored by a tool of 3.5, and not started yet.
      {"", {}, Schema::k3_5, 1},
  };
  for (const Case& one : cases) {
    SCOPED_TRACE(fmt::format("{} {} {}", one.cluster_version, one.log.size(), one.snapshot));
    const TemporaryDirectory folder;
    BootstrapOptions options = options_for(folder);
    options.initial_cluster = {{"m1", {"http://127.0.0.1:32101"}}};
    {
      const auto founded = bootstrap(env::posix_fs(), options);
      ASSERT_TRUE(founded) << founded.error().message;
      storage::WriteBuffer buffer;
      const std::string consistent = std::string(7, '\0') + static_cast<char>(std::max<uint64_t>(one.snapshot, 1));
      buffer.put(storage::Table::kMeta, "consistent_index", consistent);
      buffer.put(storage::Table::kMeta, "term", std::string_view("\0\0\0\0\0\0\0\1", 8));
      if (!one.cluster_version.empty()) buffer.put(storage::Table::kCluster, "clusterVersion", one.cluster_version);
      buffer.freeze();
      storage::Commit commit;
      commit.changes = buffer.changes();
      ASSERT_TRUE(founded->engine->commit(commit));
      std::vector<wal::Entry> entries;
      for (const std::string& bytes : one.log) entries.push_back({0, Term(1), Index(entries.size() + 2), bytes});
      ASSERT_TRUE(founded->log->save(entries, {}, true));
      if (one.snapshot != 0) {
        const Index behind(one.snapshot);
        ASSERT_TRUE(founded->log->save({}, {Term(1), {}, behind}, true));
        ASSERT_TRUE(founded->log->save_snapshot({behind, Term(1), std::nullopt}));
      }
    }
    const auto opened = bootstrap(env::posix_fs(), options);
    ASSERT_TRUE(opened) << opened.error().message;
    EXPECT_EQ(opened->state.schema, one.schema);
  }
}

}  // namespace
}  // namespace cairn::member
