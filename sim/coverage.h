// sim/coverage.h: counts each rare case, so that cases that never happened can be named.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>

namespace cairn::sim {

class Coverage {
 public:
  using Counts = std::map<std::string, uint64_t, std::less<>>;

  void hit(std::string_view what, uint64_t times = 1) {
    auto at = counts_.find(what);
    if (at == counts_.end()) at = counts_.emplace(what, 0).first;
    at->second += times;
  }
  void add(const Coverage& other) {
    for (const auto& [what, times] : other.counts_) hit(what, times);
  }
  [[nodiscard]] uint64_t count(std::string_view what) const {
    const auto at = counts_.find(what);
    return at == counts_.end() ? 0 : at->second;
  }
  [[nodiscard]] const Counts& counts() const { return counts_; }

 private:
  Counts counts_;
};

}  // namespace cairn::sim
