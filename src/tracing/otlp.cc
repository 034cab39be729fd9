#include "tracing/otlp.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <map>

#include "base/bytes.h"
#include "base/utf8.h"
#include "proto/otlp.pb.h"

namespace cairn::tracing {
namespace {

// Who made the span, as etcd has it: its library for gRPC, or itself.
constexpr std::string_view kGrpcScope = "go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc";
constexpr std::string_view kGrpcScopeVersion = "0.68.0";
constexpr std::string_view kOwnScope = "go.etcd.io/etcd";
constexpr uint32_t kHasIsRemote = 0x100;
constexpr uint32_t kIsRemote = 0x200;

std::string id_bytes(uint64_t id) {
  std::string out(8, '\0');
  store_be64(out.data(), id);
  return out;
}

void set_value(otlp::AnyValue& to, const std::string& text) {
  // compat: etcd sends nothing of a batch that has a text that is no UTF-8 in it.
  if (is_utf8(text)) {
    to.set_string_value(text);
  } else {
    to.set_bytes_value(text);
  }
}

void encode_attribute(const Attribute& attribute, otlp::KeyValue& to) {
  to.set_key(std::string(attribute.key));
  otlp::AnyValue& value = *to.mutable_value();
  if (const auto* const text = std::get_if<std::string>(&attribute.value)) set_value(value, *text);
  if (const auto* const number = std::get_if<int64_t>(&attribute.value)) value.set_int_value(*number);
  if (const auto* const flag = std::get_if<bool>(&attribute.value)) value.set_bool_value(*flag);
}

void encode_span(const Span& span, otlp::Span& to) {
  to.set_trace_id(id_bytes(span.context.trace.high) + id_bytes(span.context.trace.low));
  to.set_span_id(id_bytes(span.context.span));
  to.set_trace_state(span.context.state);
  if (span.parent != 0) to.set_parent_span_id(id_bytes(span.parent));
  to.set_name(span.name);
  to.set_kind(span.kind == Span::Kind::kServer ? otlp::Span::SERVER : otlp::Span::INTERNAL);
  to.set_start_time_unix_nano(static_cast<uint64_t>(span.began_ns));
  to.set_end_time_unix_nano(static_cast<uint64_t>(span.ended_ns));
  for (const Attribute& each : span.attributes) encode_attribute(each, *to.add_attributes());
  otlp::SpanStatus& status = *to.mutable_status();
  if (span.failed) {
    status.set_code(otlp::SpanStatus::ERROR);
    if (is_utf8(span.error)) status.set_message(span.error);
  }
  to.set_flags(span.context.flags | kHasIsRemote | (span.is_parent_remote ? kIsRemote : 0));
}

std::string_view trimmed(std::string_view text) {
  const size_t first = text.find_first_not_of(" \t\r\n");
  return first == std::string_view::npos ? "" : text.substr(first, text.find_last_not_of(" \t\r\n") + 1 - first);
}

// As Go's url.PathUnescape; a text with an escape that is none stays as it is.
std::string unescaped(std::string_view text) {
  const auto digit = [](char c) -> int {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
  };
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out += text[i];
      continue;
    }
    if (i + 2 >= text.size() || digit(text[i + 1]) < 0 || digit(text[i + 2]) < 0) return std::string(text);
    out += static_cast<char>(digit(text[i + 1]) << 4 | digit(text[i + 2]));
    i += 2;
  }
  return out;
}

}  // namespace

std::string encode_request(const Resource& resource, std::span<const Span> spans) {
  otlp::ExportTraceServiceRequest request;
  otlp::ResourceSpans& all = *request.add_resource_spans();
  all.mutable_resource();
  for (const auto& [key, text] : resource) {
    otlp::KeyValue& attribute = *all.mutable_resource()->add_attributes();
    attribute.set_key(key);
    set_value(*attribute.mutable_value(), text);
  }
  std::array<otlp::ScopeSpans*, 2> scopes{};
  for (const Span& span : spans) {
    const bool is_server = span.kind == Span::Kind::kServer;
    otlp::ScopeSpans*& scope = scopes.at(is_server ? 1 : 0);
    if (scope == nullptr) {
      scope = all.add_scope_spans();
      scope->mutable_scope()->set_name(std::string(is_server ? kGrpcScope : kOwnScope));
      if (is_server) scope->mutable_scope()->set_version(std::string(kGrpcScopeVersion));
    }
    encode_span(span, *scope->add_spans());
  }
  return request.SerializeAsString();
}

std::optional<Rejected> decode_response(std::string_view bytes) {
  otlp::ExportTraceServiceResponse response;
  if (!response.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) return std::nullopt;
  return Rejected{response.partial_success().rejected_spans(), response.partial_success().error_message()};
}

Resource merge_resource(const char* otel_resource_attributes, const char* otel_service_name, const Resource& named) {
  std::map<std::string, std::string> merged;
  std::string_view rest = trimmed(otel_resource_attributes != nullptr ? otel_resource_attributes : "");
  while (!rest.empty()) {
    const size_t comma = rest.find(',');
    const std::string_view pair = rest.substr(0, comma);
    rest = comma == std::string_view::npos ? "" : rest.substr(comma + 1);
    const size_t equals = pair.find('=');
    const std::string_view key = trimmed(pair.substr(0, equals));
    if (equals == std::string_view::npos || key.empty()) continue;
    merged[std::string(key)] = unescaped(trimmed(pair.substr(equals + 1)));
  }
  const std::string_view service = trimmed(otel_service_name != nullptr ? otel_service_name : "");
  if (!service.empty()) merged["service.name"] = service;
  for (const auto& [key, text] : named) merged[key] = text;
  return {merged.begin(), merged.end()};
}

}  // namespace cairn::tracing
