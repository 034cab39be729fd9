#include "member/recovery/image.h"

#include <charconv>

#include <fmt/format.h>

#include "base/check.h"
#include "base/log.h"
#include "member/recovery/index_recovery.h"
#include "storage/bolt/engine.h"

namespace cairn::member {
namespace {

constexpr std::string_view kImageSuffix = ".snap.db";
constexpr size_t kIndexDigits = 16;

std::optional<Index> parse_image_name(std::string_view name) {
  if (name.size() != kIndexDigits + kImageSuffix.size() || !name.ends_with(kImageSuffix)) return std::nullopt;
  uint64_t value = 0;
  const std::string_view digits = name.substr(0, kIndexDigits);
  const auto parsed = std::from_chars(digits.begin(), digits.end(), value, 16);
  if (parsed.ec != std::errc() || parsed.ptr != digits.end()) return std::nullopt;
  return Index(value);
}

}  // namespace

std::string image_path(const std::string& snap_directory, Index index) {
  return fmt::format("{}/{:016x}{}", snap_directory, index.value, kImageSuffix);
}

Status check_image(const storage::View& view, Index index) {
  CAIRN_TRY(const uint64_t consistent, meta_number(view, "consistent_index"));
  CAIRN_TRY(const uint64_t term, meta_number(view, "term"));
  if (consistent == index.value) return {};
  // A 3.4 member that never changed a key has never written its consistent index.
  const auto members = view.cursor(storage::Table::kMembers);
  CAIRN_CHECK(members->seek(""));
  if (consistent == 0 && term == 0 && members->valid()) return {};
  return fail(Code::kDataLoss, "server: the db of the snapshot at index {} has applied entry {}", index, consistent);
}

Status look_at_image(env::FileSystem& fs, const std::string& path, Index index) {
  if (!fs.exists(path)) return fail(Code::kNotFound, "{}: no such file", path);  // to be opened is not to be made
  CAIRN_TRY(const auto engine, storage::open_bolt(fs, path));
  return check_image(*engine->view(), index);
}

Result<std::optional<Index>> find_image(env::FileSystem& fs, const std::string& snap_directory,
                                        const std::vector<wal::SnapshotRecord>& records, const storage::View& db) {
  Index newest;
  for (const wal::SnapshotRecord& record : records) newest = std::max(newest, record.index);
  CAIRN_TRY(const uint64_t consistent, meta_number(db, "consistent_index"));
  if (consistent >= newest.value || !fs.exists(image_path(snap_directory, newest))) return std::optional<Index>{};
  return std::optional(newest);
}

Status rename_image(env::FileSystem& fs, const std::string& snap_directory, Index index) {
  CAIRN_CHECK(fs.rename(image_path(snap_directory, index), snap_directory + "/db"));
  return fs.sync_directory(snap_directory);
}

void remove_old_images(env::FileSystem& fs, const std::string& snap_directory, Index index) {
  const auto names = fs.list(snap_directory);
  if (!names) return;
  for (const std::string& name : *names) {
    const auto of = parse_image_name(name);
    if (!of || *of > index) continue;
    if (const Status removed = fs.remove(snap_directory + "/" + name); !removed) {
      log::warn("failed to remove a db that was received",
                {{"path", snap_directory + "/" + name}, {"error", removed.error().message}});
    }
  }
}

}  // namespace cairn::member
