// sim/history/replay.h: the log of a history, replayed into the model, with the times at which its states came to be.
//
// The model is that of one member. Changes of the configuration, and requests that concern members, do not touch what
// clients ask for: they are replayed as empty entries.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "sim/history/answers.h"
#include "sim/history/history.h"
#include "sim/model.h"

namespace cairn::sim {

class Replay {
 public:
  explicit Replay(const History& history);

  [[nodiscard]] const Model& model() const { return model_; }
  [[nodiscard]] int64_t revision() const { return model_.newest().revision; }
  [[nodiscard]] int64_t compacted() const { return model_.newest().compacted; }
  [[nodiscard]] uint64_t last() const { return states_ - 1; }  // positions of entries: 1 to last()

  // Applies the next entry.
  //   errors: why the entry cannot be in a log
  Result<Reply> apply(const LogEntry& entry);

  // Positions of states: 0 is before the first entry. needs: nothing is applied any more
  [[nodiscard]] uint64_t first_with(int64_t revision) const { return first_.at(static_cast<size_t>(revision)); }
  [[nodiscard]] uint64_t last_with(int64_t revision) const;
  [[nodiscard]] int64_t revision_at(uint64_t position) const { return state(position).revision; }
  // The last state in which `revision` may still be read. nullopt: there is none
  [[nodiscard]] std::optional<uint64_t> last_readable(int64_t revision) const;
  // The first state in which `revision` is compacted; nullopt: it never is.
  [[nodiscard]] std::optional<uint64_t> first_compacted(int64_t revision) const;
  // The last state in which `revision` is in the future. needs: revision > 1
  [[nodiscard]] uint64_t last_before(int64_t revision) const;

 private:
  // One more than here: the model's first entry founds the cluster.
  [[nodiscard]] const Model::State& state(uint64_t position) const { return model_.state(Index(position + 1)); }

  Model model_;
  uint64_t states_ = 0;
  std::vector<uint64_t> first_{0, 0};                      // by revision
  std::vector<std::pair<int64_t, uint64_t>> compactions_;  // (compacted, first state), ascending
};

}  // namespace cairn::sim
