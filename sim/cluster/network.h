// sim/cluster/network.h: messages between members: late, lost, doubled, out of order, over paths that are cut.
//
// A path is one direction between two members. In most lives a message goes through the transport's codec; in the
// others it is copied without what is local to a process. Whoever has sent something that is lost is told so a little
// later, as a transport tells it: its stream was cut.
//
// Threads: one.
#pragma once

#include <cstdint>
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
    bool has_codec = true;
  };
  class Host {
   public:
    virtual ~Host() = default;
    // A message arrives. False: nobody is there.
    virtual bool on_arrival(size_t to, raft::Message message) = 0;
    // What was sent from `from` to `to` may be lost.
    virtual void on_stream_cut(size_t from, size_t to) = 0;
  };

  Network(Schedule& schedule, Random chance, Coverage& coverage, Host& host)
      : schedule_(schedule), chance_(chance), coverage_(coverage), host_(host) {}

  [[nodiscard]] Options& options() { return options_; }

  // What arrives of `message`.
  [[nodiscard]] raft::Message pass(const raft::Message& message) const;
  // needs: one place for each member that may be named; no kSnap, which goes its own way (sim/cluster/transfers.h)
  void send(size_t from, size_t to, const raft::Message& message);
  // Something sent is lost: whoever sent it is told so later.
  void lose(size_t from, size_t to, const char* why);

  // Nothing gets from `from` to `to` until mend().
  void cut(size_t from, size_t to) { ++cuts_[{from, to}]; }
  void mend(size_t from, size_t to);
  void mend_all();
  [[nodiscard]] bool is_cut(size_t from, size_t to) const { return cuts_.contains({from, to}); }
  [[nodiscard]] bool is_connected(size_t one, size_t other) const { return !is_cut(one, other) && !is_cut(other, one); }
  // Since when both ways have been whole. needs: is_connected()
  [[nodiscard]] int64_t connected_since_ns(size_t one, size_t other) const;
  // What is on its way from and to this member is lost, as with its connections.
  void forget(size_t member) { ++epochs_[member]; }

  [[nodiscard]] uint64_t delivered() const { return delivered_; }

 private:
  void post(size_t from, size_t to, raft::Message message);

  Schedule& schedule_;
  Random chance_;
  Coverage& coverage_;
  Host& host_;
  Options options_;
  std::map<std::pair<size_t, size_t>, uint64_t> cuts_;  // how many faults cut it
  std::map<std::pair<size_t, size_t>, int64_t> mended_ns_;
  std::map<std::pair<size_t, size_t>, int64_t> last_ns_;  // when the last one in order arrives
  std::map<size_t, uint64_t> epochs_;
  std::set<std::pair<size_t, size_t>> tells_;  // a report is on its way to the first one
  uint64_t delivered_ = 0;
};

}  // namespace cairn::sim
