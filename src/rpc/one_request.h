// rpc/one_request.h: the request of a method that takes one and answers with a stream.
//
// As Go's server: it is carried out when the client has ended its side, and a second one is an error.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "net/http2/grpc.h"

namespace cairn::rpc {

class OneRequest {
 public:
  void take(net::Call& call, std::string_view message) {
    if (request_) {
      return call.finish(Code::kInternal,
                         "cardinality violation: received multiple request messages for non-client-streaming RPC");
    }
    request_ = message;
  }
  // Null: there was none.
  [[nodiscard]] const std::string* get() const { return request_ ? &*request_ : nullptr; }

 private:
  std::optional<std::string> request_;
};

}  // namespace cairn::rpc
