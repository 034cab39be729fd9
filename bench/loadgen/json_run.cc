#include "loadgen/json_run.h"

#include <charconv>
#include <string>
#include <string_view>
#include <vector>

#include <cerrno>

#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "loadgen/endpoint.h"

namespace cairn::bench {
namespace {

constexpr size_t kReadBytes = 64 * 1024;

std::string base64(std::string_view bytes) {
  constexpr std::string_view kLetters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  for (size_t at = 0; at < bytes.size(); at += 3) {
    uint32_t group = 0;
    for (size_t i = 0; i < 3; ++i)
      group = group << 8 | (at + i < bytes.size() ? static_cast<uint8_t>(bytes[at + i]) : 0u);
    for (unsigned i = 0; i < 4; ++i) out += at + i <= bytes.size() ? kLetters[group >> (18 - 6 * i) & 63] : '=';
  }
  return out;
}

std::string request_of(const LoadOptions& options) {
  const std::string key = base64(options.prefix + "0000000000");
  const bool is_put = options.workload == "json-put";
  const std::string body =
      is_put ? fmt::format(R"({{"key":"{}","value":"{}"}})", key, base64(std::string(options.value_bytes, 'v')))
             : fmt::format(R"({{"key":"{}","serializable":{}}})", key, options.serializable);
  return fmt::format(
      "POST /v3/kv/{} HTTP/1.1\r\nHost: {}:{}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{}",
      is_put ? "put" : "range", options.host, options.port, body.size(), body);
}

// How long the answer at the front is; 0: not whole yet.
Result<size_t> answer_bytes(std::string_view in) {
  const size_t end = in.find("\r\n\r\n");
  if (end == std::string_view::npos) return 0;
  constexpr std::string_view kLength = "\r\nContent-Length: ";
  const size_t at = in.substr(0, end).find(kLength);
  size_t length = 0;
  if (!in.starts_with("HTTP/1.1 ") || at == std::string_view::npos) {
    return fail(Code::kDataLoss, "loadgen: an answer that is not HTTP with a length: {}", in.substr(0, end));
  }
  std::from_chars(in.data() + at + kLength.size(), in.data() + end, length);
  const size_t whole = end + 4 + length;
  return in.size() < whole ? 0 : whole;
}

uint64_t cpu_ns() {
  timespec now{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

struct Connection {
  net::ClientSocket socket;
  std::string in = {};
  uint64_t begin_ns = 0;
};

class Run {
 public:
  explicit Run(const LoadOptions& options)
      : options_(options), request_(request_of(options)), figures_(std::make_unique<Figures>()) {}
  ~Run() {
    connections_.clear();
    if (epoll_fd_ >= 0) ::close(epoll_fd_);
  }
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;

  Result<std::unique_ptr<Figures>> run() {
    CAIRN_CHECK(connect_all());
    figures_->begin_ns = now_ns();
    const uint64_t cpu_before = cpu_ns();
    for (Connection& connection : connections_) CAIRN_CHECK(ask(connection));
    while (open_ > 0) {
      epoll_event events[64];
      const int count = ::epoll_wait(epoll_fd_, events, 64, static_cast<int>(options_.timeout_seconds * 1000));
      if (count <= 0) return fail(Code::kDeadlineExceeded, "loadgen: no answer in {} s", options_.timeout_seconds);
      for (int i = 0; i < count; ++i) CAIRN_CHECK(read(connections_[events[i].data.u32]));
    }
    figures_->end_ns = now_ns();
    figures_->cpu_ns = cpu_ns() - cpu_before;
    return std::move(figures_);
  }

 private:
  Status connect_all() {
    CAIRN_TRY(tls_, client_tls(options_, "http/1.1"));
    epoll_fd_ = ::epoll_create1(EPOLL_CLOEXEC);
    connections_.reserve(size_t{options_.connections} * options_.streams);
    for (uint32_t i = 0; i < options_.connections * options_.streams; ++i) {
      CAIRN_TRY(net::ClientSocket socket, net::connect_socket(address_of(options_), tls_.get(), false));
      epoll_event event{.events = EPOLLIN, .data = {.u32 = i}};
      ::epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, socket.fd(), &event);
      connections_.push_back({.socket = std::move(socket)});
    }
    return {};
  }

  [[nodiscard]] bool may_begin() const {
    if (options_.requests != 0 && begun_ >= options_.requests) return false;
    return options_.seconds <= 0 ||
           static_cast<double>(now_ns() - figures_->begin_ns) < options_.seconds * 1'000'000'000;
  }

  Status ask(Connection& connection) {
    if (!may_begin()) return {};
    ++begun_;
    ++open_;
    connection.begin_ns = now_ns();
    // A request is far shorter than a socket's buffer.
    if (connection.socket.write(request_) == static_cast<ssize_t>(request_.size())) return {};
    return fail(Code::kUnavailable, "loadgen: the connection takes no request");
  }

  Status read(Connection& connection) {
    static char buffer[kReadBytes];
    const ssize_t bytes = connection.socket.read(buffer, sizeof buffer);
    if (bytes < 0 && errno == EAGAIN) return {};  // a part of a record, or a ticket
    if (bytes <= 0) return fail(Code::kUnavailable, "loadgen: the connection was closed");
    connection.in.append(buffer, static_cast<size_t>(bytes));
    CAIRN_TRY(const size_t whole, answer_bytes(connection.in));
    if (whole == 0) return connection.socket.has_unread() ? read(connection) : Status{};
    const uint64_t now = now_ns();
    --open_;
    if (connection.in.starts_with("HTTP/1.1 200 ")) {
      if (figures_->good++ == 0) figures_->first_good_ns = now;
      figures_->latency_us.add((now - connection.begin_ns) / 1000);
      figures_->body_bytes += whole;
    } else {
      int status = 0;
      std::from_chars(connection.in.data() + 9, connection.in.data() + 12, status);
      ++figures_->errors[status];
    }
    connection.in.erase(0, whole);
    return ask(connection);
  }

  const LoadOptions& options_;
  const std::string request_;
  std::unique_ptr<Figures> figures_;
  std::unique_ptr<net::ClientTls> tls_;
  std::vector<Connection> connections_;
  int epoll_fd_ = -1;
  uint64_t begun_ = 0;
  uint64_t open_ = 0;
};

}  // namespace

Result<std::unique_ptr<Figures>> run_json(const LoadOptions& options) { return Run(options).run(); }

}  // namespace cairn::bench
