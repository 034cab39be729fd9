#include "net/gathered_bytes.h"

#include <utility>

#include "net/loop.h"

namespace cairn::net {

GatheredBytes::GatheredBytes(const Exchange& exchange)
    : loop_(static_cast<Loop&>(exchange.loop())), bytes_max_(exchange.limits().gathered_bytes_max) {}

bool GatheredBytes::add(uint64_t bytes) {
  bytes_ += bytes;
  loop_.counters().request_bytes_held.add(bytes);
  return loop_.sum_everywhere(&LoopCounters::request_bytes_held) <= bytes_max_;
}

void GatheredBytes::let_go() { loop_.counters().request_bytes_held.sub(std::exchange(bytes_, 0)); }

}  // namespace cairn::net
