// testing/scale.h: sizes of tests that are too large under a sanitizer.
#pragma once

#include <algorithm>

namespace cairn::testing {

// How many times less a large test does, about as many times as the sanitizer makes it slower.
#if defined(__SANITIZE_THREAD__)
inline constexpr int kSanitizerSlowdown = 10;
#elif defined(__SANITIZE_ADDRESS__)
inline constexpr int kSanitizerSlowdown = 3;
#else
inline constexpr int kSanitizerSlowdown = 1;
#endif

// `count` of seeds, steps or the like in a plain build, fewer under a sanitizer; at least 1.
template <class Count>
constexpr Count scaled(Count count) {
  return std::max<Count>(count / Count{kSanitizerSlowdown}, 1);
}

}  // namespace cairn::testing
