// storage/bolt/engine.h: the engine that keeps the tables in etcd's own bbolt file and writes it in place.
//
// The file is an array of pages. Pages 0 and 1 are metas, each naming one whole tree; the valid one with the higher
// txid counts. A commit never changes a page that either meta can reach:
//
//     reserve space -> write new pages -> fdatasync -> write the *other* meta -> fdatasync
//
// Always true, after every commit: the trees of both metas pass the checks of check.h. A page written by commit S and
// freed by commit T is written again only after commit T + 1 is finished and while no view of [S, T) is open.
//
// Threads:  see storage/engine.h.
// Failure:  no space: nothing has changed, the same commit may be tried again. kDataLoss: a page that the commit reads
//           is damaged, nothing has changed. After a failed sync or a failed write of a meta page the engine is dead.
// Source:   docs/storage.md; bytes as in bbolt, storage/bolt/format.h.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "base/error.h"
#include "env/fs.h"
#include "storage/engine.h"
#include "storage/metrics.h"

namespace cairn::storage {

// When the file gives space back.
struct SpaceLimits {
  uint64_t move_above_bytes = 64 << 20;  // a file up to this is left as it is, unless all is asked for
  uint64_t move_bytes_max = 2 << 20;     // by one commit
  uint64_t punch_bytes_min = 256 << 10;  // shorter free runs keep their blocks
  uint64_t solid_bytes_kept = 8 << 20;   // of free pages: they keep theirs, too
};

struct BoltOptions {
  // The mapping reserves the larger of 64 GB and 8 x this much address space. While less than 90 % of it is in use, the
  // whole file is brought below it.
  uint64_t quota_bytes = 0;
  SpaceLimits space;
  // Not 0: reserves exactly this (simulated disks map less). The engine maps anew when the file outgrows it.
  uint64_t reserved_bytes = 0;
  // For a new file; an existing file keeps its page size. A power of two, 1 KB to 64 KB.
  uint32_t page_bytes = 4096;
  // The free list is in the file after every commit while it is smaller than this, and after close().
  uint64_t freelist_bytes_max = 256 << 10;
  // Differs from that of every other opening of any file; seals what is written (docs/storage.md). 0: nothing is
  // sealed.
  uint64_t opening = 0;
  Metrics* metrics = nullptr;  // none: nothing is counted or timed
  // Keeps [from, from + bytes) of the mapping in memory, as --memory-mlock asks for; none: nobody asks. A failure
  // refuses the start; later, when the file has grown, it only means that the new part is not kept.
  std::function<Status(const char* from, uint64_t bytes)> keep_in_memory;
  // For tests: free pages are overwritten with 0xDD at the moment from which they may be reused.
  bool poison_free_pages = false;
};

// Opens the file, or creates it when it is missing or empty, and locks it until the engine is destroyed.
//   errors: kUnavailable when somebody else holds the lock; kDataLoss when neither meta is valid, the file is
//           shorter than its newest meta says, or its tree cannot be read
[[nodiscard]] Result<std::unique_ptr<Engine>> open_bolt(env::FileSystem& fs, const std::string& path,
                                                        const BoltOptions& options = {});

}  // namespace cairn::storage
