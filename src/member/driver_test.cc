// A member with its threads, over a file system whose db can be full.
#include "member/driver.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <map>
#include <thread>

#include "base/errors.h"
#include "member/requests.h"
#include "metrics/metrics.h"
#include "mvcc/kv/range.h"
#include "proto/raft_internal.pb.h"
#include "proto/rpc.pb.h"
#include "testing/file_systems.h"
#include "testing/temp_dir.h"
#include "testing/wait.h"

namespace cairn::member {
namespace {

using namespace std::chrono_literals;
using cairn::testing::wait_until;

// The real file system, but that the db takes no page while `full` is set, and no write of it ends while `stuck` is.
class FillableFile final : public cairn::testing::ForwardingFile {
 public:
  FillableFile(std::unique_ptr<env::File> file, const std::atomic<bool>& full, const std::atomic<bool>& stuck,
               std::chrono::milliseconds writes_take)
      : ForwardingFile(std::move(file)), full_(full), stuck_(stuck), writes_take_(writes_take) {}
  Status pwrite(std::string_view data, uint64_t offset) override {
    CAIRN_CHECK(room());
    if (writes_take_ > 0ms) std::this_thread::sleep_for(writes_take_);
    return ForwardingFile::pwrite(data, offset);
  }
  Status allocate(uint64_t offset, uint64_t size) override {
    CAIRN_CHECK(room());
    return ForwardingFile::allocate(offset, size);
  }

 private:
  Status room() const {
    stuck_.wait(true);
    return full_ ? Status(fail(Code::kResourceExhausted, "test: no space")) : Status();
  }
  const std::atomic<bool>& full_;
  const std::atomic<bool>& stuck_;
  const std::chrono::milliseconds writes_take_;
};

// Each write takes half a second.
class SlowFile final : public cairn::testing::ForwardingFile {
 public:
  using ForwardingFile::ForwardingFile;
  Status pwrite(std::string_view data, uint64_t offset) override {
    std::this_thread::sleep_for(500ms);
    return ForwardingFile::pwrite(data, offset);
  }
};

class FillableFs final : public cairn::testing::ForwardingFileSystem {
 public:
  Result<std::unique_ptr<env::File>> open(const std::string& path, env::OpenMode mode) override {
    CAIRN_TRY(auto file, ForwardingFileSystem::open(path, mode));
    if (path.ends_with("/index.tmp") && low_at_checkpoint.exchange(false)) {
      free = 1 << 20;
      return std::unique_ptr<env::File>(std::make_unique<SlowFile>(std::move(file)));
    }
    if (!path.ends_with("/db")) return file;
    return std::unique_ptr<env::File>(std::make_unique<FillableFile>(std::move(file), full, stuck, db_writes_take));
  }
  Result<uint64_t> free_bytes(const std::string& path) override {
    return free != 0 ? Result<uint64_t>(free.load()) : ForwardingFileSystem::free_bytes(path);
  }

  void unstick() {
    stuck = false;
    stuck.notify_all();
  }

  std::atomic<bool> full{false};
  std::atomic<bool> stuck{false};  // set before the db is to be written
  std::atomic<uint64_t> free{0};   // 0: what there is
  std::chrono::milliseconds db_writes_take{0};
  std::atomic<bool> low_at_checkpoint{false};  // when the next one is begun, which takes its time
};

class NodeTest : public ::testing::Test {
 protected:
  void TearDown() override {
    fs_.unstick();
    if (node_ != nullptr) node_->stop();
    node_.reset();
  }

  void start() {
    NodeOptions options;
    options.bootstrap.data_dir = path_;
    options.bootstrap.initial_cluster = {{"default", {"http://127.0.0.1:2380"}}};
    options.client_urls = {"http://127.0.0.1:2379"};
    options.apply.buffer_entries_max = 100;
    adjust_(options);
    options.fail_stop = [](const Error& error) {
      std::fprintf(stderr, "%s\n", error.message.c_str());
      std::abort();
    };
    auto opened = Node::open(std::move(options), fs_, clock_, metrics_);
    ASSERT_TRUE(opened) << opened.error().message;
    node_ = *std::move(opened);
    node_->start([this](unsigned, const AnswerBatch& batch) {
      MutexLock lock(mutex_);
      for (const Answer& answer : batch.answers) {
        const bool is_first = answers_.emplace(answer.tag, Error{answer.code, std::string(batch.text(answer))}).second;
        EXPECT_TRUE(is_first) << answer.tag;
      }
    });
    ASSERT_TRUE(node_->wait_ready(120'000'000'000));
  }
  void put(Tag tag, size_t value_bytes = 1) {
    etcdserverpb::PutRequest request;
    request.set_key(std::to_string(tag));
    request.set_value(std::string(value_bytes, 'v'));
    node_->propose({std::make_shared<const raft::Payload>(raft::Payload{
        .bytes = join_request(RequestKind::kPut, request.SerializeAsString(), node_->next_request_id()), .tag = tag})});
  }
  void disarm() {
    etcdserverpb::InternalRaftRequest request;
    request.mutable_header()->set_id(node_->next_request_id());
    request.mutable_alarm()->set_action(etcdserverpb::AlarmRequest::DEACTIVATE);
    request.mutable_alarm()->set_memberid(node_->member_id());
    request.mutable_alarm()->set_alarm(etcdserverpb::NOSPACE);
    node_->propose({std::make_shared<const raft::Payload>(raft::Payload{.bytes = request.SerializeAsString()})});
  }
  size_t answer_count() {
    MutexLock lock(mutex_);
    return answers_.size();
  }
  bool wait_for_answers(size_t count) {
    return wait_until([&] { return answer_count() >= count; }) && answer_count() == count;
  }
  static bool is_ok(const Error& answer) { return answer.code == Code::kOk; }
  size_t count_of(const Error& error) {
    MutexLock lock(mutex_);
    return static_cast<size_t>(
        std::count_if(answers_.begin(), answers_.end(), [&](const auto& answer) { return answer.second == error; }));
  }
  bool has_key(Tag tag) {
    const auto reader = node_->published().register_thread();
    const auto state = reader->enter();
    const auto record = mvcc::find_record(state->kv, std::to_string(tag), state->kv.revision);
    return record && *record;
  }

  const cairn::testing::TempDir folder_;
  const std::string path_ = folder_.path();
  std::function<void(NodeOptions&)> adjust_ = [](NodeOptions&) {};
  FillableFs fs_;
  env::PosixClock clock_;
  metrics::Registry registry_;
  Metrics metrics_{registry_};
  std::unique_ptr<Node> node_;
  Mutex mutex_;
  std::map<Tag, Error> answers_;
};

// A commit that finds no room raises the alarm: from then on a put is answered with no_space().
TEST_F(NodeTest, AStopEndsWithoutRoomForTheDbAndNothingIsLost) {
  start();
  fs_.full = true;
  for (Tag tag = 1; tag <= 50; ++tag) put(tag);
  ASSERT_TRUE(wait_for_answers(50));
  for (const auto& [tag, answer] : answers_) EXPECT_TRUE(is_ok(answer) || answer == errors::no_space()) << tag;
  node_->stop();
  node_.reset();
  fs_.full = false;
  start();
  for (const auto& [tag, answer] : answers_) EXPECT_EQ(has_key(tag), is_ok(answer)) << tag;
}

// Many clients with large values, and a db that is slower than they are: they wait, and none is refused.
TEST_F(NodeTest, ProposalsWaitBeforeTheLogWhileWhatItHoldsIsNotApplied) {
  adjust_ = [](NodeOptions& options) {
    options.apply.buffer_bytes_max = 1 << 20;
    options.unapplied_bytes_max = 16 << 20;
    options.waiting_bytes_max = 100 << 20;
  };
  fs_.db_writes_take = 20ms;
  start();
  for (Tag tag = 1; tag <= 80; ++tag) put(tag, 1 << 20);
  ASSERT_TRUE(wait_for_answers(80));
  for (const auto& [tag, answer] : answers_) EXPECT_TRUE(is_ok(answer)) << tag << ": " << answer.message;
  for (Tag tag = 1; tag <= 80; ++tag) EXPECT_TRUE(has_key(tag)) << tag;
}

// No commit fails: the alarm, which refuses puts, is not raised.
TEST_F(NodeTest, WhileTheDbTakesNothingTheLogAndTheQueueBeforeItStayBounded) {
  adjust_ = [](NodeOptions& options) {
    options.apply.commit_interval_ns = 3'600'000'000'000;  // when a buffer is full, and not before
    options.unapplied_bytes_max = 16 << 20;
    options.waiting_bytes_max = 8 << 20;
  };
  start();
  fs_.stuck = true;
  Tag last = 0;
  const auto refused = [this] { return count_of(errors::request_too_many_requests()); };
  // The log takes one before the next one comes, until it takes no more: then the queue fills.
  while (refused() == 0 && last < 200) {
    put(++last, 1 << 20);
    if (last <= 32) {  // two buffers
      ASSERT_TRUE(wait_for_answers(last));
    }
  }
  EXPECT_EQ(refused(), 1u);
  EXPECT_EQ(answers_.at(last), errors::request_too_many_requests());
  EXPECT_LT(last, 80u);  // MB: two buffers, one batch beyond them, the log, the queue
  EXPECT_LE(node_->waiting_bytes(), 8u << 20);
  // A client's read is one of what is applied; nobody has been told of more.
  EXPECT_TRUE(node_->published().newest().reads_alone);
  EXPECT_TRUE(has_key(32));
  node_->control({{.kind = Control::kLinearizable, .tag = 1000}});
  fs_.unstick();
  ASSERT_TRUE(wait_for_answers(last + 1));
  EXPECT_EQ(node_->waiting_bytes(), 0u);
  EXPECT_EQ(refused(), 1u);
}

TEST_F(NodeTest, AStopRefusesWhatWaitsBeforeTheLog) {
  adjust_ = [](NodeOptions& options) { options.unapplied_bytes_max = 16 << 20; };
  start();
  fs_.stuck = true;
  for (Tag tag = 1; tag <= 100; ++tag) put(tag, 1 << 20);
  fs_.full = true;
  std::thread stopper([&] { node_->stop(); });
  ASSERT_TRUE(wait_until([&] { return count_of(errors::stopped()) > 10; }));
  fs_.unstick();  // what has to be written fails
  stopper.join();
  node_.reset();
  fs_.full = false;
  EXPECT_GT(count_of(errors::stopped()), 10u);
  start();
  for (const auto& [tag, answer] : answers_) EXPECT_EQ(has_key(tag), is_ok(answer)) << tag;
}

TEST_F(NodeTest, WhileTheDbHasNoRoomProposalsAreRefusedInTheEndAndEachIsAnsweredOnce) {
  start();
  fs_.full = true;
  Tag last = 0;
  const auto refused = [this] { return count_of(errors::request_too_many_requests()); };
  // Two buffers of 100 entries, or of one batch, then 5000 that wait for a second.
  ASSERT_TRUE(wait_until([&] {
    for (int j = 0; j < 200 && refused() == 0; ++j) put(++last);
    std::this_thread::sleep_for(20ms);
    return refused() > 0;
  }));
  // From here on all are.
  const Tag first_refused = last + 1;
  while (last < first_refused + 99) put(++last);
  const auto has_answer = [this](Tag tag) {
    MutexLock lock(mutex_);
    return answers_.contains(tag);
  };
  ASSERT_TRUE(wait_until([&] { return has_answer(last); }));
  EXPECT_LT(answer_count(), last) << "some are in the log and wait";
  {
    MutexLock lock(mutex_);
    for (Tag tag = first_refused; tag <= last; ++tag) {
      EXPECT_EQ(answers_.at(tag), errors::request_too_many_requests()) << tag;
    }
  }
  fs_.full = false;
  ASSERT_TRUE(wait_for_answers(last));
  ASSERT_TRUE(wait_until([&] { return node_->pending_proposals() == 0; }));
  for (const auto& [tag, answer] : answers_) EXPECT_EQ(has_key(tag), is_ok(answer)) << tag;
  // It goes on, though the alarm may still refuse a put.
  put(++last);
  ASSERT_TRUE(wait_for_answers(last));
  EXPECT_NE(answers_.at(last), errors::request_too_many_requests());
}

TEST_F(NodeTest, ADbWithoutRoomRaisesTheAlarmAndItIsDisarmedWhenThereIsRoom) {
  start();
  fs_.full = true;
  const auto alarms = [this] {
    const auto reader = node_->published().register_thread();
    return *reader->enter()->alarms;
  };
  put(1);
  ASSERT_TRUE(wait_until([&] { return !alarms().empty(); }));
  EXPECT_EQ(alarms(), (std::vector<Alarm>{{node_->member_id(), kAlarmNoSpace}}));
  put(2);
  ASSERT_TRUE(wait_for_answers(2));
  EXPECT_EQ(answers_.at(2), errors::no_space());
  fs_.full = false;
  // Until a commit has succeeded it is raised again; how often does not matter.
  ASSERT_TRUE(wait_until([&] {
    disarm();
    std::this_thread::sleep_for(100ms);
    return alarms().empty();
  }));
  put(3);
  ASSERT_TRUE(wait_for_answers(3));
}

TEST_F(NodeTest, AStopIsCleanThoughThereIsNoRoomForTheListOfFreePages) {
  start();
  for (Tag tag = 1; tag <= 50; ++tag) put(tag);
  ASSERT_TRUE(wait_for_answers(50));
  ASSERT_TRUE(wait_until([&] {
    const auto reader = node_->published().register_thread();
    const auto state = reader->enter();
    const auto index = state->file->get(storage::Table::kMeta, "consistent_index");
    return index && *index && load_be64((*index)->data()) >= state->applied.value;
  }));
  std::this_thread::sleep_for(50ms);
  fs_.full = true;
  node_->stop();
  node_.reset();
  start();  // what it has to write waits
  for (Tag tag = 1; tag <= 50; ++tag) EXPECT_TRUE(has_key(tag)) << tag;
  fs_.full = false;
}

// More in the log than two buffers take, and a db that takes nothing.
TEST_F(NodeTest, StartsAndIsReadAndToldToCompactThoughTheDbTakesNothing) {
  adjust_ = [](NodeOptions& options) {
    options.apply.commit_interval_ns = 3'600'000'000'000;
    options.apply.buffer_entries_max = 1'000'000;
  };
  start();
  fs_.full = true;
  for (Tag tag = 1; tag <= 1000; ++tag) put(tag);
  ASSERT_TRUE(wait_for_answers(1000));
  node_->stop();
  node_.reset();
  adjust_ = [](NodeOptions& options) { options.apply.buffer_entries_max = 100; };
  start();
  for (Tag tag = 1; tag <= 1000; ++tag) {
    EXPECT_EQ(has_key(tag), is_ok(answers_.at(tag))) << tag;
  }
  etcdserverpb::CompactionRequest request;
  request.set_revision(2);
  node_->propose({std::make_shared<const raft::Payload>(raft::Payload{
      .bytes = join_request(RequestKind::kCompaction, request.SerializeAsString(), node_->next_request_id()),
      .tag = 2000})});
  ASSERT_TRUE(wait_for_answers(1001));
  EXPECT_TRUE(is_ok(answers_.at(2000)));
  fs_.full = false;
  ASSERT_TRUE(wait_until([&] {
    const auto reader = node_->published().register_thread();
    const auto state = reader->enter();
    const auto index = state->file->get(storage::Table::kMeta, "consistent_index");
    return index && *index && load_be64((*index)->data()) > 1000;
  }));
}

// A checkpoint holds the state it writes; a compaction, which makes room, waits for that.
TEST_F(NodeTest, ACheckpointInProgressIsDroppedWhenSpaceGetsLow) {
  adjust_ = [](NodeOptions& options) { options.apply.buffer_entries_max = 50'000; };
  start();
  fs_.low_at_checkpoint = true;
  Tag last = 0;
  while (last < 60'000) {
    for (int i = 0; i < 2000; ++i) put(++last);
    ASSERT_TRUE(wait_for_answers(last));
  }
  ASSERT_TRUE(wait_until([&] { return !fs_.low_at_checkpoint; })) << "one is begun";
  const std::string directory = path_ + "/member/cairn";
  ASSERT_TRUE(wait_until([&] { return !fs_.exists(directory + "/index.tmp"); }));
  EXPECT_FALSE(fs_.exists(directory + "/index"));
  EXPECT_NE(fs_.free, 0u);
  etcdserverpb::CompactionRequest request;
  request.set_revision(2);
  request.set_physical(true);
  node_->propose({std::make_shared<const raft::Payload>(raft::Payload{
      .bytes = join_request(RequestKind::kCompaction, request.SerializeAsString(), node_->next_request_id()),
      .tag = ++last})});
  ASSERT_TRUE(wait_for_answers(last));
  EXPECT_TRUE(is_ok(answers_.at(last)));
  fs_.free = 0;
  ASSERT_TRUE(wait_until([&] {
    disarm();
    put(++last);
    return wait_for_answers(last) && fs_.exists(directory + "/index");
  })) << "made once there is room";
}

// At rest: the segment in use, a spare one, and what the rule still holds: one with the newest snapshot's record.
TEST_F(NodeTest, ReleasedSegmentsAreUsedAgainOrRemovedAndTheirFilesClosed) {
  adjust_ = [](NodeOptions& options) {
    options.bootstrap.wal.segment_bytes = 1 << 20;
    options.apply.snapshot_entries = 20;
    options.apply.snapshot_interval_ns = 0;
  };
  start();
  const std::filesystem::path wal = std::filesystem::path(path_) / "member" / "wal";
  const auto file_count = [&] {
    return std::distance(std::filesystem::directory_iterator(wal), std::filesystem::directory_iterator());
  };
  const auto open_count = [&] {
    int count = 0;
    for (const auto& fd : std::filesystem::directory_iterator("/proc/self/fd")) {
      std::error_code gone;
      const auto target = std::filesystem::read_symlink(fd.path(), gone);
      count += !gone && target.string().starts_with(wal.string()) ? 1 : 0;
    }
    return count;
  };
  const auto spare_count = [&] {
    const auto names = fs_.list(wal.string());
    return names ? std::ranges::count_if(*names, [](const std::string& name) { return name.ends_with(".tmp"); }) : 0;
  };
  std::string newest;
  const auto note_newest = [&] {
    for (const auto& file : std::filesystem::directory_iterator(wal)) {
      if (file.path().extension() == ".wal") newest = std::max(newest, file.path().filename().string());
    }
  };
  Tag last = 0;
  for (int segment = 0; segment < 12; ++segment) {
    for (int i = 0; i < 24; ++i) put(++last, 50'000);
    ASSERT_TRUE(wait_for_answers(last));
  }
  // Small commits go on, so that what they release is released; more than one segment they do not fill.
  ASSERT_TRUE(wait_until([&] {
    put(++last);
    return wait_for_answers(last) && file_count() <= 4 && open_count() <= 4 && spare_count() == 1;
  })) << file_count()
      << " files, " << open_count() << " open, " << spare_count() << " spare";
  note_newest();
  EXPECT_GE(newest, "000000000000000a") << newest;
  node_->stop();
  node_.reset();
  EXPECT_EQ(open_count(), 0);
  start();
  EXPECT_TRUE(has_key(1));
}

}  // namespace
}  // namespace cairn::member
