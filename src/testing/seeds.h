// testing/seeds.h: where randomised tests begin.
#pragma once

#include <cstdint>
#include <cstdlib>

namespace cairn::testing {

// Where a test's seeds begin: CAIRN_SEED, for long runs by hand, or what it says itself.
inline uint64_t first_seed(uint64_t otherwise) {
  const char* const given = std::getenv("CAIRN_SEED");
  return given == nullptr ? otherwise : std::strtoull(given, nullptr, 0);
}

}  // namespace cairn::testing
