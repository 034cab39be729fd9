// rpc/test_pair.h: two real members of one cluster in the test's process, each with its services and a client. What
// they say to each other goes from hand to hand. The first one leads, and no time takes that from it.
#pragma once

#include <array>
#include <atomic>
#include <memory>
#include <string>

#include <gtest/gtest.h>

#include "base/mutex.h"
#include "member/testing/member.h"
#include "net/server.h"
#include "net/testing/test_client.h"
#include "rpc/services.h"
#include "rpc/test_services.h"
#include "testing/wait.h"

namespace cairn::rpc {

class PairTest : public ::testing::Test, public member::PeerProbe {
 protected:
  // From hand to hand.
  class Hand final : public member::PeerPort {
   public:
    Hand(PairTest& test, size_t to) : test_(test), to_(to) {}
    void send(std::vector<raft::Message> messages) override {
      if (!test_.is_cut_) test_.sides_[to_].member->node->receive(std::move(messages));
    }
    void redial(NodeId) override {}
    void set_members(std::shared_ptr<const cluster::Membership>) override {}
    [[nodiscard]] bool speaks_cairn(NodeId) const override { return test_.speak_cairn_; }

   private:
    PairTest& test_;
    const size_t to_;
  };
  struct Side {
    std::unique_ptr<Hand> hand;
    std::unique_ptr<member::testing::Member> member;
    std::unique_ptr<Metrics> metrics;
    std::unique_ptr<Services> services;
    std::unique_ptr<net::Server> server;
    std::unique_ptr<net::TestClient> client;
    std::unique_ptr<member::PublishedDomain::Reader> reader;

    [[nodiscard]] NodeId id() const { return NodeId(member->node->member_id()); }
    [[nodiscard]] member::PublishedDomain::Guard state() const { return reader->enter(); }
  };

  void SetUp() override {
    for (size_t i = 0; i < sides_.size(); ++i) open(i);
    for (Side& side : sides_) start(side);
    lead(0);
  }
  void TearDown() override {
    is_cut_ = true;
    for (Side& side : sides_) {
      side.client.reset();
      side.server->stop(1'000'000'000);
    }
    for (size_t i = 0; i < sides_.size(); ++i) follow_another(i);
    for (Side& side : sides_) side.member->stop();
    for (Side& side : sides_) {
      side.reader.reset();
      side.services.reset();
      side.server.reset();
    }
  }
  virtual void change(member::NodeOptions&, size_t /*which*/) {}
  virtual void change(Services&) {}
  // What a member is answered instead of what the other one says; nullopt: that.
  virtual std::optional<net::HttpResponse> answer_instead(const net::HttpRequest&) { return std::nullopt; }

  [[nodiscard]] Side& leader() { return sides_[leader_]; }
  [[nodiscard]] Side& follower() { return sides_[1 - leader_]; }

  // This one leads from now on.
  void lead(size_t which) {
    Side& chosen = sides_[which];
    raft::Message message;
    message.type = raft::MessageType::kTimeoutNow;
    message.to = chosen.id();
    message.from = sides_[1 - which].id();
    message.term = chosen.state()->leader.term;
    message.term = std::max(message.term, Term(1));  // it has founded the cluster in the first one
    chosen.member->node->receive({message});
    leader_ = which;
    ASSERT_TRUE(cairn::testing::wait_until([&] {
      return leader().state()->leader.is_leader && follower().state()->leader.leader == leader().id() &&
             leader().state()->applied_term == leader().state()->leader.term &&
             follower().state()->applied == leader().state()->applied;
    }));
  }

  // This one follows a leader of a later term: it has nothing to hand over when it is stopped.
  void follow_another(size_t which) {
    const Side& side = sides_[which];
    raft::Message message;
    message.type = raft::MessageType::kHeartbeat;
    message.to = side.id();
    message.from = sides_[1 - which].id();
    message.term = Term(1000);
    side.member->node->receive({message});
    EXPECT_TRUE(cairn::testing::wait_until([&] { return side.state()->leader.leader == message.from; }));
  }

  // All that was applied by the leader is by the follower.
  void wait_for_follower() {
    ASSERT_TRUE(cairn::testing::wait_until([&] { return follower().state()->applied >= leader().state()->applied; }));
  }

  static std::string error(Side& side, const std::string& path, const google::protobuf::MessageLite& request) {
    const auto& stream = side.client->unary(path, request.SerializeAsString());
    return std::to_string(stream.code()) + " " + stream.message();
  }
  template <class Response>
  static Response answer(Side& side, const std::string& path, const google::protobuf::MessageLite& request) {
    const auto& stream = side.client->unary(path, request.SerializeAsString());
    EXPECT_EQ(stream.code(), 0) << path << ": " << stream.message();
    Response response;
    const auto messages = stream.messages();
    EXPECT_EQ(messages.size(), 1u);
    EXPECT_TRUE(messages.empty() || response.ParseFromString(messages[0]));
    return response;
  }

  // What a member answers on its peer URL.
  static net::HttpResponse ask_page(Side& side, net::HttpRequest request) {
    Mutex mutex;
    Condition changed;
    std::optional<net::HttpResponse> got;
    EXPECT_TRUE(side.services->answer_peer(std::move(request), [&](net::HttpResponse response) {
      const MutexLock lock(mutex);
      got = std::move(response);
      changed.notify_all();
    }));
    MutexLock lock(mutex);
    while (!got) changed.wait(lock);
    return *got;
  }

  std::array<Side, 2> sides_;
  bool speak_cairn_ = true;          // before SetUp()
  std::atomic<bool> is_cut_{false};  // nothing goes from one to the other
  cairn::testing::StoppableClock clock_;
  Limits limits_;

 private:
  Result<member::PeerAnswer> get(const std::string&, int64_t) override { return fail(Code::kUnavailable, "refused"); }

  static std::string url(size_t which) { return "http://127.0.0.1:" + std::to_string(which + 1); }

  void open(size_t which) {
    Side& side = sides_[which];
    side.hand = std::make_unique<Hand>(*this, 1 - which);
    side.member = std::make_unique<member::testing::Member>([this, which, &side](member::NodeOptions& options) {
      options.bootstrap.name = "m" + std::to_string(which);
      options.bootstrap.initial_cluster = {{"m0", {url(0)}}, {"m1", {url(1)}}};
      options.bootstrap.probe = this;
      options.peer_urls = {url(which)};
      options.election_ms = 3'600'000;
      options.peers = side.hand.get();
      change(options, which);
    });
    side.metrics = std::make_unique<Metrics>(side.member->registry);
    side.reader = side.member->node->published().register_thread();
    side.services = std::make_unique<Services>(*side.member->node, clock_, limits_, *side.metrics);
    side.services->set_peers({.active_since_ns = [this](NodeId) { return std::optional<int64_t>(since_ns_); },
                              .call =
                                  [this, which](NodeId to, net::HttpRequest request, int64_t,
                                                const std::function<void(Result<net::HttpResponse>)>& then) {
                                    Side& other = sides_[1 - which];
                                    if (is_cut_ || to != other.id()) return then(fail(Code::kUnavailable, "refused"));
                                    if (auto instead = answer_instead(request)) return then(*std::move(instead));
                                    if (!other.services->answer_peer(std::move(request), then)) {
                                      then(net::HttpResponse{.status = 404});
                                    }
                                  }});
    net::ServerOptions options;
    options.listen.push_back({.address = "127.0.0.1:0"});
    side.server = std::make_unique<net::Server>(options, side.services.get(), nullptr);
    side.services->attach(side.server->loops());
    change(*side.services);
  }

  static void start(Side& side) {
    side.member->start(
        [&side](unsigned loop, member::AnswerBatch batch) { side.services->deliver(loop, std::move(batch)); },
        [&side] { side.services->tell(); }, /*alone=*/false);
    side.client = std::make_unique<net::TestClient>((*side.server->start())[0]);
  }

  size_t leader_ = 0;
  const int64_t since_ns_ = clock_.monotonic_ns() - int64_t{3600} * 1'000'000'000;
};

}  // namespace cairn::rpc
