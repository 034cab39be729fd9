#include "gateway/answers.h"

#include <algorithm>
#include <charconv>
#include <iterator>
#include <optional>
#include <utility>

#include <fmt/format.h>

namespace cairn::gateway {
namespace {

std::optional<std::string> decoded(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out += text[i] == '+' ? ' ' : text[i];
      continue;
    }
    if (text.size() - i < 3) return std::nullopt;
    const char* const end = text.data() + i + 3;
    uint8_t byte = 0;
    if (std::from_chars(text.data() + i + 1, end, byte, 16).ptr != end) return std::nullopt;
    out += static_cast<char>(byte);
    i += 2;
  }
  return out;
}

}  // namespace

std::vector<std::string> query_values(std::string_view query, std::string_view name) {
  std::vector<std::string> out;
  while (!query.empty()) {
    const size_t end = std::min(query.find('&'), query.size());
    const std::string_view part = query.substr(0, end);
    query.remove_prefix(std::min(end + 1, query.size()));
    if (part.find(';') != std::string_view::npos) continue;
    const size_t equals = std::min(part.find('='), part.size());
    if (decoded(part.substr(0, equals)) != name) continue;
    if (auto value = decoded(part.substr(std::min(equals + 1, part.size())))) out.push_back(*std::move(value));
  }
  return out;
}

std::string clean_path(std::string_view path) {
  std::string out;
  bool ends_open = true;  // with a slash
  while (!path.empty()) {
    const size_t end = std::min(path.find('/'), path.size());
    const std::string_view segment = path.substr(0, end);
    ends_open = end < path.size();
    path.remove_prefix(std::min(end + 1, path.size()));
    if (segment.empty() || segment == ".") continue;
    if (segment == "..") {
      out.erase(std::min(out.rfind('/'), out.size()));
    } else {
      out.append("/").append(segment);
    }
  }
  if (ends_open || out.empty()) out += '/';
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

net::HttpResponse name_refused() {
  return text_answer(
      400, "CommonName of client sending a request against gateway will be ignored and not used as expected\n");
}

net::HttpResponse unknown_host(std::string_view host) {
  return text_answer(421, fmt::format(R"(
etcd received your request, but the Host header was unrecognized.

To fix this, choose one of the following options:
- Enable TLS, then any HTTPS request will be allowed.
- Add the hostname you want to use to the whitelist in settings.
  - e.g. etcd --host-whitelist "{}"

This requirement has been added to help prevent "DNS Rebinding" attacks (CVE-2018-5702).

)",
                                      host));
}

net::HttpResponse only_get() {
  net::HttpResponse response = text_answer(405, "Method Not Allowed\n");
  response.headers.emplace_back("Allow", "GET");
  return response;
}

}  // namespace cairn::gateway
