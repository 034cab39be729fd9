#include "cmd/server/logging.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <memory>

#include <spdlog/logger.h>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>

#include "base/json_text.h"

namespace cairn::cmd {
namespace {

using std::chrono::microseconds;

// Of equal messages in one second the first 100 are written, then each 100th, as etcd samples them.
class Sampler {
 public:
  bool admits(const log::Entry& entry, int64_t second) {
    const size_t hash = std::hash<std::string_view>{}(entry.message) + static_cast<size_t>(entry.level);
    Slot& slot = slots_[hash % slots_.size()];
    // Two threads may both begin a new second; a line more or less does not matter.
    if (slot.second.exchange(second, std::memory_order_relaxed) != second)
      slot.count.store(0, std::memory_order_relaxed);
    const uint32_t count = slot.count.fetch_add(1, std::memory_order_relaxed) + 1;
    return count <= kFirst || (count - kFirst) % kThereafter == 0;
  }

 private:
  static constexpr uint32_t kFirst = 100;
  static constexpr uint32_t kThereafter = 100;
  struct Slot {
    std::atomic<int64_t> second{0};
    std::atomic<uint32_t> count{0};
  };
  std::array<Slot, 1024> slots_;
};

struct Output {
  std::unique_ptr<spdlog::logger> logger;
  bool is_console = false;
  Sampler sampler;
};

// A sink is a plain function, so what it writes to is found here. Outputs that were replaced are kept: another thread
// may be inside one.
std::atomic<Output*> active_output{nullptr};

void write_entry(const log::Entry& entry) {
  Output* output = active_output.load(std::memory_order_acquire);
  const auto now = std::chrono::duration_cast<microseconds>(std::chrono::system_clock::now().time_since_epoch());
  if (!output->sampler.admits(entry, now.count() / 1'000'000)) return;
  output->logger->log(spdlog::level::critical,
                      output->is_console ? format_console(entry, now) : format_json(entry, now));
  if (entry.level >= log::Level::kPanic) output->logger->flush();
}

Result<spdlog::sink_ptr> open_output(const std::string& name) {
  // Under systemd, stderr is the journal.
  if (name == "default" || name == "stderr" || name == "systemd/journal") {
    return std::make_shared<spdlog::sinks::stderr_sink_mt>();
  }
  if (name == "stdout") return std::make_shared<spdlog::sinks::stdout_sink_mt>();
  try {
    return std::make_shared<spdlog::sinks::basic_file_sink_mt>(name);
  } catch (const spdlog::spdlog_ex& error) {
    return fail(Code::kUnknown, "log: cannot open {}: {}", name, error.what());
  }
}

// compat: always UTC, where etcd takes the machine's zone.
void append_time(std::string& out, microseconds time) {
  const auto days = std::chrono::floor<std::chrono::days>(time);
  const std::chrono::year_month_day date{std::chrono::sys_days(days)};
  const std::chrono::hh_mm_ss clock(time - days);
  fmt::format_to(std::back_inserter(out), "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}Z", static_cast<int>(date.year()),
                 static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()), clock.hours().count(),
                 clock.minutes().count(), clock.seconds().count(), clock.subseconds().count());
}

// "cmd/server/config.cc:12": the folder, the file and the line.
void append_caller(std::string& out, const std::source_location& where) {
  std::string_view path = where.file_name();
  const size_t file = path.rfind('/');
  if (file != std::string_view::npos && file > 0) {
    const size_t folder = path.rfind('/', file - 1);
    if (folder != std::string_view::npos) path.remove_prefix(folder + 1);
  }
  fmt::format_to(std::back_inserter(out), "{}:{}", path, where.line());
}

void append_value(std::string& out, const log::Value& value) {
  std::visit(
      [&out]<class T>(const T& each) {
        if constexpr (std::is_same_v<T, std::string>) {
          append_json_text(out, each, JsonEscape::kPlain);
        } else if constexpr (std::is_same_v<T, std::vector<std::string>>) {
          out += '[';
          for (size_t i = 0; i < each.size(); ++i) {
            if (i > 0) out += ',';
            append_json_text(out, each[i], JsonEscape::kPlain);
          }
          out += ']';
        } else if constexpr (std::is_same_v<T, double>) {
          if (std::isfinite(each)) {
            fmt::format_to(std::back_inserter(out), "{}", each);
          } else {
            out += std::isnan(each) ? "\"NaN\"" : each > 0 ? "\"+Inf\"" : "\"-Inf\"";
          }
        } else {
          fmt::format_to(std::back_inserter(out), "{}", each);
        }
      },
      value);
}

// Each field with a comma before it but the first.
void append_fields(std::string& out, const log::Entry& entry, bool comma_first) {
  for (size_t i = 0; i < entry.field_count; ++i) {
    if (i > 0 || comma_first) out += ',';
    append_json_text(out, entry.fields[i].key, JsonEscape::kPlain);
    out += ':';
    append_value(out, entry.fields[i].value);
  }
}

}  // namespace

std::string format_json(const log::Entry& entry, microseconds time) {
  std::string out = fmt::format("{{\"level\":\"{}\",\"ts\":\"", log::level_name(entry.level));
  append_time(out, time);
  out += "\",\"caller\":\"";
  append_caller(out, entry.where);
  out += "\",\"msg\":";
  append_json_text(out, entry.message, JsonEscape::kPlain);
  append_fields(out, entry, true);
  out += '}';
  return out;
}

std::string format_console(const log::Entry& entry, microseconds time) {
  std::string out;
  append_time(out, time);
  std::string level(log::level_name(entry.level));
  for (char& c : level) c = static_cast<char>(c - 'a' + 'A');
  out += '\t' + level + '\t';
  append_caller(out, entry.where);
  out += '\t';
  out += entry.message;
  if (entry.field_count > 0) {
    out += "\t{";
    append_fields(out, entry, false);
    out += '}';
  }
  return out;
}

Result<log::Level> level_of(std::string_view name) {
  std::string lower(name);
  for (char& c : lower) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  if (lower.empty()) return log::Level::kInfo;
  if (lower == "warning") return log::Level::kWarn;
  if (lower == "dpanic") return log::Level::kPanic;
  for (const auto level : {log::Level::kDebug, log::Level::kInfo, log::Level::kWarn, log::Level::kError,
                           log::Level::kPanic, log::Level::kFatal}) {
    if (log::level_name(level) == lower) return level;
  }
  return fail(Code::kInvalidArgument, "unrecognized level: \"{}\"", name);
}

Status start_logging(const LogOptions& options) {
  CAIRN_TRY(const log::Level level, level_of(options.level));
  if (!options.format.empty() && options.format != "json" && options.format != "console") {
    return fail(Code::kInvalidArgument, "unknown log format: {}, supported values json, console", options.format);
  }
  std::vector<spdlog::sink_ptr> sinks;
  for (const std::string& name : options.outputs) {
    CAIRN_TRY(auto sink, open_output(name));
    sinks.push_back(std::move(sink));
  }
  auto output = std::make_unique<Output>();
  output->logger = std::make_unique<spdlog::logger>("cairn", sinks.begin(), sinks.end());
  output->logger->set_formatter(
      std::make_unique<spdlog::pattern_formatter>("%v", spdlog::pattern_time_type::local, "\n"));
  // Tools wait for lines: each goes out as it is written.
  output->logger->flush_on(spdlog::level::trace);
  output->is_console = options.format == "console";
  // One that was replaced stays, since a thread may be writing to it.
  static auto* const outputs = new std::vector<std::unique_ptr<Output>>;
  outputs->push_back(std::move(output));
  active_output.store(outputs->back().get(), std::memory_order_release);
  log::set_sink(&write_entry, level);
  return {};
}

void flush_log() {
  if (Output* output = active_output.load(std::memory_order_acquire); output != nullptr) output->logger->flush();
}

}  // namespace cairn::cmd
