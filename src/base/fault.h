// base/fault.h: fault points: named places in the code at which somebody outside may have something happen.
//
//   CAIRN_FAULT("walBeforeSync");              the place, between two statements
//   CAIRN_FAULT_FAILS("mapError", kInternal);  the function may fail here with a given text
//   if (CAIRN_FAULT_TAKEN("raftDropHeartbeat")) ...   a branch that is taken here on demand
//
// A point that is not armed costs one load of a bool. What happens at an armed one is the handler's: env/failpoints.h,
// which does what GOFAIL_HTTP and GOFAIL_FAILPOINTS say, or the simulator's, which counts the points and ends processes
// there. All names stand in fault_points.def; another one does not compile.
//
// Threads: points are reached and armed by any; set_handler() is called while no other thread reaches one.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"

namespace cairn::fault {

enum class Takes : uint8_t { kNothing, kText };

struct PointInfo {
  std::string_view name;
  Takes takes;
};
inline constexpr PointInfo kPoints[] = {
#define CAIRN_FAULT_POINT(name, takes) {#name, Takes::takes},
#include "base/fault_points.def"
#undef CAIRN_FAULT_POINT
};
inline constexpr size_t kPointCount = std::size(kPoints);

// The place of a point in kPoints.
using Point = size_t;

[[nodiscard]] constexpr std::optional<Point> find(std::string_view name) {
  for (Point point = 0; point < kPointCount; ++point) {
    if (kPoints[point].name == name) return point;
  }
  return std::nullopt;
}
// Does not compile for a name that is not in the table.
[[nodiscard]] consteval Point named(std::string_view name) { return find(name).value(); }

inline std::array<std::atomic<bool>, kPointCount> armed{};
[[nodiscard]] inline bool is_any_armed() {
  return std::ranges::any_of(armed, [](const auto& one) { return one.load(std::memory_order_relaxed); });
}

// What happens at an armed point. A text is what a point of Takes::kText fails with; at another one, whose text is of
// no use, it says that the branch is to be taken, if there is one.
using Handler = std::function<std::optional<std::string>(Point)>;
void set_handler(Handler handler);  // none: nothing happens
std::optional<std::string> reach(Point point);

}  // namespace cairn::fault

#define CAIRN_FAULT_IS_ARMED(name) (::cairn::fault::armed[::cairn::fault::named(name)].load(std::memory_order_relaxed))

#define CAIRN_FAULT(name)                                                    \
  do {                                                                       \
    if (CAIRN_FAULT_IS_ARMED(name)) [[unlikely]]                             \
      static_cast<void>(::cairn::fault::reach(::cairn::fault::named(name))); \
  } while (false)

#define CAIRN_FAULT_TAKEN(name) \
  (CAIRN_FAULT_IS_ARMED(name) && ::cairn::fault::reach(::cairn::fault::named(name)).has_value())

// In a function that returns a Status or a Result.
#define CAIRN_FAULT_FAILS(name, code)                                                               \
  do {                                                                                              \
    if (CAIRN_FAULT_IS_ARMED(name)) [[unlikely]] {                                                  \
      if (const auto fault_text = ::cairn::fault::reach(::cairn::fault::named(name)); fault_text) { \
        return ::cairn::fail(::cairn::Code::code, "{}", *fault_text);                               \
      }                                                                                             \
    }                                                                                               \
  } while (false)
