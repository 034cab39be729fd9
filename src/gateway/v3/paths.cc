#include "gateway/v3/paths.h"

#include <google/protobuf/descriptor.h>

#include "base/check.h"
#include "proto/rpc.pb.h"
#include "proto/v3election.pb.h"
#include "proto/v3lock.pb.h"

namespace cairn::gateway::v3 {
namespace {

struct Row {
  std::string_view path;
  std::string_view service;
  std::string_view method;
};

constexpr Row kRows[] = {
#define CAIRN_V3_PATH(path, service, method) {"/v3" path, service, method},
#include "gateway/v3/paths.def"
#undef CAIRN_V3_PATH
};

}  // namespace

Paths::Paths() {
  // Each of these files has a place in the program, and what it declares can be found by name.
  const google::protobuf::FileDescriptor* const files[] = {etcdserverpb::RangeRequest::descriptor()->file(),
                                                           v3electionpb::LeaderRequest::descriptor()->file(),
                                                           v3lockpb::LockRequest::descriptor()->file()};
  const auto declared = [&](const Row& row) -> const google::protobuf::MethodDescriptor* {
    for (const auto* const file : files) {
      const std::string package = file->package() + ".";
      if (!row.service.starts_with(package)) continue;
      const auto* const service = file->FindServiceByName(std::string(row.service.substr(package.size())));
      if (service != nullptr) return service->FindMethodByName(std::string(row.method));
    }
    return nullptr;
  };
  for (const Row& row : kRows) {
    const auto* const method = declared(row);
    CAIRN_ASSERT(method != nullptr);
    const Method::Kind kind = !method->server_streaming()  ? Method::Kind::kUnary
                              : method->client_streaming() ? Method::Kind::kBidiStream
                                                           : Method::Kind::kServerStream;
    methods_.emplace(row.path, Method{.rpc = std::string("/").append(row.service).append("/").append(row.method),
                                      .kind = kind,
                                      .request = &schema_.add(*method->input_type()),
                                      .response = &schema_.add(*method->output_type())});
  }
}

const Method* Paths::find(std::string_view path) const {
  const auto found = methods_.find(path);
  return found == methods_.end() ? nullptr : &found->second;
}

}  // namespace cairn::gateway::v3
