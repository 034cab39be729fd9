// net/loop.h: the real EventLoop: turns of "take what is ready, do it, hand on, write, sleep".
//
// A turn: descriptors that are ready, then tasks posted by other threads, then compressed messages, then timers, then
// the turn-end hook, then each connection that has something to send writes it in one system call. So the answers of
// one turn share a write, and a batch of posts costs one wake-up.
//
// Threads: post() and stop() from any; the rest on the loop's own.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <unordered_map>
#include <vector>

#include "base/mutex.h"
#include "net/answer_limits.h"
#include "net/event_loop.h"
#include "net/exchange_table.h"
#include "net/http2/call_table.h"
#include "net/http2/inflate_turns.h"
#include "net/output.h"
#include "net/reactor.h"
#include "net/stats.h"
#include "net/timer_heap.h"

namespace cairn::net {

class Connection;

class Loop final : public EventLoop, public std::enable_shared_from_this<Loop> {
 public:
  explicit Loop(unsigned index);
  ~Loop() override;

  // EventLoop
  unsigned index() const override { return index_; }
  void post(std::function<void()> task) override;
  Call* find(CallId id) override;
  Exchange* find(ExchangeId id) override { return exchanges_.find(id); }
  void set_turn_end(std::function<void()> hook) override { turn_end_ = std::move(hook); }
  std::unique_ptr<Timer> after(int64_t delay_ns, std::function<void()> task) override;
  std::shared_ptr<void> charge(uint64_t bytes) override;
  std::unique_ptr<LocalCall> local_call(LocalCall::Owner& owner, std::unique_ptr<LocalCall::Origin> origin) override;
  void detach(std::unique_ptr<LocalCall> call) override;

  void run();   // returns after stop(); every connection is closed then
  void stop();  // any thread
  // One turn, without sleeping: for tests and fuzzing. True when something was done.
  bool turn();

  // The time of the current turn; fresh enough for deadlines.
  [[nodiscard]] int64_t now_ns() const { return now_ns_; }
  void refresh_now();
  [[nodiscard]] bool is_current_thread() const;

  Reactor& reactor() { return reactor_; }
  TimerHeap& timers() { return timers_; }
  CallTable& calls() { return calls_; }
  ExchangeTable& exchanges() { return exchanges_; }
  LoopCounters& counters() { return counters_; }
  [[nodiscard]] const LoopCounters& counters() const { return counters_; }
  // The counters of a method the router knows.
  MethodCounters& method_counters(std::string_view path);

  // Compressed messages that wait; a turn inflates some of them.
  InflateTurns& inflating() { return inflating_; }

  // Shared by all connections of the loop; used within one call.
  static constexpr size_t kReadBytes = 64 * 1024;
  char* read_buffer() { return read_buffer_.get(); }
  Output& output() { return output_; }

  // Connections live here until close_later().
  void adopt(std::unique_ptr<Connection> connection);
  void flush_later(Connection& connection);  // at the end of this turn; the caller asks once a turn
  void close_later(Connection& connection);  // at the end of this turn
  void drain_connections();
  // Ends a sixteenth of the connections, one at least: those that have least to lose, the oldest of them first. Those
  // that are in the middle of an answer stay. How many ended; their seats are free.
  size_t displace();

  // What answers may hold; set before the loop runs.
  void set_answer_limits(const AnswerLimits& limits) { answer_limits_ = limits; }
  [[nodiscard]] const AnswerLimits& answer_limits() const { return answer_limits_; }
  // One counter, summed over all loops of the server.
  void set_siblings(std::vector<const LoopCounters*> all) { siblings_ = std::move(all); }
  [[nodiscard]] uint64_t sum_everywhere(Counter LoopCounters::* which) const;

 private:
  struct MethodHash {
    using is_transparent = void;
    size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
  };

  // Of calls that were detached: drops what they answer.
  class Drain final : public LocalCall::Owner {
   public:
    void adopt(std::unique_ptr<LocalCall> call);
    void clear() { calls_.clear(); }
    void on_news(LocalCall& call) override;

   private:
    std::unordered_map<LocalCall*, std::unique_ptr<LocalCall>> calls_;
  };

  size_t run_posted();
  void end_turn();
  void sleep();

  const unsigned index_;
  Reactor reactor_;
  TimerHeap timers_;
  CallTable calls_;
  LoopCounters counters_;
  std::unordered_map<std::string, MethodCounters*, MethodHash, std::equal_to<>> methods_;
  ExchangeTable exchanges_;
  InflateTurns inflating_;  // its connections' messages unlink themselves
  AnswerLimits answer_limits_;
  Drain detached_;
  std::vector<const LoopCounters*> siblings_;  // of every loop; set before the loop runs

  std::vector<std::unique_ptr<Connection>> connections_;
  uint64_t adopted_ = 0;  // so far
  std::vector<Connection*> to_flush_;
  std::vector<Connection*> flushing_;
  std::vector<Connection*> to_close_;
  std::function<void()> turn_end_;
  std::unique_ptr<char[]> read_buffer_;
  Output output_;
  int64_t now_ns_ = 0;
  bool draining_ = false;
  std::thread::id thread_;  // set once by run()

  std::atomic<bool> stopped_{false};
  std::atomic<bool> sleeping_{false};
  Mutex posted_mutex_;
  std::vector<std::function<void()>> posted_ CAIRN_GUARDED_BY(posted_mutex_);
  std::vector<std::function<void()>> running_;
};

}  // namespace cairn::net
