#include "net/server.h"

#include <algorithm>
#include <chrono>
#include <future>
#include <ranges>
#include <thread>
#include <utility>

#include <pthread.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "env/thread_slice.h"
#include "net/connection.h"
#include "net/listener.h"
#include "net/loop.h"
#include "net/tls/handshakes.h"

namespace cairn::net {
namespace {

constexpr auto kDrainLook = std::chrono::milliseconds(1);
constexpr size_t kRefusalsMax = 32;  // connections that are being told so, at once
constexpr int64_t kFullLogNs = 10'000'000'000;

}  // namespace

struct Server::Impl {
  ServerOptions options;
  Router* router;
  HttpHandler* http;
  std::vector<std::shared_ptr<Loop>> loops;
  std::vector<EventLoop*> loop_pointers;
  std::vector<std::unique_ptr<Listener>> listeners;  // belong to loop 0's thread once it runs
  std::vector<std::thread> threads;
  std::unique_ptr<Handshakes> handshakes;  // null: no listener has TLS
  std::shared_ptr<Seats> seats;
  std::shared_ptr<Seats> refusal_seats = std::make_shared<Seats>(kRefusalsMax);
  size_t next_loop = 0;        // loop 0's thread
  int64_t full_logged_ns = 0;  // the same
  bool running = false;
  bool early_is_open = false;
  bool listening = false;

  // Gives a socket to each listener that is early, or to each other one, and has none. If one fails, none has.
  Status bind(bool is_early) {
    const auto of_this_time = [is_early](const Listen& listen) { return listen.is_early == is_early; };
    for (Listen& listen : options.listen | std::views::filter(of_this_time)) {
      if (listen.fd < 0) {
        auto made = listen_at(listen);
        if (!made) {
          for (Listen& one : options.listen | std::views::filter(of_this_time)) {
            if (one.fd >= 0) ::close(std::exchange(one.fd, -1));
          }
          return std::unexpected(made.error());
        }
        listen.fd = made->fd;
        listen.address = made->address;
      }
      if (listen.tls.context == nullptr || handshakes != nullptr) continue;
      handshakes = std::make_unique<Handshakes>(options.io_threads, handshake_options());
      handshakes->start();
    }
    return {};
  }

  // Takes connections there. The loops run.
  Status open(bool is_early) {
    std::promise<Status> opened;
    loops.front()->post([this, is_early, &opened] {
      Status status;
      for (Listen& one : options.listen) {
        if (one.is_early != is_early) continue;
        HttpHandler* const handler = one.http_handler != nullptr ? one.http_handler : http;
        const Services services{
            .router = one.grpc ? router : nullptr, .http = one.http ? handler : nullptr, .limits = &one.http_limits};
        auto listener = Listener::open(*loops.front(), std::exchange(one.fd, -1),
                                       [this, &one, services](int fd) { accepted(fd, one, services); });
        if (!listener && status) status = std::unexpected(listener.error());
        if (listener) listeners.push_back(*std::move(listener));
      }
      opened.set_value(status);
    });
    return opened.get_future().get();
  }

  // Loop 0's thread.
  void accepted(int fd, const Listen& listen, Services services) {
    Seat seat = seats->take();
    if (seat == nullptr && options.newcomers_displace && loops.front()->displace() > 0) {
      note_full("closing the oldest connections for newer ones: as many as there may be are open");
      seat = seats->take();
    }
    if (seat == nullptr) {
      loops.front()->counters().connections_refused.add();
      note_full("refusing connections: as many as there may be are open");
      services.refuse = true;
      seat = refusal_seats->take();
      if (seat == nullptr) {
        ::close(fd);
        return;
      }
    }
    const std::shared_ptr<Loop>& target = loops[next_loop++ % loops.size()];
    if (listen.tls.context != nullptr) {
      handshakes->begin(
          fd, listen.tls, std::move(seat),
          [this, loop = target.get(), services](int own, std::unique_ptr<Transport> transport, Seat held) {
            hand_over(*loop, own, std::move(transport), std::move(held), services);
          });
    } else if (target == loops.front()) {
      target->adopt(std::make_unique<Connection>(*target, fd, clear_transport(fd), std::move(seat), options, services));
    } else {
      hand_over(*target, fd, clear_transport(fd), std::move(seat), services);
    }
  }

  // From another thread than the loop's.
  void hand_over(Loop& loop, int fd, std::unique_ptr<Transport> transport, Seat seat, Services services) {
    // The descriptor is closed also when the task never runs.
    struct Held {
      int fd;
      std::unique_ptr<Transport> transport;
      ~Held() {
        if (fd >= 0) ::close(fd);
      }
    };
    const auto held = std::make_shared<Held>(fd, std::move(transport));
    loop.post([this, &loop, held, seat = std::move(seat), services] {
      const int own = std::exchange(held->fd, -1);
      loop.adopt(std::make_unique<Connection>(loop, own, std::move(held->transport), seat, options, services));
    });
  }

  void note_full(std::string_view what) {
    const int64_t now_ns = loops.front()->now_ns();
    if (full_logged_ns != 0 && now_ns - full_logged_ns < kFullLogNs) return;
    full_logged_ns = now_ns;
    log::warn(what, {{"connections-max", options.connections_max}});
  }

  // Where newcomers displace, handshakes must leave connections that can be displaced: the oldest handshake ends, too.
  [[nodiscard]] Handshakes::Options handshake_options() const {
    Handshakes::Options out;
    if (options.newcomers_displace) out.open_max = std::clamp<size_t>(options.connections_max / 2, 1, out.open_max);
    return out;
  }

  [[nodiscard]] uint64_t open_connections() const {
    uint64_t open = 0;
    for (const auto& loop : loops) open += loop->counters().connections_open.get();
    return open;
  }
};

Result<BoundSocket> listen_at(const Listen& listen) {
  return listen.is_unix ? listen_on_unix(listen.address) : listen_on(listen.address, {.reuse_port = listen.reuse_port});
}

Server::Server(ServerOptions options, Router* router, HttpHandler* http) : impl_(std::make_unique<Impl>()) {
  CAIRN_ASSERT(options.io_threads > 0);
  CAIRN_ASSERT(options.io_threads == 1 || !options.newcomers_displace);
  impl_->options = std::move(options);
  impl_->seats = std::make_shared<Seats>(impl_->options.connections_max);
  impl_->router = router;
  impl_->http = http;
  for (unsigned i = 0; i < impl_->options.io_threads; ++i) {
    impl_->loops.push_back(std::make_shared<Loop>(i));
    impl_->loop_pointers.push_back(impl_->loops.back().get());
  }
  std::vector<const LoopCounters*> counters;
  for (const auto& loop : impl_->loops) counters.push_back(&loop->counters());
  for (const auto& loop : impl_->loops) {
    loop->set_siblings(counters);
    loop->set_answer_limits(impl_->options.answers);
  }
}

Server::~Server() { stop(0); }

std::span<EventLoop* const> Server::loops() const { return impl_->loop_pointers; }

Status Server::open_early() {
  if (std::exchange(impl_->early_is_open, true)) return {};
  CAIRN_CHECK(impl_->bind(true));
  run();
  return impl_->open(true);
}

Result<std::vector<std::string>> Server::start() {
  CAIRN_ASSERT(!impl_->listening);
  CAIRN_CHECK(open_early());
  CAIRN_CHECK(impl_->bind(false));
  CAIRN_CHECK(impl_->open(false));
  impl_->listening = true;
  std::vector<std::string> addresses;
  for (const Listen& listen : impl_->options.listen) addresses.push_back(listen.address);
  return addresses;
}

void Server::run() {
  if (std::exchange(impl_->running, true)) return;
  for (const auto& loop : impl_->loops) {
    impl_->threads.emplace_back([held = loop.get()] {
      env::set_slice(env::Slice::kShort);
      held->run();
    });
    pthread_setname_np(impl_->threads.back().native_handle(), fmt::format("cairn-io-{}", loop->index()).c_str());
  }
}

void Server::stop(int64_t grace_ns) {
  if (!impl_->running) return;
  impl_->running = impl_->listening = impl_->early_is_open = false;
  Loop* const first = impl_->loops.front().get();
  std::atomic<bool> listening{true};
  first->post([this, &listening] {
    impl_->listeners.clear();
    listening.store(false);
  });
  while (listening.load()) std::this_thread::sleep_for(kDrainLook);
  if (impl_->handshakes != nullptr) impl_->handshakes->stop();
  if (grace_ns > 0) {
    for (const auto& loop : impl_->loops) loop->post([held = loop.get()] { held->drain_connections(); });
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::nanoseconds(grace_ns);
    while (impl_->open_connections() != 0 && std::chrono::steady_clock::now() < deadline) {
      std::this_thread::sleep_for(kDrainLook);
    }
  }
  for (const auto& loop : impl_->loops) loop->stop();
  for (std::thread& thread : impl_->threads) thread.join();
  impl_->threads.clear();
}

ServerStats Server::stats() const {
  ServerStats stats;
  for (const auto& loop : impl_->loops) stats.add(loop->counters());
  return stats;
}

}  // namespace cairn::net
