// peer/transport_prober.h: asks a member now and then whether it is there, how long that takes, and what its clock
// says. Nothing is decided by it: for the log and the figures, as etcd's.
//
// Threads: the peer thread.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "metrics/metrics.h"
#include "net/client/http_client.h"
#include "net/event_loop.h"

namespace cairn::peer {

// {"OK":true,"Now":"2026-11-21T01:34:13.008113696Z"} and a line feed.
[[nodiscard]] std::string probing_answer(int64_t wall_ns);
// What such an answer says; nullopt: it is none, or not OK.
[[nodiscard]] std::optional<int64_t> probed_wall_ns(std::string_view body);

class Prober final : private net::HttpClient::Hearer {
 public:
  struct Options {
    std::string peer;  // hexadecimal, for the log
    std::string name;  // etcd's of this way to the peer
    std::vector<std::string> urls;
    int64_t interval_ns = 4'000'000'000;
    int64_t timeout_ns = 5'000'000'000;
    // Looked at, and told, so often while healthy, and while not.
    int64_t report_ns = 30'000'000'000;
    int64_t report_unhealthy_ns = 5'000'000'000;
  };
  Prober(net::EventLoop& loop, net::HttpClient& client, metrics::Histogram& round_trip, Options options);
  ~Prober() override;
  Prober(const Prober&) = delete;
  Prober& operator=(const Prober&) = delete;

 private:
  void on_head(const net::HttpResponse& head) override { status_ = head.status; }
  void on_body(std::string_view bytes) override;
  void on_end(Status outcome) override;

  void probe();
  void report();
  void failed(std::string why);

  net::EventLoop& loop_;
  net::HttpClient& client_;
  metrics::Histogram& round_trip_;
  const Options options_;
  size_t pinned_ = 0;  // URL that is asked
  std::unique_ptr<net::EventLoop::Timer> next_;
  std::unique_ptr<net::EventLoop::Timer> report_;
  std::unique_ptr<net::HttpClient::Call> call_;
  int64_t began_ns_ = 0;
  int status_ = 0;
  std::string body_;
  bool is_healthy_ = false;
  int64_t round_trip_ns_ = 0;  // smoothed
  int64_t clock_difference_ns_ = 0;
  std::string error_;
};

}  // namespace cairn::peer
