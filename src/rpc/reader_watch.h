// rpc/reader_watch.h: ends answers that keep old state alive for too long, or too much of it.
//
// A long answer is produced from the state at its beginning, and keeps it: index nodes, and records that a compaction
// would delete. So it ends when it is very old (reader_age_ns), and while all readers together keep too much of the old
// index (reader_index_bytes_max) the oldest one ends. A client that takes nothing, or next to nothing, of any answer is
// net's matter (ServerOptions::reader_stall_ns).
//
// Threads: ReaderWatch belongs to its loop; OldestReader is shared by all.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <set>
#include <string>

#include "base/mutex.h"
#include "env/clock.h"
#include "member/page_roots.h"
#include "net/event_loop.h"
#include "net/http2/grpc.h"

namespace cairn::rpc {

struct ReaderLimits {
  int64_t reader_age_ns = 600'000'000'000;
  uint64_t reader_index_bytes_max = 128 << 20;
};

// Which of the calls that read old state began first, on any loop.
class OldestReader {
 public:
  struct Place {
    int64_t since_ns;
    unsigned loop;
    uint64_t call;
    friend auto operator<=>(const Place&, const Place&) = default;
  };

  void add(const Place& place);
  void remove(const Place& place);
  // Whether `place` is the one to end now: it is the oldest, and what readers keep has grown since the last one ended
  // (PageRoots::Retired), so the end of that one did not suffice.
  [[nodiscard]] bool take_turn(const Place& place, uint64_t index_growths);

 private:
  Mutex mutex_;
  std::set<Place> readers_ CAIRN_GUARDED_BY(mutex_);
  uint64_t ended_at_growth_ CAIRN_GUARDED_BY(mutex_) = 0;
};

class ReaderWatch {
 public:
  ReaderWatch(net::EventLoop& loop, const env::Clock& clock, const member::PageRoots& index, OldestReader& oldest,
              const ReaderLimits& limits)
      : loop_(loop), clock_(clock), index_(index), oldest_(oldest), limits_(limits) {}
  ~ReaderWatch();
  ReaderWatch(const ReaderWatch&) = delete;
  ReaderWatch& operator=(const ReaderWatch&) = delete;

  // From now on `call` is looked at, while it lives.
  void watch(const net::Call& call);
  // At the end of a turn of the loop: while readers keep too much, their ends must not wait for a timer, since writers
  // do not wait either.
  void end_turn() {
    if (!watched_.empty() && index_.retired().bytes > limits_.reader_index_bytes_max) end_oldest();
  }

 private:
  struct Watched {
    net::CallId id;
    int64_t since_ns;
  };

  [[nodiscard]] int64_t interval_ns() const;
  void look();
  void end_oldest();
  // True: it needs no more watching.
  bool end_if_due(const Watched& one, int64_t now_ns);
  // "": goes on.
  [[nodiscard]] std::string reason_to_end(const Watched& one, int64_t now_ns);
  [[nodiscard]] OldestReader::Place place_of(const Watched& one) const {
    return {one.since_ns, loop_.index(), one.id.value};
  }

  net::EventLoop& loop_;
  const env::Clock& clock_;
  const member::PageRoots& index_;
  OldestReader& oldest_;
  ReaderLimits limits_;
  std::deque<Watched> watched_;  // the oldest first
  std::unique_ptr<net::EventLoop::Timer> timer_;
};

}  // namespace cairn::rpc
