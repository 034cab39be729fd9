// storage/bolt/format.h: the bytes of a bbolt file.
//
//     page:    id u64 | flags u16 | count u16 | overflow u32 | elements[count] | keys and values, without gaps
//     leaf:    element: flags u32 | pos u32 | key size u32 | value size u32
//     branch:  element: pos u32 | key size u32 | page id u64
//     meta:    magic u32 | version u32 | page size u32 | flags u32 | root page u64 | sequence u64 | free list page u64
//              | high-water mark u64 | txid u64 | FNV-1a of the 56 bytes before
//     seal:    magic u64 | opening u64 | ancestor's opening u64 | ancestor's txid u64 | CRC-32C of meta and seal u32
//              (ours, behind the meta in its page, where bbolt writes zeros)
//     bucket:  root page u64 | sequence u64 | (root page 0: the one leaf page, inline)
//
// Integers are little-endian at any alignment (an inline page starts anywhere). `pos` counts from its own element. A
// page with overflow n covers n more pages, which have no header. The high-water mark is the first page never used.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "base/error.h"
#include "env/fs.h"
#include "storage/engine.h"

namespace cairn::storage::bolt {

inline constexpr uint32_t kHeaderBytes = 16;
inline constexpr uint32_t kElementBytes = 16;
inline constexpr uint32_t kBucketBytes = 16;
inline constexpr uint32_t kMetaBytes = 64;
inline constexpr uint32_t kMetaSealBytes = 36;
inline constexpr uint32_t kPageBytesMin = 1024;
inline constexpr uint32_t kPageBytesMax = 64 << 10;
inline constexpr uint32_t kKeyBytesMax = 32768;
inline constexpr uint32_t kValueBytesMax = (1U << 31) - 2;
inline constexpr uint32_t kPageElementsMax = 0xFFFE;
inline constexpr uint64_t kFirstPage = 2;  // after the metas
inline constexpr uint64_t kNoFreelist = ~uint64_t{0};
// A tree in which every branch has two children or more is never deeper.
inline constexpr int kDepthMax = 32;

inline constexpr uint16_t kBranchFlag = 0x01;
inline constexpr uint16_t kLeafFlag = 0x02;
inline constexpr uint16_t kMetaFlag = 0x04;
inline constexpr uint16_t kFreelistFlag = 0x10;
inline constexpr uint32_t kBucketElementFlag = 0x01;

struct PageHeader {
  uint64_t id = 0;
  uint16_t flags = 0;
  uint16_t count = 0;
  uint32_t overflow = 0;
};
[[nodiscard]] inline PageHeader load_header(const char* at) {
  return {load_le<uint64_t>(at), load_le<uint16_t>(at + 8), load_le<uint16_t>(at + 10), load_le<uint32_t>(at + 12)};
}
void store_header(char* at, const PageHeader& header);

struct Meta {
  uint32_t page_bytes = 0;
  uint32_t flags = 0;
  uint64_t root = 0;
  uint64_t sequence = 0;
  uint64_t freelist = kNoFreelist;
  uint64_t high_water = 0;
  uint64_t txid = 0;

  friend bool operator==(const Meta&, const Meta&) = default;
};

// `body`: 64 bytes. nullopt: magic, version or checksum is wrong, or the fields contradict each other.
[[nodiscard]] std::optional<Meta> decode_meta(std::string_view body);
void encode_meta(const Meta& meta, char* body);
// The first `size` bytes of meta page `id`: header, body, seal (none without an opening), zeros.
[[nodiscard]] std::string meta_page(const Meta& meta, uint64_t id, size_t size, const Lineage& lineage = {});
// `sealed`: body and seal. A seal that is not of this body is none.
[[nodiscard]] Lineage decode_seal(std::string_view sealed);

// The metas of a file: which are valid, and which counts.
struct MetaPair {
  std::optional<Meta> page[2];
  int newest = 0;   // index of the valid one with the higher txid
  Lineage lineage;  // of the newest

  [[nodiscard]] const Meta& meta() const { return *page[newest]; }
  [[nodiscard]] const std::optional<Meta>& other() const { return page[1 - newest]; }
};
//   errors: kDataLoss when neither meta is valid, or the file is shorter than the newest one says
[[nodiscard]] Result<MetaPair> read_metas(const env::File& file, const std::string& path);

[[nodiscard]] uint64_t fnv1a(std::string_view bytes);

}  // namespace cairn::storage::bolt
