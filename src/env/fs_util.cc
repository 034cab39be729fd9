#include <filesystem>

#include "env/fs.h"

namespace cairn::env {

Result<std::string> read_file(FileSystem& fs, const std::string& path) {
  CAIRN_TRY(const auto file, fs.open(path, OpenMode::kRead));
  CAIRN_TRY(const uint64_t size, file->size());
  std::string data(size, '\0');
  CAIRN_TRY(const size_t read, file->pread(data.data(), size, 0));
  data.resize(read);
  return data;
}

Status write_file(FileSystem& fs, const std::string& path, std::string_view data) {
  CAIRN_TRY(const auto file, fs.open(path, OpenMode::kCreateEmpty));
  CAIRN_CHECK(file->pwrite(data, 0));
  return file->fdatasync();
}

Status replace_file(FileSystem& fs, const std::string& path, std::string_view data) {
  const std::string temporary = path + ".tmp";
  CAIRN_CHECK(write_file(fs, temporary, data));
  CAIRN_CHECK(fs.rename(temporary, path));
  return fs.sync_directory(parent_directory(path));
}

std::string clean_path(std::string_view path) {
  const std::string normal = std::filesystem::path(path).lexically_normal().string();
  if (normal.size() > 1 && normal.ends_with('/')) return normal.substr(0, normal.size() - 1);
  return normal;
}

std::string parent_directory(const std::string& path) {
  const size_t slash = path.find_last_of('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

std::string base_name(const std::string& path) {
  const size_t slash = path.find_last_of('/');
  return slash == std::string::npos ? path : path.substr(slash + 1);
}

}  // namespace cairn::env
