#include "net/http2/http2_exchange.h"

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "base/check.h"
#include "net/http2/fields.h"
#include "net/http2/http2_session.h"
#include "net/loop.h"

namespace cairn::net {
namespace {

// As a field of HTTP/2: lower case, and what would break a line is a space.
std::string lower(std::string_view name) {
  std::string out(name);
  for (char& c : out) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  return out;
}

std::string one_line(std::string_view value) {
  std::string out(value);
  std::replace_if(out.begin(), out.end(), [](char c) { return c == '\r' || c == '\n'; }, ' ');
  return out;
}

// About a connection of HTTP/1.1: forbidden here (RFC 9113, 8.2.2).
bool is_about_connection(std::string_view name) {
  return name == "connection" || name == "keep-alive" || name == "transfer-encoding" || name == "upgrade" ||
         name == "proxy-connection";
}

}  // namespace

Http2Exchange::Http2Exchange(Http2Session& session, HttpRequest request)
    : session_(session), request_(std::move(request)), id_(session.loop().exchanges().add(*this)) {}

EventLoop& Http2Exchange::loop() const { return session_.loop(); }
const HttpLimits& Http2Exchange::limits() const { return session_.limits(); }
std::string Http2Exchange::peer_address() const { return session_.host().peer_address(); }
bool Http2Exchange::has_room(uint64_t bytes) const {
  return bytes <= kShortBytes || !sends_body_ || session_.answer_budget().takes(bytes);
}

void Http2Exchange::begin(HttpHandler& handler) {
  session_.loop().counters().http_requests.add();
  handler_ = handler.begin(*this);
  if (link.half_closed && handler_ != nullptr && !is_over()) handler_->on_body_end(*this);
}

void Http2Exchange::respond(const HttpResponse& head, std::optional<uint64_t> length) {
  CAIRN_ASSERT(answer_ == Answer::kNone);
  answer_ = Answer::kBegun;
  const bool has_body = head.status >= 200 && head.status != 204 && head.status != 304;
  sends_body_ = has_body && request_.method != "HEAD";
  HttpFields fields = {{":status", std::to_string(head.status)}};
  if (has_body && !head.content_type.empty()) fields.emplace_back("content-type", head.content_type);
  for (const auto& [name, value] : head.headers) {
    std::string own_name = lower(name);
    if (!is_about_connection(own_name)) fields.emplace_back(std::move(own_name), one_line(value));
  }
  if (has_body && length) fields.emplace_back("content-length", std::to_string(*length));
  std::vector<nghttp2_nv> list;
  for (const auto& [name, value] : fields) list.push_back(own_field(name, value));
  session_.submit_head(*this, list, sends_body_ ? Http2Session::Body::kLong : Http2Session::Body::kNone);
}

void Http2Exchange::write(std::string_view bytes) {
  if (answer_ != Answer::kBegun || !sends_body_ || bytes.empty()) return;
  out_.push(bytes);
  session_.account(static_cast<int64_t>(bytes.size()), static_cast<int64_t>(bytes.size()));
  session_.resume(*this);
}

void Http2Exchange::finish() {
  if (answer_ != Answer::kBegun) return;
  answer_ = Answer::kFinished;
  if (sends_body_) session_.resume(*this);
}

void Http2Exchange::abort() {
  if (answer_ == Answer::kAborted) return;
  answer_ = Answer::kAborted;
  session_.loop().exchanges().remove(id_);
  drop_queue();
  session_.reset(*this, NGHTTP2_INTERNAL_ERROR);
}

void Http2Exchange::drop_queue() {
  const auto left = static_cast<int64_t>(out_.size());
  session_.account(-left, -left);
  out_.clear();
}

void Http2Exchange::hold_body(bool hold) {
  holds_body_ = hold;
  if (hold || body_held_.empty()) return;
  // In a turn of its own, not from inside the handler.
  session_.loop().post([loop = &session_.loop(), id = id_] {
    Exchange* const found = loop->exchanges().find(id);
    if (found == nullptr) return;
    auto& self = static_cast<Http2Exchange&>(*found);
    if (self.holds_body_ || self.body_held_.empty()) return;
    const std::string bytes = std::exchange(self.body_held_, {});
    if (self.handler_ != nullptr && !self.is_over()) self.handler_->on_body(self, bytes);
    self.session_.give_back(self, bytes.size());
    self.session_.host().wake();
    if (self.link.half_closed) self.on_half_close();
  });
}

void Http2Exchange::switch_protocols(const HttpFields&) { CAIRN_ASSERT(false); }

void Http2Exchange::on_body(std::string_view bytes) {
  if (handler_ == nullptr || is_over()) return session_.give_back(*this, bytes.size());
  if (!streams_body_) {
    body_bytes_ += bytes.size();
    session_.note_body(static_cast<int64_t>(bytes.size()));
  }
  if (!streams_body_ && session_.open_body_bytes() > session_.limits().body_bytes_max) {
    session_.loop().exchanges().remove(id_);
    if (answer_ == Answer::kNone) {
      respond_whole(*this, {.status = 413, .headers = {}, .body = "413 Payload Too Large"});
    } else {
      abort();
    }
    return;
  }
  if (holds_body_) {
    body_held_.append(bytes);  // at most a window
    return;
  }
  handler_->on_body(*this, bytes);
  session_.give_back(*this, bytes.size());
}

void Http2Exchange::on_half_close() {
  if (handler_ != nullptr && !is_over() && body_held_.empty()) handler_->on_body_end(*this);
}

Http2Stream::Filled Http2Exchange::fill(std::span<char> out) {
  if (answer_ == Answer::kAborted) return {.next = Next::kWait};
  const std::string_view bytes = out_.front(out.size());
  std::memcpy(out.data(), bytes.data(), bytes.size());
  Filled filled{.bytes = bytes.size()};
  out_.pop(filled.bytes);
  sent_bytes_ += filled.bytes;
  session_.account(-static_cast<int64_t>(filled.bytes), -static_cast<int64_t>(filled.bytes));
  session_.note_sent();
  if (!out_.empty()) return filled;
  if (answer_ == Answer::kFinished) {
    filled.next = Next::kEnd;
  } else if (filled.bytes == 0) {
    filled.next = Next::kWait;
  } else {
    session_.note_writable(*this);
  }
  return filled;
}

void Http2Exchange::on_writable() {
  if (handler_ != nullptr && answer_ == Answer::kBegun) handler_->on_writable(*this);
}

void Http2Exchange::on_closed() {
  session_.loop().exchanges().remove(id_);
  session_.note_body(-static_cast<int64_t>(body_bytes_));
  drop_queue();
  answer_ = Answer::kAborted;
  if (const auto handler = std::move(handler_); handler != nullptr) handler->on_end(*this);
  delete this;
}

}  // namespace cairn::net
