// sim/history/search.h: is a small history linearizable? By trying every order (Wing and Gong), with a store of its own
// of twenty lines. The twin of judge() in tests: slow, and without a witness.
//
// Source: J. M. Wing, C. Gong, "Testing and Verifying Concurrent Objects", 1993.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "sim/history/history.h"

namespace cairn::sim {

// An order of operations that explains every answer; those of unknown outcome that never happened are left out.
// nullopt: there is none.
//   needs: puts, deletions, transactions without nesting, and linearizable reads of the newest revision; few of them
[[nodiscard]] std::optional<std::vector<uint32_t>> search_order(const std::vector<ClientOperation>& operations);

}  // namespace cairn::sim
