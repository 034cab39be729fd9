#include "net/server.h"

#include <chrono>
#include <thread>

#include <pthread.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "net/connection.h"
#include "net/listener.h"
#include "net/loop.h"

namespace cairn::net {
namespace {

constexpr auto kDrainLook = std::chrono::milliseconds(1);

}  // namespace

struct Server::Impl {
  ServerOptions options;
  Router* router;
  HttpHandler* http;
  std::vector<std::shared_ptr<Loop>> loops;
  std::vector<EventLoop*> loop_pointers;
  std::vector<std::unique_ptr<Listener>> listeners;  // belong to loop 0's thread once it runs
  std::vector<std::thread> threads;
  size_t next_loop = 0;  // loop 0's thread
  bool running = false;

  void accepted(int fd, Services services) {
    const std::shared_ptr<Loop>& target = loops[next_loop++ % loops.size()];
    if (target == loops.front()) {
      target->adopt(std::make_unique<Connection>(*target, fd, options, services));
      return;
    }
    // The descriptor is closed also when the task never runs.
    const auto guard = std::shared_ptr<int>(new int(fd), [](int* held) {
      if (*held >= 0) ::close(*held);
      delete held;
    });
    Loop* const loop = target.get();
    target->post([this, loop, guard, services] {
      loop->adopt(std::make_unique<Connection>(*loop, std::exchange(*guard, -1), options, services));
    });
  }

  [[nodiscard]] uint64_t open_connections() const {
    uint64_t open = 0;
    for (const auto& loop : loops) open += loop->counters().connections_open.get();
    return open;
  }
};

Server::Server(ServerOptions options, Router* router, HttpHandler* http) : impl_(std::make_unique<Impl>()) {
  CAIRN_ASSERT(options.io_threads > 0);
  impl_->options = std::move(options);
  impl_->router = router;
  impl_->http = http;
  for (unsigned i = 0; i < impl_->options.io_threads; ++i) {
    impl_->loops.push_back(std::make_shared<Loop>(i));
    impl_->loop_pointers.push_back(impl_->loops.back().get());
  }
}

Server::~Server() { stop(0); }

std::span<EventLoop* const> Server::loops() const { return impl_->loop_pointers; }

Result<std::vector<std::string>> Server::start() {
  CAIRN_ASSERT(!impl_->running);
  std::vector<std::string> addresses;
  std::vector<std::unique_ptr<Listener>> listeners;
  for (const Listen& listen : impl_->options.listen) {
    BoundSocket socket{.fd = listen.fd, .address = listen.address};
    if (socket.fd < 0) {
      CAIRN_TRY(socket, listen_on(listen.address));
    }
    const Services services{
        .router = listen.grpc ? impl_->router : nullptr,
        .http = !listen.http ? nullptr : (listen.http_handler != nullptr ? listen.http_handler : impl_->http)};
    listeners.push_back(std::make_unique<Listener>(
        *impl_->loops.front(), socket.fd, [impl = impl_.get(), services](int fd) { impl->accepted(fd, services); }));
    addresses.push_back(socket.address);
  }
  impl_->listeners = std::move(listeners);
  impl_->running = true;
  for (const auto& loop : impl_->loops) {
    impl_->threads.emplace_back([held = loop.get()] { held->run(); });
    pthread_setname_np(impl_->threads.back().native_handle(), fmt::format("cairn-io-{}", loop->index()).c_str());
  }
  return addresses;
}

void Server::stop(int64_t grace_ns) {
  if (!impl_->running) return;
  impl_->running = false;
  Loop* const first = impl_->loops.front().get();
  std::atomic<bool> listening{true};
  first->post([this, &listening] {
    impl_->listeners.clear();
    listening.store(false);
  });
  while (listening.load()) std::this_thread::sleep_for(kDrainLook);
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
