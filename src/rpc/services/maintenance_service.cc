#include "rpc/services/maintenance_service.h"

#include <chrono>

#include "base/bytes.h"
#include "base/errors.h"
#include "base/go_duration.h"
#include "base/log.h"
#include "cluster/versions.h"
#include "member/quota.h"
#include "proto/raft_internal.pb.h"
#include "rpc/handler.h"
#include "rpc/services/kv_service.h"
#include "rpc/services/state_service.h"
#include "rpc/unmarshal.h"

namespace cairn::rpc {
namespace {

// "memberID:1 alarm:NOSPACE", as protobuf's text form has it: zeros are left out.
std::string alarm_text(const member::Alarm& alarm) {
  std::string out;
  if (alarm.member_id != 0) out = fmt::format("memberID:{}", alarm.member_id);
  if (alarm.type == 0) return out;
  return out + fmt::format("{}alarm:{}", out.empty() ? "" : " ", member::alarm_name(alarm.type));
}

class StatusHandler final : public OneRequestHandler {
 public:
  using OneRequestHandler::OneRequestHandler;

 private:
  void on_request(net::Call& call, std::string_view message) override {
    etcdserverpb::StatusRequest request;
    if (const Status parsed = unmarshal(message, request); !parsed) return reject_with(call, parsed.error());
    if (!admit_known(call)) return;
    const auto state = context_.enter();
    etcdserverpb::StatusResponse response;
    response.set_version(std::string(cluster::kEtcdVersion));
    response.set_dbsize(static_cast<int64_t>(state->db_total_bytes));
    response.set_dbsizeinuse(static_cast<int64_t>(state->db_in_use_bytes));
    response.set_dbsizequota(context_.limits().quota_configured);
    response.set_leader(state->leader.leader.value);
    response.set_raftindex(context_.node().committed().value);
    response.set_raftterm(state->leader.term.value);
    response.set_raftappliedindex(state->applied.value);
    response.set_storageversion(state->storage_version);
    response.mutable_downgradeinfo()->set_enabled(state->members->downgrade.enabled);
    response.mutable_downgradeinfo()->set_targetversion(state->members->downgrade.target_version);
    const auto* const self = state->members->find(NodeId(context_.node().member_id()));
    response.set_islearner(self != nullptr && self->is_learner);
    if (state->leader.leader == raft::kNoNode) response.add_errors(errors::no_leader().message);
    for (const member::Alarm& alarm : *state->alarms) response.add_errors(alarm_text(alarm));
    call.reply(with_header(response_header(*state, context_.node(), state->kv.revision), response));
  }
};

class AlarmHandler final : public OneRequestHandler {
 public:
  using OneRequestHandler::OneRequestHandler;

 private:
  void on_request(net::Call& call, std::string_view message) override {
    etcdserverpb::InternalRaftRequest request;
    if (const Status parsed = unmarshal(message, *request.mutable_alarm()); !parsed) {
      return reject_with(call, parsed.error());
    }
    const bool asks = request.alarm().action() == etcdserverpb::AlarmRequest::GET;
    const auto who = asks ? admit_known(call) : admit_root(call);
    if (!who) return;
    request.DiscardUnknownFields();  // etcd up to 3.6 ends when the log holds a known one of another wire type
    set_header(request, *who);
    context_.propose_other(call, request.SerializeAsString());
  }
};

// Nobody but the caller waits for it. Who stops waiting leaves it to go on.
class DefragmentHandler final : public OneRequestHandler {
 public:
  using OneRequestHandler::OneRequestHandler;

 private:
  void on_request(net::Call& call, std::string_view message) override {
    etcdserverpb::DefragmentRequest request;
    if (const Status parsed = unmarshal(message, request); !parsed) return reject_with(call, parsed.error());
    if (!admit_root(call)) return;
    log::info("starting defragment");
    began_ns_ = context_.clock().monotonic_ns();
    in_flight_.emplace(context_.node().metrics().defrag_inflight);
    serving_.emplace(context_.serving());
    context_.when_defragmented(call, [this](net::Call& later, const Error* error) {
      serving_.reset();
      if (error != nullptr) {
        log::warn("failed to defragment", {{"error", error->message}});
        return finish_with(later, *error);
      }
      const int64_t took_ns = context_.clock().monotonic_ns() - began_ns_;
      context_.node().metrics().defrag.observe(static_cast<uint64_t>(std::max<int64_t>(0, took_ns)));
      log::info("finished defragment");
      later.reply("");  // etcd's has no header
    });
  }

  int64_t began_ns_ = 0;
  // Until the answer, or until the caller stops waiting.
  struct NotServing {
    explicit NotServing(ServingStatus& status) : status_(status) { status_.defragment_began(); }
    ~NotServing() { status_.defragment_ended(); }
    NotServing(const NotServing&) = delete;
    NotServing& operator=(const NotServing&) = delete;

   private:
    ServingStatus& status_;
  };
  std::optional<metrics::Held> in_flight_;
  std::optional<NotServing> serving_;
};

class MoveLeaderHandler final : public OneRequestHandler {
 public:
  using OneRequestHandler::OneRequestHandler;

 private:
  void on_request(net::Call& call, std::string_view message) override {
    etcdserverpb::MoveLeaderRequest request;
    if (const Status parsed = unmarshal(message, request); !parsed) return reject_with(call, parsed.error());
    if (!admit_root(call)) return;
    const NodeId self(context_.node().member_id());
    target_ = NodeId(request.targetid());
    bool is_voter = false;
    {
      const auto state = context_.enter();
      if (state->leader.leader != self) return finish_with(call, errors::not_leader());
      const cluster::Member* const member = state->members->find(target_);
      is_voter = member != nullptr && !member->is_learner;
    }
    if (!is_voter) return finish_with(call, errors::bad_leader_transferee());
    log::info("leadership transfer starting", {{"local-member-id", hex_id(self.value)},
                                               {"current-leader-member-id", hex_id(self.value)},
                                               {"transferee-member-id", hex_id(target_.value)}});
    began_ns_ = context_.clock().monotonic_ns();
    if (target_ == self) return answer(call);
    context_.move_leader(call, target_, [this](net::Call& later, const CoreAnswer& outcome) {
      outcome.code == Code::kOk ? answer(later) : later.finish(outcome.code, outcome.text);
    });
  }

  void answer(net::Call& call) {
    const std::string id = hex_id(context_.node().member_id());
    const int64_t took_ns =
        target_.value == context_.node().member_id() ? 0 : context_.clock().monotonic_ns() - began_ns_;
    log::info("leadership transfer finished", {{"local-member-id", id},
                                               {"old-leader-member-id", id},
                                               {"new-leader-member-id", hex_id(target_.value)},
                                               {"took", go_duration(std::chrono::nanoseconds(took_ns))}});
    call.reply("");  // etcd's has no header
  }

  NodeId target_;
  int64_t began_ns_ = 0;
};

class DowngradeHandler final : public OneRequestHandler {
 public:
  using OneRequestHandler::OneRequestHandler;

 private:
  void on_request(net::Call& call, std::string_view message) override {
    etcdserverpb::DowngradeRequest request;
    if (const Status parsed = unmarshal(message, request); !parsed) return reject_with(call, parsed.error());
    if (!admit_root(call)) return;
    switch (request.action()) {
      case etcdserverpb::DowngradeRequest::VALIDATE:
        return check(call, request.version(), [this](net::Call& later, const Error* error) {
          error != nullptr ? finish_with(later, *error) : answer(later);
        });
      case etcdserverpb::DowngradeRequest::ENABLE:
        return check(call, request.version(), [this](net::Call& later, const Error* error) {
          error != nullptr ? reject(later, *error) : set(later, target_.text());
        });
      case etcdserverpb::DowngradeRequest::CANCEL: return cancel(call);
      default: call.finish(Code::kUnknown, "etcdserver: unknown method");
    }
  }

  void check(net::Call& call, const std::string& version, Context::Continuation then) {
    const auto target = cluster::parse_target_version(version);
    if (!target) {
      const Error error = errors::wrong_downgrade_version_format();
      return then(call, &error);
    }
    target_ = *target;
    context_.when_linearizable(call, [this, then = std::move(then)](net::Call& later, const Error* error) {
      if (error != nullptr) return then(later, error);
      const auto refused = refusal();
      then(later, refused ? &*refused : nullptr);
    });
  }

  std::optional<Error> refusal() {
    const auto state = context_.enter();
    const auto version = cluster::parse_version(state->members->version);
    if (!version) return errors::cluster_version_unavailable();
    if (target_ != version->one_lower()) return errors::invalid_downgrade_target_version();
    if (state->members->downgrade.enabled) return errors::downgrade_in_process();
    // compat: etcd also enables a downgrade of a cluster of an older version by one more. It never comes about, since
    // the servers are too new for it.
    if (target_ != cluster::kOwnVersion.one_lower()) return errors::invalid_downgrade_target_version();
    return std::nullopt;
  }

  static void reject(net::Call& call, const Error& error) {
    log::warn("reject downgrade request", {{"error", error.message}});
    finish_with(call, error);
  }

  // An empty `version` ends the downgrade.
  void set(net::Call& call, const std::string& version) {
    etcdserverpb::InternalRaftRequest request;
    request.mutable_header()->set_id(context_.node().next_request_id());
    request.mutable_downgrade_info_set()->set_enabled(!version.empty());
    request.mutable_downgrade_info_set()->set_ver(version);
    const bool cancels = version.empty();
    context_.propose_other(call, request.SerializeAsString(),
                           {.then = [this, cancels](net::Call& later, const CoreAnswer& outcome) {
                             if (outcome.code == Code::kOk) return answer(later);
                             const Error error{outcome.code, std::string(outcome.text)};
                             cancels ? pass_over(later, error) : reject(later, error);
                           }});
  }

  // As etcd: a cancellation never fails.
  void cancel(net::Call& call) {
    context_.when_linearizable(call, [this](net::Call& later, const Error* error) {
      if (error != nullptr) return pass_over(later, *error);
      if (!context_.enter()->members->downgrade.enabled) return pass_over(later, errors::no_inflight_downgrade());
      set(later, "");
    });
  }
  void pass_over(net::Call& call, const Error& error) {
    log::warn("failed to cancel downgrade", {{"error", error.message}});
    answer(call);
  }

  void answer(net::Call& call) {
    const auto state = context_.enter();
    etcdserverpb::DowngradeResponse response;
    response.set_version(cluster::short_version(state->members->version));
    call.reply(with_header(response_header(*state, context_.node(), state->kv.revision), response));
  }

  cluster::MinorVersion target_;
};

}  // namespace

std::unique_ptr<net::CallHandler> make_status(Context& context, const Method& method, const Caller& caller) {
  return make_handler<StatusHandler>(context, method, caller);
}
std::unique_ptr<net::CallHandler> make_alarm(Context& context, const Method& method, const Caller& caller) {
  return make_handler<AlarmHandler>(context, method, caller);
}

std::unique_ptr<net::CallHandler> make_defragment(Context& context, const Method& method, const Caller& caller) {
  return make_handler<DefragmentHandler>(context, method, caller);
}
std::unique_ptr<net::CallHandler> make_move_leader(Context& context, const Method& method, const Caller& caller) {
  return make_handler<MoveLeaderHandler>(context, method, caller);
}
std::unique_ptr<net::CallHandler> make_downgrade(Context& context, const Method& method, const Caller& caller) {
  return make_handler<DowngradeHandler>(context, method, caller);
}

}  // namespace cairn::rpc
