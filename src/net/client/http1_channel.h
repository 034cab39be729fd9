// net/client/http1_channel.h: one HTTP/1.1 connection that asks and waits, for a start, tools and tests.
//
// Threads: one; ask() blocks.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/error.h"
#include "net/client/dial.h"
#include "net/http.h"

namespace cairn::net {

class Http1Channel {
 public:
  //   errors: as dial()
  static Result<std::unique_ptr<Http1Channel>> connect(const std::string& address, DialOptions options = {});
  ~Http1Channel();
  Http1Channel(const Http1Channel&) = delete;
  Http1Channel& operator=(const Http1Channel&) = delete;

  // Sends one request (its path with the query behind it) and waits for the whole answer, whose content type stands
  // among its headers too. The connection is kept unless the answer says otherwise; then the next ask() fails.
  //   errors: kUnavailable when the connection ends early, kDeadlineExceeded, kInternal for what is no HTTP
  Result<HttpResponse> ask(const HttpRequest& request, int timeout_ms = 10'000);

 private:
  Http1Channel(int fd, std::string address) : fd_(fd), address_(std::move(address)) {}

  const int fd_;
  const std::string address_;
  std::string in_;  // behind the last answer
};

}  // namespace cairn::net
