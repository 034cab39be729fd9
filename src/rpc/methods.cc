#include "rpc/methods.h"

#include <algorithm>

#include <boost/unordered/unordered_flat_map.hpp>

#include "base/check.h"
#include "rpc/services/auth_service.h"
#include "rpc/services/cluster_service.h"
#include "rpc/services/election_service.h"
#include "rpc/services/health_service.h"
#include "rpc/services/kv_service.h"
#include "rpc/services/lease_service.h"
#include "rpc/services/lock_service.h"
#include "rpc/services/maintenance_service.h"
#include "rpc/services/state_service.h"
#include "rpc/services/watch_service.h"

namespace cairn::rpc {
namespace {

constexpr Method kMethods[] = {
#define CAIRN_METHOD(service, name, kind, touches, caller, make) \
  {"/" service "/" #name, service, #name, Method::Kind::kind, Method::Touches::touches, Method::Allowed::caller, make},
#include "rpc/methods.def"
#undef CAIRN_METHOD
};

using ByPath = boost::unordered_flat_map<std::string_view, const Method*>;

const ByPath& by_path() {
  static const ByPath paths = [] {
    ByPath all;
    for (const Method& method : kMethods) CAIRN_ASSERT(all.emplace(method.path, &method).second);
    return all;
  }();
  return paths;
}

}  // namespace

std::span<const Method> methods() { return kMethods; }

const Method* find_method(std::string_view path) {
  const auto found = by_path().find(path);
  return found == by_path().end() ? nullptr : found->second;
}

bool has_service(std::string_view service) {
  return std::any_of(std::begin(kMethods), std::end(kMethods),
                     [&](const Method& method) { return method.make != kUnimplemented && method.service == service; });
}

std::string_view name_of(Method::Kind kind) {
  switch (kind) {
    case Method::Kind::kUnary: return "unary";
    case Method::Kind::kServerStream: return "server_stream";
    case Method::Kind::kBidiStream: return "bidi_stream";
  }
  return "";
}

}  // namespace cairn::rpc
