// rpc/answer_budget.h: how much memory answers may take that are built or sorted before they are sent.
//
// Most answers take none: they are produced as the client takes them. What cannot be (a list that is sorted, the answer
// of a write that shows ranges or what it replaced) is counted from before it is made until its call ends, by process
// and by connection. Above a bound more is refused. A single answer is admitted however large it is: what would never
// be answered at all would be a departure from etcd.
//
// Threads: AnswerBudget any; a Share belongs to the calls of one loop.
#pragma once

#include <atomic>
#include <cstdint>
#include <unordered_map>

#include "net/http2/grpc.h"

namespace cairn::rpc {

class AnswerBudget {
 public:
  explicit AnswerBudget(uint64_t bytes_max) : bytes_max_(bytes_max) {}

  // False: too much is taken already.
  [[nodiscard]] bool take(uint64_t bytes) {
    uint64_t used = used_.load(std::memory_order_relaxed);
    do {
      if (used > 0 && used + bytes > bytes_max_) return false;
    } while (!used_.compare_exchange_weak(used, used + bytes, std::memory_order_relaxed));
    return true;
  }
  void take_anyway(uint64_t bytes) { used_.fetch_add(bytes, std::memory_order_relaxed); }
  void give_back(uint64_t bytes) { used_.fetch_sub(bytes, std::memory_order_relaxed); }
  [[nodiscard]] uint64_t used_bytes() const { return used_.load(std::memory_order_relaxed); }

 private:
  uint64_t bytes_max_;
  std::atomic<uint64_t> used_{0};
};

// What the calls of one loop have of it.
class AnswerShare {
 public:
  static constexpr uint64_t kFreeBytes = 64 << 10;  // what is smaller is not counted

  AnswerShare(AnswerBudget& budget, uint64_t connection_bytes_max)
      : budget_(budget), connection_bytes_max_(connection_bytes_max) {}
  ~AnswerShare() {
    for (const auto& [call, charge] : charges_) budget_.give_back(charge.bytes);
  }
  AnswerShare(const AnswerShare&) = delete;
  AnswerShare& operator=(const AnswerShare&) = delete;

  // Before an answer of about `bytes` bytes is made. False: too much waits to be sent, on this connection or in the
  // process; nothing is counted then.
  [[nodiscard]] bool admit(const net::Call& call, uint64_t bytes);
  // An answer of `bytes` bytes has been made. It counts, in place of what was expected when that was less.
  void charge(const net::Call& call, uint64_t bytes);
  void release(net::CallId call);

 private:
  struct Charge {
    uint64_t connection;
    uint64_t bytes;
  };
  void note(const net::Call& call, uint64_t bytes);

  AnswerBudget& budget_;
  uint64_t connection_bytes_max_;
  std::unordered_map<uint64_t, Charge> charges_;        // by CallId
  std::unordered_map<uint64_t, uint64_t> connections_;  // bytes of each that has any
};

}  // namespace cairn::rpc
