#include "cmd/server/log_file.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <csignal>
#include <cstring>
#include <ctime>
#include <optional>
#include <vector>

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "cmd/server/config_field.h"
#include "cmd/server/config_tree.h"
#include "env/fs.h"

namespace cairn::cmd {
namespace {

constexpr std::string_view kCompressed = ".gz";
constexpr std::string_view kTimeShape = "dddd-dd-ddTdd-dd-dd.ddd";

struct Name {
  std::string directory;
  std::string prefix;     // with the dash behind it
  std::string extension;  // with its dot, or empty
};

Name split(const std::string& path) {
  const std::string clean = env::clean_path(path);
  const std::string base = env::base_name(clean);
  const size_t dot = base.rfind('.');
  Name out;
  out.directory = env::parent_directory(clean);
  if (out.directory.empty()) out.directory = ".";
  out.extension = dot == std::string::npos ? "" : base.substr(dot);
  out.prefix = base.substr(0, base.size() - out.extension.size()) + "-";
  return out;
}

std::string time_text(std::chrono::milliseconds now, bool is_local) {
  const std::time_t seconds = now.count() / 1000;
  std::tm parts{};
  is_local ? ::localtime_r(&seconds, &parts) : ::gmtime_r(&seconds, &parts);
  char text[32];
  const size_t size = std::strftime(text, sizeof text, "%Y-%m-%dT%H-%M-%S", &parts);
  return fmt::format("{}.{:03}", std::string_view(text, size), now.count() % 1000);
}

// Seconds since the epoch, the text taken for UTC as lumberjack does. nullopt: not a time of ours.
std::optional<int64_t> time_of(std::string_view text) {
  if (text.size() != kTimeShape.size()) return std::nullopt;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool is_right = kTimeShape[i] == 'd' ? text[i] >= '0' && text[i] <= '9' : text[i] == kTimeShape[i];
    if (!is_right) return std::nullopt;
  }
  std::tm parts{};
  const std::string copy(text.substr(0, text.rfind('.')));
  const char* end = ::strptime(copy.c_str(), "%Y-%m-%dT%H-%M-%S", &parts);
  if (end == nullptr || *end != 0) return std::nullopt;
  return ::timegm(&parts);
}

struct Backup {
  std::string name;
  std::string stamp;  // sorts by time
  int64_t time_s = 0;
  bool is_compressed = false;
};

// The newest first.
std::vector<Backup> backups_of(const Name& name) {
  std::vector<Backup> out;
  DIR* directory = ::opendir(name.directory.c_str());
  if (directory == nullptr) return out;
  while (const dirent* entry = ::readdir(directory)) {
    std::string_view rest = entry->d_name;
    Backup backup{.name = entry->d_name, .stamp = "", .time_s = 0, .is_compressed = false};
    if (!rest.starts_with(name.prefix)) continue;
    rest.remove_prefix(name.prefix.size());
    const std::string packed = name.extension + std::string(kCompressed);
    if (rest.ends_with(packed) && time_of(rest.substr(0, rest.size() - packed.size()))) {
      backup.is_compressed = true;
      rest.remove_suffix(packed.size());
    } else if (rest.ends_with(name.extension)) {
      rest.remove_suffix(name.extension.size());
    } else {
      continue;
    }
    const auto time = time_of(rest);
    if (!time) continue;
    backup.stamp = rest;
    backup.time_s = *time;
    out.push_back(std::move(backup));
  }
  ::closedir(directory);
  std::ranges::sort(out, [](const Backup& a, const Backup& b) { return a.stamp > b.stamp; });
  return out;
}

// The file is removed once its .gz is whole; a .gz of an earlier attempt is replaced.
void compress(const std::string& path) {
  const std::string target = path + std::string(kCompressed);
  const int in = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (in < 0) return;
  struct stat found{};
  ::fstat(in, &found);
  const int out = ::open(target.c_str(), O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, found.st_mode & 07777);
  gzFile packed = out < 0 ? nullptr : ::gzdopen(out, "wb");
  if (packed == nullptr) {
    ::close(in);
    if (out >= 0) ::close(out);
    return;
  }
  bool is_whole = ::fchown(out, found.st_uid, found.st_gid) == 0 || errno == EPERM;
  std::vector<char> piece(size_t{64} << 10);
  ssize_t count = 0;
  while (is_whole && (count = ::read(in, piece.data(), piece.size())) > 0) {
    is_whole = ::gzwrite(packed, piece.data(), static_cast<unsigned>(count)) == count;
  }
  ::close(in);
  is_whole = ::gzclose(packed) == Z_OK && is_whole && count == 0;
  ::unlink(is_whole ? path.c_str() : target.c_str());
}

// errors: where Go's JSON decoder says that a value is of the wrong type
Status read_field(Rotation& rotation, const std::string& key, const Tree& value) {
  const auto wrong = [&](std::string_view field, std::string_view found, std::string_view type) {
    return fail(Code::kInvalidArgument,
                "invalid log rotation config: json: cannot unmarshal {} into Go struct field "
                "logRotationConfig.Logger.{} of type {}",
                found, field, type);
  };
  std::string name;
  for (const char c : key) name += c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  if (value.kind == Tree::Kind::kNull) return {};
  for (const auto& [field, target] :
       {std::pair("maxsize", &rotation.size_bytes_max), std::pair("maxage", &rotation.age_days_max),
        std::pair("maxbackups", &rotation.backup_count_max)}) {
    if (name != field) continue;
    if (value.kind != Tree::Kind::kNumber) return wrong(field, kind_name(value.kind), "int");
    int64_t number = 0;
    const char* end = value.text.data() + value.text.size();
    const auto [at, error] = std::from_chars(value.text.data(), end, number);
    if (error != std::errc() || at != end) return wrong(field, "number " + value.text, "int");
    *target = number;
  }
  for (const auto& [field, target] :
       {std::pair("localtime", &rotation.local_time), std::pair("compress", &rotation.compress)}) {
    if (name != field) continue;
    if (value.kind != Tree::Kind::kBool) return wrong(field, kind_name(value.kind), "bool");
    *target = value.text == "true";
  }
  if (name == "filename" && value.kind != Tree::Kind::kText) return wrong(name, kind_name(value.kind), "string");
  return {};
}

}  // namespace

Result<Rotation> parse_rotation(std::string_view json) {
  const auto tree = tree_of_json(json);
  if (!tree) {
    return fail(Code::kInvalidArgument, "improperly formatted log rotation config: {}", tree.error().message);
  }
  Rotation out{.size_bytes_max = 0};
  // compat: null is {}; etcd panics at its first line.
  if (tree->kind != Tree::Kind::kMap && tree->kind != Tree::Kind::kNull) {
    return fail(Code::kInvalidArgument,
                "invalid log rotation config: json: cannot unmarshal {} into Go value of type embed.logRotationConfig",
                kind_name(tree->kind));
  }
  for (const auto& [key, value] : tree->members) CAIRN_CHECK(read_field(out, key, value));
  // compat: below 0 is the default; etcd would lose every line.
  if (out.size_bytes_max <= 0) out.size_bytes_max = 100;
  out.size_bytes_max = std::min(out.size_bytes_max, INT64_MAX >> 20) << 20;
  return out;
}

Result<std::unique_ptr<LogFile>> LogFile::open(const std::string& path) {
  std::unique_ptr<LogFile> out(new LogFile(path));
  out->fd_ = ::open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
  if (out->fd_ >= 0) return out;
  std::string reason = std::strerror(errno);
  if (!reason.empty()) reason[0] = static_cast<char>(reason[0] | 0x20);
  return fail(Code::kInvalidArgument, "open sink \"{}\": open {}: {}", path, path, reason);
}

LogFile::LogFile(std::string path, const Rotation& rotation)
    : path_(std::move(path)), rotation_(rotation), rotates_(true) {}

LogFile::~LogFile() {
  {
    MutexLock lock(tidier_lock_);
    is_over_ = true;
  }
  tidier_wakes_.notify_one();
  if (tidier_.joinable()) tidier_.join();
  close();
}

void LogFile::close() {
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
}

void LogFile::write(std::string_view line) {
  if (rotates_) {
    // compat: a line longer than a whole file is written alone; lumberjack loses it.
    if (fd_ < 0 ? !open_or_rotate(line.size())
                : size_ > 0 && size_ + static_cast<int64_t>(line.size()) > rotation_.size_bytes_max && !rotate()) {
      return;
    }
  }
  size_ += static_cast<int64_t>(line.size());
  while (!line.empty()) {
    const ssize_t count = ::write(fd_, line.data(), line.size());
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return;
    line.remove_prefix(static_cast<size_t>(count));
  }
}

bool LogFile::open_or_rotate(size_t line_size) {
  struct stat found{};
  if (::stat(path_.c_str(), &found) == 0) {
    rotates_ = S_ISREG(found.st_mode);  // compat: lumberjack would rename /dev/null
    if (rotates_ && found.st_size + static_cast<int64_t>(line_size) >= rotation_.size_bytes_max) return rotate();
    wake_tidier();
    fd_ = ::open(path_.c_str(), O_APPEND | O_WRONLY | O_CLOEXEC);
    size_ = found.st_size;
    if (fd_ >= 0) return true;
  }
  return rotate();
}

bool LogFile::rotate() {
  close();
  const Name name = split(path_);
  for (size_t at = 0; at != std::string::npos;) {
    at = name.directory.find('/', at + 1);
    ::mkdir(name.directory.substr(0, at).c_str(), 0755);
  }
  struct stat found{};
  found.st_mode = 0600;
  const bool had_one = ::stat(path_.c_str(), &found) == 0;
  if (had_one) {
    std::chrono::milliseconds now =
        std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch());
    const auto backup_at = [&] {
      return fmt::format("{}/{}{}{}", name.directory, name.prefix, time_text(now, rotation_.local_time),
                         name.extension);
    };
    // Two in one millisecond get names of their own; lumberjack loses the first.
    std::string backup = backup_at();
    for (; ::access(backup.c_str(), F_OK) == 0; backup = backup_at()) ++now;
    if (::rename(path_.c_str(), backup.c_str()) != 0) return false;
  }
  fd_ = ::open(path_.c_str(), O_CREAT | O_WRONLY | O_TRUNC | O_APPEND | O_CLOEXEC, found.st_mode & 07777);
  size_ = 0;
  if (fd_ < 0) return false;
  // Without the right to do so the file is ours, which is good as well.
  if (had_one && ::fchown(fd_, found.st_uid, found.st_gid) != 0) errno = 0;
  wake_tidier();
  return true;
}

void LogFile::wake_tidier() {
  if (rotation_.backup_count_max <= 0 && rotation_.age_days_max <= 0 && !rotation_.compress) return;
  if (!tidier_.joinable()) {
    // The process's signals are for its first thread.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    tidier_ = std::thread([this] { run_tidier(); });
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
  }
  {
    MutexLock lock(tidier_lock_);
    is_due_ = true;
  }
  tidier_wakes_.notify_one();
}

void LogFile::run_tidier() {
  while (true) {
    {
      MutexLock lock(tidier_lock_);
      while (!is_due_ && !is_over_) tidier_wakes_.wait(lock);
      if (!is_due_) return;
      is_due_ = false;
    }
    const auto now = std::chrono::system_clock::now().time_since_epoch();
    tidy(path_, rotation_, std::chrono::duration_cast<std::chrono::seconds>(now).count());
  }
}

void LogFile::tidy(const std::string& path, const Rotation& rotation, int64_t now_s) {
  const Name name = split(path);
  int64_t kept = 0;
  std::string last_stamp;
  for (const Backup& backup : backups_of(name)) {
    if (backup.stamp != last_stamp) ++kept;  // a file and its .gz count once
    last_stamp = backup.stamp;
    const std::string file = name.directory + "/" + backup.name;
    const bool is_beyond = rotation.backup_count_max > 0 && kept > rotation.backup_count_max;
    const bool is_old = rotation.age_days_max > 0 && backup.time_s < now_s - rotation.age_days_max * 86'400;
    if (is_beyond || is_old) {
      ::unlink(file.c_str());
    } else if (rotation.compress && !backup.is_compressed) {
      compress(file);
    }
  }
}

}  // namespace cairn::cmd
