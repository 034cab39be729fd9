// wal/testing.h: what the tests of the log share.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "base/random.h"
#include "env/fs.h"
#include "testing/temp_dir.h"
#include "wal/segment_reader.h"
#include "wal/types.h"

namespace cairn::wal::testing {

// An encoded configuration with member 1 as its voter, as etcd writes it.
inline const std::string kConfState{"\x08\x01\x28\x00", 4};

// A file of given bytes, read only.
class MemFile final : public env::File {
 public:
  explicit MemFile(std::string bytes) : bytes_(std::move(bytes)) {}

  Result<size_t> pread(void* to, size_t size, uint64_t offset) const override {
    if (offset >= bytes_.size()) return size_t{0};
    const size_t count = std::min(size, bytes_.size() - static_cast<size_t>(offset));
    std::memcpy(to, bytes_.data() + offset, count);
    return count;
  }
  [[nodiscard]] Result<uint64_t> size() const override { return uint64_t{bytes_.size()}; }
  Status pwrite(std::string_view, uint64_t) override { return unsupported(); }
  Status fdatasync() override { return unsupported(); }
  void sync_range(uint64_t, uint64_t) override {}
  Status allocate(uint64_t, uint64_t) override { return unsupported(); }
  Status punch(uint64_t, uint64_t) override { return unsupported(); }
  [[nodiscard]] Result<std::vector<env::FileRange>> holes() const override { return unsupported(); }
  Status truncate(uint64_t) override { return unsupported(); }
  [[nodiscard]] Result<env::FileIdentity> identity() const override { return env::FileIdentity{}; }
  [[nodiscard]] Result<std::unique_ptr<env::Mapping>> map(uint64_t) const override { return unsupported(); }
  Status lock_flock() override { return unsupported(); }
  Status lock_ofd() override { return unsupported(); }

 private:
  static std::unexpected<Error> unsupported() { return fail(Code::kUnimplemented, "a file in memory"); }
  std::string bytes_;
};

using cairn::testing::TempDir;

inline std::string read_all(const std::string& path) {
  Result<std::string> bytes = env::read_file(env::posix_fs(), path);
  if (!bytes) std::fprintf(stderr, "%s\n", bytes.error().message.c_str());
  CAIRN_ASSERT(bytes.has_value());
  return *std::move(bytes);
}

inline void write_all(const std::string& path, std::string_view bytes) {
  CAIRN_ASSERT(env::write_file(env::posix_fs(), path, bytes).has_value());
}

// An Entry that owns its data.
struct StoredEntry {
  uint8_t type = 0;
  Term term;
  Index index;
  std::string data;

  [[nodiscard]] Entry view() const { return {type, term, index, data}; }
  friend bool operator==(const StoredEntry&, const StoredEntry&) = default;
};

inline StoredEntry make_entry(uint64_t index, uint64_t term, std::string data, uint8_t type = 0) {
  return {.type = type, .term = Term(term), .index = Index(index), .data = std::move(data)};
}

inline std::vector<Entry> views(const std::vector<StoredEntry>& entries) {
  std::vector<Entry> result;
  for (const StoredEntry& entry : entries) result.push_back(entry.view());
  return result;
}

// As SegmentIndex::read(), with the entries themselves.
inline Result<std::vector<StoredEntry>> read_entries(const SegmentIndex& index, Index lo, Index hi,
                                                     uint64_t bytes_max) {
  std::vector<StoredEntry> entries;
  CAIRN_CHECK(index.read(lo, hi, bytes_max, [&](const Entry& entry) {
    entries.push_back({entry.type, entry.term, entry.index, std::string(entry.data)});
  }));
  return entries;
}

inline HardState make_state(uint64_t term, uint64_t vote, uint64_t commit) {
  return {Term(term), NodeId(vote), Index(commit)};
}

// Bytes as values are: of any length up to `size_max`, sometimes with long runs of zeros.
inline std::string random_data(Random& random, uint64_t size_max) {
  std::string data(random.below(size_max + 1), '\0');
  if (random.one_in(8)) return data;
  for (char& c : data) c = static_cast<char>(random.next());
  return data;
}

}  // namespace cairn::wal::testing
