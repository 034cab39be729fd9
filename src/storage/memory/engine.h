// storage/memory/engine.h: the tables in memory only, for `--in-memory` and for fast simulation.
//
// Each table is a persistent search tree: a commit copies the path to what it changes, so that every view stays
// whole for as long as somebody holds it. A crash is played by opening an engine from an earlier view.
#pragma once

#include <memory>

#include "storage/engine.h"

namespace cairn::storage {

// `from`: the view to begin with. One of another memory engine is shared at no cost, any other is copied. Null: empty.
[[nodiscard]] Result<std::unique_ptr<Engine>> open_memory(const std::shared_ptr<const View>& from = nullptr);

}  // namespace cairn::storage
