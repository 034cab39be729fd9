#include "rpc/services/cluster_service.h"

#include "proto/rpc.pb.h"
#include "rpc/handler.h"
#include "rpc/services/kv_service.h"
#include "rpc/unmarshal.h"

namespace cairn::rpc {
namespace {

class MemberListHandler final : public OneRequestHandler {
 public:
  using OneRequestHandler::OneRequestHandler;

 private:
  void on_request(net::Call& call, std::string_view message) override {
    etcdserverpb::MemberListRequest request;
    if (const Status parsed = unmarshal(message, request); !parsed) return reject_with(call, parsed.error());
    if (!request.linearizable()) return run(call);
    context_.when_linearizable(call, [this](net::Call& later, const Error* error) {
      error != nullptr ? finish_with(later, *error) : run(later);
    });
  }

  void run(net::Call& call) {
    if (!admit_known(call)) return;
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
};

}  // namespace

std::unique_ptr<net::CallHandler> make_member_list(Context& context, const Method& method, const Caller& caller) {
  return make_handler<MemberListHandler>(context, method, caller);
}

}  // namespace cairn::rpc
