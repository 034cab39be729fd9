// mvcc/index/index_build.h: an index made at once: from the key table at a start, or from a checkpoint.
//
// A checkpoint is the tree in key order, histories included, in blocks of about a thousand keys:
//
//     header   "CAIRNIX1" | u32 crc of the rest of the header | i64 revision | i64 compacted
//     block    u32 payload bytes (never 0) | u32 keys | u32 crc of the payload, chained from the block before | payload
//     trailer  u32 0 | u64 keys | u64 live keys | u32 crc of the two, chained from the last block
//
// Integers are little-endian, CRCs are CRC-32C. The caller adds its own data around it (consistent index and so on).
//
// Threads:  IndexBuilder and load_index: the owner of the index. IndexSaver: any thread that holds the root's batch.
// Source:   docs/architecture.md, "Start".
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/error.h"
#include "mvcc/index/index.h"

namespace cairn::mvcc {

// Takes the records of the key table in the order of their revisions and fills an empty index.
class IndexBuilder {
 public:
  IndexBuilder();
  ~IndexBuilder();
  IndexBuilder(const IndexBuilder&) = delete;
  IndexBuilder& operator=(const IndexBuilder&) = delete;

  // `record.key` is copied. needs: key not empty; mod above all before it
  void add(const IndexRecord& record);

  // Moves everything into `index`, without the revisions that a compaction at `compact` (0: none) makes superfluous.
  // The changes are in the unpublished batch. needs: `index` empty and unpublished; called once
  void finish(Index& index, int64_t compact);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Writes a checkpoint of a held root, one piece at a time.
class IndexSaver {
 public:
  // `scratch`: memory to work in, from an earlier saver's take_scratch().
  IndexSaver(const IndexRoot& root, int64_t compacted, std::string scratch = {});
  ~IndexSaver();
  IndexSaver(const IndexSaver&) = delete;
  IndexSaver& operator=(const IndexSaver&) = delete;

  // Appends the next piece (at most about `keys_max` keys) to `out`; false when the checkpoint is complete.
  bool next(std::string& out, uint64_t keys_max = 1000);
  // Its working memory, to be used again: faulting in new memory costs as much as filling it. No next() afterwards.
  [[nodiscard]] std::string take_scratch();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

struct LoadedIndex {
  int64_t revision = 0;   // of the root that was saved
  int64_t compacted = 0;  // as told to the saver
  uint64_t keys = 0;      // dead ones included
  uint64_t live_keys = 0;
};

// Reads all of [offset, offset + size) of a checkpoint to `to`. Called by several threads at once.
using ReadAt = std::function<Status(char* to, uint64_t size, uint64_t offset)>;

struct LoadOptions {
  unsigned threads = 1;              // that share the work, the caller's included
  uint64_t part_keys_min = 100'000;  // for fewer, another one is not worth its start
};

// Fills an empty index from a checkpoint; the changes are in the unpublished batch.
//   read:    is the threads' that share the work, until the call returns
//   needs:   `index` empty and unpublished; `size`: of the checkpoint
//   errors:  kDataLoss when a byte is wrong or missing, and those of `read`; the index is then to be thrown away
Result<LoadedIndex> load_index(const ReadAt& read, uint64_t size, Index& index, const LoadOptions& options);
Result<LoadedIndex> load_index(std::string_view bytes, Index& index, const LoadOptions& options = {});

}  // namespace cairn::mvcc
