// net/http.h: plain HTTP/1.1 requests on the same port as gRPC: health, metrics, version, later JSON and v2.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace cairn::net {

class EventLoop;

struct HttpRequest {
  std::string method;
  std::string path;   // decoded of nothing; without the query
  std::string query;  // behind '?'
  std::vector<std::pair<std::string, std::string>> headers;
  std::string body;  // at most Limits::http_body_bytes_max

  [[nodiscard]] std::string_view header(std::string_view name) const;  // case-insensitive; "" when absent
};

struct HttpResponse {
  int status = 200;
  std::string content_type = "text/plain; charset=utf-8";
  std::vector<std::pair<std::string, std::string>> headers;
  std::string body;
};

// Answers one request, once, from any thread: what is sent after the connection has gone is dropped.
using HttpRespond = std::function<void(HttpResponse)>;

class HttpHandler {
 public:
  virtual ~HttpHandler() = default;
  virtual void handle(HttpRequest request, EventLoop& loop, HttpRespond respond) = 0;
};

}  // namespace cairn::net
