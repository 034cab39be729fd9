// loadgen/handshake_run.h: connections that are made and dropped: --connections at a time, each with one request.
#pragma once

#include <memory>

#include "base/error.h"
#include "loadgen/options.h"
#include "loadgen/runner.h"

namespace cairn::bench {

// Workload handshake: connect, shake hands (with --tls), ask for /version over HTTP/1.1, close. The latency is that of
// all this: the answer proves that the server has shaken hands, too. With --resume all but the first ones offer the
// session of an older connection; Figures::resumed tells how many were taken up.
//   errors: kUnavailable when a connection or a handshake fails, kDeadlineExceeded when nothing comes
Result<std::unique_ptr<Figures>> run_handshakes(const LoadOptions& options);

}  // namespace cairn::bench
