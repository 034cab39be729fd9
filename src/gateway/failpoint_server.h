// gateway/failpoint_server.h: the fault points over HTTP, as gofail's runtime serves them on GOFAIL_HTTP.
//
//     GET /               "name=terms" of all points, a line each, in the order of their names
//     GET /NAME           its terms
//     GET /NAME/count     how many terms were carried out
//     PUT /NAME           the body is its terms from now on: 204
//     PUT /failpoints     the body is "NAME=terms;NAME=terms": 204
//     DELETE /NAME        it has none any more: 204
//
// It has an address and a thread of its own. An answer leaves before a point that it sets ends the process.
//
// Threads: made, started and destroyed by one thread.
#pragma once

#include <memory>
#include <string_view>

#include "base/error.h"
#include "env/failpoints.h"
#include "net/http.h"
#include "net/server.h"

namespace cairn::gateway {

// What one request does and is told.
[[nodiscard]] net::HttpResponse answer_failpoints(env::Failpoints& failpoints, const net::HttpRequest& request);

class FailpointServer final : private net::WholeBodyHandler {
 public:
  // Binds the address. `failpoints` outlives the server.
  //   errors: as net::listen_on()
  static Result<std::unique_ptr<FailpointServer>> listen(std::string_view address, env::Failpoints& failpoints);

  // Makes the thread.
  Status start();

 private:
  FailpointServer(const net::ServerOptions& options, env::Failpoints& failpoints)
      : failpoints_(failpoints), server_(options, nullptr, this) {}
  void handle(net::HttpRequest request, net::EventLoop& loop, net::HttpRespond respond) override;

  env::Failpoints& failpoints_;
  net::Server server_;  // the last: it uses the rest
};

}  // namespace cairn::gateway
