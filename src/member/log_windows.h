// member/log_windows.h: parts of the log that have left memory and are there again, read from the segments for members
// that are behind.
//
// A window is what one read brought. Who takes entries out of one makes the next one be read before it is needed, so a
// member that is far behind is sent its entries without a pause. Windows are for whoever wants them: members that are
// equally far behind share them. Those that nobody has used for longest go first.
//
// Always true: windows and reads under way do not overlap at their beginnings; a window's entries are committed, and so
//              never change.
// Threads:     the core thread's.
#pragma once

#include <cstdint>
#include <deque>
#include <utility>
#include <vector>

#include "member/stages.h"

namespace cairn::member {

class LogWindows {
 public:
  struct Options {
    uint64_t read_bytes = 4 << 20;
    uint64_t bytes_max = 32 << 20;  // of all windows; one may exceed it
    size_t reads_max = 4;           // under way; who asks for more asks again when one is done
  };
  explicit LogWindows(const Options& options) : options_(options) {}

  // Appends the entries [lo, hi) as far as a window has them, cut by `bytes_max` but for the first. False: they are in
  // no window; they are being read. `end`: the first index that needs no window.
  bool take(Index lo, Index hi, uint64_t bytes_max, Index end, std::vector<raft::Entry>& out);

  [[nodiscard]] bool has_orders() const { return !orders_.empty(); }
  [[nodiscard]] std::vector<LogRead> take_orders() { return std::exchange(orders_, {}); }
  // False: nobody waits for it any more. nullptr in `order` is not looked at.
  bool done(uint64_t number, LogRead& order);
  void add(std::vector<raft::Entry> entries);
  // What is below `first` is in the log no more.
  void drop_below(Index first);
  // The log is another one: nothing of it is here, and what is read meanwhile is not taken.
  void clear();

  [[nodiscard]] uint64_t bytes() const { return bytes_; }

 private:
  struct Window {
    std::vector<raft::Entry> entries;
    uint64_t bytes = 0;
    uint64_t used = 0;
    [[nodiscard]] Index first() const { return entries.front().index; }
    [[nodiscard]] Index end() const { return entries.back().index + 1; }
  };
  [[nodiscard]] Window* find(Index index);
  void want(Index first, Index end);
  void drop_unused();

  Options options_;
  std::deque<Window> windows_;
  uint64_t bytes_ = 0;
  uint64_t clock_ = 0;  // of uses
  uint64_t last_number_ = 0;
  std::vector<LogRead> under_way_;
  std::vector<LogRead> orders_;
};

}  // namespace cairn::member
