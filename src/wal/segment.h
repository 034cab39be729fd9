// wal/segment.h: the files of a log and their names.
//
// A log is a row of segments named <sequence>-<first index>.wal (16 hex digits each). The first index is that of the
// first entry the segment may hold: one above the last entry before it, 0 in the first segment.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/strong.h"
#include "env/fs.h"

namespace cairn::wal {

struct SegmentName {
  uint64_t sequence = 0;
  Index first;

  friend bool operator==(const SegmentName&, const SegmentName&) = default;
};

[[nodiscard]] std::string format_segment_name(const SegmentName& name);
[[nodiscard]] std::optional<SegmentName> parse_segment_name(std::string_view file_name);

// What a file may be called before it is a segment: a spare, a spare in the making, one that a cut makes in line.
inline constexpr const char* kSpareNames[] = {"/0.tmp", "/1.tmp"};
inline constexpr const char* kPreparing = "/preparing.tmp";
inline constexpr const char* kCutName = "/cut.tmp";
inline constexpr std::string_view kTemporaryNames[] = {kSpareNames[0], kSpareNames[1], kPreparing, kCutName};

// A segment in use: open, and locked when it belongs to a Log.
struct Segment {
  SegmentName name;
  std::string path;
  std::unique_ptr<env::File> file;
};

struct SegmentList {
  std::vector<SegmentName> in_use;     // without a hole up to the last one, ascending; never empty
  std::vector<SegmentName> left_over;  // older ones behind a hole: what an interrupted release left
};

// errors: kNotFound when there is none
[[nodiscard]] Result<SegmentList> list_segments(env::FileSystem& fs, const std::string& directory);

enum class SegmentAccess : uint8_t { kRead, kOwn };

// kOwn: for reading and writing, and locked as etcd does it (an open-file-description lock).
//   errors: kUnavailable "wal: locked by another process: <path>"
[[nodiscard]] Result<std::shared_ptr<Segment>> open_segment(env::FileSystem& fs, const std::string& directory,
                                                            const SegmentName& name, SegmentAccess access);

// lock_ofd() with the log's own message.
[[nodiscard]] Status lock_segment(env::File& file, const std::string& path);

// Grows the file to `size` bytes with zeros. Where the file system can, [from, size) has blocks afterwards.
[[nodiscard]] Status extend_segment(env::File& file, uint64_t from, uint64_t size);

// `size` zeros, at most kZerosMax; they take no memory.
inline constexpr uint64_t kZerosMax = 256 * 1024;
[[nodiscard]] std::string_view zeros(uint64_t size);
[[nodiscard]] bool all_zero(std::string_view bytes);

}  // namespace cairn::wal
