// Any bytes as a segment and as a snapshot file: read without a crash, within memory bounded by their size.
#include <cstddef>
#include <cstdint>

#include "base/check.h"
#include "wal/scan.h"
#include "wal/snap_file.h"
#include "wal/testing.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace cairn;
  if (size == 0) return 0;
  const std::string bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  // The first byte says where the first of two segments ends.
  const size_t split = bytes.size() * data[0] / 256;
  std::vector<std::shared_ptr<wal::Segment>> segments;
  for (const std::string& part : {bytes.substr(0, split), bytes.substr(split)}) {
    segments.push_back(std::make_shared<wal::Segment>());
    segments.back()->name.sequence = segments.size() - 1;
    segments.back()->file = std::make_unique<wal::testing::MemFile>(part);
    if (data[0] == 0) break;
  }
  const auto scan = wal::scan_segments(segments);
  if (scan) CAIRN_ASSERT(scan->end_offset <= bytes.size() && scan->points.first() <= scan->points.last() + 1);

  const auto snapshot = wal::decode_snapshot_file(bytes);
  if (snapshot) CAIRN_ASSERT(wal::decode_snapshot_file(wal::encode_snapshot_file(*snapshot)) == snapshot);
  return 0;
}
