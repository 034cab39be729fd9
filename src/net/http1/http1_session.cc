#include "net/http1/http1_session.h"

#include <algorithm>
#include <ctime>
#include <utility>

#include <boost/beast/http/status.hpp>

#include "base/check.h"
#include "base/release.h"
#include "net/loop.h"

namespace cairn::net {
namespace {

namespace http = boost::beast::http;

constexpr size_t kAheadBytesMax = 64 * 1024;  // of what comes behind the present request
constexpr unsigned kRequestsATurn = 16;       // of one connection

// "Mon, 02 Jan 2006 15:04:05 GMT". Made once a second a thread.
std::string_view http_date() {
  thread_local std::time_t made_at = 0;
  thread_local char text[40];
  thread_local size_t length = 0;
  const std::time_t now = std::time(nullptr);
  if (now != made_at) {
    std::tm broken{};
    gmtime_r(&now, &broken);
    length = std::strftime(text, sizeof text, "%a, %d %b %Y %H:%M:%S GMT", &broken);
    made_at = now;
  }
  return {text, length};
}

std::string reason_of(int status) {
  if (status == 421) return "Misdirected Request";
  const auto known = http::int_to_status(static_cast<unsigned>(status));
  if (known == http::status::unknown) return "status code " + std::to_string(status);
  const auto reason = http::obsolete_reason(known);
  return {reason.data(), reason.size()};
}

// Whether etcd's multiplexer takes the first line of a connection for HTTP/1. It closes any other without a word.
bool begins_http1(std::string_view in) {
  std::string_view line = in.substr(0, in.find('\n'));
  if (line.ends_with('\r')) line.remove_suffix(1);
  const size_t target = line.find(' ');
  const size_t version = target == std::string_view::npos ? target : line.find(' ', target + 1);
  if (version == std::string_view::npos) return false;
  line.remove_prefix(version + 1);
  return line.size() == 8 && line.starts_with("HTTP/1.") && line.back() >= '0' && line.back() <= '9';
}

bool status_has_body(int status) { return status >= 200 && status != 204 && status != 304; }

}  // namespace

Http1Session::Http1Session(Loop& loop, const HttpLimits& limits, HttpHandler& handler, ProtocolHost& host)
    : loop_(loop),
      limits_(limits),
      handler_(handler),
      host_(host),
      silent_since_ns_(loop.now_ns()),
      answer_budget_(loop, loop.answer_limits()) {
  set_timer();
}

Http1Session::~Http1Session() { on_closed(); }

EventLoop& Http1Session::loop() const { return loop_; }

void Http1Session::on_closed() {
  loop_.timers().remove(*this);
  if (id_.value != 0) end_exchange();
}

Stake Http1Session::stake() const {
  if (answer_ == Answer::kBegun || answer_ == Answer::kChunks) return Stake::kAnswer;
  return streams_body_ ? Stake::kRequestBody : Stake::kLittle;
}

void Http1Session::stream_body() {
  parser_->lift_body_limit();
  streams_body_ = true;
}

void Http1Session::on_timer() {
  const int64_t now_ns = loop_.now_ns();
  if (!may_parse()) silent_since_ns_ = now_ns;  // it is ours to send, or to take
  const bool is_silent = limits_.read_timeout_ns > 0 && now_ns - silent_since_ns_ >= limits_.read_timeout_ns;
  if (!is_silent && (head_due_ns_ == 0 || now_ns < head_due_ns_)) return set_timer();
  closing_ = true;
  host_.wake();
}

void Http1Session::set_timer() {
  loop_.timers().remove(*this);
  int64_t due_ns = head_due_ns_ != 0 ? head_due_ns_ : INT64_MAX;
  if (limits_.read_timeout_ns > 0) due_ns = std::min(due_ns, silent_since_ns_ + limits_.read_timeout_ns);
  if (due_ns != INT64_MAX) loop_.timers().add(*this, due_ns);
}

void Http1Session::drain() {
  draining_ = true;
  if (id_.value == 0) closing_ = true;
  host_.wake();
}

bool Http1Session::may_parse() const {
  if (closing_) return false;
  if (request_ == Request::kHead) return id_.value == 0;
  return request_ == Request::kBody && !holds_body_ && answer_ != Answer::kFinished;
}

bool Http1Session::may_read(bool blocked) const {
  return may_parse() || (!blocked && in_.size() - in_offset_ < kAheadBytesMax);
}

bool Http1Session::receive(std::string_view bytes) {
  if (closing_) return true;
  silent_since_ns_ = loop_.now_ns();
  in_.append(bytes);
  parse();
  return true;
}

void Http1Session::parse() {
  if (parsing_) return;  // a handler's doing: the loop below goes on by itself
  parsing_ = true;
  while (in_offset_ < in_.size() && may_parse()) {
    if (is_raw_) {
      const std::string_view bytes = std::string_view(in_).substr(std::exchange(in_offset_, in_.size()));
      if (exchange_ != nullptr) exchange_->on_body(*this, bytes);
      continue;
    }
    if (parser_ == nullptr) {
      parser_ = std::make_unique<RequestParser>(limits_, [this](std::string_view bytes) {
        if (exchange_ != nullptr && answer_ != Answer::kFinished) exchange_->on_body(*this, bytes);
      });
      head_due_ns_ = loop_.now_ns() + limits_.header_timeout_ns;
      set_timer();
    }
    const auto [used, refused, why] = feed(std::string_view(in_).substr(in_offset_));
    if (refused != 0) {
      refuse(refused, why);
      break;
    }
    in_offset_ += used;
    if (request_ == Request::kHead && parser_->has_head() && parser_->expects_other()) {
      refuse(417);
      break;
    }
    if (request_ == Request::kHead && parser_->has_head()) begin_exchange();
    if (request_ == Request::kBody && parser_->is_done() && !is_raw_) {
      request_ = Request::kWhole;
      if (exchange_ != nullptr && answer_ != Answer::kFinished) exchange_->on_body_end(*this);
      break;
    }
    if (used == 0 && may_parse()) {
      // A line of a chunk, or trailers: no head is allowed to be so long either.
      if (in_.size() - in_offset_ > limits_.header_bytes_max) refuse(400);
      break;
    }
  }
  in_.erase(0, std::exchange(in_offset_, 0));
  if (in_.empty()) release(in_);
  parsing_ = false;
}

RequestParser::Progress Http1Session::feed(std::string_view bytes) {
  if (parser_->has_head()) return parser_->put(bytes);
  lines_.look(bytes);
  if (lines_.is_usual()) {
    const RequestParser::Progress progress = parser_->put(bytes);
    if (lines_.is_whole()) {
      lines_ = HeadLines{};
    } else {
      lines_.pass(progress.used);
    }
    return progress;
  }
  if (!lines_.is_whole()) {
    if (bytes.size() > limits_.header_bytes_max) return {.refuse = 431};
    return {};
  }
  RequestParser::Progress progress = parser_->put(lines_.made_usual(bytes));
  progress.used = std::exchange(lines_, HeadLines{}).bytes();
  return progress;
}

void Http1Session::begin_exchange() {
  is_first_ = false;
  head_due_ns_ = 0;
  set_timer();
  loop_.counters().http_requests.add();
  request_ = Request::kBody;
  answer_ = Answer::kNone;
  keep_alive_ = parser_->keeps_alive();
  parser_->request().is_secure = host_.is_secure();
  parser_->request().peer_certificate = host_.peer_certificate();
  sends_body_ = parser_->request().method != "HEAD";
  holds_body_ = false;
  id_ = loop_.exchanges().add(*this);
  exchange_ = handler_.begin(*this);
  if (answer_ == Answer::kNone && !parser_->is_done() && parser_->expects_continue()) {
    out_.push("HTTP/1.1 100 Continue\r\n\r\n");
    host_.wake();
  }
}

void Http1Session::end_exchange() {
  loop_.exchanges().remove(id_);
  id_ = {};
  if (const auto handler = std::move(exchange_); handler != nullptr) handler->on_end(*this);
  parser_.reset();
  request_ = Request::kHead;
  answer_ = Answer::kNone;
  streams_body_ = false;
  silent_since_ns_ = loop_.now_ns();
}

void Http1Session::respond(const HttpResponse& head, std::optional<uint64_t> length) {
  CAIRN_ASSERT(answer_ == Answer::kNone && id_.value != 0);
  const bool has_body = status_has_body(head.status);
  sends_body_ = sends_body_ && has_body;
  const bool in_chunks = has_body && !length && !parser_->is_http10();
  // A length that is not known is the connection's end for HTTP/1.0; a request that is not whole would be read as the
  // next one.
  if (draining_ || (has_body && !length && !in_chunks) || !parser_->is_done()) keep_alive_ = false;
  answer_ = in_chunks ? Answer::kChunks : Answer::kBegun;
  out_.push(parser_->is_http10() ? "HTTP/1.0 " : "HTTP/1.1 ");
  out_.push(std::to_string(head.status));
  out_.push(" ");
  out_.push(reason_of(head.status));
  if (has_body && !head.content_type.empty()) push_header("Content-Type", head.content_type);
  for (const auto& [name, value] : head.headers) push_header(name, value);
  push_header("Date", http_date());
  if (has_body && length) push_header("Content-Length", std::to_string(*length));
  if (in_chunks) push_header("Transfer-Encoding", "chunked");
  if (keep_alive_ == parser_->is_http10()) push_header("Connection", keep_alive_ ? "keep-alive" : "close");
  out_.push("\r\n\r\n");
  host_.wake();
}

void Http1Session::push_header(std::string_view name, std::string_view value) {
  out_.push("\r\n");
  out_.push(name);
  out_.push(": ");
  // A line break inside a value would begin a header of somebody else's.
  std::string clean(value);
  std::replace_if(clean.begin(), clean.end(), [](char c) { return c == '\r' || c == '\n'; }, ' ');
  out_.push(clean);
}

void Http1Session::switch_protocols(const HttpFields& headers) {
  CAIRN_ASSERT(answer_ == Answer::kNone && id_.value != 0 && request_ == Request::kBody);
  answer_ = Answer::kBegun;
  keep_alive_ = false;
  is_raw_ = true;
  out_.push("HTTP/1.1 101 Switching Protocols");
  for (const auto& [name, value] : headers) push_header(name, value);
  out_.push("\r\n\r\n");
  host_.wake();
}

void Http1Session::write_pieces(std::span<const std::string_view> pieces) {
  CAIRN_ASSERT(answer_ == Answer::kBegun || answer_ == Answer::kChunks);
  size_t size = 0;
  for (const std::string_view piece : pieces) size += piece.size();
  if (!sends_body_ || size == 0) return;
  if (answer_ == Answer::kChunks) out_.push(fmt::format("{:x}\r\n", size));
  for (const std::string_view piece : pieces) out_.push(piece);
  if (answer_ == Answer::kChunks) out_.push("\r\n");
  account();
  host_.wake();
}

void Http1Session::finish() {
  CAIRN_ASSERT(answer_ == Answer::kBegun || answer_ == Answer::kChunks);
  if (answer_ == Answer::kChunks && sends_body_) out_.push("0\r\n\r\n");
  answer_ = Answer::kFinished;
  if (!parser_->is_done()) keep_alive_ = false;
  host_.wake();
}

void Http1Session::abort() {
  loop_.exchanges().remove(id_);
  out_.clear();
  account();
  closing_ = true;
  host_.wake();
}

void Http1Session::hold_body(bool hold) {
  if (holds_body_ && !hold) silent_since_ns_ = loop_.now_ns();
  holds_body_ = hold;
  // The pieces that are here already come in a turn of their own, not from inside the handler.
  if (!hold) {
    loop_.post([held = loop_.weak_from_this(), id = id_] {
      const auto loop = held.lock();
      if (loop == nullptr) return;
      if (Exchange* const found = loop->exchanges().find(id)) static_cast<Http1Session*>(found)->parse();
    });
  }
  host_.wake();
}

void Http1Session::refuse(int status, std::string_view why) {
  loop_.timers().remove(*this);
  closing_ = true;
  host_.wake();
  const bool has_begun = answer_ != Answer::kNone;
  if (id_.value != 0) end_exchange();
  if (has_begun) return;  // in the middle of an answer only the end can be told
  if (is_first_ && status == 400 && !begins_http1(in_)) return;
  std::string text = std::to_string(status) + " " + reason_of(status);
  if (status == 417) {
    out_.push(fmt::format("HTTP/1.{} {}\r\nConnection: close\r\nContent-Length: 0\r\nDate: {}\r\n\r\n",
                          parser_->is_http10() ? 0 : 1, text, http_date()));
    return;
  }
  // As Go's server: without a length or a date, and the status line gives the reason, too.
  if (!why.empty()) text.append(": ").append(why);
  out_.push(fmt::format("HTTP/1.1 {}\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n{}", text,
                        status == 501 ? "Unsupported transfer encoding" : text));
}

void Http1Session::output(Output& out) {
  for (unsigned answered = 0; answered < kRequestsATurn;) {
    while (!out_.empty() && out.room() > 0) {
      const std::string_view bytes = out_.front(out.room());
      out.append(bytes);
      out_.pop(bytes.size());
    }
    account();
    if (!out_.empty() || closing_) return;
    if (id_.value == 0) {
      parse();  // what came behind the request before
      if (id_.value == 0 && out_.empty()) return;
      continue;
    }
    if (answer_ == Answer::kBegun || answer_ == Answer::kChunks) {
      if (exchange_ != nullptr) exchange_->on_writable(*this);
      if (out_.empty() && answer_ != Answer::kFinished) return;
      continue;
    }
    if (answer_ != Answer::kFinished) return;
    if (!keep_alive_) {
      closing_ = true;
      return;
    }
    end_exchange();
    if (draining_) closing_ = true;
    ++answered;
  }
  host_.wake();  // others want their turn
}

}  // namespace cairn::net
