#include "rpc/handler.h"

#include "proto/raft_internal.pb.h"
#include "tracing/tracer.h"

namespace cairn::rpc {

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
