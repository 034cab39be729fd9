#include "rpc/context.h"

#include "env/entropy.h"
#include "member/requests.h"

namespace cairn::rpc {
namespace {

constexpr int64_t kDeadlineLater = INT64_MAX;  // set at the end of the turn
constexpr uint64_t kUncountedBytesMax = 64 << 10;
constexpr int64_t kExpireIntervalNs = 500'000'000;
// A member that may not lead says itself, after the request timeout, why a request was not answered. This is for a core
// that says nothing.
constexpr int64_t kCoreSlackNs = 1'000'000'000;
constexpr size_t kRangeRequest = 0;
static_assert(member::kRequestNames[kRangeRequest].name == "Range");
constexpr uint64_t kTicketMask = (uint64_t{1} << PendingAnswers::kTicketBits) - 1;

// A request to the core is over. `times`: RequestTimes, or a run of them.
template <class Times>
void note_request(Times& times, const PendingAnswers::Pending& one, bool success, int64_t now_ns) {
  if (one.kind == PendingAnswers::kNoRequest) return;
  times.observe(one.kind, success, static_cast<uint64_t>(now_ns - one.began_ns));
}

}  // namespace

Context::Context(Shared& shared, net::EventLoop& loop)
    : shared_(shared),
      loop_(loop),
      reader_(shared.node.published().register_thread()),
      watch_(loop, shared.clock, shared.node.page_roots(), shared.oldest_reader, shared.limits.readers),
      sessions_(tokens(), env::random_number()) {}

// --- the core

member::Tag Context::expect(const net::Call& call, AskWait until, OnAnswer then, size_t kind) {
  if (requests_began_ns_ == 0) requests_began_ns_ = clock().monotonic_ns();
  const uint64_t ticket = pending_.add({call.id(), std::move(then), requests_began_ns_, kind});
  if (until == AskWait::kApplied) outstanding_.push_back({kDeadlineLater, ticket});
  return ticket | uint64_t{loop_.index()} << PendingAnswers::kTicketBits;
}

void Context::propose(net::Call& call, member::RequestKind kind, std::string_view body, Ask ask) {
  const member::RequestHeader header{node().next_request_id(), ask.who.user, ask.who.revision};
  std::string entry_bytes = member::join_request(kind, body, header);  // before what `header` views is moved
  propose_entry(call, std::move(entry_bytes), std::move(ask), member::request_name_index(static_cast<uint32_t>(kind)));
}

void Context::propose_other(net::Call& call, std::string entry_bytes, Ask ask) {
  const size_t kind = member::request_name_index(entry_bytes);
  propose_entry(call, std::move(entry_bytes), std::move(ask), kind);
}

// `kind`: as for expect().
void Context::propose_entry(net::Call& call, std::string entry_bytes, Ask ask, size_t kind) {
  if (entry_bytes.size() > limits().request_bytes_max) {
    request_times_.observe(kind, true, 0);  // as etcd, which counts this refusal as a success
    return finish_with(call, errors::request_too_large());
  }
  if (pending_.full()) return finish_with(call, errors::request_too_many_requests());
  if (ask.space > 0) {
    // While the alarm is in force such a write would be refused when it is applied: it need not go to the log, where
    // space may be short as well.
    const auto state = enter();
    if (state->has_alarm(member::kAlarmNoSpace) && !state->has_alarm(member::kAlarmCorrupt)) {
      return finish_with(call, errors::no_space());
    }
  }
  const member::Tag tag = expect(call, ask.until, std::move(ask.then), kind);
  proposals_.push_back(
      std::make_shared<const raft::Payload>(raft::Payload{.bytes = std::move(entry_bytes), .tag = tag}));
}

void Context::propose_conf_change(net::Call& call, std::string entry_bytes, OnAnswer then) {
  if (pending_.full()) return finish_with(call, errors::request_too_many_requests());
  const member::Tag tag = expect(call, AskWait::kApplied, std::move(then), PendingAnswers::kNoRequest);
  node().propose_conf_change(
      std::make_shared<const raft::Payload>(raft::Payload{.bytes = std::move(entry_bytes), .tag = tag}));
}

void Context::ask_progress(net::Call& call, OnAnswer then) {
  if (pending_.full()) return finish_with(call, errors::request_too_many_requests());
  controls_.push_back(
      {member::Control::kProgress, expect(call, AskWait::kApplied, std::move(then), PendingAnswers::kNoRequest)});
}

// compat: with etcd it may take as long as the client waits.
void Context::move_leader(net::Call& call, NodeId target, OnAnswer then) {
  if (pending_.full()) return finish_with(call, errors::request_too_many_requests());
  node().transfer({target, expect(call, AskWait::kLonger, std::move(then), PendingAnswers::kNoRequest)});
}

void Context::when_linearizable(net::Call& call, Continuation then) {
  if (enter()->reads_alone) return then(call, nullptr);
  wait(call, member::Control::kLinearizable, std::move(then));
}

void Context::when_committed(net::Call& call, Continuation then) {
  wait(call, member::Control::kCommit, std::move(then));
}

void Context::when_defragmented(net::Call& call, Continuation then) {
  wait(call, member::Control::kDefragment, std::move(then));
}

void Context::wait(net::Call& call, member::Control kind, Continuation then) {
  if (pending_.full()) return finish_with(call, errors::request_too_many_requests());
  OnAnswer go_on = [this, kind, then = std::move(then)](net::Call& later, const CoreAnswer& answer) {
    if (answer.code == Code::kOk) return then(later, nullptr);
    // As in etcd: what timed out is among etcd_server_slow_read_indexes_total.
    const bool ended = answer.text == errors::timeout().message || answer.text == errors::stopped().message;
    if (kind == member::Control::kLinearizable && !ended) metrics().read_indexes_failed.add();
    const Error error{answer.code, std::string(answer.text)};
    then(later, &error);
  };
  const AskWait until = kind == member::Control::kDefragment ? AskWait::kLonger : AskWait::kApplied;
  controls_.push_back({kind, expect(call, until, std::move(go_on), PendingAnswers::kNoRequest)});
}

void Context::ask_leases(net::Call& call, member::LeaseRequest request, OnAnswer then) {
  if (pending_.full()) return finish_with(call, errors::request_too_many_requests());
  request.tag = expect(call, AskWait::kApplied, std::move(then), PendingAnswers::kNoRequest);
  lease_requests_.push_back(request);
}

void Context::deliver(const member::AnswerBatch& batch) {
  const int64_t now_ns = clock().monotonic_ns();
  RequestTimes::Run run(request_times_);
  for (const member::Answer& one : batch.answers) {
    const auto waits = pending_.take(one.tag & kTicketMask);
    net::Call* const call = waits ? loop_.find(waits->call) : nullptr;
    if (waits) note_request(run, *waits, call != nullptr && one.code != Code::kUnavailable, now_ns);
    if (call == nullptr) continue;
    const CoreAnswer answer{one.code, batch.text(one)};
    if (waits->then) {
      waits->then(*call, answer);
    } else if (answer.code == Code::kOk) {
      call->reply(answer.text);
    } else {
      call->finish(answer.code, answer.text);
    }
  }
}

void Context::flush() {
  if (touches_file_) {
    touches_file_ = false;
    if (faults_.grew()) shared_.residency.note_miss();
  }
  set_deadlines();
  watch_.end_turn();
  if (const uint64_t count = std::exchange(ranges_, 0); count > 0) {
    const auto took_ns = static_cast<uint64_t>(clock().monotonic_ns() - ranges_began_ns_);
    metrics().range.observe(took_ns / count, count);
    request_times_.observe(kRangeRequest, true, took_ns / count, count);
  }
  ranges_began_ns_ = requests_began_ns_ = turn_ns_ = 0;
  drop_unwanted();
  if (!outstanding_.empty() && timer_ == nullptr) timer_ = loop_.after(kExpireIntervalNs, [this] { expire(); });
  if (!proposals_.empty()) node().propose(std::exchange(proposals_, {}));
  if (!controls_.empty()) node().control(std::exchange(controls_, {}));
  if (!lease_requests_.empty()) node().ask_leases(std::exchange(lease_requests_, {}));
}

// One look at the clock for all requests of a turn, at its end: the process may have stood still in its middle.
void Context::set_deadlines() {
  if (outstanding_.empty() || outstanding_.back().deadline_ns != kDeadlineLater) return;
  const int64_t slack_ns = peers() != nullptr ? kCoreSlackNs : 0;
  const int64_t deadline_ns = clock().monotonic_ns() + limits().request_timeout_ns + slack_ns;
  for (auto one = outstanding_.rbegin(); one != outstanding_.rend() && one->deadline_ns == kDeadlineLater; ++one) {
    one->deadline_ns = deadline_ns;
  }
}

void Context::end_range(int64_t began_ns, bool success) {
  if (success && began_ns == 0) {
    ++ranges_;
    return;
  }
  const auto took_ns = static_cast<uint64_t>(clock().monotonic_ns() - (began_ns != 0 ? began_ns : ranges_began_ns_));
  (success ? metrics().range : metrics().range_failed).observe(took_ns);
  request_times_.observe(kRangeRequest, success, took_ns);
}

void Context::end_read_txn(int64_t began_ns, bool success, uint64_t ranges) {
  metrics().range_total.add(ranges);
  if (ranges > 1) metrics().txn_total.add();
  request_times_.observe(RequestTimes::kReadonlyTxn, success, static_cast<uint64_t>(clock().monotonic_ns() - began_ns));
}

// Those at the front that are answered, or whose calls have ended.
void Context::drop_unwanted() {
  while (!outstanding_.empty()) {
    const uint64_t ticket = outstanding_.front().ticket;
    const PendingAnswers::Pending* const waits = pending_.find(ticket);
    if (waits != nullptr && loop_.find(waits->call) != nullptr) return;
    if (const auto unwanted = pending_.take(ticket)) {
      note_request(request_times_, *unwanted, false, clock().monotonic_ns());
    }
    outstanding_.pop_front();
  }
}

// Answers what has waited too long. The entry may still be applied: the text says no more than that time is up.
void Context::expire() {
  const int64_t now_ns = clock().monotonic_ns();
  while (!outstanding_.empty() && outstanding_.front().deadline_ns <= now_ns) {
    const auto waits = pending_.take(outstanding_.front().ticket);
    outstanding_.pop_front();
    net::Call* const call = waits ? loop_.find(waits->call) : nullptr;
    if (waits) note_request(request_times_, *waits, false, now_ns);
    if (call == nullptr) continue;
    const Error error = errors::timeout();
    waits->then ? waits->then(*call, {error.code, error.message}) : finish_with(*call, error);
  }
  drop_unwanted();
  timer_ = outstanding_.empty() ? nullptr : loop_.after(kExpireIntervalNs, [this] { expire(); });
}

// --- workers

std::shared_ptr<std::atomic<bool>> Context::wanted_of(net::CallId id) {
  auto& wanted = wanted_[id.value];
  if (wanted == nullptr) wanted = std::make_shared<std::atomic<bool>>(true);
  return wanted;
}

void Context::begin_work(net::Call& call, Workers::Lane lane, Turn turn, Workers::Task task) {
  if (turn == Turn::kNext) return shared_.workers.go_on(lane, call.connection(), std::move(task));
  if (turn == Turn::kStep) return shared_.workers.run_step(lane, call.connection(), std::move(task));
  if (shared_.workers.run(lane, call.connection(), std::move(task))) return;
  finish_with(call, errors::request_too_many_requests());
}

// --- answers

bool Context::admit(net::Call& call, uint64_t bytes) {
  const bool is_little = bytes <= kUncountedBytesMax && !call.is_room_scarce();
  if (is_little || call.reserve(bytes)) return true;
  finish_with(call, errors::request_too_many_requests());
  return false;
}

void Context::forget(net::CallId id) {
  if (wanted_.empty()) return;
  const auto found = wanted_.find(id.value);
  if (found == wanted_.end()) return;
  found->second->store(false, std::memory_order_relaxed);
  wanted_.erase(found);
}

}  // namespace cairn::rpc
