// A day of a member in virtual time: keys are overwritten all the time, and auto-compaction takes the history. The db
// stays about as long as what is in use.
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
constexpr uint64_t kKeys = 50;

TEST(SpaceOfADay, TheDbStaysAboutAsLongAsWhatIsInUse) {
  sim::SimFileSystem fs({.seed = 5, .mapping_bytes_max = 256 << 20});
  fs.make_durable_directories("/data");
  BootstrapOptions bootstrap;
  bootstrap.data_dir = "/data/m";
  bootstrap.initial_cluster = {{"default", {"http://127.0.0.1:2380"}}};
  bootstrap.wal.segment_bytes = 1 << 20;
  bootstrap.poison_free_pages = true;
  bootstrap.space = {.move_above_bytes = 256 << 10,
                     .move_bytes_max = 64 << 10,
                     .punch_bytes_min = 64 << 10,
                     .solid_bytes_kept = 128 << 10};
  MemberOptions options;
  options.segment_bytes = bootstrap.wal.segment_bytes;
  options.auto_compaction = {AutoCompaction::Mode::kPeriodic, 600 * kSecondNs};
  testing::InlineMember member(fs, bootstrap, options);

  Random random(6);
  std::vector<std::string> newest(kKeys);
  uint64_t id = 0;
  uint64_t longest = 0;
  uint64_t longest_file = 0;
  uint64_t most_in_use = 0;
  uint64_t written = 0;
  for (int64_t second = 30; second <= 24 * 3600; second += 30) {
    const int64_t until_ns = second * kSecondNs;
    while (member.wake_at_ns_ && *member.wake_at_ns_ < until_ns) {
      member.wait(std::max<int64_t>(1, *member.wake_at_ns_ - member.now_ns_));
    }
    member.wait(until_ns - member.now_ns_);
    const uint64_t key = random.below(kKeys);
    newest[key] = std::string(random.between(100, 20'000), static_cast<char>('a' + random.below(26)));
    written += newest[key].size();
    etcdserverpb::PutRequest put;
    put.set_key("k" + std::to_string(key));
    put.set_value(newest[key]);
    member.propose({std::make_shared<const raft::Payload>(
        raft::Payload{.bytes = join_request(RequestKind::kPut, put.SerializeAsString(), ++id)})});
    if (second < 3600) continue;
    const storage::Space& space = member.apply().space();
    longest = std::max(longest, space.high_water_bytes);
    longest_file = std::max(longest_file, space.file_bytes);
    most_in_use = std::max(most_in_use, space.in_use_bytes);
  }
  EXPECT_GT(member.apply().store().compact_revision(), 2500);
  EXPECT_GT(written, 10 * most_in_use);
  EXPECT_LT(longest, 3 * most_in_use) << most_in_use;
  EXPECT_LT(longest_file, 4 * most_in_use);
  const auto state = member.reader_->enter();
  for (uint64_t key = 0; key < kKeys; ++key) {
    const auto record = mvcc::find_record(state->kv, "k" + std::to_string(key), state->kv.revision);
    ASSERT_TRUE(record && *record);
    EXPECT_EQ(mvcc::decode_key_value(**record)->value, newest[key]);
  }
  EXPECT_TRUE(storage::check_bolt(fs, "/data/m/member/snap/db", {.older_tree_too = true}));
}

}  // namespace
}  // namespace cairn::member
