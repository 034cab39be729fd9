// cmd/server/log_file.h: a file that log lines are appended to, rotated as lumberjack does for etcd.
//
// A file that would grow above its limit is renamed to <name>-<time><ext>, 2006-01-02T15-04-05.000, and a new one begun
// with its mode and owner. Old ones are removed by number and age, and compressed to .gz, by a thread of its own: a
// line never waits for that.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <thread>

#include <sys/types.h>

#include "base/error.h"
#include "base/mutex.h"

namespace cairn::cmd {

struct Rotation {
  int64_t size_bytes_max = int64_t{100} << 20;
  int64_t age_days_max = 0;      // 0: any
  int64_t backup_count_max = 0;  // 0: all
  bool local_time = false;
  bool compress = false;
};

// --log-rotation-config-json.
//   errors: kInvalidArgument, etcd's text
[[nodiscard]] Result<Rotation> parse_rotation(std::string_view json);

// Thread-safe by its caller's lock: spdlog's sinks have one.
class LogFile {
 public:
  // Appends to `path`, for ever. errors: the system's, as Go tells it
  [[nodiscard]] static Result<std::unique_ptr<LogFile>> open(const std::string& path);
  // Opens nothing before the first line, as lumberjack.
  LogFile(std::string path, const Rotation& rotation);
  ~LogFile();
  LogFile(const LogFile&) = delete;
  LogFile& operator=(const LogFile&) = delete;

  // A line that cannot be written is lost: there is nowhere to say so.
  void write(std::string_view line);
  // Removes and compresses what is due. Called by the thread; public for tests.
  static void tidy(const std::string& path, const Rotation& rotation, int64_t now_s);

 private:
  explicit LogFile(std::string path) : path_(std::move(path)) {}
  bool open_or_rotate(size_t line_size);
  bool rotate();
  void close();
  void wake_tidier();
  void run_tidier();

  std::string path_;
  Rotation rotation_;
  bool rotates_ = false;
  int fd_ = -1;
  int64_t size_ = 0;

  Mutex tidier_lock_;
  Condition tidier_wakes_;
  bool is_due_ CAIRN_GUARDED_BY(tidier_lock_) = false;
  bool is_over_ CAIRN_GUARDED_BY(tidier_lock_) = false;
  std::thread tidier_;  // started by the first rotation or line
};

}  // namespace cairn::cmd
