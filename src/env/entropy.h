// env/entropy.h: chance from outside, which no run repeats. What is to be replayed takes base/random.h.
#pragma once

#include <cstdint>
#include <random>

namespace cairn::env {

[[nodiscard]] inline uint64_t random_number() {
  std::random_device device;
  return uint64_t{device()} << 32 | device();
}

}  // namespace cairn::env
