#include "net/local_call.h"

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "base/check.h"
#include "base/log.h"
#include "base/release.h"
#include "net/answer_budget.h"
#include "net/http2/framing.h"
#include "net/http2/send_queue.h"
#include "net/loop.h"
#include "net/timer_heap.h"

namespace cairn::net {
namespace {

constexpr size_t kTurnBytes = 256 * 1024;  // that a producer is asked for at once
constexpr int64_t kAtOnce = 0;             // a time that has passed

class WithinCall final : public LocalCall::Origin {
 public:
  explicit WithinCall(const Call& outer) : outer_(outer) {}
  std::string peer_address() const override { return outer_.peer_address(); }
  uint64_t connection() const override { return outer_.connection(); }
  std::optional<std::string_view> metadata(std::string_view name) const override { return outer_.metadata(name); }
  std::optional<int64_t> deadline_ns() const override { return std::nullopt; }  // what ends the outer call ends both

 private:
  const Call& outer_;
};

class AfterCall final : public LocalCall::Origin {
 public:
  AfterCall(const Call& outer, std::span<const std::string_view> names)
      : peer_address_(outer.peer_address()), connection_(outer.connection()) {
    for (const std::string_view name : names) {
      if (const auto value = outer.metadata(name)) metadata_.emplace_back(name, *value);
    }
  }
  std::string peer_address() const override { return peer_address_; }
  uint64_t connection() const override { return connection_; }
  std::optional<std::string_view> metadata(std::string_view name) const override {
    for (const auto& [known, value] : metadata_) {
      if (known == name) return value;
    }
    return std::nullopt;
  }
  std::optional<int64_t> deadline_ns() const override { return std::nullopt; }

 private:
  const std::string peer_address_;
  const uint64_t connection_;
  std::vector<std::pair<std::string, std::string>> metadata_;
};

class CallOnLoop final : public LocalCall, private Call {
 public:
  CallOnLoop(Loop& loop, Owner& owner, std::unique_ptr<Origin> origin)
      : loop_(loop), owner_(&owner), origin_(std::move(origin)), id_(loop.calls().add(*this)) {}
  ~CallOnLoop() override {
    end();
    loop_.timers().remove(news_);
  }
  CallOnLoop(const CallOnLoop&) = delete;
  CallOnLoop& operator=(const CallOnLoop&) = delete;

  // LocalCall
  Call& call() override { return *this; }
  void set_owner(Owner& owner) override { owner_ = &owner; }
  void count_as(std::string_view path) override;
  void begin(std::unique_ptr<CallHandler> handler) override;
  void send_message(std::string_view message) override;
  void half_close() override;
  bool takes_more() const override { return !is_open() || handler_->takes_more(); }
  News take(std::string& message) override;
  const Error& status() const override { return status_; }

 private:
  enum class State : uint8_t { kOpen, kFinished, kEnded };
  [[nodiscard]] bool is_open() const { return state_ == State::kOpen; }

  // Call
  CallId id() const override { return id_; }
  EventLoop& loop() const override { return loop_; }
  std::string peer_address() const override { return origin_->peer_address(); }
  uint64_t connection() const override { return origin_->connection(); }
  std::optional<std::string_view> metadata(std::string_view name) const override { return origin_->metadata(name); }
  std::optional<int64_t> deadline_ns() const override { return origin_->deadline_ns(); }
  void send(std::string_view message) override;
  bool offer(std::string_view head, std::string_view tail, const std::shared_ptr<const void>& owner,
             uint64_t queue_bytes_max) override;
  void send(uint64_t length, std::unique_ptr<MessageProducer> producer) override;
  void resume() override { tell_owner(); }
  uint64_t queued_bytes() const override { return queue_.queued_bytes(); }
  uint64_t room_bytes() const override { return budget_.room_bytes(); }
  bool is_room_scarce() const override { return budget_.is_scarce(); }
  bool reserve(uint64_t bytes) override;
  void finish(Code code, std::string_view message) override;
  void reject(Code code, std::string_view message) override { finish(code, message); }
  void abort(Code code, std::string_view message) override;
  uint64_t sent_bytes() const override { return sent_bytes_; }
  void reply(std::string_view message) override;

  // True: the call was ended instead.
  bool refuse_too_large(uint64_t bytes);
  bool refuse(uint64_t bytes);
  void fail_producer(const Error& error);
  void tell_owner();
  void tell();  // the owner or the handler, from the loop
  void on_deadline();
  void drop_queue();
  void account();
  void end();

  Loop& loop_;
  Owner* owner_;
  const std::unique_ptr<Origin> origin_;
  const CallId id_;
  std::unique_ptr<CallHandler> handler_;
  MethodCounters* counters_ = nullptr;  // null: not counted
  State state_ = State::kOpen;
  bool has_news_ = false;     // for the owner
  bool is_writable_ = false;  // for the handler
  bool takes_piece_ = false;  // piece_ is part of a message of piece_length_ bytes
  Error status_{Code::kOk, {}};
  SendQueue queue_;
  std::string piece_;
  uint64_t piece_length_ = 0;
  uint64_t produced_bytes_ = 0;  // of messages that producers make, and that the owner has not got yet
  uint64_t reserved_bytes_ = 0;
  uint64_t sent_bytes_ = 0;
  AnswerBudget budget_{loop_, loop_.answer_limits()};
  MemberTimer<CallOnLoop> news_{*this, &CallOnLoop::tell};
  MemberTimer<CallOnLoop> deadline_{*this, &CallOnLoop::on_deadline};
};

// The client's side.

void CallOnLoop::begin(std::unique_ptr<CallHandler> handler) {
  CAIRN_ASSERT(handler_ == nullptr);
  handler_ = std::move(handler);
  if (!is_open()) return;
  if (handler_ == nullptr) return finish(Code::kUnimplemented, "unknown method");
  if (const auto deadline_ns = origin_->deadline_ns()) {
    if (*deadline_ns <= loop_.now_ns()) return finish(Code::kDeadlineExceeded, "context deadline exceeded");
    loop_.timers().add(deadline_, *deadline_ns);
  }
  handler_->on_begin(*this);
}

void CallOnLoop::count_as(std::string_view path) {
  counters_ = &loop_.method_counters(path);
  counters_->started.add();
}

void CallOnLoop::send_message(std::string_view message) {
  if (!is_open()) return;
  if (counters_ != nullptr) {
    counters_->messages_received.add();
    counters_->bytes_received.add(message.size());
  }
  handler_->on_message(*this, message);
}

void CallOnLoop::half_close() {
  if (is_open()) handler_->on_half_close(*this);
}

LocalCall::News CallOnLoop::take(std::string& message) {
  if (!takes_piece_) {
    if (queue_.empty()) {
      if (is_open()) return News::kNone;
      end();
      return News::kEnd;
    }
    std::array<char, kPrefixBytes> prefix{};
    const auto taken = queue_.take(prefix);
    CAIRN_ASSERT(taken && taken->bytes == prefix.size());
    piece_length_ = load_be32(prefix.data() + 1);
    takes_piece_ = true;
    piece_.reserve(piece_length_);
  }
  // Whole messages are there at once; producers are asked until they have given enough for now.
  const size_t enough = queue_.has_producer() ? piece_.size() + kTurnBytes : SIZE_MAX;
  while (piece_.size() < piece_length_) {
    if (piece_.size() >= enough) {
      tell_owner();
      return News::kNone;
    }
    const size_t before = piece_.size();
    piece_.resize(std::min<uint64_t>(piece_length_, before + kTurnBytes));
    const auto taken = queue_.take(std::span(piece_).subspan(before));
    if (!taken) {
      fail_producer(taken.error());
      return News::kEnd;
    }
    piece_.resize(before + taken->bytes);
    if (taken->waits) return News::kNone;
  }
  takes_piece_ = false;
  message = std::exchange(piece_, {});
  sent_bytes_ += message.size();
  if (counters_ != nullptr) {
    counters_->messages_sent.add();
    counters_->bytes_sent.add(message.size());
  }
  if (!queue_.has_producer()) produced_bytes_ = 0;
  account();
  if (queue_.empty() && is_open()) {
    is_writable_ = true;
    if (!news_.is_set()) loop_.timers().add(news_, kAtOnce);
  }
  return News::kMessage;
}

// The handler's side.

bool CallOnLoop::refuse_too_large(uint64_t bytes) {
  if (bytes <= INT32_MAX) return false;
  finish(Code::kResourceExhausted,
         fmt::format("grpc: trying to send message larger than max ({} vs. {})", bytes, INT32_MAX));
  return true;
}

bool CallOnLoop::refuse(uint64_t bytes) {
  if (refuse_too_large(bytes)) return true;
  const uint64_t reserved = std::exchange(reserved_bytes_, 0);
  if (reserved != 0) account();
  if (bytes <= reserved || budget_.takes(bytes)) return false;
  finish(Code::kResourceExhausted, "cairn: too many bytes of answers wait for clients to take them");
  return true;
}

void CallOnLoop::send(std::string_view message) {
  if (!is_open() || refuse(message.size())) return;
  queue_.push(message);
  account();
  tell_owner();
}

bool CallOnLoop::offer(std::string_view head, std::string_view tail, const std::shared_ptr<const void>& owner,
                       uint64_t queue_bytes_max) {
  const uint64_t bytes = head.size() + tail.size();
  if (!is_open() || refuse_too_large(bytes)) return true;  // nobody waits for it
  if (queue_.queued_bytes() > queue_bytes_max || !budget_.takes(bytes)) return false;
  queue_.push(head, tail, tail.size() > kCopiedBytesMax ? owner : nullptr);
  account();
  tell_owner();
  return true;
}

void CallOnLoop::send(uint64_t length, std::unique_ptr<MessageProducer> producer) {
  if (!is_open() || refuse(length)) return;
  queue_.push(length, std::move(producer));
  produced_bytes_ += length;
  account();
  tell_owner();
}

bool CallOnLoop::reserve(uint64_t bytes) {
  const uint64_t room = budget_.room_bytes();
  if (!is_open() || bytes > room || room == 0) return false;
  reserved_bytes_ += bytes;
  account();
  return true;
}

void CallOnLoop::reply(std::string_view message) {
  send(message);
  finish(Code::kOk, {});
}

void CallOnLoop::finish(Code code, std::string_view message) {
  if (!is_open()) return;
  state_ = State::kFinished;
  status_ = {code, std::string(message)};
  tell_owner();
}

void CallOnLoop::abort(Code code, std::string_view message) {
  if (state_ == State::kEnded) return;
  if (!queue_.empty() || takes_piece_ || is_open()) {
    drop_queue();
    state_ = State::kFinished;
    status_ = {code, std::string(message)};
    tell_owner();
  }
  end();
}

// Inside take(), which answers that the call is over.
void CallOnLoop::fail_producer(const Error& error) {
  log::error("message producer failed; ending the call", {{"error", error.message}});
  drop_queue();
  state_ = State::kFinished;
  status_ = {Code::kInternal, error.message};
  end();
}

void CallOnLoop::tell_owner() {
  has_news_ = true;
  if (!news_.is_set()) loop_.timers().add(news_, kAtOnce);
}

void CallOnLoop::tell() {
  if (std::exchange(is_writable_, false) && is_open()) handler_->on_writable(*this);
  if (!std::exchange(has_news_, false)) return;
  owner_->on_news(*this);  // may destroy the call
}

// The end.

void CallOnLoop::on_deadline() {
  if (!is_open() && !queue_.has_producer()) return;
  if (queue_.has_producer()) drop_queue();
  state_ = State::kFinished;
  status_ = {Code::kDeadlineExceeded, "context deadline exceeded"};
  tell_owner();
  end();
}

void CallOnLoop::drop_queue() {
  queue_.reset();
  release(piece_);
  takes_piece_ = false;
  produced_bytes_ = 0;
  account();
}

void CallOnLoop::account() {
  const uint64_t held = queue_.held_bytes() + produced_bytes_ + reserved_bytes_;
  budget_.change(static_cast<int64_t>(held - budget_.held_bytes()));
}

void CallOnLoop::end() {
  if (state_ == State::kEnded) return;
  if (is_open()) status_ = {Code::kCancelled, "context canceled"};
  state_ = State::kEnded;
  if (counters_ != nullptr) counters_->handled.at(static_cast<size_t>(status_.code)).add();
  loop_.timers().remove(deadline_);
  loop_.calls().retire(id_);
  reserved_bytes_ = 0;
  account();
  if (handler_ != nullptr) {
    const std::unique_ptr<CallHandler> handler = std::move(handler_);
    handler->on_status(*this, status_.code, status_.message);
    handler->on_end(*this);
  }
}

}  // namespace

std::unique_ptr<LocalCall::Origin> origin_within(const Call& outer) { return std::make_unique<WithinCall>(outer); }

std::unique_ptr<LocalCall::Origin> origin_after(const Call& outer, std::span<const std::string_view> names) {
  return std::make_unique<AfterCall>(outer, names);
}

std::unique_ptr<LocalCall> make_local_call(Loop& loop, LocalCall::Owner& owner,
                                           std::unique_ptr<LocalCall::Origin> origin) {
  return std::make_unique<CallOnLoop>(loop, owner, std::move(origin));
}

}  // namespace cairn::net
