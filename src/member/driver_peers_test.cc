// Three nodes with their threads in one process: what carries their messages is a pair of hands.
#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <map>
#include <memory>
#include <string>

#include "member/driver.h"
#include "member/recovery/image.h"
#include "member/requests.h"
#include "metrics/metrics.h"
#include "mvcc/kv/range.h"
#include "proto/raft_internal.pb.h"
#include "proto/rpc.pb.h"
#include "storage/engine.h"
#include "testing/temp_dir.h"
#include "testing/wait.h"

namespace cairn::member {
namespace {

using cairn::testing::wait_until;

// Nobody answers: all are founders.
class NobodyYet final : public PeerProbe {
 public:
  Result<PeerAnswer> get(const std::string&, int64_t) override { return fail(Code::kUnavailable, "refused"); }
};

class Three;

class OneNode final : public PeerPort {
 public:
  OneNode(Three& all, std::string name) : all_(all), name_(std::move(name)) {}
  ~OneNode() override { stop(); }
  OneNode(const OneNode&) = delete;
  OneNode& operator=(const OneNode&) = delete;

  void start();
  void stop() {
    if (node_ == nullptr) return;
    inbox_.put([](Inbox& inbox) { inbox.ends = true; });
    delivering_.join();
    node_->stop();
    const MutexLock lock(mutex_);
    node_.reset();
  }

  void send(std::vector<raft::Message> messages) override;
  void redial(NodeId) override {}
  void set_members(std::shared_ptr<const cluster::Membership> members) override {
    const MutexLock lock(mutex_);
    members_ = members->members.size();
  }
  [[nodiscard]] bool speaks_cairn(NodeId) const override { return true; }

  [[nodiscard]] uint64_t id() const { return id_; }
  [[nodiscard]] const std::string& name() const { return name_; }
  // On whichever core thread sends.
  void take(raft::Message message) {
    inbox_.put([&](Inbox& inbox) { inbox.messages.push_back(std::move(message)); });
  }
  void report(PeerReport::Kind kind, NodeId peer) {
    const MutexLock lock(mutex_);
    if (node_ != nullptr) node_->report({kind, peer});
  }
  void put(Tag tag, size_t bytes = 100) {
    etcdserverpb::PutRequest request;
    request.set_key(std::to_string(tag));
    request.set_value(std::string(bytes, 'v'));
    node_->propose({std::make_shared<const raft::Payload>(raft::Payload{
        .bytes = join_request(RequestKind::kPut, request.SerializeAsString(), node_->next_request_id()), .tag = tag})});
  }
  bool has_key(Tag tag) {
    const auto reader = node_->published().register_thread();
    const auto state = reader->enter();
    const auto record = mvcc::find_record(state->kv, std::to_string(tag), state->kv.revision);
    return record && *record;
  }
  uint64_t installations() {
    const auto reader = node_->published().register_thread();
    return reader->enter()->installations;
  }
  std::shared_ptr<const storage::View> file() {
    const auto reader = node_->published().register_thread();
    return reader->enter()->file;
  }
  bool leads() {
    const auto reader = node_->published().register_thread();
    return reader->enter()->leader.is_leader;
  }
  size_t answered_ok() {
    const MutexLock lock(answers_mutex_);
    size_t count = 0;
    for (const auto& [tag, code] : answers_) count += code == Code::kOk ? 1 : 0;
    return count;
  }
  size_t member_count() {
    const MutexLock lock(mutex_);
    return members_;
  }

  std::atomic<bool> is_cut{false};
  std::unique_ptr<Node> node_;

 private:
  struct Inbox {
    std::vector<raft::Message> messages;
    bool ends = false;
    [[nodiscard]] bool empty() const { return messages.empty() && !ends; }
    void clear() { *this = {}; }
  };
  // One at a time, so that the node is often asleep and its place is free.
  void deliver() {
    for (Inbox inbox; !inbox.ends;) {
      inbox_.take(inbox, std::nullopt);
      for (raft::Message& message : inbox.messages) {
        if (!is_cut) node_->receive({std::move(message)});
      }
    }
  }

  Three& all_;
  const std::string name_;
  Mailbox<Inbox> inbox_;
  std::thread delivering_;
  std::atomic<uint64_t> id_{0};
  NobodyYet nobody_;
  env::PosixClock clock_;
  metrics::Registry registry_;
  Metrics metrics_{registry_};
  Mutex mutex_;
  size_t members_ CAIRN_GUARDED_BY(mutex_) = 0;
  Mutex answers_mutex_;
  std::map<Tag, Code> answers_ CAIRN_GUARDED_BY(answers_mutex_);
};

class Three {
 public:
  Three() {
    for (const char* name : {"a", "b", "c"}) nodes.push_back(std::make_unique<OneNode>(*this, name));
  }
  ~Three() {
    for (const auto& one : nodes) one->is_cut = true;
    for (const auto& one : nodes) one->stop();
  }
  OneNode* of(NodeId id) {
    for (const auto& one : nodes) {
      if (id == NodeId(one->id())) return one.get();
    }
    return nullptr;
  }
  OneNode* leader() {
    for (const auto& one : nodes) {
      if (one->node_ != nullptr && one->leads()) return one.get();
    }
    return nullptr;
  }
  std::string directory(const std::string& name) const { return folder.path() + "/" + name; }

  const cairn::testing::TempDir folder;
  std::vector<std::unique_ptr<OneNode>> nodes;
};

void OneNode::start() {
  NodeOptions options;
  options.bootstrap.name = name_;
  options.bootstrap.data_dir = all_.directory(name_);
  options.bootstrap.probe = &nobody_;
  options.bootstrap.sync = false;
  options.bootstrap.wal.sync = false;
  options.bootstrap.initial_cluster = {
      {"a", {"http://127.0.0.1:11"}}, {"b", {"http://127.0.0.1:12"}}, {"c", {"http://127.0.0.1:13"}}};
  options.client_urls = {"http://127.0.0.1:10"};
  options.apply.snapshot_entries = 50;
  options.snapshot_catchup_entries = 10;
  options.peers = this;
  options.fail_stop = [](const Error& error) {
    std::fprintf(stderr, "%s\n", error.message.c_str());
    std::abort();
  };
  auto opened = Node::open(std::move(options), env::posix_fs(), clock_, metrics_);
  ASSERT_TRUE(opened) << opened.error().message;
  id_ = (*opened)->member_id();
  (*opened)->start([this](unsigned, AnswerBatch batch) {
    const MutexLock lock(answers_mutex_);
    for (const Answer& answer : batch.answers) {
      EXPECT_TRUE(answers_.emplace(answer.tag, answer.code).second) << answer.tag;
    }
  });
  {
    const MutexLock lock(mutex_);
    node_ = *std::move(opened);
  }
  inbox_.put([](Inbox& inbox) { inbox.clear(); });
  delivering_ = std::thread([this] { deliver(); });
}

// A snapshot's image goes beside it, as the transport leaves it.
void OneNode::send(std::vector<raft::Message> messages) {
  for (raft::Message& message : messages) {
    OneNode* const to = all_.of(message.to);
    if (to == nullptr || is_cut) continue;
    if (message.type != raft::MessageType::kSnap) {
      to->take(std::move(message));
      continue;
    }
    if (to->is_cut) {
      report(PeerReport::Kind::kSnapshotFailed, message.to);
      continue;
    }
    const auto image = storage::open_image(std::static_pointer_cast<const storage::View>(message.snapshot->source));
    ASSERT_TRUE(image);
    std::string bytes((*image)->size(), '\0');
    ASSERT_TRUE((*image)->read(bytes.data(), bytes.size()));
    const std::string path = image_path(all_.directory(to->name_) + "/member/snap", message.snapshot->index);
    const auto file = env::posix_fs().open(path, env::OpenMode::kCreateEmpty);
    ASSERT_TRUE(file && (*file)->pwrite(bytes, 0) && (*file)->fdatasync());
    auto received = std::make_shared<raft::Snapshot>(*message.snapshot);
    received->source = nullptr;
    const NodeId receiver = message.to;
    message.snapshot = std::move(received);
    to->take(std::move(message));
    report(PeerReport::Kind::kSnapshotDelivered, receiver);
  }
}

class ThreeNodesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    for (const auto& one : all_.nodes) one->start();
    for (const auto& one : all_.nodes) ASSERT_TRUE(one->node_->wait_ready(120'000'000'000));
  }
  OneNode& leader() {
    OneNode* found = nullptr;
    EXPECT_TRUE(wait_until([&] { return (found = all_.leader()) != nullptr; }));
    return *found;
  }
  OneNode& follower() {
    const OneNode& leads = leader();
    return all_.nodes[0].get() == &leads ? *all_.nodes[1] : *all_.nodes[0];
  }

  Three all_;
};

// What it has appended and nobody else has stays in memory until another leader says that it is void.
TEST_F(ThreeNodesTest, ALeaderThatWasCutOffWithMoreThanMayWaitFollowsAgain) {
  OneNode& before = leader();
  before.is_cut = true;
  constexpr Tag kLost = 110;
  for (Tag tag = 1; tag <= kLost; ++tag) before.put(tag, 1 << 20);
  ASSERT_TRUE(wait_until([&] { return !before.leads(); }));
  OneNode& after = leader();
  after.put(1000);
  ASSERT_TRUE(wait_until([&] { return after.answered_ok() == 1; }));
  before.is_cut = false;
  EXPECT_TRUE(wait_until([&] { return before.has_key(1000); }));
}

TEST_F(ThreeNodesTest, APutAtAnyOfThemIsOnAll) {
  Tag tag = 0;
  for (const auto& one : all_.nodes) {
    one->put(++tag);
    EXPECT_TRUE(wait_until([&] { return one->answered_ok() == 1; }));
    EXPECT_EQ(one->member_count(), 3U);
  }
  for (const auto& one : all_.nodes) {
    for (Tag each = 1; each <= tag; ++each) EXPECT_TRUE(wait_until([&] { return one->has_key(each); })) << each;
  }
}

TEST_F(ThreeNodesTest, OneThatWasAwayTakesTheLeadersSnapshotAndThenTheLog) {
  OneNode& away = follower();
  away.is_cut = true;
  OneNode& leads = leader();
  for (Tag tag = 1; tag <= 500; ++tag) {
    leads.put(tag);
    if (tag % 100 != 0) continue;
    ASSERT_TRUE(wait_until([&] { return leads.answered_ok() == tag; }));
    const auto file = leads.file();
    ASSERT_TRUE(wait_until([&] { return leads.file() != file; }));
  }
  away.is_cut = false;
  EXPECT_TRUE(wait_until([&] { return away.has_key(500); }));
  EXPECT_GE(away.installations(), 1U);
  leads.put(501);
  EXPECT_TRUE(wait_until([&] { return away.has_key(501); }));
}

TEST_F(ThreeNodesTest, TheImageOfASnapshotThatIsOfNoUseGoes) {
  OneNode& one = follower();
  one.put(1);
  ASSERT_TRUE(wait_until([&] { return one.answered_ok() == 1; }));
  const std::string path = image_path(all_.directory(one.name()) + "/member/snap", Index(1));
  {
    const auto file = env::posix_fs().open(path, env::OpenMode::kCreateEmpty);
    ASSERT_TRUE(file && (*file)->pwrite("image", 0));
  }
  raft::Message message;
  message.type = raft::MessageType::kSnap;
  message.from = NodeId(leader().id());
  message.to = NodeId(one.id());
  message.term = Term(1);
  auto snapshot = std::make_shared<raft::Snapshot>();
  snapshot->index = Index(1);
  message.snapshot = std::move(snapshot);
  one.take(std::move(message));
  EXPECT_TRUE(wait_until([&] { return !env::posix_fs().exists(path); }));
}

// It has the log on its disk, and in no memory but its own.
TEST_F(ThreeNodesTest, OneThatStartsAgainGoesOn) {
  OneNode& one = follower();
  one.put(1);
  ASSERT_TRUE(wait_until([&] { return one.answered_ok() == 1; }));
  one.stop();
  leader().put(2);
  one.start();
  EXPECT_TRUE(wait_until([&] { return one.has_key(2); }));
}

}  // namespace
}  // namespace cairn::member
