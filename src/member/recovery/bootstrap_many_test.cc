// Members of several: what they write before they have heard of each other, and whom they ask first.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>

#include "base/bytes.h"
#include "cluster/codec.h"
#include "member/recovery/bootstrap.h"
#include "member/recovery/peer_probe.h"
#include "member/testing/inline_member.h"
#include "proto/etcdserver.pb.h"
#include "proto/raft_internal.pb.h"
#include "raft/conf_change.h"
#include "testing/temp_dir.h"

namespace cairn::member {
namespace {

namespace fs = std::filesystem;

// What is not in it does not answer.
class FakePeers final : public PeerProbe {
 public:
  Result<PeerAnswer> get(const std::string& url, int64_t) override {
    asked.push_back(url);
    const auto it = answers.find(url);
    if (it == answers.end()) return fail(Code::kUnavailable, "connection refused");
    return it->second;
  }
  void members(const std::string& peer, const std::string& json) { answers[peer + "/members"] = {200, "e9", json}; }
  void version(const std::string& peer, const std::string& cluster) {
    answers[peer + "/version"] = {200, "e9", R"({"etcdserver":"3.7.1","etcdcluster":")" + cluster + "\"}"};
  }

  std::map<std::string, PeerAnswer> answers;
  std::vector<std::string> asked;
};

const std::string kPeer1 = "http://127.0.0.1:21911";
const std::string kPeer2 = "http://127.0.0.1:21912";
const std::string kPeer3 = "http://127.0.0.1:21913";
constexpr NodeId kId1{0xaeeea5b8492f678f};
constexpr NodeId kId3{0x69582ca06a5e484f};  // given to who is added

// The log of n1 as etcd 3.4.23 founds a cluster of three, up to its first hard state: segment 0 from its first byte.
const std::string kFoundersLog =
    "04000000000000840804100000000000200000000000000008011096fdadb90a1a16088fcfbdc984b7a9f7ae0110a7e8dac2"
    "bcfbfe94e9010e00000000000082080510abc8f48f0e1a040800100000006d00000000000083080210fbc190c00a1a630801"
    "10011801225b080010001887c9faffd8cc8ac50a224b7b226964223a3735393436363130323836313234333532372c227065"
    "657255524c73223a5b22687474703a2f2f3132372e302e302e313a3231393133225d2c226e616d65223a226e33227d000000"
    "7000000000000000080210b6cdedb1061a66080110011802225e0800100018bcafceeaffe4f1f48a01224d7b226964223a31"
    "303030393735303632313337353430333936342c227065657255524c73223a5b22687474703a2f2f3132372e302e302e313a"
    "3231393132225d2c226e616d65223a226e32227d70000000000000000802109be7808f081a66080110011803225e08001000"
    "188fcfbdc984b7a9f7ae01224d7b226964223a31323630353139343631373937373030353936372c227065657255524c7322"
    "3a5b22687474703a2f2f3132372e302e302e313a3231393131225d2c226e616d65223a226e31227d0f000000000000810803"
    "10fad9e81c1a0608011000180300";

class ManyTest : public ::testing::Test {
 protected:
  BootstrapOptions options(const std::string& name) {
    BootstrapOptions out;
    out.name = name;
    out.data_dir = folder_.path() + "/" + name;
    out.initial_cluster = {{"n1", {kPeer1}}, {"n2", {kPeer2}}, {"n3", {kPeer3}}};
    out.initial_cluster_token = "manytok";
    out.sync = false;
    out.wal.sync = false;
    out.probe = &peers_;
    return out;
  }
  BootstrapOptions joiner() {
    BootstrapOptions out = options("n3");
    out.joins = true;
    return out;
  }
  // n1 and n2 run, and n3 was added to them.
  void let_cluster_run(const std::string& version) {
    const std::string members =
        R"([{"id":1,"peerURLs":["http://127.0.0.1:21911"],"name":"n1","clientURLs":["http://c1:1"]},)"
        R"({"id":2,"peerURLs":["http://127.0.0.1:21912"],"name":"n2","clientURLs":["http://c2:1"]},)" +
        fmt::format(R"({{"id":{},"peerURLs":["http://127.0.0.1:21913"]}}])", kId3.value) + "\n";
    for (const std::string& peer : {kPeer1, kPeer2}) {
      peers_.members(peer, members);
      peers_.version(peer, version);
    }
  }
  std::string error_of(const BootstrapOptions& options) {
    const auto opened = bootstrap(env::posix_fs(), options);
    if (!opened) {
      EXPECT_FALSE(fs::exists(options.data_dir)) << "nothing was written";
      return opened.error().message;
    }
    return "";
  }
  static std::vector<std::string> entries(const wal::Log& log) {
    std::vector<std::string> out;
    if (log.last_index() == Index{}) return out;
    EXPECT_TRUE(log.index()->read(log.first_index(), log.last_index() + 1, UINT64_MAX,
                                  [&](const wal::Entry& entry) { out.emplace_back(entry.data); }));
    return out;
  }

  const cairn::testing::TempDir folder_;
  FakePeers peers_;
};

TEST_F(ManyTest, AFoundersLogIsByteForByteThatOfEtcd) {
  ASSERT_TRUE(bootstrap(env::posix_fs(), options("n1")));
  const std::string path = folder_.path() + "/n1/member/wal/0000000000000000-0000000000000000.wal";
  std::ifstream in(path, std::ios::binary);
  std::string bytes(kFoundersLog.size() / 2, '\0');
  ASSERT_TRUE(in.read(bytes.data(), static_cast<std::streamsize>(bytes.size())));
  EXPECT_EQ(to_hex(bytes), kFoundersLog);
}

TEST_F(ManyTest, AllFoundersBeginWithTheSameEntriesAndTheSameCluster) {
  std::vector<std::string> first;
  std::set<uint64_t> ids;
  for (const char* const name : {"n1", "n2", "n3"}) {
    const auto opened = bootstrap(env::posix_fs(), options(name));
    ASSERT_TRUE(opened) << opened.error().message;
    ids.insert(opened->member_id);
    EXPECT_EQ(opened->cluster_id, 0xe929fbdbc856b427U);
    EXPECT_EQ(opened->start.hard.commit, Index(3));
    EXPECT_EQ(opened->start.hard.term, Term(1));
    // They dial each other before the first entries are applied.
    EXPECT_EQ(opened->remotes.size(), 2U);
    EXPECT_TRUE(
        std::ranges::none_of(opened->remotes, [&](const auto& it) { return it.id.value == opened->member_id; }));
    if (first.empty()) first = entries(*opened->log);
    EXPECT_EQ(entries(*opened->log), first);
  }
  EXPECT_EQ(ids.size(), 3U);
  EXPECT_TRUE(ids.contains(kId1.value));
  EXPECT_EQ(first.size(), 3U);
}

TEST_F(ManyTest, AFounderAsksTheOthersAndGoesOnWhenNobodyKnowsIt) {
  ASSERT_TRUE(bootstrap(env::posix_fs(), options("n1")));
  EXPECT_EQ(peers_.asked, (std::vector<std::string>{kPeer2 + "/members", kPeer3 + "/members"}));
  // Who is asked is a founder too, and has not served.
  peers_.members(kPeer1, R"([{"id":12605194617977005967,"peerURLs":["http://127.0.0.1:21911"],"name":"n1"},)"
                         R"({"id":10009750612375403964,"peerURLs":["http://127.0.0.1:21912"],"name":"n2"}])");
  EXPECT_TRUE(bootstrap(env::posix_fs(), options("n2")));
}

TEST_F(ManyTest, AFounderThatHasServedDoesNotBeginAgain) {
  peers_.members(kPeer2, "[]");  // has just joined, and knows nobody yet
  peers_.members(kPeer3, R"([{"id":12605194617977005967,"peerURLs":["http://127.0.0.1:21911"],"name":"n1",)"
                         R"("clientURLs":["http://127.0.0.1:21921"]}])");
  EXPECT_EQ(error_of(options("n1")), "member aeeea5b8492f678f has already been bootstrapped");
}

TEST_F(ManyTest, WithoutAWayToTheOthersThereIsNoClusterOfSeveral) {
  BootstrapOptions alone = options("n1");
  alone.probe = nullptr;
  EXPECT_NE(error_of(alone).find("runs a member alone"), std::string::npos);
  ASSERT_TRUE(bootstrap(env::posix_fs(), options("n1")));
  const auto found = bootstrap(env::posix_fs(), alone);
  ASSERT_FALSE(found);
  EXPECT_NE(found.error().message.find("a cluster of 3 members"), std::string::npos) << found.error().message;
  EXPECT_TRUE(bootstrap(env::posix_fs(), options("n1"))) << "nothing was changed";
}

// The log is what decides: flags count for nothing any more.
TEST_F(ManyTest, ARestartAsksNobody) {
  ASSERT_TRUE(bootstrap(env::posix_fs(), options("n1")));
  peers_.asked.clear();
  BootstrapOptions again = options("n1");
  again.initial_cluster = {{"other", {"http://127.0.0.1:1"}}};
  again.initial_cluster_token = "another";
  again.joins = true;
  const auto opened = bootstrap(env::posix_fs(), again);
  ASSERT_TRUE(opened) << opened.error().message;
  EXPECT_EQ(opened->member_id, kId1.value);
  EXPECT_EQ(entries(*opened->log).size(), 3U);
  EXPECT_TRUE(peers_.asked.empty());
}

TEST_F(ManyTest, WhoJoinsHasTheIdsOfTheClusterAndAnEmptyLog) {
  let_cluster_run("3.7.0");
  const auto opened = bootstrap(env::posix_fs(), joiner());
  ASSERT_TRUE(opened) << opened.error().message;
  EXPECT_EQ(peers_.asked.front(), kPeer1 + "/members");
  EXPECT_EQ(opened->member_id, kId3.value);
  EXPECT_EQ(opened->cluster_id, 0xe9U);
  EXPECT_EQ(opened->log->last_index(), Index{});
  EXPECT_TRUE(opened->log->hard_state().empty());
  EXPECT_TRUE(opened->state.members.members.empty());
  EXPECT_TRUE(opened->start.conf.voters.empty());
  EXPECT_EQ(opened->state.schema, Schema::k3_7);
  ASSERT_EQ(opened->remotes.size(), 2U);
  EXPECT_EQ(opened->remotes[0].id, NodeId(1));
  EXPECT_EQ(opened->remotes[1].peer_urls, std::vector{kPeer2});
}

TEST_F(ManyTest, WhoHasJoinedWaitsAfterARestart) {
  let_cluster_run("3.4.0");
  ASSERT_TRUE(bootstrap(env::posix_fs(), joiner()));
  peers_.answers.clear();
  for (const bool joins : {true, false}) {
    BootstrapOptions again = joiner();
    again.joins = joins;
    const auto opened = bootstrap(env::posix_fs(), again);
    ASSERT_TRUE(opened) << opened.error().message;
    EXPECT_EQ(opened->member_id, kId3.value);
    EXPECT_EQ(opened->log->last_index(), Index{}) << "it founds nothing";
    EXPECT_EQ(opened->state.schema, Schema::k3_4) << "whoever answers or not";
  }
}

// A log that another server has begun says nothing of a cluster's version.
TEST_F(ManyTest, AnotherServersMemberThatHasJoinedAsksAgain) {
  let_cluster_run("3.5.0");
  fs::create_directories(folder_.path() + "/n3/member/snap");
  wal::Options wal;
  wal.sync = false;
  ASSERT_TRUE(wal::Log::create(env::posix_fs(), folder_.path() + "/n3/member/wal", {kId3, 0xe9}, wal));
  const auto opened = bootstrap(env::posix_fs(), joiner());
  ASSERT_TRUE(opened) << opened.error().message;
  EXPECT_EQ(opened->state.schema, Schema::k3_5);
  EXPECT_EQ(opened->log->last_index(), Index{});
}

TEST_F(ManyTest, WhatAMemberWritesFollowsTheVersionOfTheClusterThatItJoins) {
  const std::pair<const char*, Schema> cases[] = {
      {"3.0.0", Schema::k3_7}, {"3.4.0", Schema::k3_4}, {"3.5.0", Schema::k3_5}, {"3.6.0", Schema::k3_6}};
  for (const auto& [version, schema] : cases) {
    let_cluster_run(version);
    const auto opened = bootstrap(env::posix_fs(), joiner());
    ASSERT_TRUE(opened) << opened.error().message;
    EXPECT_EQ(opened->state.schema, schema) << version;
    fs::remove_all(folder_.path() + "/n3");
  }
}

TEST_F(ManyTest, WhoCannotJoinIsToldSoInEtcdsWords) {
  const std::string no_list = "cannot fetch cluster info from peer urls: ";
  EXPECT_EQ(error_of(joiner()), no_list + "could not retrieve cluster information from the given URLs");
  peers_.members(kPeer1, "[]\n");
  EXPECT_EQ(error_of(joiner()), no_list + "failed to get raft cluster member(s) from the given URLs");
  peers_.members(kPeer1, "404 page not found");  // the next one is asked
  peers_.members(kPeer2, R"([{"id":1,"peerURLs":["http://127.0.0.1:21911"],"name":"n1","clientURLs":["http://c:1"]}])");
  EXPECT_EQ(error_of(joiner()),
            "error validating peerURLs {ClusterID:e9 Members:[&{ID:1 RaftAttributes:{PeerURLs:[http://127.0.0.1:21911] "
            "IsLearner:false} Attributes:{Name:n1 ClientURLs:[http://c:1]}}] RemovedMemberIDs:[]}: member count is "
            "unequal");
  let_cluster_run("not_decided");
  EXPECT_EQ(error_of(joiner()), "incompatible with current running cluster");
  for (const char* const version : {"3.8.0", "2.3.0"}) {
    peers_.version(kPeer2, version);
    EXPECT_EQ(error_of(joiner()), "incompatible with current running cluster") << version;
  }
  let_cluster_run("3.7.0");
  BootstrapOptions wrong = joiner();
  wrong.initial_cluster["n2"] = {"http://127.0.0.1:4"};
  const std::string error = error_of(wrong);
  EXPECT_TRUE(
      error.ends_with("PeerURLs: no match found for existing member (2, [http://127.0.0.1:21912]), last "
                      "resolver error (resolved urls: \"http://127.0.0.1:21912\" != \"http://127.0.0.1:4\"))") ||
      error.find("no match found for existing member (2, [http://127.0.0.1:21912])") != std::string::npos)
      << error;
}

// Its directory is gone, and with it what it acknowledged.
TEST_F(ManyTest, WhoHasServedDoesNotJoinAgain) {
  let_cluster_run("3.7.0");
  const auto list = [](const char* urls_of_3) {
    return fmt::format(R"([{{"id":1,"peerURLs":["http://127.0.0.1:21911"],"clientURLs":["http://c1:1"]}},)"
                       R"({{"id":2,"peerURLs":["http://127.0.0.1:21912"],"clientURLs":["http://c2:1"]}},)"
                       R"({{"id":{},"peerURLs":["http://127.0.0.1:21913"],"clientURLs":[{}]}}])",
                       kId3.value, urls_of_3);
  };
  peers_.members(kPeer1, list(R"("http://c3:1")"));
  EXPECT_EQ(error_of(joiner()), "member 69582ca06a5e484f has already been bootstrapped");
  // Another has not heard of it, or takes it for who it was before it was removed and added again.
  const std::string served = list(R"("http://c3:1")");
  peers_.members(kPeer1, list(""));
  peers_.members(kPeer2, served);
  EXPECT_EQ(error_of(joiner()), "member 69582ca06a5e484f has already been bootstrapped");
  std::string before = served;
  before.replace(before.find(std::to_string(kId3.value)), std::to_string(kId3.value).size(), "33");
  peers_.members(kPeer1, before);
  peers_.members(kPeer2, before);
  EXPECT_EQ(error_of(joiner()), "member 21 has already been bootstrapped");
  peers_.members(kPeer2, list(""));
  EXPECT_EQ(error_of(joiner()), "");
}

// Who has just joined knows nobody until its log comes, and that may need who asks.
TEST_F(ManyTest, AnAnswerThatDoesNotFitIsNotTheLast) {
  let_cluster_run("3.7.0");
  peers_.members(kPeer1, "[]\n");
  EXPECT_EQ(error_of(joiner()), "");
  fs::remove_all(folder_.path() + "/n3");
  peers_.members(kPeer1, R"([{"id":1,"peerURLs":["http://127.0.0.1:21911"]}])");
  EXPECT_EQ(error_of(joiner()), "");
}

TEST_F(ManyTest, OneMemberThatKnowsTheVersionIsEnough) {
  let_cluster_run("3.6.0");
  peers_.answers.erase(kPeer1 + "/version");
  peers_.answers.erase(kPeer1 + "/members");
  EXPECT_TRUE(bootstrap(env::posix_fs(), joiner()));
}

TEST_F(ManyTest, AClusterThatIsDowngradedIsNotOursToJoin) {
  let_cluster_run("3.7.0");
  peers_.answers[kPeer2 + "/downgrade/enabled"] = {200, "e9", "true"};
  EXPECT_EQ(error_of(joiner()), "incompatible with current running cluster");
  peers_.answers[kPeer1 + "/downgrade/enabled"] = {200, "e9", "false"};  // asked first, and linearizable
  EXPECT_EQ(error_of(joiner()), "");
}

TEST_F(ManyTest, MoreLearnersThanTheFlagAllowsAreRefused) {
  let_cluster_run("3.7.0");
  peers_.members(kPeer1, R"([{"id":1,"peerURLs":["http://127.0.0.1:21911"]},)"
                         R"({"id":2,"peerURLs":["http://127.0.0.1:21912"],"isLearner":true},)"
                         R"({"id":3,"peerURLs":["http://127.0.0.1:21913"],"isLearner":true}])");
  EXPECT_EQ(error_of(joiner()), "membership: too many learner members in cluster");
  BootstrapOptions more = joiner();
  more.learner_count_max = 2;
  EXPECT_EQ(error_of(more), "");
}

// URLs are compared as places.
TEST_F(ManyTest, AHostsNameMayStandForItsAddress) {
  let_cluster_run("3.7.0");
  BootstrapOptions named = joiner();
  named.initial_cluster["n2"] = {"http://second:21912"};
  named.resolve = [](std::string_view host) { return host == "second" ? "127.0.0.1" : std::string(host); };
  EXPECT_EQ(error_of(named), "");
}

TEST_F(ManyTest, TheSameMembersAreNeededByNameToo) {
  let_cluster_run("3.7.0");
  BootstrapOptions stranger = joiner();
  stranger.name = "n4";
  EXPECT_EQ(error_of(stranger), "couldn't find local name \"n4\" in the initial cluster configuration");
}

// --- what is written then

cluster::Member member(NodeId id, const std::string& url) {
  return {.id = id, .peer_urls = {url}, .is_learner = false, .name = {}, .client_urls = {}};
}

// A log of a cluster as its leader sends it, given to who has joined.
class Leader {
 public:
  explicit Leader(testing::InlineMember& member) : member_(member) {}

  void add(NodeId id, const std::string& url) {
    const cluster::MemberChange change{cluster::ChangeKind::kAdd, cairn::member::member(id, url)};
    entry(raft::EntryType::kConfChange,
          raft::encode(raft::ConfChangeV1{
              .type = raft::ConfChangeType::kAddNode, .node = id, .context = cluster::change_context(change)}));
  }
  void request(const etcdserverpb::InternalRaftRequest& request) {
    entry(raft::EntryType::kNormal, request.SerializeAsString());
  }
  void entry(raft::EntryType type, std::string data) {
    entries_.push_back({Term(2), Index(entries_.size() + 1), type,
                        std::make_shared<const raft::Payload>(raft::Payload{.bytes = std::move(data)})});
  }
  // The member has what is there so far.
  void skip() { sent_ = entries_.size(); }
  void send() {
    raft::Message message;
    message.type = raft::MessageType::kApp;
    message.from = NodeId(1);
    message.to = kId3;
    message.term = Term(2);
    message.index = Index(sent_);
    if (sent_ > 0) message.log_term = Term(2);
    message.commit = Index(entries_.size());
    message.entries.assign(entries_.begin() + static_cast<std::ptrdiff_t>(sent_), entries_.end());
    sent_ = entries_.size();
    member_.events_.messages.push_back(std::move(message));
    member_.pump();
  }

 private:
  testing::InlineMember& member_;
  std::vector<raft::Entry> entries_;
  size_t sent_ = 0;
};

// What the db says of versions once all that the leader has sent is in it.
struct Tables {
  bool has_term = false;
  bool has_conf = false;
  std::string storage_version;
  std::string cluster_version;
};

class JoinedTest : public ManyTest {
 protected:
  std::unique_ptr<testing::InlineMember> start() {
    return std::make_unique<testing::InlineMember>(env::posix_fs(), joiner(), MemberOptions{});
  }
  Tables tables() {
    auto engine = storage::open_bolt(env::posix_fs(), folder_.path() + "/n3/member/snap/db");
    EXPECT_TRUE(engine);
    const auto view = (*engine)->view();
    const auto get = [&](storage::Table table, const char* key) -> std::string {
      return std::string(view->get(table, key)->value_or(""));
    };
    return {.has_term = !get(storage::Table::kMeta, "term").empty(),
            .has_conf = !get(storage::Table::kMeta, "confState").empty(),
            .storage_version = get(storage::Table::kMeta, "storageVersion"),
            .cluster_version = get(storage::Table::kCluster, "clusterVersion")};
  }
  static void found(Leader& leader) {
    leader.add(NodeId(1), kPeer1);
    leader.entry(raft::EntryType::kNormal, "");
  }
  static void set_version(Leader& leader, const std::string& version) {
    etcdserverpb::InternalRaftRequest request;
    request.mutable_header()->set_id(7);
    request.mutable_cluster_version_set()->set_ver(version);
    leader.request(request);
  }
};

TEST_F(JoinedTest, InAClusterOf34ItsDbIsThatOf34) {
  let_cluster_run("3.4.0");
  auto member = start();
  Leader leader(*member);
  found(leader);
  leader.entry(raft::EntryType::kNormal, cluster::encode_v2_version(5, "3.4.0"));
  leader.add(kId3, kPeer3);
  leader.send();
  EXPECT_EQ(member->apply().applied(), Index(4));
  EXPECT_EQ(member->apply().schema(), Schema::k3_4);
  EXPECT_EQ(member->stop(), Ending::kSaved);
  member.reset();
  const Tables found_tables = tables();
  EXPECT_FALSE(found_tables.has_term || found_tables.has_conf);
  EXPECT_EQ(found_tables.storage_version, "");
  const auto again = bootstrap(env::posix_fs(), joiner());
  ASSERT_TRUE(again) << again.error().message;
  EXPECT_EQ(again->state.schema, Schema::k3_4);
  EXPECT_EQ(again->state.members.version, "3.4.0");
  EXPECT_EQ(again->state.conf.voters, (std::vector{NodeId(1), kId3}));
}

// Its snapshots would go without these keys to members of 3.4.
TEST_F(JoinedTest, AKeyOfTheV2ApiEndsIt) {
  let_cluster_run("3.4.0");
  for (const bool is_written : {false, true}) {
    auto member = start();
    Leader leader(*member);
    found(leader);
    etcdserverpb::Request put;
    put.set_id(8);
    put.set_method(is_written ? "PUT" : "GET");
    put.set_path("/1/key");
    put.set_val("value");
    leader.entry(raft::EntryType::kNormal, put.SerializeAsString());
    leader.add(kId3, kPeer3);
    leader.send();
    ASSERT_EQ(member->failed_.has_value(), is_written);
    const std::string reason = is_written ? member->failed_->message : "";
    EXPECT_EQ(reason.find("holds keys of the v2 API") != std::string::npos, is_written) << reason;
    member.reset();
    fs::remove_all(folder_.path() + "/n3");
  }
}

TEST_F(JoinedTest, InAClusterOf37TheStorageVersionComesWithTheClusters) {
  let_cluster_run("3.7.0");
  auto member = start();
  Leader leader(*member);
  found(leader);
  leader.add(kId3, kPeer3);
  leader.send();
  EXPECT_EQ(member->stop(), Ending::kSaved);
  member.reset();
  EXPECT_EQ(tables().storage_version, "") << "nobody has said a version";
  member = start();
  EXPECT_EQ(member->apply().applied(), Index(3));
  EXPECT_EQ(member->apply().schema(), Schema::k3_7);
  Leader later(*member);
  found(later);
  later.add(kId3, kPeer3);
  later.skip();
  set_version(later, "3.0.0");  // what a leader says that does not reach all others
  set_version(later, "3.7.0");
  later.send();
  EXPECT_EQ(member->apply().applied(), Index(5));
  EXPECT_EQ(member->stop(), Ending::kSaved);
  member.reset();
  EXPECT_EQ(tables().storage_version, "3.7.0");
  EXPECT_EQ(tables().cluster_version, "3.7.0");
  EXPECT_TRUE(tables().has_term);
}

// Its own entry comes late in a long log.
TEST_F(JoinedTest, ItMayStopBeforeItHasSeenItselfAdded) {
  let_cluster_run("3.7.0");
  auto member = start();
  Leader leader(*member);
  found(leader);
  set_version(leader, "3.7.0");
  leader.send();
  EXPECT_EQ(member->stop(), Ending::kSaved);
  member.reset();
  peers_.answers.clear();
  const auto again = bootstrap(env::posix_fs(), joiner());
  ASSERT_TRUE(again) << again.error().message;
  EXPECT_EQ(again->state.applied, Index(3));
  EXPECT_EQ(again->state.conf.voters, std::vector{NodeId(1)});
}

// A founder of a cluster whose other founders are of 3.4.
TEST_F(JoinedTest, AFounderGoesByTheVersionThatTheClusterComesTo) {
  const auto n1 = options("n1");
  auto member = std::make_unique<testing::InlineMember>(env::posix_fs(), n1, MemberOptions{});
  EXPECT_EQ(member->apply().applied(), Index(3)) << "the founders' entries";
  EXPECT_EQ(member->apply().members().members.size(), 3U);
  EXPECT_EQ(member->ready_, 0) << "it waits for the others";
  raft::Message message;
  message.type = raft::MessageType::kApp;
  message.from = NodeId(10009750612375403964U);
  message.to = kId1;
  message.term = Term(2);
  message.log_term = Term(1);
  message.index = Index(3);
  message.commit = Index(4);
  message.entries.push_back(
      {Term(2), Index(4), raft::EntryType::kNormal,
       std::make_shared<const raft::Payload>(raft::Payload{.bytes = cluster::encode_v2_version(5, "3.4.0")})});
  member->events_.messages.push_back(message);
  member->pump();
  EXPECT_EQ(member->apply().applied(), Index(4));
  EXPECT_EQ(member->apply().schema(), Schema::k3_4);
  EXPECT_EQ(member->stop(), Ending::kSaved);
  member.reset();
  const auto again = bootstrap(env::posix_fs(), n1);
  ASSERT_TRUE(again) << again.error().message;
  EXPECT_EQ(again->state.schema, Schema::k3_4) << "what 3.4 does not have is gone from the tables";
  EXPECT_EQ(again->state.storage_version, "");
  EXPECT_EQ(again->state.members.version, "3.4.0");
}

// As tools leave it that restore a snapshot: behind the members' entries stands a record of it, and the db has what no
// entry has brought.
TEST_F(JoinedTest, WhatWasRestoredIsNotInTheLog) {
  const auto n1 = options("n1");
  {
    testing::InlineMember member(env::posix_fs(), n1, MemberOptions{});
    EXPECT_EQ(member.stop(), Ending::kSaved);
  }
  {
    const auto founded = bootstrap(env::posix_fs(), n1);
    ASSERT_TRUE(founded) << founded.error().message;
    EXPECT_EQ(founded->state.applied, Index(3));
    EXPECT_EQ(founded->raft_log.first_index(), Index(1));
    ASSERT_TRUE(founded->log->save_snapshot({Index(3), Term(1), std::nullopt}));
  }
  const auto restored = bootstrap(env::posix_fs(), n1);
  ASSERT_TRUE(restored) << restored.error().message;
  EXPECT_EQ(restored->raft_log.first_index(), Index(4));
  EXPECT_EQ(*restored->raft_log.term(Index(3)), Term(1)) << "the other founders have this much";
}

}  // namespace
}  // namespace cairn::member
