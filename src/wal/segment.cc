#include "wal/segment.h"

#include <algorithm>

#include "base/bytes.h"

namespace cairn::wal {
namespace {

constexpr std::string_view kSuffix = ".wal";

std::optional<uint64_t> parse_hex16(std::string_view digits) {
  if (digits.size() != 16) return std::nullopt;
  const Result<uint64_t> value = parse_hex(digits);
  if (!value) return std::nullopt;
  return *value;
}

}  // namespace

std::string format_segment_name(const SegmentName& name) {
  return hex16(name.sequence) + "-" + hex16(name.first.value) + std::string(kSuffix);
}

std::optional<SegmentName> parse_segment_name(std::string_view file_name) {
  if (file_name.size() != 33 + kSuffix.size() || !file_name.ends_with(kSuffix) || file_name[16] != '-') {
    return std::nullopt;
  }
  const auto sequence = parse_hex16(file_name.substr(0, 16));
  const auto first = parse_hex16(file_name.substr(17, 16));
  if (!sequence || !first) return std::nullopt;
  return SegmentName{*sequence, Index(*first)};
}

Result<SegmentList> list_segments(env::FileSystem& fs, const std::string& directory) {
  CAIRN_TRY(const std::vector<std::string> files, fs.list(directory));
  std::vector<SegmentName> names;
  for (const std::string& file : files) {
    if (const auto name = parse_segment_name(file)) names.push_back(*name);
  }
  if (names.empty()) return fail(Code::kNotFound, "wal: no segment in {}", directory);
  std::sort(names.begin(), names.end(),
            [](const SegmentName& a, const SegmentName& b) { return a.sequence < b.sequence; });
  size_t begin = names.size() - 1;
  while (begin > 0 && names[begin - 1].sequence + 1 == names[begin].sequence) --begin;
  const auto split = names.begin() + static_cast<ptrdiff_t>(begin);
  return SegmentList{.in_use = {split, names.end()}, .left_over = {names.begin(), split}};
}

Status lock_segment(env::File& file, const std::string& path) {
  const Status status = file.lock_ofd();
  if (!status && status.error().code == Code::kUnavailable) {
    return fail(Code::kUnavailable, "wal: locked by another process: {}", path);
  }
  return status;
}

Result<std::shared_ptr<Segment>> open_segment(env::FileSystem& fs, const std::string& directory,
                                              const SegmentName& name, SegmentAccess access) {
  auto segment = std::make_shared<Segment>();
  segment->name = name;
  segment->path = directory + "/" + format_segment_name(name);
  const bool owned = access == SegmentAccess::kOwn;
  CAIRN_TRY(segment->file, fs.open(segment->path, owned ? env::OpenMode::kReadWrite : env::OpenMode::kRead));
  if (owned) CAIRN_CHECK(lock_segment(*segment->file, segment->path));
  return segment;
}

Status extend_segment(env::File& file, uint64_t from, uint64_t size) {
  if (from >= size) return {};
  const Status status = file.allocate(from, size - from);
  if (!status && status.error().code == Code::kUnimplemented) return file.truncate(size);
  return status;
}

std::string_view zeros(uint64_t size) {
  static char bytes[kZerosMax];  // never written: the kernel shows its one page of zeros
  return {bytes, std::min(size, kZerosMax)};
}

bool all_zero(std::string_view bytes) {
  while (!bytes.empty()) {
    const std::string_view zero = zeros(bytes.size());
    if (bytes.substr(0, zero.size()) != zero) return false;
    bytes.remove_prefix(zero.size());
  }
  return true;
}

}  // namespace cairn::wal
