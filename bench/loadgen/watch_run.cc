#include "loadgen/watch_run.h"

#include <algorithm>
#include <cstring>
#include <fstream>
#include <sstream>

#include <poll.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/check.h"
#include "base/wire.h"
#include "loadgen/endpoint.h"
#include "loadgen/runner.h"
#include "net/http2/framing.h"

namespace cairn::bench {
namespace {

constexpr std::string_view kWatchPath = "/etcdserverpb.Watch/Watch";
constexpr std::string_view kPutPath = "/etcdserverpb.KV/Put";
constexpr int kEventsMax = 64;

double own_cpu_seconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto of = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
  };
  return of(usage.ru_utime) + of(usage.ru_stime);
}

// 0 without a pid.
double cpu_seconds_of(uint64_t pid) {
  std::ifstream in(fmt::format("/proc/{}/stat", pid));
  std::string line;
  if (pid == 0 || !std::getline(in, line)) return 0;
  std::istringstream rest(line.substr(line.rfind(')') + 2));
  std::string skipped;
  for (int field = 3; field < 14; ++field) rest >> skipped;
  double user = 0;
  double system = 0;
  rest >> user >> system;
  return (user + system) / static_cast<double>(sysconf(_SC_CLK_TCK));
}

uint64_t anonymous_kb_of(uint64_t pid) {
  std::ifstream in(fmt::format("/proc/{}/smaps_rollup", pid));
  for (std::string line; pid != 0 && std::getline(in, line);) {
    if (line.starts_with("Anonymous:")) return std::stoull(line.substr(10));
  }
  return 0;
}

void append_message(std::string& out, std::string_view message) {
  char prefix[net::kPrefixBytes];
  net::write_prefix(prefix, static_cast<uint32_t>(message.size()));
  out.append(prefix, sizeof prefix);
  out.append(message);
}

class WatchRun : private net::ResponseSink {
 public:
  explicit WatchRun(const LoadOptions& options) : options_(options) {}

  Result<std::unique_ptr<WatchFigures>> run() {
    epoll_fd_ = epoll_create1(EPOLL_CLOEXEC);
    figures_ = std::make_unique<WatchFigures>();
    const uint64_t began_ns = now_ns();
    CAIRN_CHECK(connect_all());
    CAIRN_CHECK(turn_until([this] { return created_ == options_.watchers; }));
    figures_->watchers = created_;
    figures_->setup_seconds = since(began_ns);
    figures_->server_anon_kb = anonymous_kb_of(options_.server_pid);
    CAIRN_CHECK(put_all());
    ::close(epoll_fd_);
    return std::move(figures_);
  }

 private:
  struct Connection {
    std::unique_ptr<net::Http2Channel> client;
    std::vector<net::Deframer> deframers;  // by slot
    bool wants_out = false;
  };

  static double since(uint64_t ns) { return static_cast<double>(now_ns() - ns) / 1e9; }

  std::string key_of(uint64_t number) const { return fmt::format("{}{:010}", options_.prefix, number % options_.keys); }

  std::string create_of(uint64_t watcher) const {
    std::string create;
    if (options_.watch_prefix) {
      std::string end = options_.prefix;
      ++end.back();
      wire::append_bytes_field(create, 1, options_.prefix);
      wire::append_bytes_field(create, 2, end);
    } else {
      wire::append_bytes_field(create, 1, key_of(watcher));
    }
    if (options_.prev_kv) wire::append_varint_field(create, 6, 1);
    std::string request;
    wire::append_bytes_field(request, 1, create);
    return request;
  }

  // The last connection is the writer's.
  Status connect_all() {
    connections_.resize(options_.connections + 1);
    CAIRN_TRY(tls_, client_tls(options_, "h2"));
    uint64_t watcher = 0;
    for (size_t i = 0; i < connections_.size(); ++i) {
      Connection& connection = connections_[i];
      const bool writes = i + 1 == connections_.size();
      CAIRN_TRY(connection.client, net::Http2Channel::connect({.address = address_of(options_),
                                                               .streams_max = options_.streams,
                                                               .window_bytes = options_.window_bytes,
                                                               .tls = tls_.get()}));
      connection.deframers.resize(options_.streams, net::Deframer(UINT32_MAX));
      epoll_event event{.events = EPOLLIN, .data = {.u64 = i}};
      CAIRN_ASSERT(epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, connection.client->fd(), &event) == 0);
      for (uint32_t slot = 0; slot < options_.streams && !writes; ++slot) {
        const uint64_t stream = i * options_.streams + slot;
        const uint64_t end = options_.watchers * (stream + 1) / (uint64_t{options_.connections} * options_.streams);
        std::string body;
        for (; watcher < end; ++watcher) append_message(body, create_of(watcher));
        if (body.empty()) continue;
        CAIRN_CHECK(turn_until([&] { return connection.client->can_send(body.size()); }));
        connection.client->call(slot, kWatchPath, body);
        CAIRN_CHECK(flush(connection));
      }
    }
    return {};
  }

  Status flush(Connection& connection) {
    CAIRN_TRY(const bool wants_out, connection.client->flush());
    if (wants_out == std::exchange(connection.wants_out, wants_out)) return {};
    epoll_event event{.events = EPOLLIN | (wants_out ? uint32_t{EPOLLOUT} : 0u),
                      .data = {.u64 = static_cast<uint64_t>(&connection - connections_.data())}};
    CAIRN_ASSERT(epoll_ctl(epoll_fd_, EPOLL_CTL_MOD, connection.client->fd(), &event) == 0);
    return {};
  }

  template <class Done>
  Status turn_until(const Done& done, int timeout_ms = 1000) {
    uint64_t last_ns = now_ns();
    while (!done()) {
      epoll_event events[kEventsMax];
      const int count = epoll_wait(epoll_fd_, events, kEventsMax, timeout_ms);
      for (int i = 0; i < count; ++i) {
        current_ = &connections_[events[i].data.u64];
        received_ns_ = last_ns = now_ns();
        if ((events[i].events & ~uint32_t{EPOLLOUT}) != 0) CAIRN_CHECK(current_->client->receive(*this));
        CAIRN_CHECK(flush(*current_));
      }
      if (since(last_ns) > options_.timeout_seconds) {
        return fail(Code::kDeadlineExceeded, "loadgen: {} watchers created, {} events of {} puts, and nothing comes",
                    created_, figures_->events, figures_->puts);
      }
    }
    return {};
  }

  Status put_all() {
    const double cpu = own_cpu_seconds();
    const double server_cpu = cpu_seconds_of(options_.server_pid);
    const uint64_t began_ns = now_ns();
    uint64_t expected = 0;
    while ((options_.requests == 0 || figures_->puts < options_.requests) &&
           (options_.seconds <= 0 || since(began_ns) < options_.seconds)) {
      if (options_.rate > 0) {
        const uint64_t due_ns =
            began_ns + static_cast<uint64_t>(static_cast<double>(figures_->puts) * 1e9 / options_.rate);
        CAIRN_CHECK(turn_until([&] { return now_ns() >= due_ns; }, 1));
      }
      CAIRN_CHECK(turn_until([this] { return !put_is_open_; }));
      CAIRN_CHECK(put());
      expected += watchers_of(figures_->puts - 1);
      if (options_.rate <= 0) {
        CAIRN_CHECK(turn_until([&] { return !put_is_open_ && figures_->events >= expected; }));
      }
    }
    CAIRN_CHECK(turn_until([&] { return !put_is_open_ && figures_->events >= expected; }));
    figures_->seconds = since(began_ns);
    figures_->cpu_seconds = own_cpu_seconds() - cpu;
    figures_->server_cpu_seconds = cpu_seconds_of(options_.server_pid) - server_cpu;
    return {};
  }
  [[nodiscard]] uint64_t watchers_of(uint64_t put) const {
    if (options_.watch_prefix) return options_.watchers;
    const uint64_t key = put % options_.keys;
    return options_.watchers / options_.keys + (key < options_.watchers % options_.keys ? 1 : 0);
  }

  Status put() {
    std::string value(std::max<size_t>(options_.value_bytes, 8), 'v');
    put_began_ns_ = now_ns();
    std::memcpy(value.data(), &put_began_ns_, sizeof put_began_ns_);
    std::string message;
    wire::append_bytes_field(message, 1, key_of(figures_->puts));
    wire::append_bytes_field(message, 2, value);
    std::string body;
    append_message(body, message);
    Connection& writer = connections_.back();
    CAIRN_CHECK(turn_until([&] { return writer.client->can_send(body.size()); }));
    writer.client->call(0, kPutPath, body);
    put_is_open_ = true;
    ++figures_->puts;
    return flush(writer);
  }

  void on_data(uint32_t slot, std::string_view bytes) override {
    if (current_ == &connections_.back()) return;
    while (true) {
      const auto frame = current_->deframers[slot].next(bytes);
      if (frame.outcome != net::Deframer::Outcome::kMessage) return;
      on_response(frame.message);
    }
  }
  void on_end(uint32_t, int grpc_status) override {
    if (current_ != &connections_.back() || grpc_status != 0) {
      fmt::print(stderr, "loadgen: a call ended with {}\n", grpc_status);
      std::exit(1);
    }
    put_is_open_ = false;
    figures_->put_us.add((received_ns_ - put_began_ns_ + 500) / 1000);
  }

  void on_response(std::string_view message) {
    ++figures_->responses;
    wire::Reader response(message);
    while (response.next()) {
      if (response.field() == 3) ++created_;
      if (response.field() == 11) on_event(response.bytes());
    }
  }
  void on_event(std::string_view bytes) {
    ++figures_->events;
    wire::Reader event(bytes);
    while (event.next()) {
      if (event.field() != 2) continue;
      wire::Reader kv(event.bytes());
      while (kv.next()) {
        if (kv.field() != 5 || kv.bytes().size() < sizeof(uint64_t)) continue;
        uint64_t put_ns = 0;
        std::memcpy(&put_ns, kv.bytes().data(), sizeof put_ns);
        figures_->event_us.add((received_ns_ - std::min(put_ns, received_ns_) + 500) / 1000);
      }
    }
  }

  const LoadOptions& options_;
  int epoll_fd_ = -1;
  std::unique_ptr<net::ClientTls> tls_;
  std::vector<Connection> connections_;
  Connection* current_ = nullptr;  // whose answers are being read
  std::unique_ptr<WatchFigures> figures_;
  uint64_t created_ = 0;
  uint64_t received_ns_ = 0;
  uint64_t put_began_ns_ = 0;
  bool put_is_open_ = false;
};

std::string latency_json(const Histogram& latency_us) {
  return fmt::format(R"({{"p50":{},"p99":{},"max":{},"mean":{:.1f}}})", latency_us.percentile(0.5),
                     latency_us.percentile(0.99), latency_us.max(), latency_us.mean());
}

}  // namespace

Result<std::unique_ptr<WatchFigures>> run_watch(const LoadOptions& options) { return WatchRun(options).run(); }

std::string to_json(const WatchFigures& f) {
  const auto events = static_cast<double>(std::max<uint64_t>(f.events, 1));
  return fmt::format(
      R"({{"workload":"watch","watchers":{},"setup_seconds":{:.3f},"server_anon_mb":{:.1f},"seconds":{:.3f},"puts":{},)"
      R"("events":{},"responses":{},"events_per_s":{:.0f},"server_cpu_us_per_event":{:.3f},"cpu_us_per_event":{:.3f},)"
      R"("cpu_share":{:.3f},"event_us":{},"put_us":{}}})",
      f.watchers, f.setup_seconds, static_cast<double>(f.server_anon_kb) / 1024, f.seconds, f.puts, f.events,
      f.responses, events / f.seconds, f.server_cpu_seconds * 1e6 / events, f.cpu_seconds * 1e6 / events,
      f.cpu_seconds / f.seconds, latency_json(f.event_us), latency_json(f.put_us));
}

}  // namespace cairn::bench
