// net/http2/ping_policy.h: which pings of a client are too many. Pure.
//
// As grpc-go: a ping earlier than `min_time` after the one before (two hours when no call is open) is a strike; the
// third strike ends the connection; sending headers or data forgives all.
#pragma once

#include <cstdint>

namespace cairn::net {

class PingPolicy {
 public:
  explicit PingPolicy(int64_t min_time_ns) : min_time_ns_(min_time_ns) {}

  void on_sent() { forgiven_ = true; }

  // True: too many, end the connection.
  [[nodiscard]] bool on_ping(int64_t now_ns, bool has_calls) {
    const int64_t last_ns = last_ns_;
    const bool first = first_;
    last_ns_ = now_ns;
    first_ = false;
    if (forgiven_) {
      forgiven_ = false;
      strikes_ = 0;
      return false;
    }
    const int64_t allowed_ns = has_calls ? min_time_ns_ : kIdleMinTimeNs;
    if (!first && now_ns - last_ns < allowed_ns) ++strikes_;
    return strikes_ > kStrikesMax;
  }

 private:
  static constexpr int64_t kIdleMinTimeNs = 7'200'000'000'000;
  static constexpr int kStrikesMax = 2;
  int64_t min_time_ns_;
  int64_t last_ns_ = 0;
  bool first_ = true;
  bool forgiven_ = false;
  int strikes_ = 0;
};

}  // namespace cairn::net
