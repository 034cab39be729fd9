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
#include "proto/lease.pb.h"
#include "proto/rpc.pb.h"
#include "rpc/handler.h"
#include "rpc/leader_call.h"
#include "rpc/services/kv_service.h"
#include "rpc/services/state_service.h"
#include "rpc/unmarshal.h"
#include "tracing/tracer.h"

namespace cairn::rpc {
namespace {

using member::LeaseListed;
using member::LeaseRequest;

constexpr uint64_t kKeysInSlice = 5000;
constexpr size_t kSortedInline = 10'000;
constexpr size_t kRenewalsUnderWayMax = 100;  // of a stream; then it is read no further
constexpr size_t kRenewalsAskedMax = 4;       // of a stream, of another member that leads: each is a request to it
constexpr uint64_t kStatusBytesMax = 14;      // of one LeaseStatus in its list
constexpr uint64_t kKeyOverheadMax = 5;       // of one key in LeaseTimeToLiveResponse
// Of LeaseTimeToLiveResponse.
constexpr uint32_t kHeaderField = 1;
constexpr uint32_t kIdField = 2;
constexpr uint32_t kTtlField = 3;
constexpr uint32_t kGrantedTtlField = 4;
constexpr uint32_t kKeysField = 5;

member::LeaseKeyCount read_key_count(const CoreAnswer& answer) {
  member::LeaseKeyCount count;
  std::memcpy(&count, answer.text.data(), sizeof count);
  return count;
}

// A request to the leader, as other members send it.
net::HttpRequest leader_request(std::string path, const google::protobuf::MessageLite& message) {
  net::HttpRequest request;
  request.method = "POST";
  request.path = std::move(path);
  request.headers = {{"Content-Type", "application/protobuf"}};
  request.body = message.SerializeAsString();
  return request;
}
constexpr int kOk = 200;
constexpr int kNotFound = 404;  // there is no such lease

[[nodiscard]] bool is_for_leader(const CoreAnswer& answer) {
  return answer.code != Code::kOk && answer.text == errors::not_leader().message;
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
    if (const auto state = context_.enter(); state->auth->enabled() && !caller().is_member) {
      auto who = identify(call, *state);
      if (!who) return refuse(call, who.error());
      if (const Status known = state->auth->check_known(*who); !known) return refuse(call, known.error());
      renewer = std::make_shared<const auth::Identity>(*std::move(who));
    }
    waiting_.push_back({.id = request.id(), .who = renewer});
    if (trace() != nullptr) trace()->open("lease_renew", {{"id", int64_t{request.id()}}}, next_);
    LeaseRequest renewal{.kind = LeaseRequest::Kind::kRenew,
                         .id = request.id(),
                         .who = std::move(renewer),
                         .is_members = caller().is_member};
    const bool has_fault = CAIRN_FAULT_IS_ARMED("beforeCheckpointInLeaseRenew") ||
                           (caller().is_member && CAIRN_FAULT_IS_ARMED("beforeServeHTTPLeaseRenew"));
    if (has_fault) return renew_after_fault(call, std::move(renewal), next_++);
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
    std::string text = {};
    int64_t id = 0;  // of the lease
    std::shared_ptr<const auth::Identity> who = {};
    int64_t deadline_ns = 0;  // since it was first sent to a leader
    std::shared_ptr<LeaderCall> leader_call = {};
  };
  [[nodiscard]] Waiting& waiting(uint64_t number) { return waiting_[number - (next_ - waiting_.size())]; }

  void renew(net::Call& call, LeaseRequest renewal, uint64_t number) {
    context_.ask_leases(call, std::move(renewal), [this, number](net::Call& later, const CoreAnswer& answer) {
      if (failed_) return;
      const bool can_send_on = context_.peers() != nullptr && !caller().is_member;
      can_send_on&& is_for_leader(answer) ? send_on(later, number) : take(later, number, answer);
    });
  }

  // --- by the leader, which takes it that the client may

  // Some at a time, in their order. etcd asks for one after the other.
  void send_on(net::Call& call, uint64_t number) {
    to_ask_.push_back(number);
    ask_next(call);
  }
  void ask_next(net::Call& call) {
    while (!failed_ && asked_ < kRenewalsAskedMax && !to_ask_.empty()) {
      const uint64_t number = to_ask_.front();
      to_ask_.pop_front();
      ++asked_;
      admit_renewal(call, number);
    }
  }
  void note_asked(net::Call& call) {
    --asked_;
    ask_next(call);
  }

  void admit_renewal(net::Call& call, uint64_t number) {
    Waiting& one = waiting(number);
    if (one.deadline_ns == 0) one.deadline_ns = context_.clock().monotonic_ns() + context_.limits().request_timeout_ns;
    if (one.who == nullptr) return ask_leader(call, number);
    context_.ask_leases(call, {.kind = LeaseRequest::Kind::kMayRenew, .id = one.id, .who = one.who},
                        [this, number](net::Call& later, const CoreAnswer& answer) {
                          if (failed_) return;
                          if (answer.code == Code::kOk) return ask_leader(later, number);
                          note_asked(later);
                          take(later, number, answer);
                        });
  }

  void ask_leader(net::Call& call, uint64_t number) {
    Waiting& one = waiting(number);
    etcdserverpb::LeaseKeepAliveRequest request;
    request.set_id(one.id);
    // As etcd: the header is one from before, so that its revision is not that of the lease's end.
    mvcc::HeaderValues header;
    {
      const auto state = context_.enter();
      header = response_header(*state, context_.node(), state->kv.revision);
    }
    one.leader_call = LeaderCall::begin(
        context_,
        {.call = call.id(),
         .request = leader_request("/leases", request),
         .deadline_ns = one.deadline_ns,
         .take = [this, number, header](net::Call& later,
                                        const auto& response) { return take_renewal(later, number, header, response); },
         .lead =
             [this, number](net::Call& later) {
               const Waiting& again = waiting(number);
               renew(later, {.kind = LeaseRequest::Kind::kRenew, .id = again.id, .who = again.who}, number);
               note_asked(later);
             },
         .fail = [this, number](net::Call& later,
                                const Error& error) { take(later, number, {error.code, error.message}); }});
  }

  // False: etcd asks again, too.
  bool take_renewal(net::Call& call, uint64_t number, const mvcc::HeaderValues& header,
                    const net::HttpResponse& response) {
    if (failed_) return true;
    etcdserverpb::LeaseKeepAliveResponse said;
    if (response.status != kNotFound) {
      const std::string_view bytes = response.bytes();
      const bool is_read = response.status == kOk && said.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()));
      if (!is_read || said.id() != waiting(number).id) return false;
    }
    etcdserverpb::LeaseKeepAliveResponse out;
    out.set_id(waiting(number).id);
    out.set_ttl(said.ttl());
    note_asked(call);
    take(call, number, {Code::kOk, with_header(header, out)});
    return true;
  }

  // A sleep there holds up this renewal alone, as in etcd, and not the requests of others.
  void renew_after_fault(net::Call& call, LeaseRequest renewal, uint64_t number) {
    const auto reach = [is_member = caller().is_member](const Context::Slice&) -> std::optional<bool> {
      if (is_member) CAIRN_FAULT("beforeServeHTTPLeaseRenew");
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
    waiting_.push_back({.is_answered = true, .code = error.code, .text = error.message});
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
      waiting(number) = {.is_answered = true, .code = answer.code, .text = std::string(answer.text)};
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
  std::deque<uint64_t> to_ask_;  // numbers of those that another member is to be asked for
  size_t asked_ = 0;             // of it, at the moment
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
    id_ = request.id();
    wants_keys_ = request.keys();
    auto who = admit_known(call);
    if (!who) return;
    who_ = *std::move(who);
    if (!caller().is_member || !CAIRN_FAULT_IS_ARMED("beforeLookupWhenForwardLeaseTimeToLive")) return ask(call);
    const auto reach = [](const Context::Slice&) -> std::optional<bool> {
      CAIRN_FAULT("beforeLookupWhenForwardLeaseTimeToLive");
      return true;
    };
    context_.offload(call, Workers::Lane::kBackground, reach, [this](net::Call& later, bool) { ask(later); });
  }

  void ask(net::Call& call) {
    const int64_t id = id_;
    context_.ask_leases(call, {.kind = LeaseRequest::Kind::kTimeToLive, .wants_keys = wants_keys_, .id = id},
                        [this, id](net::Call& later, const CoreAnswer& answer) {
                          const bool can_send_on = context_.peers() != nullptr && !caller().is_member;
                          if (can_send_on && is_for_leader(answer)) return ask_leader(later);
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

  // --- another member, which leads

  void ask_leader(net::Call& call) {
    if (deadline_ns_ == 0) deadline_ns_ = context_.clock().monotonic_ns() + context_.limits().request_timeout_ns;
    leasepb::LeaseInternalRequest request;
    request.mutable_leasetimetoliverequest()->set_id(id_);
    request.mutable_leasetimetoliverequest()->set_keys(wants_keys_);
    leader_call_ = LeaderCall::begin(
        context_, {.call = call.id(),
                   .request = leader_request("/leases/internal", request),
                   .deadline_ns = deadline_ns_,
                   .take = [this](net::Call& later, const auto& response) { return take_answer(later, response); },
                   .lead = [this](net::Call& later) { ask(later); },
                   .fail = [](net::Call& later, const Error& error) { finish_with(later, error); }});
  }

  // False: etcd asks again, too.
  bool take_answer(net::Call& call, const net::HttpResponse& response) {
    std::string none;
    std::optional<std::string_view> said;
    if (response.status == kNotFound) {
      wire::append_varint_field(none, kIdField, static_cast<uint64_t>(id_));
      wire::append_varint_field(none, kTtlField, static_cast<uint64_t>(int64_t{-1}));
      said = none;
    } else if (response.status == kOk) {
      said = read_internal(response.bytes());
    }
    if (!said) return false;
    const auto state = context_.enter();
    if (const Status allowed = check_keys(*state->auth, *said); !allowed) {
      finish_with(call, allowed.error());
      return true;
    }
    if (!context_.admit(call, said->size())) return true;
    std::string out;
    mvcc::append_header(out, response_header(*state, context_.node(), state->kv.revision));
    out.append(*said);
    call.reply(out);
    return true;
  }

  // What a LeaseInternalResponse says of the lease, without the header: a view, because its keys may be very many, and
  // the loop has others to serve. nullopt: it is none, or of another lease.
  [[nodiscard]] std::optional<std::string_view> read_internal(std::string_view bytes) const {
    wire::Reader outer(bytes);
    std::string_view said;
    while (outer.next()) {
      if (outer.field() == 1) said = outer.bytes();
    }
    if (!outer.ok()) return std::nullopt;
    std::string_view rest = said;
    int64_t id = 0;
    wire::Reader in(said);
    for (bool is_first = true; in.next(); is_first = false) {
      switch (in.field()) {
        case kHeaderField:
          if (!is_first) return std::nullopt;
          rest.remove_prefix(static_cast<size_t>(in.bytes().end() - said.begin()));
          break;
        case kIdField: id = in.int64(); break;
        case kTtlField:
        case kGrantedTtlField: static_cast<void>(in.varint()); break;
        case kKeysField: static_cast<void>(in.bytes()); break;
        default: break;
      }
    }
    return in.ok() && id == id_ ? std::optional(rest) : std::nullopt;
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
    if (!rules.enabled() || caller().is_member || rules.is_root(who_)) return {};
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
      bool is_checked;
      std::optional<mvcc::IndexRoot> root{};
      member::PublishedDomain::Pin pin{};
      std::string last{};  // looked at
    };
    auto walk = std::make_shared<Walk>(Walk{id, std::move(response), who_, !caller().is_member});
    context_.offload(
        call, Workers::Lane::kLong,
        [walk](const Context::Slice& slice) -> std::optional<Result<std::string>> {
          const auto state = slice.reader.enter();
          const bool is_first = !walk->root;
          const bool is_checked = walk->is_checked && state->auth->enabled() && !state->auth->is_root(walk->who);
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

  int64_t id_ = 0;
  bool wants_keys_ = false;
  auth::Identity who_;
  int64_t deadline_ns_ = 0;  // since it was first sent to a leader
  std::shared_ptr<LeaderCall> leader_call_;
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
