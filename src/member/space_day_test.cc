// A day of a member in virtual time: keys are overwritten all the time, auto-compaction takes the history, and now and
// then comes a burst of which little is kept. The db gets as short again as what is in use.
#include <algorithm>
#include <map>
#include <memory>
#include <string>

#include <gtest/gtest.h>

#include "member/requests.h"
#include "member/testing/inline_member.h"
#include "mvcc/kv/range.h"
#include "proto/rpc.pb.h"
#include "sim/disk/sim_fs.h"
#include "storage/bolt/check.h"

namespace cairn::member {
namespace {

constexpr int64_t kSecondNs = 1'000'000'000;
constexpr int64_t kStep = 30;           // seconds from put to put
constexpr int64_t kBurstEvery = 14400;  // seconds; the first comes after half of it
constexpr uint64_t kKeys = 50;

class Day {
 public:
  explicit Day(uint64_t move_above_bytes) {
    fs_.make_durable_directories("/data");
    BootstrapOptions bootstrap;
    bootstrap.data_dir = "/data/m";
    bootstrap.initial_cluster = {{"default", {"http://127.0.0.1:2380"}}};
    bootstrap.wal.segment_bytes = 1 << 20;
    bootstrap.poison_free_pages = true;
    bootstrap.space = {.move_above_bytes = move_above_bytes,
                       .move_bytes_max = 64 << 10,
                       .punch_bytes_min = 64 << 10,
                       .solid_bytes_kept = 128 << 10};
    MemberOptions options;
    options.segment_bytes = bootstrap.wal.segment_bytes;
    options.auto_compaction = {AutoCompaction::Mode::kPeriodic, 600 * kSecondNs};
    member_ = std::make_unique<testing::InlineMember>(fs_, bootstrap, options);
  }

  void live() {
    for (int64_t second = kStep; second <= 24 * 3600; second += kStep) {
      wait_until(second * kSecondNs);
      const uint64_t bytes = random_.between(100, 20'000);
      put("k" + std::to_string(random_.below(kKeys)), bytes);
      const int64_t in_round = (second + kBurstEvery / 2) % kBurstEvery;
      if (in_round == 0) burst(second);
      if (in_round != kBurstEvery - kStep) continue;
      const storage::Space& space = member_->apply().space();
      longest_ = std::max(longest_, space.high_water_bytes);
      longest_file_ = std::max(longest_file_, space.file_bytes);
      most_in_use_ = std::max(most_in_use_, space.in_use_bytes);
      ++looks_;
    }
  }

  void expect_whole() {
    const auto state = member_->reader_->enter();
    for (const auto& [key, value] : newest_) {
      const auto record = mvcc::find_record(state->kv, key, state->kv.revision);
      ASSERT_TRUE(record && *record) << key;
      EXPECT_EQ(mvcc::decode_key_value(**record)->value, value);
    }
    EXPECT_EQ(state->kv.root.tally({}).count, static_cast<int64_t>(newest_.size()));
    EXPECT_TRUE(storage::check_bolt(fs_, "/data/m/member/snap/db", {.older_tree_too = true}));
  }

  sim::SimFileSystem fs_{{.seed = 5, .mapping_bytes_max = 256 << 20}};
  std::unique_ptr<testing::InlineMember> member_;
  // Before each burst.
  uint64_t longest_ = 0;
  uint64_t longest_file_ = 0;
  uint64_t most_in_use_ = 0;
  int looks_ = 0;
  uint64_t written_ = 0;

 private:
  void wait_until(int64_t until_ns) {
    while (member_->wake_at_ns_ && *member_->wake_at_ns_ < until_ns) {
      member_->wait(std::max<int64_t>(1, *member_->wake_at_ns_ - member_->now_ns_));
    }
    member_->wait(until_ns - member_->now_ns_);
  }
  void propose(RequestKind kind, const google::protobuf::Message& request) {
    member_->propose({std::make_shared<const raft::Payload>(
        raft::Payload{.bytes = join_request(kind, request.SerializeAsString(), ++id_)})});
  }
  void put(const std::string& key, uint64_t bytes) {
    etcdserverpb::PutRequest put;
    put.set_key(key);
    put.set_value(std::string(bytes, static_cast<char>('a' + random_.below(26))));
    newest_[key] = put.value();
    written_ += bytes;
    propose(RequestKind::kPut, put);
  }
  // Five megabytes, and between them keys that stay.
  void burst(int64_t second) {
    for (int i = 0; i < 100; ++i) {
      put("burst" + std::to_string(i), 50'000);
      if (i % 20 == 0) put("stays" + std::to_string(second + i), 2000);
      wait_until(member_->now_ns_ + kSecondNs / 10);
    }
    etcdserverpb::DeleteRangeRequest erase;
    erase.set_key("burst");
    erase.set_range_end("bursu");
    propose(RequestKind::kDeleteRange, erase);
    std::erase_if(newest_, [](const auto& entry) { return entry.first.starts_with("burst"); });
  }

  Random random_{6};
  std::map<std::string, std::string> newest_;
  uint64_t id_ = 0;
};

TEST(SpaceOfADay, TheDbGetsAsShortAgainAsWhatIsInUse) {
  Day day(256 << 10);
  day.live();
  EXPECT_EQ(day.looks_, 6);
  EXPECT_GT(day.member_->apply().store().compact_revision(), 2500);
  EXPECT_GT(day.written_, 20 * day.most_in_use_);
  EXPECT_LT(day.longest_, 2 * day.most_in_use_);
  EXPECT_LT(day.longest_file_, 3 * day.most_in_use_);
  day.expect_whole();
}

// The day is such that it takes moves.
TEST(SpaceOfADay, WithoutMovesTheDbStaysLong) {
  Day day(UINT64_MAX);
  day.live();
  EXPECT_GT(day.longest_, 3 * day.most_in_use_);
  day.expect_whole();
}

}  // namespace
}  // namespace cairn::member
