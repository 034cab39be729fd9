#include "gateway/answers.h"

#include <algorithm>
#include <utility>

namespace cairn::gateway {

std::vector<std::string> query_values(std::string_view query, std::string_view name) {
  std::vector<std::string> out;
  while (!query.empty()) {
    const size_t end = std::min(query.find('&'), query.size());
    const std::string_view part = query.substr(0, end);
    query.remove_prefix(std::min(end + 1, query.size()));
    const size_t equals = std::min(part.find('='), part.size());
    if (part.substr(0, equals) == name) out.emplace_back(part.substr(std::min(equals + 1, part.size())));
  }
  return out;
}

net::HttpResponse text_answer(int status, std::string body) {
  net::HttpResponse response;
  response.status = status;
  response.body = std::move(body);
  response.headers.emplace_back("X-Content-Type-Options", "nosniff");
  return response;
}

net::HttpResponse json_answer(std::string body) {
  net::HttpResponse response;
  response.content_type = "application/json";
  response.body = std::move(body);
  return response;
}

net::HttpResponse not_found() { return text_answer(404, "404 page not found\n"); }

net::HttpResponse only_get() {
  net::HttpResponse response = text_answer(405, "Method Not Allowed\n");
  response.headers.emplace_back("Allow", "GET");
  return response;
}

}  // namespace cairn::gateway
