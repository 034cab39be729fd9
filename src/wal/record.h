// wal/record.h: records as bytes, written and read.
//
//     +-------------+--------------------------------------------------+----------------+
//     | length: u64 | walpb.Record { 1: type, 2: crc32c, 3: data }      | zeros to 8-byte|   little-endian
//     +-------------+--------------------------------------------------+----------------+
//
// The length word holds the record's bytes in its low 56 bits and, when zeros follow, 0x80 | their number on top.
// The checksum runs over the data of all records up to and including its own; a record of type kCrc, the first of
// each segment, carries it on from the segment before. A zero length word is the end of what was written.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"
#include "env/fs.h"
#include "wal/types.h"

namespace cairn::wal {

enum class RecordType : uint8_t { kMetadata = 1, kEntry = 2, kState = 3, kCrc = 4, kSnapshot = 5 };

[[nodiscard]] std::string_view record_type_name(RecordType type);

inline constexpr uint64_t kSectorBytes = 512;  // what a disk writes whole or not at all

// Grows, is reused, and gives back the memory that a burst took.
class RecordBuffer {
 public:
  // Each appends one record and moves the running checksum on.
  void append(RecordType type, std::string_view data, uint32_t& crc);
  void append_entry(const Entry& entry, uint32_t& crc);
  void append_crc(uint32_t crc);

  [[nodiscard]] std::string_view view() const { return {data_.get(), size_}; }
  [[nodiscard]] uint64_t size() const { return size_; }
  [[nodiscard]] bool empty() const { return size_ == 0; }
  void clear();

 private:
  // Room for one more record of up to `size` bytes. The returned place is the end of what is there.
  char* reserve(uint64_t size);
  void frame(RecordType type, uint32_t crc, std::string_view head, std::string_view tail);

  std::unique_ptr<char[]> data_;
  uint64_t size_ = 0;
  uint64_t capacity_ = 0;
};

struct Record {
  RecordType type = RecordType::kCrc;
  uint32_t crc = 0;
  std::string_view data;    // valid until the next call
  uint64_t offset = 0;      // of the frame in its file
  uint32_t crc_before = 0;  // the running checksum
};

enum class ReadOutcome : uint8_t {
  kRecord,
  kEnd,      // the file's end or the zeros behind the last record
  kTorn,     // an interrupted write: the file ends too early, or a sector of the record was never written
  kDamaged,  // complete, but wrong
};

// Reads the records of one segment in order. Bounds its memory by the file's size whatever the bytes say.
class RecordReader {
 public:
  // `size`: of the file. `read_bytes`: how much is read ahead at once.
  RecordReader(const env::File& file, uint64_t size, uint64_t read_bytes);

  // Continues at `offset`, where a record begins. `crc` is the running checksum before that record. At the beginning of
  // a segment it is the previous segment's checksum, or nullopt when that segment is gone.
  void seek(uint64_t offset, std::optional<uint32_t> crc);

  // errors: those of reading the file
  Result<ReadOutcome> next(Record& record);

  [[nodiscard]] uint64_t offset() const { return offset_; }  // behind the last good record
  [[nodiscard]] uint32_t crc() const { return crc_; }        // up to there
  // After kTorn and kDamaged: what is wrong with the record at offset().
  [[nodiscard]] const std::string& problem() const { return problem_; }

 private:
  Result<std::string_view> window(uint64_t offset, uint64_t size);
  Result<ReadOutcome> at_zero_length();
  Result<bool> intact_but_not(uint64_t claimed_size);
  ReadOutcome give_up(ReadOutcome outcome, std::string text);
  // kTorn when a whole sector's part of `payload`, which begins at `offset`, is zeros; else kDamaged.
  ReadOutcome judge(std::string_view payload, uint64_t offset, std::string text);

  const env::File& file_;
  const uint64_t size_;
  const uint64_t read_bytes_;
  uint64_t offset_ = 0;
  uint32_t crc_ = 0;
  bool chain_known_ = false;
  std::unique_ptr<char[]> buffer_;
  uint64_t buffer_capacity_ = 0;
  uint64_t buffer_offset_ = 0;  // of the buffer's first byte in the file
  uint64_t buffer_size_ = 0;
  std::string problem_;
};

}  // namespace cairn::wal
