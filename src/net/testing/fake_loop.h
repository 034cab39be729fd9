// net/testing/fake_loop.h: an event loop and its calls without sockets, in virtual time: for services under fuzzing.
//
// A FakeCall keeps GrpcCall's contract: what is said after the end is dropped, on_writable() and on_end() come from the
// loop's turn, and a client that does not read is given no new window.
//
// Threads: post() by any; the rest by one.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/mutex.h"
#include "env/clock.h"
#include "net/event_loop.h"

namespace cairn::net {

// Stands still but for what the test adds. Threads: any.
class FakeClock final : public env::Clock {
 public:
  [[nodiscard]] int64_t monotonic_ns() const override { return now_ns_.load(std::memory_order_relaxed); }
  [[nodiscard]] int64_t wall_ns() const override { return monotonic_ns(); }
  void set(int64_t now_ns) { now_ns_.store(now_ns, std::memory_order_relaxed); }

 private:
  std::atomic<int64_t> now_ns_{1'000'000'000};
};

class FakeLoop;

class FakeCall final : public Call {
 public:
  FakeCall(FakeLoop& loop, CallId id, uint64_t connection) : loop_(loop), id_(id), connection_(connection) {}

  // --- the test's side: what is seen of the server

  std::function<void(std::string_view message)> on_sent;
  std::function<void(Code code, std::string_view message)> on_finished;  // once

  // --- the test's side: what the client does

  void begin(Router& router, std::string_view path) {
    handler_ = router.route(path, *this);
    if (handler_ == nullptr) return finish(Code::kUnimplemented, {});
    if (!is_finished_) handler_->on_begin(*this);
  }
  // False: the call is over, or its client has no window left.
  bool message(std::string_view bytes) {
    if (is_over()) return false;
    if (takes_more()) {
      window_bytes_ = kWindowBytes;
    } else if (bytes.size() + kPrefixBytes > window_bytes_) {
      return false;
    } else {
      window_bytes_ -= bytes.size() + kPrefixBytes;
    }
    const bool is_first = !std::exchange(has_message_, true);
    if (is_first || handler_->takes() != CallHandler::Takes::kOne) handler_->on_message(*this, bytes);
    return true;
  }
  void half_close() {
    if (is_over() || std::exchange(is_half_closed_, true)) return;
    if (handler_->takes() != CallHandler::Takes::kMany && !has_message_) return finish(Code::kUnknown, "EOF");
    handler_->on_half_close(*this);
  }
  void reset() { end(); }
  // It has taken nothing for too long.
  void stall() {
    if (!queue_.empty() && !is_ended_ && (handler_ == nullptr || handler_->ends_when_stalled())) {
      tell_finished(Code::kResourceExhausted, {});
      end();
    }
  }
  // Takes what it may; true: something was done.
  bool pump() {
    if (is_ended_) return false;
    bool has_taken = false;
    while (!queue_.empty() && room_bytes_left > 0) {
      if (!take_one()) break;
      has_taken = true;
    }
    if (!queue_.empty()) return has_taken;
    if (is_finished_) {
      end();
      return true;
    }
    if (has_taken) handler_->on_writable(*this);
    return has_taken;
  }
  [[nodiscard]] bool is_over() const { return is_finished_ || is_ended_; }
  [[nodiscard]] bool is_ended() const { return is_ended_; }
  [[nodiscard]] bool is_half_closed() const { return is_half_closed_; }

  uint64_t room_bytes_left = UINT64_MAX;  // that the client takes yet
  bool is_scarce = false;                 // of memory for answers: what may be refused is
  bool has_no_room = false;               // none at all
  std::map<std::string, std::string, std::less<>> headers;

  // --- Call

  CallId id() const override { return id_; }
  EventLoop& loop() const override;
  std::string peer_address() const override { return "nowhere"; }
  uint64_t connection() const override { return connection_; }
  std::optional<std::string_view> metadata(std::string_view name) const override {
    const auto found = headers.find(name);
    return found == headers.end() ? std::nullopt : std::optional<std::string_view>(found->second);
  }
  std::optional<int64_t> deadline_ns() const override { return std::nullopt; }
  void send(std::string_view message) override {
    if (is_over()) return;
    if (has_no_room) return finish(Code::kResourceExhausted, "no room");
    push(std::string(message));
  }
  bool offer(std::string_view head, std::string_view tail, const std::shared_ptr<const void>& owner,
             uint64_t queue_bytes_max) override {
    if (is_over()) return true;
    if (queued_bytes_ > queue_bytes_max || has_no_room) return false;
    push(std::string(head).append(tail), tail.size() > kCopiedBytesMax ? owner : nullptr);
    return true;
  }
  void send(uint64_t length, std::unique_ptr<MessageProducer> producer) override {
    if (is_over()) return;
    queued_bytes_ += length + kPrefixBytes;
    queue_.push_back({.bytes = {}, .owner = nullptr, .producer = std::move(producer), .left = length});
  }
  void resume() override { waits_ = false; }
  uint64_t queued_bytes() const override { return queued_bytes_; }
  uint64_t room_bytes() const override { return has_no_room ? 0 : kRoomBytes; }
  bool is_room_scarce() const override { return is_scarce || has_no_room; }
  bool reserve(uint64_t bytes) override { return !is_over() && bytes <= room_bytes() && !has_no_room; }
  void finish(Code code, std::string_view message) override {
    if (is_over()) return;
    is_finished_ = true;
    tell_finished(code, message);
  }
  void reject(Code code, std::string_view message) override { finish(code, message); }
  void abort(Code code, std::string_view message) override {
    finish(code, message);
    end();
  }
  uint64_t sent_bytes() const override { return sent_bytes_; }
  void reply(std::string_view message) override {
    if (is_over()) return;
    send(message);
    finish(Code::kOk, {});
  }

 private:
  static constexpr uint64_t kPrefixBytes = 5;
  static constexpr uint64_t kWindowBytes = 64 << 10;
  static constexpr uint64_t kHoldBytes = 256 << 10;  // GrpcCall's
  static constexpr uint64_t kRoomBytes = 128 << 20;

  struct Message {
    std::string bytes;
    std::shared_ptr<const void> owner;
    std::unique_ptr<MessageProducer> producer;  // of bytes that are made while they are taken
    uint64_t left = 0;                          // of them
  };

  [[nodiscard]] bool takes_more() const { return queued_bytes_ <= kHoldBytes && handler_->takes_more(); }
  void push(std::string message, std::shared_ptr<const void> owner = nullptr) {
    if (on_sent) on_sent(message);
    queued_bytes_ += message.size() + kPrefixBytes;
    queue_.push_back({.bytes = std::move(message), .owner = std::move(owner), .producer = nullptr, .left = 0});
  }
  // False: it must wait.
  bool take_one() {
    Message& first = queue_.front();
    uint64_t bytes = first.bytes.size() + kPrefixBytes;
    if (first.producer != nullptr) {
      if (waits_) return false;
      std::array<char, 16 << 10> buffer;
      const auto piece = first.producer->produce(buffer);
      CAIRN_ASSERT(piece && piece->bytes <= first.left);
      bytes = piece->bytes;
      first.left -= bytes;
      waits_ = piece->outcome == MessageProducer::Outcome::kWait;
      CAIRN_ASSERT((piece->outcome == MessageProducer::Outcome::kDone) == (first.left == 0));
      if (first.left > 0) {
        note_taken(bytes);
        return !waits_;
      }
      bytes += kPrefixBytes;
    }
    queue_.pop_front();
    note_taken(bytes);
    return true;
  }
  void note_taken(uint64_t bytes) {
    queued_bytes_ -= bytes;
    sent_bytes_ += bytes;
    room_bytes_left -= std::min(room_bytes_left, bytes);
  }
  void tell_finished(Code code, std::string_view message) {
    if (!std::exchange(is_told_, true) && on_finished) on_finished(code, message);
  }
  void end();

  FakeLoop& loop_;
  const CallId id_;
  const uint64_t connection_;
  std::unique_ptr<CallHandler> handler_;
  std::deque<Message> queue_;
  uint64_t queued_bytes_ = 0;
  uint64_t sent_bytes_ = 0;
  uint64_t window_bytes_ = kWindowBytes;  // that the client has while it is given none
  bool waits_ = false;                    // for resume()
  bool has_message_ = false;
  bool is_half_closed_ = false;
  bool is_finished_ = false;
  bool is_ended_ = false;
  bool is_told_ = false;
};

class FakeLoop final : public EventLoop {
 public:
  explicit FakeLoop(FakeClock& clock) : clock_(clock) {}
  ~FakeLoop() override { CAIRN_ASSERT(calls_.empty() && timers_.empty()); }
  FakeLoop(const FakeLoop&) = delete;
  FakeLoop& operator=(const FakeLoop&) = delete;

  FakeCall& open(uint64_t connection) {
    const CallId id{++last_id_};
    return *calls_.emplace(id.value, std::make_unique<FakeCall>(*this, id, connection)).first->second;
  }
  // One turn: what was posted, timers that are due, clients that read. True: something was done.
  bool turn() {
    std::vector<std::function<void()>> tasks;
    {
      const MutexLock lock(mutex_);
      tasks.swap(tasks_);
    }
    for (const auto& task : tasks) task();
    bool has_done = !tasks.empty();
    while (!timers_.empty() && timers_.begin()->first.first <= clock_.monotonic_ns()) {
      const auto timer = timers_.extract(timers_.begin());
      timer.mapped()();
      has_done = true;
    }
    std::vector<FakeCall*> calls;
    for (const auto& [id, call] : calls_) calls.push_back(call.get());
    for (FakeCall* const call : calls) has_done = call->pump() || has_done;
    std::erase_if(calls_, [](const auto& one) { return one.second->is_ended(); });
    if (turn_end_) turn_end_();
    return has_done;
  }
  [[nodiscard]] bool has_tasks() {
    const MutexLock lock(mutex_);
    return !tasks_.empty();
  }
  [[nodiscard]] std::optional<int64_t> next_due_ns() const {
    return timers_.empty() ? std::nullopt : std::optional(timers_.begin()->first.first);
  }
  // What was posted is let go, and the hook.
  void forget() {
    turn_end_ = nullptr;
    const MutexLock lock(mutex_);
    tasks_.clear();
  }
  [[nodiscard]] size_t call_count() const { return calls_.size(); }
  [[nodiscard]] uint64_t charged_bytes() const { return charged_bytes_; }

  // --- EventLoop

  unsigned index() const override { return 0; }
  void post(std::function<void()> task) override {
    const MutexLock lock(mutex_);
    tasks_.push_back(std::move(task));
  }
  FakeCall* find(CallId id) override {
    const auto found = calls_.find(id.value);
    return found == calls_.end() || found->second->is_ended() ? nullptr : found->second.get();
  }
  Exchange* find(ExchangeId) override { return nullptr; }
  std::unique_ptr<LocalCall> local_call(LocalCall::Owner&, std::unique_ptr<LocalCall::Origin>) override {
    CAIRN_ASSERT(false);  // what is tested here makes no calls of its own
  }
  void detach(std::unique_ptr<LocalCall>) override { CAIRN_ASSERT(false); }
  void set_turn_end(std::function<void()> hook) override { turn_end_ = std::move(hook); }
  std::shared_ptr<void> charge(uint64_t bytes) override {
    charged_bytes_ += bytes;
    return {static_cast<void*>(this), [this, bytes](void*) { charged_bytes_ -= bytes; }};
  }
  std::unique_ptr<Timer> after(int64_t delay_ns, std::function<void()> task) override {
    const Due due{clock_.monotonic_ns() + std::max<int64_t>(delay_ns, 0), ++last_timer_};
    timers_.emplace(due, std::move(task));
    return std::make_unique<Handle>(*this, due);
  }

 private:
  using Due = std::pair<int64_t, uint64_t>;  // time, and the order in which they were made
  struct Handle final : Timer {
    Handle(FakeLoop& of, Due when) : loop(of), due(std::move(when)) {}
    ~Handle() override { loop.timers_.erase(due); }
    FakeLoop& loop;
    Due due;
  };

  FakeClock& clock_;
  Mutex mutex_;
  std::vector<std::function<void()>> tasks_ CAIRN_GUARDED_BY(mutex_);
  std::map<Due, std::function<void()>> timers_;
  std::map<uint64_t, std::unique_ptr<FakeCall>> calls_;
  std::function<void()> turn_end_;
  uint64_t last_id_ = 0;
  uint64_t last_timer_ = 0;
  uint64_t charged_bytes_ = 0;
};

inline EventLoop& FakeCall::loop() const { return loop_; }

inline void FakeCall::end() {
  if (std::exchange(is_ended_, true)) return;
  queue_.clear();
  queued_bytes_ = 0;
  if (const std::unique_ptr<CallHandler> handler = std::move(handler_)) handler->on_end(*this);
}

}  // namespace cairn::net
