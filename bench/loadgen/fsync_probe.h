// loadgen/fsync_probe.h: what the disk below a directory takes for the log's smallest durable write.
#pragma once

#include <cstdint>
#include <string>

#include "base/error.h"
#include "loadgen/histogram.h"

namespace cairn::bench {

// Overwrites a preallocated file page by page, each time pwrite of 4 KB and fdatasync. The file is removed.
//   errors: those of open, fallocate, pwrite and fdatasync
Result<Histogram> probe_fsync(const std::string& directory, uint32_t rounds);

}  // namespace cairn::bench
