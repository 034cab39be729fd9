#include "rpc/services.h"

#include <algorithm>
#include <iterator>

#include "base/errors.h"
#include "base/utf8.h"
#include "rpc/ask_versions.h"
#include "rpc/methods.h"
#include "rpc/token_wait.h"

namespace cairn::rpc {

Services::Services(member::Node& node, const env::Clock& clock, const Limits& limits, Metrics& metrics)
    : shared_(node, clock, limits, metrics) {
  if (!limits.times_calls) return;
  for (const Method& method : methods()) {
    // As for grpc_server_handled_total: not of the client that is part of the server.
    shared_.handling.push_back(method.service.starts_with("v3") ? nullptr : &metrics.handling(method));
  }
}

void Services::set_peers(Peers peers) {
  constexpr int64_t kAnswerNs = 2'000'000'000;
  shared_.peers = std::move(peers);
  shared_.node.set_ask_versions([this](const member::VersionQuestion& question) {
    ask_for_versions(*shared_.peers, question, shared_.clock.monotonic_ns() + kAnswerNs,
                     [&node = shared_.node](member::VersionReport report) { node.tell_versions(std::move(report)); });
  });
}

void Services::attach(std::span<net::EventLoop* const> loops) {
  for (net::EventLoop* loop : loops) {
    contexts_.push_back(std::make_unique<Context>(shared_, *loop));
    loop->set_turn_end([context = contexts_.back().get()] { context->flush(); });
  }
  peer_pages_ = std::make_unique<PeerPages>(*contexts_.front());
  shared_.serving.set_tell([this] {
    for (const auto& context : contexts_) {
      context->loop().post([&watches = context->health_watches()] { watches.tell(); });
    }
  });
}

void Services::deliver(unsigned loop, member::AnswerBatch batch) {
  Context& context = *contexts_[loop];
  context.loop().post(
      [&context, shared = std::make_shared<member::AnswerBatch>(std::move(batch))] { context.deliver(*shared); });
}

bool Services::answer_peer(net::HttpRequest request, net::HttpRespond respond) {
  if (!PeerPages::serves(request.path)) return false;
  peer_pages_->handle(std::move(request), std::move(respond));
  return true;
}

void Services::tell() {
  for (const auto& context : contexts_) context->watches().tell();
}

void Services::end_streams() {
  for (const auto& context : contexts_) {
    context->loop().post([&watches = context->watches()] { watches.stop(); });
  }
}

void Services::check_corruption(const CorruptionChecks::Options& options) {
  if (options.periodic_ns <= 0 && options.compact_hash_ns <= 0) return;
  corruption_checks_ = std::make_unique<CorruptionChecks>(shared_, *contexts_.front(), options);
}

std::shared_ptr<tracing::CallTrace> Services::begin_trace(std::string_view path, const net::Call& call) {
  if (tracer_ == nullptr) return nullptr;
  return tracer_->begin({.path = path,
                         .traceparent = call.metadata("traceparent").value_or(""),
                         .tracestate = call.metadata("tracestate").value_or("")},
                        [&call] { return call.local_address(); });
}

// A learner serves what needs nobody else: a range that asks for that (see RangeHandler), its status, its db.
bool Services::is_kept_from_learners(Context& context, const Method& method) {
  static constexpr std::string_view kServed[] = {"/etcdserverpb.KV/Range", "/etcdserverpb.Maintenance/Status",
                                                 "/etcdserverpb.Maintenance/Snapshot"};
  if (std::ranges::find(kServed, method.path) != std::end(kServed)) return false;
  return context.is_learner();
}

std::unique_ptr<net::CallHandler> Services::route(std::string_view path, net::Call& call) {
  const Method* const method = find_method(path);
  if (method == nullptr || method->make == kUnimplemented) return nullptr;
  Context& context = *contexts_[call.loop().index()];
  auto trace = begin_trace(path, call);
  const auto refused = [&trace](const Error& error) {
    if (trace != nullptr) trace->end(error.code, error.message);
    return nullptr;
  };
  const bool streams = method->kind != Method::Kind::kUnary;
  if (!is_utf8(call.metadata("client-api-version").value_or(""))) {  // it becomes a label of /metrics
    finish_with(call, errors::invalid_client_api_version());
    return refused(errors::invalid_client_api_version());
  }
  if (shared_.peers && is_kept_from_learners(context, *method)) {
    finish_with(call, errors::not_supported_for_learner());
    return refused(errors::not_supported_for_learner());
  }
  // compat: calls whose request cannot be read count too, and versions beyond a hundred count as "other".
  context.count_call(call, streams);
  if (!context.leaders().admit(call, streams)) return refused(errors::no_leader());
  auto handler = method->make(context, *method,
                              {.connection = call.connection(),
                               .common_name = common_name_ ? common_name_(call) : std::nullopt,
                               .trace = std::move(trace)});
  return TokenWait::in_front_of(std::move(handler), context, call);
}

bool Services::has_service(std::string_view service) const { return rpc::has_service(service); }

}  // namespace cairn::rpc
