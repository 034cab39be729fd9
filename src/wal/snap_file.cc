#include "wal/snap_file.h"

#include <algorithm>

#include "base/bytes.h"
#include "base/check.h"
#include "base/crc32c.h"
#include "base/log.h"
#include "base/wire.h"
#include "wal/codec.h"

namespace cairn::wal {
namespace {

constexpr std::string_view kSuffix = ".snap";

bool parse_outer(std::string_view bytes, uint64_t& crc, std::string_view& data) {
  wire::Reader in(bytes);
  while (in.next()) {
    switch (in.field()) {
      case 1: crc = in.varint(); break;
      case 2: data = in.bytes(); break;
      default: return false;
    }
  }
  return in.ok();
}

bool parse_metadata(std::string_view bytes, SnapshotFile& snapshot) {
  wire::Reader in(bytes);
  while (in.next()) {
    switch (in.field()) {
      case 1: snapshot.conf_state = in.bytes(); break;
      case 2: snapshot.index = Index(in.varint()); break;
      case 3: snapshot.term = Term(in.varint()); break;
      default: break;
    }
  }
  return in.ok();
}

bool parse_inner(std::string_view bytes, SnapshotFile& snapshot) {
  wire::Reader in(bytes);
  while (in.next()) {
    switch (in.field()) {
      case 1: snapshot.data = in.bytes(); break;
      case 2:
        if (!parse_metadata(in.bytes(), snapshot)) return false;
        break;
      default: break;
    }
  }
  return in.ok();
}

// A directory, a pipe, or a link that leads nowhere has the name.
bool is_no_file(const Error& error) { return error.code == Code::kFailedPrecondition || error.code == Code::kNotFound; }

}  // namespace

std::string format_snapshot_name(const SnapshotName& name) {
  return hex16(name.term.value) + "-" + hex16(name.index.value) + std::string(kSuffix);
}

std::optional<SnapshotName> parse_snapshot_name(std::string_view file_name) {
  if (file_name.size() != 33 + kSuffix.size() || !file_name.ends_with(kSuffix) || file_name[16] != '-') {
    return std::nullopt;
  }
  const Result<uint64_t> term = parse_hex(file_name.substr(0, 16));
  const Result<uint64_t> index = parse_hex(file_name.substr(17, 16));
  if (!term || !index) return std::nullopt;
  return SnapshotName{Term(*term), Index(*index)};
}

std::string encode_snapshot_file(const SnapshotFile& snapshot) {
  std::string metadata;
  wire::append_bytes_field(metadata, 1, snapshot.conf_state);
  wire::append_varint_field(metadata, 2, snapshot.index.value);
  wire::append_varint_field(metadata, 3, snapshot.term.value);
  std::string data;
  wire::append_bytes_if(data, 1, snapshot.data);
  wire::append_bytes_field(data, 2, metadata);
  std::string bytes;
  wire::append_varint_field(bytes, 1, crc32c(0, data));
  wire::append_bytes_field(bytes, 2, data);
  return bytes;
}

Result<SnapshotFile> decode_snapshot_file(std::string_view bytes) {
  uint64_t crc = 0;
  std::string_view data;
  if (!parse_outer(bytes, crc, data)) return fail(Code::kDataLoss, "wal: not a snapshot file");
  if (crc == 0 || data.empty()) return fail(Code::kDataLoss, "wal: the snapshot file is empty");
  if (const uint32_t found = crc32c(0, data); found != crc) {
    return fail(Code::kDataLoss, "wal: snapshot file checksum mismatch: {:08x}, expected {:08x}", found, crc);
  }
  SnapshotFile snapshot;
  if (!parse_inner(data, snapshot)) return fail(Code::kDataLoss, "wal: the snapshot in the file cannot be read");
  return snapshot;
}

Result<std::vector<SnapshotName>> list_snapshot_files(env::FileSystem& fs, const std::string& directory) {
  CAIRN_TRY(const std::vector<std::string> files, fs.list(directory));
  std::vector<SnapshotName> names;
  for (const std::string& file : files) {
    if (const auto name = parse_snapshot_name(file)) names.push_back(*name);
  }
  std::sort(names.rbegin(), names.rend());
  return names;
}

Status write_snapshot_file(env::FileSystem& fs, const std::string& directory, const SnapshotFile& snapshot,
                           Metrics* metrics) {
  const metrics::StopWatch whole(metrics != nullptr ? &metrics->snap_save : nullptr);
  const std::string name = format_snapshot_name({snapshot.term, snapshot.index});
  // etcd removes left-over files whose names begin so.
  const std::string temporary = directory + "/tmp-" + name;
  std::string bytes;
  {
    const metrics::StopWatch encoding(metrics != nullptr ? &metrics->snap_marshalling : nullptr);
    bytes = encode_snapshot_file(snapshot);
  }
  {
    const metrics::StopWatch writing(metrics != nullptr ? &metrics->snap_fsync : nullptr);
    if (Status written = env::write_file(fs, temporary, bytes); !written) {
      (void)fs.remove(temporary);
      return written;
    }
  }
  CAIRN_CHECK(fs.rename(temporary, directory + "/" + name));
  if (CAIRN_MUTANT("wal.no_directory_sync")) return {};
  return fs.sync_directory(directory);
}

Status sync_snapshot_files(env::FileSystem& fs, const std::string& directory) {
  CAIRN_TRY(const std::vector<SnapshotName> names, list_snapshot_files(fs, directory));
  for (const SnapshotName& name : names) {
    const auto file = fs.open(directory + "/" + format_snapshot_name(name), env::OpenMode::kRead);
    if (!file && is_no_file(file.error())) continue;
    if (!file) return std::unexpected(file.error());
    CAIRN_CHECK((*file)->fdatasync());
  }
  return fs.sync_directory(directory);
}

Result<SnapshotFile> read_snapshot_file(env::FileSystem& fs, const std::string& directory, const SnapshotName& name) {
  const std::string path = directory + "/" + format_snapshot_name(name);
  CAIRN_TRY(const std::string bytes, env::read_file(fs, path));
  Result<SnapshotFile> snapshot = decode_snapshot_file(bytes);
  if (!snapshot) return fail(Code::kDataLoss, "{}: {}", snapshot.error().message, path);
  if (snapshot->index != name.index || snapshot->term != name.term) {
    return fail(Code::kDataLoss, "wal: snapshot file holds another snapshot (index {}, term {}): {}", snapshot->index,
                snapshot->term, path);
  }
  return snapshot;
}

std::vector<SnapshotRecord> valid_snapshot_records(std::span<const SnapshotRecord> records, const HardState& state) {
  std::vector<SnapshotRecord> valid;
  std::copy_if(records.begin(), records.end(), std::back_inserter(valid),
               [&](const SnapshotRecord& record) { return record.index <= state.commit; });
  return valid;
}

Result<std::optional<SnapshotFile>> choose_start_snapshot(env::FileSystem& fs, const std::string& directory,
                                                          std::span<const SnapshotRecord> valid) {
  CAIRN_TRY(const std::vector<SnapshotName> names, list_snapshot_files(fs, directory));
  for (const SnapshotName& name : names) {
    Result<SnapshotFile> snapshot = read_snapshot_file(fs, directory, name);
    if (!snapshot) {
      const bool is_unreadable = snapshot.error().code == Code::kDataLoss || is_no_file(snapshot.error());
      if (!is_unreadable) return std::unexpected(snapshot.error());
      const std::string path = directory + "/" + format_snapshot_name(name);
      log::warn("renaming a snapshot file that cannot be read", {{"path", path}, {"error", snapshot.error().message}});
      CAIRN_CHECK(fs.rename(path, path + ".broken"));
      continue;
    }
    const bool is_valid = std::any_of(valid.begin(), valid.end(), [&](const SnapshotRecord& record) {
      return record.index == snapshot->index && record.term == snapshot->term;
    });
    if (is_valid) return std::optional(std::move(*snapshot));
  }
  return std::optional<SnapshotFile>();
}

Result<size_t> purge_snapshot_files(env::FileSystem& fs, const std::string& directory, size_t keep) {
  CAIRN_TRY(std::vector<SnapshotName> names, list_snapshot_files(fs, directory));
  size_t count = 0;
  while (names.size() > keep) {
    const std::string path = directory + "/" + format_snapshot_name(names.back());
    CAIRN_CHECK(fs.remove(path));
    log::info("purged", {{"path", path}});
    names.pop_back();
    ++count;
  }
  return count;
}

}  // namespace cairn::wal
