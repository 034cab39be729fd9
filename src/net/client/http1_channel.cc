#include "net/client/http1_channel.h"

#include <cerrno>
#include <chrono>
#include <cstring>

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>
#include <boost/asio/buffer.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>

namespace cairn::net {
namespace {

namespace http = boost::beast::http;
using Clock = std::chrono::steady_clock;

constexpr size_t kReadBytes = 64 * 1024;

std::string text_of(const HttpRequest& request, const std::string& host) {
  std::string out = request.method + " " + request.path;
  if (!request.query.empty()) out += "?" + request.query;
  out += " HTTP/1.1\r\nHost: " + host + "\r\n";
  for (const auto& [name, value] : request.headers) out += name + ": " + value + "\r\n";
  if (!request.body.empty()) out += "Content-Length: " + std::to_string(request.body.size()) + "\r\n";
  return out + "\r\n" + request.body;
}

// Waits until `fd` has something to read, and adds it to `in`. False: the peer has ended its side.
Result<bool> read_more(int fd, std::string& in, Clock::time_point deadline) {
  const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
  pollfd waits{.fd = fd, .events = POLLIN, .revents = 0};
  const int ready = left > 0 ? ::poll(&waits, 1, static_cast<int>(left)) : 0;
  if (ready == 0) return fail(Code::kDeadlineExceeded, "net: no answer in time");
  const size_t before = in.size();
  in.resize(before + kReadBytes);
  const ssize_t got = ::recv(fd, in.data() + before, kReadBytes, 0);
  in.resize(before + (got > 0 ? static_cast<size_t>(got) : 0));
  if (got < 0 && errno != EINTR) return fail(Code::kUnavailable, "net: recv: {}", std::strerror(errno));
  return got != 0;
}

}  // namespace

Result<std::unique_ptr<Http1Channel>> Http1Channel::connect(const std::string& address, DialOptions options) {
  options.blocking = true;
  CAIRN_TRY(const int fd, dial(address, options));
  return std::unique_ptr<Http1Channel>(new Http1Channel(fd, address));
}

Http1Channel::~Http1Channel() { ::close(fd_); }

Result<HttpResponse> Http1Channel::ask(const HttpRequest& request, int timeout_ms) {
  const auto deadline = Clock::now() + std::chrono::milliseconds(timeout_ms);
  const std::string bytes = text_of(request, address_);
  for (size_t sent = 0; sent < bytes.size();) {
    const ssize_t n = ::send(fd_, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return fail(Code::kUnavailable, "net: send: {}", std::strerror(errno));
    sent += static_cast<size_t>(n);
  }
  http::response_parser<http::string_body> parser;
  parser.eager(true);
  parser.body_limit(UINT64_MAX);
  parser.skip(request.method == "HEAD");
  while (!parser.is_done()) {
    boost::system::error_code error;
    const size_t used = in_.empty() ? 0 : parser.put(boost::asio::buffer(in_.data(), in_.size()), error);
    in_.erase(0, used);
    if (error && error != http::error::need_more) return fail(Code::kInternal, "net: answer: {}", error.message());
    if (parser.is_done() || used != 0) continue;
    CAIRN_TRY(const bool is_open, read_more(fd_, in_, deadline));
    if (is_open) continue;
    if (!parser.got_some()) return fail(Code::kUnavailable, "net: the connection has ended");
    parser.put_eof(error);  // the end of a body of unknown length
    if (error || !parser.is_done()) return fail(Code::kUnavailable, "net: the answer is cut off");
  }
  HttpResponse response;
  response.status = static_cast<int>(parser.get().result_int());
  response.content_type.clear();
  for (const auto& field : parser.get()) {
    response.headers.emplace_back(field.name_string(), field.value());
    if (field.name() == http::field::content_type) response.content_type = field.value();
  }
  response.body = std::move(parser.get().body());
  return response;
}

}  // namespace cairn::net
