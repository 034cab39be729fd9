// net/http1/response_parser.h: one HTTP/1.1 response, in pieces: its head, then its body as it comes. Boost.Beast
// behind.
//
// Interim responses (100 to 199) are passed over. The head is bounded, the body is not.
//
// Threads: one.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string_view>

#include "base/error.h"
#include "net/http.h"

namespace cairn::net {

class ResponseParser {
 public:
  using OnBody = std::function<void(std::string_view bytes)>;
  // `is_head`: of the answer to a HEAD, which has no body whatever it says.
  ResponseParser(bool is_head, OnBody on_body);
  ~ResponseParser();
  ResponseParser(const ResponseParser&) = delete;
  ResponseParser& operator=(const ResponseParser&) = delete;

  // How many bytes it took. Stops behind the head, so that it can be looked at before the body comes.
  //   errors: kInternal: this is no HTTP
  Result<size_t> put(std::string_view bytes);
  // The connection has ended.
  //   errors: kUnavailable when that is not the answer's end
  Status end();

  [[nodiscard]] bool has_begun() const;  // some of it has come
  [[nodiscard]] bool has_head() const;
  [[nodiscard]] bool is_done() const;
  // Without its body; when the head is there.
  [[nodiscard]] const HttpResponse& head() const;
  // The connection may carry another request afterwards.
  [[nodiscard]] bool keeps_alive() const;

 private:
  struct Impl;
  void reset();

  const bool is_head_;
  const OnBody on_body_;
  std::unique_ptr<Impl> impl_;
  bool has_begun_ = false;
};

}  // namespace cairn::net
