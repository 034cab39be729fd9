#include "sim/cluster/node.h"

#include <gtest/gtest.h>

#include <utility>

#include "base/log.h"
#include "cluster/membership.h"

namespace cairn::sim {
namespace {

class NobodyElse final : public NodeHost {
  void on_messages(ClusterNode&, std::vector<raft::Message>&) override {}
  void on_redial(ClusterNode&, const std::vector<NodeId>&) override {}
  void on_question(ClusterNode&, const member::VersionQuestion&) override {}
  void on_committed(ClusterNode&, const std::vector<raft::Entry>&) override {}
  void on_own_proposal(ClusterNode&, const member::Proposal&) override {}
  void on_answer(ClusterNode&, member::Tag, Code, std::string_view) override {}
  void on_refused(ClusterNode&, member::Tag, const Error&) override {}
  void on_installed(ClusterNode&, Index) override {}
  void on_step(ClusterNode&) override {}
  void on_news(ClusterNode&) override {}
  void on_removed(ClusterNode&) override {}
  Fault on_operation(ClusterNode&, const Operation&) override { return Fault::kNone; }
};

// Between two starts the wall clock is set back by the time that has passed, so both begin in the same nanosecond of
// it.
TEST(ClusterNode, AStartHasRequestIdsOfItsOwnWhateverTheWallClockShows) {
  constexpr int64_t kPassedNs = 37'253'000'000;
  log::set_sink([](const log::Entry&) {}, log::Level::kFatal);
  NobodyElse host;
  ClusterNode::Options options;
  member::BootstrapOptions& bootstrap = options.member.bootstrap;
  bootstrap.data_dir = "/data/member.etcd";
  bootstrap.initial_cluster = {{"default", {"http://10.0.0.1:2380"}}};
  const auto founders = cluster::found_cluster(bootstrap.initial_cluster, bootstrap.initial_cluster_token);
  ASSERT_TRUE(founders);
  ClusterNode node(std::move(options), 0, host);
  node.set_member_id(founders->members.begin()->first.value);

  ASSERT_TRUE(node.start(0));
  const int64_t wall_ns = node.wall_ns(0);
  const uint64_t before = node.member().core().next_request_id();
  node.kill();
  node.jump_wall_clock(-kPassedNs);
  ASSERT_EQ(node.wall_ns(kPassedNs), wall_ns);
  ASSERT_TRUE(node.start(kPassedNs));
  const uint64_t after = node.member().core().next_request_id();

  EXPECT_EQ(before >> 48, node.member_id() & 0xffff);
  EXPECT_EQ(after >> 48, node.member_id() & 0xffff);
  EXPECT_GT(before > after ? before - after : after - before, 1'000'000U);
  node.kill();
}

}  // namespace
}  // namespace cairn::sim
