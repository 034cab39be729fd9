#include "rpc/context.h"

#include "base/errors.h"
#include "server/requests.h"

namespace cairn::rpc {
namespace {

constexpr int64_t kExpireIntervalNs = 500'000'000;

}  // namespace

Context::Context(server::Node& node, net::EventLoop& loop, const env::Clock& clock, Workers& workers,
                 const Limits& limits)
    : node_(node),
      loop_(loop),
      clock_(clock),
      workers_(workers),
      limits_(limits),
      reader_(node.published().register_thread()) {}

void Context::propose(net::Call& call, server::RequestKind kind, std::string_view body, Wait until) {
  propose_other(call, server::join_request(kind, body, node_.next_request_id()), until);
}

void Context::propose_other(net::Call& call, std::string entry_bytes, Wait until) {
  if (entry_bytes.size() > limits_.request_bytes_max) return finish_with(call, errors::request_too_large());
  if (turn_ns_ == 0) turn_ns_ = clock_.monotonic_ns();
  if (until == Wait::kApplied) outstanding_.push_back({turn_ns_ + limits_.request_timeout_ns, call.id()});
  proposals_.push_back(
      std::make_shared<const raft::Payload>(raft::Payload{.bytes = std::move(entry_bytes), .tag = tag_of(call.id())}));
}

void Context::when_linearizable(net::Call& call, Continuation then) {
  if (enter()->reads_alone) return then(call, nullptr);
  wait(call, server::Control::kLinearizable, std::move(then));
}

void Context::when_committed(net::Call& call, Continuation then) {
  wait(call, server::Control::kCommit, std::move(then));
}

void Context::wait(net::Call& call, server::Control kind, Continuation then) {
  if (turn_ns_ == 0) turn_ns_ = clock_.monotonic_ns();
  outstanding_.push_back({turn_ns_ + limits_.request_timeout_ns, call.id(), true});
  waiting_.emplace(call.id().value, std::move(then));
  controls_.push_back({kind, tag_of(call.id())});
}

// Its call, or null when it has been answered or has gone.
net::Call* Context::still_waits(const Outstanding& one) {
  if (one.continues && !waiting_.contains(one.id.value)) return nullptr;
  return loop_.find(one.id);
}

void Context::flush() {
  turn_ns_ = 0;
  while (!outstanding_.empty() && still_waits(outstanding_.front()) == nullptr) outstanding_.pop_front();
  if (!outstanding_.empty() && timer_ == nullptr) timer_ = loop_.after(kExpireIntervalNs, [this] { expire(); });
  if (!proposals_.empty()) node_.propose(std::exchange(proposals_, {}));
  if (!controls_.empty()) node_.control(std::exchange(controls_, {}));
}

// Answers what has waited too long. The entry may still be applied: the text says no more than that time is up.
void Context::expire() {
  const int64_t now_ns = clock_.monotonic_ns();
  while (!outstanding_.empty() && outstanding_.front().deadline_ns <= now_ns) {
    net::Call* const call = still_waits(outstanding_.front());
    outstanding_.pop_front();
    if (call != nullptr) finish_with(*call, errors::timeout());
  }
  while (!outstanding_.empty() && still_waits(outstanding_.front()) == nullptr) outstanding_.pop_front();
  timer_ = outstanding_.empty() ? nullptr : loop_.after(kExpireIntervalNs, [this] { expire(); });
}

void Context::deliver(const server::AnswerBatch& batch) {
  for (const server::Answer& answer : batch.answers) {
    const net::CallId id{answer.tag & 0x00ff'ffff'ffff'ffff};
    net::Call* const call = loop_.find(id);
    if (call == nullptr) continue;
    if (!waiting_.empty()) {
      if (const auto waits = waiting_.find(id.value); waits != waiting_.end()) {
        const Continuation then = std::move(waits->second);
        waiting_.erase(waits);
        const Error error{answer.code, std::string(batch.text(answer))};
        then(*call, answer.code == Code::kOk ? nullptr : &error);
        continue;
      }
    }
    if (answer.code == Code::kOk) {
      call->reply(batch.text(answer));
    } else {
      call->finish(answer.code, batch.text(answer));
    }
  }
}

}  // namespace cairn::rpc
