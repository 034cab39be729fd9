// rpc/request_stats.h: the line "request stats" about a unary call that has taken long, as etcd's interceptor writes
// it. At level debug there is one about each call.
//
// Values are left out of requests. A request that is too long to be kept for the line is told by its size alone.
//
// Source: etcd 3.7.1, server/etcdserver/api/v3rpc/interceptor.go.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/log.h"
#include "rpc/methods.h"

namespace cairn::rpc {

inline constexpr size_t kKeptRequestBytesMax = 1024;

struct RequestStats {
  const Method& method;
  int64_t began_wall_ns = 0;
  int64_t took_ns = 0;
  std::string remote;
  std::string_view request;  // empty: it was not kept
  uint64_t request_bytes = 0;
  Code code = Code::kOk;
  std::string_view answer;  // empty: it was sent in pieces, or is an error
};

// As the log's own times.
[[nodiscard]] std::string time_text(int64_t wall_ns);

void log_request_stats(log::Level level, const RequestStats& stats);

// What the line says of the request's content: without values.
[[nodiscard]] std::string loggable_request(std::string_view method, std::string_view bytes);

}  // namespace cairn::rpc
