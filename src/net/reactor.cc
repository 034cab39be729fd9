#include "net/reactor.h"

#include <chrono>
#include <utility>
#include <vector>

#include <unistd.h>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>

namespace cairn::net {
namespace {

namespace asio = boost::asio;
using Stream = asio::posix::stream_descriptor;

// Shared with asio, which may hold it longer than the descriptor's owner lives.
struct Watched {
  explicit Watched(asio::io_context& context) : stream(context) {}
  Stream stream;
  int fd = -1;
  Reactor::Handler* handler = nullptr;  // null: nobody listens any more
  bool waits_readable = false;
  bool waits_writable = false;
};

// What asio has reported and no handler has heard yet.
struct Event {
  std::shared_ptr<Watched> watched;
  bool is_readable = false;
};

class WatchedDescriptor final : public Reactor::Descriptor {
 public:
  WatchedDescriptor(std::shared_ptr<Watched> watched, std::vector<Event>& ready)
      : watched_(std::move(watched)), ready_(ready) {}
  ~WatchedDescriptor() override {
    watched_->handler = nullptr;
    boost::system::error_code ignored;
    watched_->stream.close(ignored);
  }

  int fd() const override { return watched_->fd; }

  int release() override {
    watched_->handler = nullptr;
    return watched_->stream.release();
  }

  void wait_readable() override {
    if (std::exchange(watched_->waits_readable, true)) return;
    watched_->stream.async_wait(Stream::wait_read, [watched = watched_, &ready = ready_](const auto&) mutable {
      ready.push_back({std::move(watched), true});
    });
  }

  void wait_writable() override {
    if (std::exchange(watched_->waits_writable, true)) return;
    watched_->stream.async_wait(Stream::wait_write, [watched = watched_, &ready = ready_](const auto&) mutable {
      ready.push_back({std::move(watched), false});
    });
  }

 private:
  std::shared_ptr<Watched> watched_;
  std::vector<Event>& ready_;
};

}  // namespace

struct Reactor::Impl {
  // The scheduler keeps its lock, because wake() posts from other threads; the descriptors need none.
  asio::io_context context{BOOST_ASIO_CONCURRENCY_HINT_UNSAFE_IO};
  asio::executor_work_guard<asio::io_context::executor_type> work{context.get_executor()};
  // Behind the context: what they hold belongs to it.
  std::vector<Event> ready;
  std::vector<Event> running;
};

Reactor::Reactor() : impl_(std::make_unique<Impl>()) {}
Reactor::~Reactor() = default;

Result<std::unique_ptr<Reactor::Descriptor>> Reactor::watch(int fd, Handler& handler) {
  auto watched = std::make_shared<Watched>(impl_->context);
  boost::system::error_code error;
  watched->stream.assign(fd, error);
  if (error) {
    ::close(fd);
    return fail(Code::kUnavailable, "net: watch: {}", error.message());
  }
  watched->fd = fd;
  watched->handler = &handler;
  return std::make_unique<WatchedDescriptor>(std::move(watched), impl_->ready);
}

size_t Reactor::poll() {
  impl_->context.poll();
  impl_->running.swap(impl_->ready);
  for (const Event& event : impl_->running) {
    (event.is_readable ? event.watched->waits_readable : event.watched->waits_writable) = false;
    if (event.watched->handler == nullptr) continue;
    event.is_readable ? event.watched->handler->on_readable() : event.watched->handler->on_writable();
  }
  const size_t ran = impl_->running.size();
  impl_->running.clear();
  return ran;
}

void Reactor::wait(int64_t timeout_ns) {
  if (!impl_->ready.empty()) return;
  if (timeout_ns < 0) {
    impl_->context.run_one();
  } else {
    impl_->context.run_one_for(std::chrono::nanoseconds(timeout_ns));
  }
}

void Reactor::wake() {
  asio::post(impl_->context, [] {});
}

}  // namespace cairn::net
