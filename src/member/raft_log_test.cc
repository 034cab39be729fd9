#include "member/raft_log.h"

#include <gtest/gtest.h>

namespace cairn::member {
namespace {

raft::Entry entry(uint64_t term, uint64_t index, size_t bytes = 10) {
  return {Term(term), Index(index), raft::EntryType::kNormal,
          std::make_shared<const raft::Payload>(raft::Payload{.bytes = std::string(bytes, 'x')})};
}

TEST(RaftLog, KeepsWhatIsNotAppliedHoweverLarge) {
  RaftLog log(Index(10), Term(1), {.memory_bytes_max = 100});
  for (uint64_t i = 11; i <= 40; ++i) log.append({entry(2, i)});
  std::vector<raft::Entry> out;
  ASSERT_TRUE(log.entries(Index(11), Index(41), UINT64_MAX, out));
  EXPECT_EQ(out.size(), 30u);
  log.applied_to(Index(40));
  out.clear();
  EXPECT_EQ(log.entries(Index(11), Index(12), UINT64_MAX, out).error(), raft::LogGap::kNotInMemory);
  EXPECT_TRUE(out.empty());
  ASSERT_TRUE(log.entries(Index(40), Index(41), UINT64_MAX, out));
  EXPECT_LE(log.memory_bytes(), 100u);
  EXPECT_EQ(*log.term(Index(11)), Term(2));
  EXPECT_EQ(*log.term(Index(10)), Term(1));
}

// What is kept for who takes a snapshot in is told by these sizes: where the log is short, so are its marks.
TEST(RaftLog, KnowsTheSizeOfAPartToWithinAMark) {
  RaftLog log(Index(0), Term(0), {.size_mark_bytes = 1});
  uint64_t bytes = 0;
  for (uint64_t i = 1; i <= 100; ++i) {
    log.append({entry(1, i)});
    if (i > 90) bytes += raft::cost_bytes(entry(1, i));
  }
  EXPECT_EQ(log.sizes().bytes_from(Index(91)), bytes);
  EXPECT_EQ(log.sizes().begin_of_last(bytes), Index(91));
}

TEST(RaftLog, AnOverwrittenTailIsGone) {
  RaftLog log(Index(0), Term(0), {});
  log.append({entry(1, 1), entry(1, 2), entry(1, 3)});
  log.append({entry(2, 2)});
  EXPECT_EQ(log.last_index(), Index(2));
  EXPECT_EQ(*log.term(Index(2)), Term(2));
  EXPECT_EQ(*log.term(Index(1)), Term(1));
}

TEST(RaftLog, ReleasedEntriesAreCompacted) {
  RaftLog log(Index(0), Term(0), {});
  log.append({entry(1, 1), entry(1, 2), entry(3, 3)});
  log.applied_to(Index(3));
  log.released_to(Index(2));
  std::vector<raft::Entry> out;
  EXPECT_EQ(log.entries(Index(2), Index(3), UINT64_MAX, out).error(), raft::LogGap::kCompacted);
  EXPECT_EQ(log.first_index(), Index(3));
  EXPECT_EQ(*log.term(Index(2)), Term(1));
  EXPECT_EQ(log.term(Index(1)).error(), raft::LogGap::kCompacted);
}

TEST(RaftLog, WhatIsInSegmentsAloneHasTermsAndIsNotInMemory) {
  RaftLog log({{Index(4), Term(1)}, {Index(6), Term(3)}}, Index(9), {});
  EXPECT_EQ(log.first_index(), Index(5));
  EXPECT_EQ(log.last_index(), Index(9));
  EXPECT_EQ(*log.term(Index(4)), Term(1));
  EXPECT_EQ(*log.term(Index(5)), Term(1));
  EXPECT_EQ(*log.term(Index(9)), Term(3));
  log.append({entry(3, 10), entry(4, 11)});
  std::vector<raft::Entry> out;
  EXPECT_EQ(log.entries(Index(9), Index(12), UINT64_MAX, out).error(), raft::LogGap::kNotInMemory);
  EXPECT_EQ(log.entries(Index(4), Index(12), UINT64_MAX, out).error(), raft::LogGap::kCompacted);
  ASSERT_TRUE(log.entries(Index(10), Index(12), UINT64_MAX, out));
  EXPECT_EQ(*log.term(Index(11)), Term(4));
  log.released_to(Index(7));
  EXPECT_EQ(log.first_index(), Index(8));
  EXPECT_EQ(*log.term(Index(7)), Term(3));
}

TEST(RaftLog, APartIsCutByBytesButNeverEmpty) {
  RaftLog log(Index(0), Term(0), {});
  log.append({entry(1, 1, 1000), entry(1, 2, 1000), entry(1, 3, 1000)});
  std::vector<raft::Entry> out;
  ASSERT_TRUE(log.entries(Index(1), Index(4), 1, out));
  EXPECT_EQ(out.size(), 1u);
  out.clear();
  ASSERT_TRUE(log.entries(Index(1), Index(4), 2100, out));
  EXPECT_EQ(out.size(), 2u);
}

}  // namespace
}  // namespace cairn::member
