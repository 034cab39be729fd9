// The log's two halves: what is stable and what is on its way, under truncation, snapshots and late completions.
#include "raft/log.h"

#include <gtest/gtest.h>

#include "base/random.h"
#include "raft/memory_log.h"
#include "raft/progress.h"

namespace cairn::raft {
namespace {

Entry entry(uint64_t index, uint64_t term) {
  return {.term = Term(term),
          .index = Index(index),
          .type = EntryType::kNormal,
          .data = std::make_shared<const Payload>(Payload{std::to_string(index) + "@" + std::to_string(term), 0})};
}

std::vector<Entry> row(uint64_t first, std::vector<uint64_t> terms) {
  std::vector<Entry> entries;
  for (const uint64_t term : terms) entries.push_back(entry(first++, term));
  return entries;
}

struct Taken {
  uint64_t number;
  std::vector<Entry> entries;
  SnapshotPtr snapshot;
};

Taken take(Log& log, uint64_t number) {
  Taken taken{number, {}, nullptr};
  log.take_unwritten(number, Term(0), taken.entries, taken.snapshot);
  return taken;
}

void finish(Log& log, MemoryLog& disk, const Taken& taken) {
  if (taken.snapshot) disk.install(taken.snapshot);
  disk.append(taken.entries);
  log.appended(taken.number);
}

std::vector<uint64_t> terms(const Log& log) {
  std::vector<Entry> all;
  EXPECT_TRUE(log.entries(log.first_index(), log.last_index() + 1, UINT64_MAX, all));
  std::vector<uint64_t> found;
  for (const Entry& e : all) {
    EXPECT_EQ(log.term(e.index), e.term);
    found.push_back(e.term.value);
  }
  return found;
}

TEST(Log, WhatWasReplacedOnItsWayIsNotStableWhenItArrives) {
  MemoryLog disk;
  Log log(disk, Index(0), Index(0));
  std::vector<Entry> first = row(1, {1, 1, 1});
  log.accept(first);
  const Taken a = take(log, 1);
  std::vector<Entry> second = row(2, {2, 2});
  EXPECT_EQ(log.accept(second), Index(2));
  const Taken b = take(log, 2);
  // And back again to the very entries of the first write: they lie under the second on the disk.
  std::vector<Entry> third = row(2, {1, 1});
  EXPECT_EQ(log.accept(third), Index(2));
  const Taken c = take(log, 3);

  finish(log, disk, a);
  EXPECT_EQ(log.stable_index(), Index(1));
  finish(log, disk, b);
  EXPECT_EQ(log.stable_index(), Index(1));
  EXPECT_EQ(terms(log), (std::vector<uint64_t>{1, 1, 1}));  // not what the disk shows
  finish(log, disk, c);
  EXPECT_EQ(log.stable_index(), Index(3));
  EXPECT_EQ(terms(log), (std::vector<uint64_t>{1, 1, 1}));
  EXPECT_FALSE(log.has_unwritten());
}

TEST(Log, ASnapshotMakesWritesUnderWayMeaningless) {
  MemoryLog disk;
  Log log(disk, Index(0), Index(0));
  std::vector<Entry> first = row(1, {1, 1, 1});
  log.accept(first);
  const Taken a = take(log, 1);
  log.restore(std::make_shared<const Snapshot>(Snapshot{.index = Index(10), .term = Term(3), .conf = {}, .data = {}}));
  std::vector<Entry> second = row(11, {3});
  log.accept(second);
  EXPECT_EQ(log.last_index(), Index(11));
  EXPECT_EQ(log.term(Index(10)), Term(3));
  EXPECT_EQ(log.term(Index(3)), std::nullopt);
  const Taken b = take(log, 2);
  EXPECT_TRUE(b.snapshot);
  finish(log, disk, a);
  EXPECT_TRUE(log.has_pending_snapshot());
  EXPECT_EQ(log.hand_out_limit(), Index(0));
  finish(log, disk, b);
  EXPECT_FALSE(log.has_pending_snapshot());
  EXPECT_EQ(log.applied(), Index(10));
  EXPECT_EQ(log.stable_index(), Index(11));
}

TEST(Log, ReadsAcrossTheBorderWithinTheLimitOfBytes) {
  MemoryLog disk;
  disk.append(row(1, {1, 1, 1}));
  Log log(disk, Index(0), Index(0));
  for (uint64_t i = 4; i <= 6; ++i) log.append(entry(i, 2));
  const uint64_t one = cost_bytes(entry(1, 1));
  for (uint64_t limit = 0; limit <= 8; ++limit) {
    std::vector<Entry> found;
    ASSERT_TRUE(log.entries(Index(2), Index(7), limit * one, found));
    EXPECT_EQ(found.size(), std::clamp<uint64_t>(limit, 1, 5));
    for (size_t i = 0; i < found.size(); ++i) EXPECT_EQ(found[i].index, Index(2 + i));
  }
  disk.compact(Index(2));
  std::vector<Entry> found;
  EXPECT_EQ(log.entries(Index(2), Index(4), 100, found).error(), LogGap::kCompacted);
}

// Both sides of a probe skip whole terms in which the logs cannot agree.
TEST(Log, FindsWhereLogsMayAgree) {
  MemoryLog disk;
  disk.append(row(1, {1, 3, 3, 4, 4, 5, 5, 5, 6}));
  const Log log(disk, Index(0), Index(0));
  EXPECT_EQ(log.last_agreement(Index(8), Term(3)).index, Index(3));
  EXPECT_EQ(log.last_agreement(Index(8), Term(3)).term, Term(3));
  EXPECT_EQ(log.last_agreement(Index(9), Term(9)).index, Index(9));
  EXPECT_EQ(log.last_agreement(Index(50), Term(5)).index, Index(8));
  EXPECT_EQ(log.last_agreement(Index(5), Term(2)).index, Index(1));
  EXPECT_EQ(log.last_agreement(Index(5), Term(0)).index, Index(0));
  disk.compact(Index(4));
  EXPECT_EQ(log.last_agreement(Index(6), Term(3)).index, Index(3));  // compacted: unknown, so possible
  EXPECT_EQ(log.last_agreement(Index(6), Term(3)).term, Term(0));
}

// The log against a plain vector, with random appends, truncations, writes and late completions.
TEST(Log, AgreesWithAPlainListUnderRandomHistories) {
  for (uint64_t seed = 1; seed <= 2000; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    Random random(seed);
    MemoryLog disk;
    Log log(disk, Index(0), Index(0));
    std::vector<uint64_t> model;
    std::deque<Taken> flying;
    uint64_t committed = 0;
    uint64_t number = 0;
    uint64_t term = 1;
    for (int step = 0; step < 120; ++step) {
      switch (random.below(5)) {
        case 0: {  // a new leader's entries behind a random place
          ++term;
          const uint64_t at = random.between(committed, model.size());
          std::vector<uint64_t> added(random.between(1, 6), term);
          // Often a repetition of what is there comes first.
          const uint64_t from = random.between(committed, at);
          std::vector<uint64_t> all(model.begin() + static_cast<long>(from), model.begin() + static_cast<long>(at));
          all.insert(all.end(), added.begin(), added.end());
          std::vector<Entry> entries = row(from + 1, all);
          ASSERT_EQ(log.accept(entries), Index(at + 1));
          model.resize(at);
          model.insert(model.end(), added.begin(), added.end());
          break;
        }
        case 1:
          for (uint64_t i = random.between(1, 5); i > 0; --i) {
            model.push_back(term);
            log.append(entry(model.size(), term));
          }
          break;
        case 2:
          if (log.has_unwritten()) flying.push_back(take(log, ++number));
          break;
        case 3:
          if (flying.empty()) break;
          finish(log, disk, flying.front());
          flying.pop_front();
          break;
        default:
          committed = random.between(committed, model.size());
          log.commit_to(Index(committed));
          break;
      }
      ASSERT_EQ(log.last_index().value, model.size());
      ASSERT_EQ(terms(log), model);
      // Stable means: the disk holds exactly this, and no write under way will take it back.
      for (uint64_t i = 1; i <= log.stable_index().value; ++i) ASSERT_EQ(disk.term(Index(i))->value, model[i - 1]);
      for (const Taken& taken : flying) {
        for (const Entry& e : taken.entries) {
          if (e.index <= log.stable_index()) {
            ASSERT_EQ(e.term.value, model[e.index.value - 1]);
          }
        }
      }
      if (flying.empty() && !log.has_unwritten()) {
        ASSERT_EQ(log.stable_index(), log.last_index());
      }
    }
  }
}

TEST(Inflights, KeepOrderWhileTheRingGrowsAndTurns) {
  Inflights window(20, 0);
  uint64_t sent = 0;
  uint64_t answered = 0;
  Random random(5);
  for (int step = 0; step < 5000; ++step) {
    if (!window.full() && random.one_in(2)) {
      window.add(Index(++sent), 1);
    } else if (answered < sent) {
      answered = random.between(answered, sent);
      window.free_to(Index(answered));
    }
    ASSERT_EQ(window.count(), sent - answered);
    ASSERT_EQ(window.full(), sent - answered == 20);
  }
  Inflights bytes(20, 100);
  bytes.add(Index(1), 99);
  EXPECT_FALSE(bytes.full());
  bytes.add(Index(2), 99);
  EXPECT_TRUE(bytes.full());
  bytes.free_to(Index(1));
  EXPECT_FALSE(bytes.full());
}

}  // namespace
}  // namespace cairn::raft
