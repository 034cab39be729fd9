#include "rpc/own_call.h"

#include <utility>

#include "base/check.h"
#include "proto/rpc.pb.h"
#include "rpc/methods.h"

namespace cairn::rpc {
namespace {

class OwnOrigin final : public net::LocalCall::Origin {
 public:
  explicit OwnOrigin(std::string token) : token_(std::move(token)) {}
  [[nodiscard]] std::string peer_address() const override { return {}; }
  [[nodiscard]] uint64_t connection() const override { return 0; }
  [[nodiscard]] std::optional<std::string_view> metadata(std::string_view name) const override {
    if (name == "token" && !token_.empty()) return token_;
    return std::nullopt;
  }
  [[nodiscard]] std::optional<int64_t> deadline_ns() const override { return std::nullopt; }

 private:
  std::string token_;
};

}  // namespace

class OwnCalls::One final : public net::LocalCall::Owner {
 public:
  One(OwnCalls& calls, Wanted wanted) : calls_(calls), wanted_(std::move(wanted)) {}

  void begin(std::list<std::unique_ptr<One>>::iterator place) {
    place_ = place;
    Context& context = calls_.context_;
    const Method* const method = find_method(wanted_.method);
    CAIRN_ASSERT(method != nullptr);
    call_ = context.loop().local_call(*this, std::make_unique<OwnOrigin>(wanted_.token.value_or("")));
    call_->begin(method->make(context, *method, {.is_step = true, .is_member = !wanted_.token}));
    call_->send_message(wanted_.message);
    call_->half_close();
  }

  void on_news(net::LocalCall& call) override {
    while (true) {
      switch (call.take(message_)) {
        case net::LocalCall::News::kNone: return;
        case net::LocalCall::News::kMessage: break;
        case net::LocalCall::News::kEnd: return end(call.status());
      }
    }
  }

 private:
  void end(const Error& status) {
    const auto then = std::move(wanted_.then);
    Outcome outcome = status.code == Code::kOk ? Outcome(std::move(message_)) : std::unexpected(status);
    calls_.under_way_.erase(place_);  // this is gone
    then(std::move(outcome));
  }

  OwnCalls& calls_;
  Wanted wanted_;
  std::list<std::unique_ptr<One>>::iterator place_;
  std::string message_;
  std::unique_ptr<net::LocalCall> call_;
};

OwnCalls::OwnCalls(Context& context) : context_(context) {}

OwnCalls::~OwnCalls() = default;

void OwnCalls::begin(Wanted wanted) {
  const auto place = under_way_.insert(under_way_.end(), std::make_unique<One>(*this, std::move(wanted)));
  (*place)->begin(place);
}

// Asks for the members so; what it says of them does not matter.
void OwnCalls::when_linearizable(std::function<void(const Status& read)> then) {
  etcdserverpb::MemberListRequest request;
  request.set_linearizable(true);
  begin({.method = "/etcdserverpb.Cluster/MemberList",
         .message = request.SerializeAsString(),
         .then = [then = std::move(then)](const Outcome& outcome) {
           then(outcome ? Status() : Status(std::unexpected(outcome.error())));
         }});
}

}  // namespace cairn::rpc
