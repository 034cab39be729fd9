// How much a hub does at once, counted.
#include "mvcc/watch/hub.h"

#include <functional>
#include <map>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "mvcc/watch/test_hub_life.h"

namespace cairn::mvcc {
namespace {

constexpr uint64_t kSendsMax = 100;
constexpr uint64_t kWatchers = 1000;

// Counts what it is sent and how often it is asked for room.
class CountingStream final : public WatchStream {
 public:
  [[nodiscard]] bool has_room() const override {
    ++asked;
    return room > 0 || refuses;
  }
  bool send(const Watcher& watcher, const SharedBatch& batch, int64_t /*revision*/) override {
    if (room == 0) return false;
    --room;
    ++sent;
    events[watcher.id()] += batch->count;
    return true;
  }
  void on_compacted(const Watcher& /*watcher*/, int64_t /*compact_revision*/) override { ++compacted; }

  uint64_t room = UINT64_MAX;
  bool refuses = false;  // although it has room
  uint64_t sent = 0;
  uint64_t compacted = 0;
  mutable uint64_t asked = 0;
  std::map<int64_t, uint64_t> events;  // by watcher
};

class WatchHubTest : public testing::Test {
 protected:
  WatchHubTest()
      : world_(1),
        hub_({.sends_max = kSendsMax, .visits_max = 5000, .cohorts_max = kSendsMax, .scan_watchers_max = kSendsMax},
             1) {
    advance();
  }
  ~WatchHubTest() override { hub_.remove_all(stream_); }

  void advance() { EXPECT_TRUE(hub_.advance(world_.view())); }
  // All keys of the world, named in a way of their own.
  void watch_all(uint64_t number, int64_t start = 0) {
    WatchHub::Wanted wanted;
    wanted.target.interval = OwnedInterval(KeyInterval::of("a", "z" + std::to_string(number)));
    wanted.start = start;
    EXPECT_TRUE(hub_.add(stream_, wanted));
  }
  // So many transactions that change something.
  void write(int transactions) {
    for (const int64_t last = world_.revision() + transactions; world_.revision() < last;) world_.write();
  }
  // What was sent by it.
  uint64_t sent_by(const std::function<void()>& step) {
    const uint64_t before = stream_.sent;
    step();
    return stream_.sent - before;
  }
  // A slice of history.
  void scan() {
    const auto scan = hub_.take_scan();
    if (!scan) return;
    const auto found = run_scan(*scan, world_.view());
    ASSERT_TRUE(found);
    hub_.finish_scan(*scan, *found);
  }
  // What the watchers wait for comes, in slices.
  void finish() {
    for (int i = 0; i < 1000 && hub_.has_behind(); ++i) {
      ASSERT_LE(sent_by([&] { scan(); }), kSendsMax);
    }
    EXPECT_FALSE(hub_.has_behind());
  }
  void expect_all_had_everything(uint64_t watchers = kWatchers) {
    EXPECT_EQ(stream_.events.size(), watchers);
    for (const auto& [id, count] : stream_.events) ASSERT_EQ(count, world_.history().size()) << "watcher " << id;
  }

  test::WatchWorld world_;
  WatchHub hub_;
  CountingStream stream_;
};

TEST_F(WatchHubTest, AChangeOfManyGroupsIsSentInSlices) {
  for (uint64_t i = 0; i < kWatchers; ++i) watch_all(i);
  write(1);
  EXPECT_LE(sent_by([&] { advance(); }), kSendsMax);
  EXPECT_FALSE(hub_.is_synced(stream_));
  finish();
  EXPECT_TRUE(hub_.is_synced(stream_));
  expect_all_had_everything();
}

TEST_F(WatchHubTest, AChangeOfALargeGroupIsSentInSlices) {
  for (uint64_t i = 0; i < kWatchers; ++i) watch_all(0);
  write(1);
  EXPECT_LE(sent_by([&] { advance(); }), kSendsMax);
  finish();
  expect_all_had_everything();
}

// Each of the changes concerns all groups.
TEST_F(WatchHubTest, ManyChangesOfManyGroupsAreSentInSlices) {
  for (uint64_t i = 0; i < kWatchers; ++i) watch_all(i);
  write(50);
  EXPECT_LE(sent_by([&] { advance(); }), kSendsMax);
  EXPECT_EQ(hub_.seen(), world_.revision());
  finish();
  write(3);
  EXPECT_LE(sent_by([&] { advance(); }), kSendsMax);
  finish();
  expect_all_had_everything();
}

// One revision of many keys, which concerns all groups: what is made for it at a time is bounded, and not made by those
// who hand out live events.
TEST_F(WatchHubTest, ALongRevisionOfManyGroupsIsReadForAFewAtATime) {
  constexpr uint64_t kKeys = 100;
  constexpr uint64_t kBytesMax = 30'000;
  for (const int64_t start : {0, 2}) {
    for (uint64_t i = 0; i < kWatchers; ++i) watch_all(i, start);
    if (start == 0) {
      world_.write_long(kKeys);
      EXPECT_EQ(sent_by([&] { advance(); }), 0u);
    }
    uint64_t slices = 0;
    for (; hub_.has_behind(); ++slices) {
      ASSERT_LE(slices, kWatchers);
      auto scan = hub_.take_scan();
      if (!scan) continue;
      scan->limits.revision_bytes_max = kBytesMax;
      const auto found = run_scan(*scan, world_.view());
      ASSERT_TRUE(found);
      uint64_t bytes = 0;
      for (const WatchScanned::Part& part : found->parts)
        bytes += part.batch == nullptr ? 0 : part.batch->events.size();
      EXPECT_LE(bytes, kBytesMax + kKeys * 200);
      hub_.finish_scan(*scan, *found);
    }
    EXPECT_GT(slices, kWatchers / 10);
    expect_all_had_everything(start == 0 ? kWatchers : 2 * kWatchers);
  }
}

// The same of values: few changes, and few groups, are very long together.
TEST_F(WatchHubTest, ALongRevisionOfFewGroupsIsNotHandedOutLive) {
  WatchHub::Limits limits;
  limits.revision_bytes_max = 10'000;
  WatchHub hub(limits, 1);
  ASSERT_TRUE(hub.advance(world_.view()));
  CountingStream stream;
  for (uint64_t i = 0; i < 10; ++i) {
    WatchHub::Wanted wanted;
    wanted.target.interval = OwnedInterval(KeyInterval::of("a", "z" + std::to_string(i)));
    ASSERT_TRUE(hub.add(stream, wanted));
  }
  write(3);
  const uint64_t before = world_.history().size();
  world_.write_long(100);
  ASSERT_TRUE(hub.advance(world_.view()));
  for (const auto& [id, count] : stream.events) EXPECT_EQ(count, before) << "watcher " << id;
  EXPECT_EQ(stream.events.size(), 10u);
  EXPECT_EQ(hub.slow_count(), 10u);
  while (const auto scan = hub.take_scan()) hub.finish_scan(*scan, *run_scan(*scan, world_.view()));
  for (const auto& [id, count] : stream.events) EXPECT_EQ(count, world_.history().size()) << "watcher " << id;
  EXPECT_EQ(hub.slow_count(), 0u);
  hub.remove_all(stream);
}

// A single watcher gets what it asked for, however long it is.
TEST_F(WatchHubTest, ALongRevisionIsWholeForWhoReadsItAlone) {
  watch_all(0);
  world_.write_long(1000);
  advance();
  while (auto scan = hub_.take_scan()) {
    scan->limits.revision_bytes_max = scan->limits.visits_max = 1;
    hub_.finish_scan(*scan, *run_scan(*scan, world_.view()));
  }
  EXPECT_EQ(stream_.sent, 1u);
  expect_all_had_everything(1);
}

TEST_F(WatchHubTest, OnesThatFollowAreNotLeftToScans) {
  constexpr uint64_t kFew = kSendsMax / 10;  // a transaction changes up to four keys
  for (uint64_t i = 0; i < kFew; ++i) watch_all(i);
  for (int i = 0; i < 20; ++i) {
    write(1);
    advance();
    EXPECT_FALSE(hub_.has_behind());
  }
  expect_all_had_everything(kFew);
}

// Those that begin at the next revision, or later, hold up their stream's progress until then, or until they are gone.
TEST_F(WatchHubTest, AStreamIsSyncedWhenAllHaveBegun) {
  write(5);
  advance();
  const int64_t next = world_.revision() + 1;
  watch_all(0);
  EXPECT_TRUE(hub_.is_synced(stream_));
  watch_all(1, next);
  watch_all(2, next);
  EXPECT_FALSE(hub_.is_synced(stream_));
  EXPECT_TRUE(hub_.remove(stream_, 1));
  EXPECT_FALSE(hub_.is_synced(stream_));
  EXPECT_TRUE(hub_.remove(stream_, 2));
  EXPECT_TRUE(hub_.is_synced(stream_));
  watch_all(3, next);
  watch_all(4, next + 1);
  EXPECT_FALSE(hub_.is_synced(stream_));
  write(1);
  advance();  // the one at next has begun, the other one begins with the next revision
  EXPECT_FALSE(hub_.is_synced(stream_));
  EXPECT_TRUE(hub_.remove(stream_, 3));
  EXPECT_FALSE(hub_.is_synced(stream_));
  write(1);
  advance();
  EXPECT_TRUE(hub_.is_synced(stream_));
}

// Who waits for a long revision does not hold up those that wait for others.
TEST_F(WatchHubTest, WhoWaitsForALongRevisionStandsBack) {
  constexpr uint64_t kMany = 90;
  world_.write_long(100);
  const int64_t long_one = world_.revision();
  world_.write_long(1);
  advance();
  for (uint64_t i = 0; i < kMany; ++i) watch_all(i, long_one);
  CountingStream other;
  WatchHub::Wanted wanted;
  wanted.target.interval = OwnedInterval(KeyInterval::of("k", "l"));
  wanted.start = long_one + 1;
  ASSERT_TRUE(hub_.add(other, wanted));
  uint64_t slices_of_other = 0;
  for (uint64_t slices = 1; hub_.has_behind(); ++slices) {
    ASSERT_LE(slices, 3 * kMany);
    auto scan = hub_.take_scan();
    if (!scan) continue;
    scan->limits.bytes_max = 1;
    scan->limits.revision_bytes_max = 20'000;
    hub_.finish_scan(*scan, *run_scan(*scan, world_.view()));
    if (other.sent > 0 && slices_of_other == 0) slices_of_other = slices;
  }
  EXPECT_GE(slices_of_other, 1u);
  EXPECT_LE(slices_of_other, 3u);
  expect_all_had_everything(kMany);
  hub_.remove_all(other);
}

// Nor do those hold it up that always ask for what is older.
TEST_F(WatchHubTest, WhoIsNotReachedComesBeforeThoseThatCameLater) {
  write(60);
  advance();
  WatchHub::Wanted late;
  late.target.interval = OwnedInterval(KeyInterval::of("a", "z"));
  late.start = world_.revision();
  CountingStream other;
  const auto old_ones_come = [this] {
    for (uint64_t i = 0; i < 5; ++i) watch_all(i, 1);
  };
  old_ones_come();
  ASSERT_TRUE(hub_.add(other, late));
  uint64_t slices = 0;
  for (; other.sent == 0; ++slices) {
    ASSERT_LE(slices, 10u);
    auto scan = hub_.take_scan();
    ASSERT_TRUE(scan);
    scan->limits.records_max = 5;
    old_ones_come();
    hub_.finish_scan(*scan, *run_scan(*scan, world_.view()));
  }
  EXPECT_LE(slices, 2u);
  finish();
  hub_.remove_all(other);
}

// A stream that takes a few responses is not asked about all that wait.
TEST_F(WatchHubTest, AStreamThatTakesAgainCostsASlice) {
  for (uint64_t i = 0; i < kWatchers; ++i) watch_all(i);
  stream_.room = 0;
  write(1);
  advance();
  finish();
  ASSERT_EQ(hub_.slow_count(), kWatchers);
  stream_.room = 10;
  hub_.unblock(stream_);
  stream_.asked = 0;
  EXPECT_EQ(sent_by([&] { scan(); }), 10u);
  EXPECT_LE(stream_.asked, 5 * kSendsMax);
  stream_.room = UINT64_MAX;
  hub_.unblock(stream_);
  finish();
  EXPECT_EQ(hub_.slow_count(), 0u);
  expect_all_had_everything();
}

// One that refuses though it has room is not asked again until it says that it takes.
TEST_F(WatchHubTest, AStreamThatRefusesIsLeftAlone) {
  for (uint64_t i = 0; i < kWatchers; ++i) watch_all(i);
  stream_.room = 0;
  stream_.refuses = true;
  write(1);
  advance();
  finish();
  hub_.unblock(stream_);
  finish();
  EXPECT_EQ(hub_.slow_count(), kWatchers);
  stream_.room = UINT64_MAX;
  hub_.unblock(stream_);
  finish();
  expect_all_had_everything();
}

TEST_F(WatchHubTest, ManyAreToldOfACompactionInSlices) {
  write(40);
  world_.commit();
  advance();
  for (uint64_t i = 0; i < kWatchers; ++i) watch_all(i, 2);
  while (world_.compacted() <= 2) world_.compact();
  advance();
  for (uint64_t told = 0; hub_.has_behind() && told < kWatchers; told = stream_.compacted) {
    scan();
    ASSERT_LE(stream_.compacted - told, kSendsMax);
  }
  EXPECT_EQ(stream_.compacted, kWatchers);
}

}  // namespace
}  // namespace cairn::mvcc
