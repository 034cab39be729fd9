#include "cmd/server/logging.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <ctime>
#include <memory>
#include <set>
#include <thread>

#include <spdlog/logger.h>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/base_sink-inl.h>  // the library has it for std::mutex alone
#include <spdlog/sinks/stdout_sinks.h>

#include "base/check.h"
#include "base/json_text.h"
#include "base/mutex.h"
#include "cmd/server/log_journal.h"
#include "cmd/server/log_queue.h"

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

// "server/config.cc" of "/x/src/cmd/server/config.cc": the folder and the file.
std::string_view short_path(std::string_view path) {
  const size_t file = path.rfind('/');
  if (file != std::string_view::npos && file > 0) {
    const size_t folder = path.rfind('/', file - 1);
    if (folder != std::string_view::npos) path.remove_prefix(folder + 1);
  }
  return path;
}

class FileSink final : public spdlog::sinks::base_sink<Mutex> {
 public:
  explicit FileSink(std::unique_ptr<LogFile> file) : file_(std::move(file)) {}

 private:
  void sink_it_(const spdlog::details::log_msg& message) override {
    spdlog::memory_buf_t line;
    formatter_->format(message, line);
    file_->write({line.data(), line.size()});
  }
  void flush_() override {}

  std::unique_ptr<LogFile> file_;
};

spdlog::level::level_enum spdlog_level(log::Level level) {
  switch (level) {
    case log::Level::kDebug: return spdlog::level::debug;
    case log::Level::kInfo: return spdlog::level::info;
    case log::Level::kWarn: return spdlog::level::warn;
    case log::Level::kError: return spdlog::level::err;
    case log::Level::kPanic:
    case log::Level::kFatal: return spdlog::level::critical;
  }
  return spdlog::level::critical;
}

log::Level level_from(spdlog::level::level_enum level) {
  switch (level) {
    case spdlog::level::debug: return log::Level::kDebug;
    case spdlog::level::info: return log::Level::kInfo;
    case spdlog::level::warn: return log::Level::kWarn;
    case spdlog::level::err: return log::Level::kError;
    default: return log::Level::kFatal;
  }
}

// What the journal does not take goes to stderr, as in etcd.
class JournalSink final : public spdlog::sinks::base_sink<Mutex> {
 public:
  explicit JournalSink(Journal journal) : journal_(std::move(journal)) {}

 private:
  void sink_it_(const spdlog::details::log_msg& message) override {
    spdlog::memory_buf_t line;
    formatter_->format(message, line);
    const std::string_view text(line.data(), line.size());
    const std::string_view path = short_path(message.source.filename != nullptr ? message.source.filename : "");
    const std::string_view package = path.substr(0, path.rfind('/'));
    if (!journal_.write(level_from(message.level), package, text)) std::fwrite(text.data(), 1, text.size(), stderr);
  }
  void flush_() override {}

  Journal journal_;
};

struct Output {
  std::unique_ptr<spdlog::logger> logger;
  bool is_console = false;
  Sampler sampler;
};

// A sink is a plain function, so what it writes to is found here. Outputs that were replaced are kept: another thread
// may be inside one.
std::atomic<Output*> active_output{nullptr};
std::atomic<LogQueue*> active_queue{nullptr};  // null: whoever logs writes

constexpr std::chrono::seconds kFlushMax{1};  // an output that stands still holds up no end for longer

void write_line(Output& output, const log::Entry& entry, std::string line) {
  const spdlog::source_loc where(entry.where.file_name(), static_cast<int>(entry.where.line()), "");
  const auto write = [&logger = *output.logger, where, level = spdlog_level(entry.level)](std::string_view text) {
    logger.log(where, level, spdlog::string_view_t(text.data(), text.size()));
  };
  LogQueue* const queue = active_queue.load(std::memory_order_acquire);
  if (queue == nullptr) return write(line);
  const uint64_t bytes = line.size();
  auto written = [write, line = std::move(line)] { write(line); };
  if (entry.level == log::Level::kFatal) {
    queue->put_last(std::move(written));
  } else {
    queue->put(bytes, std::move(written));
  }
}

void write_entry(const log::Entry& entry) {
  Output* output = active_output.load(std::memory_order_acquire);
  const auto now = std::chrono::duration_cast<microseconds>(std::chrono::system_clock::now().time_since_epoch());
  if (!output->sampler.admits(entry, now.count() / 1'000'000)) return;
  write_line(*output, entry, output->is_console ? format_console(entry, now) : format_json(entry, now));
  if (entry.level >= log::Level::kPanic) flush_log();
}

// etcd's rules: default is stderr, each output is written to once, and /dev/null among them means none at all, unless
// files are rotated.
std::set<std::string> distinct(const LogOptions& options) {
  std::set<std::string> out;
  for (const std::string& name : options.outputs) out.insert(name == "default" ? "stderr" : name);
  if (out.contains("/dev/null") && !options.rotation) return {"/dev/null"};
  return out;
}

Result<spdlog::sink_ptr> open_output(const std::string& name, const LogOptions& options) {
  if (name == "stderr") return std::make_shared<spdlog::sinks::stderr_sink_mt>();
  if (name == "stdout") return std::make_shared<spdlog::sinks::stdout_sink_mt>();
  if (name == "systemd/journal") {
    CAIRN_TRY(Journal journal, Journal::open(options.journal_socket));
    return std::make_shared<JournalSink>(std::move(journal));
  }
  if (options.rotation) return std::make_shared<FileSink>(std::make_unique<LogFile>(name, *options.rotation));
  CAIRN_TRY(auto file, LogFile::open(name));
  return std::make_shared<FileSink>(std::move(file));
}

// In the machine's zone: "Z", or hours and minutes as in "+0200".
void append_time(std::string& out, microseconds time) {
  const auto second = std::chrono::floor<std::chrono::seconds>(time);
  const std::time_t seconds = second.count();
  std::tm parts{};
  ::localtime_r(&seconds, &parts);
  fmt::format_to(std::back_inserter(out), "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}", parts.tm_year + 1900,
                 parts.tm_mon + 1, parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec, (time - second).count());
  const long minutes = parts.tm_gmtoff / 60;
  if (minutes == 0) {
    out += 'Z';
  } else {
    fmt::format_to(std::back_inserter(out), "{}{:02}{:02}", minutes < 0 ? '-' : '+', std::abs(minutes) / 60,
                   std::abs(minutes) % 60);
  }
}

void append_caller(std::string& out, const std::source_location& where) {
  fmt::format_to(std::back_inserter(out), "{}:{}", short_path(where.file_name()), where.line());
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
  for (const std::string& name : distinct(options)) {
    CAIRN_TRY(auto sink, open_output(name, options));
    sinks.push_back(std::move(sink));
  }
  auto output = std::make_unique<Output>();
  output->logger = std::make_unique<spdlog::logger>("cairn", sinks.begin(), sinks.end());
  output->logger->set_formatter(
      std::make_unique<spdlog::pattern_formatter>("%v", spdlog::pattern_time_type::local, "\n"));
  output->logger->set_level(spdlog::level::trace);  // what is below the level does not get here
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

void log_in_background() {
  CAIRN_ASSERT(active_queue.load() == nullptr);
  // It stays when the process ends: its thread may be waiting for the output.
  auto* const queue = new LogQueue(
      [](uint64_t lines) { log::warn("the log's output stood still; lines were lost", {{"lines", lines}}); });
  std::thread([queue] { queue->run(); }).detach();
  active_queue.store(queue, std::memory_order_release);
}

void flush_log() {
  if (LogQueue* const queue = active_queue.load(std::memory_order_acquire); queue != nullptr) {
    queue->wait_written(kFlushMax);  // each line is flushed as it is written
  } else if (Output* output = active_output.load(std::memory_order_acquire); output != nullptr) {
    output->logger->flush();
  }
}

}  // namespace cairn::cmd
