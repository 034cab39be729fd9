// tracing/span.h: what is known of one step of a request: when it was, what it was part of, and about what.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace cairn::tracing {

struct TraceId {
  uint64_t high = 0;
  uint64_t low = 0;
  [[nodiscard]] bool valid() const { return (high | low) != 0; }
  friend bool operator==(const TraceId&, const TraceId&) = default;
};

// What names a span, and goes from caller to callee. Source: W3C Trace Context.
struct SpanContext {
  static constexpr uint8_t kSampled = 1;
  static constexpr uint8_t kRandom = 2;  // the trace's id is random

  TraceId trace;
  uint64_t span = 0;
  uint8_t flags = 0;
  std::string state;  // "tracestate": of other systems, passed on as it is

  [[nodiscard]] bool valid() const { return trace.valid() && span != 0; }
  [[nodiscard]] bool sampled() const { return (flags & kSampled) != 0; }
};

struct Attribute {
  std::string_view key;  // a literal
  std::variant<std::string, int64_t, bool> value;

  friend bool operator==(const Attribute&, const Attribute&) = default;
};
using Attributes = std::vector<Attribute>;

struct Span {
  enum class Kind : uint8_t { kInternal, kServer };

  SpanContext context;
  uint64_t parent = 0;  // 0: the root of its trace
  bool is_parent_remote = false;
  Kind kind = Kind::kInternal;
  std::string name;
  int64_t began_ns = 0;  // since 1970
  int64_t ended_ns = 0;
  Attributes attributes;
  bool failed = false;
  std::string error;  // when it failed

  // What it holds, nearly.
  [[nodiscard]] size_t bytes() const {
    size_t sum = sizeof(Span) + context.state.size() + name.size() + error.size();
    for (const Attribute& each : attributes) {
      const auto* const text = std::get_if<std::string>(&each.value);
      sum += sizeof(Attribute) + (text != nullptr ? text->size() : 0);
    }
    return sum;
  }
};

}  // namespace cairn::tracing
