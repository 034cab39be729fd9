// sim/cluster/network.h: messages between members: late, lost, doubled, out of order, over paths that are cut.
//
// A path is one direction between two members. A message is changed as a transport changes it: what is local to a
// process does not travel (encode_and_decode()).
//
// Threads: one.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/random.h"
#include "raft/types.h"
#include "sim/coverage.h"
#include "sim/schedule.h"

namespace cairn::sim {

class Network {
 public:
  struct Options {
    int64_t delay_mean_ns = 500'000;
    uint64_t loss_one_in = 0;  // 0: never
    uint64_t duplicate_one_in = 0;
    uint64_t late_one_in = 0;  // overtaken by those behind it
    bool is_fifo = true;       // but for late ones
  };
  // Called when a message arrives.
  using Deliver = std::function<void(size_t to, raft::Message message)>;

  Network(Schedule& schedule, Random chance, Coverage& coverage, Deliver deliver)
      : schedule_(schedule), chance_(chance), coverage_(coverage), deliver_(std::move(deliver)) {}

  [[nodiscard]] Options& options() { return options_; }

  // needs: one place for each member that may be named
  void send(size_t from, size_t to, const raft::Message& message);

  // Nothing gets from `from` to `to` until mend().
  void cut(size_t from, size_t to) { ++cuts_[{from, to}]; }
  void mend(size_t from, size_t to);
  void mend_all() { cuts_.clear(); }
  [[nodiscard]] bool is_cut(size_t from, size_t to) const { return cuts_.contains({from, to}); }
  // What is on its way from and to this member is lost, as with its connections.
  void forget(size_t member) { ++epochs_[member]; }

  [[nodiscard]] uint64_t delivered() const { return delivered_; }

 private:
  void post(size_t from, size_t to, raft::Message message);

  Schedule& schedule_;
  Random chance_;
  Coverage& coverage_;
  Deliver deliver_;
  Options options_;
  std::map<std::pair<size_t, size_t>, uint64_t> cuts_;    // how many faults cut it
  std::map<std::pair<size_t, size_t>, int64_t> last_ns_;  // when the last one in order arrives
  std::map<size_t, uint64_t> epochs_;
  uint64_t delivered_ = 0;
};

// What arrives when `message` is sent.
[[nodiscard]] raft::Message encode_and_decode(const raft::Message& message);

}  // namespace cairn::sim
