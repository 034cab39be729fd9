#include "rpc/handler.h"

#include "base/random.h"
#include "proto/raft_internal.pb.h"
#include "tracing/tracer.h"

namespace cairn::rpc {

void Handler::tell_of(const net::Call& call, int64_t took_ns, Code code, std::string_view told) {
  const Limits& limits = context_.limits();
  const int64_t began_wall_ns = context_.clock().wall_ns() - took_ns;
  const std::string_view answer = code == Code::kOk ? told : "";
  if (took_ns > limits.warning_unary_ns || log::enabled(log::Level::kDebug)) {
    log_request_stats(log::enabled(log::Level::kDebug) ? log::Level::kDebug : log::Level::kWarn,
                      {.method = method_,
                       .began_wall_ns = began_wall_ns,
                       .took_ns = took_ns,
                       .remote = call.peer_address(),
                       .request = kept_request(),
                       .request_bytes = request_bytes_,
                       .code = code,
                       .answer = answer});
  }
  if (took_ns <= std::min(limits.warning_apply_ns, kTraceThresholdNs) || method_.service != "etcdserverpb.KV") return;
  if (reads_ && took_ns > limits.warning_apply_ns) context_.metrics().slow_apply.add();
  log_slow_request({.method = method_,
                    .began_wall_ns = began_wall_ns,
                    .took_ns = took_ns,
                    .agreed_ns = agreed_ns_,
                    .reads = reads_,
                    .request = kept_request(),
                    .request_bytes = request_bytes_,
                    .code = code,
                    .answer = answer,
                    .error = code == Code::kOk ? "" : told},
                   limits.warning_apply_ns, static_cast<uint32_t>(Random(static_cast<uint64_t>(began_wall_ns)).next()));
}

void Handler::on_status(net::Call& /*call*/, Code code, std::string_view message) {
  if (trace() != nullptr) trace()->end(code, message);
}

Result<auth::Identity> Handler::identify(const net::Call& call, const member::Published& state) {
  if (!state.auth->enabled()) return auth::Identity{};
  auth::Credentials shown{.token = call.metadata("token"), .common_name = caller_.common_name};
  if (!shown.token) shown.token = call.metadata("authorization");
  shown.is_through_gateway = call.metadata(kGatewayMark).has_value();
  auto who = auth::identify(shown, *state.auth, context_.sessions());
  if (!who && shown.token && context_.tells_of_token()) {
    log::warn("invalid auth token", {{"token-fingerprint", auth::fingerprint(auth::without_bearer(*shown.token))}});
  }
  return who;
}

std::optional<auth::Identity> Handler::admit_known(net::Call& call) {
  const auto state = context_.enter();
  return admit(call, *state, [&](const auth::Identity& who) { return state->auth->check_known(who); });
}

std::optional<auth::Identity> Handler::admit_root(net::Call& call) {
  const auto state = context_.enter();
  return admit(call, *state, [&](const auth::Identity& who) { return state->auth->check_root(who); });
}

void Handler::set_header(etcdserverpb::InternalRaftRequest& request, const auth::Identity& who) {
  auto* const header = request.mutable_header();
  header->set_id(context_.node().next_request_id());
  header->set_username(who.user);
  header->set_auth_revision(who.revision);
}

}  // namespace cairn::rpc
