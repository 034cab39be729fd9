// Auth of a real member, called over a socket: no method forgets to ask who calls.
#include <gtest/gtest.h>

#include <atomic>
#include <map>
#include <set>

#include "proto/v3election.pb.h"
#include "proto/v3lock.pb.h"
#include "rpc/methods.h"
#include "rpc/test_services.h"

namespace cairn::rpc {
namespace {

constexpr const char* kAuth = "/etcdserverpb.Auth/";

class AuthTest : public ServicesTest {
 protected:
  void enable() {
    const auto done = [&](const char* method, const google::protobuf::MessageLite& request) {
      const auto& stream = call(std::string(kAuth) + method, request);
      ASSERT_EQ(stream.code(), 0) << method << ": " << stream.message();
    };
    done("UserAdd", message<etcdserverpb::AuthUserAddRequest>(R"(name: "root" options { no_password: true })"));
    done("UserGrantRole", message<etcdserverpb::AuthUserGrantRoleRequest>(R"(user: "root" role: "root")"));
    done("AuthEnable", etcdserverpb::AuthEnableRequest());
  }
};

// Whoever adds a method adds its check, or fails here. Locks and elections are made of calls that are checked.
TEST_F(AuthTest, EveryMethodAsksForAName) {
  enable();
  const std::string key =
      "\x0a\x01"
      "a";
  const std::string leader =
      message<v3electionpb::ProclaimRequest>(R"(leader { name: "a" key: "a/1" })").SerializeAsString();
  const std::map<std::string_view, std::string> requests = {
      {"Range", key},     {"RangeStream", key},
      {"Put", key},       {"DeleteRange", key},
      {"UserGet", key},   {"Txn", "\x12\x05\x12\x03" + key},
      {"Unlock", key},    {"Proclaim", leader},
      {"Resign", leader}, {"MemberAdd", "\x0a\x12http://127.0.0.1:4"}};
  for (const Method& method : methods()) {
    if (method.make == kUnimplemented || method.allowed == Method::Allowed::kAnyone) continue;
    if (method.name == "Watch" || method.name == "Observe") continue;
    SCOPED_TRACE(method.path);
    // etcd makes the calls with a client of its own, and forgets the code.
    const bool is_made_of_calls = method.service == "v3lockpb.Lock" || method.service == "v3electionpb.Election";
    std::string expected = text_of(errors::user_empty());
    if (is_made_of_calls) expected = "2 " + errors::user_empty().message;
    const auto request = requests.find(method.name);
    EXPECT_EQ(error(std::string(method.path), request == requests.end() ? "" : request->second), expected);
  }
  // As etcd: an observer who may not read hears nothing.
  const auto& observed = client_->unary("/v3electionpb.Election/Observe", key);
  EXPECT_EQ(observed.code(), 0);
  EXPECT_TRUE(observed.messages().empty());
  etcdserverpb::WatchRequest watch;
  watch.mutable_create_request()->set_key("a");
  const int32_t id = client_->start(kWatch);
  client_->send(id, watch.SerializeAsString());
  ASSERT_TRUE(client_->pump_until([&] { return !client_->stream(id).messages().empty(); }));
  etcdserverpb::WatchResponse refused;
  ASSERT_TRUE(refused.ParseFromString(client_->stream(id).messages()[0]));
  EXPECT_TRUE(refused.canceled());
  EXPECT_EQ(refused.cancel_reason(), "rpc error: code = InvalidArgument desc = etcdserver: user name is empty");
}

// A name from a certificate goes with every call of the connection, and into the calls that a call is made of.
TEST_F(AuthTest, ACertificateNamesTheCaller) {
  std::atomic<const char*> name{nullptr};  // what the client's certificate says
  common_name_ = [&](const net::Call&) {
    const char* const said = name.load();
    return said != nullptr ? std::optional<std::string>(said) : std::nullopt;
  };
  open({});
  enable();
  const auto call_with = [&](const std::string& path, const google::protobuf::MessageLite& request,
                             const net::Headers& metadata) {
    const auto& stream = client_->unary(path, request.SerializeAsString(), metadata);
    return std::to_string(stream.code()) + " " + stream.message();
  };
  const std::string range = std::string(kKv) + "Range";
  const std::string lock = "/v3lockpb.Lock/Lock";
  const auto key = message<etcdserverpb::RangeRequest>(R"(key: "a")");
  const auto locks = message<v3lockpb::LockRequest>(R"(name: "a")");
  const std::string nobody = errors::user_empty().message;
  EXPECT_EQ(call_with(range, key, {}), "3 " + nobody);
  EXPECT_EQ(call_with(lock, locks, {}), "2 " + nobody);
  name = "root";
  EXPECT_EQ(call_with(range, key, {}), "0 ");
  EXPECT_EQ(call_with(lock, locks, {}), "0 ");
  EXPECT_EQ(call_with(range, key, {{"token", "x.1"}}), text_of(errors::invalid_auth_token())) << "a token goes first";
  // CVE-2018-16886: it is the gateway's certificate.
  EXPECT_EQ(call_with(range, key, {{"grpcgateway-accept", "application/json"}}), "3 " + nobody);
  EXPECT_EQ(call_with(lock, locks, {{"grpcgateway-accept", "application/json"}}), "2 " + nobody);
  for (const char* const other : {"somebody", ""}) {
    name = other;
    EXPECT_EQ(call_with(range, key, {}), text_of(errors::permission_denied())) << other;
    EXPECT_EQ(call_with("/etcdserverpb.Cluster/MemberList", etcdserverpb::MemberListRequest(), {}), "0 ") << other;
  }
  EXPECT_EQ(call_with(std::string(kAuth) + "UserList", etcdserverpb::AuthUserListRequest(), {}), "3 " + nobody);
}

// As etcd, which asks who may write when an entry is applied, and what is too large never is.
TEST_F(AuthTest, TooLargeIsSaidBeforeWhoMayDoIt) {
  enable();
  const std::string large(1'572'864, 'x');
  etcdserverpb::PutRequest put;
  put.set_key("big");
  put.set_value(large);
  EXPECT_EQ(error(std::string(kKv) + "Put", put.SerializeAsString()), text_of(errors::request_too_large()));
  etcdserverpb::AuthRoleAddRequest role;
  role.set_name(large);
  EXPECT_EQ(error(std::string(kAuth) + "RoleAdd", role.SerializeAsString()), text_of(errors::request_too_large()));
  put.set_value(std::string(1'500'000, 'x'));
  EXPECT_EQ(error(std::string(kKv) + "Put", put.SerializeAsString()), text_of(errors::user_empty()));
}

TEST_F(AuthTest, SomeAskForNobody) {
  std::set<std::string> for_anyone;
  for (const Method& method : methods()) {
    if (method.allowed == Method::Allowed::kAnyone) for_anyone.emplace(method.path);
  }
  EXPECT_EQ(for_anyone, (std::set<std::string>{"/etcdserverpb.Auth/AuthStatus", "/etcdserverpb.Auth/Authenticate",
                                               "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/List",
                                               "/grpc.health.v1.Health/Watch"}));
  enable();
  const auto status =
      answer<etcdserverpb::AuthStatusResponse>(std::string(kAuth) + "AuthStatus", etcdserverpb::AuthStatusRequest());
  EXPECT_TRUE(status.enabled());
  EXPECT_EQ(error_of<etcdserverpb::AuthenticateRequest>(std::string(kAuth) + "Authenticate", R"(name: "nobody")"),
            text_of(errors::auth_failed()));
  EXPECT_EQ(error_of<etcdserverpb::AuthenticateRequest>(std::string(kAuth) + "Authenticate", R"(name: "root")"),
            text_of(errors::no_password_user()));
}

// As etcd, which asks who calls when it has the password's hash.
TEST_F(AuthTest, APasswordIsTooLongWhoeverSendsIt) {
  enable();
  const std::string too_long = "2 bcrypt: password length exceeds 72 bytes";
  for (const size_t bytes : {72, 73}) {
    etcdserverpb::AuthUserAddRequest user;
    user.set_name("somebody");
    user.set_password(std::string(bytes, 'p'));
    const std::string expected = bytes == 73 ? too_long : text_of(errors::user_empty());
    EXPECT_EQ(error(std::string(kAuth) + "UserAdd", user.SerializeAsString()), expected);
    EXPECT_EQ(error(std::string(kAuth) + "UserChangePassword", user.SerializeAsString()), expected);
    user.mutable_options()->set_no_password(true);
    EXPECT_EQ(error(std::string(kAuth) + "UserAdd", user.SerializeAsString()), text_of(errors::user_empty()));
  }
}

TEST_F(AuthTest, WhileItIsOffNobodyAuthenticates) {
  EXPECT_EQ(error_of<etcdserverpb::AuthenticateRequest>(std::string(kAuth) + "Authenticate", R"(name: "root")"),
            text_of(errors::auth_not_enabled()));
}

}  // namespace
}  // namespace cairn::rpc
