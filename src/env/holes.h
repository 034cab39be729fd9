// env/holes.h: files that tell which of their parts have no blocks. An ability of its own beside File: most files have
// no holes, and hardly anybody asks.
#pragma once

#include <cstdint>
#include <vector>

#include "base/error.h"

namespace cairn::env {

struct FileRange {
  uint64_t offset = 0;
  uint64_t bytes = 0;
  friend bool operator==(const FileRange&, const FileRange&) = default;
};

class TellsHoles {
 public:
  virtual ~TellsHoles() = default;
  // Ascending, below the end of the file. Blocks that are allocated and were never written may count as holes.
  //   errors: kUnimplemented where the file system does not know
  [[nodiscard]] virtual Result<std::vector<FileRange>> holes() const = 0;
};

}  // namespace cairn::env
