// net/seats.h: how many connections there may be at once, over all listeners and loops of a server.
//
// Threads: any.
#pragma once

#include <atomic>
#include <cstddef>
#include <memory>

namespace cairn::net {

// Held by a connection; given back when it is destroyed. Null: there was none left.
using Seat = std::shared_ptr<void>;

class Seats : public std::enable_shared_from_this<Seats> {
 public:
  explicit Seats(size_t seats_max) : seats_max_(seats_max) {}

  [[nodiscard]] Seat take() {
    if (taken_.fetch_add(1, std::memory_order_relaxed) >= seats_max_) {
      taken_.fetch_sub(1, std::memory_order_relaxed);
      return nullptr;
    }
    return {this, [held = shared_from_this()](void*) { held->taken_.fetch_sub(1, std::memory_order_relaxed); }};
  }

 private:
  const size_t seats_max_;
  std::atomic<size_t> taken_{0};
};

}  // namespace cairn::net
