#include "net/reactor.h"

#include <chrono>

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>

namespace cairn::net {
namespace {

namespace asio = boost::asio;
using Stream = asio::posix::stream_descriptor;

class WatchedDescriptor final : public Reactor::Descriptor {
 public:
  WatchedDescriptor(asio::io_context& context, int fd, Reactor::Handler& handler)
      : state_(std::make_shared<State>(context, fd, handler)) {}
  ~WatchedDescriptor() override {
    state_->handler = nullptr;  // what asio still holds for us finds nobody
    boost::system::error_code ignored;
    state_->stream.close(ignored);
  }

  int fd() const override { return state_->fd; }

  void wait_readable() override {
    if (state_->waits_readable) return;
    state_->waits_readable = true;
    state_->stream.async_wait(Stream::wait_read, [state = state_](const boost::system::error_code&) {
      state->waits_readable = false;
      if (state->handler != nullptr) state->handler->on_readable();
    });
  }

  void wait_writable() override {
    if (state_->waits_writable) return;
    state_->waits_writable = true;
    state_->stream.async_wait(Stream::wait_write, [state = state_](const boost::system::error_code&) {
      state->waits_writable = false;
      if (state->handler != nullptr) state->handler->on_writable();
    });
  }

 private:
  struct State {
    State(asio::io_context& context, int descriptor, Reactor::Handler& h)
        : stream(context, descriptor), fd(descriptor), handler(&h) {}
    Stream stream;
    int fd;
    Reactor::Handler* handler;
    bool waits_readable = false;
    bool waits_writable = false;
  };
  std::shared_ptr<State> state_;
};

}  // namespace

struct Reactor::Impl {
  // The scheduler keeps its lock, because wake() posts from other threads; the descriptors need none.
  asio::io_context context{BOOST_ASIO_CONCURRENCY_HINT_UNSAFE_IO};
  asio::executor_work_guard<asio::io_context::executor_type> work{context.get_executor()};
};

Reactor::Reactor() : impl_(std::make_unique<Impl>()) {}
Reactor::~Reactor() = default;

std::unique_ptr<Reactor::Descriptor> Reactor::watch(int fd, Handler& handler) {
  return std::make_unique<WatchedDescriptor>(impl_->context, fd, handler);
}

size_t Reactor::poll() { return impl_->context.poll(); }

void Reactor::wait(int64_t timeout_ns) {
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
