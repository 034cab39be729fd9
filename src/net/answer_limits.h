// net/answer_limits.h: what answers may hold in memory until clients have taken them; see net/answer_budget.h.
#pragma once

#include <cstdint>

namespace cairn::net {

struct AnswerLimits {
  uint64_t connection_bytes_max = 128 << 20;
  uint64_t bytes_max = 192 << 20;  // of all connections
};

}  // namespace cairn::net
