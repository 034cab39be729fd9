#include "rpc/services/lease_service.h"

#include <algorithm>
#include <cstring>
#include <deque>
#include <utility>

#include "base/errors.h"
#include "base/fault.h"
#include "member/quota.h"
#include "member/requests.h"
#include "member/stages.h"
#include "mvcc/index/index.h"
#include "mvcc/kv/range.h"
#include "mvcc/kv/txn.h"
#include "proto/rpc.pb.h"
#include "rpc/handler.h"
#include "rpc/services/kv_service.h"
#include "rpc/unmarshal.h"
#include "tracing/tracer.h"

namespace cairn::rpc {
namespace {

using member::LeaseListed;
using member::LeaseRequest;

constexpr uint64_t kKeysInSlice = 5000;
constexpr size_t kSortedInline = 10'000;
constexpr size_t kRenewalsUnderWayMax = 1000;  // of a stream; then it is read no further
constexpr uint64_t kStatusBytesMax = 14;       // of one LeaseStatus in its list
constexpr uint64_t kKeyOverheadMax = 5;        // of one key in LeaseTimeToLiveResponse
constexpr uint32_t kKeysField = 5;             // of LeaseTimeToLiveResponse

member::LeaseKeyCount read_key_count(const CoreAnswer& answer) {
  member::LeaseKeyCount count;
  std::memcpy(&count, answer.text.data(), sizeof count);
  return count;
}

[[nodiscard]] Status may_see(const auth::Rules& rules, const auth::Identity& who, std::string_view key) {
  return rules.permits(who, auth::Wants::kRead, {key, {}});
}

class GrantHandler final : public OneRequestHandler {
 public:
  using OneRequestHandler::OneRequestHandler;

 private:
  void on_request(net::Call& call, std::string_view message) override {
    etcdserverpb::LeaseGrantRequest request;
    if (const Status parsed = unmarshal(message, request); !parsed) return finish_with(call, parsed.error());
    if (!within_quota(call, context_, member::kLeaseCost)) return;
    member::LeaseGrantBody body{.id = request.id(), .ttl = request.ttl()};
    while (body.id == 0) body.id = static_cast<int64_t>(context_.node().next_request_id() & INT64_MAX);
    if (trace() != nullptr) trace()->open("lease_grant", {{"id", body.id}, {"ttl", body.ttl}});
    auto who = admit_known(call);
    if (!who) return;
    context_.propose(call, member::RequestKind::kLeaseGrant, member::encode_lease_grant(body),
                     {.space = member::kLeaseCost, .who = *std::move(who)});
  }
};

class RevokeHandler final : public OneRequestHandler {
 public:
  using OneRequestHandler::OneRequestHandler;

 private:
  void on_request(net::Call& call, std::string_view message) override {
    etcdserverpb::LeaseRevokeRequest request;
    if (const Status parsed = unmarshal(message, request); !parsed) return finish_with(call, parsed.error());
    const int64_t id = request.id();
    if (trace() != nullptr) trace()->open("lease_revoke", {{"id", id}});
    auto who = admit_known(call);
    if (!who) return;
    who_ = *std::move(who);
    if (!context_.enter()->has_large_lease) return revoke(call, id);
    // As a delete of many keys: what it writes must fit into the db.
    context_.ask_leases(call, {.kind = LeaseRequest::Kind::kCountKeys, .id = id},
                        [this, id](net::Call& later, const CoreAnswer& answer) {
                          if (answer.code != Code::kOk) return later.finish(answer.code, answer.text);
                          const auto count = read_key_count(answer);
                          if (context_.node().admit_deletes({count.keys, count.key_bytes})) return revoke(later, id);
                          finish_with(later, errors::no_space());
                        });
  }

  void revoke(net::Call& call, int64_t id) {
    context_.propose(call, member::RequestKind::kLeaseRevoke, member::encode_lease_revoke(id), {.who = who_});
  }

  auth::Identity who_;
};

// Answers in the order of the requests: one that waits for a revoke holds up those behind it, as with etcd, which asks
// for one after the other.
class KeepAliveHandler final : public Handler {
 public:
  using Handler::Handler;

  [[nodiscard]] bool takes_more() const override { return waiting_.size() < kRenewalsUnderWayMax; }

  void on_message(net::Call& call, std::string_view message) override {
    if (failed_) return;
    etcdserverpb::LeaseKeepAliveRequest request;
    if (const Status parsed = unmarshal(message, request, Answer::kStream); !parsed) {
      return refuse(call, parsed.error());
    }
    std::shared_ptr<const auth::Identity> renewer;
    if (const auto state = context_.enter(); state->auth->enabled()) {
      auto who = identify(call, *state);
      if (!who) return refuse(call, who.error());
      if (const Status known = state->auth->check_known(*who); !known) return refuse(call, known.error());
      renewer = std::make_shared<const auth::Identity>(*std::move(who));
    }
    waiting_.emplace_back();
    if (trace() != nullptr) trace()->open("lease_renew", {{"id", int64_t{request.id()}}}, next_);
    LeaseRequest renewal{.kind = LeaseRequest::Kind::kRenew, .id = request.id(), .who = std::move(renewer)};
    if (CAIRN_FAULT_IS_ARMED("beforeCheckpointInLeaseRenew"))
      return renew_after_fault(call, std::move(renewal), next_++);
    renew(call, std::move(renewal), next_++);
  }

  void on_half_close(net::Call& call) override {
    has_ended_ = true;
    go_on(call);
  }

 private:
  struct Waiting {
    bool is_answered = false;
    Code code = Code::kOk;
    std::string text;
  };

  void renew(net::Call& call, LeaseRequest renewal, uint64_t number) {
    context_.ask_leases(call, std::move(renewal),
                        [this, number](net::Call& later, const CoreAnswer& answer) { take(later, number, answer); });
  }

  // A sleep there holds up this renewal alone, as in etcd, and not the requests of others.
  void renew_after_fault(net::Call& call, LeaseRequest renewal, uint64_t number) {
    const auto reach = [](const Context::Slice&) -> std::optional<bool> {
      CAIRN_FAULT("beforeCheckpointInLeaseRenew");
      return true;
    };
    context_.offload(
        call, Workers::Lane::kBackground, reach,
        [this, renewal = std::move(renewal), number](net::Call& later, bool) { renew(later, renewal, number); });
  }

  // In its turn.
  void refuse(net::Call& call, const Error& error) {
    ++next_;
    waiting_.push_back({true, error.code, error.message});
    go_on(call);
  }

  void take(net::Call& call, uint64_t number, const CoreAnswer& answer) {
    if (failed_) return;
    if (trace() != nullptr) trace()->close(number);
    const uint64_t first = next_ - waiting_.size();
    if (number == first && answer.code == Code::kOk) {  // nearly always
      call.send(answer.text);
      waiting_.pop_front();
    } else {
      waiting_[number - first] = {true, answer.code, std::string(answer.text)};
    }
    go_on(call);
  }

  void go_on(net::Call& call) {
    while (!waiting_.empty() && waiting_.front().is_answered) {
      const Waiting first = std::move(waiting_.front());
      waiting_.pop_front();
      if (first.code != Code::kOk) {
        failed_ = true;
        return call.finish(first.code, first.text);
      }
      call.send(first.text);
    }
    if (has_ended_ && waiting_.empty()) call.finish();
  }

  std::deque<Waiting> waiting_;  // for their answers, or for those before them
  uint64_t next_ = 0;            // number of the next request
  bool has_ended_ = false;       // the client sends no more
  bool failed_ = false;
};

class TimeToLiveHandler final : public OneRequestHandler {
 public:
  using OneRequestHandler::OneRequestHandler;

 private:
  void on_request(net::Call& call, std::string_view message) override {
    etcdserverpb::LeaseTimeToLiveRequest request;
    if (const Status parsed = unmarshal(message, request); !parsed) return finish_with(call, parsed.error());
    const int64_t id = request.id();
    auto who = admit_known(call);
    if (!who) return;
    who_ = *std::move(who);
    context_.ask_leases(call, {.kind = LeaseRequest::Kind::kTimeToLive, .wants_keys = request.keys(), .id = id},
                        [this, id](net::Call& later, const CoreAnswer& answer) {
                          if (answer.code != Code::kOk) return later.finish(answer.code, answer.text);
                          const auto to_come = static_cast<member::LeaseKeysToCome>(answer.text.front());
                          const std::string_view response = answer.text.substr(1);
                          if (to_come == member::LeaseKeysToCome::kInIndex) {
                            return make_room(later, id, std::string(response));
                          }
                          const Status allowed = check_keys(*context_.enter()->auth, response);
                          allowed ? later.reply(response) : finish_with(later, allowed.error());
                        });
  }

  void make_room(net::Call& call, int64_t id, std::string response) {
    context_.ask_leases(call, {.kind = LeaseRequest::Kind::kCountKeys, .id = id},
                        [this, id, response = std::move(response)](net::Call& later, const CoreAnswer& answer) {
                          if (answer.code != Code::kOk) return later.finish(answer.code, answer.text);
                          const auto count = read_key_count(answer);
                          const uint64_t bytes = response.size() + count.key_bytes + count.keys * kKeyOverheadMax;
                          if (context_.admit(later, bytes)) find_keys(later, id, response);
                        });
  }

  // CVE-2023-32082: the names of keys are for those who may read the keys. What is shown is what is checked.
  [[nodiscard]] Status check_keys(const auth::Rules& rules, std::string_view response) const {
    if (!rules.enabled() || rules.is_root(who_)) return {};
    wire::Reader in(response);
    while (in.next()) {
      if (in.field() == kKeysField) CAIRN_CHECK(may_see(rules, who_, in.bytes()));
    }
    return {};
  }

  // Of a lease with many keys: all that name it, in one state of the index. On a worker, since all keys are looked at.
  void find_keys(net::Call& call, int64_t id, std::string response) {
    struct Walk {
      int64_t id;
      std::string response;
      auth::Identity who;
      std::optional<mvcc::IndexRoot> root{};
      member::PublishedDomain::Pin pin{};
      std::string last{};  // looked at
    };
    auto walk = std::make_shared<Walk>(Walk{id, std::move(response), who_});
    context_.offload(
        call, Workers::Lane::kLong,
        [walk](const Context::Slice& slice) -> std::optional<Result<std::string>> {
          const auto state = slice.reader.enter();
          const bool is_first = !walk->root;
          const bool is_checked = state->auth->enabled() && !state->auth->is_root(walk->who);
          if (is_first) {
            walk->root = state->kv.root;
            walk->pin = state.pin(state->kv.revision);
          }
          mvcc::IndexCursor cursor(*walk->root, {});
          is_first ? cursor.seek_first() : cursor.seek_after(walk->last);
          for (uint64_t left = kKeysInSlice; cursor.valid(); cursor.next()) {
            if (cursor.at().lease == walk->id) {
              const Status allowed = is_checked ? may_see(*state->auth, walk->who, cursor.key()) : Status();
              if (!allowed) return std::unexpected(allowed.error());
              wire::append_bytes_field(walk->response, kKeysField, cursor.key());
            }
            if (--left > 0) continue;
            walk->last = cursor.key();
            return std::nullopt;
          }
          walk->pin.release();
          return std::move(walk->response);
        },
        [](net::Call& later, const Result<std::string>& whole) {
          whole ? later.reply(*whole) : finish_with(later, whole.error());
        });
  }

  auth::Identity who_;
};

class LeasesHandler final : public OneRequestHandler {
 public:
  using OneRequestHandler::OneRequestHandler;

 private:
  void on_request(net::Call& call, std::string_view message) override {
    etcdserverpb::LeaseLeasesRequest request;
    if (const Status parsed = unmarshal(message, request); !parsed) return finish_with(call, parsed.error());
    auto who = admit_known(call);
    if (!who) return;
    who_ = *std::move(who);
    context_.lease_lists().wait(call, [this](net::Call& later) {
      has_turn_ = true;
      ask(later, 0);
    });
  }
  void on_end(net::Call& call) override {
    give_turn_back();
    OneRequestHandler::on_end(call);
  }
  void give_turn_back() {
    if (std::exchange(has_turn_, false)) context_.lease_lists().give_back();
  }

  // A part at a time, so that a million leases do not hold up the core. What is there all the while is in the list.
  void ask(net::Call& call, uint64_t first) {
    context_.ask_leases(call, {.kind = LeaseRequest::Kind::kList, .first = first},
                        [this](net::Call& later, const CoreAnswer& answer) {
                          if (answer.code != Code::kOk) return later.finish(answer.code, answer.text);
                          take(later, answer.text);
                        });
  }

  void take(net::Call& call, std::string_view part) {
    uint64_t next = 0;
    std::memcpy(&next, part.data(), sizeof next);
    part.remove_prefix(sizeof next);
    const size_t before = found_.size();
    const size_t count = part.size() / sizeof(LeaseListed::One);
    if (!context_.admit(call, count * (sizeof(LeaseListed::One) + kStatusBytesMax))) return;
    found_.resize(before + count);
    if (count > 0) std::memcpy(found_.data() + before, part.data(), part.size());
    if (next != 0) return ask(call, next);
    give_turn_back();
    const auto state = context_.enter();
    if (!state->auth->enabled() || state->auth->is_root(who_)) return answer(call);
    check_keys(call);
  }

  // A list of leases is for those who may read all keys that are attached to any. One state of the index says which
  // these are; it is newer than the list.
  void check_keys(net::Call& call) {
    struct Walk {
      auth::Identity who;
      std::optional<mvcc::IndexRoot> root{};
      member::PublishedDomain::Pin pin{};
      std::string last{};  // looked at
    };
    auto walk = std::make_shared<Walk>(Walk{who_});
    context_.offload(
        call, Workers::Lane::kLong,
        [walk](const Context::Slice& slice) -> std::optional<Status> {
          const auto state = slice.reader.enter();
          const bool is_first = !walk->root;
          if (is_first) {
            walk->root = state->kv.root;
            walk->pin = state.pin(state->kv.revision);
          }
          mvcc::IndexCursor cursor(*walk->root, {});
          is_first ? cursor.seek_first() : cursor.seek_after(walk->last);
          for (uint64_t left = kKeysInSlice; cursor.valid(); cursor.next()) {
            if (cursor.at().lease != 0 && state->auth->enabled()) {
              Status allowed = may_see(*state->auth, walk->who, cursor.key());
              if (!allowed) return allowed;
            }
            if (--left > 0) continue;
            walk->last = cursor.key();
            return std::nullopt;
          }
          return Status{};
        },
        [this](net::Call& later, const Status& allowed) {
          allowed ? answer(later) : finish_with(later, allowed.error());
        });
  }

  void answer(net::Call& call) {
    const auto state = context_.enter();
    const mvcc::HeaderValues header = response_header(*state, context_.node(), state->kv.revision);
    if (found_.size() <= kSortedInline) return call.reply(response(header, found_));
    context_.offload(
        call, Workers::Lane::kLong,
        [header, found = std::make_shared<std::vector<LeaseListed::One>>(std::move(found_))](const Context::Slice&) {
          return std::optional(response(header, *found));
        },
        [](net::Call& later, const std::string& whole) { later.reply(whole); });
  }

  // In the order in which they end. One that was revoked and granted again between two parts is there twice.
  static std::string response(const mvcc::HeaderValues& header, std::vector<LeaseListed::One>& leases) {
    std::sort(leases.begin(), leases.end(), [](const LeaseListed::One& a, const LeaseListed::One& b) {
      return std::pair(a.id, b.deadline_ns) < std::pair(b.id, a.deadline_ns);
    });
    const auto same = [](const LeaseListed::One& a, const LeaseListed::One& b) { return a.id == b.id; };
    leases.erase(std::unique(leases.begin(), leases.end(), same), leases.end());
    std::sort(leases.begin(), leases.end(), [](const LeaseListed::One& a, const LeaseListed::One& b) {
      return std::pair(a.deadline_ns, a.id) < std::pair(b.deadline_ns, b.id);
    });
    std::string out;
    out.reserve(mvcc::header_size(header) + 8 + leases.size() * kStatusBytesMax);
    mvcc::append_header(out, header);
    for (const LeaseListed::One& one : leases) {
      const auto id = static_cast<uint64_t>(one.id);
      wire::append_varint(out, wire::tag(2, wire::Type::kBytes));
      wire::append_varint(out, wire::varint_field_size(1, id));
      wire::append_varint_field(out, 1, id);
    }
    return out;
  }

  auth::Identity who_;
  bool has_turn_ = false;
  std::vector<LeaseListed::One> found_;
};

}  // namespace

std::unique_ptr<net::CallHandler> make_lease_grant(Context& context, const Method& method, const Caller& caller) {
  return make_handler<GrantHandler>(context, method, caller);
}
std::unique_ptr<net::CallHandler> make_lease_revoke(Context& context, const Method& method, const Caller& caller) {
  return make_handler<RevokeHandler>(context, method, caller);
}
std::unique_ptr<net::CallHandler> make_lease_keep_alive(Context& context, const Method& method, const Caller& caller) {
  return make_handler<KeepAliveHandler>(context, method, caller);
}
std::unique_ptr<net::CallHandler> make_lease_time_to_live(Context& context, const Method& method,
                                                          const Caller& caller) {
  return make_handler<TimeToLiveHandler>(context, method, caller);
}
std::unique_ptr<net::CallHandler> make_lease_leases(Context& context, const Method& method, const Caller& caller) {
  return make_handler<LeasesHandler>(context, method, caller);
}

}  // namespace cairn::rpc
