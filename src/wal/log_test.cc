#include "wal/log.h"

#include <gtest/gtest.h>

#include <sys/stat.h>

#include <atomic>
#include <filesystem>
#include <thread>

#include "base/log.h"
#include "testing/file_systems.h"
#include "wal/codec.h"
#include "wal/metrics.h"
#include "wal/scan.h"
#include "wal/testing.h"

namespace cairn::wal {
namespace {

using testing::make_entry;
using testing::make_state;
using testing::read_all;
using testing::read_entries;
using testing::StoredEntry;
using testing::TempDir;
using testing::views;
using testing::write_all;

constexpr Metadata kMetadata{NodeId(0x11), 0x22};
constexpr const char* kFirst = "0000000000000000-0000000000000000.wal";

class LogTest : public ::testing::Test {
 protected:
  // A segment takes a few entries, so that there are many.
  Options small(uint64_t segment_bytes = 4096) { return {.segment_bytes = segment_bytes, .zero_ahead_bytes = 1024}; }

  std::unique_ptr<Log> create(const Options& options = {}) {
    auto log = Log::create(fs_, wal_, kMetadata, options);
    EXPECT_TRUE(log.has_value()) << log.error().message;
    return *std::move(log);
  }
  OpenedLog open(const Options& options = {}) {
    auto opened = Log::open(fs_, wal_, options);
    EXPECT_TRUE(opened.has_value()) << opened.error().message;
    return *std::move(opened);
  }
  // Saves entries [lo, hi), 100 bytes each, committed, one save each.
  void fill(Log& log, uint64_t lo, uint64_t hi, uint64_t term = 1) {
    for (uint64_t i = lo; i < hi; ++i) {
      const std::vector<StoredEntry> entries = {make_entry(i, term, std::string(100, static_cast<char>('a' + i % 26)))};
      ASSERT_TRUE(log.save(views(entries), make_state(term, 0x11, i), true));
    }
  }
  std::vector<std::string> names() { return *fs_.list(wal_); }
  std::vector<std::string> segment_names() {
    std::vector<std::string> result;
    for (const std::string& name : names()) {
      if (parse_segment_name(name)) result.push_back(name);
    }
    return result;
  }
  static size_t run_spares(Log& log) {
    size_t steps = 1;
    for (; *log.spares()->prepare_step(); ++steps) EXPECT_LT(steps, 10'000u);
    return steps;
  }

  env::FileSystem& fs_ = env::posix_fs();
  TempDir dir_;
  std::string wal_ = dir_ / "wal";
};

TEST_F(LogTest, ANewLogIsWhatEtcdCreates) {
  const auto log = create();
  EXPECT_EQ(names(), std::vector<std::string>{kFirst});
  EXPECT_FALSE(fs_.exists(wal_ + ".tmp"));
  const std::string bytes = read_all(wal_ + "/" + kFirst);
  EXPECT_EQ(bytes.size(), 64'000'000u);
  EXPECT_EQ(log->segment_used_bytes(), bytes.find_last_not_of('\0') / 8 * 8 + 8);
  std::vector<RecordType> types;
  const auto scan =
      scan_directory(fs_, wal_, [&](const Segment&, const Record& record) { types.push_back(record.type); });
  ASSERT_TRUE(scan.has_value());
  EXPECT_EQ(types, (std::vector{RecordType::kCrc, RecordType::kMetadata, RecordType::kSnapshot}));
  EXPECT_EQ(scan->metadata, kMetadata);
  EXPECT_TRUE(log->check_start({}));
}

TEST_F(LogTest, CreateTakesOverWhatAnInterruptedOneLeftAndNothingElse) {
  std::filesystem::create_directories(wal_ + ".tmp");
  write_all(wal_ + ".tmp/" + kFirst, "half");
  std::filesystem::create_directories(wal_);
  write_all(wal_ + "/0.tmp", "old spare");
  create();
  EXPECT_EQ(Log::create(fs_, wal_, kMetadata).error().code, Code::kAlreadyExists);
  const std::string other = dir_ / "other";
  std::filesystem::create_directories(other);
  write_all(other + "/letter.txt", "dear");
  EXPECT_EQ(Log::create(fs_, other, kMetadata).error().code, Code::kFailedPrecondition);
  EXPECT_EQ(read_all(other + "/letter.txt"), "dear");
}

TEST_F(LogTest, ASlowSyncIsNamedInTheLog) {
  static std::vector<std::string> lines;
  const auto save_with = [this](int64_t slow_sync_ns) {
    metrics::Registry registry;
    Metrics metrics{registry};
    metrics.slow_sync_ns = slow_sync_ns;
    std::filesystem::remove_all(wal_);
    const auto log = create({.metrics = &metrics});
    lines.clear();
    log::set_sink(
        [](const log::Entry& entry) {
          lines.emplace_back(entry.message);
          for (size_t i = 0; i < entry.field_count; ++i) lines.back() += fmt::format(" {}", entry.fields[i].key);
        },
        log::Level::kWarn);
    fill(*log, 1, 2);
    log::set_sink(nullptr, log::Level::kWarn);
    return lines;
  };
  EXPECT_EQ(save_with(INT64_MAX), std::vector<std::string>{});
  EXPECT_EQ(save_with(-1), std::vector<std::string>{"slow fdatasync took expected-duration"});  // any is too slow
}

TEST_F(LogTest, WhatWasSavedIsThereAgain) {
  const std::vector<StoredEntry> entries = {make_entry(1, 1, "conf", 1), make_entry(2, 2, ""),
                                            make_entry(3, 2, std::string(1'000'000, 'x'))};
  {
    const auto log = create();
    ASSERT_TRUE(log->save(views({entries[0]}), make_state(1, 0, 1), true));
    ASSERT_TRUE(log->save(views({entries[1], entries[2]}), make_state(2, 0x11, 1), true));
    ASSERT_TRUE(log->save({}, make_state(2, 0x11, 3), false));
    EXPECT_EQ(log->last_synced_index(), Index(3));
  }
  const OpenedLog opened = open();
  EXPECT_EQ(opened.metadata, kMetadata);
  EXPECT_EQ(opened.hard_state, make_state(2, 0x11, 3));
  EXPECT_FALSE(opened.repair);
  EXPECT_EQ(opened.snapshots, std::vector<SnapshotRecord>{{}});
  const auto index = opened.log->index();
  EXPECT_EQ(index->first_index(), Index(1));
  EXPECT_EQ(index->last_index(), Index(3));
  EXPECT_EQ(read_entries(*index, Index(1), Index(4), UINT64_MAX), entries);
  EXPECT_EQ(*index->term(Index(1)), Term(1));
  EXPECT_EQ(*index->term(Index(3)), Term(2));
  EXPECT_EQ(index->term(Index(4)).error().code, Code::kOutOfRange);
}

TEST_F(LogTest, ReadingStopsBeforeTheByteLimitButGivesOneEntry) {
  const auto log = create();
  fill(*log, 1, 11);
  const auto count = [&](uint64_t lo, uint64_t hi, uint64_t bytes) {
    return read_entries(*log->index(), Index(lo), Index(hi), bytes)->size();
  };
  EXPECT_EQ(count(1, 11, 1000), 10u);
  EXPECT_EQ(count(1, 11, 999), 9u);
  EXPECT_EQ(count(3, 9, 200), 2u);
  EXPECT_EQ(count(3, 9, 0), 1u);
  EXPECT_EQ(count(3, 3, 1000), 0u);
  EXPECT_EQ(read_entries(*log->index(), Index(1), Index(12), 1).error().code, Code::kOutOfRange);
  EXPECT_EQ(read_entries(*log->index(), Index(0), Index(2), 1).error().code, Code::kOutOfRange);
}

TEST_F(LogTest, ANewLeadersEntriesReplaceTheTail) {
  const std::vector<StoredEntry> after = {make_entry(3, 2, "new3"), make_entry(4, 2, "new4")};
  {
    const auto log = create();
    const std::vector<StoredEntry> before = {make_entry(1, 1, "1"), make_entry(2, 1, "2"), make_entry(3, 1, "3"),
                                             make_entry(4, 1, "4"), make_entry(5, 1, "5")};
    ASSERT_TRUE(log->save(views(before), make_state(1, 0, 2), true));
    ASSERT_TRUE(log->save(views(after), make_state(2, 0, 2), true));
    EXPECT_EQ(log->last_index(), Index(4));
    EXPECT_EQ(read_entries(*log->index(), Index(3), Index(5), UINT64_MAX), after);
  }
  const OpenedLog opened = open();
  EXPECT_EQ(opened.log->last_index(), Index(4));
  const auto entries = read_entries(*opened.log->index(), Index(1), Index(5), UINT64_MAX);
  ASSERT_TRUE(entries.has_value());
  EXPECT_EQ((*entries)[1], make_entry(2, 1, "2"));
  EXPECT_EQ((*entries)[2], after[0]);
}

TEST_F(LogTest, OneWriteShowsWhatWasAppended) {
  const auto log = create();
  log->append(views({make_entry(1, 1, "a")}), make_state(1, 0, 0));
  EXPECT_EQ(log->last_index(), Index(1));
  EXPECT_EQ(log->index()->last_index(), Index(0));
  ASSERT_TRUE(log->flush());
  EXPECT_EQ(log->index()->last_index(), Index(1));
  EXPECT_EQ(log->last_synced_index(), Index(0));
  ASSERT_TRUE(log->sync());
  EXPECT_EQ(log->last_synced_index(), Index(1));
}

TEST_F(LogTest, FullSegmentsAreCutByEtcdsRules) {
  const Options options = small();
  {
    const auto log = create(options);
    fill(*log, 1, 100);
  }
  const std::vector<std::string> files = segment_names();
  ASSERT_GT(files.size(), 3u);
  EXPECT_EQ(names(), files);  // nothing else is left
  for (size_t i = 0; i < files.size(); ++i) {
    EXPECT_EQ(parse_segment_name(files[i])->sequence, i);
    const std::string bytes = read_all(wal_ + "/" + files[i]);
    if (i + 1 == files.size()) {
      EXPECT_EQ(bytes.size(), options.segment_bytes);
      continue;
    }
    EXPECT_GE(bytes.size(), options.segment_bytes);
    EXPECT_LT(bytes.size(), options.segment_bytes + 200);
    EXPECT_NE(bytes.substr(bytes.size() - 8), std::string(8, '\0'));
  }
  std::vector<std::string> heads;
  std::vector<Index> first_entries;
  const auto scan = scan_directory(fs_, wal_, [&](const Segment& segment, const Record& record) {
    if (record.offset == 0) heads.emplace_back();
    if (heads.back().size() < 3) heads.back() += std::to_string(static_cast<int>(record.type));
    if (record.type == RecordType::kEntry && first_entries.size() < heads.size()) {
      first_entries.push_back(decode_entry(record.data)->index);
      EXPECT_EQ(segment.name.first, heads.size() == 1 ? Index(0) : first_entries.back());
    }
  });
  ASSERT_TRUE(scan.has_value()) << scan.error().message;
  for (size_t i = 1; i < heads.size(); ++i) EXPECT_EQ(heads[i], "413");  // checksum, metadata, state
  const OpenedLog opened = open(options);
  EXPECT_EQ(opened.log->segment_count(), files.size());
  EXPECT_EQ(read_entries(*opened.log->index(), Index(1), Index(100), UINT64_MAX)->size(), 99u);
}

TEST_F(LogTest, CutsTakeTheSpareWhenItIsReady) {
  const Options options = small(8192);
  const auto log = create(options);
  run_spares(*log);
  EXPECT_TRUE(fs_.exists(wal_ + "/0.tmp"));
  EXPECT_EQ(read_all(wal_ + "/0.tmp"), std::string(8192, '\0'));
  fill(*log, 1, 60);
  EXPECT_EQ(log->segment_count(), 2u);
  EXPECT_FALSE(fs_.exists(wal_ + "/0.tmp"));
  run_spares(*log);
  EXPECT_TRUE(fs_.exists(wal_ + "/1.tmp"));
  fill(*log, 60, 110);
  EXPECT_EQ(log->segment_count(), 3u);
  EXPECT_EQ(read_entries(*log->index(), Index(1), Index(110), UINT64_MAX)->size(), 109u);
}

TEST_F(LogTest, ReleasedSegmentsStayUpToTheirNumber) {
  Options options = small();
  options.segments_kept = 4;
  auto log = create(options);
  fill(*log, 1, 300);
  const size_t before = log->segment_count();
  ASSERT_GT(before, 6u);
  EXPECT_EQ(log->segment_count_beyond_kept(), before - 3);
  ASSERT_TRUE(log->save_snapshot({Index(299), Term(1), ""}));
  EXPECT_EQ(log->release(Index(299)), before - 4);
  EXPECT_EQ(log->segment_count(), 4u);
  EXPECT_EQ(log->segment_count_beyond_kept(), 1u);
  EXPECT_EQ(log->release(Index(299)), 0u);
  run_spares(*log);
  EXPECT_EQ(segment_names().size(), 4u);
  // The kept ones can be read, also by the next start, which releases them if it is to keep none.
  const Index first = log->first_index();
  EXPECT_LT(first, Index(290));
  log.reset();
  options.segments_kept = 0;
  OpenedLog opened = open(options);
  EXPECT_EQ(opened.log->first_index(), first);
  EXPECT_TRUE(opened.log->check_start({Index(299), Term(1), {}}));
  EXPECT_EQ(opened.log->release(Index(299)), 3u);
}

TEST_F(LogTest, AllSegmentsStayIfNoneIsToGo) {
  Options options = small();
  options.segments_kept = UINT64_MAX;
  const auto log = create(options);
  fill(*log, 1, 300);
  const size_t before = log->segment_count();
  ASSERT_TRUE(log->save_snapshot({Index(299), Term(1), ""}));
  EXPECT_EQ(log->release(Index(299)), 0u);
  EXPECT_EQ(log->segment_count(), before);
  EXPECT_EQ(log->segment_count_beyond_kept(), 1u);
  EXPECT_EQ(log->first_index(), Index(1));
}

TEST_F(LogTest, ReleasedSegmentsBecomeSparesOfZerosOrGo) {
  const Options options = small();
  const auto log = create(options);
  fill(*log, 1, 100);
  const size_t before = log->segment_count();
  ASSERT_TRUE(log->save_snapshot({Index(60), Term(1), ""}));
  const size_t count = log->release(Index(60));
  EXPECT_GT(count, 1u);
  EXPECT_EQ(log->segment_count(), before - count);
  run_spares(*log);
  // One was made the spare; the others are gone.
  EXPECT_EQ(segment_names().size(), before - count);
  EXPECT_EQ(read_all(wal_ + "/0.tmp"), std::string(options.segment_bytes, '\0'));
  EXPECT_FALSE(log->spares()->has_work());
  EXPECT_LE(log->first_index(), Index(61));
  EXPECT_TRUE(log->check_start({Index(60), Term(1), {}}));
  EXPECT_EQ(read_entries(*log->index(), Index(61), Index(100), UINT64_MAX)->size(), 39u);
  EXPECT_EQ(read_entries(*log->index(), Index(1), Index(2), 1).error().code, Code::kOutOfRange);
}

TEST_F(LogTest, AReleasedSegmentThatIsBeingReadIsNotOverwritten) {
  const Options options = small();
  const auto log = create(options);
  fill(*log, 1, 100);
  ASSERT_TRUE(log->save_snapshot({Index(90), Term(1), ""}));
  bool released = false;
  const auto all = log->index()->read(Index(1), Index(100), UINT64_MAX, [&](const Entry& entry) {
    if (!released) {
      released = true;
      EXPECT_GT(log->release(Index(90)), 2u);
      run_spares(*log);
    }
    EXPECT_EQ(entry.data, std::string(100, static_cast<char>('a' + entry.index.value % 26)));
  });
  EXPECT_TRUE(all.has_value()) << all.error().message;
}

// etcd looks for the last segment whose name is not above the snapshot's index: there must be one.
TEST_F(LogTest, AStartFromTheSnapshotIsPossibleAfterEveryRelease) {
  const Options options = small(2048);
  const auto log = create(options);
  for (uint64_t i = 1; i < 200; ++i) {
    fill(*log, i, i + 1);
    const uint64_t snapshot = i - std::min(i, i % 7);
    if (Index(snapshot) <= log->newest_snapshot_index()) continue;
    ASSERT_TRUE(log->save_snapshot({Index(snapshot), Term(1), ""}));
    log->release(Index(snapshot));
    run_spares(*log);
    ASSERT_LE(parse_segment_name(segment_names().front())->first, Index(snapshot));
    ASSERT_TRUE(log->check_start({Index(snapshot), Term(1), {}}));
    const auto scan = scan_directory(fs_, wal_);
    ASSERT_TRUE(scan.has_value()) << scan.error().message;
    ASSERT_TRUE(check_start(wal_, scan->snapshots, scan->points, scan->state, {Index(snapshot), Term(1), {}}));
  }
  EXPECT_LE(log->segment_count(), 3u);
}

TEST_F(LogTest, ALeadersSnapshotBeginsTheLogAnew) {
  const Options options = small();
  {
    const auto log = create(options);
    fill(*log, 1, 10);
    ASSERT_TRUE(log->save_snapshot({Index(5000), Term(5), ""}, make_state(5, 0, 5000)));
    EXPECT_EQ(log->last_index(), Index(5000));
    fill(*log, 5001, 5100, 5);
    EXPECT_EQ(log->release(Index(5000)), 0u);  // the first segment holds the snapshot's record
  }
  const OpenedLog opened = open(options);
  EXPECT_EQ(opened.log->last_index(), Index(5099));
  EXPECT_TRUE(opened.log->check_start({Index(5000), Term(5), {}}));
  EXPECT_FALSE(opened.log->check_start({}));
  EXPECT_EQ(read_entries(*opened.log->index(), Index(5001), Index(5100), UINT64_MAX)->size(), 99u);
}

// etcd writes the record of a leader's snapshot before the hard state that commits it.
TEST_F(LogTest, AnUncommittedSnapshotRecordTakesNothingAway) {
  RecordBuffer buffer;
  uint32_t crc = 0;
  buffer.append_crc(0);
  buffer.append(RecordType::kMetadata, "\x08\x11\x10\x22", crc);
  buffer.append(RecordType::kSnapshot, std::string("\x08\0\x10\0", 4), crc);
  buffer.append_entry(make_entry(1, 1, "one").view(), crc);
  buffer.append_entry(make_entry(2, 1, "two").view(), crc);
  buffer.append(RecordType::kState, std::string("\x08\x01\x10\0\x18\x02", 6), crc);
  buffer.append(RecordType::kSnapshot, std::string("\x08\x64\x10\x05", 4), crc);  // index 100, term 5
  const std::string before(buffer.view());
  std::filesystem::create_directories(wal_);
  write_all(wal_ + "/" + kFirst, before);
  {
    const OpenedLog opened = open(small());
    EXPECT_TRUE(opened.log->check_start({}));
    EXPECT_EQ(opened.log->last_index(), Index(2));
    EXPECT_EQ(opened.log->newest_snapshot_index(), Index(0));
  }
  buffer.append_entry(make_entry(101, 5, "behind").view(), crc);
  buffer.append(RecordType::kState, std::string("\x08\x05\x10\0\x18\x64", 6), crc);
  write_all(wal_ + "/" + kFirst, buffer.view());
  const OpenedLog opened = open(small());
  EXPECT_TRUE(opened.log->check_start({Index(100), Term(5), {}}));
  EXPECT_FALSE(opened.log->check_start({}));
  EXPECT_EQ(opened.log->first_index(), Index(101));
}

TEST_F(LogTest, ALogInUseIsLocked) {
  const auto log = create();
  const auto second = Log::open(fs_, wal_);
  ASSERT_FALSE(second.has_value());
  EXPECT_EQ(second.error().code, Code::kUnavailable);
  EXPECT_TRUE(second.error().message.starts_with("wal: locked by another process")) << second.error().message;
  EXPECT_TRUE(scan_directory(fs_, wal_).has_value());  // looking is free
}

TEST_F(LogTest, EverySegmentOfALogIsLocked) {
  const Options options = small();
  const auto log = create(options);
  fill(*log, 1, 50);
  for (const std::string& name : segment_names()) {
    const auto file = *fs_.open(wal_ + "/" + name, env::OpenMode::kReadWrite);
    EXPECT_EQ(lock_segment(*file, name).error().code, Code::kUnavailable) << name;
  }
}

TEST_F(LogTest, BytesBehindTheLastRecordAreClearedAtOpen) {
  {
    const auto log = create(small(64 * 1024));
    fill(*log, 1, 5);
  }
  const std::string path = wal_ + "/" + kFirst;
  std::string bytes = read_all(path);
  const size_t used = bytes.find_last_not_of('\0') / 8 * 8 + 8;
  ASSERT_LT(used, 4096u);
  bytes.replace(8192, 100, std::string(100, 'g'));  // of a write whose beginning was lost
  write_all(path, bytes);
  {
    const OpenedLog opened = open(small(64 * 1024));
    EXPECT_FALSE(opened.repair);
    EXPECT_EQ(opened.log->last_index(), Index(4));
  }
  bytes.replace(8192, 100, std::string(100, '\0'));
  EXPECT_EQ(read_all(path), bytes);
}

// A start that is refused later leaves the directory as it was.
TEST_F(LogTest, SettlingChangesNothing) {
  {
    const auto log = create(small(64 * 1024));
    fill(*log, 1, 5);
  }
  const std::string path = wal_ + "/" + kFirst;
  const std::string whole = read_all(path);
  const size_t used = whole.find_last_not_of('\0') / 8 * 8 + 8;
  std::string torn = whole;
  torn.replace(used, 8, std::string("\x40\0\0\0\0\0\0\0", 8));
  std::string followed = whole;
  followed.replace(8192, 100, std::string(100, 'g'));
  for (const std::string& bytes : {torn, followed}) {
    write_all(path, bytes);
    Options options = small(64 * 1024);
    options.take_over = false;
    const OpenedLog opened = open(options);
    ASSERT_TRUE(opened.log->settle());
    EXPECT_EQ(read_all(path), bytes);
    ASSERT_TRUE(opened.log->take_over());
    EXPECT_EQ(read_all(path), whole);
  }
}

TEST_F(LogTest, OlderSegmentsBehindAHoleAreIgnoredAndRemovedByTheNextRelease) {
  const Options options = small();
  {
    const auto log = create(options);
    fill(*log, 1, 100);
    ASSERT_TRUE(log->save_snapshot({Index(99), Term(1), ""}));
  }
  const std::vector<std::string> files = segment_names();
  ASSERT_TRUE(fs_.remove(wal_ + "/" + files[1]));
  const OpenedLog opened = open(options);
  EXPECT_EQ(opened.log->segment_count(), files.size() - 2);
  EXPECT_TRUE(opened.log->check_start({Index(99), Term(1), {}}));
  EXPECT_TRUE(fs_.exists(wal_ + "/" + files[0]));
  opened.log->release(Index(99));
  run_spares(*opened.log);
  EXPECT_FALSE(fs_.exists(wal_ + "/" + files[0]));
}

TEST_F(LogTest, DamageInAnEarlierSegmentIsNeverRepaired) {
  const Options options = small();
  {
    const auto log = create(options);
    fill(*log, 1, 100);
  }
  const std::string path = wal_ + "/" + segment_names()[1];
  const std::string whole = read_all(path);
  // Cut short, zeroed at the end, one byte changed.
  write_all(path, whole.substr(0, whole.size() - 24));
  EXPECT_EQ(Log::open(fs_, wal_, options).error().code, Code::kDataLoss);
  std::string bytes = whole;
  bytes.replace(512, 512, std::string(512, '\0'));
  write_all(path, bytes);
  EXPECT_EQ(Log::open(fs_, wal_, options).error().code, Code::kDataLoss);
  bytes = whole;
  bytes[2000] ^= 1;
  write_all(path, bytes);
  EXPECT_EQ(Log::open(fs_, wal_, options).error().code, Code::kDataLoss);
  EXPECT_FALSE(fs_.exists(path + ".broken"));
  write_all(path, whole);
  EXPECT_EQ(open(options).log->last_index(), Index(99));
}

TEST_F(LogTest, ASpareLeftByAnEarlierProcessIsUsedOnceItIsZeros) {
  const Options options = small(8192);
  {
    const auto log = create(options);
    fill(*log, 1, 5);
  }
  write_all(wal_ + "/0.tmp", std::string(5000, 'o'));
  write_all(wal_ + "/1.tmp", "x");
  const OpenedLog opened = open(options);
  run_spares(*opened.log);
  EXPECT_EQ(read_all(wal_ + "/0.tmp"), std::string(8192, '\0'));
  EXPECT_FALSE(fs_.exists(wal_ + "/1.tmp"));
  fill(*opened.log, 5, 100);
  EXPECT_EQ(read_entries(*opened.log->index(), Index(1), Index(100), UINT64_MAX)->size(), 99u);
}

TEST_F(LogTest, ASpareThatIsGivenBackIsGoneUntilOneIsWantedAgain) {
  const Options options = small(8192);
  auto log = create(options);
  run_spares(*log);
  ASSERT_TRUE(log->spares()->ready());
  ASSERT_TRUE(log->spares()->give_back());
  EXPECT_FALSE(fs_.exists(wal_ + "/0.tmp"));
  EXPECT_FALSE(log->spares()->has_work());
  EXPECT_FALSE(log->spares()->needs_space());
  run_spares(*log);
  EXPECT_FALSE(log->spares()->ready());
  // The log goes on without one, and what it releases is removed.
  fill(*log, 1, 150);
  ASSERT_TRUE(log->save_snapshot({Index(140), Term(1), ""}));
  ASSERT_GT(log->release(Index(140)), 0u);
  run_spares(*log);
  EXPECT_FALSE(log->spares()->ready());
  EXPECT_EQ(fs_.list(wal_)->size(), log->segment_count());

  log->spares()->want();
  run_spares(*log);
  ASSERT_TRUE(log->spares()->ready());
  const uint64_t before = log->segment_count();
  fill(*log, 150, 250);
  EXPECT_GT(log->segment_count(), before);
  log.reset();
  EXPECT_EQ(open(options).log->last_index(), Index(249));
}

TEST_F(LogTest, GivingBackTakesHalfASpareAndWhatAnEarlierProcessLeft) {
  const Options options = small(4 << 20);
  {
    const auto log = create(options);
    fill(*log, 1, 5);
  }
  write_all(wal_ + "/0.tmp", std::string(5000, 'o'));
  write_all(wal_ + "/1.tmp", "x");
  const OpenedLog opened = open(options);
  ASSERT_TRUE(opened.log->spares()->give_back());
  EXPECT_EQ(fs_.list(wal_)->size(), 1u);
  opened.log->spares()->want();
  ASSERT_TRUE(opened.log->spares()->prepare_step());
  EXPECT_EQ(fs_.list(wal_)->size(), 2u);
  ASSERT_TRUE(opened.log->spares()->give_back());
  EXPECT_EQ(fs_.list(wal_)->size(), 1u);
}

// Between the moment the log takes a spare and the moment it gives it a segment's name.
TEST_F(LogTest, ALeftOverThatCannotBeRemovedKeepsNoOther) {
  const auto log = create(small(8192));
  ASSERT_TRUE(fs_.make_directories(wal_ + "/0.tmp"));
  write_all(wal_ + "/1.tmp", "left over");
  EXPECT_FALSE(log->spares()->give_back());
  EXPECT_FALSE(fs_.exists(wal_ + "/1.tmp"));
}

TEST_F(LogTest, ASpareThatTheLogHasTakenIsNotGivenBack) {
  const auto log = create(small(8192));
  run_spares(*log);
  const std::optional<Spare> taken = log->spares()->take();
  ASSERT_TRUE(taken);
  ASSERT_TRUE(log->spares()->give_back());
  EXPECT_TRUE(fs_.exists(taken->path));
}

TEST_F(LogTest, TheTailGivesItsBlocksBackAndTheLogGoesOn) {
  const Options options = small(64 << 10);
  auto log = create(options);
  fill(*log, 1, 50);
  const std::string path = wal_ + "/" + kFirst;
  const auto allocated_bytes = [&] {
    struct stat found{};
    EXPECT_EQ(::stat(path.c_str(), &found), 0);
    return static_cast<uint64_t>(found.st_blocks) * 512;
  };
  EXPECT_GE(allocated_bytes(), options.segment_bytes);
  const std::string before = read_all(path);
  ASSERT_TRUE(log->give_tail_back());
  EXPECT_LE(allocated_bytes(), 16u << 10);
  EXPECT_EQ(read_all(path), before);
  log.reset();
  {
    const OpenedLog opened = open(options);
    EXPECT_EQ(opened.log->last_index(), Index(49));
    fill(*opened.log, 50, 1000);
    EXPECT_GT(opened.log->segment_count(), 1u);
    EXPECT_EQ(read_entries(*opened.log->index(), Index(1), Index(1000), UINT64_MAX)->size(), 999u);
  }
  EXPECT_EQ(open(options).log->last_index(), Index(999));
}

// Whatever they are: etcd ignores them.
TEST_F(LogTest, ForeignFilesBesideTheSegmentsAreLeftAlone) {
  const Options options = small(8192);
  {
    const auto log = create(options);
    fill(*log, 1, 5);
  }
  const std::filesystem::path wal = wal_;
  std::filesystem::create_symlink("/nowhere/at/all", wal / "link.tmp");
  std::filesystem::create_symlink("/nowhere/at/all", wal / "0.tmp");
  std::filesystem::create_directory(wal / "folder.tmp");
  std::filesystem::create_directory(wal / "tmp123");
  ASSERT_EQ(::mkfifo((wal / "pipe.tmp").c_str(), 0600), 0);
  const OpenedLog opened = open(options);
  run_spares(*opened.log);
  fill(*opened.log, 5, 150);
  EXPECT_GT(opened.log->segment_count(), 1u);
  for (const char* name : {"link.tmp", "folder.tmp", "tmp123", "pipe.tmp"}) {
    EXPECT_NE(std::filesystem::symlink_status(wal / name).type(), std::filesystem::file_type::not_found) << name;
  }
}

// One thread writes and releases, one prepares spares, one reads.
TEST_F(LogTest, ReadersAndTheSparePreparerRunBesideTheWriter) {
  const Options options{.segment_bytes = 32 * 1024, .zero_ahead_bytes = 4096, .sync = false};
  const auto log = create(options);
  std::atomic<bool> done = false;
  std::thread preparer([&, spares = log->spares()] {
    while (!done) {
      if (!*spares->prepare_step()) std::this_thread::yield();
    }
  });
  std::atomic<uint64_t> read_count = 0;
  std::thread reader([&, index = log->index()] {
    Random random(7);
    while (!done) {
      const Index first = index->first_index();
      const Index last = index->last_index();
      if (last < first + 10) continue;
      const Index lo = first + random.below(last - first - 5);
      const auto entries = read_entries(*index, lo, lo + 5, UINT64_MAX);
      if (!entries) {
        EXPECT_EQ(entries.error().code, Code::kOutOfRange) << entries.error().message;
        continue;
      }
      for (size_t i = 0; i < entries->size(); ++i) EXPECT_EQ((*entries)[i].index, lo + i);
      read_count += entries->size();
    }
  });
  for (uint64_t i = 1; i < 30'000; ++i) {
    fill(*log, i, i + 1);
    if (i % 1000 == 0) {
      ASSERT_TRUE(log->save_snapshot({Index(i), Term(1), ""}));
      log->release(Index(i - 500));
    }
  }
  done = true;
  preparer.join();
  reader.join();
  EXPECT_GT(read_count, 0u);
}

TEST(LogDeathTest, ASnapshotAboveTheCommitIndexIsABug) {
  TempDir dir;
  auto log = *Log::create(env::posix_fs(), dir / "wal", kMetadata, {.segment_bytes = 4096});
  ASSERT_TRUE(log->save(views({make_entry(1, 1, "a")}), make_state(1, 0, 0), true));
  EXPECT_DEATH((void)log->save_snapshot({Index(1), Term(1), {}}), "record.index <= std::max");
  EXPECT_DEATH(log->append(views({make_entry(3, 1, "gap")})), "assertion failed");
  EXPECT_DEATH((void)log->release(Index(1)), "newest_snapshot_index");
}

}  // namespace
}  // namespace cairn::wal
