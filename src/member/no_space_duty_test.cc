// The own NOSPACE alarm is withdrawn once there has been room for a while: the rule alone, and in a member in virtual
// time.
#include "member/no_space_duty.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "member/quota.h"
#include "member/requests.h"
#include "member/testing/inline_member.h"
#include "proto/rpc.pb.h"
#include "sim/disk/sim_fs.h"

namespace cairn::member {
namespace {

constexpr int64_t kMs = 1'000'000;
constexpr int64_t kSecond = 1000 * kMs;

TEST(NoSpaceDuty, AsksAfterRoomWithoutABreak) {
  NoSpaceDuty duty(NoSpaceOptions{});
  NoSpaceDuty::Scene scene{.is_raised = true, .disk_is_low = false, .in_use_bytes = 899, .quota_bytes = 1000};
  const auto at = [&](int64_t now_ns) {
    scene.now_ns = now_ns;
    return duty.act(scene);
  };
  EXPECT_FALSE(at(kSecond));
  EXPECT_EQ(duty.next_ns(), 11 * kSecond);
  EXPECT_FALSE(at(11 * kSecond - 1));
  scene.in_use_bytes = 900;  // 90 % is too much
  EXPECT_FALSE(at(11 * kSecond));
  EXPECT_EQ(duty.next_ns(), std::nullopt);
  scene.in_use_bytes = 899;
  EXPECT_FALSE(at(12 * kSecond));
  scene.disk_is_low = true;
  EXPECT_FALSE(at(22 * kSecond));
  scene.disk_is_low = false;
  EXPECT_FALSE(at(23 * kSecond));
  EXPECT_TRUE(at(33 * kSecond));
  EXPECT_FALSE(at(33 * kSecond)) << "it is on its way";
  EXPECT_TRUE(at(43 * kSecond)) << "and was lost";
  scene.is_raised = false;
  EXPECT_FALSE(at(53 * kSecond));
  EXPECT_EQ(duty.next_ns(), std::nullopt);
}

TEST(NoSpaceDuty, WithoutAQuotaOnlyTheDiskCounts) {
  NoSpaceDuty duty(NoSpaceOptions{});
  EXPECT_FALSE(duty.act({.is_raised = true, .in_use_bytes = 1 << 30, .now_ns = 0}));
  EXPECT_TRUE(duty.act({.is_raised = true, .in_use_bytes = 1 << 30, .now_ns = 10 * kSecond}));
}

TEST(NoSpaceDuty, LeavesTheAlarmAloneWhenToldSo) {
  NoSpaceDuty duty({.clears = false});
  EXPECT_FALSE(duty.act({.is_raised = true, .now_ns = 0}));
  EXPECT_FALSE(duty.act({.is_raised = true, .now_ns = 3600 * kSecond}));
  EXPECT_EQ(duty.next_ns(), std::nullopt);
}

class NoSpaceTest : public ::testing::Test {
 protected:
  NoSpaceTest() {
    fs_.make_durable_directories("/srv");
    bootstrap_.data_dir = "/srv/data";
    bootstrap_.initial_cluster = {{"default", {"http://127.0.0.1:2380"}}};
    bootstrap_.mapping_reserved_bytes = 64 << 20;
    bootstrap_.wal.segment_bytes = 64 << 10;
    bootstrap_.quota_bytes = options_.apply.quota_bytes = 1'000'000;
    options_.apply.commit_interval_ns = 100 * kMs;
  }

  void start() {
    member_.reset();
    member_ = std::make_unique<testing::InlineMember>(fs_, bootstrap_, options_, now_ns_);
    ASSERT_FALSE(member_->failed_);
  }
  // Its answer's code.
  Code ask(RequestKind kind, const std::string& body) {
    const size_t before = member_->answered_.size();
    member_->propose({std::make_shared<const raft::Payload>(
        raft::Payload{.bytes = join_request(kind, body, ++request_id_), .tag = request_id_})});
    return before < member_->answered_.size() ? member_->answered_.back().code : Code::kUnknown;
  }
  Code put(const std::string& key, size_t bytes) {
    etcdserverpb::PutRequest request;
    request.set_key(key);
    request.set_value(std::string(bytes, 'v'));
    return ask(RequestKind::kPut, request.SerializeAsString());
  }
  void fill() {
    for (int i = 0; i < 40 && put("k" + std::to_string(i), 50'000) == Code::kOk; ++i) wait(kSecond);
    ASSERT_EQ(alarms().size(), 1u);
    own_ = alarms().front();
    ASSERT_EQ(own_.type, kAlarmNoSpace);
  }
  void raise(uint64_t member_id, uint32_t type) {
    member_->propose(
        {std::make_shared<const raft::Payload>(raft::Payload{.bytes = alarm_request(member_id, type, ++request_id_)})});
  }
  // As time goes by with nobody asking for anything: the member wakes when it wants to.
  void wait(int64_t ns) {
    const int64_t until_ns = member_->now_ns_ + ns;
    while (member_->wake_at_ns_ && *member_->wake_at_ns_ < until_ns) {
      member_->wait(std::max<int64_t>(1, *member_->wake_at_ns_ - member_->now_ns_));
    }
    member_->wait(until_ns - member_->now_ns_);
    now_ns_ = member_->now_ns_;
  }
  void make_room() {
    etcdserverpb::DeleteRangeRequest erase;
    erase.set_key("k");
    erase.set_range_end("l");
    ASSERT_EQ(ask(RequestKind::kDeleteRange, erase.SerializeAsString()), Code::kOk);
    etcdserverpb::CompactionRequest compact;
    compact.set_revision(member_->apply().store().revision());
    ASSERT_EQ(ask(RequestKind::kCompaction, compact.SerializeAsString()), Code::kOk);
  }
  // Seconds until the own alarm is gone, at most `most`.
  int seconds_until_withdrawn(int most) {
    for (int seconds = 0; seconds < most; ++seconds) {
      if (!has_alarm()) return seconds;
      wait(kSecond);
    }
    return most;
  }
  [[nodiscard]] const std::vector<Alarm>& alarms() const { return *member_->core_->published().newest().alarms; }
  [[nodiscard]] bool has_alarm() const { return std::find(alarms().begin(), alarms().end(), own_) != alarms().end(); }

  sim::SimFileSystem fs_{{.mapping_bytes_max = 64 << 20}};
  BootstrapOptions bootstrap_;
  MemberOptions options_;
  std::unique_ptr<testing::InlineMember> member_;
  int64_t now_ns_ = 1;
  uint64_t request_id_ = 1000;
  Alarm own_;
};

TEST_F(NoSpaceTest, IsWithdrawnTenSecondsAfterACompactionHasMadeRoom) {
  start();
  fill();
  wait(60 * kSecond);
  EXPECT_TRUE(has_alarm()) << "there is no room";
  EXPECT_EQ(put("x", 1), Code::kResourceExhausted);
  make_room();
  const int seconds = seconds_until_withdrawn(60);
  EXPECT_GE(seconds, 10);
  EXPECT_LE(seconds, 15);
  EXPECT_EQ(put("x", 1), Code::kOk);
  EXPECT_EQ(alarms(), std::vector<Alarm>{});
  fill();  // it is raised again when there is reason to
}

TEST_F(NoSpaceTest, AlsoAfterARestart) {
  start();
  fill();
  make_room();
  wait(5 * kSecond);
  start();
  EXPECT_TRUE(has_alarm());
  const int seconds = seconds_until_withdrawn(60);
  EXPECT_GE(seconds, 9);
  EXPECT_LE(seconds, 15);
}

TEST_F(NoSpaceTest, AlarmsOfOthersAndCorruptStay) {
  start();
  fill();
  make_room();
  raise(77, kAlarmNoSpace);
  EXPECT_LE(seconds_until_withdrawn(60), 15);
  raise(own_.member_id, kAlarmCorrupt);
  wait(60 * kSecond);
  EXPECT_EQ(alarms().size(), 2u);
}

TEST_F(NoSpaceTest, StaysWhileTheDiskIsLow) {
  start();
  fill();
  make_room();
  member_->events_.disk_is_low = true;
  member_->pump();
  wait(60 * kSecond);
  EXPECT_TRUE(has_alarm());
  member_->events_.disk_is_low = false;
  member_->pump();
  const int seconds = seconds_until_withdrawn(60);
  EXPECT_GE(seconds, 10);
  EXPECT_LE(seconds, 11);
}

TEST_F(NoSpaceTest, StaysWhenToldSo) {
  options_.no_space.clears = false;
  start();
  fill();
  make_room();
  wait(3600 * kSecond);
  EXPECT_TRUE(has_alarm());
}

}  // namespace
}  // namespace cairn::member
