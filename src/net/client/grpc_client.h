// net/client/grpc_client.h: a clear-text gRPC client that makes one unary call after the other and waits for each.
//
// For work in the background, such as sending spans to a collector: flow control, settings and the rest of HTTP/2 are
// nghttp2's. Http2Channel is for many calls at once at little CPU, without large requests.
//
// Threads: one, which blocks; its Patience may be shortened by another.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/error.h"
#include "net/client/grpc_target.h"
#include "net/client/patience.h"

namespace cairn::net {

class GrpcClient {
 public:
  static constexpr size_t kResponseBytesMax = 1 << 20;

  // `patience` outlives the client.
  //   errors: kUnavailable
  static Result<std::unique_ptr<GrpcClient>> connect(const GrpcTarget& target, Patience& patience, int64_t deadline_ns);
  ~GrpcClient();
  GrpcClient(const GrpcClient&) = delete;
  GrpcClient& operator=(const GrpcClient&) = delete;

  // The response's bytes. Read what the server has sent meanwhile first: it may have closed the connection.
  //   errors: the call's status; kUnavailable when the connection is of no more use, kDeadlineExceeded
  Result<std::string> call(std::string_view path, std::string_view message, int64_t deadline_ns);
  // False: no further call will come through.
  [[nodiscard]] bool is_open() const;

 private:
  struct Session;
  explicit GrpcClient(std::unique_ptr<Session> session);

  std::unique_ptr<Session> session_;
};

}  // namespace cairn::net
