// Auth of a real member, called over a socket: no method forgets to ask who calls.
#include <gtest/gtest.h>

#include <map>

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

// Whoever adds a method adds its check, or fails here.
TEST_F(AuthTest, EveryMethodAsksForAName) {
  enable();
  const std::string key =
      "\x0a\x01"
      "a";
  const std::map<std::string_view, std::string> requests = {{"Range", key},   {"RangeStream", key},
                                                            {"Put", key},     {"DeleteRange", key},
                                                            {"UserGet", key}, {"Txn", "\x12\x05\x12\x03" + key}};
  for (const Method& method : methods()) {
    const bool is_asked = method.make != kUnimplemented && method.allowed != Method::Allowed::kAnyone;
    if (!is_asked || method.name == "Watch") continue;
    SCOPED_TRACE(method.path);
    const auto request = requests.find(method.name);
    EXPECT_EQ(error(std::string(method.path), request == requests.end() ? "" : request->second),
              text_of(errors::user_empty()));
  }
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

TEST_F(AuthTest, SomeAskForNobody) {
  enable();
  const auto status =
      answer<etcdserverpb::AuthStatusResponse>(std::string(kAuth) + "AuthStatus", etcdserverpb::AuthStatusRequest());
  EXPECT_TRUE(status.enabled());
  EXPECT_EQ(error_of<etcdserverpb::AuthenticateRequest>(std::string(kAuth) + "Authenticate", R"(name: "nobody")"),
            text_of(errors::auth_failed()));
  EXPECT_EQ(error_of<etcdserverpb::AuthenticateRequest>(std::string(kAuth) + "Authenticate", R"(name: "root")"),
            text_of(errors::no_password_user()));
}

TEST_F(AuthTest, WhileItIsOffNobodyAuthenticates) {
  EXPECT_EQ(error_of<etcdserverpb::AuthenticateRequest>(std::string(kAuth) + "Authenticate", R"(name: "root")"),
            text_of(errors::auth_not_enabled()));
}

}  // namespace
}  // namespace cairn::rpc
