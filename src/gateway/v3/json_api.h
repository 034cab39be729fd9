// gateway/v3/json_api.h: the API as JSON, under /v3/: which exchange is which call, and where its token is.
//
// Threads: begin() on the exchange's loop; immutable after the construction.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

#include "gateway/v3/paths.h"
#include "net/http.h"
#include "net/http2/grpc.h"

namespace cairn::gateway::v3 {

class JsonApi {
 public:
  struct Options {
    uint32_t message_bytes_max = 2 << 20;  // of a request, as it would be over gRPC
  };
  // `router` outlives this: where the calls go.
  JsonApi(net::Router& router, const Options& options) : router_(router), options_(options) {}

  // As HttpHandler::begin(). `path` begins with "/v3/"; the exchange's own may be an older one. `headers`: for each
  // answer.
  [[nodiscard]] std::unique_ptr<net::ExchangeHandler> begin(net::Exchange& exchange, std::string_view path,
                                                            net::HttpFields headers) const;

 private:
  const Paths paths_;
  net::Router& router_;
  const Options options_;
};

}  // namespace cairn::gateway::v3
