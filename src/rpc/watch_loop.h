// rpc/watch_loop.h: the watchers of one io thread: its hub, fed from the published state.
//
// The core thread says only that something was published (tell()). The hub then reads what is new itself, so nothing is
// handed over that could be lost, and a thread that is told late reads more at once. History is read on the workers, a
// slice at a time for all that wait; what is short and in memory is read here.
//
// Order: a stream is told of (tell()) from open() on, and the hub is brought up to date before each watcher begins. So
// the state that the watcher begins with, or a later tell(), has every event.
// Threads: tell() from any; the rest on the loop's.
#pragma once

#include <atomic>
#include <memory>
#include <set>
#include <string>

#include "metrics/metrics.h"
#include "mvcc/watch/hub.h"
#include "net/event_loop.h"

namespace cairn::rpc {

class Context;

class WatchLoop {
 public:
  class Stream : public mvcc::WatchStream {
   public:
    // The stream ends.
    virtual void fail(const Error& error) = 0;
    // Something of it waits for its client: it calls unblock() when all of that is gone.
    [[nodiscard]] virtual bool has_queue() const = 0;
  };

  explicit WatchLoop(Context& context);
  ~WatchLoop();
  WatchLoop(const WatchLoop&) = delete;
  WatchLoop& operator=(const WatchLoop&) = delete;

  void tell();

  // False: the member stops, and no stream begins.
  [[nodiscard]] bool open(Stream& stream);
  void close(Stream& stream);
  // Ends all streams; none begins any more.
  void stop();

  // Sends what is published and not yet sent.
  void refresh();
  [[nodiscard]] mvcc::WatchHub& hub() { return hub_; }
  // Reads what watchers wait for that are behind.
  void catch_up();
  // The stream has nothing to send any more.
  void unblock(Stream& stream);
  // A stream that waits for nothing has refused events: it is asked again in a while.
  void ask_again_later();

  // The encoded header of a response at `revision`.
  [[nodiscard]] const std::string& header(int64_t revision);
  // For metrics: so many events are on their way.
  void note_sent(uint64_t events) {
    ++responses_;
    events_ += events;
  }

 private:
  void finish_scan(const mvcc::WatchScan& scan, const Result<mvcc::WatchScanned>& found);
  void catch_up_later();
  void fail_all(const Error& error);
  void observe(int64_t began_ns);
  void update_gauges();

  Context& context_;
  mvcc::WatchHub hub_;
  std::set<Stream*> streams_;
  std::atomic<bool> is_wanted_{false};
  std::atomic<bool> is_told_{false};
  bool is_stopped_ = false;
  bool catches_up_later_ = false;
  uint64_t term_ = 0;
  std::string header_;  // of header_revision_ and header_term_
  int64_t header_revision_ = -1;
  uint64_t header_term_ = 0;
  uint64_t responses_ = 0;  // since observe()
  uint64_t events_ = 0;
  size_t watchers_shown_ = 0;
  size_t slow_shown_ = 0;
  std::unique_ptr<net::EventLoop::Timer> retry_;
};

}  // namespace cairn::rpc
