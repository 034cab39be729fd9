// storage/write_buffer.h: changes applied but not yet in the file.
//
// Applied changes collect in one buffer until it is frozen and given to a commit; meanwhile another buffer fills. The
// records of kKey are a run in revision order that only grows at its end, so readers may search the published part
// while the owner appends. The other tables are write-only after the start: only the last change of each key counts,
// and nobody reads them here.
//
// Threads: one owner (apply); readers use a RunView that was published to them with release/acquire. freeze() is the
//          owner's last call; the commit thread then reads, and the buffer is destroyed when no reader can hold a
//          RunView of it.
#pragma once

#include <array>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/strong.h"
#include "storage/engine.h"

namespace cairn::storage {

inline constexpr size_t kRevisionKeyBytes = 17;   // main u64 BE, '_', sub u64 BE
inline constexpr size_t kTombstoneKeyBytes = 18;  // the same and 't'

// Writes 17 bytes at `to`.
void encode_revision(Revision revision, char* to);
[[nodiscard]] std::string revision_key(Revision revision);
struct RecordKey {
  Revision revision;
  bool tombstone = false;
};
// nullopt when `key` is not a record key.
[[nodiscard]] std::optional<RecordKey> decode_record_key(std::string_view key);

// A published part of a buffer's records.
struct RunView {
  const Change* records = nullptr;
  size_t count = 0;

  // The value stored at `revision`, tombstones excluded.
  [[nodiscard]] std::optional<std::string_view> find(Revision revision) const;
  // Position of the first record at or above `revision`.
  [[nodiscard]] size_t lower_bound(Revision revision) const;
};

// Memory that grows at its end and is freed as one.
class Arena {
 public:
  [[nodiscard]] char* allocate(size_t size);
  [[nodiscard]] uint64_t bytes() const { return bytes_; }

 private:
  static constexpr size_t kChunkBytes = 256 << 10;
  std::vector<std::unique_ptr<char[]>> chunks_;
  char* at_ = nullptr;
  size_t left_ = 0;
  uint64_t bytes_ = 0;
};

class WriteBuffer {
 public:
  WriteBuffer();
  WriteBuffer(const WriteBuffer&) = delete;
  WriteBuffer& operator=(const WriteBuffer&) = delete;

  // Room for the value of a new record, to be filled before the next call. Revisions grow.
  [[nodiscard]] char* append_record(Revision revision, bool tombstone, size_t value_bytes);
  void put(Table table, std::string_view key, std::string_view value);
  void erase(Table table, std::string_view key);

  [[nodiscard]] RunView run() const { return {records_, count_}; }
  [[nodiscard]] uint64_t bytes() const { return arena_.bytes() + other_bytes_; }
  [[nodiscard]] bool empty() const { return count_ == 0 && other_bytes_ == 0; }

  // No change afterwards; changes() is then what a commit writes.
  void freeze();
  [[nodiscard]] std::array<std::span<const Change>, kTableCount> changes() const;

 private:
  void set(Table table, std::string_view key, std::optional<std::string_view> value);

  Arena arena_;
  // Grows by doubling; outgrown arrays stay until the buffer dies, because a reader may hold one.
  std::vector<std::unique_ptr<Change[]>> record_arrays_;
  Change* records_ = nullptr;
  size_t count_ = 0;
  size_t capacity_ = 0;
  std::array<std::map<std::string, std::optional<std::string>, std::less<>>, kTableCount> tables_;
  uint64_t other_bytes_ = 0;
  bool frozen_ = false;
  std::array<std::vector<Change>, kTableCount> sorted_;
};

}  // namespace cairn::storage
