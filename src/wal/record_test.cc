#include "wal/record.h"

#include <gtest/gtest.h>

#include "base/bytes.h"
#include "wal/codec.h"
#include "wal/testing.h"

namespace cairn::wal {
namespace {

using testing::make_entry;
using testing::make_state;
using testing::MemFile;
using testing::StoredEntry;

// "0801 02" -> bytes; spaces are skipped.
std::string bytes_of(std::string_view hex) {
  std::string out;
  std::string digits;
  for (const char c : hex) {
    if (c == ' ') continue;
    digits.push_back(c);
    if (digits.size() == 2) {
      out.push_back(static_cast<char>(*parse_hex(digits)));
      digits.clear();
    }
  }
  return out;
}

struct Read {
  std::vector<RecordType> types;
  std::vector<std::string> data;
  ReadOutcome outcome = ReadOutcome::kRecord;
  uint64_t end = 0;
  std::string problem;
};

Read read_records(std::string bytes) {
  const uint64_t size = bytes.size();
  const MemFile file(std::move(bytes));
  RecordReader reader(file, size, 100);  // small, so that records cross the window
  Read read;
  Record record;
  for (;;) {
    const Result<ReadOutcome> outcome = reader.next(record);
    EXPECT_TRUE(outcome.has_value());
    read.outcome = *outcome;
    if (*outcome != ReadOutcome::kRecord) break;
    read.types.push_back(record.type);
    read.data.emplace_back(record.data);
  }
  read.end = reader.offset();
  read.problem = reader.problem();
  return read;
}

TEST(Record, IsWrittenAsEtcdWritesIt) {
  RecordBuffer buffer;
  uint32_t crc = 0;
  auto next = [&, at = uint64_t{0}]() mutable {
    const std::string bytes(buffer.view().substr(at));
    at = buffer.size();
    return to_hex(bytes);
  };
  const auto expect = [](std::string_view hex) { return to_hex(bytes_of(hex)); };

  buffer.append_crc(crc);
  EXPECT_EQ(next(), expect("0400000000000084 08041000 00000000"));
  const Metadata metadata{NodeId(0xb01c7f285a70202e), 0xf18d1db612e96aa1};
  buffer.append(RecordType::kMetadata, encode_metadata(metadata), crc);
  EXPECT_EQ(next(), expect("2000000000000000 0801 10a3fb90e907 1a16 08aec0c0d385e59f8eb001 10a1d5a597e1b6c7c6f101"));
  EXPECT_EQ(crc, 0x7d243da3u);
  buffer.append(RecordType::kSnapshot, encode_snapshot_record({}), crc);
  EXPECT_EQ(next(), expect("0d00000000000083 0805 1092b2e25e 1a04 08001000 000000"));
  EXPECT_EQ(crc, 0x0bd89912u);
}

TEST(Record, ReadsBackWhatItWroteAtAnySize) {
  RecordBuffer buffer;
  uint32_t crc = 0;
  std::vector<StoredEntry> entries;
  buffer.append_crc(0);
  for (uint64_t i = 1; i <= 600; ++i) {
    entries.push_back(make_entry(i, 1 + i / 100, std::string(i == 300 ? 200'000 : i, static_cast<char>(i)),
                                 static_cast<uint8_t>(i % 3)));
    buffer.append_entry(entries.back().view(), crc);
  }
  ASSERT_EQ(buffer.size() % 8, 0u);
  for (const size_t tail_bytes : {0u, 8u, 16u, 5000u}) {
    const Read read = read_records(std::string(buffer.view()) + std::string(tail_bytes, '\0'));
    EXPECT_EQ(read.outcome, ReadOutcome::kEnd);
    EXPECT_EQ(read.end, buffer.size());
    ASSERT_EQ(read.types.size(), 601u);
    for (size_t i = 0; i < entries.size(); ++i) {
      const auto entry = decode_entry(read.data[i + 1]);
      ASSERT_TRUE(entry);
      ASSERT_EQ(*entry, entries[i].view());
    }
  }
}

TEST(Record, ACutFileIsTornAtEveryLength) {
  RecordBuffer buffer;
  uint32_t crc = 0;
  buffer.append_crc(0);
  const uint64_t first = buffer.size();
  buffer.append_entry(make_entry(1, 1, "some data").view(), crc);
  const std::string bytes(buffer.view());
  for (uint64_t size = first + 1; size < bytes.size(); ++size) {
    const Read read = read_records(bytes.substr(0, size));
    EXPECT_EQ(read.outcome, ReadOutcome::kTorn) << size;
    EXPECT_EQ(read.end, first) << size;
  }
}

// Loses every subset of the sectors that one big record lies in.
TEST(Record, AMissingSectorIsATornWriteAndNotDamage) {
  RecordBuffer buffer;
  uint32_t crc = 0;
  buffer.append_crc(0);
  buffer.append_entry(make_entry(1, 1, std::string(300, 'a')).view(), crc);
  const uint64_t good = buffer.size();
  buffer.append_entry(make_entry(2, 1, std::string(1800, 'b')).view(), crc);
  std::string whole(buffer.view());
  whole.resize(4096);
  const std::string before = whole.substr(0, good) + std::string(4096 - good, '\0');
  const uint64_t first_sector = good / 512;
  const uint64_t last_sector = (buffer.size() - 1) / 512;
  ASSERT_EQ(last_sector - first_sector, 4u);
  for (uint32_t lost = 1; lost < 32; ++lost) {
    std::string bytes = whole;
    for (uint64_t i = 0; i < 5; ++i) {
      const uint64_t at = (first_sector + i) * 512;
      if ((lost >> i & 1) != 0) bytes.replace(at, 512, before.substr(at, 512));
    }
    const Read read = read_records(bytes);
    EXPECT_EQ(read.end, good) << lost;
    EXPECT_EQ(read.outcome, (lost & 1) != 0 ? ReadOutcome::kEnd : ReadOutcome::kTorn) << lost << read.problem;
  }
}

TEST(Record, WrongBytesInACompleteRecordAreDamage) {
  RecordBuffer buffer;
  uint32_t crc = 0;
  buffer.append_crc(0);
  const uint64_t good = buffer.size();
  buffer.append_entry(make_entry(1, 1, std::string(300, 'a')).view(), crc);
  std::string bytes(buffer.view());
  bytes[good + 100] ^= 0x20;
  const Read read = read_records(bytes);
  EXPECT_EQ(read.outcome, ReadOutcome::kDamaged);
  EXPECT_NE(read.problem.find("checksum mismatch"), std::string::npos);
}

TEST(Record, AZeroedLengthBeforeItsRecordIsDamage) {
  RecordBuffer buffer;
  uint32_t crc = 0;
  buffer.append_crc(0);
  const uint64_t good = buffer.size();
  buffer.append(RecordType::kState, encode_hard_state(make_state(1, 0, 1)), crc);
  std::string bytes(buffer.view());
  bytes.resize(1024);
  ASSERT_EQ(bytes[good], 0x10);  // one bit
  bytes[good] = 0;
  EXPECT_EQ(read_records(bytes).outcome, ReadOutcome::kDamaged);
}

// A bit may hide only where it means nothing: in the padding. Otherwise the record is refused, or, when the length
// has become too large for the file, taken for torn.
TEST(Record, EveryFlippedBitIsNoticed) {
  RecordBuffer buffer;
  uint32_t crc = 0;
  buffer.append_crc(0);
  buffer.append(RecordType::kMetadata, encode_metadata({NodeId(7), 9}), crc);
  buffer.append_entry(make_entry(1, 1, "0123456789").view(), crc);
  buffer.append(RecordType::kState, encode_hard_state(make_state(1, 7, 1)), crc);
  const std::string bytes(buffer.view());
  const Read whole = read_records(bytes);
  ASSERT_EQ(whole.types.size(), 4u);
  int type_changes = 0;
  for (size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    std::string flipped = bytes;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ 1 << bit % 8);
    const Read read = read_records(flipped);
    if (read.outcome != ReadOutcome::kEnd) continue;
    // All records were read: only padding or a type (not under the checksum; scan.h looks after that) may differ.
    ASSERT_EQ(read.data, whole.data) << "bit " << bit;
    if (read.types != whole.types) ++type_changes;
  }
  EXPECT_LE(type_changes, 8);
}

TEST(Codec, MissingScalarsAreZeroAsVersion37WritesThem) {
  EXPECT_EQ(decode_hard_state(""), HardState{});
  EXPECT_EQ(decode_hard_state(bytes_of("0802")), make_state(2, 0, 0));
  const auto entry = decode_entry(bytes_of("1002 1803"));
  ASSERT_TRUE(entry);
  EXPECT_EQ(*entry, make_entry(3, 2, "").view());
  EXPECT_EQ(decode_snapshot_record(""), SnapshotRecord{});
  EXPECT_EQ(decode_metadata(""), Metadata{});
}

TEST(Codec, AMessageOfAnotherKindIsRefused) {
  EXPECT_FALSE(decode_hard_state(bytes_of("0800 1001 1801 2201 61")));  // an entry with data
  EXPECT_FALSE(decode_snapshot_record(bytes_of("0801 1000 1801")));     // a hard state
  EXPECT_FALSE(decode_entry(bytes_of("0803 1001 1801")));
  EXPECT_FALSE(decode_entry(bytes_of("0a00")));
}

}  // namespace
}  // namespace cairn::wal
