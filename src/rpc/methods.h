// rpc/methods.h: the methods of etcd 3.7 as a table (methods.def): which there are, and how a call of one is begun.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "net/http2/grpc.h"

namespace cairn::tracing {
class CallTrace;
}  // namespace cairn::tracing

namespace cairn::rpc {

class Context;
struct Method;

// Who calls, as far as the connection tells; it stays so for the whole call. A token comes with the call's metadata and
// is looked at for each request (Handler::identify).
struct Caller {
  uint64_t connection = 0;
  // The subject's common name in the client's certificate, verified under --client-cert-auth.
  std::optional<std::string> common_name = {};
  // Of the call; null: it is not traced.
  std::shared_ptr<tracing::CallTrace> trace = {};
  bool is_step = false;  // of a call that was taken on already (SteppedHandler): not refused because others wait
  // Another member asks (PeerPages): it needs no permission, and is sent to no leader.
  bool is_member = false;
};

// Makes the handler of one call.
using Maker = std::unique_ptr<net::CallHandler>(Context& context, const Method& method, const Caller& caller);
inline constexpr Maker* kUnimplemented = nullptr;

struct Method {
  enum class Kind : uint8_t { kUnary, kServerStream, kBidiStream };
  enum class Touches : uint8_t { kNothing, kKeys, kLease, kWholeState, kMembers, kAuth, kMember };
  enum class Allowed : uint8_t { kAnyone, kUser, kKeys, kSelf, kRoot };

  std::string_view path;  // "/etcdserverpb.KV/Put"
  std::string_view service;
  std::string_view name;
  Kind kind;
  Touches touches;
  Allowed allowed;
  Maker* make;  // null: not in this build
};

// In the order of methods.def.
[[nodiscard]] std::span<const Method> methods();
// Null: etcd has no such method.
[[nodiscard]] const Method* find_method(std::string_view path);
// Whether this build has a method of the service.
[[nodiscard]] bool has_service(std::string_view service);
// As grpc_type has it in /metrics.
[[nodiscard]] std::string_view name_of(Method::Kind kind);

}  // namespace cairn::rpc
