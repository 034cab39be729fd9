// sim/coverage.h: counts each rare case, so that cases that never happened can be named.
#pragma once

#include <cstdint>
#include <map>
#include <string>

namespace cairn::sim {

class Coverage {
 public:
  void hit(const std::string& what, uint64_t times = 1) { counts_[what] += times; }
  void add(const Coverage& other) {
    for (const auto& [what, times] : other.counts_) counts_[what] += times;
  }
  [[nodiscard]] uint64_t count(const std::string& what) const {
    const auto at = counts_.find(what);
    return at == counts_.end() ? 0 : at->second;
  }
  [[nodiscard]] const std::map<std::string, uint64_t>& counts() const { return counts_; }

 private:
  std::map<std::string, uint64_t> counts_;
};

}  // namespace cairn::sim
