#include "rpc/services/lock_service.h"

#include <optional>
#include <utility>

#include "proto/v3lock.pb.h"
#include "rpc/services/contest.h"
#include "rpc/unmarshal.h"

namespace cairn::rpc {
namespace {

etcdserverpb::DeleteRangeRequest delete_of(const std::string& key) {
  etcdserverpb::DeleteRangeRequest request;
  request.set_key(key);
  return request;
}

// A lease that locks the same name twice has the same key both times, and holds the lock both times.
class LockHandler final : public ContestHandler {
 public:
  using ContestHandler::ContestHandler;

  // compat: the key goes with the identity of the call; etcd deletes it as nobody, which fails while auth is on.
  void on_end(net::Call& ended) override {
    if (waits_) leave(kDeleteRangePath, delete_of(key_));
    ContestHandler::on_end(ended);
  }

 private:
  void on_request(net::Call& call, std::string_view message) override {
    v3lockpb::LockRequest request;
    if (const Status parsed = unmarshal(message, request); !parsed) return reject_with(call, parsed.error());
    with_lease(request.lease(), [this, name = request.name()](int64_t lease) { enter(name, lease); });
  }

  void enter(const std::string& name, int64_t lease) {
    key_ = contest_key(name, lease);
    const std::string prefix = contest_prefix(name);
    etcdserverpb::TxnRequest txn;
    add_created_at(txn, key_, 0);
    add_put(txn, key_, "", lease);
    *txn.add_failure()->mutable_request_range() = single_key(key_);
    // As in etcd, who may not read the others' keys puts none. Finding the owner here, too, would have all writes wait
    // while so many keys as contend are looked at.
    *txn.add_success()->mutable_request_range() = any_key(prefix);
    *txn.add_failure()->mutable_request_range() = any_key(prefix);
    ask<etcdserverpb::TxnResponse>(kTxnPath, txn, [this, prefix](const etcdserverpb::TxnResponse& entered) {
      const auto& own = entered.responses(0).response_range().kvs();
      const int64_t revision = entered.succeeded() ? entered.header().revision() : own[0].create_revision();
      entered_ = entered.header();
      waits_ = true;
      wait_for_earlier(prefix, revision - 1);
    });
  }

  // The key may have gone with its lease while it waited.
  void on_first() override {
    if (is_first_at_once()) return hold(entered_);
    ask<etcdserverpb::RangeResponse>(kRangePath, single_key(key_), [this](const etcdserverpb::RangeResponse& found) {
      if (!found.kvs().empty()) return hold(found.header());
      waits_ = false;
      outer().finish(Code::kUnknown, "mutex: session is expired");
    });
  }

  void hold(const etcdserverpb::ResponseHeader& header) {
    waits_ = false;
    v3lockpb::LockResponse response;
    *response.mutable_header() = header;
    response.set_key(key_);
    outer().reply(response.SerializeAsString());
  }

  // One that cannot wait gives its place up, and then says why.
  void on_refused(const Error& error) override {
    if (!waits_) return finish_with(outer(), error);
    if (failure_) return fail();
    failure_ = error;
    ask<etcdserverpb::DeleteRangeResponse>(kDeleteRangePath, delete_of(key_),
                                           [this](const etcdserverpb::DeleteRangeResponse&) { fail(); });
  }
  void fail() {
    waits_ = false;
    finish_with(outer(), *failure_);
  }

  std::string key_;
  etcdserverpb::ResponseHeader entered_;
  bool waits_ = false;  // the key is there for nothing if the call ends
  std::optional<Error> failure_;
};

class UnlockHandler final : public SteppedHandler {
 public:
  using SteppedHandler::SteppedHandler;

 private:
  void on_request(net::Call& call, std::string_view message) override {
    v3lockpb::UnlockRequest request;
    if (const Status parsed = unmarshal(message, request); !parsed) return reject_with(call, parsed.error());
    ask<etcdserverpb::DeleteRangeResponse>(kDeleteRangePath, delete_of(request.key()),
                                           [this](const etcdserverpb::DeleteRangeResponse& deleted) {
                                             v3lockpb::UnlockResponse response;
                                             *response.mutable_header() = deleted.header();
                                             outer().reply(response.SerializeAsString());
                                           });
  }
};

}  // namespace

std::unique_ptr<net::CallHandler> make_lock(Context& context, const Method& method, const Caller& caller) {
  return make_handler<LockHandler>(context, method, caller);
}
std::unique_ptr<net::CallHandler> make_unlock(Context& context, const Method& method, const Caller& caller) {
  return make_handler<UnlockHandler>(context, method, caller);
}

}  // namespace cairn::rpc
