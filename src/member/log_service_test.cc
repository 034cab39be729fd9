#include "member/log_service.h"

#include <gtest/gtest.h>

#include "base/log.h"
#include "env/fs.h"
#include "member/snapshot_holds.h"
#include "testing/mutants.h"
#include "testing/temp_dir.h"
#include "wal/log.h"

namespace cairn::member {
namespace {

constexpr uint64_t kSegmentBytes = 64 << 10;

// A log of `count` entries of `bytes` each, one term for every hundred.
class LogOnDisk {
 public:
  explicit LogOnDisk(uint64_t count, size_t bytes = 1000) {
    auto made = wal::Log::create(fs_, directory_, {NodeId(1), 2}, {.segment_bytes = kSegmentBytes, .sync = false});
    CAIRN_ASSERT(made);
    log_ = *std::move(made);
    for (uint64_t i = 1; i <= count; ++i) append(i, bytes);
  }
  void append(uint64_t index, size_t bytes) {
    const std::string data = std::to_string(index) + std::string(bytes, 'x');
    const Term term(1 + index / 100);
    const wal::Entry entry{0, term, Index(index), data};
    CAIRN_ASSERT(log_->save({&entry, 1}, {term, NodeId(1), Index(index)}, true));
  }
  // As RaftLog is after a start: all in segments.
  [[nodiscard]] RaftLog loaded(RaftLog::Options options = {}) const {
    std::vector<RaftLog::TermStart> terms{{Index(0), Term(0)}, {Index(1), Term(1)}};
    for (uint64_t i = 100; i <= log_->last_index().value; i += 100) terms.push_back({Index(i), Term(1 + i / 100)});
    RaftLog out(std::move(terms), log_->last_index(), options);
    for (uint64_t i = 1; i <= log_->last_index().value; ++i) out.note_size(Index(i), 1020);
    return out;
  }

  cairn::testing::TempDir temporary_;
  env::FileSystem& fs_ = env::posix_fs();
  const std::string directory_ = temporary_.path() + "/wal";
  std::unique_ptr<wal::Log> log_;
};

// What the core does for one member that is behind: asks, waits, goes on.
struct Follower {
  Index next{1};
  std::vector<raft::Entry> has;

  // False: it must wait.
  bool advance(const RaftLog& log, uint64_t bytes = 8000) {
    std::vector<raft::Entry> out;
    const auto read = log.entries(next, log.last_index() + 1, bytes, out);
    if (!read) {
      EXPECT_EQ(read.error(), raft::LogGap::kNotInMemory);
      return false;
    }
    for (raft::Entry& entry : out) {
      EXPECT_EQ(entry.index, next);
      EXPECT_EQ(entry.term, *log.term(entry.index));
      ++next;
      has.push_back(std::move(entry));
    }
    return true;
  }
};

size_t carry_out(RaftLog& log, const wal::SegmentIndex& segments) {
  size_t reads = 0;
  for (const LogRead& read : log.take_reads()) {
    EXPECT_TRUE(log.read_done(read_log(segments, read)));
    ++reads;
  }
  return reads;
}

TEST(LogService, FollowersAtDifferentPlacesGetTheWholeLogFromTheSegments) {
  LogOnDisk disk(1000);
  RaftLog log = disk.loaded({.windows = {.read_bytes = 50'000, .bytes_max = 400'000}});
  std::vector<Follower> followers(3);
  followers[1].next = Index(400);
  followers[2].next = Index(990);
  const auto is_done = [&] {
    return std::ranges::all_of(followers, [&](const Follower& one) { return one.next > log.last_index(); });
  };
  size_t reads = 0;
  for (int turns = 0; !is_done(); ++turns) {
    ASSERT_LT(turns, 1000);
    for (Follower& one : followers) {
      while (one.next <= log.last_index() && one.advance(log)) {
      }
    }
    reads += carry_out(log, *disk.log_->index());
    EXPECT_LE(log.windows_bytes(), 400'000u);
  }
  EXPECT_EQ(followers[0].has.size(), 1000u);
  EXPECT_EQ(followers[0].has[41].bytes(), "42" + std::string(1000, 'x'));
  EXPECT_EQ(followers[1].has.size(), 601u);
  EXPECT_EQ(followers[2].has.size(), 11u);
  EXPECT_LT(reads, 60u);  // of 50 KB each, from 1.6 MB that all together needed
}

TEST(LogService, TheNextPartIsReadBeforeItIsNeeded) {
  LogOnDisk disk(200);
  RaftLog log = disk.loaded({.windows = {.read_bytes = 50'000}});
  Follower follower;
  EXPECT_FALSE(follower.advance(log));
  EXPECT_EQ(carry_out(log, *disk.log_->index()), 1u);
  while (!log.has_reads()) ASSERT_TRUE(follower.advance(log));
  const Index asked_at = follower.next;
  EXPECT_LT(asked_at, Index(49));
  carry_out(log, *disk.log_->index());
  while (follower.next < Index(60)) ASSERT_TRUE(follower.advance(log));
}

TEST(LogService, OneReadServesAllThatWaitForIt) {
  LogOnDisk disk(50);
  RaftLog log = disk.loaded();
  Follower first;
  Follower second;
  EXPECT_FALSE(first.advance(log));
  EXPECT_FALSE(second.advance(log));
  EXPECT_FALSE(first.advance(log));
  EXPECT_EQ(carry_out(log, *disk.log_->index()), 1u);
  EXPECT_TRUE(first.advance(log));
  EXPECT_TRUE(second.advance(log));
}

TEST(LogService, NoMoreReadsAreUnderWayThanAllowed) {
  LogOnDisk disk(500);
  RaftLog log = disk.loaded({.windows = {.read_bytes = 1000, .reads_max = 2}});
  std::vector<Follower> followers(5);
  for (size_t i = 0; i < followers.size(); ++i) {
    followers[i].next = Index(1 + 100 * i);
    EXPECT_FALSE(followers[i].advance(log));
  }
  EXPECT_EQ(log.take_reads().size(), 2u);
}

TEST(LogService, DamageIsNotSentOnAndASnapshotTakesItsPlace) {
  LogOnDisk disk(300);
  {
    const auto names = disk.fs_.list(disk.directory_);
    ASSERT_TRUE(names);
    ASSERT_GT(names->size(), 3u);
    std::vector<std::string> segments;
    for (const std::string& name : *names) {
      if (name.ends_with(".wal")) segments.push_back(name);
    }
    std::ranges::sort(segments);
    const auto file = disk.fs_.open(disk.directory_ + "/" + segments[1], env::OpenMode::kReadWrite);
    ASSERT_TRUE(file);
    ASSERT_TRUE((*file)->pwrite("DAMAGE", 20'000));  // within the data of an entry
  }
  RaftLog log = disk.loaded({.windows = {.read_bytes = 20'000}});
  Follower follower;
  std::vector<raft::Entry> out;
  for (int turns = 0; turns < 1000; ++turns) {
    out.clear();
    const auto read = log.entries(follower.next, log.last_index() + 1, 8000, out);
    if (!read && read.error() == raft::LogGap::kCompacted) break;
    for (const raft::Entry& entry : out) {
      ASSERT_EQ(entry.bytes(), std::to_string(entry.index.value) + std::string(1000, 'x'));
      ++follower.next;
    }
    carry_out(log, *disk.log_->index());
  }
  EXPECT_GT(follower.next, Index(64));
  EXPECT_LT(follower.next, Index(128));
  EXPECT_GT(log.first_index(), follower.next);
  EXPECT_EQ(log.snapshot(), nullptr);  // no commit has finished here
  log.set_sendable({.index = Index(250),
                    .term = Term(3),
                    .conf = {},
                    .members = std::make_shared<cluster::Membership>(),
                    .file = nullptr,
                    .image_bytes = 0});
  ASSERT_NE(log.snapshot(), nullptr);
  EXPECT_EQ(log.snapshot()->index, Index(250));
}

TEST(LogService, WhatIsReleasedMeanwhileIsCompacted) {
  LogOnDisk disk(500);
  RaftLog log = disk.loaded({.windows = {.read_bytes = 20'000}});
  Follower follower;
  EXPECT_FALSE(follower.advance(log));
  const auto reads = log.take_reads();
  ASSERT_EQ(reads.size(), 1u);
  ASSERT_TRUE(disk.log_->save_snapshot({Index(400), Term(5), {}}));
  ASSERT_GT(disk.log_->release(Index(400)), 0u);
  EXPECT_TRUE(log.read_done(read_log(*disk.log_->index(), reads[0])));  // before the report of the release
  std::vector<raft::Entry> out;
  EXPECT_EQ(log.entries(Index(1), Index(2), 1, out).error(), raft::LogGap::kCompacted);
  EXPECT_EQ(log.first_index(), disk.log_->first_index());
}

TEST(LogService, ASegmentIsNotUsedAgainUnderItsReader) {
  LogOnDisk disk(500);
  ASSERT_TRUE(disk.log_->save_snapshot({Index(499), Term(5), {}}));
  const auto spares = disk.log_->spares();
  bool is_released = false;
  uint64_t seen = 0;
  const Status read = disk.log_->index()->read(Index(1), Index(200), UINT64_MAX, [&](const wal::Entry& entry) {
    if (!std::exchange(is_released, true)) {
      EXPECT_GT(disk.log_->release(Index(499)), 0u);
      while (true) {  // all that is released becomes a spare or is removed
        const auto more = spares->prepare_step();
        ASSERT_TRUE(more);
        if (!*more) break;
      }
    }
    ++seen;
    EXPECT_EQ(entry.data, std::to_string(entry.index.value) + std::string(1000, 'x'));
  });
  EXPECT_TRUE(read) << read.error().message;
  EXPECT_EQ(seen, 199u);
}

TEST(LogService, WhatWasReadForAnotherLogIsNotTaken) {
  LogOnDisk disk(100);
  RaftLog log = disk.loaded();
  Follower follower;
  EXPECT_FALSE(follower.advance(log));
  const auto reads = log.take_reads();
  log.restore(Index(1000), Term(9));
  EXPECT_FALSE(log.read_done(read_log(*disk.log_->index(), reads[0])));
  EXPECT_EQ(log.first_index(), Index(1001));
  EXPECT_EQ(log.last_index(), Index(1000));
  EXPECT_EQ(*log.term(Index(1000)), Term(9));
}

TEST(LogService, ADbThatIsShorterThanTheLogIsSentInItsPlace) {
  LogOnDisk disk(1000);
  RaftLog log = disk.loaded({.sent_as_log_bytes = 100'000});
  const SendableState state{.index = Index(1000),
                            .term = Term(11),
                            .conf = {},
                            .members = std::make_shared<cluster::Membership>(),
                            .file = nullptr,
                            .image_bytes = 500'000};
  log.set_sendable(state);
  std::vector<raft::Entry> out;
  EXPECT_EQ(log.entries(Index(1), Index(1001), 1, out).error(), raft::LogGap::kCompacted);
  EXPECT_EQ(log.entries(Index(700), Index(1001), 1, out).error(), raft::LogGap::kNotInMemory);
  EXPECT_EQ(log.first_index(), Index(1));  // it is still there
}

raft::PeerStatus peer(uint64_t id, uint64_t match, raft::ProgressState state = raft::ProgressState::kReplicate) {
  return {.id = NodeId(id), .state = state, .match = Index(match), .next = Index(match + 1)};
}

void hold_the_log_for_members_that_are_behind() {
  LogOnDisk disk(1000);
  RaftLog log = disk.loaded();
  log.set_sendable(
      {.index = Index(1000), .term = Term(11), .conf = {}, .members = {}, .file = {}, .image_bytes = 3'000'000});
  const LogKeeping keeping{.bytes = 10'000, .entries = {}};
  const auto limit = [&](std::vector<raft::PeerStatus> peers) {
    return release_limit(keeping, log, NodeId(1), peers, Index(900), Index(995));
  };
  EXPECT_GT(limit({peer(1, 1000), peer(2, 1000)}), Index(500));
  EXPECT_EQ(limit({peer(1, 1000), peer(2, 300), peer(3, 900)}), Index(300));
  EXPECT_EQ(limit({peer(1, 1000), peer(2, 300, raft::ProgressState::kSnapshot)}), Index(300));
  log.set_sendable(
      {.index = Index(1000), .term = Term(11), .conf = {}, .members = {}, .file = {}, .image_bytes = 100'000});
  EXPECT_EQ(limit({peer(1, 1000), peer(2, 100), peer(3, 950)}), limit({peer(1, 1000), peer(3, 950)}));
  EXPECT_EQ(limit({}), limit({peer(1, 1000), peer(3, 1000)}));  // a follower keeps a part for its own time as leader
  EXPECT_LT(limit({}), Index(995));
}

TEST(ReleaseLimit, HoldsTheLogForMembersThatAreBehindUntilTheDbIsShorter) {
  hold_the_log_for_members_that_are_behind();
}

#ifdef CAIRN_MUTANTS
TEST(ReleaseLimitMutants, AreFound) {
  EXPECT_TRUE(
      cairn::testing::fails_with("server.log_released_under_follower", hold_the_log_for_members_that_are_behind));
}
#endif

// etcd compacts nothing while it sends a snapshot, and for half a minute after it.
TEST(ReleaseLimit, IsThatOfEtcdWhenEntriesAreGiven) {
  LogOnDisk disk(1000);
  const RaftLog log = disk.loaded();
  const LogKeeping keeping{.bytes = 1'000'000, .entries = 50};
  const auto limit = [&](const raft::PeerStatus& other, uint64_t wanted = 995, uint64_t snapshot = 900) {
    const std::vector<raft::PeerStatus> peers{peer(1, 1000), other};
    return release_limit(keeping, log, NodeId(1), peers, Index(snapshot), Index(wanted));
  };
  EXPECT_EQ(limit(peer(2, 10)), Index(850));
  EXPECT_EQ(limit(peer(2, 10, raft::ProgressState::kProbe)), Index(850));
  EXPECT_EQ(limit(peer(2, 10), 30, 30), Index(0));
  EXPECT_EQ(limit(peer(2, 700, raft::ProgressState::kSnapshot)), Index(700));
  raft::PeerStatus follows = peer(2, 700);
  follows.recent_active = true;
  EXPECT_EQ(limit(follows), Index(700));
}

// Raft calls it a probe as soon as the snapshot has arrived, and knows of its old log alone.
TEST(SnapshotHolds, WhoTakesASnapshotInIsHeldTheLogUntilItFollows) {
  constexpr int64_t kSecond = 1'000'000'000;
  SnapshotHolds holds;
  raft::PeerStatus other = peer(2, 10, raft::ProgressState::kSnapshot);
  other.recent_active = true;
  const auto shown = [&](int64_t seconds) { return holds.show_in({other}, seconds * kSecond).front(); };
  EXPECT_EQ(shown(0).next, Index(11));
  holds.sent(NodeId(2), Index(500), 0);
  EXPECT_EQ(shown(0).next, Index(501));
  other.state = raft::ProgressState::kProbe;
  EXPECT_EQ(shown(100).state, raft::ProgressState::kSnapshot);
  holds.sent(NodeId(2), Index(700), 100 * kSecond);  // it may still be busy with the first
  other.recent_active = false;
  EXPECT_EQ(shown(125).next, Index(501));
  EXPECT_EQ(shown(131).state, raft::ProgressState::kProbe);  // silent for too long
  holds.sent(NodeId(2), Index(800), 200 * kSecond);
  other.state = raft::ProgressState::kReplicate;
  EXPECT_EQ(shown(201).next, Index(11));
  other.state = raft::ProgressState::kProbe;
  EXPECT_EQ(shown(202).next, Index(11));
  holds.sent(NodeId(2), Index(900), 300 * kSecond);
  holds.failed(NodeId(2));
  EXPECT_EQ(shown(300).next, Index(11));
  // It followed, and was gone before anybody looked.
  holds.sent(NodeId(2), Index(1000), 400 * kSecond);
  other.match = Index(1000);
  EXPECT_EQ(shown(401).state, raft::ProgressState::kProbe);
}

TEST(ReleaseLimit, HoldsWhatFollowsASnapshotThatIsOnItsWayToo) {
  LogOnDisk disk(1000);
  RaftLog log = disk.loaded();
  log.set_sendable(
      {.index = Index(1000), .term = Term(11), .conf = {}, .members = {}, .file = {}, .image_bytes = 3'000'000});
  const LogKeeping keeping{.bytes = 10'000, .entries = 50};
  raft::PeerStatus taking = peer(2, 10, raft::ProgressState::kSnapshot);
  taking.next = Index(601);
  const auto limit = [&] {
    return release_limit(keeping, log, NodeId(1), std::vector{peer(1, 1000), taking}, Index(900), Index(995));
  };
  EXPECT_EQ(limit(), Index(600));
  log.set_sendable({.index = Index(1000), .term = Term(11), .conf = {}, .members = {}, .file = {}, .image_bytes = 10});
  EXPECT_EQ(limit(), Index(850)) << "another snapshot is shorter";
}

}  // namespace
}  // namespace cairn::member
