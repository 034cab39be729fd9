// gateway/answers.h: plain HTTP answers as Go's server words them, and what is in a query.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "net/http.h"

namespace cairn::gateway {

// The values of a query parameter, in order; a name without '=' has the value "". Names and values are decoded; as in
// Go, a part that cannot be, or that has a semicolon, is passed over.
[[nodiscard]] std::vector<std::string> query_values(std::string_view query, std::string_view name);

// Without empty segments, "." and "..", as Go's path.Clean; a slash at the end stays.
[[nodiscard]] std::string clean_path(std::string_view path);

[[nodiscard]] net::HttpResponse text_answer(int status, std::string body);
[[nodiscard]] net::HttpResponse json_answer(std::string body);
[[nodiscard]] net::HttpResponse not_found();
[[nodiscard]] net::HttpResponse only_get();
// To a call in JSON whose client relies on the name in its certificate.
[[nodiscard]] net::HttpResponse name_refused();
[[nodiscard]] net::HttpResponse unknown_host(std::string_view host);

}  // namespace cairn::gateway
