// A Transport beside etcd's own, rafthttp.Transport, which tests/oracles/rafthttppeer runs: what we send comes back.
#include <filesystem>
#include <fstream>
#include <sstream>

#include <fcntl.h>
#include <openssl/sha.h>
#include <sys/wait.h>
#include <unistd.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/bytes.h"
#include "net/testing/certificates.h"
#include "net/tls/tls_context.h"
#include "peer/codec.h"
#include "peer/transport_world_test.h"

namespace cairn::peer {
namespace {

using cairn::testing::wait_until;
using ::testing::HasSubstr;

constexpr const char* kOracle = "build/oracles/rafthttppeer";
constexpr NodeId kTheirs{0x8e9e05c52164694d};
constexpr NodeId kOurs{0x91bc3c398fb3c146};

// The process of the other member.
class EtcdPeer {
 public:
  // On a port that was free a moment ago: another is tried if it is not any more.
  explicit EtcdPeer(const std::vector<std::string>& arguments, const std::string& scheme = "http") {
    for (int attempt = 0; attempt < 50; ++attempt) {
      auto bound = net::listen_on("127.0.0.1:0");
      CAIRN_ASSERT(bound.has_value());
      ::close(bound->fd);
      url_ = scheme + "://" + bound->address;
      std::vector<std::string> all = {kOracle, "-id",      hex_id(kTheirs.value), "-listen",
                                      url_,    "-snapdir", folder_.path()};
      all.insert(all.end(), arguments.begin(), arguments.end());
      start(all);
      if (wait_until([&] { return has_said("ready") || has_said("FAILED"); }) && has_said("ready")) return;
      end();
    }
    CAIRN_ASSERT(false);
  }
  ~EtcdPeer() { end(); }
  EtcdPeer(const EtcdPeer&) = delete;
  EtcdPeer& operator=(const EtcdPeer&) = delete;

  [[nodiscard]] const std::string& url() const { return url_; }
  [[nodiscard]] Peer as_peer() const { return {.id = kTheirs, .urls = {url_}}; }
  [[nodiscard]] bool has_said(const std::string& text) const {
    const MutexLock lock(mutex_);
    return said_.find(text) != std::string::npos;
  }

 private:
  void start(const std::vector<std::string>& arguments) {
    int in[2];
    int out[2];
    CAIRN_ASSERT(::pipe2(in, O_CLOEXEC) == 0 && ::pipe2(out, O_CLOEXEC) == 0);
    std::vector<char*> argv;
    for (const std::string& each : arguments) argv.push_back(const_cast<char*>(each.c_str()));
    argv.push_back(nullptr);
    pid_ = ::fork();
    if (pid_ == 0) {
      ::dup2(in[0], STDIN_FILENO);
      ::dup2(out[1], STDOUT_FILENO);
      ::execv(argv[0], argv.data());
      ::_exit(127);
    }
    ::close(in[0]);
    ::close(out[1]);
    input_ = in[1];
    reader_ = std::thread([this, fd = out[0]] {
      char bytes[4096];
      for (ssize_t got = 0; (got = ::read(fd, bytes, sizeof bytes)) > 0;) {
        const MutexLock lock(mutex_);
        said_.append(bytes, static_cast<size_t>(got));
      }
      ::close(fd);
    });
  }

  void end() {
    if (pid_ <= 0) return;
    ::close(input_);  // it ends by itself then
    int status = 0;
    ::waitpid(pid_, &status, 0);
    reader_.join();
    pid_ = 0;
    const MutexLock lock(mutex_);
    said_.clear();
  }

  cairn::testing::TempDir folder_;
  std::string url_;
  pid_t pid_ = 0;
  int input_ = -1;
  std::thread reader_;
  mutable Mutex mutex_;
  std::string said_ CAIRN_GUARDED_BY(mutex_);
};

class RaftHttp : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!std::filesystem::exists(kOracle)) GTEST_SKIP() << kOracle << " is missing: tests/oracles/build rafthttppeer";
  }
};

std::vector<std::string> known(const TestMember& member) {
  return {"-cluster", hex_id(kTestCluster), "-peer", hex_id(kOurs.value) + "=" + member.url()};
}

[[nodiscard]] bool is_connected(TestMember& member) {
  return wait_until(
      [&] { return member.transport().streams(kTheirs) == Transport::Streams{.from_us = 2, .to_us = 2}; });
}

// One of each kind, with all that a message may have.
std::vector<raft::Message> all_kinds() {
  std::vector<raft::Message> out;
  const auto add = [&](raft::MessageType type) -> raft::Message& {
    raft::Message& message = out.emplace_back();
    message.type = type;
    message.from = kOurs;
    message.to = kTheirs;
    message.term = Term{9};
    return message;
  };
  const auto payload = [](std::string bytes) {
    auto made = std::make_shared<raft::Payload>();
    made->bytes = std::move(bytes);
    return made;
  };
  raft::Message& proposal = add(raft::MessageType::kProp);
  proposal.term = Term{0};
  proposal.entries.push_back({.data = payload(std::string(2000, 'p'))});
  raft::Message& refusal = add(raft::MessageType::kAppResp);
  refusal.index = Index{17};
  refusal.reject = true;
  refusal.reject_hint = Index{12};
  refusal.log_term = Term{8};
  raft::Message& vote = add(raft::MessageType::kVote);
  vote.index = Index{21};
  vote.log_term = Term{8};
  vote.context = raft::kCampaignTransfer;
  add(raft::MessageType::kVoteResp).reject = true;
  raft::Message& beat = add(raft::MessageType::kHeartbeat);
  beat.commit = Index{1ull << 40};
  beat.context = std::string("\0\1\2\3\4\5\6\7", 8);
  add(raft::MessageType::kHeartbeatResp).context = std::string("\0\1\2\3\4\5\6\7", 8);
  add(raft::MessageType::kTransferLeader);
  add(raft::MessageType::kTimeoutNow);
  raft::Message& read = add(raft::MessageType::kReadIndex);
  read.term = Term{0};
  read.entries.push_back({.data = payload("12345678")});
  raft::Message& answer = add(raft::MessageType::kReadIndexResp);
  answer.index = Index{UINT64_MAX / 2};
  answer.entries.push_back({.data = payload("12345678")});
  raft::Message& ask = add(raft::MessageType::kPreVote);
  ask.index = Index{21};
  ask.log_term = Term{8};
  raft::Message& given = add(raft::MessageType::kPreVoteResp);
  given.commit = Index{20};
  given.log_term = Term{8};
  given.reject = true;
  return out;
}

std::string bytes_of(const raft::Message& message) {
  Pieces out;
  append_message(out, message);
  return out.flat();
}

// What comes back of a message.
std::string echo_of(raft::Message message) {
  std::swap(message.from, message.to);
  return bytes_of(message);
}

std::string sha256(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream content;
  content << in.rdbuf();
  const std::string bytes = content.str();
  unsigned char digest[SHA256_DIGEST_LENGTH];
  SHA256(reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(), digest);
  return to_hex({reinterpret_cast<const char*>(digest), sizeof digest});
}

// Each kind of message there and back, and appends in their order.
void exchange_messages(TestMember& member) {
  std::vector<std::string> expected;
  for (const raft::Message& message : all_kinds()) expected.push_back(echo_of(message));
  member.transport().send(all_kinds());
  constexpr uint64_t kAppends = 1000;
  std::vector<std::string> appends;
  for (uint64_t i = 1; i <= kAppends; ++i) {
    raft::Message message = append(kOurs, kTheirs, i, std::string(i * 7 % 5000, 'e'));
    if (i > kAppends / 2) message.term = message.entries[0].term = Term{8};  // another term begins
    if (i > kAppends / 2 + 1) message.log_term = Term{8};
    appends.push_back(echo_of(message));
    member.transport().send({std::move(message)});
  }
  ASSERT_TRUE(wait_until([&] { return member.ears.count() >= expected.size() + kAppends; }));
  std::vector<std::string> got;
  std::vector<std::string> got_appends;
  for (const raft::Message& message : member.ears.messages()) {
    EXPECT_EQ(message.from, kTheirs);
    (message.type == raft::MessageType::kApp ? got_appends : got).push_back(bytes_of(message));
  }
  EXPECT_TRUE(got_appends == appends);
  EXPECT_THAT(got, ::testing::UnorderedElementsAreArray(expected));
}

void exchange_snapshot(TestMember& member, const EtcdPeer& peer, uint64_t bytes) {
  member.ears.forget();
  member.transport().send({snapshot(kOurs, kTheirs, 100)});
  ASSERT_TRUE(wait_until([&] { return member.ears.reports(Report::Kind::kSnapshotDelivered) == 1; }));
  ASSERT_TRUE(wait_until([&] { return member.ears.heard(raft::MessageType::kSnap); }));
  const auto messages = member.ears.messages();
  const auto back = std::ranges::find(messages, raft::MessageType::kSnap, &raft::Message::type);
  ASSERT_NE(back->snapshot, nullptr);
  EXPECT_EQ(back->snapshot->index, Index{101});
  EXPECT_EQ(back->snapshot->data, "{\"root\":{}}");
  EXPECT_EQ(back->snapshot->conf.voters, (std::vector<NodeId>{NodeId{1}, NodeId{2}}));
  const std::string path = member.path("0000000000000065.snap.db");
  EXPECT_EQ(std::filesystem::file_size(path), bytes);
  EXPECT_TRUE(peer.has_said("snapshot 100 " + std::to_string(bytes) + " " + sha256(path)));
  EXPECT_TRUE(wait_until([&] { return peer.has_said("snapshot-status " + hex_id(kOurs.value) + " 1"); }));
}

TestMember::Change sending(uint64_t bytes) {
  return [=](Transport::Options& options) {
    options.open_image = [=](const raft::Message&) -> Result<std::unique_ptr<ByteSource>> {
      return std::make_unique<MadeImage>(bytes);
    };
  };
}

TEST_F(RaftHttp, StreamsAndSnapshotsCross) {
  TestMember member(kOurs.value, sending(20'000'000));
  const EtcdPeer peer(known(member));
  member.transport().set_members({peer.as_peer()}, {});
  ASSERT_TRUE(is_connected(member));
  exchange_messages(member);
  exchange_snapshot(member, peer, 20'000'000);
}

TEST_F(RaftHttp, TheSameOverTls) {
  cairn::testing::TempDir folder;
  net::Authority authority;
  const net::Issued issued = authority.issue({.common_name = "member"});
  net::write_file(folder / "cert", issued.certificate_pem);
  net::write_file(folder / "key", issued.key_pem);
  net::write_file(folder / "ca", authority.pem());
  net::TlsSettings settings;
  settings.cert_file = folder / "cert";
  settings.key_file = folder / "key";
  settings.trusted_ca_file = folder / "ca";
  TestMember member(
      kOurs.value,
      [&](Transport::Options& options) {
        sending(5'000'000)(options);
        options.listen.front().tls = {.context = *net::TlsContext::open(settings), .checks_remote = true};
        options.tls = *net::TlsClientContext::open({.settings = settings});
      },
      "127.0.0.1:0", "https");
  std::vector<std::string> arguments = known(member);
  for (const std::string name : {"cert", "key", "ca"}) {
    arguments.push_back("-" + name);
    arguments.push_back(folder / name);
  }
  const EtcdPeer peer(arguments, "https");
  member.transport().set_members({peer.as_peer()}, {});
  ASSERT_TRUE(is_connected(member));
  exchange_messages(member);
  exchange_snapshot(member, peer, 5'000'000);
}

// The other one does not know this member: both ways by POST, four at once and in any order.
TEST_F(RaftHttp, PostsCross) {
  TestMember member(kOurs.value);
  const EtcdPeer peer({"-cluster", hex_id(kTestCluster)});
  member.transport().set_members({peer.as_peer()}, {});
  std::vector<raft::Message> messages = all_kinds();
  messages.push_back(append(kOurs, kTheirs, 1, std::string(100'000, 'a')));
  std::vector<std::string> expected;
  for (const raft::Message& message : messages) expected.push_back(echo_of(message));
  member.transport().send(messages);
  ASSERT_TRUE(wait_until([&] { return member.ears.count() >= expected.size(); }));
  std::vector<std::string> got;
  for (const raft::Message& message : member.ears.messages()) got.push_back(bytes_of(message));
  EXPECT_THAT(got, ::testing::UnorderedElementsAreArray(expected));
}

TEST_F(RaftHttp, RemovalsAreToldBothWays) {
  {
    TestMember member(kOurs.value);
    std::vector<std::string> arguments = known(member);
    arguments.insert(arguments.end(), {"-removed", hex_id(kOurs.value)});
    const EtcdPeer peer(arguments);
    member.transport().set_members({peer.as_peer()}, {});
    EXPECT_TRUE(wait_until([&] { return !member.ears.removed_by().empty(); }));
  }
  TestMember member(kOurs.value);
  member.transport().set_members({}, {kTheirs});
  const EtcdPeer peer(known(member));
  EXPECT_TRUE(
      wait_until([&] { return peer.has_said("error the member has been permanently removed from the cluster"); }));
}

TEST_F(RaftHttp, AnotherClusterIsToldSo) {
  TestMember member(kOurs.value);
  const EtcdPeer peer({"-cluster", "77", "-peer", hex_id(kOurs.value) + "=" + member.url()});
  member.transport().set_members({peer.as_peer()}, {});
  member.transport().send({heartbeat(kOurs, kTheirs, 1)});
  EXPECT_TRUE(wait_until([&] { return member.ears.reports(Report::Kind::kUnreachable) > 0; }));
  EXPECT_EQ(member.transport().streams(kTheirs), Transport::Streams());
  EXPECT_EQ(member.ears.count(), 0u);
  EXPECT_TRUE(member.ears.removed_by().empty());
}

}  // namespace
}  // namespace cairn::peer
