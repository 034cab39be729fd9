#include "rpc/services/health_service.h"

#include "proto/health.pb.h"
#include "rpc/handler.h"
#include "rpc/unmarshal.h"

namespace cairn::rpc {
namespace {

grpc::health::v1::HealthCheckResponse response_of(bool serving) {
  grpc::health::v1::HealthCheckResponse response;
  response.set_status(serving ? grpc::health::v1::HealthCheckResponse::SERVING
                              : grpc::health::v1::HealthCheckResponse::NOT_SERVING);
  return response;
}

// grpc.health.v1: the server as a whole ("") is known; nothing else is.
class HealthHandler final : public OneRequestHandler {
 public:
  using OneRequestHandler::OneRequestHandler;

  void on_end(net::Call& call) override {
    context_.health_watches().remove(call.id());
    OneRequestHandler::on_end(call);
  }

 private:
  void on_request(net::Call& call, std::string_view message) override {
    const bool watches = method().kind == Method::Kind::kServerStream;
    grpc::health::v1::HealthCheckRequest request;
    if (const Status parsed = unmarshal(message, request, watches ? Answer::kStream : Answer::kOne); !parsed) {
      return reject_with(call, parsed.error());
    }
    const bool is_known = request.service().empty();
    if (watches && is_known) {
      context_.health_watches().add(
          call, [](net::Call& watcher, bool serving) { watcher.send(response_of(serving).SerializeAsString()); });
    } else if (watches) {
      grpc::health::v1::HealthCheckResponse unknown;
      unknown.set_status(grpc::health::v1::HealthCheckResponse::SERVICE_UNKNOWN);
      call.send(unknown.SerializeAsString());
    } else if (is_known) {
      call.reply(response_of(context_.serving().is_serving()).SerializeAsString());
    } else {
      call.finish(Code::kNotFound, "unknown service");
    }
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
    (*response.mutable_statuses())[""] = response_of(context_.serving().is_serving());
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
