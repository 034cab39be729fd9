// gateway/answers.h: plain HTTP answers as Go's server words them, and what is in a query.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "net/http.h"

namespace cairn::gateway {

// The values of a query parameter, in order; a name without '=' has the value "". Nothing is percent-decoded.
[[nodiscard]] std::vector<std::string> query_values(std::string_view query, std::string_view name);

[[nodiscard]] net::HttpResponse text_answer(int status, std::string body);
[[nodiscard]] net::HttpResponse json_answer(std::string body);
[[nodiscard]] net::HttpResponse not_found();
[[nodiscard]] net::HttpResponse only_get();

}  // namespace cairn::gateway
