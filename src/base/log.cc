#include "base/log.h"

#include <atomic>
#include <cstdio>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace cairn::log {
namespace {

void write_to_stderr(const Entry& entry) {
  std::string line = fmt::format("{}: {}", level_name(entry.level), entry.message);
  for (size_t i = 0; i < entry.field_count; ++i) {
    const Field& field = entry.fields[i];
    std::visit([&](const auto& value) { fmt::format_to(std::back_inserter(line), " {}={}", field.key, value); },
               field.value);
  }
  std::fprintf(stderr, "%s\n", line.c_str());
}

std::atomic<Sink> active_sink{&write_to_stderr};
std::atomic<Level> active_level{Level::kWarn};

}  // namespace

void set_sink(Sink sink, Level level) {
  active_sink.store(sink != nullptr ? sink : &write_to_stderr);
  active_level.store(level);
}

bool enabled(Level level) { return level >= active_level.load(std::memory_order_relaxed); }

std::string_view level_name(Level level) {
  switch (level) {
    case Level::kDebug: return "debug";
    case Level::kInfo: return "info";
    case Level::kWarn: return "warn";
    case Level::kError: return "error";
    case Level::kPanic: return "panic";
    case Level::kFatal: return "fatal";
  }
  return "unknown";
}

void write(Level level, std::string_view message, Fields fields, std::source_location where) {
  active_sink.load()(Entry{level, message, fields.begin(), fields.size(), where});
}

void write(Level level, std::string_view message, std::span<const Field> fields, std::source_location where) {
  if (enabled(level)) active_sink.load()(Entry{level, message, fields.data(), fields.size(), where});
}

}  // namespace cairn::log
