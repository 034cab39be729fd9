#include "rpc/services/election_service.h"

#include <optional>
#include <utility>

#include "proto/v3election.pb.h"
#include "rpc/services/contest.h"
#include "rpc/unmarshal.h"

namespace cairn::rpc {
namespace {

constexpr uint64_t kObserverBytesMax = 64 << 10;  // that wait for it before it is told more

Error no_leader_key() { return {Code::kUnknown, R"("leader" field must be provided)"}; }
Error not_leader() { return {Code::kUnknown, "election: not leader"}; }
Error no_leader() { return {Code::kUnknown, "election: no leader"}; }

v3electionpb::LeaderResponse leader_response(const etcdserverpb::ResponseHeader& header, const mvccpb::KeyValue& kv) {
  v3electionpb::LeaderResponse response;
  *response.mutable_header() = header;
  *response.mutable_kv() = kv;
  return response;
}

// A transaction that gives `leader` the value if it still leads.
etcdserverpb::TxnRequest proclamation(const v3electionpb::LeaderKey& leader, const std::string& value) {
  etcdserverpb::TxnRequest txn;
  add_created_at(txn, leader.key(), leader.rev());
  add_put(txn, leader.key(), value, leader.lease());
  return txn;
}

// A lease that campaigns a second time keeps its key, which gets the new value.
class CampaignHandler final : public ContestHandler {
 public:
  using ContestHandler::ContestHandler;

  // compat: the key goes with the identity of the call; etcd deletes it as nobody, which fails while auth is on.
  void on_end(net::Call& ended) override {
    if (step_ == Step::kWaits) leave(kTxnPath, delete_if_created_at(leader_.key(), leader_.rev()));
    ContestHandler::on_end(ended);
  }

 private:
  enum class Step : uint8_t {
    kEnters,     // or is over
    kProclaims,  // the new value of a key that was there
    kWaits,
    kResigns,  // after a proclamation that failed
  };

  void on_request(net::Call& call, std::string_view message) override {
    v3electionpb::CampaignRequest request;
    if (const Status parsed = unmarshal(message, request); !parsed) return reject_with(call, parsed.error());
    leader_.set_name(request.name());
    with_lease(request.lease(), [this, value = request.value()](int64_t lease) { enter(lease, value); });
  }

  void enter(int64_t lease, const std::string& value) {
    leader_.set_lease(lease);
    leader_.set_key(contest_key(leader_.name(), lease));
    etcdserverpb::TxnRequest txn;
    add_created_at(txn, leader_.key(), 0);
    add_put(txn, leader_.key(), value, lease);
    *txn.add_failure()->mutable_request_range() = single_key(leader_.key());
    ask<etcdserverpb::TxnResponse>(kTxnPath, txn, [this, value](const etcdserverpb::TxnResponse& entered) {
      header_ = entered.header();
      leader_.set_rev(header_.revision());
      if (entered.succeeded()) return wait();
      const mvccpb::KeyValue& own = entered.responses(0).response_range().kvs(0);
      leader_.set_rev(own.create_revision());
      own.value() == value ? wait() : proclaim(value);
    });
  }

  void proclaim(const std::string& value) {
    step_ = Step::kProclaims;
    ask<etcdserverpb::TxnResponse>(kTxnPath, proclamation(leader_, value),
                                   [this](const etcdserverpb::TxnResponse& proclaimed) {
                                     proclaimed.succeeded() ? wait() : finish_with(outer(), not_leader());
                                   });
  }

  void wait() {
    step_ = Step::kWaits;
    wait_for_earlier(contest_prefix(leader_.name()), leader_.rev() - 1);
  }

  void on_first() override {
    step_ = Step::kEnters;
    v3electionpb::CampaignResponse response;
    *response.mutable_header() = header_;
    *response.mutable_leader() = leader_;
    outer().reply(response.SerializeAsString());
  }

  // As etcd: a campaign that cannot wait any more leaves its key to the lease.
  void on_refused(const Error& error) override {
    const Step failed = std::exchange(step_, Step::kEnters);
    if (failed == Step::kResigns) return finish_with(outer(), *failure_);
    if (failed != Step::kProclaims) return finish_with(outer(), error);
    failure_ = error;
    step_ = Step::kResigns;
    ask<etcdserverpb::TxnResponse>(kTxnPath, delete_if_created_at(leader_.key(), leader_.rev()),
                                   [this](const etcdserverpb::TxnResponse&) { finish_with(outer(), *failure_); });
  }

  v3electionpb::LeaderKey leader_;
  etcdserverpb::ResponseHeader header_;
  Step step_ = Step::kEnters;
  std::optional<Error> failure_;
};

class ProclaimHandler final : public ContestHandler {
 public:
  using ContestHandler::ContestHandler;

 private:
  void on_request(net::Call& call, std::string_view message) override {
    if (const Status parsed = unmarshal(message, request_); !parsed) return reject_with(call, parsed.error());
    if (!request_.has_leader()) return finish_with(call, no_leader_key());
    with_lease(request_.leader().lease(), [this](int64_t lease) { proclaim(lease); });
  }

  void proclaim(int64_t lease) {
    request_.mutable_leader()->set_lease(lease);
    ask<etcdserverpb::TxnResponse>(kTxnPath, proclamation(request_.leader(), request_.value()),
                                   [this](const etcdserverpb::TxnResponse& proclaimed) {
                                     if (!proclaimed.succeeded()) return finish_with(outer(), not_leader());
                                     v3electionpb::ProclaimResponse response;
                                     *response.mutable_header() = proclaimed.header();
                                     outer().reply(response.SerializeAsString());
                                   });
  }

  v3electionpb::ProclaimRequest request_;
};

class ResignHandler final : public ContestHandler {
 public:
  using ContestHandler::ContestHandler;

 private:
  void on_request(net::Call& call, std::string_view message) override {
    v3electionpb::ResignRequest request;
    if (const Status parsed = unmarshal(message, request); !parsed) return reject_with(call, parsed.error());
    if (!request.has_leader()) return finish_with(call, no_leader_key());
    with_lease(request.leader().lease(), [this, leader = request.leader()](int64_t) { resign(leader); });
  }

  // Whoever does not lead has nothing to give up.
  void resign(const v3electionpb::LeaderKey& leader) {
    ask<etcdserverpb::TxnResponse>(kTxnPath, delete_if_created_at(leader.key(), leader.rev()),
                                   [this](const etcdserverpb::TxnResponse& resigned) {
                                     v3electionpb::ResignResponse response;
                                     *response.mutable_header() = resigned.header();
                                     outer().reply(response.SerializeAsString());
                                   });
  }
};

class LeaderHandler final : public SteppedHandler {
 public:
  using SteppedHandler::SteppedHandler;

 private:
  void on_request(net::Call& call, std::string_view message) override {
    v3electionpb::LeaderRequest request;
    if (const Status parsed = unmarshal(message, request); !parsed) return reject_with(call, parsed.error());
    ask<etcdserverpb::RangeResponse>(kRangePath, first_created(contest_prefix(request.name())),
                                     [this](const etcdserverpb::RangeResponse& found) {
                                       if (found.kvs().empty()) return finish_with(outer(), no_leader());
                                       outer().reply(leader_response(found.header(), found.kvs(0)).SerializeAsString());
                                     });
  }
};

// Tells who leads and each value that it proclaims; when its key is deleted, who leads next.
class ObserveHandler final : public SteppedHandler {
 public:
  using SteppedHandler::SteppedHandler;

 private:
  void on_request(net::Call& call, std::string_view message) override {
    v3electionpb::LeaderRequest request;
    if (const Status parsed = unmarshal(message, request, Answer::kStream); !parsed) {
      return reject_with(call, parsed.error());
    }
    first_ = first_created(contest_prefix(request.name()));
    look();
  }

  void look() {
    ask<etcdserverpb::RangeResponse>(kRangePath, first_, [this](const etcdserverpb::RangeResponse& found) {
      if (found.kvs().empty()) return wait_for_leader(found.header().revision());
      follow(found.header(), found.kvs(0));
    });
  }

  void wait_for_leader(int64_t revision) {
    etcdserverpb::WatchCreateRequest create;
    create.set_key(first_.key());
    create.set_range_end(first_.range_end());
    create.set_start_revision(revision);
    create.add_filters(etcdserverpb::WatchCreateRequest::NODELETE);
    watch(create, [this](const etcdserverpb::WatchResponse& response) {
      const mvccpb::KeyValue& leader = response.events(0).kv();
      etcdserverpb::ResponseHeader header = response.header();
      header.set_revision(leader.mod_revision());  // there may be later events in the response
      follow(header, leader);
    });
  }

  void follow(const etcdserverpb::ResponseHeader& header, const mvccpb::KeyValue& leader) {
    tell(header, leader);
    etcdserverpb::WatchCreateRequest create;
    create.set_key(leader.key());
    create.set_start_revision(header.revision() + 1);
    watch(create, [this](const etcdserverpb::WatchResponse& response) {
      for (const mvccpb::Event& event : response.events()) {
        if (event.type() == mvccpb::Event::DELETE) return look();
        tell(response.header(), event.kv());
      }
    });
  }

  void tell(const etcdserverpb::ResponseHeader& header, const mvccpb::KeyValue& leader) {
    outer().send(leader_response(header, leader).SerializeAsString());
  }
  bool takes_answers() override { return outer().queued_bytes() <= kObserverBytesMax; }

  // As etcd, whose observer ends without an error.
  void on_refused(const Error&) override { outer().finish(); }

  etcdserverpb::RangeRequest first_;
};

}  // namespace

std::unique_ptr<net::CallHandler> make_campaign(Context& context, const Method& method, const Caller& caller) {
  return make_handler<CampaignHandler>(context, method, caller);
}
std::unique_ptr<net::CallHandler> make_proclaim(Context& context, const Method& method, const Caller& caller) {
  return make_handler<ProclaimHandler>(context, method, caller);
}
std::unique_ptr<net::CallHandler> make_leader(Context& context, const Method& method, const Caller& caller) {
  return make_handler<LeaderHandler>(context, method, caller);
}
std::unique_ptr<net::CallHandler> make_observe(Context& context, const Method& method, const Caller& caller) {
  return make_handler<ObserveHandler>(context, method, caller);
}
std::unique_ptr<net::CallHandler> make_resign(Context& context, const Method& method, const Caller& caller) {
  return make_handler<ResignHandler>(context, method, caller);
}

}  // namespace cairn::rpc
