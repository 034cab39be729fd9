// The table of methods says what the .proto files say.
#include "rpc/methods.h"

#include <map>
#include <set>

#include <google/protobuf/descriptor.h>
#include <gtest/gtest.h>

#include "proto/health.pb.h"
#include "proto/rpc.pb.h"
#include "proto/v3election.pb.h"
#include "proto/v3lock.pb.h"

namespace cairn::rpc {
namespace {

TEST(Methods, AreThoseOfTheProtoFilesWithTheirKinds) {
  std::map<std::string, Method::Kind, std::less<>> expected;
  for (const google::protobuf::FileDescriptor* const file :
       {etcdserverpb::RangeRequest::descriptor()->file(), grpc::health::v1::HealthCheckRequest::descriptor()->file(),
        v3electionpb::CampaignRequest::descriptor()->file(), v3lockpb::LockRequest::descriptor()->file()}) {
    for (int i = 0; i < file->service_count(); ++i) {
      const auto* const service = file->service(i);
      for (int k = 0; k < service->method_count(); ++k) {
        const auto* const method = service->method(k);
        expected["/" + service->full_name() + "/" + method->name()] =
            method->client_streaming()   ? Method::Kind::kBidiStream
            : method->server_streaming() ? Method::Kind::kServerStream
                                         : Method::Kind::kUnary;
      }
    }
  }
  EXPECT_EQ(methods().size(), expected.size());
  for (const Method& method : methods()) {
    const auto found = expected.find(method.path);
    ASSERT_NE(found, expected.end()) << method.path;
    EXPECT_EQ(found->second, method.kind) << method.path;
    EXPECT_EQ(find_method(method.path), &method);
    EXPECT_EQ(method.path, "/" + std::string(method.service) + "/" + std::string(method.name));
  }
  EXPECT_EQ(find_method("/etcdserverpb.KV/Nothing"), nullptr);
  EXPECT_EQ(find_method(""), nullptr);
}

TEST(Methods, AServiceIsKnownWhenThisBuildHasAMethodOfIt) {
  EXPECT_TRUE(has_service("etcdserverpb.KV"));
  EXPECT_TRUE(has_service("grpc.health.v1.Health"));
  EXPECT_FALSE(has_service("etcdserverpb.Nothing"));
}

}  // namespace
}  // namespace cairn::rpc
