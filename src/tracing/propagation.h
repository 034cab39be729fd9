// tracing/propagation.h: what a caller says of the span that its call is part of, in the metadata "traceparent" and
// "tracestate".
//
// Source: W3C Trace Context, as OpenTelemetry's Go library 1.43 reads it.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "tracing/span.h"

namespace cairn::tracing {

// "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01". nullopt: it is no such text, and is ignored.
[[nodiscard]] std::optional<SpanContext> parse_traceparent(std::string_view text);
// "vendor=value,other@system=value" with its members as they are, and nothing around them. "": one of them is wrong.
[[nodiscard]] std::string parse_tracestate(std::string_view text);

}  // namespace cairn::tracing
