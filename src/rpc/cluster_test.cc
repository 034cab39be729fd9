// Members come and go: what a member that could reach others does and says. The others are the test's own.
#include <gtest/gtest.h>

#include <atomic>
#include <deque>
#include <tuple>

#include "base/bytes.h"
#include "base/errors.h"
#include "cluster/codec.h"
#include "proto/rpc.pb.h"
#include "raft/conf_change.h"
#include "rpc/test_services.h"
#include "testing/wait.h"

namespace cairn::rpc {
namespace {

const std::string kCluster = "/etcdserverpb.Cluster/";

// Whoever the others are: nothing reaches them.
class Nobody final : public member::PeerPort {
 public:
  void send(std::vector<raft::Message> messages) override { messages.clear(); }
  void redial(NodeId) override {}
  void set_members(std::shared_ptr<const cluster::Membership>) override {}
  [[nodiscard]] bool speaks_cairn(NodeId) const override { return true; }
};

class ClusterTest : public ServicesTest {
 protected:
  void SetUp() override {
    change_ = [this](member::NodeOptions& options) {
      options.peers = &nobody_;
      options.on_removed = [this] { removals_.fetch_add(1); };
      options.election_ms = 3'600'000;  // who leads, and who follows, is what the test says
      change_more(options);
    };
    peers_ = Peers{.active_since_ns = [](NodeId) { return std::nullopt; },
                   .call =
                       [this](NodeId to, net::HttpRequest request, int64_t,
                              const std::function<void(Result<net::HttpResponse>)>& then) {
                         if (request.path == "/version") return then(fail(Code::kUnavailable, "refused"));
                         asked_.push_back(hex_id(to.value) + " " + request.method + " " + request.path + " " +
                                          std::string(request.header("authorization")));
                         net::HttpResponse response;
                         if (answers_.empty()) return then(fail(Code::kUnavailable, "refused"));
                         std::tie(response.status, response.body) = answers_.front();
                         answers_.pop_front();
                         then(response);
                       }};
    Limits limits;
    limits.request_timeout_ns = kHourNs;
    open(limits);
  }

  virtual void change_more(member::NodeOptions&) {}

  // The error when time is up.
  std::string late_error(const std::string& path, const google::protobuf::MessageLite& request) {
    const int32_t id = client_->start(path);
    client_->send(id, request.SerializeAsString());
    client_->half_close(id);
    EXPECT_TRUE(client_->pump_until([&] {
      clock_.skip(kHourNs);
      return client_->stream(id).closed;
    }));
    return std::to_string(client_->stream(id).code()) + " " + client_->stream(id).message();
  }

  [[nodiscard]] uint64_t self() const { return member_->node->member_id(); }
  member::PublishedDomain::Guard state() { return reader_ == nullptr ? first_state() : reader_->enter(); }
  member::PublishedDomain::Guard first_state() {
    reader_ = member_->node->published().register_thread();
    return reader_->enter();
  }
  void TearDown() override {
    reader_.reset();
    ServicesTest::TearDown();
  }

  etcdserverpb::MemberAddResponse add(const std::string& url, bool is_learner) {
    etcdserverpb::MemberAddRequest request;
    request.add_peerurls(url);
    request.set_islearner(is_learner);
    return answer<etcdserverpb::MemberAddResponse>(kCluster + "MemberAdd", request);
  }
  std::string add_error(const std::string& url, bool is_learner) {
    return error_of<etcdserverpb::MemberAddRequest>(kCluster + "MemberAdd",
                                                    fmt::format("peerURLs: '{}' isLearner: {}", url, is_learner));
  }
  template <class Request>
  std::string error_with_id(const std::string& method, uint64_t id) {
    Request request;
    request.set_id(id);
    return error(kCluster + method, request.SerializeAsString());
  }
  std::string promote_error(uint64_t id) {
    return error_with_id<etcdserverpb::MemberPromoteRequest>("MemberPromote", id);
  }

  // `leader` leads from now on, in a term beyond all others, and has these entries committed.
  void let_lead(NodeId leader, std::vector<std::pair<raft::EntryType, std::string>> entries = {}) {
    raft::Message message;
    message.type = raft::MessageType::kApp;
    message.from = leader;
    message.to = NodeId(self());
    message.term = Term(50);
    {
      const auto now = state();
      message.index = now->applied;
      message.log_term = now->applied_term;
    }
    for (auto& [type, data] : entries) {
      message.entries.push_back({message.term, message.index + (message.entries.size() + 1), type,
                                 std::make_shared<const raft::Payload>(raft::Payload{.bytes = std::move(data)})});
    }
    message.commit = message.index + message.entries.size();
    const Index last = message.commit;
    member_->node->receive({message});
    ASSERT_TRUE(cairn::testing::wait_until([&] {
      const auto now = state();
      return now->leader.leader == leader && now->applied >= last;
    }));
  }

  static constexpr int64_t kHourNs = 3'600'000'000'000;
  std::atomic<int> removals_{0};
  std::unique_ptr<member::PublishedDomain::Reader> reader_;
  // Of the one io thread; looked at when its calls have ended.
  Nobody nobody_;
  std::vector<std::string> asked_;
  std::deque<std::pair<int, std::string>> answers_;
};

TEST_F(ClusterTest, ALearnerIsAddedAndMustCatchUp) {
  const auto added = add("http://127.0.0.1:4", true);
  EXPECT_EQ(added.header().revision(), 0);
  EXPECT_EQ(added.header().member_id(), self());
  EXPECT_TRUE(added.member().islearner());
  EXPECT_EQ(added.member().peerurls(0), "http://127.0.0.1:4");
  EXPECT_EQ(added.member().name(), "");
  ASSERT_EQ(added.members_size(), 2);
  const uint64_t id = added.member().id();
  EXPECT_EQ(added.members(added.members(0).id() == id ? 0 : 1).islearner(), true);
  EXPECT_EQ(add_error("http://127.0.0.1:5", true), text_of(errors::too_many_learners()));
  // In the same second the id would be the same, too; that is looked at first.
  const int64_t second = clock_.wall_ns() / 1'000'000'000;
  ASSERT_TRUE(cairn::testing::wait_until([&] { return clock_.wall_ns() / 1'000'000'000 != second; }));
  EXPECT_EQ(add_error("http://127.0.0.1:4", true), text_of(errors::peer_url_exist()));
  EXPECT_EQ(promote_error(id), text_of(errors::learner_not_ready()));
  EXPECT_EQ(promote_error(7), text_of(errors::member_not_found()));
  EXPECT_EQ(promote_error(self()), text_of(errors::member_not_learner()));
  etcdserverpb::MoveLeaderRequest move;
  move.set_targetid(id);
  EXPECT_EQ(error(std::string(kMaintenance) + "MoveLeader", move.SerializeAsString()),
            text_of(errors::bad_leader_transferee()));
  put("a");  // it still decides alone
  etcdserverpb::MemberRemoveRequest remove;
  remove.set_id(id);
  EXPECT_EQ(answer<etcdserverpb::MemberRemoveResponse>(kCluster + "MemberRemove", remove).members_size(), 1);
  EXPECT_EQ(promote_error(id), text_of(errors::member_not_found()));
  EXPECT_TRUE(asked_.empty()) << "nobody but the leader need be asked";
  EXPECT_EQ(removals_, 0);
}

// What another member asks over HTTP.
TEST_F(ClusterTest, OtherMembersAskOverHttp) {
  const uint64_t learner = add("http://127.0.0.1:4", true).member().id();
  // "status body"
  const auto ask = [&](const std::string& method, const std::string& path) -> std::string {
    net::HttpRequest request;
    request.method = method;
    request.path = path;
    std::atomic<bool> is_answered{false};
    net::HttpResponse got;
    const bool is_served = services_->answer_peer(request, [&](net::HttpResponse response) {
      got = std::move(response);
      is_answered = true;
    });
    if (!is_served) return "unserved";
    EXPECT_TRUE(cairn::testing::wait_until([&] { return is_answered.load(); }));
    if (got.status != 405) {
      EXPECT_EQ(got.headers.back(),
                (std::pair<std::string, std::string>{"X-Etcd-Cluster-Id", hex_id(member_->node->cluster_id())}));
    }
    return std::to_string(got.status) + " " + got.body;
  };
  const std::string members = ask("GET", "/members");
  EXPECT_TRUE(members.starts_with("200 [{") && members.ends_with("]\n")) << members;
  EXPECT_EQ(cluster::parse_members(members.substr(4))->size(), 2U);
  EXPECT_EQ(ask("POST", "/members"), "405 Method Not Allowed\n");
  EXPECT_EQ(ask("GET", "/members/promote/1"), "405 Method Not Allowed\n");
  EXPECT_EQ(ask("POST", "/members/promote/x"), "404 member x not found in cluster\n");
  EXPECT_EQ(ask("POST", "/members/promote/7"), "404 membership: ID not found\n");
  EXPECT_EQ(ask("POST", fmt::format("/members/promote/{}", self())),
            "412 membership: can only promote a learner member\n");
  EXPECT_EQ(ask("POST", fmt::format("/members/promote/{}", learner)),
            "412 etcdserver: can only promote a learner member which is in sync with leader\n");
  EXPECT_EQ(ask("GET", "/health"), "unserved");
}

// As with etcd: the first of two is there before the second one has come.
class TwoTest : public ClusterTest {
 protected:
  void SetUp() override {
    ClusterTest::SetUp();
    const auto added = add("http://127.0.0.1:4", false);
    other_ = NodeId(added.member().id());
    EXPECT_EQ(added.members_size(), 2);
  }
  NodeId other_;
};

TEST_F(TwoTest, AfterASecondVoterIsAddedNothingIsDecidedWithoutIt) {
  EXPECT_EQ(late_error(std::string(kKv) + "Put", message<etcdserverpb::PutRequest>("key: 'a'")),
            text_of(errors::timeout()));
  EXPECT_EQ(late_error(std::string(kKv) + "Range", message<etcdserverpb::RangeRequest>("key: 'a'")),
            text_of(errors::timeout()));
  answer<etcdserverpb::RangeResponse>(std::string(kKv) + "Range",
                                      message<etcdserverpb::RangeRequest>("key: 'a' serializable: true"));
  EXPECT_EQ(late_error(kCluster + "MemberList", message<etcdserverpb::MemberListRequest>("linearizable: true")),
            text_of(errors::timeout()));
  EXPECT_EQ(answer<etcdserverpb::MemberListResponse>(kCluster + "MemberList", etcdserverpb::MemberListRequest())
                .members_size(),
            2);
  EXPECT_EQ(add_error("http://127.0.0.1:5", false), text_of(errors::member_not_enough_started()));
  EXPECT_EQ(add_error("http://127.0.0.1:5", true), text_of(errors::unhealthy()));
  EXPECT_EQ(error_with_id<etcdserverpb::MemberRemoveRequest>("MemberRemove", self()),
            text_of(errors::member_not_enough_started()));
}

TEST_F(TwoTest, AnotherLeaderIsAskedToPromote) {
  let_lead(other_);
  EXPECT_EQ(error_of<etcdserverpb::MoveLeaderRequest>(std::string(kMaintenance) + "MoveLeader", "targetID: 1"),
            text_of(errors::not_leader()));
  const std::pair<std::pair<int, std::string>, Error> refusals[] = {
      {{404, "membership: ID not found\n"}, errors::member_not_found()},
      {{412, "membership: can only promote a learner member\n"}, errors::member_not_learner()},
      {{412, "etcdserver: can only promote a learner member which is in sync with leader\n"},
       errors::learner_not_ready()},
  };
  for (const auto& [said, error] : refusals) {
    answers_ = {said};
    EXPECT_EQ(promote_error(77), text_of(error)) << said.second;
  }
  EXPECT_EQ(asked_.back(), hex_id(other_.value) + " POST /members/promote/77 ");
  // What cannot be understood is asked again.
  answers_ = {{500, "oops"}, {200, "[]x"}, {200, R"([{"id":77,"peerURLs":["http://a:1"],"name":"n"}])"}};
  asked_.clear();
  etcdserverpb::MemberPromoteRequest request;
  request.set_id(77);
  const auto promoted = answer<etcdserverpb::MemberPromoteResponse>(kCluster + "MemberPromote", request);
  ASSERT_EQ(promoted.members_size(), 1);
  EXPECT_EQ(promoted.members(0).name(), "n");
  EXPECT_EQ(promoted.header().member_id(), self());
  EXPECT_EQ(asked_.size(), 3U);
  EXPECT_EQ(late_error(kCluster + "MemberPromote", request), text_of(errors::timeout())) << "nobody answers";
}

TEST_F(TwoTest, ItsOwnRemovalIsTold) {
  let_lead(other_, {{raft::EntryType::kConfChange,
                     raft::encode(raft::ConfChangeV1{
                         .type = raft::ConfChangeType::kRemoveNode, .node = NodeId(self()), .context = {}})}});
  EXPECT_TRUE(state()->members->removed.contains(NodeId(self())));
  EXPECT_EQ(removals_, 0) << "the other one may need its vote";
  member_->node->report({member::PeerReport::Kind::kTellsRemoval, other_});
  EXPECT_TRUE(cairn::testing::wait_until([&] { return removals_ == 1; }));
}

// Joins a cluster of one as a learner.
class LearnerTest : public ClusterTest, public member::PeerProbe {
 protected:
  LearnerTest() { is_alone_ = false; }
  void change_more(member::NodeOptions& options) override {
    options.bootstrap.initial_cluster["first"] = {"http://127.0.0.1:4"};
    options.bootstrap.joins = true;
    options.bootstrap.probe = this;
  }
  Result<member::PeerAnswer> get(const std::string& url, int64_t) override {
    if (url.ends_with("/version")) return member::PeerAnswer{200, "e9", R"({"etcdcluster":"3.7.0"})"};
    return member::PeerAnswer{200, "e9",
                              R"([{"id":1,"peerURLs":["http://127.0.0.1:4"],"name":"first"},)"
                              R"({"id":2,"peerURLs":["http://127.0.0.1:2380"],"isLearner":true}])"};
  }
  static std::pair<raft::EntryType, std::string> addition(uint64_t id, bool is_learner) {
    const cluster::MemberChange change{cluster::ChangeKind::kAdd,
                                       {.id = NodeId(id),
                                        .peer_urls = {fmt::format("http://127.0.0.1:{}", id)},
                                        .is_learner = is_learner,
                                        .name = {},
                                        .client_urls = {}}};
    return {raft::EntryType::kConfChange,
            raft::encode(raft::ConfChangeV1{.type = static_cast<raft::ConfChangeType>(change.raft_type()),
                                            .node = NodeId(id),
                                            .context = cluster::change_context(change)})};
  }
};

TEST_F(LearnerTest, ServesWhatNeedsNobodyElse) {
  ASSERT_EQ(self(), 2U);
  let_lead(NodeId(1), {addition(1, false), addition(2, true)});
  const std::string refused = text_of(errors::not_supported_for_learner());
  EXPECT_EQ(error_of<etcdserverpb::PutRequest>(std::string(kKv) + "Put", "key: 'a'"), refused);
  EXPECT_EQ(error_of<etcdserverpb::RangeRequest>(std::string(kKv) + "Range", "key: 'a'"), refused);
  EXPECT_EQ(error_of<etcdserverpb::MemberListRequest>(kCluster + "MemberList", ""), refused);
  EXPECT_EQ(error_of<etcdserverpb::HashKVRequest>(std::string(kMaintenance) + "HashKV", ""), refused);
  EXPECT_EQ(error(kWatch, ""), refused);
  answer<etcdserverpb::RangeResponse>(std::string(kKv) + "Range",
                                      message<etcdserverpb::RangeRequest>("key: 'a' serializable: true"));
  const auto status =
      answer<etcdserverpb::StatusResponse>(std::string(kMaintenance) + "Status", etcdserverpb::StatusRequest());
  EXPECT_TRUE(status.islearner());
  EXPECT_EQ(status.leader(), 1U);
  EXPECT_EQ(client_->unary(std::string(kMaintenance) + "Snapshot", "").code(), 0);
}

}  // namespace
}  // namespace cairn::rpc
