// net/http1/request_parser.h: one HTTP/1.1 request, in pieces: its head, then its body as it comes. Boost.Beast behind.
//
// Bounded: the head by HttpLimits; chunk extensions by what the chunks carry, as Go's reader does; trailers are
// dropped. A line that is longer than the head may be is for the caller to refuse: the parser takes nothing of it until
// it ends.
//
// Threads: one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string_view>

#include "net/http.h"

namespace cairn::net {

class RequestParser {
 public:
  using OnBody = std::function<void(std::string_view bytes)>;
  RequestParser(const HttpLimits& limits, OnBody on_body);
  ~RequestParser();
  RequestParser(const RequestParser&) = delete;
  RequestParser& operator=(const RequestParser&) = delete;

  struct Progress {
    size_t used = 0;       // from the front of the bytes
    int refuse = 0;        // an HTTP status: the request is bad
    std::string_view why;  // Go's words for it, if it has more than the status
  };
  // Stops behind the head, so that it can be looked at before the body comes.
  Progress put(std::string_view bytes);

  // Of a body whose length is not told beforehand. When the head is there.
  void lift_body_limit();
  [[nodiscard]] bool has_head() const;
  [[nodiscard]] bool is_done() const;
  // From here on the head has come.
  [[nodiscard]] HttpRequest& request();
  [[nodiscard]] bool is_http10() const;
  [[nodiscard]] bool keeps_alive() const;
  [[nodiscard]] bool expects_continue() const;
  [[nodiscard]] bool expects_other() const;  // what no server knows

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace cairn::net
