// Logs written by etcd: what they must decode to, and that Cairn writes the same bytes as 3.4.
#include <gtest/gtest.h>
#include <zlib.h>

#include <map>

#include "base/bytes.h"
#include "testing/file_systems.h"
#include "wal/codec.h"
#include "wal/log.h"
#include "wal/scan.h"
#include "wal/snap_file.h"
#include "wal/testing.h"

namespace cairn::wal {
namespace {

using testing::make_entry;
using testing::make_state;
using testing::read_all;
using testing::read_entries;
using testing::StoredEntry;
using testing::TempDir;
using testing::write_all;

const std::string kData = "tests/data/etcd-3.4.23/";
constexpr const char* kFirst = "0000000000000000-0000000000000000.wal";
constexpr const char* kSecond = "0000000000000001-0000000000000045.wal";

void unzip(const std::string& from, const std::string& to) {
  const gzFile in = gzopen(from.c_str(), "rb");
  ASSERT_NE(in, nullptr) << from;
  FILE* out = std::fopen(to.c_str(), "wb");
  ASSERT_NE(out, nullptr) << to;
  std::vector<char> buffer(1 << 20);
  for (int count; (count = gzread(in, buffer.data(), static_cast<unsigned>(buffer.size()))) > 0;) {
    ASSERT_EQ(std::fwrite(buffer.data(), 1, static_cast<size_t>(count), out), static_cast<size_t>(count));
  }
  gzclose(in);
  std::fclose(out);
}

struct Fact {
  RecordType type;
  uint64_t offset;
  uint32_t crc;
  std::string data;
};

struct Facts {
  Scan scan;
  std::vector<Fact> records;
  std::map<uint64_t, StoredEntry> entries;
};

Facts facts_of(const std::string& directory) {
  Facts facts;
  Result<Scan> scan = scan_directory(env::posix_fs(), directory, [&](const Segment&, const Record& record) {
    facts.records.push_back({record.type, record.offset, record.crc, std::string(record.data)});
    if (record.type == RecordType::kEntry) {
      const Entry entry = *decode_entry(record.data);
      facts.entries[entry.index.value] = {entry.type, entry.term, entry.index, std::string(entry.data)};
    }
  });
  EXPECT_TRUE(scan.has_value()) << scan.error().message;
  if (scan) facts.scan = *std::move(scan);
  return facts;
}

TEST(EtcdFixture, AuthLogDecodesAsDescribed) {
  const Facts facts = facts_of(kData + "datadir-auth/member/wal");
  EXPECT_EQ(facts.records.size(), 176u);
  EXPECT_EQ(facts.scan.end_offset, 12328u);
  EXPECT_FALSE(facts.scan.torn);
  EXPECT_EQ(facts.scan.metadata, (Metadata{NodeId(0xb01c7f285a70202e), 0xf18d1db612e96aa1}));
  EXPECT_EQ(facts.scan.state, make_state(2, 0xb01c7f285a70202e, 87));
  EXPECT_EQ(facts.scan.points.first(), Index(1));
  EXPECT_EQ(facts.scan.points.last(), Index(87));

  // The first records, one by one.
  struct Expected {
    uint64_t offset;
    RecordType type;
    uint32_t crc;
  };
  const std::vector<Expected> expected = {{0, RecordType::kCrc, 0},
                                          {16, RecordType::kMetadata, 0x7d243da3},
                                          {56, RecordType::kSnapshot, 0x0bd89912},
                                          {80, RecordType::kEntry, 0x34d6173f},
                                          {200, RecordType::kState, 0xe91fb1bb}};
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_EQ(facts.records[i].offset, expected[i].offset) << i;
    EXPECT_EQ(facts.records[i].type, expected[i].type) << i;
    EXPECT_EQ(facts.records[i].crc, expected[i].crc) << i;
  }
  EXPECT_EQ(facts.entries.at(1).type, 1);  // the founding conf change
  EXPECT_EQ(facts.entries.at(2), make_entry(2, 2, ""));
  EXPECT_NE(facts.entries.at(3).data.find("/0/members/"), std::string::npos);
}

// Written again record by record, each log comes out byte for byte as etcd wrote it.
TEST(EtcdFixture, LogsAreReproducedByteForByte) {
  for (const char* name : {"datadir-auth", "datadir-restored", "datadir-joined"}) {
    const std::string directory = kData + name + "/member/wal";
    const Facts facts = facts_of(directory);
    RecordBuffer buffer;
    uint32_t crc = 0;
    for (const Fact& record : facts.records) {
      switch (record.type) {
        case RecordType::kCrc: buffer.append_crc(crc); break;
        case RecordType::kMetadata:
          buffer.append(record.type, encode_metadata(*decode_metadata(record.data)), crc);
          break;
        case RecordType::kEntry: buffer.append_entry(*decode_entry(record.data), crc); break;
        case RecordType::kState:
          buffer.append(record.type, encode_hard_state(*decode_hard_state(record.data)), crc);
          break;
        case RecordType::kSnapshot:
          buffer.append(record.type, encode_snapshot_record(*decode_snapshot_record(record.data)), crc);
          break;
      }
      ASSERT_EQ(crc, record.crc) << name << " at " << record.offset;
    }
    EXPECT_EQ(std::string(buffer.view()), read_all(directory + "/" + kFirst)) << name;
  }
}

TEST(EtcdFixture, RestoredLogDecodesAsDescribed) {
  const Facts facts = facts_of(kData + "datadir-restored/member/wal");
  EXPECT_EQ(facts.records.size(), 7u);
  EXPECT_EQ(facts.scan.metadata, (Metadata{NodeId(0x4e9621962f30ca91), 0x1b0b87a19f8111fd}));
  EXPECT_EQ(facts.scan.state, make_state(1, 0x4e9621962f30ca91, 2));
  ASSERT_EQ(facts.scan.snapshots.size(), 2u);
  EXPECT_EQ(facts.scan.snapshots[1].record, (SnapshotRecord{Index(2), Term(1), std::nullopt}));
  EXPECT_EQ(facts.scan.points.last(), Index(2));

  const SnapshotName name{Term(1), Index(2)};
  const auto snapshot = read_snapshot_file(env::posix_fs(), kData + "datadir-restored/member/snap", name);
  ASSERT_TRUE(snapshot.has_value()) << snapshot.error().message;
  EXPECT_TRUE(snapshot->data.starts_with("{\"Root\":"));
  EXPECT_TRUE(check_start("wal", facts.scan.snapshots, facts.scan.points, facts.scan.state, {Index(2), Term(1), {}}));
}

TEST(EtcdFixture, JoinedLogBeginsBehindTheLeadersSnapshot) {
  const Facts facts = facts_of(kData + "datadir-joined/member/wal");
  EXPECT_EQ(facts.records.size(), 19u);
  EXPECT_EQ(facts.scan.metadata, (Metadata{NodeId(0xaa6af4b64397dbc2), 0x006d74b5aeb5386b}));
  EXPECT_EQ(facts.scan.state, make_state(4, 0xaa6af4b64397dbc2, 5617));
  EXPECT_EQ(facts.scan.points.first(), Index(5612));
  EXPECT_EQ(facts.scan.points.last(), Index(5617));
  EXPECT_EQ(facts.entries.at(5612).type, 1);
  EXPECT_EQ(facts.entries.at(5615).type, 1);
  EXPECT_NE(facts.entries.at(5617).data.find("after/remove"), std::string::npos);

  const auto check = [&](uint64_t index, uint64_t term) {
    return check_start("wal", facts.scan.snapshots, facts.scan.points, facts.scan.state,
                       {Index(index), Term(term), {}});
  };
  EXPECT_TRUE(check(5611, 3));
  EXPECT_FALSE(check(5611, 2));
  EXPECT_FALSE(check(5610, 3));
  EXPECT_FALSE(check(0, 0));  // recorded, but the entries behind it are not here
}

TEST(EtcdFixture, SnapshotFilesAreReproducedByteForByte) {
  struct Known {
    const char* path;
    SnapshotName name;
  };
  const std::vector<Known> files = {{"datadir-restored/member/snap", {Term(1), Index(2)}},
                                    {"datadir-joined/member/snap", {Term(3), Index(5611)}},
                                    {"wal-segments", {Term(2), Index(0x15)}},
                                    {"wal-segments", {Term(2), Index(0x2a)}},
                                    {"wal-segments", {Term(2), Index(0x3f)}}};
  for (const Known& file : files) {
    const std::string path = kData + file.path + "/" + format_snapshot_name(file.name);
    const std::string bytes = read_all(path);
    const auto snapshot = decode_snapshot_file(bytes);
    ASSERT_TRUE(snapshot.has_value()) << path << snapshot.error().message;
    EXPECT_EQ(snapshot->index, file.name.index);
    EXPECT_EQ(snapshot->term, file.name.term);
    EXPECT_EQ(encode_snapshot_file(*snapshot), bytes) << path;
  }
  const auto joined =
      decode_snapshot_file(read_all(kData + "datadir-joined/member/snap/0000000000000003-00000000000015eb.snap"));
  EXPECT_EQ(to_hex(joined->conf_state), "08bf95e29adcd2fcd42008d7e698e2b990d8a24910c2b7df9ce496bdb5aa012800");
}

// Written by the wal package of etcd 3.7.1, zeros cut off. It leaves out fields that are not set.
TEST(EtcdFixture, Version37sEncodingIsRead) {
  const Facts facts = facts_of("tests/data/etcd-3.7.1/wal");
  EXPECT_EQ(facts.records.size(), 11u);
  EXPECT_EQ(facts.scan.end_offset, 288u);
  EXPECT_EQ(facts.scan.metadata, (Metadata{NodeId(0x11), 0x22}));
  EXPECT_EQ(facts.scan.state, make_state(3, 0x22, 3));
  EXPECT_EQ(facts.entries.at(1), make_entry(1, 1, "conf", 1));
  EXPECT_EQ(facts.entries.at(2), make_entry(2, 2, ""));
  EXPECT_EQ(facts.entries.at(3), make_entry(3, 3, "replaced"));
  ASSERT_EQ(facts.scan.snapshots.size(), 2u);
  EXPECT_EQ(facts.scan.snapshots[0].record, SnapshotRecord{});
  EXPECT_EQ(facts.scan.snapshots[1].record, (SnapshotRecord{Index(2), Term(2), std::string("\x08\x11\x28\0", 4)}));
}

class SegmentsFixture : public ::testing::Test {
 protected:
  void SetUp() override {
    std::filesystem::create_directories(dir_ / "wal");
    unzip(kData + "wal-segments/" + kFirst + ".gz", dir_ / ("wal/" + std::string(kFirst)));
    unzip(kData + "wal-segments/" + kSecond + ".gz", dir_ / ("wal/" + std::string(kSecond)));
  }
  TempDir dir_;
};

TEST_F(SegmentsFixture, TwoSegmentsAreOneChain) {
  const Facts facts = facts_of(dir_ / "wal");
  EXPECT_EQ(facts.records.size(), 153u);
  ASSERT_EQ(facts.records[142].type, RecordType::kCrc);
  EXPECT_EQ(facts.records[141].crc, 0xbed317b3u);
  EXPECT_EQ(facts.records[142].crc, 0xbed317b3u);
  EXPECT_EQ(facts.records[143].crc, 0x8036fef0u);
  EXPECT_EQ(facts.records.back().type, RecordType::kState);
  EXPECT_EQ(facts.records.back().crc, 0x2ae2471bu);
  EXPECT_EQ(facts.scan.state, make_state(2, 0x5d6292c20a64ba7d, 0x48));
  EXPECT_EQ(facts.scan.end_offset, 3000464u);
  EXPECT_EQ(facts.scan.points.first(), Index(1));
  EXPECT_EQ(facts.scan.points.last(), Index(0x48));

  std::vector<SnapshotRecord> records;
  for (const SnapshotPlace& place : facts.scan.snapshots) records.push_back(place.record);
  const auto start =
      choose_start_snapshot(env::posix_fs(), kData + "wal-segments", valid_snapshot_records(records, facts.scan.state));
  ASSERT_TRUE(start.has_value() && start->has_value());
  EXPECT_EQ((*start)->index, Index(0x3f));
}

TEST_F(SegmentsFixture, OpensGoesOnAndReadsBack) {
  const Facts facts = facts_of(dir_ / "wal");
  {
    auto opened = Log::open(env::posix_fs(), dir_ / "wal");
    ASSERT_TRUE(opened.has_value()) << opened.error().message;
    EXPECT_FALSE(opened->repair);
    Log& log = *opened->log;
    EXPECT_EQ(log.segment_count(), 2u);
    EXPECT_TRUE(log.check_start({Index(0x3f), Term(2), {}}));
    const StoredEntry more = make_entry(0x49, 2, "more");
    ASSERT_TRUE(log.save(testing::views({more}), make_state(2, 0x5d6292c20a64ba7d, 0x49), true));
    const auto entries = read_entries(*log.index(), Index(1), Index(0x4a), UINT64_MAX);
    ASSERT_TRUE(entries.has_value()) << entries.error().message;
    ASSERT_EQ(entries->size(), 0x49u);
    for (const StoredEntry& entry : *entries) {
      if (entry.index == Index(0x49)) break;
      EXPECT_EQ(entry, facts.entries.at(entry.index.value));
    }
    EXPECT_EQ(entries->back(), more);
  }
  EXPECT_EQ(facts_of(dir_ / "wal").records.size(), 155u);
}

class TornFixture : public ::testing::Test {
 protected:
  Result<OpenedLog> open(const char* name) {
    write_all(path_, read_all(kData + "wal-torn/" + name));
    return Log::open(env::posix_fs(), dir_.path());
  }
  TempDir dir_;
  const std::string path_ = dir_ / kFirst;
};

TEST_F(TornFixture, InterruptedWritesAreCutAway) {
  const std::string whole = read_all(kData + "datadir-auth/member/wal/" + kFirst);
  for (const char* name : {"zero-sector.wal", "short-tail.wal"}) {
    {
      const auto opened = open(name);
      ASSERT_TRUE(opened.has_value()) << opened.error().message;
      ASSERT_TRUE(opened->repair) << name;
      EXPECT_EQ(opened->repair->offset, 12288u);
      EXPECT_EQ(opened->repair->file, path_);
      EXPECT_EQ(read_all(path_ + ".broken"), read_all(kData + "wal-torn/" + name));
      EXPECT_EQ(opened->log->last_index(), Index(87));
      EXPECT_EQ(opened->hard_state.commit, Index(86));
    }
    std::string bytes = read_all(path_);
    EXPECT_EQ(bytes.size(), 64'000'000u);
    EXPECT_EQ(bytes.find_first_not_of('\0', 12288), std::string::npos);
    bytes.resize(12288);
    EXPECT_EQ(bytes, whole.substr(0, 12288));
    const auto again = Log::open(env::posix_fs(), dir_.path());
    ASSERT_TRUE(again.has_value());
    EXPECT_FALSE(again->repair);
  }
}

TEST_F(TornFixture, DamageIsRefusedWithFileOffsetAndAWayOut) {
  const auto opened = open("crc-corrupt.wal");
  ASSERT_FALSE(opened.has_value());
  EXPECT_EQ(opened.error().code, Code::kDataLoss);
  const std::string& message = opened.error().message;
  EXPECT_TRUE(message.starts_with("wal: " + path_ + " at offset 9232: checksum mismatch")) << message;
  EXPECT_NE(message.find("restore the member from a snapshot"), std::string::npos);
  EXPECT_EQ(read_all(path_), read_all(kData + "wal-torn/crc-corrupt.wal"));  // nothing was changed
}

}  // namespace
}  // namespace cairn::wal
