#include "net/http2/grpc_call.h"

#include <nghttp2/nghttp2.h>

#include "base/check.h"
#include "base/log.h"
#include "net/http2/grpc_text.h"
#include "net/http2/gzip.h"
#include "net/http2/http2_session.h"
#include "net/loop.h"

namespace cairn::net {
namespace {

// Above this a call's client is not given new window for what it sends.
constexpr uint64_t kHoldBytes = 256 * 1024;

std::string_view text_of(nghttp2_rcbuf* buffer) {
  const nghttp2_vec bytes = nghttp2_rcbuf_get_buf(buffer);
  return {reinterpret_cast<const char*>(bytes.base), bytes.len};
}

nghttp2_rcbuf* hold(nghttp2_rcbuf* buffer) {
  nghttp2_rcbuf_incref(buffer);
  return buffer;
}

}  // namespace

GrpcCall::GrpcCall() = default;
GrpcCall::~GrpcCall() { clear(); }

void GrpcCall::open(Http2Session& session, int32_t stream_id, uint32_t message_bytes_max) {
  session_ = &session;
  stream_id_ = stream_id;
  deframer_.reset(message_bytes_max);
}

void GrpcCall::clear() {
  handler_.reset();
  session_ = nullptr;
  counters_ = nullptr;
  previous_ = next_ = nullptr;
  deadline_ns_ = kNoDeadline;
  if (path_ != nullptr) nghttp2_rcbuf_decref(path_);
  path_ = nullptr;
  for (const Header& header : headers_) {
    nghttp2_rcbuf_decref(header.name);
    nghttp2_rcbuf_decref(header.value);
  }
  headers_.clear();
  header_bytes_ = 0;
  encoding_name_.clear();
  header_error_.reset();
  method_.clear();
  content_type_.clear();
  content_subtype_.clear();
  encoding_ = Encoding::kIdentity;
  has_method_ = has_content_type_ = half_closed_ = has_message_ = headers_submitted_ = false;
  finished_ = ended_ = deferred_ = writable_noted_ = reset_ = false;
  sent_bytes_ = 0;
  code_ = Code::kOk;
  held_bytes_ = 0;
  status_message_.clear();
  deframer_.reset(0);
  queue_.reset();
}

EventLoop& GrpcCall::loop() const { return session_->loop_; }

std::string_view GrpcCall::path() const { return path_ == nullptr ? std::string_view() : text_of(path_); }

std::optional<std::string_view> GrpcCall::metadata(std::string_view name) const {
  for (const Header& header : headers_) {
    if (text_of(header.name) == name) return text_of(header.value);
  }
  return std::nullopt;
}

void GrpcCall::add_header(nghttp2_rcbuf* name, nghttp2_rcbuf* value, std::string_view name_text,
                          std::string_view value_text) {
  if (name_text.front() == ':') {
    if (name_text == ":path") {
      if (path_ == nullptr) path_ = hold(value);
      return;
    }
    if (name_text == ":method") {
      has_method_ = value_text == "POST";
      if (!has_method_) method_ = value_text;
      return;
    }
    if (name_text == ":scheme") return;
  } else if (name_text == "content-type") {
    const auto subtype = grpc_content_subtype(value_text);
    has_content_type_ = subtype.has_value();
    (has_content_type_ ? content_subtype_ : content_type_) = subtype.value_or(value_text);
    return;
  } else if (name_text == "te") {
    return;
  } else if (name_text == "grpc-timeout") {
    auto timeout_ns = parse_timeout(value_text);
    if (!timeout_ns) {
      header_error_ = std::move(timeout_ns).error();
      return;
    }
    const int64_t now_ns = session_->loop_.now_ns();
    deadline_ns_ = *timeout_ns >= kNoDeadline - now_ns ? kNoDeadline : now_ns + *timeout_ns;
    return;
  } else if (name_text == "grpc-encoding") {
    if (value_text == "gzip") {
      encoding_ = Encoding::kGzip;
    } else if (!value_text.empty() && value_text != "identity") {
      encoding_ = Encoding::kOther;
      encoding_name_ = value_text;
    }
    return;
  }
  if (name_text.ends_with("-bin")) {
    if (const auto fault = base64_fault(value_text)) {
      header_error_ =
          Error{Code::kInternal, fmt::format("malformed binary metadata {} in header {}: illegal base64 data at input "
                                             "byte {}",
                                             quoted(value_text), quoted(name_text), *fault)};
      return;
    }
  }
  headers_.push_back({hold(name), hold(value)});
}

void GrpcCall::set_deadline(int64_t deadline_ns) {
  if (deadline_ns != kNoDeadline) session_->loop_.timers().add(*this, deadline_ns);
}

void GrpcCall::on_bytes(std::string_view bytes) {
  while (!finished_ && !ended_) {
    // A method that takes one message has it: as with grpc-go the first counts, and the rest is not even looked at.
    if (has_message_ && handler_ != nullptr && handler_->takes() == CallHandler::Takes::kOne) return;
    const Deframer::Frame frame = deframer_.next(bytes);
    if (frame.outcome == Deframer::Outcome::kNeedMore) return;
    if (frame.outcome == Deframer::Outcome::kTooLarge) {
      finish(Code::kResourceExhausted, fmt::format("grpc: received message larger than max ({} vs. {})", frame.length,
                                                   session_->options_.max_request_message_bytes));
      return;
    }
    on_message(frame);
  }
}

void GrpcCall::on_message(const Deframer::Frame& frame) {
  std::string_view message = frame.message;
  std::string decompressed;
  if (frame.flag > 1) {
    finish(Code::kInternal, fmt::format("grpc: received unexpected payload format {}", frame.flag));
    return;
  }
  if (frame.flag == 1) {
    const uint32_t bytes_max = session_->options_.max_request_message_bytes;
    if (encoding_ == Encoding::kIdentity) {
      finish(Code::kInternal, "grpc: compressed flag set with identity or empty encoding");
      return;
    }
    auto content = gunzip(message, bytes_max);
    if (!content && content.error().code == Code::kResourceExhausted) {
      finish(Code::kResourceExhausted,
             fmt::format("grpc: received message after decompression larger than max {}", bytes_max));
      return;
    }
    if (!content) {
      finish(Code::kInternal, "grpc: " + content.error().message);
      return;
    }
    decompressed = *std::move(content);
    message = decompressed;
  }
  if (counters_ != nullptr) {
    counters_->messages_received.add();
    counters_->bytes_received.add(message.size());
  }
  has_message_ = true;
  if (handler_ != nullptr) handler_->on_message(*this, message);
}

void GrpcCall::on_half_close() {
  if (half_closed_) return;
  half_closed_ = true;
  if (ended_ || finished_) return;
  if (handler_ == nullptr) return;
  const bool needs_one = handler_->takes() != CallHandler::Takes::kMany;
  if (deframer_.pending_bytes() != 0 || (needs_one && !has_message_)) return refuse_incomplete();
  handler_->on_half_close(*this);
}

// As grpc-go.
void GrpcCall::refuse_incomplete() {
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

void GrpcCall::start_or_resume() {
  if (!headers_submitted_) {
    headers_submitted_ = true;
    session_->submit_headers(*this);
  } else if (deferred_) {
    deferred_ = false;
    session_->resume(*this);
  }
}

// As grpc-go, whose limit etcd raises to the largest there is.
bool GrpcCall::refuse_too_large(uint64_t bytes) {
  if (bytes <= INT32_MAX) return false;
  finish(Code::kResourceExhausted,
         fmt::format("grpc: trying to send message larger than max ({} vs. {})", bytes, INT32_MAX));
  return true;
}

void GrpcCall::send(std::string_view message) {
  if (finished_ || ended_ || refuse_too_large(message.size())) return;
  if (counters_ != nullptr) {
    counters_->messages_sent.add();
    counters_->bytes_sent.add(message.size());
  }
  queue_.push(message);
  start_or_resume();
}

void GrpcCall::send(uint64_t length, std::unique_ptr<MessageProducer> producer) {
  if (finished_ || ended_ || refuse_too_large(length)) return;
  if (counters_ != nullptr) {
    counters_->messages_sent.add();
    counters_->bytes_sent.add(length);
  }
  queue_.push(length, std::move(producer));
  start_or_resume();
}

void GrpcCall::resume() {
  if (session_ != nullptr && headers_submitted_) start_or_resume();
}

void GrpcCall::reply(std::string_view message) {
  if (finished_ || ended_ || refuse_too_large(message.size())) return;
  if (counters_ != nullptr) {
    counters_->messages_sent.add();
    counters_->bytes_sent.add(message.size());
    counters_->handled[0].add();
  }
  queue_.push(message);
  finished_ = true;
  start_or_resume();
}

void GrpcCall::finish(Code code, std::string_view message) {
  if (finished_ || ended_) return;
  finished_ = true;
  code_ = code;
  if (counters_ != nullptr) counters_->handled[static_cast<size_t>(code)].add();
  if (!headers_submitted_) {
    headers_submitted_ = true;
    session_->submit_trailers_only(*this, 200, code, message);
    return;
  }
  if (!message.empty()) status_message_ = session_->status_text(message);
  start_or_resume();
}

void GrpcCall::abort(Code code, std::string_view message) {
  if (ended_) return;
  if (queue_.empty()) {
    finish(code, message);
  } else {
    drop(code);
  }
  // Nobody looks at it from here on: what its handler holds is free even if the client never reads again.
  end();
}

// Resets the stream with what is still queued.
void GrpcCall::drop(Code code) {
  reset_ = true;
  session_->reset(*this, code);
  if (!finished_ && counters_ != nullptr) counters_->handled[static_cast<size_t>(code)].add();
  finished_ = true;
  queue_.reset();
}

GrpcCall::Filled GrpcCall::fill(std::span<char> out) {
  if (reset_) return {.defer = true};
  auto taken = queue_.take(out);
  if (!taken) {
    log::error("message producer failed; resetting the stream", {{"path", path()}, {"error", taken.error().message}});
    return {.failed = true};
  }
  Filled filled{.bytes = taken->bytes};
  sent_bytes_ += filled.bytes;
  if (filled.bytes != 0) session_->pings_.on_sent();
  if (held_bytes_ != 0 && queue_.queued_bytes() <= kHoldBytes) session_->give_back(*this);
  if (queue_.empty()) {
    if (finished_) {
      filled.last = true;
      return filled;
    }
    if (filled.bytes != 0) session_->note_writable(*this);
  }
  if (filled.bytes == 0) {
    deferred_ = true;
    filled.defer = true;
  }
  return filled;
}

void GrpcCall::on_timer() {
  if (queue_.has_producer()) {
    // Trailers cannot come in the middle of a message, and nobody waits for the rest.
    drop(Code::kDeadlineExceeded);
    end();
    return;
  }
  if (finished_) return;
  finish(Code::kDeadlineExceeded, "context deadline exceeded");
  end();
}

void GrpcCall::end() {
  if (ended_) return;
  ended_ = true;
  session_->loop_.timers().remove(*this);
  session_->loop_.calls().retire(id_);
  if (!finished_ && counters_ != nullptr) counters_->handled[static_cast<size_t>(Code::kCancelled)].add();
  if (handler_ != nullptr) {
    const std::unique_ptr<CallHandler> handler = std::move(handler_);
    handler->on_end(*this);
  }
}

}  // namespace cairn::net
