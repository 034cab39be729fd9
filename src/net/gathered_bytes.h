// net/gathered_bytes.h: what is kept of a request until the whole of it has come, counted over all connections.
//
// Threads: those of the exchange's loop.
#pragma once

#include <cstdint>

#include "net/http.h"

namespace cairn::net {

class Loop;

class GatheredBytes {
 public:
  // Outlived by the exchange's loop.
  explicit GatheredBytes(const Exchange& exchange);
  ~GatheredBytes() { let_go(); }
  GatheredBytes(const GatheredBytes&) = delete;
  GatheredBytes& operator=(const GatheredBytes&) = delete;

  // False: all together are more than HttpLimits::gathered_bytes_max.
  [[nodiscard]] bool add(uint64_t bytes);
  void let_go();
  [[nodiscard]] uint64_t bytes() const { return bytes_; }

 private:
  Loop& loop_;
  const uint64_t bytes_max_;
  uint64_t bytes_ = 0;
};

}  // namespace cairn::net
