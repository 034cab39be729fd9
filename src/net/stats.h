// net/stats.h: what the server counts: calls by method and code, messages, bytes, connections.
//
// Threads: each counter is written by one io thread and read by any.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace cairn::net {

// A number with one writer: no locked instruction.
class Counter {
 public:
  void add(uint64_t n = 1) { value_.store(value_.load(std::memory_order_relaxed) + n, std::memory_order_relaxed); }
  void sub(uint64_t n = 1) { value_.store(value_.load(std::memory_order_relaxed) - n, std::memory_order_relaxed); }
  [[nodiscard]] uint64_t get() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> value_{0};
};

inline constexpr size_t kCodeCount = 17;

// One loop's counters of one method that the router knows. Lives as long as its loop.
struct MethodCounters {
  std::string path;  // "/etcdserverpb.KV/Put"
  Counter started;
  std::array<Counter, kCodeCount> handled;  // by Code; a call that the client ended counts as kCancelled
  Counter messages_received;
  Counter messages_sent;
  Counter bytes_received;  // of messages, without framing
  Counter bytes_sent;

  MethodCounters* next = nullptr;  // fixed before the entry is published
};

// One loop's counters.
class LoopCounters {
 public:
  LoopCounters() = default;
  ~LoopCounters();
  LoopCounters(const LoopCounters&) = delete;
  LoopCounters& operator=(const LoopCounters&) = delete;

  Counter connections_opened;
  Counter connections_open;
  Counter connections_refused;  // loop 0 counts them
  Counter socket_bytes_in;
  Counter socket_bytes_out;
  Counter socket_reads;
  Counter socket_writes;
  Counter turns;
  Counter http_requests;
  Counter answer_bytes_held;   // in memory, for clients to take
  Counter request_bytes_held;  // the same, of requests that are not whole
  Counter calls_unknown;       // service or method not known, or refused before routing

  // Loop's thread: a new entry, seen by readers from now on.
  MethodCounters& add_method(std::string_view path);
  // Any thread: the list of methods, newest first.
  [[nodiscard]] const MethodCounters* methods() const { return methods_.load(std::memory_order_acquire); }

 private:
  std::atomic<MethodCounters*> methods_{nullptr};
};

struct MethodStats {
  std::string path;
  uint64_t started = 0;
  std::array<uint64_t, kCodeCount> handled{};
  uint64_t messages_received = 0;
  uint64_t messages_sent = 0;
  uint64_t bytes_received = 0;
  uint64_t bytes_sent = 0;
};

struct ServerStats {
  std::vector<MethodStats> methods;  // by path
  uint64_t connections_opened = 0;
  uint64_t connections_open = 0;
  uint64_t connections_refused = 0;
  uint64_t socket_bytes_in = 0;
  uint64_t socket_bytes_out = 0;
  uint64_t socket_reads = 0;
  uint64_t socket_writes = 0;
  uint64_t turns = 0;
  uint64_t http_requests = 0;
  uint64_t answer_bytes_held = 0;
  uint64_t request_bytes_held = 0;
  uint64_t calls_unknown = 0;

  void add(const LoopCounters& loop);
};

}  // namespace cairn::net
