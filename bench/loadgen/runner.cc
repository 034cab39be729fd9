#include "loadgen/runner.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <ctime>

#include <sys/epoll.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/check.h"
#include "loadgen/endpoint.h"

namespace cairn::bench {
namespace {

constexpr size_t kPrefixBytes = 5;  // gRPC: compressed flag, length
constexpr int kEventsMax = 64;

uint64_t cpu_ns() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto ns = [](const timeval& time) {
    return static_cast<uint64_t>(time.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(time.tv_usec) * 1000;
  };
  return ns(usage.ru_utime) + ns(usage.ru_stime);
}

// Set by SIGINT: no further requests, the open ones end, the figures are printed.
volatile std::sig_atomic_t interrupted = 0;

struct FileDescriptor {
  int fd;
  ~FileDescriptor() { close(fd); }
};

}  // namespace

uint64_t now_ns() {
  timespec time{};
  clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<uint64_t>(time.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(time.tv_nsec);
}

Status Runner::connect_all(int epoll_fd) {
  connections_.resize(options_.connections);
  CAIRN_TRY(tls_, client_tls(options_, "h2"));
  net::Http2Channel::Options options{.address = address_of(options_),
                                     .streams_max = options_.streams,
                                     .window_bytes = options_.window_bytes,
                                     .tls = tls_.get()};
  if (!options_.token.empty()) options.metadata.emplace_back("token", options_.token);
  for (Connection& connection : connections_) {
    CAIRN_TRY(connection.client, net::Http2Channel::connect(options));
    connection.calls.resize(options_.streams);
    for (uint32_t slot = 0; slot < options_.streams; ++slot) connection.free_calls.push_back(slot);
    epoll_event event{.events = EPOLLIN, .data = {.ptr = &connection}};
    CAIRN_ASSERT(epoll_ctl(epoll_fd, EPOLL_CTL_ADD, connection.client->fd(), &event) == 0);
  }
  return {};
}

// Whether a further request is due now.
bool Runner::may_begin(uint64_t now) const {
  if (interrupted != 0) return false;
  if (options_.requests != 0 && begun_ >= options_.requests) return false;
  if (options_.seconds > 0 && now >= figures_->end_ns) return false;
  if (options_.rate > 0) {
    const auto due_ns = static_cast<uint64_t>(static_cast<double>(begun_) * 1e9 / options_.rate);
    if (now < figures_->begin_ns + due_ns) return false;
  }
  return true;
}

// False when flow control forbids it.
bool Runner::begin_call(Connection& connection, uint32_t slot, bool next_page, uint64_t begin_ns) {
  Call& call = connection.calls[slot];
  if (!next_page) call.number = begun_;
  message_.assign(kPrefixBytes, '\0');
  workload_.build(call.number, call.state, message_);
  store_be32(message_.data() + 1, static_cast<uint32_t>(message_.size() - kPrefixBytes));
  if (!connection.client->can_send(message_.size())) return false;
  connection.client->call(slot, workload_.path(call.state), message_);
  call.begin_ns = begin_ns;
  call.body.clear();
  if (!next_page) ++begun_;
  ++open_;
  return true;
}

// Opens as many calls as may be open, and writes.
Status Runner::fill(Connection& connection, int epoll_fd) {
  const uint64_t now = now_ns();
  // A random order must not lose keys to a request that flow control sends back: ask before building.
  const size_t body_bytes_max = kPrefixBytes + 64 + 3 * (options_.prefix.size() + 32) + options_.value_bytes;
  while (!connection.next_pages.empty() && connection.client->can_send(body_bytes_max)) {
    const uint32_t slot = connection.next_pages.back();
    if (!begin_call(connection, slot, true, now)) break;
    connection.next_pages.pop_back();
  }
  while (!connection.free_calls.empty() && may_begin(now) && connection.client->can_send(body_bytes_max)) {
    uint64_t begin_ns = now;
    if (options_.rate > 0) {
      begin_ns = figures_->begin_ns + static_cast<uint64_t>(static_cast<double>(begun_) * 1e9 / options_.rate);
    }
    const uint32_t slot = connection.free_calls.back();
    if (!begin_call(connection, slot, false, begin_ns)) break;
    connection.free_calls.pop_back();
  }
  CAIRN_TRY(const bool wants_out, connection.client->flush());
  if (wants_out != connection.wants_out) {
    connection.wants_out = wants_out;
    epoll_event event{.events = EPOLLIN | (wants_out ? uint32_t{EPOLLOUT} : 0u), .data = {.ptr = &connection}};
    CAIRN_ASSERT(epoll_ctl(epoll_fd, EPOLL_CTL_MOD, connection.client->fd(), &event) == 0);
  }
  return {};
}

int Runner::wait_ms(uint64_t now) const {
  auto timeout = static_cast<int>(options_.timeout_seconds * 1000);
  if (options_.rate > 0 && (options_.requests == 0 || begun_ < options_.requests)) timeout = 1;
  if (options_.seconds > 0 && open_ == 0) {
    timeout = std::min(timeout, static_cast<int>((figures_->end_ns - std::min(now, figures_->end_ns)) / 1'000'000 + 1));
  }
  return timeout;
}

Result<std::unique_ptr<Figures>> Runner::run() {
  const FileDescriptor epoll{epoll_create1(EPOLL_CLOEXEC)};
  CAIRN_CHECK(connect_all(epoll.fd));
  std::signal(SIGINT, [](int) { interrupted = 1; });
  figures_ = std::make_unique<Figures>();
  const uint64_t cpu_begin_ns = cpu_ns();
  figures_->begin_ns = now_ns();
  if (options_.seconds > 0) {
    figures_->end_ns = figures_->begin_ns + static_cast<uint64_t>(options_.seconds * 1e9);
  }
  uint64_t last_answer_ns = figures_->begin_ns;
  for (Connection& connection : connections_) CAIRN_CHECK(fill(connection, epoll.fd));

  std::vector<epoll_event> events(kEventsMax);
  size_t next_to_fill = 0;
  while (true) {
    const uint64_t now = now_ns();
    const bool all_begun = interrupted != 0 || (options_.requests != 0 && begun_ >= options_.requests) ||
                           (options_.seconds > 0 && now >= figures_->end_ns);
    const bool lists_go_on = std::any_of(connections_.begin(), connections_.end(),
                                         [](const Connection& c) { return !c.next_pages.empty(); });
    if (all_begun && open_ == 0 && !lists_go_on) break;
    const int count = epoll_wait(epoll.fd, events.data(), kEventsMax, wait_ms(now));
    if (count < 0 && errno != EINTR) return fail_errno(errno, "loadgen: epoll_wait");
    for (int i = 0; i < count; ++i) {
      current_ = static_cast<Connection*>(events[static_cast<size_t>(i)].data.ptr);
      if ((events[static_cast<size_t>(i)].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) {
        received_ns_ = last_answer_ns = now_ns();
        CAIRN_CHECK(current_->client->receive(*this));
      }
      CAIRN_CHECK(fill(*current_, epoll.fd));
    }
    if (options_.rate > 0) {  // what is due goes to the connections in turn
      for (size_t i = 0; i < connections_.size() && may_begin(now_ns()); ++i) {
        CAIRN_CHECK(fill(connections_[next_to_fill++ % connections_.size()], epoll.fd));
      }
    }
    if (open_ > 0 && static_cast<double>(now_ns() - last_answer_ns) > options_.timeout_seconds * 1e9) {
      return fail(Code::kDeadlineExceeded, "loadgen: no answer for {} s, {} calls open", options_.timeout_seconds,
                  open_);
    }
  }
  figures_->end_ns = received_ns_ != 0 ? received_ns_ : now_ns();
  figures_->cpu_ns = cpu_ns() - cpu_begin_ns;
  figures_->keys_seen = workload_.keys_seen();
  return std::move(figures_);
}

void Runner::on_data(uint32_t slot, std::string_view bytes) {
  figures_->body_bytes += bytes.size();
  if (workload_.needs_answer()) current_->calls[slot].body.append(bytes);
}

void Runner::on_end(uint32_t slot, int grpc_status) {
  Call& call = current_->calls[slot];
  --open_;
  if (grpc_status != 0) {
    ++figures_->errors[grpc_status];
    call.state = {};
    current_->free_calls.push_back(slot);
    return;
  }
  const uint64_t done_ns = received_ns_;
  ++figures_->good;
  if (figures_->first_good_ns == 0) figures_->first_good_ns = done_ns;
  record(done_ns > call.begin_ns ? done_ns - call.begin_ns : 0, done_ns);

  const std::string_view body = call.body;
  const bool whole = !workload_.needs_answer() || body.size() < kPrefixBytes ||
                     workload_.on_answer(body.substr(kPrefixBytes), call.state);
  if (whole) {
    ++figures_->lists;
    current_->free_calls.push_back(slot);
  } else {
    current_->next_pages.push_back(slot);
  }
}

void Runner::record(uint64_t latency_ns, uint64_t now) {
  const uint64_t latency_us = (latency_ns + 500) / 1000;
  figures_->latency_us.add(latency_us);
  if (options_.interval_ms == 0) return;
  auto& intervals = figures_->intervals;
  const uint64_t length_ns = uint64_t{options_.interval_ms} * 1'000'000;
  while (intervals.empty() || now >= intervals.back()->end_ns) {
    const uint64_t begin_ns = intervals.empty() ? figures_->begin_ns : intervals.back()->end_ns;
    intervals.push_back(std::make_unique<Interval>());
    intervals.back()->end_ns = begin_ns + length_ns;
  }
  intervals.back()->latency_us.add(latency_us);
}

}  // namespace cairn::bench
