#include "net/http1/request_parser.h"

#include <algorithm>
#include <optional>
#include <utility>

#include <boost/asio/buffer.hpp>
#include <boost/beast/http/basic_parser.hpp>
#include <boost/beast/http/error.hpp>

namespace cairn::net {
namespace {

namespace http = boost::beast::http;
using ErrorCode = boost::beast::error_code;
using Text = boost::beast::string_view;

// The bytes that Go allows in a Host header.
bool is_host_text(std::string_view text) {
  return std::ranges::all_of(text, [](char c) {
    const bool is_alphanumeric = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    return is_alphanumeric || std::string_view("!$%&()*+,-.:;=[]'_~").find(c) != std::string_view::npos;
  });
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  const char lower = static_cast<char>(c | 0x20);
  return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

// False: an escape is none.
bool unescape(std::string_view text, std::string& out) {
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out += text[i];
      continue;
    }
    if (text.size() - i < 3 || hex_digit(text[i + 1]) < 0 || hex_digit(text[i + 2]) < 0) return false;
    out += static_cast<char>(hex_digit(text[i + 1]) * 16 + hex_digit(text[i + 2]));
    i += 2;
  }
  return true;
}

// As Go's: what is neither data nor the usual line of a chunk.
constexpr int64_t kChunkExcessMax = 16 * 1024;
constexpr int64_t kUsualChunkBytes = 16;

std::string_view view_of(Text text) { return {text.data(), text.size()}; }

int status_of(const ErrorCode& error) {
  if (error == http::error::body_limit) return 413;
  if (error == http::error::header_limit) return 431;
  if (error == http::error::bad_transfer_encoding) return 501;
  return 400;
}

}  // namespace

struct RequestParser::Impl final : http::basic_parser<true> {
  HttpRequest head;
  OnBody on_body;
  int64_t chunk_excess = 0;
  bool is_http10 = false;
  std::string_view why;
  std::optional<std::string> host;  // that an absolute form names

  void on_request_impl(http::verb, Text method, Text text, int version, ErrorCode& error) override {
    is_http10 = version < 11;
    head.method = view_of(method);
    std::string_view target = view_of(text);
    // The absolute form names the host, and what the header says does not count (RFC 9112, 3.2.2).
    if (const size_t scheme = target.find("://"); !target.starts_with('/') && scheme != std::string_view::npos) {
      const std::string_view authority = target.substr(scheme + 3, target.find_first_of("/?", scheme + 3) - scheme - 3);
      host = authority.substr(authority.rfind('@') + 1);
      const size_t slash = target.find('/', scheme + 3);
      target = slash == std::string_view::npos ? std::string_view("/") : target.substr(slash);
    }
    const bool is_form =
        target.starts_with('/') || head.method == "CONNECT" || (head.method == "OPTIONS" && target == "*");
    const size_t question = target.find('?');
    if (!is_form || !unescape(target.substr(0, question), head.path)) error = http::error::bad_target;
    if (question != std::string_view::npos) head.query = target.substr(question + 1);
  }
  void on_response_impl(int, Text, int, ErrorCode&) override {}
  void on_field_impl(http::field, Text name, Text value, ErrorCode&) override {
    if (!is_header_done()) head.headers.emplace_back(view_of(name), view_of(value));
  }
  // What Beast lets pass: an encoding that it does not know has it take the body for the next request, and a name for
  // two hosts has two readers serve two of them.
  void on_header_impl(ErrorCode& error) override {
    int hosts = 0;
    for (const auto& [name, value] : head.headers) {
      if (equal_ignoring_case(name, "host")) {
        ++hosts;
        if (!is_host_text(value)) why = "malformed Host header";
      }
      if (equal_ignoring_case(name, "transfer-encoding") && !equal_ignoring_case(value, "chunked")) {
        error = http::error::bad_transfer_encoding;
        return;
      }
    }
    if (hosts > 1) why = {};
    if (hosts == 0 && !is_http10) why = "missing required Host header";
    if (hosts > 1 || !why.empty()) error = http::error::bad_field;
    if (host) {
      std::erase_if(head.headers, [](const auto& field) { return equal_ignoring_case(field.first, "host"); });
      head.headers.emplace_back("Host", *host);
    }
  }
  void on_body_init_impl(const boost::optional<uint64_t>&, ErrorCode&) override {}
  size_t on_body_impl(Text body, ErrorCode&) override {
    on_body(view_of(body));
    return body.size();
  }
  void on_chunk_header_impl(uint64_t size, Text extensions, ErrorCode& error) override {
    chunk_excess += static_cast<int64_t>(extensions.size()) + 2;
    chunk_excess -= kUsualChunkBytes + 2 * static_cast<int64_t>(std::min<uint64_t>(size, kChunkExcessMax));
    chunk_excess = std::max<int64_t>(chunk_excess, 0);
    if (chunk_excess > kChunkExcessMax) error = http::error::bad_chunk_extension;
  }
  size_t on_chunk_body_impl(uint64_t, Text body, ErrorCode&) override {
    on_body(view_of(body));
    return body.size();
  }
  void on_finish_impl(ErrorCode&) override {}
};

RequestParser::RequestParser(const HttpLimits& limits, OnBody on_body) : impl_(std::make_unique<Impl>()) {
  impl_->on_body = std::move(on_body);
  impl_->header_limit(limits.header_bytes_max);
  impl_->body_limit(limits.body_bytes_max);
}

RequestParser::~RequestParser() = default;

RequestParser::Progress RequestParser::put(std::string_view bytes) {
  ErrorCode error;
  Progress progress;
  progress.used = impl_->put(boost::asio::buffer(bytes.data(), bytes.size()), error);
  if (error && error != http::error::need_more) {
    progress.refuse = status_of(error);
    progress.why = impl_->why;
  }
  return progress;
}

void RequestParser::lift_body_limit() { impl_->body_limit(boost::none); }
bool RequestParser::has_head() const { return impl_->is_header_done(); }
bool RequestParser::is_done() const { return impl_->is_done(); }
HttpRequest& RequestParser::request() { return impl_->head; }
bool RequestParser::is_http10() const { return impl_->is_http10; }
bool RequestParser::keeps_alive() const { return impl_->keep_alive(); }
bool RequestParser::expects_continue() const {
  return equal_ignoring_case(impl_->head.header("expect"), "100-continue");
}

// As Go looks for the token.
bool RequestParser::expects_other() const {
  std::string expect(impl_->head.header("expect"));
  for (char& c : expect) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c;
  return !expect.empty() && expect.find("100-continue") == std::string::npos;
}

}  // namespace cairn::net
