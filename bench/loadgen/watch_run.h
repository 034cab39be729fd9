// loadgen/watch_run.h: watchers on many connections and one writer, from one thread.
//
// Each stream sends all its creates at once and ends its side, which servers take for "no more requests". A value
// begins with the time at which it was put, so each event tells how long it took. Without --rate the next put follows
// when every watcher of the last one has it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "loadgen/histogram.h"
#include "loadgen/options.h"
#include "net/client/http2_channel.h"

namespace cairn::bench {

struct WatchFigures {
  double setup_seconds = 0;  // until every watcher is created
  double seconds = 0;        // of puts
  uint64_t watchers = 0;
  uint64_t puts = 0;
  uint64_t events = 0;
  uint64_t responses = 0;
  double cpu_seconds = 0;         // the generator's, of `seconds`
  double server_cpu_seconds = 0;  // of --server-pid, of `seconds`
  uint64_t server_anon_kb = 0;    // of --server-pid, with all watchers and before the first put
  Histogram event_us;             // from a put to the watcher
  Histogram put_us;
};

//   errors: kUnavailable when a connection fails, kDeadlineExceeded when something does not come
Result<std::unique_ptr<WatchFigures>> run_watch(const LoadOptions& options);

[[nodiscard]] std::string to_json(const WatchFigures& figures);

}  // namespace cairn::bench
