// storage/memory/engine.h: the tables in memory only, for `--in-memory` and for fast simulation.
//
// Each table is a persistent search tree. A commit copies the paths to the changed nodes, so every view stays whole for
// as long as somebody holds it. To simulate a crash, open an engine from an earlier view.
#pragma once

#include <memory>

#include "storage/engine.h"

namespace cairn::storage {

// `from`: the view to begin with. One of another memory engine is shared at no cost, any other is copied. Null: empty.
[[nodiscard]] Result<std::unique_ptr<Engine>> open_memory(const std::shared_ptr<const View>& from = nullptr);

}  // namespace cairn::storage
