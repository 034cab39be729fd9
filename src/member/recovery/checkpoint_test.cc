// Index checkpoints on a lone member over the real file system: when they are written, when they are used, and that a
// start with one knows the same as a start without.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>

#include "base/bytes.h"
#include "base/random.h"
#include "member/recovery/checkpoint.h"
#include "member/recovery/recovery.h"
#include "member/requests.h"
#include "member/testing/inline_member.h"
#include "proto/raft_internal.pb.h"
#include "testing/temp_dir.h"

namespace cairn::member {
namespace {

using Step = CheckpointWriter::Step;

constexpr Tag kTag = 7;
constexpr int64_t kSecond = 1'000'000'000;

// Destroyed without stop(): killed.
class Member : public testing::InlineMember {
 public:
  explicit Member(const std::string& data_dir, uint64_t changes_min = 1, uint64_t opening = next_opening())
      : InlineMember(env::posix_fs(), bootstrap_options(data_dir, opening), {}),
        checkpoint_(std::make_unique<CheckpointWriter>(env::posix_fs(),
                                                       CheckpointOptions{.directory = checkpoint_directory_,
                                                                         .changes_min = changes_min,
                                                                         .changes_min_at_stop = 1,
                                                                         .keys_per_step = 7},
                                                       checkpoint_base_, *reader_)) {}

  static uint64_t next_opening() {
    static uint64_t last = 0;
    return ++last;
  }
  static BootstrapOptions bootstrap_options(const std::string& data_dir, uint64_t opening) {
    BootstrapOptions options;
    options.opening = opening;
    options.data_dir = data_dir;
    options.initial_cluster = {{"default", {"http://127.0.0.1:2380"}}};
    options.wal.segment_bytes = 1 << 20;
    options.wal.sync = false;
    return options;
  }

  void propose(RequestKind kind, const google::protobuf::MessageLite& body) {
    answered_.clear();
    InlineMember::propose({std::make_shared<const raft::Payload>(
        raft::Payload{.bytes = join_request(kind, body.SerializeAsString(), ++id_), .tag = kTag})});
    ASSERT_EQ(answered_.size(), 1u);
    ASSERT_EQ(answered_.front().code, Code::kOk) << answered_.front().message;
  }
  void put(std::string_view key, std::string_view value, int64_t lease = 0) {
    etcdserverpb::PutRequest request;
    request.set_key(std::string(key));
    request.set_value(std::string(value));
    request.set_lease(lease);
    propose(RequestKind::kPut, request);
  }
  void put_many(std::string_view prefix, int count) {
    for (int i = 0; i < count; ++i) put(fmt::format("{}{:04}", prefix, i), "value");
  }
  void remove(std::string_view key, std::string_view end = "") {
    etcdserverpb::DeleteRangeRequest request;
    request.set_key(std::string(key));
    request.set_range_end(std::string(end));
    propose(RequestKind::kDeleteRange, request);
  }
  // One revision of many records.
  void put_at_once(int count) {
    etcdserverpb::TxnRequest request;
    for (int i = 0; i < count; ++i) {
      auto* const put = request.add_success()->mutable_request_put();
      put->set_key(fmt::format("k{:03}", i));
      put->set_value("value");
    }
    propose(RequestKind::kTxn, request);
  }
  void compact(int64_t revision) {
    etcdserverpb::CompactionRequest request;
    request.set_revision(revision);
    propose(RequestKind::kCompaction, request);
  }
  void grant(int64_t id) {
    etcdserverpb::InternalRaftRequest request;
    request.mutable_lease_grant()->set_id(id);
    request.mutable_lease_grant()->set_ttl(1000);
    InlineMember::propose({std::make_shared<const raft::Payload>(raft::Payload{.bytes = request.SerializeAsString()})});
  }
  // Everything applied so far goes to the db.
  void commit() { wait(2 * kSecond); }
  void finish_pass() {
    for (int i = 0; i < 100 && apply().compaction_in_progress() != 0; ++i) commit();
    ASSERT_EQ(apply().compaction_in_progress(), 0);
  }
  // Until nothing more is to be done now.
  Step checkpoint(bool stopping = false) {
    while (true) {
      const auto step = checkpoint_->step(stopping);
      EXPECT_TRUE(step) << step.error().message;
      if (!step || *step != Step::kMore) return step ? *step : Step::kIdle;
    }
  }
  [[nodiscard]] int64_t revision() const { return apply().store().revision(); }
  [[nodiscard]] const mvcc::IndexRoot& root() const { return apply().store().index().published(); }

  uint64_t id_ = 0;
  std::unique_ptr<CheckpointWriter> checkpoint_;
};

using Listing = std::map<std::string, mvcc::KeyVersion>;

Listing list(const mvcc::IndexRoot& root, int64_t revision) {
  Listing out;
  mvcc::IndexCursor cursor(root, {}, revision);
  for (cursor.seek_first(); cursor.valid(); cursor.next()) out.emplace(cursor.key(), cursor.at());
  return out;
}

// Both answer the same at every revision that may be asked for.
void expect_same(const mvcc::IndexRoot& got, const mvcc::IndexRoot& want, int64_t compact, int64_t newest) {
  for (int64_t revision = std::max<int64_t>(compact, 1); revision <= newest; ++revision) {
    const Listing expected = list(want, revision);
    ASSERT_EQ(list(got, revision), expected) << "at revision " << revision;
    ASSERT_EQ(got.tally_at({}, revision).tally, want.tally_at({}, revision).tally) << "at revision " << revision;
    for (const auto& [key, version] : expected) ASSERT_EQ(got.find(key, revision), version);
  }
  ASSERT_EQ(got.tally({}), want.tally({}));
}

class CheckpointTest : public ::testing::Test {
 protected:
  void SetUp() override {
    file_ = path_ + "/member/cairn/index";
    db_ = path_ + "/member/snap/db";
  }

  [[nodiscard]] std::string read(const std::string& path) const { return *env::read_file(env::posix_fs(), path); }
  // The file stays the same one.
  void write(const std::string& path, std::string_view bytes) const {
    std::ofstream(path, std::ios::binary | std::ios::trunc).write(bytes.data(), static_cast<int64_t>(bytes.size()));
  }

  // A start finds what an index built from the db says. True: by means of the checkpoint.
  bool expect_same_restart() {
    BootstrapOptions options;
    options.data_dir = path_;
    auto opened = bootstrap(env::posix_fs(), options);
    EXPECT_TRUE(opened) << opened.error().message;
    mvcc::Index built;
    const int64_t compact = std::max<int64_t>(opened->state.store.compact_revision, 0);
    const auto newest = build_index(*opened->engine->view(), built, compact);
    EXPECT_TRUE(newest);
    EXPECT_EQ(opened->state.store.revision, std::max(newest->newest, compact));
    opened->state.index->check();
    expect_same(opened->state.index->working(), built.working(), compact, opened->state.store.revision);
    return opened->checkpoint.usable;
  }
  void expect_restart(bool used) { EXPECT_EQ(expect_same_restart(), used); }

  // 50 keys in a checkpoint, ten more in the db.
  void prepare(uint64_t opening = Member::next_opening()) {
    Member member(path_, /*changes_min=*/1, opening);
    member.put_many("a", 50);
    member.commit();
    ASSERT_EQ(member.checkpoint(), Step::kIdle);
    ASSERT_EQ(member.checkpoint_->written_count(), 1u);
    member.put_many("b", 10);
    member.remove("a0007");
    member.commit();
  }

  const cairn::testing::TempDir folder_;
  const std::string path_ = folder_.path();
  std::string file_;
  std::string db_;
};

TEST(CheckpointHeader, ReadsWhatItWroteAndNothingElse) {
  CheckpointHeader header;
  header.commit = {.opening = 2, .txid = 3};
  header.consistent_index = Index(4);
  header.term = Term(5);
  header.revision = 6;
  header.compact_revision = 7;
  header.mark = {{6, 9}, true, 10};
  header.index_bytes = 11;
  const std::string bytes = encode(header);
  ASSERT_EQ(bytes.size(), kCheckpointHeaderBytes);
  const auto read = decode_checkpoint_header(bytes);
  ASSERT_TRUE(read);
  EXPECT_EQ(encode(*read), bytes);
  EXPECT_EQ(read->commit, header.commit);
  EXPECT_EQ(read->mark, header.mark);
  EXPECT_EQ(read->index_bytes, 11u);
  for (size_t at = 0; at < bytes.size(); ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string wrong = bytes;
      wrong[at] = static_cast<char>(wrong[at] ^ (1 << bit));
      EXPECT_FALSE(decode_checkpoint_header(wrong)) << "byte " << at;
    }
    EXPECT_FALSE(decode_checkpoint_header(bytes.substr(0, at)));
  }
}

TEST_F(CheckpointTest, AStartReadsItAndOnlyTheRecordsBehindIt) {
  prepare();
  {
    const Member member(path_);
    EXPECT_TRUE(member.checkpoint_base_.usable);
    EXPECT_EQ(member.checkpoint_base_.revision, 51);
    EXPECT_EQ(member.checkpoint_base_.changes, 11u);
  }
  expect_restart(true);
}

TEST_F(CheckpointTest, WhatTheDbDoesNotHoldYetComesFromTheWal) {
  prepare();
  {
    Member member(path_);
    member.put_many("c", 5);
    member.remove("a", "a0020");
  }
  Member member(path_);
  EXPECT_TRUE(member.checkpoint_base_.usable);
  EXPECT_EQ(member.root().tally({}).count, 50u + 10 - 20 + 5);
}

TEST_F(CheckpointTest, MissingIsBuilt) {
  prepare();
  std::filesystem::remove(file_);
  expect_restart(false);
}

TEST_F(CheckpointTest, TornIsBuilt) {
  prepare();
  const std::string whole = read(file_);
  for (const size_t size : {size_t{0}, size_t{1}, kCheckpointHeaderBytes - 1, kCheckpointHeaderBytes,
                            kCheckpointHeaderBytes + 30, whole.size() / 2, whole.size() - 1}) {
    write(file_, whole.substr(0, size));
    expect_restart(false);
  }
  write(file_, whole + '\0');
  expect_restart(false);
  for (size_t at = 0; at < whole.size(); at += 37) {
    std::string wrong = whole;
    wrong[at] = static_cast<char>(wrong[at] ^ 0x20);
    write(file_, wrong);
    expect_restart(false);
  }
  write(file_, whole);
  expect_restart(true);
}

TEST_F(CheckpointTest, OlderThanManyCommitsIsUsed) {
  prepare();
  {
    Member member(path_, /*changes_min=*/1'000'000);
    for (int i = 0; i < 20; ++i) {
      member.put_many("a", 10);
      member.remove("a0003");
      member.commit();
    }
    EXPECT_EQ(member.checkpoint(), Step::kIdle);
    EXPECT_EQ(member.checkpoint_->written_count(), 0u);
  }
  expect_restart(true);
}

TEST_F(CheckpointTest, OlderThanAPassIsBuilt) {
  prepare();
  {
    Member member(path_);
    member.compact(member.revision() - 2);
    member.finish_pass();
  }
  expect_restart(false);
}

TEST_F(CheckpointTest, AtTheRevisionOfACompactionItIsUsed) {
  {
    Member member(path_);
    for (int i = 0; i < 5; ++i) member.put_many("a", 10);
    member.remove("a0004");
    member.commit();
    ASSERT_EQ(member.checkpoint(), Step::kIdle);
    ASSERT_EQ(member.checkpoint_->revision(), member.revision());
    member.compact(member.revision());
    member.put_many("b", 3);
    member.finish_pass();
    EXPECT_EQ(member.apply().store().index().published().tally({}).count, 9u + 3);
  }
  expect_restart(true);
}

// The bytes of the db go back to what they were.
TEST_F(CheckpointTest, NewerThanTheDbIsBuilt) {
  std::string before;
  {
    Member member(path_);
    member.put_many("a", 30);
    member.commit();
    before = read(db_);
    member.put_many("b", 30);
    member.commit();
    ASSERT_EQ(member.checkpoint(), Step::kIdle);
    ASSERT_EQ(member.checkpoint_->written_count(), 1u);
  }
  expect_restart(true);
  write(db_, before);
  expect_restart(false);
  Member member(path_);
  EXPECT_EQ(member.root().tally({}).count, 60u);
  EXPECT_EQ(member.revision(), 61);
}

TEST_F(CheckpointTest, ACopyOfTheDirectoryKeepsIt) {
  prepare();
  const std::string copy = path_ + ".copy";
  std::filesystem::copy(path_, copy, std::filesystem::copy_options::recursive);
  std::filesystem::remove_all(path_);
  std::filesystem::rename(copy, path_);
  expect_restart(true);
}

TEST_F(CheckpointTest, ManyStartsLaterItIsUsed) {
  prepare();
  for (int i = 0; i < 5; ++i) {
    Member member(path_, /*changes_min=*/1'000'000);
    EXPECT_TRUE(member.checkpoint_base_.usable) << i;
    member.put_many("a", 10);
    member.commit();
  }
  expect_restart(true);
}

// bbolt writes zeros behind its metas.
TEST_F(CheckpointTest, AfterAnotherProgramsCommitItIsBuilt) {
  prepare();
  const std::string own = read(db_);
  for (const bool newest : {false, true}) {
    const std::string image = read(db_);
    const auto txid = [&](size_t slot) { return load_le<uint64_t>(image.data() + slot * 4096 + 16 + 48); };
    const size_t slot = (txid(1) > txid(0)) == newest ? 1 : 0;
    std::string bytes = own;
    std::fill_n(bytes.begin() + static_cast<int64_t>(slot * 4096 + 16 + 64), 36, '\0');
    write(db_, bytes);
    expect_restart(!newest);
  }
}

// The directory, without its checkpoint, goes back to what it was. Then another history grows past the checkpoint.
// Both histories have the same record at the checkpoint's revision.
TEST_F(CheckpointTest, OfAHistoryThatWasUndoneIsBuilt) {
  const std::string backup = path_ + ".backup";
  const auto grow = [&](Member& member, std::string_view prefix) {
    member.put_many(prefix, 20);
    member.put("heartbeat", "alive");
  };
  {
    Member member(path_, /*changes_min=*/1'000'000);
    member.put_many("a", 20);
    member.commit();
    std::filesystem::copy(path_ + "/member", backup, std::filesystem::copy_options::recursive);
    grow(member, "b");
    member.commit();
    ASSERT_EQ(member.checkpoint(/*stopping=*/true), Step::kIdle);
    ASSERT_EQ(member.checkpoint_->revision(), member.revision());
  }
  std::filesystem::remove_all(path_ + "/member/wal");
  std::filesystem::rename(backup + "/wal", path_ + "/member/wal");
  write(db_, read(backup + "/snap/db"));
  std::filesystem::remove_all(backup);
  {
    Member member(path_, /*changes_min=*/1'000'000);
    EXPECT_FALSE(member.checkpoint_base_.usable);
    grow(member, "c");
    for (int i = 0; i < 5; ++i) {
      member.put_many("d", 5);
      member.commit();
    }
  }
  expect_restart(false);
  const Member member(path_);
  EXPECT_EQ(member.root().find("b0003"), std::nullopt);
  EXPECT_NE(member.root().find("c0003"), std::nullopt);
}

// A newer copy is put back over an older one that has gone its own way and has a checkpoint of that.
TEST_F(CheckpointTest, OfTheOtherBranchIsBuilt) {
  prepare();
  const std::string backup = path_ + ".backup";
  std::filesystem::copy(path_, backup, std::filesystem::copy_options::recursive);
  {
    Member member(path_, /*changes_min=*/1'000'000);
    member.put_many("x", 40);
    member.put("heartbeat", "alive");
    for (int i = 0; i < 10; ++i) member.commit();
    member.put_many("y", 20);
    member.commit();
  }
  const std::string longer = path_ + ".longer";
  std::filesystem::rename(path_, longer);
  std::filesystem::rename(backup, path_);
  {
    Member member(path_, /*changes_min=*/1'000'000);
    EXPECT_TRUE(member.checkpoint_base_.usable);
    member.put_many("z", 40);
    member.put("heartbeat", "alive");
    member.commit();
    ASSERT_EQ(member.checkpoint(/*stopping=*/true), Step::kIdle);
    ASSERT_EQ(member.checkpoint_->revision(), member.revision());
  }
  std::filesystem::remove_all(path_ + "/member/wal");
  std::filesystem::rename(longer + "/member/wal", path_ + "/member/wal");
  write(db_, read(longer + "/member/snap/db"));
  std::filesystem::remove_all(longer);
  expect_restart(false);
}

// The second witness: two machines that are clones of one running machine have the same opening.
TEST_F(CheckpointTest, OfACloneIsBuilt) {
  constexpr uint64_t kOpening = 1'000'000;
  prepare(kOpening);
  const std::string own = read(db_);
  std::filesystem::remove_all(path_);
  {
    // The same but for one value; everything else about the db fits.
    Member member(path_, /*changes_min=*/1, kOpening);
    member.put_many("a", 49);
    member.put("a0049", "other");
    member.put_many("b", 10);
    member.remove("a0007");
    member.commit();
    member.commit();
  }
  const std::string other = read(db_);
  std::filesystem::remove_all(path_);
  prepare(kOpening);
  for (const bool is_own : {true, false}) {
    write(db_, is_own ? own : other);
    BootstrapOptions options;
    options.data_dir = path_;
    auto opened = bootstrap(env::posix_fs(), options);
    ASSERT_TRUE(opened) << opened.error().message;
    EXPECT_EQ(opened->checkpoint.usable, is_own);
    const auto checkpoint = open_checkpoint(env::posix_fs(), file_, {*opened->engine->view(), Index(1000), 0});
    ASSERT_EQ(checkpoint.has_value(), is_own);
    if (!checkpoint) {
      EXPECT_NE(checkpoint.error().message.find("another record at revision 51"), std::string::npos);
    }
  }
}

TEST_F(CheckpointTest, GetsItsNameOnlyWhenTheDbHoldsIt) {
  Member member(path_);
  member.put_many("a", 30);
  EXPECT_EQ(member.checkpoint(), Step::kWaiting);
  EXPECT_FALSE(std::filesystem::exists(file_));
  member.put_many("b", 30);
  EXPECT_EQ(member.checkpoint(), Step::kWaiting);
  member.commit();
  EXPECT_EQ(member.checkpoint_->written_count(), 0u);
  const auto step = member.checkpoint_->step();
  ASSERT_TRUE(step);
  EXPECT_EQ(member.checkpoint_->written_count(), 1u);
  EXPECT_EQ(member.checkpoint_->revision(), 31);
  EXPECT_TRUE(std::filesystem::exists(file_));
}

TEST_F(CheckpointTest, IsDueAfterEnoughChangesOrAtAStop) {
  Member member(path_, /*changes_min=*/20);
  member.put_many("a", 18);  // the revision before the first put counts, too
  member.commit();
  member.checkpoint();
  EXPECT_EQ(member.checkpoint_->written_count(), 0u);
  member.put_many("a", 19);
  member.commit();
  member.checkpoint();
  EXPECT_EQ(member.checkpoint_->written_count(), 1u);
  member.put_many("b", 200);
  member.commit();
  member.checkpoint();
  EXPECT_EQ(member.checkpoint_->written_count(), 2u);
  member.put_many("b", 50);  // less than a quarter of 219
  member.commit();
  member.checkpoint();
  EXPECT_EQ(member.checkpoint_->written_count(), 2u);
  member.checkpoint(/*stopping=*/true);
  EXPECT_EQ(member.checkpoint_->written_count(), 3u);
  member.checkpoint(/*stopping=*/true);
  EXPECT_EQ(member.checkpoint_->written_count(), 3u);
}

// A transaction makes one revision and many records. What was read at the start counts like what came since.
TEST_F(CheckpointTest, IsDueByRecordsNotByRevisions) {
  {
    Member member(path_, /*changes_min=*/100);
    member.put_at_once(60);
    member.commit();
    member.checkpoint();
    EXPECT_EQ(member.checkpoint_->written_count(), 0u);
  }
  Member member(path_, /*changes_min=*/100);
  member.put_at_once(30);
  member.commit();
  member.checkpoint();
  EXPECT_EQ(member.checkpoint_->written_count(), 0u);
  member.put_at_once(10);
  member.commit();
  member.checkpoint();
  EXPECT_EQ(member.checkpoint_->written_count(), 1u);
}

TEST_F(CheckpointTest, IsDueByRecordsAfterACompactionToo) {
  Member member(path_, /*changes_min=*/100);
  member.put_at_once(10);
  member.compact(member.revision());
  member.finish_pass();
  member.checkpoint();
  for (const uint64_t written : {0U, 1U}) {  // of 10 keys and 50 or 100 records
    for (int i = 0; i < 5; ++i) member.put_at_once(10);
    member.commit();
    member.checkpoint();
    EXPECT_EQ(member.checkpoint_->written_count(), written);
  }
}

TEST_F(CheckpointTest, APassAboveItEndsWithANewOne) {
  auto owned = std::make_unique<Member>(path_, /*changes_min=*/20);
  Member& member = *owned;
  member.put_many("a", 40);
  member.commit();
  member.checkpoint();
  ASSERT_EQ(member.checkpoint_->revision(), 41);
  member.put_many("a", 5);
  member.compact(45);
  member.checkpoint();
  EXPECT_EQ(member.checkpoint_->written_count(), 1u);  // not before its end
  member.finish_pass();
  member.checkpoint();
  EXPECT_EQ(member.checkpoint_->written_count(), 2u);
  EXPECT_EQ(member.checkpoint_->revision(), 46);
  owned.reset();
  expect_restart(true);
}

TEST_F(CheckpointTest, ACompactionAboveTheOneInProgressDropsIt) {
  Member member(path_);
  member.put_many("a", 100);
  ASSERT_TRUE(member.checkpoint_->step());
  ASSERT_TRUE(member.checkpoint_->step());
  ASSERT_TRUE(member.checkpoint_->in_progress());
  member.put_many("a", 20);
  member.compact(115);
  ASSERT_TRUE(member.checkpoint_->step());
  EXPECT_FALSE(member.checkpoint_->in_progress());
  EXPECT_FALSE(std::filesystem::exists(file_ + ".tmp"));
  EXPECT_EQ(member.core_->published().pin_count(), 0u);
}

TEST_F(CheckpointTest, AFailureIsReportedAndTriedAgainOnlyMuchLater) {
  Member member(path_, /*changes_min=*/20);
  member.put_many("a", 20);
  member.commit();
  std::filesystem::create_directories(file_ + ".tmp");  // cannot be opened as a file
  EXPECT_FALSE(member.checkpoint_->step());
  std::filesystem::remove(file_ + ".tmp");
  EXPECT_EQ(member.checkpoint(), Step::kIdle);
  EXPECT_EQ(member.checkpoint_->written_count(), 0u);
  EXPECT_EQ(member.core_->published().pin_count(), 0u);
  member.put_many("a", 20);
  member.commit();
  member.checkpoint();
  EXPECT_EQ(member.checkpoint_->written_count(), 1u);
}

TEST_F(CheckpointTest, ADeletedKeyStaysDeadWhenItsTombstoneIsGone) {
  for (const bool new_one : {false, true}) {
    {
      Member member(path_);
      member.put_many("a", 20);
      member.put("doomed", "value");
      member.put("last", "value");
      member.commit();
      ASSERT_EQ(member.checkpoint(), Step::kIdle);
      ASSERT_EQ(member.checkpoint_->revision(), member.revision());
      member.remove("doomed");
      member.put("after", "value");
      member.compact(member.revision());
      member.finish_pass();
      if (new_one) {
        ASSERT_EQ(member.checkpoint(), Step::kIdle);
      }
      EXPECT_EQ(member.checkpoint_->revision() == member.revision(), new_one);
    }
    {
      const Member member(path_);
      EXPECT_EQ(member.checkpoint_base_.usable, new_one);
      EXPECT_EQ(member.root().find("doomed"), std::nullopt);
      EXPECT_NE(member.root().find("last"), std::nullopt);
      EXPECT_EQ(member.root().tally({}).count, 22u);
      EXPECT_EQ(list(member.root(), mvcc::kNewest).size(), 22u);
    }
    expect_restart(new_one);
    std::filesystem::remove_all(path_);
  }
}

TEST_F(CheckpointTest, LeasesHoldTheirKeysAfterwards) {
  {
    Member member(path_);
    member.grant(5);
    member.grant(6);
    member.put("x", "1", 5);
    member.put("y", "1", 5);
    member.put_many("a", 5);
    member.commit();
    ASSERT_EQ(member.checkpoint(), Step::kIdle);
    member.put("y", "2", 6);
    member.put("z", "1", 6);
    member.commit();
  }
  const Member member(path_);
  ASSERT_TRUE(member.checkpoint_base_.usable);
  EXPECT_EQ(member.apply().lessor().find(5)->keys.size(), 1u);
  EXPECT_EQ(member.apply().lessor().find(6)->keys.size(), 2u);
}

TEST_F(CheckpointTest, IndexFromCheckpointAndScanEqualsIndexFromTheFile) {
  int used_count = 0;
  for (uint64_t seed = 1; seed <= 25; ++seed) {
    SCOPED_TRACE(fmt::format("seed {}", seed));
    Random random(seed);
    bool expect_used = false;
    for (int life = 0; life < 4; ++life) {
      Member member(path_, /*changes_min=*/1 + random.below(60));
      const auto key = [&] {
        std::string out = fmt::format("k{}", random.below(40));
        if (random.below(10) == 0) out += std::string(random.below(300), 'x');
        return out;
      };
      const uint64_t requests = 20 + random.below(150);
      for (uint64_t i = 0; i < requests; ++i) {
        switch (random.below(20)) {
          case 0: member.remove(key(), "kz"); break;
          case 1:
          case 2:
          case 3:
          case 4: member.remove(key()); break;
          case 5:
            if (random.below(4) != 0) break;
            if (const int64_t from = std::max<int64_t>(member.apply().store().compact_revision(), 0) + 1;
                from <= member.revision()) {
              const auto range = static_cast<uint64_t>(member.revision() - from) + 1;
              member.compact(from + static_cast<int64_t>(random.below(range)));
            }
            break;
          case 6: member.commit(); break;
          case 7:
          case 8:
            for (uint64_t steps = random.below(8); steps > 0; --steps) ASSERT_TRUE(member.checkpoint_->step());
            break;
          default: member.put(key(), std::string(random.below(20), 'v'));
        }
      }
      if (random.below(2) == 0) member.commit();
      const int64_t compact = std::max<int64_t>(member.apply().store().compact_revision(), 0);
      // What the db holds of it decides; a commit that is not finished may be one that schedules a compaction.
      expect_used = member.checkpoint_->revision() > 0 && member.checkpoint_->revision() >= compact;
    }
    const bool used = expect_same_restart();
    if (expect_used) {
      EXPECT_TRUE(used);
    }
    used_count += used ? 1 : 0;
    std::filesystem::remove_all(path_);
    if (HasFatalFailure()) return;
  }
  EXPECT_GT(used_count, 5);
  EXPECT_LT(used_count, 25);
}

}  // namespace
}  // namespace cairn::member
