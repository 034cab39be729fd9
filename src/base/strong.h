// base/strong.h: integers that do not mix. A Term is not an Index, though both are counted in u64.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>

#include <fmt/format.h>

namespace cairn {

template <class Tag, class Int = uint64_t>
struct Strong {
  using Value = Int;
  Int value = 0;

  constexpr Strong() = default;
  constexpr explicit Strong(Int v) : value(v) {}

  friend constexpr auto operator<=>(Strong, Strong) = default;
  friend constexpr Strong operator+(Strong a, Int n) { return Strong(a.value + n); }
  friend constexpr Strong operator-(Strong a, Int n) { return Strong(a.value - n); }
  friend constexpr Int operator-(Strong a, Strong b) { return a.value - b.value; }
  constexpr Strong& operator++() {
    ++value;
    return *this;
  }
  constexpr Strong& operator+=(Int n) {
    value += n;
    return *this;
  }
};

// Raft: a term, a log index, a member. 0 is "none" for each.
using Term = Strong<struct TermTag>;
using Index = Strong<struct IndexTag>;
using NodeId = Strong<struct NodeIdTag>;

// A place in the key space's history: `main` counts write transactions (the store starts at 1, the first write
// is 2), `sub` the changes inside one, from 0. Ordered by (main, sub).
struct Revision {
  int64_t main = 0;
  int64_t sub = 0;

  friend constexpr auto operator<=>(const Revision&, const Revision&) = default;
};

}  // namespace cairn

template <class Tag, class Int>
struct fmt::formatter<cairn::Strong<Tag, Int>> : fmt::formatter<Int> {
  template <class Context>
  auto format(cairn::Strong<Tag, Int> v, Context& context) const {
    return fmt::formatter<Int>::format(v.value, context);
  }
};

template <class Tag, class Int>
struct std::hash<cairn::Strong<Tag, Int>> {
  size_t operator()(cairn::Strong<Tag, Int> v) const noexcept { return std::hash<Int>{}(v.value); }
};
