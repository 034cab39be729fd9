#include "rpc/context.h"

#include <algorithm>

#include "base/errors.h"
#include "base/log.h"
#include "member/requests.h"

namespace cairn::rpc {
namespace {

constexpr int64_t kExpireIntervalNs = 500'000'000;
constexpr int64_t kWatchIntervalNs = 1'000'000'000;

}  // namespace

Context::Context(member::Node& node, net::EventLoop& loop, const env::Clock& clock, Residency& residency,
                 Workers& workers, const Limits& limits, Metrics& metrics)
    : node_(node),
      loop_(loop),
      clock_(clock),
      residency_(residency),
      workers_(workers),
      limits_(limits),
      metrics_(metrics),
      reader_(node.published().register_thread()) {}

void Context::propose(net::Call& call, member::RequestKind kind, std::string_view body, Wait until, uint64_t space) {
  propose_other(call, member::join_request(kind, body, node_.next_request_id()), until, space);
}

void Context::propose_other(net::Call& call, std::string entry_bytes, Wait until, uint64_t space) {
  if (entry_bytes.size() > limits_.request_bytes_max) return finish_with(call, errors::request_too_large());
  if (space > 0) {
    // While the alarm is in force such a write would be refused when it is applied: it need not go to the log, where
    // space may be short as well.
    const auto state = enter();
    if (state->has_alarm(member::kAlarmNoSpace) && !state->has_alarm(member::kAlarmCorrupt)) {
      return finish_with(call, errors::no_space());
    }
  }
  if (turn_ns_ == 0) turn_ns_ = clock_.monotonic_ns();
  if (until == Wait::kApplied) outstanding_.push_back({turn_ns_ + limits_.request_timeout_ns, call.id()});
  proposals_.push_back(
      std::make_shared<const raft::Payload>(raft::Payload{.bytes = std::move(entry_bytes), .tag = tag_of(call.id())}));
}

void Context::when_linearizable(net::Call& call, Continuation then) {
  if (enter()->reads_alone) return then(call, nullptr);
  wait(call, member::Control::kLinearizable, std::move(then));
}

void Context::when_committed(net::Call& call, Continuation then) {
  wait(call, member::Control::kCommit, std::move(then));
}

void Context::wait(net::Call& call, member::Control kind, Continuation then) {
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

void Context::answer_elsewhere(net::Call& call, Make make) {
  const bool taken =
      workers_.run(Workers::Kind::kReader,
                   [id = call.id(), &loop = loop_, make = std::move(make)](member::PublishedDomain::Reader& reader) {
                     auto answer = std::make_shared<Result<std::string>>(make(reader));
                     loop.post([id, &loop, answer] {
                       net::Call* const later = loop.find(id);
                       if (later == nullptr) return;
                       *answer ? later->reply(**answer) : finish_with(*later, answer->error());
                     });
                   });
  if (!taken) finish_with(call, errors::request_too_many_requests());
}

void Context::watch_reader(const net::Call& call, bool ages) {
  const int64_t now_ns = clock_.monotonic_ns();
  watched_.push_back({call.id(), now_ns, now_ns, call.sent_bytes(), ages});
  if (watch_timer_ == nullptr) {
    watch_timer_ =
        loop_.after(std::min(kWatchIntervalNs, limits_.reader_stall_ns / 4), [this] { look_after_readers(); });
  }
}

void Context::look_after_readers() {
  const int64_t now_ns = clock_.monotonic_ns();
  std::erase_if(watched_, [&](Watched& one) {
    net::Call* const call = loop_.find(one.id);
    if (call == nullptr) return true;
    // With nothing queued it waits for us.
    if (call->sent_bytes() != one.sent_bytes || call->queued_bytes() == 0) {
      one.sent_bytes = call->sent_bytes();
      one.moved_ns = now_ns;
    }
    const bool is_stalled = now_ns - one.moved_ns >= limits_.reader_stall_ns;
    const bool is_old = one.ages && now_ns - one.since_ns >= limits_.reader_age_ns;
    if (!is_stalled && !is_old) return false;
    const std::string why =
        is_stalled ? fmt::format("cairn: the client has taken nothing of the answer for {} s",
                                 limits_.reader_stall_ns / 1'000'000'000)
                   : fmt::format("cairn: the answer has taken more than {} s", limits_.reader_age_ns / 1'000'000'000);
    log::warn("ending a call that keeps old state alive", {{"reason", why}, {"sent-bytes", one.sent_bytes}});
    call->abort(Code::kResourceExhausted, why);
    return true;
  });
  watch_timer_ = nullptr;
  if (watched_.empty()) return;
  watch_timer_ = loop_.after(std::min(kWatchIntervalNs, limits_.reader_stall_ns / 4), [this] { look_after_readers(); });
}

void Context::flush() {
  if (touches_file_) {
    touches_file_ = false;
    if (faults_.grew()) residency_.note_miss();
  }
  turn_ns_ = 0;
  if (const uint64_t count = std::exchange(ranges_, 0); count > 0) {
    const auto took_ns = static_cast<uint64_t>(clock_.monotonic_ns() - ranges_began_ns_);
    metrics_.range.observe(took_ns / count, count);
  }
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
    if (call != nullptr && outstanding_.front().continues) metrics_.read_indexes_failed.add();
    outstanding_.pop_front();
    if (call != nullptr) finish_with(*call, errors::timeout());
  }
  while (!outstanding_.empty() && still_waits(outstanding_.front()) == nullptr) outstanding_.pop_front();
  timer_ = outstanding_.empty() ? nullptr : loop_.after(kExpireIntervalNs, [this] { expire(); });
}

void Context::deliver(const member::AnswerBatch& batch) {
  for (const member::Answer& answer : batch.answers) {
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
