#include "loadgen/handshake_run.h"

#include <cerrno>
#include <charconv>
#include <cstring>
#include <optional>
#include <string_view>
#include <vector>

#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "loadgen/endpoint.h"
#include "net/client/dial.h"

namespace cairn::bench {
namespace {

using Outcome = net::ClientSocket::Outcome;

constexpr std::string_view kRequest = "GET /version HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
constexpr size_t kAnswerBytes = 16 * 1024;
constexpr std::string_view kVersion = "HTTP/1.1 ";

uint64_t cpu_ns() {
  timespec now{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

class Run {
 public:
  explicit Run(const LoadOptions& options)
      : options_(options), address_(address_of(options)), figures_(std::make_unique<Figures>()) {}
  ~Run() {
    connections_.clear();
    if (epoll_fd_ >= 0) ::close(epoll_fd_);
  }
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;

  Result<std::unique_ptr<Figures>> run() {
    CAIRN_TRY(tls_, client_tls(options_, "http/1.1"));
    epoll_fd_ = ::epoll_create1(EPOLL_CLOEXEC);
    connections_.resize(options_.connections);
    figures_->begin_ns = now_ns();
    const uint64_t cpu_before = cpu_ns();
    for (uint32_t i = 0; i < options_.connections; ++i) CAIRN_CHECK(begin(i));
    while (open_ > 0) {
      epoll_event events[64];
      const int count = ::epoll_wait(epoll_fd_, events, 64, static_cast<int>(options_.timeout_seconds * 1000));
      if (count <= 0) return fail(Code::kDeadlineExceeded, "loadgen: no answer in {} s", options_.timeout_seconds);
      for (int i = 0; i < count; ++i) CAIRN_CHECK(go_on(events[i].data.u32));
    }
    figures_->end_ns = now_ns();
    figures_->cpu_ns = cpu_ns() - cpu_before;
    return std::move(figures_);
  }

 private:
  struct Connection {
    std::optional<net::ClientSocket> socket;  // nullopt: none any more
    uint64_t begin_ns = 0;
    bool has_asked = false;
  };

  [[nodiscard]] bool may_begin() const {
    if (options_.requests != 0 && begun_ >= options_.requests) return false;
    return options_.seconds <= 0 ||
           static_cast<double>(now_ns() - figures_->begin_ns) < options_.seconds * 1'000'000'000;
  }

  void watch(uint32_t index, int operation, uint32_t events) {
    epoll_event event{.events = events, .data = {.u32 = index}};
    ::epoll_ctl(epoll_fd_, operation, connections_[index].socket->fd(), &event);
  }

  Status begin(uint32_t index) {
    if (!may_begin()) return {};
    Connection& connection = connections_[index];
    ++begun_;
    ++open_;
    connection.begin_ns = now_ns();
    connection.has_asked = false;
    CAIRN_TRY(const int fd, net::dial(address_, {.blocking = false}));
    connection.socket.emplace(fd, tls_.get());
    watch(index, EPOLL_CTL_ADD, EPOLLIN);
    return go_on(index);
  }

  Status go_on(uint32_t index) {
    Connection& connection = connections_[index];
    if (!connection.has_asked) {
      const Outcome outcome = connection.socket->shake_hands();
      if (outcome == Outcome::kFailed) return fail(Code::kUnavailable, "loadgen: handshake: {}", net::openssl_error());
      // A client's part of a handshake is far shorter than a socket's buffer, and so is the request.
      if (outcome != Outcome::kDone) return {};
      if (connection.socket->write(kRequest) != static_cast<ssize_t>(kRequest.size())) {
        return fail(Code::kUnavailable, "loadgen: the connection takes no request");
      }
      connection.has_asked = true;
    }
    char answer[kAnswerBytes];
    const ssize_t bytes = connection.socket->read(answer, sizeof answer);
    if (bytes < 0 && errno == EAGAIN) return {};
    if (bytes <= 0) {
      return fail(Code::kUnavailable, "loadgen: no answer: {}", bytes == 0 ? "closed" : std::strerror(errno));
    }
    note_answer(connection, {answer, static_cast<size_t>(bytes)});
    connection.socket.reset();
    --open_;
    return begin(index);
  }

  // Of one record or segment: the answer is short.
  void note_answer(const Connection& connection, std::string_view answer) {
    const uint64_t now = now_ns();
    int status = 0;
    if (answer.starts_with(kVersion)) {
      std::from_chars(answer.data() + kVersion.size(), answer.data() + answer.size(), status);
    }
    if (status != 200) {
      ++figures_->errors[status];
      return;
    }
    if (figures_->good++ == 0) figures_->first_good_ns = now;
    figures_->latency_us.add((now - connection.begin_ns) / 1000);
    figures_->body_bytes += answer.size();
    if (connection.socket->was_resumed()) ++figures_->resumed;
  }

  const LoadOptions& options_;
  const std::string address_;
  std::unique_ptr<net::ClientTls> tls_;
  std::unique_ptr<Figures> figures_;
  std::vector<Connection> connections_;
  int epoll_fd_ = -1;
  uint64_t begun_ = 0;
  uint64_t open_ = 0;
};

}  // namespace

Result<std::unique_ptr<Figures>> run_handshakes(const LoadOptions& options) { return Run(options).run(); }

}  // namespace cairn::bench
