// What a start must not lose, and what must not wait for itself: the smallest forms of what the simulator found.
#include <gtest/gtest.h>

#include "member/apply/apply_core.h"
#include "member/commit_stage.h"
#include "member/recovery/bootstrap.h"
#include "member/replication_core.h"
#include "member/requests.h"
#include "mvcc/kv/requests.h"
#include "proto/raft_internal.pb.h"
#include "sim/disk/sim_fs.h"
#include "wal/snap_file.h"

namespace cairn::member {
namespace {

BootstrapOptions options_for(const std::string& data_dir) {
  BootstrapOptions options;
  options.data_dir = data_dir;
  options.initial_cluster = {{"default", {"http://127.0.0.1:2380"}}};
  options.mapping_reserved_bytes = 64 << 20;
  options.wal.segment_bytes = 64 << 10;
  return options;
}

sim::Options disk() { return {.mapping_bytes_max = 64 << 20}; }

raft::Entry put_entry(uint64_t index, const std::string& key) {
  etcdserverpb::PutRequest put;
  put.set_key(key);
  return {.term = Term(2),
          .index = Index(index),
          .data = std::make_shared<const raft::Payload>(
              raft::Payload{.bytes = join_request(RequestKind::kPut, put.SerializeAsString(), index)})};
}

TEST(Start, FoundsADirectoryThatSurvivesAPowerCutWithAllItsParents) {
  sim::SimFileSystem fs(disk());
  fs.make_durable_directories("/srv");
  ASSERT_TRUE(bootstrap(fs, options_for("/srv/a/b/data")));
  fs.crash(sim::Damage::kLoseUnsynced);
  const auto again = bootstrap(fs, options_for("/srv/a/b/data"));
  ASSERT_TRUE(again) << again.error().message;
  EXPECT_FALSE(again->new_directory);
}

// A process that is killed leaves in the page cache what it has not synced; the next one goes on from it, and must not
// lose it when the power goes.
TEST(Start, WhatAKilledProcessLeftUnsyncedIsDurableAfterwards) {
  const BootstrapOptions options = options_for("/srv/data");
  const std::string wal = "/srv/data/member/wal/0000000000000000-0000000000000000.wal";
  const std::string db = "/srv/data/member/snap/db";
  uint64_t n = 0;
  for (bool killed = true; killed;) {
    ++n;
    killed = false;
    SCOPED_TRACE(n);
    sim::SimFileSystem fs(disk());
    fs.make_durable_directories("/srv");
    fs.set_hook([&](const sim::Operation& operation) {
      if (operation.number == n) fs.kill();
      killed |= operation.number == n;
      return sim::Fault::kNone;
    });
    (void)bootstrap(fs, options);
    if (!killed) fs.kill();
    fs.restart();
    ASSERT_TRUE(bootstrap(fs, options));
    const std::string wal_bytes = *env::read_file(fs, wal);
    const std::string db_bytes = *env::read_file(fs, db);
    fs.crash(sim::Damage::kLoseUnsynced);
    ASSERT_TRUE(fs.exists(wal));
    EXPECT_EQ(env::read_file(fs, wal), wal_bytes);
    EXPECT_EQ(env::read_file(fs, db), db_bytes);
    EXPECT_TRUE(bootstrap(fs, options));
  }
  EXPECT_GT(n, 15);
}

// etcd writes a .snap under its name at once. From the start on segments may go that it stands for.
TEST(Start, ASnapFileThatIsInMemoryOnlyIsDurableAfterwards) {
  const BootstrapOptions options = options_for("/srv/data");
  sim::SimFileSystem fs(disk());
  fs.make_durable_directories("/srv");
  ASSERT_TRUE(bootstrap(fs, options));
  const std::string snap = "/srv/data/member/snap/" + wal::format_snapshot_name({Term(1), Index(1)});
  const std::string bytes = wal::encode_snapshot_file({Index(1), Term(1), {}, "v2"});
  {
    const auto file = *fs.open(snap, env::OpenMode::kCreate);
    ASSERT_TRUE(file->pwrite(bytes, 0));
  }
  ASSERT_TRUE(bootstrap(fs, options));
  fs.crash(sim::Damage::kLoseUnsynced);
  ASSERT_TRUE(fs.exists(snap));
  EXPECT_EQ(env::read_file(fs, snap), bytes);
}

TEST(Start, TakesALogWithoutACommitForANewDirectory) {
  sim::SimFileSystem fs(disk());
  fs.make_durable_directories("/srv");
  ASSERT_TRUE(bootstrap(fs, options_for("/srv/data")));
  fs.crash(sim::Damage::kLoseUnsynced);
  auto opened = bootstrap(fs, options_for("/srv/data"));
  ASSERT_TRUE(opened) << opened.error().message;
  EXPECT_EQ(opened->state.schema, Schema::k3_7);
  EXPECT_TRUE(opened->state.new_directory);
  Answers answers;
  ApplyCore apply({}, std::move(opened->state), answers, 0);
  EXPECT_EQ(apply.published().newest().storage_version, "3.7.0");
}

// The hard state that a start finds was synced by somebody, perhaps; the apply stage has heard of none.
TEST(ReplicationCore, SyncsAHardStateForTheFirstCommitAfterAStart) {
  RaftLog log(Index{}, Term{}, {});
  log.append({put_entry(1, "a"), put_entry(2, "b")});
  ReplicationCore::Options options;
  options.raft.id = NodeId(1);
  raft::StartState start;
  start.hard = {Term(2), NodeId(1), Index(2)};
  start.conf.voters = {NodeId(1)};
  ReplicationCore core(options, std::move(log), start);
  (void)core.take_output();
  core.applied({.applied = Index(2), .need_durable_commit = Index(2)});
  ASSERT_TRUE(core.has_output());
  const ReplicationOutput out = core.take_output();
  ASSERT_EQ(out.wal.size(), 1u);
  EXPECT_TRUE(out.wal[0].must_sync);
  ASSERT_TRUE(out.wal[0].hard_state);
  EXPECT_EQ(out.wal[0].hard_state->commit, Index(2));
  core.wal_done({.durable_commit = Index(2)});
  EXPECT_EQ(core.take_output().apply.durable_commit, Index(2));
}

TEST(ReplicationCore, AWriteOfAnotherKindDoesNotEndTheWaitForAStateThatIsBeingSynced) {
  RaftLog log(Index{}, Term{}, {});
  log.append({put_entry(1, "a"), put_entry(2, "b")});
  ReplicationCore::Options options;
  options.raft.id = NodeId(1);
  raft::StartState start;
  start.hard = {Term(2), NodeId(1), Index(2)};
  start.conf.voters = {NodeId(1)};
  ReplicationCore core(options, std::move(log), start);
  (void)core.take_output();
  core.applied({.applied = Index(2), .need_durable_commit = Index(2), .release_below = Index(1)});
  ReplicationOutput out = core.take_output();
  ASSERT_EQ(out.wal.size(), 2u);
  ASSERT_TRUE(out.wal[1].hard_state && out.wal[1].must_sync);
  core.wal_done({});
  EXPECT_FALSE(core.has_output());
  core.wal_done({.durable_commit = Index(2)});
  ASSERT_TRUE(core.has_output()) << "then apply hears of it";
  out = core.take_output();
  EXPECT_TRUE(out.wal.empty());
  EXPECT_EQ(out.apply.durable_commit, Index(2));
}

class Stall : public testing::Test {
 protected:
  Stall() {
    fs_.make_durable_directories("/srv");
    auto opened = bootstrap(fs_, options_for("/srv/data"));
    EXPECT_TRUE(opened) << opened.error().message;
    ApplyOptions options;
    options.buffer_entries_max = 2;
    apply_ = std::make_unique<ApplyCore>(options, std::move(opened->state), answers_, 0);
    reader_ = apply_->published().register_thread();
    commit_reader_ = apply_->published().register_thread();
    commit_ = std::make_unique<CommitStage>(std::move(opened->engine), *commit_reader_);
    raft_log_ = std::move(opened->raft_log);
    std::vector<raft::Entry> founding;
    EXPECT_TRUE(raft_log_.entries(Index(1), Index(2), UINT64_MAX, founding));
    apply(std::move(founding));
  }

  void apply(std::vector<raft::Entry> entries) {
    ApplyBatch batch;
    batch.entries = std::move(entries);
    ASSERT_TRUE(apply_->apply(std::move(batch), now_ns_));
  }
  // What the commit stage is asked for is done.
  bool finish_commit() {
    ApplyOutput out = apply_->take_output();
    if (!out.commit) return false;
    EXPECT_TRUE(apply_->commit_done(commit_->run(*out.commit), now_ns_));
    return true;
  }

  int64_t now_ns_ = 0;
  sim::SimFileSystem fs_{disk()};
  RaftLog raft_log_{Index{}, Term{}, {}};
  Answers answers_;
  std::unique_ptr<ApplyCore> apply_;
  std::unique_ptr<PublishedDomain::Reader> reader_;
  std::unique_ptr<PublishedDomain::Reader> commit_reader_;
  std::unique_ptr<CommitStage> commit_;
};

// The batch that says so stands behind entries that wait for the very commit.
TEST_F(Stall, EndsByADurableCommitThatABehindBatchBrings) {
  apply({put_entry(2, "a"), put_entry(3, "b"), put_entry(4, "c"), put_entry(5, "d")});
  ASSERT_TRUE(apply_->stalled());
  EXPECT_FALSE(finish_commit());
  apply_->note_durable_commit(Index(5));
  EXPECT_TRUE(finish_commit());
  EXPECT_FALSE(apply_->stalled());
}

TEST_F(Stall, APassThatAReaderHoldsUpDoesNotKeepTheThreadAwake) {
  apply_->note_durable_commit(Index(100));
  apply({put_entry(2, "a"), put_entry(3, "a")});
  while (finish_commit()) continue;
  auto pin = reader_->enter().pin(2);
  etcdserverpb::CompactionRequest compaction;
  compaction.set_revision(3);
  apply({{.term = Term(2),
          .index = Index(4),
          .data = std::make_shared<const raft::Payload>(
              raft::Payload{.bytes = join_request(RequestKind::kCompaction, compaction.SerializeAsString(), 4)})}});
  now_ns_ = int64_t{60} * 1'000'000'000;
  apply_->tick(now_ns_);
  while (finish_commit()) continue;
  now_ns_ *= 2;
  apply_->tick(now_ns_);
  ASSERT_EQ(apply_->compaction_in_progress(), 3);
  ASSERT_TRUE(apply_->next_tick_ns());
  EXPECT_GT(*apply_->next_tick_ns(), now_ns_);
}

}  // namespace
}  // namespace cairn::member
