#include "net/http1/http1_session.h"

#include <algorithm>
#include <ctime>
#include <optional>
#include <utility>

#include <boost/asio/buffer.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/status.hpp>
#include <boost/beast/http/string_body.hpp>

#include "base/check.h"
#include "net/loop.h"

namespace cairn::net {
namespace {

namespace http = boost::beast::http;

constexpr size_t kAheadBytesMax = 64 * 1024;  // of pipelined requests, while one is being answered

std::string_view view_of(boost::beast::string_view text) { return {text.data(), text.size()}; }

bool equal_ignoring_case(std::string_view a, std::string_view b) {
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; };
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [&](char x, char y) { return lower(x) == lower(y); });
}

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

int status_of(const boost::system::error_code& error) {
  if (error == http::error::body_limit) return 413;
  if (error == http::error::header_limit) return 431;
  if (error == http::error::bad_transfer_encoding) return 501;
  return 400;
}

std::string reason_of(int status) {
  if (status == 421) return "Misdirected Request";
  const auto known = http::int_to_status(static_cast<unsigned>(status));
  if (known == http::status::unknown) return "status code " + std::to_string(status);
  return std::string(view_of(http::obsolete_reason(known)));
}

}  // namespace

std::string_view HttpRequest::header(std::string_view name) const {
  for (const auto& [key, value] : headers) {
    if (equal_ignoring_case(key, name)) return value;
  }
  return {};
}

struct Http1Session::Parser {
  http::request_parser<http::string_body> request;
};

Http1Session::Http1Session(Loop& loop, const ServerOptions& options, HttpHandler& handler, ProtocolHost& host)
    : loop_(loop), options_(options), handler_(handler), host_(host) {}

Http1Session::~Http1Session() { on_closed(); }

void Http1Session::on_closed() {
  loop_.timers().remove(*this);
  if (expected_ != 0) loop_.forget_expected(std::exchange(expected_, 0));
}

void Http1Session::on_timer() {
  closing_ = true;
  host_.wake();
}

bool Http1Session::may_read(bool blocked) const {
  return !blocked && in_.size() - in_offset_ < (expected_ != 0 ? kAheadBytesMax : SIZE_MAX);
}

void Http1Session::drain() {
  draining_ = true;
  if (expected_ == 0) closing_ = true;
  host_.wake();
}

bool Http1Session::receive(std::string_view bytes) {
  if (closing_) return true;
  in_.append(bytes);
  if (expected_ == 0) parse();
  return true;
}

void Http1Session::parse() {
  if (parsing_) return;  // an answer given at once comes back here: the loop below goes on by itself
  parsing_ = true;
  while (!closing_ && expected_ == 0 && in_offset_ < in_.size()) {
    if (parser_ == nullptr) {
      parser_ = std::make_unique<Parser>();
      parser_->request.eager(true);
      parser_->request.header_limit(options_.http_header_bytes_max);
      parser_->request.body_limit(options_.http_body_bytes_max);
      continued_ = false;
      loop_.timers().remove(*this);
      loop_.timers().add(*this, loop_.now_ns() + options_.http_header_timeout_ns);
    }
    boost::system::error_code error;
    const size_t used =
        parser_->request.put(boost::asio::buffer(in_.data() + in_offset_, in_.size() - in_offset_), error);
    in_offset_ += used;
    if (error && error != http::error::need_more) {
      refuse(status_of(error));
      break;
    }
    if (parser_->request.is_done()) {
      loop_.timers().remove(*this);
      dispatch();
      continue;
    }
    if (parser_->request.is_header_done()) loop_.timers().remove(*this);
    if (parser_->request.is_header_done() && !continued_ &&
        equal_ignoring_case(view_of(parser_->request.get()[http::field::expect]), "100-continue")) {
      continued_ = true;
      out_ += "HTTP/1.1 100 Continue\r\n\r\n";
      host_.wake();
    }
    if (used == 0) break;
  }
  in_.erase(0, std::exchange(in_offset_, 0));
  if (in_.empty()) in_ = {};
  parsing_ = false;
}

void Http1Session::dispatch() {
  http::request<http::string_body> parsed = parser_->request.release();
  parser_.reset();
  loop_.counters().http_requests.add();
  head_ = parsed.method() == http::verb::head;
  http10_ = parsed.version() < 11;
  keep_alive_ = parsed.keep_alive();

  HttpRequest request;
  request.method = view_of(parsed.method_string());
  std::string_view target = view_of(parsed.target());
  // The absolute form names the host once more.
  if (const size_t scheme = target.find("://"); !target.starts_with('/') && scheme != std::string_view::npos) {
    const size_t slash = target.find('/', scheme + 3);
    target = slash == std::string_view::npos ? std::string_view("/") : target.substr(slash);
  }
  const size_t question = target.find('?');
  request.path = target.substr(0, question);
  if (question != std::string_view::npos) request.query = target.substr(question + 1);
  for (const auto& field : parsed) {
    request.headers.emplace_back(view_of(field.name_string()), view_of(field.value()));
  }
  request.body = std::move(parsed.body());

  expected_ = loop_.expect_answer(*this);
  // Called from any thread, perhaps after the loop has gone: the loop is held weakly, the session by number.
  HttpRespond respond = [held = loop_.weak_from_this(), number = expected_](HttpResponse response) {
    const std::shared_ptr<Loop> loop = held.lock();
    if (loop == nullptr) return;
    if (loop->is_current_thread()) {
      if (Http1Session* session = loop->take_expected(number)) session->answer(response);
      return;
    }
    Loop* const target_loop = loop.get();
    loop->post([target_loop, number, answer = std::move(response)] {
      if (Http1Session* session = target_loop->take_expected(number)) session->answer(answer);
    });
  };
  handler_.handle(std::move(request), loop_, std::move(respond));
}

void Http1Session::answer(const HttpResponse& response) {
  expected_ = 0;
  if (draining_) keep_alive_ = false;
  write(response);
  if (!keep_alive_) closing_ = true;
  host_.wake();
  if (!closing_) parse();
}

void Http1Session::refuse(int status) {
  keep_alive_ = false;
  head_ = false;
  const std::string text = std::to_string(status) + " " + reason_of(status);
  write(HttpResponse{.status = status, .headers = {}, .body = text});
  closing_ = true;
  host_.wake();
}

void Http1Session::write(const HttpResponse& response) {
  const bool has_body = response.status >= 200 && response.status != 204 && response.status != 304;
  out_ += "HTTP/1.1 ";
  out_ += std::to_string(response.status);
  out_ += ' ';
  out_ += reason_of(response.status);
  const auto add = [&](std::string_view name, std::string_view value) {
    out_ += "\r\n";
    out_ += name;
    out_ += ": ";
    // A line break inside a value would begin a header of somebody else's.
    for (const char c : value) out_ += c == '\r' || c == '\n' ? ' ' : c;
  };
  if (has_body && !response.content_type.empty()) add("Content-Type", response.content_type);
  for (const auto& [name, value] : response.headers) add(name, value);
  add("Date", http_date());
  if (has_body) add("Content-Length", std::to_string(response.body.size()));
  if (!keep_alive_) {
    add("Connection", "close");
  } else if (http10_) {
    add("Connection", "keep-alive");
  }
  out_ += "\r\n\r\n";
  if (has_body && !head_) out_ += response.body;
}

void Http1Session::output(Output& out) {
  const size_t bytes = std::min(out.room(), out_.size() - out_offset_);
  out.append(std::string_view(out_).substr(out_offset_, bytes));
  out_offset_ += bytes;
  if (out_offset_ == out_.size()) {
    out_ = {};
    out_offset_ = 0;
  }
}

}  // namespace cairn::net
