#include "rpc/stepped_handler.h"

#include <array>

#include "tracing/tracer.h"

namespace cairn::rpc {
namespace {

// What says who calls.
constexpr std::array<std::string_view, 3> kIdentity = {"token", "authorization", kGatewayMark};

// What an inner call's failure is for the outer call's client. etcd makes such calls with its own Go client, whose
// errors have a text and no gRPC status where they are etcd's own.
Error outer_error(const Error& inner) {
  const bool is_etcds = inner.message.starts_with("etcdserver: ");
  return {is_etcds ? Code::kUnknown : inner.code, inner.message};
}

}  // namespace

std::unique_ptr<net::LocalCall> SteppedHandler::open(std::string_view path,
                                                     std::unique_ptr<net::LocalCall::Origin> origin) {
  const Method* const inner = find_method(path);
  CAIRN_ASSERT(inner != nullptr && inner->make != kUnimplemented);
  auto opened = context_.loop().local_call(*this, std::move(origin));
  Caller inner_caller = caller();
  inner_caller.is_step = true;
  if (inner_caller.trace != nullptr) inner_caller.trace = inner_caller.trace->within();
  opened->begin(inner->make(context_, *inner, inner_caller));
  return opened;
}

void SteppedHandler::begin(std::string_view path, const google::protobuf::MessageLite& request, Answered then) {
  ++begun_;
  watches_ = false;
  answer_.clear();
  then_ = std::move(then);
  inner_ = open(path, net::origin_within(outer()));
  inner_->send_message(request.SerializeAsString());
  inner_->half_close();
}

void SteppedHandler::watch(const etcdserverpb::WatchCreateRequest& create,
                           std::function<void(const etcdserverpb::WatchResponse&)> then) {
  ++begun_;
  watches_ = true;
  then_ = [this, then = std::move(then)](std::string_view bytes) {
    const auto response = parse<etcdserverpb::WatchResponse>(bytes);
    if (response.canceled()) return end_watch(response);
    if (response.events_size() > 0) then(response);
  };
  inner_ = open(kWatchPath, net::origin_within(outer()));
  etcdserverpb::WatchRequest request;
  *request.mutable_create_request() = create;
  inner_->send_message(request.SerializeAsString());
}

void SteppedHandler::take_answers() {
  std::string message;
  while (inner_ != nullptr && takes_answers()) {
    const uint64_t number = begun_;
    switch (inner_->take(message)) {
      case net::LocalCall::News::kNone: return;
      case net::LocalCall::News::kMessage: watches_ ? tell(message) : answer_.swap(message); break;
      case net::LocalCall::News::kEnd: return end_inner();
    }
    if (begun_ != number) return;  // the next step's call has news of its own
  }
}

// The function may begin the next step, which replaces it.
void SteppedHandler::tell(std::string_view message) {
  const uint64_t number = begun_;
  Answered then = std::move(then_);
  then(message);
  if (begun_ == number) then_ = std::move(then);
}

void SteppedHandler::end_inner() {
  const Error status = inner_->status();
  inner_.reset();
  const Answered then = std::move(then_);
  if (status.code != Code::kOk) return on_refused(outer_error(status));
  if (!watches_) then(std::exchange(answer_, {}));
}

void SteppedHandler::end_watch(const etcdserverpb::WatchResponse& cancelled) {
  ++begun_;
  inner_.reset();
  const bool is_compacted = cancelled.compact_revision() != 0;
  on_refused({Code::kUnknown, is_compacted ? errors::compacted().message : cancelled.cancel_reason()});
}

void SteppedHandler::leave(std::string_view path, const google::protobuf::MessageLite& request) {
  auto left = open(path, net::origin_after(outer(), kIdentity));
  left->send_message(request.SerializeAsString());
  left->half_close();
  context_.loop().detach(std::move(left));
}

}  // namespace cairn::rpc
