// base/log.h: logging. Modules report events; the program decides where the lines go.
//
//   log::info("ready to serve client requests");
//   log::warn("slow fdatasync", {{"took", duration}, {"expected-duration", "1s"}});
//
// Field values are rendered as JSON by the sink: numbers and booleans bare, texts quoted. Thread-safe.
#pragma once

#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <source_location>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace cairn::log {

enum class Level : uint8_t { kDebug, kInfo, kWarn, kError, kPanic, kFatal };

using Value = std::variant<std::string, int64_t, uint64_t, double, bool, std::vector<std::string>>;

struct Field {
  std::string_view key;
  Value value;

  Field(std::string_view k, std::string v) : key(k), value(std::move(v)) {}
  Field(std::string_view k, std::string_view v) : key(k), value(std::string(v)) {}
  Field(std::string_view k, const char* v) : key(k), value(std::string(v)) {}
  Field(std::string_view k, std::vector<std::string> v) : key(k), value(std::move(v)) {}
  Field(std::string_view k, bool v) : key(k), value(v) {}
  Field(std::string_view k, double v) : key(k), value(v) {}
  Field(std::string_view k, std::signed_integral auto v) : key(k), value(static_cast<int64_t>(v)) {}
  Field(std::string_view k, std::unsigned_integral auto v) : key(k), value(static_cast<uint64_t>(v)) {}
};
using Fields = std::initializer_list<Field>;

struct Entry {
  Level level;
  std::string_view message;
  const Field* fields;
  size_t field_count;
  std::source_location where;
};

// Receives every entry at or above the level. Without one, entries of kWarn and above go to stderr as text.
using Sink = void (*)(const Entry&);
void set_sink(Sink sink, Level level);
[[nodiscard]] bool enabled(Level level);
[[nodiscard]] std::string_view level_name(Level level);

void write(Level level, std::string_view message, Fields fields, std::source_location where);
// For fields that are collected at run time.
void write(Level level, std::string_view message, std::span<const Field> fields,
           std::source_location where = std::source_location::current());

inline void debug(std::string_view message, Fields fields = {},
                  std::source_location where = std::source_location::current()) {
  if (enabled(Level::kDebug)) write(Level::kDebug, message, fields, where);
}
inline void info(std::string_view message, Fields fields = {},
                 std::source_location where = std::source_location::current()) {
  if (enabled(Level::kInfo)) write(Level::kInfo, message, fields, where);
}
inline void warn(std::string_view message, Fields fields = {},
                 std::source_location where = std::source_location::current()) {
  if (enabled(Level::kWarn)) write(Level::kWarn, message, fields, where);
}
inline void error(std::string_view message, Fields fields = {},
                  std::source_location where = std::source_location::current()) {
  if (enabled(Level::kError)) write(Level::kError, message, fields, where);
}
// Logs at level fatal; does not end the process by itself.
inline void fatal(std::string_view message, Fields fields = {},
                  std::source_location where = std::source_location::current()) {
  write(Level::kFatal, message, fields, where);
}

}  // namespace cairn::log
