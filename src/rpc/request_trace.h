// rpc/request_trace.h: the lines about a request for keys that has taken long, as etcd writes them: "trace" with the
// steps of the request, and "apply request took too long" for one that only reads.
//
// Values are left out, and a request that is too long to be kept for the lines.
//
// Source: etcd 3.7.1, pkg/traceutil/trace.go, server/etcdserver/v3_server.go, server/etcdserver/txn/util.go.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/error.h"
#include "rpc/methods.h"

namespace cairn::rpc {

// Beyond this the steps are told. No flag changes it.
inline constexpr int64_t kTraceThresholdNs = 100'000'000;

struct SlowRequest {
  const Method& method;
  int64_t began_wall_ns = 0;
  int64_t took_ns = 0;
  int64_t agreed_ns = 0;  // of that, until it was known that no newer state was acknowledged; 0: nobody was asked
  bool reads = false;     // it is no entry of the log
  std::string_view request = {};  // empty: it was not kept
  uint64_t request_bytes = 0;
  Code code = Code::kOk;
  std::string_view answer = {};  // empty: it was sent in pieces, or is an error
  std::string_view error = {};
};

// `expected_ns`: --warning-apply-duration. `trace_id`: any number.
void log_slow_request(const SlowRequest& slow, int64_t expected_ns, uint32_t trace_id);

}  // namespace cairn::rpc
