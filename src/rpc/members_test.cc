// Cluster, MoveLeader and Downgrade of a member that is alone.
#include <gtest/gtest.h>

#include "base/errors.h"
#include "proto/rpc.pb.h"
#include "rpc/test_services.h"

namespace cairn::rpc {
namespace {

const std::string kCluster = "/etcdserverpb.Cluster/";

class MembersTest : public ServicesTest {
 protected:
  [[nodiscard]] uint64_t self() const { return member_->node->member_id(); }

  template <class Request>
  std::string error_with_id(const std::string& path, uint64_t id) {
    Request request;
    request.set_id(id);
    return error(path, request.SerializeAsString());
  }
  template <class Response>
  static std::vector<std::string> urls_of(const Response& response) {
    EXPECT_EQ(response.members_size(), 1);
    return {response.members(0).peerurls().begin(), response.members(0).peerurls().end()};
  }
  etcdserverpb::DowngradeResponse downgrade(etcdserverpb::DowngradeRequest::DowngradeAction action,
                                            const std::string& version = "") {
    etcdserverpb::DowngradeRequest request;
    request.set_action(action);
    request.set_version(version);
    return answer<etcdserverpb::DowngradeResponse>(std::string(kMaintenance) + "Downgrade", request);
  }
  std::string downgrade_error(const std::string& action, const std::string& version) {
    return error_of<etcdserverpb::DowngradeRequest>(std::string(kMaintenance) + "Downgrade",
                                                    fmt::format("action: {} version: \"{}\"", action, version));
  }
  etcdserverpb::StatusResponse status() {
    return answer<etcdserverpb::StatusResponse>(std::string(kMaintenance) + "Status", etcdserverpb::StatusRequest());
  }
};

TEST_F(MembersTest, AMemberMayChangeItsPeerUrls) {
  etcdserverpb::MemberUpdateRequest request;
  request.set_id(self());
  request.add_peerurls("http://127.0.0.1:9");
  request.add_peerurls("http://127.0.0.1:8");
  const auto updated = answer<etcdserverpb::MemberUpdateResponse>(kCluster + "MemberUpdate", request);
  EXPECT_EQ(urls_of(updated), (std::vector<std::string>{"http://127.0.0.1:9", "http://127.0.0.1:8"}));
  EXPECT_EQ(updated.header().revision(), 0) << "as in etcd";
  EXPECT_NE(updated.header().raft_term(), 0u);
  const auto listed =
      answer<etcdserverpb::MemberListResponse>(kCluster + "MemberList", etcdserverpb::MemberListRequest());
  EXPECT_EQ(urls_of(listed), urls_of(updated));
}

TEST_F(MembersTest, UrlsAreKeptAsTheyAreDialled) {
  etcdserverpb::MemberUpdateRequest request;
  request.set_id(self());
  request.add_peerurls(" HTTP://127.0.0.1:9 ");
  request.add_peerurls("http://127.0.0.1:8");
  const auto updated = answer<etcdserverpb::MemberUpdateResponse>(kCluster + "MemberUpdate", request);
  EXPECT_EQ(urls_of(updated), (std::vector<std::string>{"http://127.0.0.1:9", "http://127.0.0.1:8"}));
}

TEST_F(MembersTest, UrlsThatAreNoneDoNotGetIntoTheLog) {
  const std::string path = kCluster + "MemberUpdate";
  const auto before =
      answer<etcdserverpb::MemberListResponse>(kCluster + "MemberList", etcdserverpb::MemberListRequest());
  for (const char* const urls : {"", "peerURLs: ''", "peerURLs: '127.0.0.1:1'", "peerURLs: 'http://127.0.0.1'",
                                 "peerURLs: 'http://127.0.0.1:1/x'", "peerURLs: 'ftp://127.0.0.1:1'",
                                 "peerURLs: 'http://127.0.0.1:1' peerURLs: 'x'"}) {
    EXPECT_EQ(error_of<etcdserverpb::MemberUpdateRequest>(path, fmt::format("ID: {} {}", self(), urls)),
              text_of(errors::member_bad_urls()))
        << urls;
  }
  const auto after =
      answer<etcdserverpb::MemberListResponse>(kCluster + "MemberList", etcdserverpb::MemberListRequest());
  EXPECT_EQ(urls_of(after), urls_of(before));
}

TEST_F(MembersTest, ManyChangesAtATimeAreMadeOneAfterTheOther) {
  std::vector<int32_t> streams;
  for (int i = 0; i < 20; ++i) {
    etcdserverpb::MemberUpdateRequest request;
    request.set_id(i % 5 == 0 ? 7 : self());
    request.add_peerurls("http://127.0.0.1:" + std::to_string(1000 + i));
    const int32_t id = client_->start(kCluster + "MemberUpdate");
    client_->send(id, request.SerializeAsString());
    streams.push_back(id);
  }
  for (size_t i = 0; i < streams.size(); ++i) {
    ASSERT_TRUE(client_->pump_until([&, at = streams[i]] { return client_->stream(at).closed; })) << i;
    EXPECT_EQ(client_->stream(streams[i]).code(), i % 5 == 0 ? 5 : 0) << i;
  }
  const auto listed =
      answer<etcdserverpb::MemberListResponse>(kCluster + "MemberList", etcdserverpb::MemberListRequest());
  EXPECT_EQ(urls_of(listed), (std::vector<std::string>{"http://127.0.0.1:1019"}));
}

TEST_F(MembersTest, WhoIsNotThereCannotBeChanged) {
  for (const uint64_t id : {uint64_t{0}, uint64_t{7}, UINT64_MAX}) {
    EXPECT_EQ(error_with_id<etcdserverpb::MemberRemoveRequest>(kCluster + "MemberRemove", id),
              text_of(errors::member_not_found()));
    EXPECT_EQ(error_with_id<etcdserverpb::MemberUpdateRequest>(kCluster + "MemberUpdate", id),
              text_of(errors::member_not_found()));
    EXPECT_EQ(error_with_id<etcdserverpb::MemberPromoteRequest>(kCluster + "MemberPromote", id),
              text_of(errors::member_not_found()));
  }
}

TEST_F(MembersTest, TheLastVoterStaysAndIsNoLearner) {
  EXPECT_EQ(error_with_id<etcdserverpb::MemberRemoveRequest>(kCluster + "MemberRemove", self()),
            text_of(errors::member_not_enough_started()));
  EXPECT_EQ(error_with_id<etcdserverpb::MemberPromoteRequest>(kCluster + "MemberPromote", self()),
            text_of(errors::member_not_learner()));
}

TEST_F(MembersTest, WhatIsNoMemberIsRefusedAsByEtcd) {
  const std::string path = kCluster + "MemberAdd";
  for (const char* const urls : {"", "peerURLs: ''", "peerURLs: '127.0.0.1:1'", "peerURLs: 'http://127.0.0.1:1/x'"}) {
    EXPECT_EQ(error_of<etcdserverpb::MemberAddRequest>(path, urls), text_of(errors::member_bad_urls())) << urls;
  }
  const auto listed =
      answer<etcdserverpb::MemberListResponse>(kCluster + "MemberList", etcdserverpb::MemberListRequest());
  EXPECT_EQ(error_of<etcdserverpb::MemberAddRequest>(path, "peerURLs: '" + urls_of(listed).at(0) + "'"),
            text_of(errors::peer_url_exist()));
}

TEST_F(MembersTest, OnlyItselfMayLead) {
  const std::string path = std::string(kMaintenance) + "MoveLeader";
  EXPECT_EQ(error_of<etcdserverpb::MoveLeaderRequest>(path, ""), text_of(errors::bad_leader_transferee()));
  EXPECT_EQ(error_of<etcdserverpb::MoveLeaderRequest>(path, "targetID: 7"), text_of(errors::bad_leader_transferee()));
  etcdserverpb::MoveLeaderRequest request;
  request.set_targetid(self());
  EXPECT_FALSE(answer<etcdserverpb::MoveLeaderResponse>(path, request).has_header());
}

TEST_F(MembersTest, ADowngradeIsCheckedAsByEtcd) {
  EXPECT_EQ(downgrade(etcdserverpb::DowngradeRequest::VALIDATE, "3.6.0").version(), "3.7");
  EXPECT_EQ(downgrade(etcdserverpb::DowngradeRequest::VALIDATE, "3.6").header().revision(), 1);
  for (const std::string action : {"VALIDATE", "ENABLE"}) {
    for (const char* const version : {"3.5", "3.7.0", "3.8.0", "2.6.0"}) {
      EXPECT_EQ(downgrade_error(action, version), text_of(errors::invalid_downgrade_target_version())) << version;
    }
    for (const char* const version : {"", "3", "v3.6.0", "x.y"}) {
      EXPECT_EQ(downgrade_error(action, version), text_of(errors::wrong_downgrade_version_format())) << version;
    }
  }
  EXPECT_EQ(downgrade_error("3", "3.6"), "2 etcdserver: unknown method");
  EXPECT_EQ(downgrade(etcdserverpb::DowngradeRequest::CANCEL).version(), "3.7") << "it never fails";
  EXPECT_FALSE(status().downgradeinfo().enabled());
}

TEST_F(MembersTest, ADowngradeIsEnabledOnceAndCancelled) {
  EXPECT_EQ(downgrade(etcdserverpb::DowngradeRequest::ENABLE, "3.6").version(), "3.7");
  EXPECT_TRUE(status().downgradeinfo().enabled());
  EXPECT_EQ(status().downgradeinfo().targetversion(), "3.6.0");
  for (const std::string action : {"VALIDATE", "ENABLE"}) {
    const std::string error = downgrade_error(action, "3.6.0");
    EXPECT_TRUE(error == text_of(errors::downgrade_in_process()) ||
                error == text_of(errors::invalid_downgrade_target_version()))  // the version has followed meanwhile
        << error;
  }
  downgrade(etcdserverpb::DowngradeRequest::CANCEL);
  EXPECT_FALSE(status().downgradeinfo().enabled());
  EXPECT_EQ(status().downgradeinfo().targetversion(), "");
}

}  // namespace
}  // namespace cairn::rpc
