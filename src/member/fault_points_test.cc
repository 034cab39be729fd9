// Where the fault points of a member stand: between which operations of its disk. docs/faults.md says why there.
#include <gtest/gtest.h>

#include <algorithm>

#include "base/fault.h"
#include "member/requests.h"
#include "member/testing/inline_member.h"
#include "proto/rpc.pb.h"
#include "sim/disk/sim_fs.h"

namespace cairn::member {
namespace {

constexpr int64_t kSecond = 1'000'000'000;

class FaultPointsTest : public ::testing::Test {
 protected:
  FaultPointsTest() {
    fs_.make_durable_directories("/srv");
    fs_.set_observer([this](const sim::Operation& operation) {
      const bool changes = operation.op == sim::Op::kWrite || operation.op == sim::Op::kSync;
      const std::string_view file = operation.path.ends_with(".wal")  ? "wal"
                                    : operation.path.ends_with("/db") ? "db"
                                                                      : "snap";
      if (changes && is_noted_) note(fmt::format("[{} {}]", sim::op_name(operation.op), file));
    });
    bootstrap_.data_dir = "/srv/data";
    bootstrap_.initial_cluster = {{"default", {"http://127.0.0.1:2380"}}};
    bootstrap_.mapping_reserved_bytes = 64 << 20;
    bootstrap_.wal.segment_bytes = 64 << 10;
    options_.announcement = {.name = "default", .client_urls = {"http://127.0.0.1:2379"}};
    options_.apply.commit_interval_ns = 3600 * kSecond;
    options_.apply.reclaim_interval_ns = 0;
    fault::set_handler([this](fault::Point point) {
      note(std::string(fault::kPoints[point].name));
      return std::optional<std::string>();
    });
    for (auto& one : fault::armed) one = true;
  }
  ~FaultPointsTest() override {
    for (auto& one : fault::armed) one = false;
    fault::set_handler(nullptr);
  }

  // Two of the same in a row are one.
  void note(std::string what) {
    if (is_noted_ && (noted_.empty() || noted_.back() != what)) noted_.push_back(std::move(what));
  }
  void start() {
    member_ = std::make_unique<testing::InlineMember>(fs_, bootstrap_, options_);
    ASSERT_FALSE(member_->failed_);
  }
  void propose(RequestKind kind, const google::protobuf::Message& request) {
    const uint64_t number = ++number_;
    member_->propose({std::make_shared<const raft::Payload>(
        raft::Payload{.bytes = join_request(kind, request.SerializeAsString(), number), .tag = number})});
  }
  void put() {
    etcdserverpb::PutRequest request;
    request.set_key("key");
    request.set_value("value");
    propose(RequestKind::kPut, request);
  }
  // What happens in `act`.
  template <class Act>
  std::vector<std::string> during(Act act) {
    noted_.clear();
    is_noted_ = true;
    act();
    is_noted_ = false;
    return noted_;
  }

  sim::SimFileSystem fs_{{.mapping_bytes_max = 64 << 20}};
  BootstrapOptions bootstrap_;
  MemberOptions options_;
  std::unique_ptr<testing::InlineMember> member_;
  uint64_t number_ = 0;
  bool is_noted_ = false;
  std::vector<std::string> noted_;
};

using Row = std::vector<std::string>;

// What of a row begins with one of these.
Row only(const Row& row, const std::vector<std::string>& beginnings) {
  Row out;
  for (const std::string& what : row) {
    for (const std::string& beginning : beginnings) {
      if (what.starts_with(beginning) && (out.empty() || out.back() != what)) out.push_back(what);
    }
  }
  return out;
}

TEST_F(FaultPointsTest, OfAPut) {
  start();
  put();
  EXPECT_EQ(during([&] { put(); }),
            (Row{"raftBeforeLeaderSend", "raftBeforeSave", "[write wal]", "walBeforeSync", "[sync wal]", "walAfterSync",
                 "raftAfterSave", "raftBeforeAdvance", "raftBeforeLeaderSend", "beforeApplyOneEntryNormal",
                 "beforeWritebackBuf", "afterWritebackBuf"}));
}

TEST_F(FaultPointsTest, OfACommit) {
  start();
  put();
  member_->wait(3600 * kSecond);
  put();
  // The log comes first: it commits what the file is about to hold.
  EXPECT_EQ(during([&] { member_->wait(3600 * kSecond); }), (Row{"commitBeforePreCommitHook",
                                                                 "commitAfterPreCommitHook",
                                                                 "raftBeforeSave",
                                                                 "[write wal]",
                                                                 "walBeforeSync",
                                                                 "[sync wal]",
                                                                 "walAfterSync",
                                                                 "raftAfterSave",
                                                                 "beforeStartDBTxn",
                                                                 "afterStartDBTxn",
                                                                 "beforeCommit",
                                                                 "beforeBucketPut",
                                                                 "lackOfDiskSpace",
                                                                 "[write db]",
                                                                 "beforeSyncDataPages",
                                                                 "[sync db]",
                                                                 "beforeWriteMetaError",
                                                                 "[write db]",
                                                                 "beforeSyncMetaPage",
                                                                 "[sync db]",
                                                                 "afterCommit"}));
}

TEST_F(FaultPointsTest, OfACompaction) {
  start();
  for (int i = 0; i < 3; ++i) put();
  member_->wait(3600 * kSecond);
  etcdserverpb::CompactionRequest request;
  request.set_revision(3);
  const Row row = during([&] {
    propose(RequestKind::kCompaction, request);
    for (int i = 0; i < 4; ++i) member_->wait(kSecond);
  });
  EXPECT_EQ(
      only(row, {"compact", "beforeApply", "afterCommit"}),
      (Row{"beforeApplyOneEntryNormal", "compactBeforeCommitScheduledCompact", "compactAfterAcquiredBatchTxLock",
           "compactBeforeCommitBatch", "afterCommit", "compactAfterCommitBatch", "compactAfterCommitScheduledCompact",
           "compactBeforeSetFinishedCompact", "compactAfterSetFinishedCompact", "afterCommit"}));
}

// --compaction-batch-limit and --compaction-sleep-interval.
TEST_F(FaultPointsTest, OfACompactionInBatchesThatRest) {
  options_.apply.compaction_batch_limit = 2;
  options_.apply.compaction_sleep_ns = 10 * kSecond;
  start();
  for (int i = 0; i < 4; ++i) put();  // revisions 2 to 5
  member_->wait(3600 * kSecond);
  etcdserverpb::CompactionRequest request;
  request.set_revision(5);
  const auto parts = [&](auto act) { return std::ranges::count(during(act), "compactAfterAcquiredBatchTxLock"); };
  EXPECT_EQ(parts([&] { propose(RequestKind::kCompaction, request); }), 1);
  EXPECT_EQ(parts([&] { member_->wait(9 * kSecond); }), 0);
  EXPECT_EQ(parts([&] { member_->wait(kSecond); }), 1);
  EXPECT_EQ(parts([&] { member_->wait(9 * kSecond); }), 0);
  // Both batches were full, so one more looks for what follows, as in etcd; the mark does not wait.
  const Row last = during([&] { member_->wait(kSecond); });
  EXPECT_EQ(
      only(last, {"compact", "afterCommit"}),
      (Row{"compactAfterAcquiredBatchTxLock", "compactBeforeCommitBatch", "afterCommit", "compactAfterCommitBatch",
           "compactBeforeSetFinishedCompact", "compactAfterSetFinishedCompact", "afterCommit"}));
}

TEST_F(FaultPointsTest, OfADefragmentation) {
  start();
  put();
  member_->wait(3600 * kSecond);
  put();
  const Row row = during([&] {
    member_->events_.controls.push_back({.kind = Control::kDefragment, .tag = ++number_, .due = {}});
    for (int i = 0; i < 10; ++i) member_->wait(kSecond);
  });
  const Row points = only(row, {"defrag", "beforeCommit", "afterCommit", "[write db]"});
  ASSERT_GE(points.size(), 8u);
  EXPECT_EQ(Row(points.begin(), points.begin() + 5),
            (Row{"defragOpenFileError", "defragdbFail", "beforeCommit", "defragBeforeCopy", "[write db]"}));
  EXPECT_EQ(Row(points.end() - 3, points.end()), (Row{"[write db]", "defragBeforeRename", "afterCommit"}));
  EXPECT_EQ(std::count(points.begin(), points.end(), "defragBeforeCopy"), 1);
  EXPECT_EQ(std::count(points.begin(), points.end(), "defragBeforeRename"), 1);
  EXPECT_EQ(member_->answered_.back().code, Code::kOk);
}

TEST_F(FaultPointsTest, ADefragmentationThatFailsChangesNothing) {
  start();
  put();
  for (const std::string_view name : {"defragOpenFileError", "defragdbFail"}) {
    fault::set_handler([this, name](fault::Point point) {
      note(std::string(fault::kPoints[point].name));
      return fault::kPoints[point].name == name ? std::optional<std::string>("no room") : std::nullopt;
    });
    const Row row = during([&] {
      member_->events_.controls.push_back({.kind = Control::kDefragment, .tag = ++number_, .due = {}});
      member_->pump();
    });
    EXPECT_EQ(only(row, {"defragBefore", "beforeCommit"}), Row{}) << name;
    EXPECT_EQ(member_->answered_.back().code, Code::kUnknown) << name;
    EXPECT_EQ(member_->answered_.back().message, "no room") << name;
  }
  put();
  EXPECT_EQ(member_->answered_.back().code, Code::kOk);
}

TEST_F(FaultPointsTest, OfAStart) {
  const Row row = during([&] { start(); });
  EXPECT_EQ(only(row, {"mapError", "beforeApply", "beforePublishing", "raftBeforeFollowerSend"}),
            (Row{"mapError", "beforeApplyOneConfChange", "raftBeforeFollowerSend", "beforeApplyOneEntryNormal",
                 "beforePublishing", "beforeApplyOneEntryNormal"}));
}

TEST_F(FaultPointsTest, OfASnapshot) {
  options_.apply.snapshot_entries = 3;
  options_.apply.snapshot_interval_ns = 0;
  start();
  const Row row = during([&] {
    for (int i = 0; i < 6; ++i) {
      put();
      member_->wait(3600 * kSecond);
    }
  });
  const auto file = std::find(row.begin(), row.end(), "[sync snap]");
  ASSERT_GE(row.end() - file, 4);
  EXPECT_EQ(Row(file, file + 4), (Row{"[sync snap]", "raftBeforeWALSaveSnaphot", "[write wal]", "[sync wal]"}));
}

}  // namespace
}  // namespace cairn::member
