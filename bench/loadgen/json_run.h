// loadgen/json_run.h: the same put or get as JSON, over HTTP/1.1: --connections times --streams connections, each with
// one request at a time.
#pragma once

#include <memory>

#include "base/error.h"
#include "loadgen/options.h"
#include "loadgen/runner.h"

namespace cairn::bench {

// Workloads json-put and json-get, of the one key that is the prefix and ten digits.
//   errors: as Runner::run(); kDataLoss for an answer that is not HTTP with a length
Result<std::unique_ptr<Figures>> run_json(const LoadOptions& options);

}  // namespace cairn::bench
