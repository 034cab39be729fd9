// sim/cluster/transfers.h: snapshots on their way between members: slow, broken, given up by who sends them, answered
// late or not at all.
//
// As peer::Transport does it: the image of the db is read from the sender's view piece by piece, written beside the
// receiver's db under another name, synced and renamed; then the receiver's core gets the message. The sender is told
// once what became of it, and may be told wrongly: an answer that is lost looks like a failure.
//
// Threads: one.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/random.h"
#include "raft/types.h"
#include "sim/coverage.h"
#include "sim/schedule.h"
#include "storage/engine.h"

namespace cairn::sim {

class Transfers {
 public:
  struct Options {
    int64_t piece_mean_ns = 1'000'000;
    uint64_t piece_bytes = 16 << 10;
    uint64_t slow_one_in = 5;    // each of its pieces takes a hundred times as long
    uint64_t broken_one_in = 6;  // the connection ends somewhere
    uint64_t given_up_one_in = 8;
  };
  class Host {
   public:
    virtual ~Host() = default;
    // Whether bytes get from one to the other now.
    [[nodiscard]] virtual bool is_open(size_t from, size_t to) = 0;
    // All of an image is at `to`, which has it written and then gets `message`. Then done(), or failed().
    virtual void on_image(size_t to, const raft::Message& message, std::string bytes, uint64_t transfer) = 0;
    // What the sender is told.
    virtual void on_outcome(size_t from, size_t to, bool is_delivered) = 0;
  };

  Transfers(Schedule& schedule, Random chance, Coverage& coverage, Host& host)
      : schedule_(schedule), chance_(chance), coverage_(coverage), host_(host) {}

  [[nodiscard]] Options& options() { return options_; }

  // `message`: a kSnap as the sender's core gives it; `travelling`: as it arrives.
  void send(size_t from, size_t to, const raft::Message& message, raft::Message travelling);
  // The image of this transfer is written, or could not be.
  void done(uint64_t transfer, bool is_written);
  // The process of this member is gone.
  void forget(size_t member);

 private:
  struct Transfer {
    uint64_t number = 0;
    size_t from = 0;
    size_t to = 0;
    std::unique_ptr<storage::ImageReader> source;
    raft::Message message;
    std::string bytes;
    bool is_slow = false;
    uint64_t pieces_until_break = UINT64_MAX;
    bool is_told = false;  // the sender knows, or is gone
  };
  [[nodiscard]] Transfer* find(uint64_t number);
  void plan_piece(const Transfer& transfer);
  void piece(uint64_t number);
  void end(uint64_t number, bool is_delivered, int64_t told_after_ns);
  void tell(Transfer& transfer, bool is_delivered, int64_t after_ns);

  Schedule& schedule_;
  Random chance_;
  Coverage& coverage_;
  Host& host_;
  Options options_;
  std::vector<std::unique_ptr<Transfer>> transfers_;
  std::map<size_t, uint64_t> processes_;  // by member, so many are gone
  uint64_t last_number_ = 0;
};

}  // namespace cairn::sim
