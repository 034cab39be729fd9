// loadgen/runner.h: drives the connections from one thread and keeps the figures.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "loadgen/histogram.h"
#include "loadgen/options.h"
#include "loadgen/workload.h"
#include "net/client/http2_channel.h"

namespace cairn::bench {

// CLOCK_MONOTONIC, which is the same clock for every process of the machine.
uint64_t now_ns();

struct Interval {
  uint64_t end_ns = 0;
  Histogram latency_us;
};

struct Figures {
  uint64_t begin_ns = 0;
  uint64_t end_ns = 0;
  uint64_t first_good_ns = 0;  // when the first good answer came
  uint64_t good = 0;
  uint64_t lists = 0;              // whole lists, where a list takes several calls
  std::map<int, uint64_t> errors;  // by grpc-status, kNoStatus among them
  uint64_t body_bytes = 0;
  uint64_t keys_seen = 0;
  uint64_t resumed = 0;  // handshakes that took up an older connection's session
  uint64_t cpu_ns = 0;
  Histogram latency_us;
  std::vector<std::unique_ptr<Interval>> intervals;
};

class Runner : private net::ResponseSink {
 public:
  Runner(const LoadOptions& options, Workload& workload) : options_(options), workload_(workload) {}

  // Once. Returns when all requests are answered or the time is over and the open calls have ended.
  //   errors: kUnavailable when a connection fails, kDeadlineExceeded when no answer comes
  Result<std::unique_ptr<Figures>> run();

 private:
  struct Call {
    uint64_t begin_ns = 0;
    uint64_t number = 0;
    CallState state;
    std::string body;
  };
  struct Connection {
    std::unique_ptr<net::Http2Channel> client;
    std::vector<Call> calls;
    std::vector<uint32_t> free_calls;
    std::vector<uint32_t> next_pages;  // calls whose list goes on
    bool wants_out = false;
  };

  void on_data(uint32_t slot, std::string_view bytes) override;
  void on_end(uint32_t slot, int grpc_status) override;

  Status connect_all(int epoll_fd);
  bool may_begin(uint64_t now) const;
  bool begin_call(Connection& connection, uint32_t slot, bool next_page, uint64_t begin_ns);
  Status fill(Connection& connection, int epoll_fd);
  int wait_ms(uint64_t now) const;
  void record(uint64_t latency_ns, uint64_t now);

  const LoadOptions& options_;
  Workload& workload_;
  std::unique_ptr<net::ClientTls> tls_;
  std::vector<Connection> connections_;
  Connection* current_ = nullptr;  // whose answers are being read
  std::unique_ptr<Figures> figures_;
  uint64_t begun_ = 0;
  uint64_t open_ = 0;
  uint64_t received_ns_ = 0;
  std::string message_;
};

}  // namespace cairn::bench
