// sim/step_kinds.h: counts what goes into MemberCore::step() and what comes out of it, by kind. A kind that no life
// reaches is one that the simulator says nothing about.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "member/member_core.h"
#include "sim/coverage.h"

namespace cairn::sim {

class StepKinds {
 public:
  StepKinds();

  void count(const member::Events& events);
  void count(const member::Effects& effects);
  void add_to(Coverage& coverage) const;

 private:
  std::vector<uint64_t> events_;   // as in the tables of step_kinds.cc
  std::vector<uint64_t> effects_;  // likewise
  std::vector<uint64_t> cluster_effects_;
};

// What add_to() calls those that a member meets alone.
[[nodiscard]] std::vector<std::string_view> step_kinds();

}  // namespace cairn::sim
