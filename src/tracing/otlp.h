// tracing/otlp.h: spans as the bytes that a collector of OpenTelemetry is sent.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tracing/span.h"

namespace cairn::tracing {

inline constexpr std::string_view kExportPath = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

// What is said of the process.
using Resource = std::vector<std::pair<std::string, std::string>>;

// An ExportTraceServiceRequest.
[[nodiscard]] std::string encode_request(const Resource& resource, std::span<const Span> spans);

// What a collector says it did not take.
struct Rejected {
  int64_t spans = 0;
  std::string reason;
};
// nullopt: it is no ExportTraceServiceResponse.
[[nodiscard]] std::optional<Rejected> decode_response(std::string_view bytes);

// The resource that environment variables of OpenTelemetry ask for, and what `named` says, which wins. Sorted.
[[nodiscard]] Resource merge_resource(const char* otel_resource_attributes, const char* otel_service_name,
                                      const Resource& named);

}  // namespace cairn::tracing
