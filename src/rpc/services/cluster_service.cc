#include "rpc/services/cluster_service.h"

#include <cstring>
#include <functional>
#include <optional>

#include "base/bytes.h"
#include "base/errors.h"
#include "base/log.h"
#include "cluster/codec.h"
#include "cluster/membership.h"
#include "cluster/urls.h"
#include "member/apply/applied_state.h"
#include "proto/rpc.pb.h"
#include "raft/conf_change.h"
#include "rpc/handler.h"
#include "rpc/leader_call.h"
#include "rpc/services/kv_service.h"
#include "rpc/unmarshal.h"

namespace cairn::rpc {
namespace {

using cluster::ChangeKind;
using cluster::MemberChange;

template <class Response>
void add_member(Response& response, const cluster::Member& member) {
  auto* const out = response.add_members();
  out->set_id(member.id.value);
  out->set_name(member.name);
  for (const std::string& url : member.peer_urls) out->add_peerurls(url);
  for (const std::string& url : member.client_urls) out->add_clienturls(url);
  out->set_islearner(member.is_learner);
}

// As etcd: the header of a response about members has no revision.
template <class Response>
std::string with_members(Context& context, const Response& response) {
  std::string out;
  mvcc::append_header(out, response_header(*context.enter(), context.node(), 0));
  response.AppendToString(&out);
  return out;
}

// A response that lists the members.
template <class Response>
std::string list_of_members(Context& context, Response response = {}) {
  const auto members = context.enter()->members;
  for (const auto& [id, member] : members->members) add_member(response, member);
  return with_members(context, response);
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

  // --strict-reconfig-check, before the change goes to the log. False: it does not, and the call is answered.
  bool admit_change(net::Call& call, const MemberChange& change) {
    const auto members = context_.enter()->members;
    const bool removes = change.kind == ChangeKind::kRemove;
    // compat: without --strict-reconfig-check etcd tries to remove its last voter, and panics.
    const bool removes_last = removes && members->voters() == std::vector{change.member.id};
    if (!context_.limits().strict_reconfig_check && !removes_last) return true;
    Status admitted = cluster::check_quorum_after(*members, change);
    std::string_view why = "not enough healthy members";
    if (admitted) {
      cluster::Connections connections{.self = self(), .now_ns = context_.clock().monotonic_ns()};
      if (context_.peers() != nullptr) connections.active_since_ns = context_.peers()->active_since_ns;
      admitted = cluster::check_active_after(*members, change, connections);
      why = removes ? "local member has not been connected to all peers, reconfigure breaks active quorum"
                    : "local member has not been connected to majority peers, reconfigure breaks active quorum";
    }
    if (admitted) return true;
    log::warn(fmt::format("rejecting member {} request; {}", removes ? "remove" : "add", why),
              {{"local-member-id", hex_id(self().value)},
               {removes ? "requested-member-remove-id" : "requested-member-add", hex_id(change.member.id.value)},
               {"error", admitted.error().message}});
    finish_with(call, admitted.error());
    return false;
  }

  // The change goes to the log; whether it may be is decided when it is applied. `fill`, a void(Response&), adds to the
  // list of members.
  template <class Response>
  void propose(net::Call& call, const MemberChange& change, const std::function<void(Response&)>& fill = {}) {
    const auto type = static_cast<raft::ConfChangeType>(change.raft_type());
    std::string entry = raft::encode(raft::ConfChangeV1{.id = context_.node().next_request_id(),
                                                        .type = type,
                                                        .node = change.member.id,
                                                        .context = cluster::change_context(change)});
    context_.propose_conf_change(
        call, std::move(entry), [this, type, id = change.member.id, fill](net::Call& later, const CoreAnswer& answer) {
          if (answer.code != Code::kOk) {
            note_failure(answer.text);
            return later.finish(answer.code, answer.text);
          }
          log::info("applied a configuration change through raft", {{"local-member-id", hex_id(self().value)},
                                                                    {"raft-conf-change", name_of(type)},
                                                                    {"raft-conf-change-node-id", hex_id(id.value)}});
          note_success();
          Response response;
          if (fill) fill(response);
          later.reply(list_of_members<Response>(context_, std::move(response)));
        });
  }
  virtual void note_success() {}
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
    if (change.member.is_learner) change.learner_count_max = context_.node().options().apply.learner_count_max;
    if (!admit_change(call, change)) return;
    propose<etcdserverpb::MemberAddResponse>(call, change, [change](etcdserverpb::MemberAddResponse& response) {
      auto* const added = response.mutable_member();
      added->set_id(change.member.id.value);
      for (const std::string& url : change.member.peer_urls) added->add_peerurls(url);
      added->set_islearner(change.member.is_learner);
    });
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
    if (admit_change(call, change)) propose<etcdserverpb::MemberRemoveResponse>(call, change);
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
    const auto members = context_.enter()->members;
    const cluster::Member* const present = members->find(change.member.id);
    // compat: all other members of etcd panic when they apply such an entry, and again at each start.
    if (const auto urls = cluster::check_peer_urls(change.member.peer_urls); !urls) {
      return finish_with(call, present != nullptr ? urls.error() : errors::member_not_found());
    }
    for (std::string& url : change.member.peer_urls) url = cluster::parse_url(url)->text;
    // compat: etcd leaves it out; up to 3.6.11 its members then take a learner for a voter, and refuse its promotion.
    change.member.is_learner = present != nullptr && present->is_learner;
    propose<etcdserverpb::MemberUpdateResponse>(call, change);
  }
};

// Only the leader knows whether a learner has caught up. Another member asks it on its peer URL, as etcd does.
class MemberPromoteHandler final : public ChangeHandler {
 public:
  using ChangeHandler::ChangeHandler;

 private:
  void on_request(net::Call& call, std::string_view message) override {
    etcdserverpb::MemberPromoteRequest request;
    if (const Status parsed = unmarshal(message, request); !parsed) return reject_with(call, parsed.error());
    if (!admit_root(call)) return;
    change_.kind = ChangeKind::kPromote;
    change_.member.id = NodeId(request.id());
    context_.ask_progress(call, [this](net::Call& later, const CoreAnswer& answer) {
      if (answer.code == Code::kOk) return promote(later, answer.text);
      if (answer.text == errors::not_leader().message && context_.peers() != nullptr) {
        deadline_ns_ = context_.clock().monotonic_ns() + context_.limits().request_timeout_ns;
        return ask_leader(later);
      }
      refuse(later, {answer.code, std::string(answer.text)});
    });
  }

  // --- as the leader

  void promote(net::Call& call, std::string_view progress) {
    if (const Status ready = check_ready(progress); !ready) return refuse(call, ready.error());
    if (context_.limits().strict_reconfig_check) {
      if (const Status left = cluster::check_quorum_after(*context_.enter()->members, change_); !left) {
        log::warn("rejecting member promote request; not enough healthy members",
                  {{"local-member-id", hex_id(self().value)},
                   {"requested-member-remove-id", hex_id(change_.member.id.value)},
                   {"error", left.error().message}});
        return refuse(call, left.error());
      }
    }
    propose<etcdserverpb::MemberPromoteResponse>(call, change_);
  }

  // Nine tenths of what the leader's log holds. Who is no learner is found out when the change is applied.
  Status check_ready(std::string_view bytes) {
    constexpr double kReadyShare = 0.9;
    std::optional<uint64_t> match;
    uint64_t own_match = 0;
    for (; bytes.size() >= sizeof(member::PeerProgress); bytes.remove_prefix(sizeof(member::PeerProgress))) {
      member::PeerProgress one;
      std::memcpy(&one, bytes.data(), sizeof one);
      if (NodeId(one.id) == change_.member.id) match = one.match;
      if (NodeId(one.id) == self()) own_match = one.match;
    }
    if (!match) return std::unexpected(errors::member_not_found());
    const double share = static_cast<double>(*match) / static_cast<double>(own_match);
    if (share >= kReadyShare) return {};
    log::error("rejecting promote learner: learner is not ready",
               {{"learner-ready-percent", share}, {"ready-percent-threshold", kReadyShare}});
    return std::unexpected(errors::learner_not_ready());
  }

  void refuse(net::Call& call, const Error& error) {
    note_failure(error.message);
    finish_with(call, error);
  }

  // The label has etcd's inner texts.
  void note_failure(std::string_view text) override {
    std::string_view reason = text;
    if (text == errors::member_not_found().message) reason = "membership: ID not found";
    if (text == errors::member_not_learner().message) reason = "membership: can only promote a learner member";
    context_.metrics().promote_failed(reason).add();
  }

  void note_success() override { context_.metrics().promote_total.add(); }

  // --- as another member

  void ask_leader(net::Call& call) {
    net::HttpRequest request;
    request.method = "POST";
    request.path = fmt::format("/members/promote/{}", change_.member.id);
    for (const char* const name : {"token", "authorization"}) {
      const auto token = call.metadata(name);
      if (!token) continue;
      request.headers = {{"Authorization", std::string(*token)}};
      break;
    }
    leader_call_ = LeaderCall::begin(
        context_, {.call = call.id(),
                   .request = std::move(request),
                   .deadline_ns = deadline_ns_,
                   .pause_ns = kAskAgainNs,
                   .take = [this](net::Call& later, const auto& response) { return take_answer(later, response); },
                   .lead =
                       [this](net::Call& later) {
                         context_.ask_progress(later, [this](net::Call& again, const CoreAnswer& answer) {
                           answer.code == Code::kOk ? promote(again, answer.text) : ask_leader(again);
                         });
                       },
                   .fail = [](net::Call& later, const Error& error) { finish_with(later, error); }});
  }

  // False: etcd asks again, too.
  bool take_answer(net::Call& call, const net::HttpResponse& response) {
    const std::string_view body = response.bytes();
    const auto refuse_as = [&](const Error& error) {
      finish_with(call, error);
      return true;
    };
    constexpr int kOk = 200;
    constexpr int kNotFound = 404;
    constexpr int kPreconditionFailed = 412;
    if (response.status == kNotFound) return refuse_as(errors::member_not_found());
    if (response.status == kPreconditionFailed) {
      if (body.find(errors::learner_not_ready().message) != std::string_view::npos) {
        return refuse_as(errors::learner_not_ready());
      }
      if (body.find(kNotLearner) != std::string_view::npos) return refuse_as(errors::member_not_learner());
    }
    const auto members = cluster::parse_members(body);
    if (response.status != kOk || !members) return false;
    etcdserverpb::MemberPromoteResponse out;
    for (const cluster::Member& member : *members) add_member(out, member);
    call.reply(with_members(context_, out));
    return true;
  }

  static constexpr int64_t kAskAgainNs = 100'000'000;
  static constexpr std::string_view kNotLearner = "membership: can only promote a learner member";

  MemberChange change_;
  int64_t deadline_ns_ = 0;
  std::shared_ptr<LeaderCall> leader_call_;
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
