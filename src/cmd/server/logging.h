// cmd/server/logging.h: the process's log, one JSON object a line in the shape of etcd's (zap): ts, level, caller, msg,
// fields.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/log.h"
#include "cmd/server/log_file.h"
#include "cmd/server/log_journal.h"

namespace cairn::cmd {

struct LogOptions {
  std::string level = "info";   // see level_of()
  std::string format = "json";  // json, console
  // default and stderr, stdout, systemd/journal, or paths of files
  std::vector<std::string> outputs = {"default"};
  std::optional<Rotation> rotation = std::nullopt;  // of the files
  std::string journal_socket{kJournalSocket};
};

// As zap reads a level: in any case, "" is info, "warning" is warn. "dpanic" is panic here, where nothing is less.
//   errors: kInvalidArgument with etcd's text
[[nodiscard]] Result<log::Level> level_of(std::string_view name);

// Makes this the sink of base/log.h. Call once, before threads start; calling again replaces the outputs.
//   errors: kInvalidArgument with etcd's text; the failure to open a file
[[nodiscard]] Status start_logging(const LogOptions& options);
// From here on a thread of its own writes, and nobody who logs waits for an output. Once.
void log_in_background();
// Until all is written, or for a second.
void flush_log();

// One line without its newline, as start_logging()'s sink writes it. `time` is since the epoch.
[[nodiscard]] std::string format_json(const log::Entry& entry, std::chrono::microseconds time);
[[nodiscard]] std::string format_console(const log::Entry& entry, std::chrono::microseconds time);

}  // namespace cairn::cmd
