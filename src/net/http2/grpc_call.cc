#include "net/http2/grpc_call.h"

#include <algorithm>
#include <array>
#include <utility>

#include <nghttp2/nghttp2.h>

#include "base/check.h"
#include "base/log.h"
#include "base/release.h"
#include "net/http2/fields.h"
#include "net/http2/grpc_text.h"
#include "net/http2/http2_session.h"
#include "net/loop.h"

namespace cairn::net {
namespace {

// Above this a call's client is not given new window for what it sends.
constexpr uint64_t kHoldBytes = 256 * 1024;
constexpr size_t kSmallPendingBytes = 64 * 1024;

// With the error that gRPC's clients read as `code`, as far as there is one.
uint32_t http2_error_of(Code code) {
  switch (code) {
    case Code::kCancelled:
    case Code::kDeadlineExceeded: return NGHTTP2_CANCEL;
    case Code::kResourceExhausted: return NGHTTP2_ENHANCE_YOUR_CALM;
    case Code::kUnavailable: return NGHTTP2_REFUSED_STREAM;
    default: return NGHTTP2_INTERNAL_ERROR;
  }
}

}  // namespace

void GrpcCall::clear() {
  handler_.reset();
  session_ = nullptr;
  counters_ = nullptr;
  head_.clear();
  answer_ = Answer::kNone;
  code_ = Code::kOk;
  is_counted_ = is_unary_ = has_message_ = half_close_waits_ = ended_ = writable_noted_ = false;
  sent_bytes_ = 0;
  withheld_bytes_ = 0;
  reserved_bytes_ = accounted_queued_ = accounted_held_ = 0;
  accounted_pending_ = 0;
  status_message_.clear();
  deframer_.reset(0);
  waiting_.reset();
  forget_behind();
  queue_.reset();
}

EventLoop& GrpcCall::loop() const { return session_->loop(); }
std::string GrpcCall::peer_address() const { return session_->host().peer_address(); }
std::string GrpcCall::local_address() const { return session_->host().local_address(); }

const PeerCertificate* GrpcCall::peer_certificate() const { return session_->host().peer_certificate().get(); }
uint64_t GrpcCall::room_bytes() const { return session_->answer_budget().room_bytes(); }
bool GrpcCall::is_room_scarce() const { return session_->answer_budget().is_scarce(); }

// The beginning.

void GrpcCall::begin(Http2Session& session, RequestHead& head, Router& router) {
  session_ = &session;
  head_.swap(head);
  deframer_.reset(session.options().max_request_message_bytes);
  if (refuse_early()) return;
  Loop& loop = session.loop();
  if (head_.deadline_ns() != RequestHead::kNoDeadline) loop.timers().add(*this, head_.deadline_ns());
  handler_ = router.route(head_.path(), *this);
  if (handler_ == nullptr) return refuse_unknown(router);
  counters_ = &session.counters_of(head_.path_buffer());
  is_unary_ = handler_->takes() == CallHandler::Takes::kOne;
  is_counted_ = !is_unary_;
  if (is_counted_) counters_->started.add();
  if (is_finished()) return note_handled(code_, {});
  if (head_.encoding() == RequestHead::Encoding::kOther) {
    return finish(Code::kUnimplemented, fmt::format("grpc: Decompressor is not installed for grpc-encoding {}",
                                                    quoted(head_.encoding_name())));
  }
  if (head_.deadline_ns() <= loop.now_ns()) return finish(Code::kDeadlineExceeded, "context deadline exceeded");
  handler_->on_begin(*this);
  if (link.half_closed) on_half_close();
}

// What grpc-go turns away before it looks for the method, in its order.
bool GrpcCall::refuse_early() {
  const auto refuse = [&](std::string_view http_status, Code code, std::string_view message) {
    session_->loop().counters().calls_unknown.add();
    answer_ = Answer::kFinished;
    submit_trailers_only(http_status, code, message);
    return true;
  };
  if (!head_.is_grpc()) {
    return refuse("415", Code::kInvalidArgument,
                  fmt::format("invalid gRPC request content-type {}", quoted(head_.content_type())));
  }
  if (const Error* const error = head_.error()) return refuse("400", error->code, error->message);
  if (!head_.is_post()) {
    return refuse("405", Code::kInternal,
                  fmt::format("Received a HEADERS frame with :method {} which should be POST", quoted(head_.method())));
  }
  return false;
}

void GrpcCall::refuse_unknown(Router& router) {
  session_->loop().counters().calls_unknown.add();
  if (is_finished()) return;
  const auto name = parse_path(head_.path());
  if (!name) return finish(Code::kUnimplemented, name.error().message);
  if (!router.has_service(name->service)) {
    return finish(Code::kUnimplemented, fmt::format("unknown service {}", name->service));
  }
  finish(Code::kUnimplemented, fmt::format("unknown method {} for service {}", name->method, name->service));
}

// The client's side.

void GrpcCall::on_body(std::string_view bytes) {
  withheld_bytes_ += bytes.size();
  const bool is_next = behind_.empty();
  behind_.append(is_next ? take_messages(bytes) : bytes);
  is_next ? settle() : go_on();
}

// What the client sends leads to answers, which wait for it to take them.
bool GrpcCall::takes_more() const {
  return waiting_ == nullptr && queue_.queued_bytes() <= kHoldBytes && (handler_ == nullptr || handler_->takes_more());
}

// With what was left when no more was taken.
void GrpcCall::go_on() {
  if (!behind_.empty() && takes_more()) {
    std::string behind = std::exchange(behind_, {});
    const size_t left = take_messages(std::string_view(behind).substr(std::exchange(behind_at_, 0))).size();
    if (left != 0) {
      behind_at_ = behind.size() - left;
      if (left < behind_at_) behind.erase(0, std::exchange(behind_at_, 0));
      behind_ = std::move(behind);
    }
  }
  settle();
  if (behind_.empty() && waiting_ == nullptr && std::exchange(half_close_waits_, false)) on_half_close();
}

void GrpcCall::settle() {
  if (is_finished() || ended_) forget_behind();
  if (pending_bytes() != accounted_pending_) account_pending();
  if ((behind_.empty() && takes_more()) || ended_) give_back();
}

void GrpcCall::forget_behind() {
  release(behind_);
  behind_at_ = 0;
}

void GrpcCall::give_back() { session_->give_back(*this, std::exchange(withheld_bytes_, 0)); }

// Of messages that are not whole, or not inflated.
size_t GrpcCall::pending_bytes() const {
  const size_t waiting = waiting_ == nullptr ? 0 : waiting_->message.held_bytes();
  return deframer_.pending_bytes() + waiting + behind_.size();
}

// compat: etcd lets messages that do not end pile up.
void GrpcCall::account_pending() {
  Loop& loop = session_->loop();
  const size_t before = std::exchange(accounted_pending_, pending_bytes());
  loop.counters().request_bytes_held.add(uint64_t{accounted_pending_} - before);
  if (accounted_pending_ <= std::max(before, kSmallPendingBytes) || is_finished()) return;
  if (loop.sum_everywhere(&LoopCounters::request_bytes_held) <= session_->options().request_bytes_max) return;
  finish(Code::kResourceExhausted, "cairn: too many bytes of unfinished requests");
  waiting_.reset();
  forget_behind();
  deframer_.reset(0);
  account_pending();
}

// Returns what is left, once no more is taken.
std::string_view GrpcCall::take_messages(std::string_view bytes) {
  while (!is_finished() && !ended_) {
    if (!takes_more()) return bytes;
    // A method that takes one message has it: as with grpc-go the first counts, and the rest is not even looked at.
    if (has_message_ && handler_ != nullptr && handler_->takes() == CallHandler::Takes::kOne) return {};
    const Deframer::Frame frame = deframer_.next(bytes);
    if (frame.outcome == Deframer::Outcome::kNeedMore) return {};
    if (frame.outcome == Deframer::Outcome::kTooLarge) {
      fail_receive(Code::kResourceExhausted, fmt::format("grpc: received message larger than max ({} vs. {})",
                                                         frame.length, session_->options().max_request_message_bytes));
      return {};
    }
    on_frame(frame);
  }
  return {};
}

void GrpcCall::on_frame(const Deframer::Frame& frame) {
  if (frame.flag == 0) return on_message(frame.message);
  if (frame.flag > 1) {
    return fail_receive(Code::kInternal, fmt::format("grpc: received unexpected payload format {}", frame.flag));
  }
  if (head_.encoding() == RequestHead::Encoding::kIdentity) {
    return fail_receive(Code::kInternal, "grpc: compressed flag set with identity or empty encoding");
  }
  waiting_ = std::make_unique<Waiting>(*this, frame.message, session_->options().max_request_message_bytes);
  session_->loop().inflating().add(session_->inflating(), *waiting_);
}

// Of the message that waits.
InflateTurns::Step GrpcCall::inflate(size_t bytes, bool forget) {
  const size_t before = waiting_->message.work();
  const auto whole = is_finished() ? Result<bool>(true) : waiting_->message.step(bytes);
  const size_t work = waiting_->message.work() - before;
  if (whole && !*whole) {
    if (forget) waiting_->message.begin_again();
    account_pending();
    return {.work = work, .is_over = waiting_ == nullptr};
  }
  const std::unique_ptr<Waiting> waited = std::move(waiting_);
  if (whole) {
    if (!is_finished()) on_message(waited->message.content());
  } else if (whole.error().code == Code::kResourceExhausted) {
    fail_receive(Code::kResourceExhausted, fmt::format("grpc: received message after decompression larger than max {}",
                                                       session_->options().max_request_message_bytes));
  } else {
    fail_receive(Code::kInternal, "grpc: " + whole.error().message);
  }
  go_on();
  return {.work = work};
}

void GrpcCall::on_message(std::string_view message) {
  if (handler_ == nullptr) return;
  const bool is_first = !std::exchange(has_message_, true);
  if (!is_unary_) {
    if (is_first || handler_->takes() == CallHandler::Takes::kMany) count_received(message.size());
    return handler_->on_message(*this, message);
  }
  is_counted_ = true;
  handler_->on_message(*this, message);
  if (!is_counted_) return;
  counters_->started.add();
  count_received(message.size());
}

void GrpcCall::fail_receive(Code code, std::string_view message) {
  count_failed_receive();
  finish(code, message);
}

void GrpcCall::on_half_close() {
  if (waiting_ != nullptr || !behind_.empty()) {
    half_close_waits_ = true;
    return;
  }
  if (ended_ || is_finished() || handler_ == nullptr) return;
  const bool needs_one = handler_->takes() != CallHandler::Takes::kMany;
  if (deframer_.pending_bytes() != 0 || (needs_one && !has_message_)) return refuse_incomplete();
  if (!needs_one) count_failed_receive();
  handler_->on_half_close(*this);
}

// As grpc-go.
void GrpcCall::refuse_incomplete() {
  count_failed_receive();
  const bool has_prefix = deframer_.pending_bytes() >= kPrefixBytes;
  switch (handler_->takes()) {
    case CallHandler::Takes::kOne: return finish(Code::kUnknown, has_prefix ? "unexpected EOF" : "EOF");
    case CallHandler::Takes::kOneForStream:
      return finish(Code::kInternal, has_prefix ? "unexpected EOF"
                                                : "cardinality violation: received no request message from "
                                                  "non-client-streaming RPC");
    case CallHandler::Takes::kMany: return finish(Code::kInternal, "unexpected EOF");
  }
}

// Ours.

void GrpcCall::count_received(uint64_t bytes) {
  counters_->messages_received.add();
  counters_->bytes_received.add(bytes);
}

// As etcd's interceptor, which counts each attempt of a stream's handler to receive: also the one that finds the end.
void GrpcCall::count_failed_receive() {
  if (is_counted_ && !is_unary_) counters_->messages_received.add();
}

// As etcd's interceptor: each unary call that was carried out has sent one message, also one that failed.
void GrpcCall::count_sent(uint64_t bytes) {
  if (!is_counted_) return;
  if (!is_unary_) counters_->messages_sent.add();
  counters_->bytes_sent.add(bytes);
}

void GrpcCall::note_handled(Code code, std::string_view message, std::string_view answer) {
  if (handler_ != nullptr) handler_->on_status(*this, code, message);
  count_handled(code, code == Code::kOk ? answer : message);
}

void GrpcCall::count_handled(Code code, std::string_view told) {
  if (!is_counted_) return;
  if (is_unary_) counters_->messages_sent.add();
  counters_->handled[static_cast<size_t>(code)].add();
  if (handler_ != nullptr) handler_->on_handled(*this, code, told);
}

// As grpc-go, whose limit etcd raises to the largest there is.
bool GrpcCall::refuse_too_large(uint64_t bytes) {
  if (bytes <= INT32_MAX) return false;
  finish(Code::kResourceExhausted,
         fmt::format("grpc: trying to send message larger than max ({} vs. {})", bytes, INT32_MAX));
  return true;
}

// compat: etcd lets answers pile up for clients that do not take them.
bool GrpcCall::refuse_over_budget(uint64_t bytes) {
  const bool is_reserved = reserved_bytes_ != 0 && bytes <= end_reservation();
  if (is_reserved || session_->answer_budget().takes(bytes)) return false;
  finish(Code::kResourceExhausted, "cairn: too many bytes of answers wait for clients to take them");
  return true;
}

bool GrpcCall::reserve(uint64_t bytes) {
  const uint64_t room = session_->answer_budget().room_bytes();
  if (is_finished() || ended_ || bytes > room || room == 0) return false;
  reserved_bytes_ += bytes;
  account();
  return true;
}

uint64_t GrpcCall::end_reservation() {
  const uint64_t reserved = std::exchange(reserved_bytes_, 0);
  if (reserved != 0) account();
  return reserved;
}

void GrpcCall::send_on(bool finished) {
  const bool is_first = answer_ == Answer::kNone;
  answer_ = finished ? Answer::kFinished : Answer::kBegun;
  account();
  if (!behind_.empty()) {  // for which there may be room now
    note_writable();
    session_->wake();
  }
  is_first ? submit_head() : session_->resume(*this);
}

void GrpcCall::send(std::string_view message) {
  if (is_finished() || ended_ || refuse_too_large(message.size()) || refuse_over_budget(message.size())) return;
  count_sent(message.size());
  queue_.push(message);
  send_on(false);
}

bool GrpcCall::offer(std::string_view head, std::string_view tail, const std::shared_ptr<const void>& owner,
                     uint64_t queue_bytes_max) {
  const uint64_t bytes = head.size() + tail.size();
  if (is_finished() || ended_ || refuse_too_large(bytes)) return true;  // nobody waits for it
  if (queue_.queued_bytes() > queue_bytes_max) return false;
  const bool copies = tail.size() <= kCopiedBytesMax;
  if (!session_->answer_budget().takes(copies ? bytes : head.size())) return false;
  count_sent(bytes);
  queue_.push(head, tail, copies ? nullptr : owner);
  send_on(false);
  return true;
}

void GrpcCall::send(uint64_t length, std::unique_ptr<MessageProducer> producer) {
  if (is_finished() || ended_ || refuse_too_large(length)) return;
  count_sent(length);
  queue_.push(length, std::move(producer));
  send_on(false);
}

void GrpcCall::resume() {
  if (answer_ != Answer::kNone) session_->resume(*this);
}

void GrpcCall::reply(std::string_view message) {
  if (is_finished() || ended_ || refuse_too_large(message.size()) || refuse_over_budget(message.size())) return;
  count_sent(message.size());
  note_handled(Code::kOk, {}, message);
  queue_.push(message);
  send_on(true);
}

void GrpcCall::finish(Code code, std::string_view message) {
  if (is_finished() || ended_) return;
  code_ = code;
  note_handled(code, message);
  if (answer_ == Answer::kNone) {
    answer_ = Answer::kFinished;
    submit_trailers_only("200", code, message);
    return;
  }
  if (!message.empty()) status_message_ = session_->status_text(message);
  send_on(true);
}

void GrpcCall::reject(Code code, std::string_view message) {
  if (is_unary_) is_counted_ = false;
  finish(code, message);
}

void GrpcCall::abort(Code code, std::string_view message) {
  if (ended_) return;
  queue_.empty() ? finish(code, message) : drop(code);
  // Nobody looks at it from here on: what its handler holds is free even if the client never reads again.
  end();
}

// Resets the stream with what is still queued.
void GrpcCall::drop(Code code) {
  if (!is_finished()) note_handled(code, {});
  answer_ = Answer::kReset;
  session_->reset(*this, http2_error_of(code));
  queue_.reset();
  account();
}

void GrpcCall::account() {
  const uint64_t queued = queue_.queued_bytes();
  const uint64_t held = queue_.held_bytes() + reserved_bytes_;
  session_->account(static_cast<int64_t>(queued - accounted_queued_), static_cast<int64_t>(held - accounted_held_));
  accounted_queued_ = queued;
  accounted_held_ = held;
}

void GrpcCall::submit_head() {
  static const std::array<nghttp2_nv, 2> kFields = {fixed_field(":status", "200"),
                                                    fixed_field("content-type", "application/grpc")};
  const bool is_short = answer_ == Answer::kFinished && queue_.queued_bytes() <= SendQueue::kPieceBytes;
  const auto body = is_short ? Http2Session::Body::kShort : Http2Session::Body::kLong;
  if (head_.content_subtype().empty()) return session_->submit_head(*this, kFields, body);
  const std::string own_type = fmt::format("application/grpc+{}", head_.content_subtype());
  session_->submit_head(*this, std::array{kFields[0], own_field("content-type", own_type)}, body);
}

void GrpcCall::submit_trailers() {
  const std::array<nghttp2_nv, 2> fields = {fixed_field("grpc-status", code_text(code_)),
                                            own_field("grpc-message", status_message_)};
  session_->submit_trailers(*this, std::span(fields).first(status_message_.empty() ? 1 : 2));
}

void GrpcCall::submit_trailers_only(std::string_view http_status, Code code, std::string_view message) {
  const std::string encoded = session_->status_text(message);
  const bool is_own_type = http_status == "200" && !head_.content_subtype().empty();
  const std::string own_type = is_own_type ? fmt::format("application/grpc+{}", head_.content_subtype()) : "";
  const std::array<nghttp2_nv, 4> fields = {
      fixed_field(":status", http_status),
      is_own_type ? own_field("content-type", own_type) : fixed_field("content-type", "application/grpc"),
      fixed_field("grpc-status", code_text(code)), own_field("grpc-message", encoded)};
  session_->submit_head(*this, std::span(fields).first(encoded.empty() ? 3 : 4), Http2Session::Body::kNone);
}

Http2Stream::Filled GrpcCall::fill(std::span<char> out) {
  if (answer_ == Answer::kReset) return {.next = Next::kWait};
  auto taken = queue_.take(out);
  if (!taken) {
    log::error("message producer failed; resetting the stream",
               {{"path", head_.path()}, {"error", taken.error().message}});
    return {.next = Next::kFailed};
  }
  account();
  Filled filled{.bytes = taken->bytes};
  sent_bytes_ += filled.bytes;
  if (filled.bytes != 0) session_->note_sent();
  if (withheld_bytes_ != 0 && takes_more()) behind_.empty() ? give_back() : note_writable();
  if (queue_.empty()) {
    if (answer_ == Answer::kFinished) {
      filled.next = Next::kTrailers;
      submit_trailers();
      return filled;
    }
    if (filled.bytes != 0) note_writable();
  }
  if (filled.bytes == 0) filled.next = Next::kWait;
  return filled;
}

void GrpcCall::note_writable() {
  if (!ended_ && !std::exchange(writable_noted_, true)) session_->note_writable(*this);
}

void GrpcCall::on_writable() {
  writable_noted_ = false;
  if (!behind_.empty()) go_on();
  if (queue_.empty() && answer_ == Answer::kBegun && handler_ != nullptr) handler_->on_writable(*this);
}

// The end.

void GrpcCall::on_timer() {
  if (queue_.has_producer()) {
    // Trailers cannot come in the middle of a message, and nobody waits for the rest.
    drop(Code::kDeadlineExceeded);
    end();
    return;
  }
  if (is_finished()) return;
  finish(Code::kDeadlineExceeded, "context deadline exceeded");
  end();
}

void GrpcCall::on_stalled() {
  if (handler_ != nullptr && !handler_->ends_when_stalled()) return;
  log::warn("ending a call whose client does not take its answer",
            {{"path", head_.path()}, {"sent-bytes", sent_bytes_}, {"queued-bytes", queue_.queued_bytes()}});
  drop(Code::kResourceExhausted);
  end();
}

void GrpcCall::end() {
  if (ended_) return;
  ended_ = true;
  Loop& loop = session_->loop();
  loop.timers().remove(*this);
  loop.calls().retire(id_);
  if (!is_finished()) note_handled(Code::kCancelled, "context canceled");
  (void)end_reservation();
  waiting_.reset();
  forget_behind();
  if (accounted_pending_ != 0) {
    deframer_.reset(0);
    account_pending();
  }
  if (handler_ != nullptr) {
    const std::unique_ptr<CallHandler> handler = std::move(handler_);
    handler->on_end(*this);
  }
}

void GrpcCall::on_closed() {
  end();
  queue_.reset();
  account();
  session_->loop().calls().release(*this);
}

}  // namespace cairn::net
