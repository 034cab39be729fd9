// rpc/serving_status.h: whether this server serves, as grpc.health.v1 says it, and who watches that.
//
// Threads: ServingStatus: any. HealthWatches: one loop.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <utility>

#include "base/log.h"
#include "net/event_loop.h"

namespace cairn::rpc {

// It serves from the start on. With the gate StopGRPCServiceOnDefrag it says otherwise while a Defragment runs. As
// etcd: the end of any Defragment ends that.
class ServingStatus {
 public:
  explicit ServingStatus(bool stops_on_defragment) : stops_on_defragment_(stops_on_defragment) {}

  // `tell` is called after each change, on whatever thread. Set before anybody calls.
  void set_tell(std::function<void()> tell) { tell_ = std::move(tell); }

  [[nodiscard]] bool is_serving() const { return is_serving_.load(std::memory_order_acquire); }

  void defragment_began() {
    if (!stops_on_defragment_) return;
    log::warn("grpc service status changed",
              {{"service", ""}, {"status", "NOT_SERVING"}, {"reason", "defrag is active"}});
    set(false);
  }
  void defragment_ended() {
    if (!stops_on_defragment_) return;
    log::info("grpc service status changed", {{"service", ""}, {"status", "SERVING"}});
    set(true);
  }

 private:
  void set(bool serving) {
    if (is_serving_.exchange(serving, std::memory_order_acq_rel) != serving && tell_) tell_();
  }

  const bool stops_on_defragment_;
  std::atomic<bool> is_serving_{true};
  std::function<void()> tell_;
};

// The calls of one loop that watch it. Each hears of a change once.
class HealthWatches {
 public:
  using Send = std::function<void(net::Call& call, bool serving)>;

  HealthWatches(const ServingStatus& status, net::EventLoop& loop) : status_(status), loop_(loop) {}

  // `send` is called at once, and at each change.
  void add(net::Call& call, Send send) {
    const bool serving = status_.is_serving();
    send(call, serving);
    watches_.insert_or_assign(call.id().value, Watch{call.id(), std::move(send), serving});
  }
  void remove(net::CallId id) { watches_.erase(id.value); }
  void tell() {
    const bool serving = status_.is_serving();
    for (auto& [id, watch] : watches_) {
      if (std::exchange(watch.told, serving) == serving) continue;
      if (net::Call* const call = loop_.find(watch.call)) watch.send(*call, serving);
    }
  }

 private:
  struct Watch {
    net::CallId call;
    Send send;
    bool told;
  };

  const ServingStatus& status_;
  net::EventLoop& loop_;
  std::map<uint64_t, Watch> watches_;
};

}  // namespace cairn::rpc
