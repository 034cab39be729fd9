// Auto-compaction does what etcd's v3compactor does: its own tests, with the same numbers, and leadership.
#include "member/compaction_duty.h"

#include <gtest/gtest.h>

#include "proto/raft_internal.pb.h"

namespace cairn::member {
namespace {

constexpr int64_t kMinuteNs = int64_t{60} * 1'000'000'000;

class CompactionDutyTest : public ::testing::Test {
 protected:
  void begin(const AutoCompaction& options) {
    duty_.emplace(options, [this] { return ++id_; });
    act();
  }

  void act() {
    duty_->act(scene_, [this](std::vector<std::string> entries) -> std::optional<Index> {
      if (is_refused_) return std::nullopt;
      EXPECT_EQ(entries.size(), 1u);
      etcdserverpb::InternalRaftRequest request;
      EXPECT_TRUE(request.ParseFromString(entries.at(0)));
      EXPECT_FALSE(request.compaction().physical());
      compacted_.push_back(request.compaction().revision());
      return ++last_;
    });
  }

  // As the member does: it steps when the duty wants to, and its own entries are applied soon.
  void pass(int64_t duration_ns) {
    const int64_t end_ns = scene_.now_ns + duration_ns;
    while (const auto next = duty_->next_ns(scene_.applied)) {
      if (*next > end_ns) break;
      scene_.now_ns = *next;
      if (revision_each_look_) ++scene_.revision;
      act();
      if (last_ > scene_.applied && !is_corrupt_) scene_.compacted = compacted_.back();
      scene_.applied = last_;
      act();
    }
    scene_.now_ns = end_ns;
  }

  std::vector<int64_t> take() { return std::exchange(compacted_, {}); }

  std::optional<CompactionDuty> duty_;
  CompactionDuty::Scene scene_{.revision = 1, .applied = Index(10), .term = Term(2), .now_ns = 1000};
  bool revision_each_look_ = true;  // it is one more at each look
  bool is_refused_ = false;         // the log takes nothing
  bool is_corrupt_ = false;         // what is applied has no effect
  uint64_t id_ = 0;
  Index last_{10};
  std::vector<int64_t> compacted_;
};

// etcd's TestPeriodicHourly: two hours are kept, one compaction each hour.
TEST_F(CompactionDutyTest, TwoHoursAreKeptAndTheRestGoesEachHour) {
  begin({AutoCompaction::Mode::kPeriodic, 120 * kMinuteNs});
  pass(120 * kMinuteNs - 1);
  EXPECT_TRUE(take().empty()) << "the whole retention has to pass first";
  pass(1);
  EXPECT_EQ(take(), (std::vector<int64_t>{1}));
  for (int64_t hour = 1; hour <= 3; ++hour) {
    pass(60 * kMinuteNs);
    EXPECT_EQ(take(), (std::vector<int64_t>{10 * hour}));
  }
}

// etcd's TestPeriodicMinutes.
TEST_F(CompactionDutyTest, FiveMinutesAreKeptAndTheRestGoesEachFiveMinutes) {
  begin({AutoCompaction::Mode::kPeriodic, 5 * kMinuteNs});
  for (int64_t period = 0; period < 5; ++period) {
    pass(5 * kMinuteNs);
    EXPECT_EQ(take(), (std::vector<int64_t>{period == 0 ? 1 : 10 * period}));
  }
}

// etcd's TestPeriodicPause: a member that does not lead notes revisions, and compacts once it leads.
TEST_F(CompactionDutyTest, WhoDoesNotLeadCompactsNothing) {
  scene_.term = Term{};
  begin({AutoCompaction::Mode::kPeriodic, 60 * kMinuteNs});
  pass(int64_t{33} * 6 * kMinuteNs);
  EXPECT_TRUE(take().empty());
  scene_.term = Term(3);
  pass(6 * kMinuteNs);
  EXPECT_EQ(take(), (std::vector<int64_t>{1 + 2 * 11 + 1}));
}

// etcd's TestPeriodicSkipRevNotChange.
TEST_F(CompactionDutyTest, ARevisionIsNotCompactedTwice) {
  revision_each_look_ = false;
  begin({AutoCompaction::Mode::kPeriodic, 5 * kMinuteNs});
  scene_.revision = 100;
  pass(20 * kMinuteNs);
  EXPECT_EQ(take(), (std::vector<int64_t>{1, 100}));
}

TEST_F(CompactionDutyTest, WhatFailsIsTriedAgainAfterATenth) {
  begin({AutoCompaction::Mode::kPeriodic, 10 * kMinuteNs});
  is_refused_ = true;
  pass(10 * kMinuteNs);
  EXPECT_TRUE(take().empty());
  is_refused_ = false;
  pass(kMinuteNs);
  EXPECT_EQ(take(), (std::vector<int64_t>{1}));
}

TEST_F(CompactionDutyTest, WhatIsRefusedWhenItIsAppliedIsTriedAgainAfterATenth) {
  revision_each_look_ = false;
  begin({AutoCompaction::Mode::kPeriodic, 10 * kMinuteNs});
  is_corrupt_ = true;
  pass(12 * kMinuteNs);
  EXPECT_EQ(take(), (std::vector<int64_t>{1, 1, 1}));
  is_corrupt_ = false;
  pass(kMinuteNs);
  EXPECT_EQ(take(), (std::vector<int64_t>{1}));
  pass(60 * kMinuteNs);
  EXPECT_TRUE(take().empty()) << "it has succeeded";
}

TEST_F(CompactionDutyTest, ACompactionOfATermThatEndedIsTriedAgain) {
  begin({AutoCompaction::Mode::kPeriodic, 10 * kMinuteNs});
  scene_.now_ns += 10 * kMinuteNs;
  act();
  EXPECT_EQ(take(), (std::vector<int64_t>{1}));
  EXPECT_EQ(duty_->next_ns(scene_.applied), std::nullopt) << "it waits for its entry";
  EXPECT_EQ(duty_->next_ns(last_), scene_.now_ns) << "and notices it at once";
  scene_.term = Term(5);
  scene_.revision = 50;
  scene_.applied = last_;  // another leader's entry
  act();
  EXPECT_TRUE(take().empty());
  pass(kMinuteNs);
  EXPECT_EQ(take(), (std::vector<int64_t>{1}));
}

// etcd's TestRevision: 10 revisions are kept, looked at every five minutes.
TEST_F(CompactionDutyTest, RevisionsAreKept) {
  revision_each_look_ = false;
  begin({AutoCompaction::Mode::kRevision, 10});
  pass(5 * kMinuteNs);
  EXPECT_TRUE(take().empty()) << "nothing is older";
  scene_.revision = 99;
  pass(5 * kMinuteNs);
  EXPECT_EQ(take(), (std::vector<int64_t>{89}));
  pass(50 * kMinuteNs);
  EXPECT_TRUE(take().empty()) << "the same revision";
  scene_.revision = 199;
  pass(5 * kMinuteNs - 1);
  EXPECT_TRUE(take().empty());
  pass(1);
  EXPECT_EQ(take(), (std::vector<int64_t>{189}));
}

TEST_F(CompactionDutyTest, WithoutARetentionNothingHappens) {
  begin({AutoCompaction::Mode::kPeriodic, 0});
  EXPECT_EQ(duty_->next_ns(Index(100)), std::nullopt);
}

}  // namespace
}  // namespace cairn::member
