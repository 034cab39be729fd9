#include "rpc/services/cluster_service.h"

#include "base/bytes.h"
#include "base/errors.h"
#include "base/log.h"
#include "cluster/membership.h"
#include "member/apply/applied_state.h"
#include "proto/rpc.pb.h"
#include "raft/conf_change.h"
#include "rpc/handler.h"
#include "rpc/services/kv_service.h"
#include "rpc/unmarshal.h"

namespace cairn::rpc {
namespace {

using cluster::ChangeKind;
using cluster::MemberChange;

// A response that lists the members. As etcd: its header has no revision.
template <class Response>
std::string list_of_members(Context& context, Response response = {}) {
  const auto state = context.enter();
  for (const auto& [id, member] : state->members->members) {
    auto* const out = response.add_members();
    out->set_id(id.value);
    out->set_name(member.name);
    for (const std::string& url : member.peer_urls) out->add_peerurls(url);
    for (const std::string& url : member.client_urls) out->add_clienturls(url);
    out->set_islearner(member.is_learner);
  }
  std::string out;
  mvcc::append_header(out, response_header(*state, context.node(), 0));
  response.AppendToString(&out);
  return out;
}

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
    if (admit_known(call)) call.reply(list_of_members<etcdserverpb::MemberListResponse>(context_));
  }
};

class ChangeHandler : public OneRequestHandler {
 public:
  using OneRequestHandler::OneRequestHandler;

 protected:
  [[nodiscard]] NodeId self() { return NodeId(context_.node().member_id()); }

  // The change goes to the log; whether it may be is decided when it is applied.
  template <class Response>
  void propose(net::Call& call, const MemberChange& change) {
    const auto type = static_cast<raft::ConfChangeType>(change.raft_type());
    std::string entry = raft::encode(raft::ConfChangeV1{.id = context_.node().next_request_id(),
                                                        .type = type,
                                                        .node = change.member.id,
                                                        .context = cluster::change_context(change)});
    context_.propose_conf_change(
        call, std::move(entry), [this, type, id = change.member.id](net::Call& later, const CoreAnswer& answer) {
          if (answer.code != Code::kOk) {
            note_failure(answer.text);
            return later.finish(answer.code, answer.text);
          }
          log::info("applied a configuration change through raft", {{"local-member-id", hex_id(self().value)},
                                                                    {"raft-conf-change", name_of(type)},
                                                                    {"raft-conf-change-node-id", hex_id(id.value)}});
          later.reply(list_of_members<Response>(context_));
        });
  }
  virtual void note_failure(std::string_view /*text*/) {}

 private:
  static std::string_view name_of(raft::ConfChangeType type) {
    switch (type) {
      case raft::ConfChangeType::kAddNode: return "ConfChangeAddNode";
      case raft::ConfChangeType::kRemoveNode: return "ConfChangeRemoveNode";
      case raft::ConfChangeType::kUpdateNode: return "ConfChangeUpdateNode";
      case raft::ConfChangeType::kAddLearnerNode: return "ConfChangeAddLearnerNode";
    }
    return "";
  }
};

// compat: this build runs a member alone. A member more could not be reached, and the directory could not be opened
// again, so a request that etcd would carry out is refused. Wrong requests get etcd's answers.
class MemberAddHandler final : public ChangeHandler {
 public:
  using ChangeHandler::ChangeHandler;

 private:
  void on_request(net::Call& call, std::string_view message) override {
    etcdserverpb::MemberAddRequest request;
    if (const Status parsed = unmarshal(message, request); !parsed) return reject_with(call, parsed.error());
    const auto urls = cluster::check_peer_urls({request.peerurls().begin(), request.peerurls().end()});
    if (!urls) return finish_with(call, urls.error());
    if (!admit_root(call)) return;
    MemberChange change;
    change.kind = ChangeKind::kAdd;
    change.member.id = cluster::compute_member_id(*urls, "", context_.clock().wall_ns() / 1'000'000'000);
    change.member.peer_urls = *urls;
    change.member.is_learner = request.islearner();
    const Status allowed =
        cluster::check_change(*context_.enter()->members, change, context_.node().options().apply.learner_count_max);
    if (!allowed) return finish_with(call, allowed.error());
    call.finish(Code::kUnimplemented, "cairn: members cannot be added: clusters of several are not built yet");
  }
};

class MemberRemoveHandler final : public ChangeHandler {
 public:
  using ChangeHandler::ChangeHandler;

 private:
  void on_request(net::Call& call, std::string_view message) override {
    etcdserverpb::MemberRemoveRequest request;
    if (const Status parsed = unmarshal(message, request); !parsed) return reject_with(call, parsed.error());
    if (!admit_root(call)) return;
    MemberChange change;
    change.kind = ChangeKind::kRemove;
    change.member.id = NodeId(request.id());
    // compat: without --strict-reconfig-check etcd tries to remove its last voter, and panics.
    if (const Status left = cluster::check_quorum_after(*context_.enter()->members, change); !left) {
      log::warn("rejecting member remove request; not enough healthy members",
                {{"local-member-id", hex_id(self().value)},
                 {"requested-member-remove-id", hex_id(request.id())},
                 {"error", left.error().message}});
      return finish_with(call, left.error());
    }
    propose<etcdserverpb::MemberRemoveResponse>(call, change);
  }
};

class MemberUpdateHandler final : public ChangeHandler {
 public:
  using ChangeHandler::ChangeHandler;

 private:
  void on_request(net::Call& call, std::string_view message) override {
    etcdserverpb::MemberUpdateRequest request;
    if (const Status parsed = unmarshal(message, request); !parsed) return reject_with(call, parsed.error());
    if (!admit_root(call)) return;
    MemberChange change;
    change.kind = ChangeKind::kUpdate;
    change.member.id = NodeId(request.id());
    change.member.peer_urls = {request.peerurls().begin(), request.peerurls().end()};
    propose<etcdserverpb::MemberUpdateResponse>(call, change);
  }
};

class MemberPromoteHandler final : public ChangeHandler {
 public:
  using ChangeHandler::ChangeHandler;

 private:
  void on_request(net::Call& call, std::string_view message) override {
    etcdserverpb::MemberPromoteRequest request;
    if (const Status parsed = unmarshal(message, request); !parsed) return reject_with(call, parsed.error());
    if (!admit_root(call)) return;
    const NodeId id(request.id());
    bool is_known = false;
    bool is_learner = false;
    {
      const auto state = context_.enter();
      const cluster::Member* const member = state->members->find(id);
      is_known = member != nullptr;
      is_learner = is_known && member->is_learner;
    }
    if (!is_known) {
      note_failure(errors::member_not_found().message);
      return finish_with(call, errors::member_not_found());
    }
    if (is_learner) {  // of which nothing is heard: this member reaches no other
      note_failure(errors::learner_not_ready().message);
      return finish_with(call, errors::learner_not_ready());
    }
    MemberChange change;
    change.kind = ChangeKind::kPromote;
    change.member.id = id;
    propose<etcdserverpb::MemberPromoteResponse>(call, change);
  }

  // The label has etcd's inner texts.
  void note_failure(std::string_view text) override {
    std::string_view reason = text;
    if (text == errors::member_not_found().message) reason = "membership: ID not found";
    if (text == errors::member_not_learner().message) reason = "membership: can only promote a learner member";
    context_.metrics().promote_failed(reason).add();
  }
};

}  // namespace

std::unique_ptr<net::CallHandler> make_member_list(Context& context, const Method& method, const Caller& caller) {
  return make_handler<MemberListHandler>(context, method, caller);
}
std::unique_ptr<net::CallHandler> make_member_add(Context& context, const Method& method, const Caller& caller) {
  return make_handler<MemberAddHandler>(context, method, caller);
}
std::unique_ptr<net::CallHandler> make_member_remove(Context& context, const Method& method, const Caller& caller) {
  return make_handler<MemberRemoveHandler>(context, method, caller);
}
std::unique_ptr<net::CallHandler> make_member_update(Context& context, const Method& method, const Caller& caller) {
  return make_handler<MemberUpdateHandler>(context, method, caller);
}
std::unique_ptr<net::CallHandler> make_member_promote(Context& context, const Method& method, const Caller& caller) {
  return make_handler<MemberPromoteHandler>(context, method, caller);
}

}  // namespace cairn::rpc
