// loadgen/options.h: the command line.
#pragma once

#include <cstdint>
#include <string>

#include "base/error.h"

namespace cairn::bench {

struct LoadOptions {
  std::string workload;
  std::string host = "127.0.0.1";
  uint16_t port = 2379;
  std::string endpoints;  // "host:port,host:port", of an outage
  uint32_t connections = 10;
  uint32_t streams = 20;
  uint64_t requests = 0;  // 0: no limit
  double seconds = 0;     // 0: no limit
  double rate = 0;        // requests a second over all connections; 0: as fast as answers come
  uint32_t window_bytes = 16u << 20;
  double wait_seconds = 0;   // retry connecting and asking until an answer is good
  uint32_t interval_ms = 0;  // also report each such stretch of time
  double timeout_seconds = 120;

  bool tls = false;
  std::string cert_file;  // shown over TLS to a server that asks; "": none
  std::string key_file;
  bool resumes = false;  // a handshake offers an older connection's session

  std::string token;  // of a user; "": none
  std::string prefix = "/bench/";
  uint64_t keys = 1;   // how many distinct ones
  std::string order;   // one | sequential | random | permutation
  uint64_t first = 0;  // number of the first request: a second run goes on where the first stopped
  uint64_t seed = 1;
  uint32_t value_bytes = 256;
  bool serializable = false;
  std::string branch = "put";  // of a txn: put | get
  uint64_t limit = 0;
  int64_t revision = 0;
  bool physical = false;
  uint64_t watchers = 1000;   // over all streams
  bool watch_prefix = false;  // each watcher watches the prefix; else one of the keys
  bool prev_kv = false;
  uint64_t server_pid = 0;  // whose CPU and memory are told; 0: none
  bool leased = false;      // a put: the key's lease has its number and one more
  int64_t ttl = 3600;       // seconds, of a lease that is granted
};

extern const char* const kUsage;

// `args` without the program's name: WORKLOAD --name value ...
//   errors: kInvalidArgument
Result<LoadOptions> parse_options(int count, char** args);

}  // namespace cairn::bench
