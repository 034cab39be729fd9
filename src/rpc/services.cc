#include "rpc/services.h"

#include <algorithm>

#include "base/bytes.h"
#include "proto/health.pb.h"
#include "proto/rpc.pb.h"
#include "rpc/one_request.h"
#include "rpc/services/kv_service.h"
#include "rpc/services/maintenance_service.h"
#include "rpc/unmarshal.h"

namespace cairn::rpc {
namespace {

class MemberListHandler final : public net::CallHandler {
 public:
  explicit MemberListHandler(Context& context) : context_(context) {}

  void on_message(net::Call& call, std::string_view message) override {
    etcdserverpb::MemberListRequest request;
    if (const Status parsed = unmarshal(message, request); !parsed) return finish_with(call, parsed.error());
    if (!request.linearizable()) return run(call);
    context_.when_linearizable(call, [this](net::Call& later, const Error* error) {
      error != nullptr ? finish_with(later, *error) : run(later);
    });
  }
  void on_end(net::Call& call) override { context_.forget(call.id()); }

 private:
  void run(net::Call& call) {
    const auto state = context_.enter();
    etcdserverpb::MemberListResponse response;
    for (const auto& [id, member] : state->members->members) {
      auto* const out = response.add_members();
      out->set_id(id.value);
      out->set_name(member.name);
      for (const std::string& url : member.peer_urls) out->add_peerurls(url);
      for (const std::string& url : member.client_urls) out->add_clienturls(url);
      out->set_islearner(member.is_learner);
    }
    std::string out;
    mvcc::append_header(out, response_header(*state, context_.node(), 0));  // as etcd: without a revision
    response.AppendToString(&out);
    call.reply(out);
  }
  Context& context_;
};

// grpc.health.v1: the server as a whole ("") serves from the start; nothing else is known.
class HealthHandler final : public net::CallHandler {
 public:
  explicit HealthHandler(bool watch) : watch_(watch) {}

  Takes takes() const override { return watch_ ? Takes::kOneForStream : Takes::kOne; }
  void on_message(net::Call& call, std::string_view message) override {
    watch_ ? request_.take(call, message) : answer(call, message);
  }
  void on_half_close(net::Call& call) override {
    if (request_.get() != nullptr) answer(call, *request_.get());
  }

 private:
  void answer(net::Call& call, std::string_view message) {
    grpc::health::v1::HealthCheckRequest request;
    if (const Status parsed = unmarshal(message, request, watch_ ? Answer::kStream : Answer::kOne); !parsed) {
      return finish_with(call, parsed.error());
    }
    grpc::health::v1::HealthCheckResponse response;
    if (request.service().empty()) {
      response.set_status(grpc::health::v1::HealthCheckResponse::SERVING);
    } else if (watch_) {
      response.set_status(grpc::health::v1::HealthCheckResponse::SERVICE_UNKNOWN);
    } else {
      return call.finish(Code::kNotFound, "unknown service");
    }
    watch_ ? call.send(response.SerializeAsString()) : call.reply(response.SerializeAsString());
  }

  bool watch_;
  OneRequest request_;  // when it watches
};

class HealthListHandler final : public net::CallHandler {
 public:
  void on_message(net::Call& call, std::string_view message) override {
    grpc::health::v1::HealthListRequest request;
    if (const Status parsed = unmarshal(message, request); !parsed) return finish_with(call, parsed.error());
    grpc::health::v1::HealthListResponse response;
    (*response.mutable_statuses())[""].set_status(grpc::health::v1::HealthCheckResponse::SERVING);
    call.reply(response.SerializeAsString());
  }
};

constexpr std::string_view kServices[] = {"etcdserverpb.KV", "etcdserverpb.Maintenance", "etcdserverpb.Cluster",
                                          "grpc.health.v1.Health"};

}  // namespace

Services::Services(member::Node& node, const env::Clock& clock, const Limits& limits, Metrics& metrics)
    : node_(node),
      clock_(clock),
      limits_(limits),
      metrics_(metrics),
      residency_(clock),
      workers_(node.published(), residency_, limits.workers) {}

void Services::attach(std::span<net::EventLoop* const> loops) {
  for (net::EventLoop* loop : loops) {
    contexts_.push_back(std::make_unique<Context>(node_, *loop, clock_, residency_, workers_, limits_, metrics_));
    loop->set_turn_end([context = contexts_.back().get()] { context->flush(); });
  }
}

void Services::deliver(unsigned loop, member::AnswerBatch batch) {
  Context& context = *contexts_[loop];
  context.loop().post(
      [&context, shared = std::make_shared<member::AnswerBatch>(std::move(batch))] { context.deliver(*shared); });
}

std::unique_ptr<net::CallHandler> Services::route(std::string_view path, net::Call& call) {
  Context& context = *contexts_[call.loop().index()];
  auto handler = find(path, context);
  if (handler != nullptr) context.count_call(call, handler->takes() == net::CallHandler::Takes::kOneForStream);
  return handler;
}

std::unique_ptr<net::CallHandler> Services::find(std::string_view path, Context& context) {
  const size_t slash = path.rfind('/');
  if (slash == std::string_view::npos || slash == 0) return nullptr;
  const std::string_view service = path.substr(1, slash - 1);
  const std::string_view method = path.substr(slash + 1);
  if (service == "etcdserverpb.KV") return make_kv_handler(method, context);
  if (service == "etcdserverpb.Maintenance") return make_maintenance_handler(method, context);
  if (service == "etcdserverpb.Cluster" && method == "MemberList") return std::make_unique<MemberListHandler>(context);
  if (service == "grpc.health.v1.Health") {
    if (method == "Check") return std::make_unique<HealthHandler>(false);
    if (method == "Watch") return std::make_unique<HealthHandler>(true);
    if (method == "List") return std::make_unique<HealthListHandler>();
  }
  return nullptr;
}

bool Services::has_service(std::string_view service) const {
  return std::find(std::begin(kServices), std::end(kServices), service) != std::end(kServices);
}

}  // namespace cairn::rpc
