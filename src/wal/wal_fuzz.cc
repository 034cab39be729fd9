// Any bytes as a segment and as a snapshot file: read without a crash, within memory bounded by their size. Every other
// input is a list of records (type, length, data), framed with valid checksums so that their readers are reached.
#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "base/check.h"
#include "wal/record.h"
#include "wal/scan.h"
#include "wal/snap_file.h"
#include "wal/testing.h"

namespace {

using namespace cairn;

// As a segment that goes on from `crc`.
std::string seal_records(std::string_view bytes, uint32_t& crc) {
  wal::RecordBuffer out;
  out.append_crc(crc);
  while (bytes.size() >= 2) {
    const auto type = static_cast<wal::RecordType>(bytes[0] & 7);
    const size_t length = std::min<size_t>(static_cast<uint8_t>(bytes[1]), bytes.size() - 2);
    out.append(type, bytes.substr(2, length), crc);
    bytes.remove_prefix(2 + length);
  }
  return std::string(out.view());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  // The first byte says where the first of two segments ends.
  const size_t split = bytes.size() * data[0] / 256;
  std::vector<std::shared_ptr<wal::Segment>> segments;
  const bool sealed = size % 2 == 0;
  uint32_t crc = 0;
  for (std::string part : {bytes.substr(0, split), bytes.substr(split)}) {
    if (sealed) part = seal_records(part, crc);
    segments.push_back(std::make_shared<wal::Segment>());
    segments.back()->name.sequence = segments.size() - 1;
    segments.back()->file = std::make_unique<wal::testing::MemFile>(part);
    if (data[0] == 0) break;
  }
  const auto scan = wal::scan_segments(segments);
  if (scan)
    CAIRN_ASSERT((sealed || scan->end_offset <= bytes.size()) && scan->points.first() <= scan->points.last() + 1);

  const auto snapshot = wal::decode_snapshot_file(bytes);
  if (snapshot) CAIRN_ASSERT(wal::decode_snapshot_file(wal::encode_snapshot_file(*snapshot)) == snapshot);
  return 0;
}
