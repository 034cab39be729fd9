#include "rpc/services/health_service.h"

#include "proto/health.pb.h"
#include "rpc/handler.h"
#include "rpc/unmarshal.h"

namespace cairn::rpc {
namespace {

// grpc.health.v1: the server as a whole ("") serves from the start; nothing else is known.
class HealthHandler final : public OneRequestHandler {
 public:
  using OneRequestHandler::OneRequestHandler;

 private:
  void on_request(net::Call& call, std::string_view message) override {
    const bool watches = method().kind == Method::Kind::kServerStream;
    grpc::health::v1::HealthCheckRequest request;
    if (const Status parsed = unmarshal(message, request, watches ? Answer::kStream : Answer::kOne); !parsed) {
      return reject_with(call, parsed.error());
    }
    grpc::health::v1::HealthCheckResponse response;
    if (request.service().empty()) {
      response.set_status(grpc::health::v1::HealthCheckResponse::SERVING);
    } else if (watches) {
      response.set_status(grpc::health::v1::HealthCheckResponse::SERVICE_UNKNOWN);
    } else {
      return call.finish(Code::kNotFound, "unknown service");
    }
    watches ? call.send(response.SerializeAsString()) : call.reply(response.SerializeAsString());
  }
};

class HealthListHandler final : public OneRequestHandler {
 public:
  using OneRequestHandler::OneRequestHandler;

 private:
  void on_request(net::Call& call, std::string_view message) override {
    grpc::health::v1::HealthListRequest request;
    if (const Status parsed = unmarshal(message, request); !parsed) return reject_with(call, parsed.error());
    grpc::health::v1::HealthListResponse response;
    (*response.mutable_statuses())[""].set_status(grpc::health::v1::HealthCheckResponse::SERVING);
    call.reply(response.SerializeAsString());
  }
};

}  // namespace

std::unique_ptr<net::CallHandler> make_health_check(Context& context, const Method& method, const Caller& caller) {
  return make_handler<HealthHandler>(context, method, caller);
}
std::unique_ptr<net::CallHandler> make_health_list(Context& context, const Method& method, const Caller& caller) {
  return make_handler<HealthListHandler>(context, method, caller);
}
std::unique_ptr<net::CallHandler> make_health_watch(Context& context, const Method& method, const Caller& caller) {
  return make_handler<HealthHandler>(context, method, caller);
}

}  // namespace cairn::rpc
