#include "wal/record.h"

#include <algorithm>
#include <cstring>

#include "base/bytes.h"
#include "base/check.h"
#include "base/crc32c.h"
#include "base/wire.h"
#include "wal/codec.h"
#include "wal/segment.h"

namespace cairn::wal {
namespace {

constexpr uint64_t kLengthMask = 0x00ff'ffff'ffff'ffff;
constexpr uint64_t kFrameBytes = 8;
constexpr uint64_t kBufferBytesMin = 64 * 1024;
constexpr uint64_t kBufferBytesKept = 4 * 1024 * 1024;
// The fields of a record but its data: type, checksum, tag and length of the data.
constexpr uint64_t kRecordHeadBytesMax = 2 + 6 + 11;

// The fields of a walpb.Record; false when `bytes` is not exactly one.
bool parse_record(std::string_view bytes, Record& record) {
  wire::Reader in(bytes);
  uint64_t type = 0;
  uint64_t crc = 0;
  record.data = {};
  bool has_data = false;
  while (in.next()) {
    switch (in.field()) {
      case 1: type = in.varint(); break;
      case 2: crc = in.varint(); break;
      case 3:
        record.data = in.bytes();
        has_data = true;
        break;
      default: return false;
    }
  }
  if (!in.ok() || crc > UINT32_MAX) return false;
  if (type < static_cast<uint64_t>(RecordType::kMetadata) || type > static_cast<uint64_t>(RecordType::kSnapshot)) {
    return false;
  }
  record.type = static_cast<RecordType>(type);
  record.crc = static_cast<uint32_t>(crc);
  return !(record.type == RecordType::kCrc && has_data);
}

// Numbers one after the other; 0 behind the end.
class Varints {
 public:
  explicit Varints(std::string_view bytes) : bytes_(bytes) {}

  uint64_t next() {
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 63 && used_ < bytes_.size(); shift += 7) {
      const auto byte = static_cast<uint8_t>(bytes_[used_++]);
      value |= uint64_t{byte & 0x7fu} << shift;
      if ((byte & 0x80) == 0) return value;
    }
    return 0;
  }
  [[nodiscard]] uint64_t used() const { return used_; }

 private:
  std::string_view bytes_;
  uint64_t used_ = 0;
};

}  // namespace

std::string_view record_type_name(RecordType type) {
  switch (type) {
    case RecordType::kMetadata: return "metadata";
    case RecordType::kEntry: return "entry";
    case RecordType::kState: return "state";
    case RecordType::kCrc: return "crc";
    case RecordType::kSnapshot: return "snapshot";
  }
  return "unknown";
}

void RecordBuffer::append(RecordType type, std::string_view data, uint32_t& crc) {
  crc = crc32c(crc, data);
  frame(type, crc, data, {});
}

void RecordBuffer::append_entry(const Entry& entry, uint32_t& crc) {
  char head[kEntryHeadBytesMax];
  const std::string_view head_bytes(head, static_cast<size_t>(put_entry_head(head, entry) - head));
  crc = crc32c(crc32c(crc, head_bytes), entry.data);
  frame(RecordType::kEntry, crc, head_bytes, entry.data);
}

void RecordBuffer::append_crc(uint32_t crc) { frame(RecordType::kCrc, crc, {}, {}); }

void RecordBuffer::frame(RecordType type, uint32_t crc, std::string_view head, std::string_view tail) {
  const uint64_t data_size = head.size() + tail.size();
  char* const begin = reserve(kFrameBytes + kRecordHeadBytesMax + data_size + 8);
  char* const body = begin + kFrameBytes;
  char* to = wire::put_varint_field(body, 1, static_cast<uint64_t>(type));
  to = wire::put_varint_field(to, 2, crc);
  if (type != RecordType::kCrc) {
    to = wire::put_varint(to, wire::tag(3, wire::Type::kBytes));
    to = wire::put_varint(to, data_size);
    to = wire::put_bytes(wire::put_bytes(to, head), tail);
  }
  const auto size = static_cast<uint64_t>(to - body);
  const uint64_t padding = (8 - size % 8) % 8;
  store_le<uint64_t>(to, 0);
  store_le(begin, padding == 0 ? size : size | (0x80 | padding) << 56);
  size_ += kFrameBytes + size + padding;
}

char* RecordBuffer::reserve(uint64_t size) {
  if (capacity_ - size_ < size) {
    const uint64_t capacity = std::max({size_ + size, capacity_ * 2, kBufferBytesMin});
    std::unique_ptr<char[]> data(new char[capacity]);
    if (size_ != 0) std::memcpy(data.get(), data_.get(), size_);
    data_ = std::move(data);
    capacity_ = capacity;
  }
  return data_.get() + size_;
}

void RecordBuffer::clear() {
  size_ = 0;
  if (capacity_ > kBufferBytesKept) {
    data_.reset();
    capacity_ = 0;
  }
}

RecordReader::RecordReader(const env::File& file, uint64_t size, uint64_t read_bytes)
    : file_(file), size_(size), read_bytes_(read_bytes) {}

void RecordReader::seek(uint64_t offset, std::optional<uint32_t> crc) {
  offset_ = offset;
  crc_ = crc.value_or(0);
  chain_known_ = crc.has_value();
}

Result<ReadOutcome> RecordReader::next(Record& record) {
  if (offset_ >= size_) return ReadOutcome::kEnd;
  const uint64_t left = size_ - offset_;
  CAIRN_TRY(const std::string_view word_bytes, window(offset_, std::min(left, kFrameBytes)));
  if (left < kFrameBytes) {
    if (all_zero(word_bytes)) return ReadOutcome::kEnd;
    return give_up(ReadOutcome::kTorn, "the file ends inside a length");
  }
  const auto word = load_le<uint64_t>(word_bytes.data());
  if (word == 0) return at_zero_length();

  const uint64_t size = word & kLengthMask;
  const uint64_t top = word >> 56;
  const uint64_t padding = top & 7;
  // Length words lie within a sector, so no interrupted write makes an impossible one.
  if ((top != 0 && top != (0x80 | padding)) || top == 0x80 || size == 0 || (size + padding) % 8 != 0) {
    return give_up(ReadOutcome::kDamaged, fmt::format("impossible length word {:016x}", word));
  }
  if (size + padding > left - kFrameBytes) {
    CAIRN_TRY(const bool intact, intact_but_not(size));
    if (intact) return give_up(ReadOutcome::kDamaged, fmt::format("wrong length {} of a good record", size));
    return give_up(ReadOutcome::kTorn, fmt::format("a record of {} bytes runs past the file's end", size));
  }
  const uint64_t payload_offset = offset_ + kFrameBytes;
  CAIRN_TRY(const std::string_view payload, window(payload_offset, size + padding));
  if (!parse_record(payload.substr(0, size), record)) {
    const ReadOutcome outcome = judge(payload, payload_offset, "it is not a record");
    if (outcome != ReadOutcome::kTorn) return outcome;
    CAIRN_TRY(const bool intact, intact_but_not(size));
    if (intact) return give_up(ReadOutcome::kDamaged, fmt::format("wrong length {} of a good record", size));
    return outcome;
  }
  record.offset = offset_;
  record.crc_before = crc_;
  uint32_t crc = record.crc;
  if (record.type == RecordType::kCrc) {
    if (chain_known_ && crc != crc_) {
      return judge(payload, payload_offset,
                   fmt::format("checksum mismatch between segments: {:08x}, expected {:08x}", crc, crc_));
    }
  } else {
    crc = crc32c(crc_, record.data);
    if (crc != record.crc && !CAIRN_MUTANT("wal.torn_tail_accepted")) {
      return judge(payload, payload_offset, fmt::format("checksum mismatch: {:08x}, expected {:08x}", record.crc, crc));
    }
  }
  crc_ = crc;
  chain_known_ = true;
  offset_ = payload_offset + size + padding;
  return ReadOutcome::kRecord;
}

// Nothing was written here, unless the length word itself was damaged. Then other bytes of its sector are not zero. No
// interrupted write leaves that, because a sector is written whole and was zeros before.
Result<ReadOutcome> RecordReader::at_zero_length() {
  const uint64_t sector_end = std::min(size_, (offset_ / kSectorBytes + 1) * kSectorBytes);
  CAIRN_TRY(const std::string_view rest, window(offset_, sector_end - offset_));
  if (all_zero(rest)) return ReadOutcome::kEnd;
  return give_up(ReadOutcome::kDamaged, "a zero length stands before written bytes");
}

// Whether the length word at offset_ is damaged: the lengths inside the record and the checksum show a good record of
// another size behind it. An interrupted write leaves a length word right or not at all.
Result<bool> RecordReader::intact_but_not(uint64_t claimed_size) {
  const uint64_t begin = offset_ + kFrameBytes;
  CAIRN_TRY(const std::string_view head, window(begin, std::min(size_ - begin, kRecordHeadBytesMax)));
  Varints in(head);
  if (in.next() != wire::tag(1, wire::Type::kVarint)) return false;
  in.next();
  if (in.next() != wire::tag(2, wire::Type::kVarint)) return false;
  const uint64_t crc = in.next();
  if (in.next() != wire::tag(3, wire::Type::kBytes)) return false;
  const uint64_t size = in.next();
  const uint64_t data_begin = begin + in.used();
  if (size > size_ - data_begin || in.used() + size == claimed_size) return false;
  CAIRN_TRY(const std::string_view data, window(data_begin, size));
  return crc32c(crc_, data) == crc;
}

ReadOutcome RecordReader::judge(std::string_view payload, uint64_t offset, std::string text) {
  while (!payload.empty()) {
    const uint64_t size = std::min<uint64_t>(payload.size(), kSectorBytes - offset % kSectorBytes);
    if (all_zero(payload.substr(0, size)))
      return give_up(ReadOutcome::kTorn, std::move(text) + ", a sector is missing");
    payload.remove_prefix(size);
    offset += size;
  }
  return give_up(ReadOutcome::kDamaged, std::move(text));
}

ReadOutcome RecordReader::give_up(ReadOutcome outcome, std::string text) {
  problem_ = std::move(text);
  return outcome;
}

// The bytes [offset, offset + size), which lie in the file. Valid until the next call.
Result<std::string_view> RecordReader::window(uint64_t offset, uint64_t size) {
  if (offset < buffer_offset_ || offset + size > buffer_offset_ + buffer_size_) {
    const uint64_t wanted = std::min(std::max(size, read_bytes_), size_ - offset);
    if (wanted > buffer_capacity_) {
      buffer_.reset(new char[wanted]);
      buffer_capacity_ = wanted;
    }
    buffer_offset_ = offset;
    buffer_size_ = 0;
    CAIRN_TRY(buffer_size_, file_.pread(buffer_.get(), wanted, offset));
    if (buffer_size_ < size) return fail(Code::kDataLoss, "wal: the file became shorter while it was read");
  }
  return std::string_view(buffer_.get() + (offset - buffer_offset_), size);
}

}  // namespace cairn::wal
