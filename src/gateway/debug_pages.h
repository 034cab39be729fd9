// gateway/debug_pages.h: /debug/vars and /debug/pprof: what of Go's pages has a meaning here.
//
// A processor profile is taken by a thread of its own, one at a time, and answered when it is done; it ends early when
// its client goes. Names of functions are looked up by another thread, one request at a time: the program's file is
// read for them. Of what a Go runtime alone has (goroutines, its heap) the page says what to look at instead.
//
// Threads: handle() on any loop.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <thread>

#include "base/mutex.h"
#include "member/driver.h"
#include "net/http.h"

namespace cairn::gateway {

class DebugPages {
 public:
  // `with_profiles`: --enable-pprof.
  DebugPages(member::Node& node, bool with_profiles) : node_(node), with_profiles_(with_profiles) {}
  ~DebugPages();  // who waits for a profile gets no answer
  DebugPages(const DebugPages&) = delete;
  DebugPages& operator=(const DebugPages&) = delete;

  // False: no page of these.
  bool handle(const net::HttpRequest& request, const member::Published& state, const net::HttpRespond& respond);

 private:
  [[nodiscard]] net::HttpResponse vars(const member::Published& state) const;
  // A thread that does one thing at a time.
  struct Bench {
    bool is_busy = false;
    std::thread thread;
  };
  // False: it is busy, or the process ends. `work` gives the answer.
  bool begin(Bench& bench, std::function<net::HttpResponse()> work, const net::HttpRespond& respond);
  net::HttpResponse take_profile(int64_t seconds, const std::weak_ptr<const void>& client);

  member::Node& node_;
  const bool with_profiles_;
  Mutex mutex_;
  Condition wake_;
  bool stop_ CAIRN_GUARDED_BY(mutex_) = false;
  Bench profiler_;  // under mutex_, as the other
  Bench namer_;
};

}  // namespace cairn::gateway
