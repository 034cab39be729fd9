// cairn_proxy: a TCP proxy between the members of a cluster, and between clients and members, that cuts and slows.
//
// Every member's peer address is a port of the proxy, behind which the member itself listens. A fault belongs to a
// link: the bytes that go from one named place to another, whoever of the two has dialled. Of a connection between
// members the dialler is known by the header X-PeerURLs of its first request; one without it (a probe, TLS) is
// nobody's, and goes through as long as anybody may send to that member.
//
// Commands come on stdin, one a line, and each is answered by "ok ..." or "error ..." on stdout:
//
//   add NAME PORT TARGET [FROM]   listens on PORT for the member NAME at TARGET. FROM: all that dial are of that name
//   remove NAME                   no longer; its connections are reset
//   refuse NAME | accept NAME     new connections are refused as where nobody listens, or taken again
//   pass A B                      bytes from A to B go on at once; what was held goes first
//   hold A B                      they wait: a cable that is out. Connections are taken and nothing is heard of them
//   drop A B                      they are lost: with `pass` the connections that lost some are reset
//   delay A B MS [JITTER]         they come later, in order
//   rate A B BYTES                so many bytes a second, 0: any
//   reset A B                     resets the connections between A and B, whoever dialled
//   vanish A B                    the same, but A hears nothing of it: its ends stay open, and nobody is behind them
//   stats                         "ok A>B:BYTES ...", what A sent, lost or not
//
// Threads: one. Ends with stdin.
// Source:  etcd's robustness tests put such a proxy between members; rafthttp sets X-PeerURLs on streams and posts.

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <deque>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <fmt/format.h>

namespace cairn::robustness {
namespace {

constexpr size_t kReadBytes = 64 * 1024;
constexpr size_t kHeldBytesMax = 256 * 1024;           // then the sender's socket fills, as it would
constexpr size_t kDelayedBytesMax = 64 * 1024 * 1024;  // of a link with delay: what is under way
constexpr size_t kRequestHeadBytesMax = 16 * 1024;
constexpr std::string_view kAnybody = "?";

using Name = std::string;

int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

// The bytes from one place to another.
struct Link {
  enum class Mode { kPass, kHold, kDrop };
  Mode mode = Mode::kPass;
  int64_t delay_ns = 0;
  int64_t jitter_ns = 0;
  double bytes_per_s = 0;  // 0: any
  int64_t free_ns = 0;     // when the rate allows the next byte
  uint64_t bytes = 0;
};

enum class Ending { kNone, kShutdown, kReset };

// One direction of a connection: what was read and is not written yet.
struct Pipe {
  struct Piece {
    std::string bytes;
    int64_t due_ns = 0;
  };
  std::deque<Piece> pieces;
  size_t bytes = 0;
  size_t written = 0;             // of the first piece
  Ending ending = Ending::kNone;  // what comes behind the bytes
  bool ended = false;             // and has come
  bool lost_some = false;
};

struct Listener {
  Name name;
  uint16_t port = 0;
  uint16_t target = 0;
  Name from;    // "": the first request says
  int fd = -1;  // -1: refuses
};

constexpr int kDialler = 0;
constexpr int kTarget = 1;

struct Connection;

struct End {
  Connection* connection = nullptr;
  int side = 0;
  int fd = -1;
  uint32_t events = 0;
  bool connecting = false;
};

struct Connection {
  Name dialler;  // "": not known yet
  Name owner;
  uint16_t target = 0;
  End ends[2];
  Pipe pipes[2];                        // [side]: what came from that side
  Link* links[2] = {nullptr, nullptr};  // of what comes from that side, once the dialler is known
  bool orphan[2] = {false, false};      // this side is gone, and the other is not told
  bool is_dead = false;
};

class Proxy {
 public:
  Proxy() : epoll_(epoll_create1(EPOLL_CLOEXEC)) { watch_fd(STDIN_FILENO, EPOLLIN, nullptr); }

  int run() {
    std::vector<epoll_event> events(256);
    while (!done_) {
      const int count = epoll_wait(epoll_, events.data(), static_cast<int>(events.size()), wait_ms());
      if (count < 0 && errno != EINTR) return 1;
      for (int i = 0; i < count; ++i) {
        const epoll_event& event = events[static_cast<size_t>(i)];
        if (event.data.ptr == nullptr) {
          read_commands();
        } else if (const auto found = std::find(listening_.begin(), listening_.end(), event.data.ptr);
                   found != listening_.end()) {
          accept_all(*static_cast<Listener*>(*found));
        } else if (std::find(closed_.begin(), closed_.end(), event.data.ptr) == closed_.end()) {
          on_event(*static_cast<End*>(event.data.ptr), event.events);
        }
      }
      for (const auto& connection : connections_) {
        if (!connection->is_dead) push(*connection);
      }
      connections_.remove_if([](const auto& connection) { return connection->is_dead; });
      closed_.clear();
    }
    return 0;
  }

 private:
  // Commands.

  void read_commands() {
    char buffer[4096];
    const ssize_t size = read(STDIN_FILENO, buffer, sizeof buffer);
    if (size <= 0) {
      done_ = true;
      return;
    }
    commands_.append(buffer, static_cast<size_t>(size));
    for (size_t end = commands_.find('\n'); end != std::string::npos; end = commands_.find('\n')) {
      const std::string answer = command(split(commands_.substr(0, end))) + "\n";
      commands_.erase(0, end + 1);
      if (write(STDOUT_FILENO, answer.data(), answer.size()) < 0) done_ = true;
    }
  }

  static std::vector<std::string> split(std::string_view line) {
    std::vector<std::string> out;
    while (!line.empty()) {
      const size_t end = std::min(line.find(' '), line.size());
      if (end > 0) out.emplace_back(line.substr(0, end));
      line.remove_prefix(std::min(end + 1, line.size()));
    }
    return out;
  }

  static std::optional<int64_t> number(std::string_view text) {
    int64_t out = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
    if (error != std::errc() || end != text.data() + text.size() || out < 0) return std::nullopt;
    return out;
  }

  std::string command(const std::vector<std::string>& words) {
    if (words.empty()) return "error: no command";
    const std::string& verb = words[0];
    const auto at = [&](size_t i) { return i < words.size() ? number(words[i]) : std::optional<int64_t>(0); };
    if (verb == "stats") return stats();
    if (verb == "add" && (words.size() == 4 || words.size() == 5)) {
      const auto port = at(2);
      const auto target = at(3);
      if (!port || !target || *port > 65535 || *target > 65535) return "error: not a port";
      if (listeners_.contains(words[1])) return "error: there is one of that name";
      Listener& listener = listeners_[words[1]];
      listener = {.name = words[1],
                  .port = static_cast<uint16_t>(*port),
                  .target = static_cast<uint16_t>(*target),
                  .from = words.size() == 5 ? words[4] : ""};
      return listen_on(listener);
    }
    if ((verb == "refuse" || verb == "accept" || verb == "remove") && words.size() == 2) {
      const auto found = listeners_.find(words[1]);
      if (found == listeners_.end()) return "error: no such name";
      if (verb == "accept") return listen_on(found->second);
      stop_listening(found->second);
      if (verb == "remove") {
        for (const auto& one : connections_) {
          if (one->owner == words[1]) reset(*one);
        }
        listeners_.erase(found);
      }
      return "ok";
    }
    if (words.size() < 3) return "error: unknown command " + verb;
    Link& link = links_[{words[1], words[2]}];
    const auto value = at(3);
    const auto jitter = at(4);
    if (!value || !jitter) return "error: not a number";
    if (verb == "pass") {
      link.mode = Link::Mode::kPass;
      reset_those_that_lost(words[1], words[2]);
    } else if (verb == "hold") {
      link.mode = Link::Mode::kHold;
    } else if (verb == "drop") {
      link.mode = Link::Mode::kDrop;
    } else if (verb == "delay") {
      link.delay_ns = *value * 1'000'000;
      link.jitter_ns = *jitter * 1'000'000;
    } else if (verb == "rate") {
      link.bytes_per_s = static_cast<double>(*value);
    } else if (verb == "reset" || verb == "vanish") {
      for (const auto& one : connections_) end_between(*one, words[1], words[2], verb == "vanish");
    } else {
      return "error: unknown command " + verb;
    }
    return "ok";
  }

  [[nodiscard]] std::string stats() const {
    std::string out = "ok";
    for (const auto& [names, link] : links_) out += fmt::format(" {}>{}:{}", names.first, names.second, link.bytes);
    return out;
  }

  void reset_those_that_lost(const Name& from, const Name& to) {
    for (const auto& one : connections_) {
      for (const int side : {kDialler, kTarget}) {
        if (one->pipes[side].lost_some && from_of(*one, side) == from && to_of(*one, side) == to) reset(*one);
      }
    }
  }

  void end_between(Connection& connection, const Name& a, const Name& b, bool quietly) {
    const int side_of_a = connection.dialler == a && connection.owner == b   ? kDialler
                          : connection.dialler == b && connection.owner == a ? kTarget
                                                                             : -1;
    if (side_of_a < 0) return;
    if (!quietly || connection.ends[side_of_a].fd < 0) return reset(connection);
    close_end(connection.ends[1 - side_of_a], true);
    connection.orphan[1 - side_of_a] = true;
    for (Pipe& pipe : connection.pipes) pipe.pieces.clear(), pipe.bytes = pipe.written = 0;
  }

  // Listening.

  static sockaddr_in loopback(uint16_t port) {
    sockaddr_in out{};
    out.sin_family = AF_INET;
    out.sin_port = htons(port);
    out.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return out;
  }

  std::string listen_on(Listener& listener) {
    if (listener.fd >= 0) return "ok";
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    const int on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    const sockaddr_in address = loopback(listener.port);
    if (bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 || listen(fd, 128) != 0) {
      const int error = errno;
      close(fd);
      return fmt::format("error: port {}: errno {}", listener.port, error);
    }
    listener.fd = fd;
    listening_.push_back(&listener);
    watch_fd(fd, EPOLLIN, &listener);
    return "ok";
  }

  void stop_listening(Listener& listener) {
    if (listener.fd < 0) return;
    close(listener.fd);
    listener.fd = -1;
    std::erase(listening_, &listener);
    closed_.push_back(&listener);
  }

  void accept_all(Listener& listener) {
    while (listener.fd >= 0) {
      const int fd = accept4(listener.fd, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
      if (fd < 0) return;
      no_delay(fd);
      auto made = std::make_unique<Connection>();
      made->owner = listener.name;
      made->target = listener.target;
      if (!listener.from.empty()) set_dialler(*made, listener.from);
      for (const int side : {kDialler, kTarget}) made->ends[side] = {.connection = made.get(), .side = side};
      made->ends[kDialler].fd = fd;
      made->ends[kDialler].events = EPOLLIN;
      watch_fd(fd, EPOLLIN, &made->ends[kDialler]);
      connections_.push_back(std::move(made));
    }
  }

  static void no_delay(int fd) {
    const int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  }

  void watch_fd(int fd, uint32_t events, void* who) const {
    epoll_event event{.events = events, .data = {.ptr = who}};
    epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event);
  }

  // Links.

  [[nodiscard]] static const Name& from_of(const Connection& connection, int side) {
    return side == kDialler ? connection.dialler : connection.owner;
  }
  [[nodiscard]] static const Name& to_of(const Connection& connection, int side) {
    return side == kDialler ? connection.owner : connection.dialler;
  }

  // Of what `side` sends. A connection of nobody has a link of its own, which is cut when all the owner's links are.
  [[nodiscard]] Link& link_of(const Connection& connection, int side) {
    if (connection.links[side] != nullptr) return *connection.links[side];
    Link& link = links_[{from_of(connection, side), to_of(connection, side)}];
    if (connection.dialler != kAnybody) return link;
    link.mode = Link::Mode::kPass;
    for (const auto& [name, listener] : listeners_) {
      if (name == connection.owner || !listener.from.empty()) continue;
      const auto other =
          side == kDialler ? links_.find({name, connection.owner}) : links_.find({connection.owner, name});
      if (other == links_.end() || other->second.mode == Link::Mode::kPass) {
        link.mode = Link::Mode::kPass;
        break;
      }
      link.mode = Link::Mode::kHold;
    }
    return link;
  }

  void set_dialler(Connection& connection, const Name& name) {
    connection.dialler = name;
    if (name == kAnybody) return;
    for (const int side : {kDialler, kTarget}) {
      connection.links[side] = &links_[{from_of(connection, side), to_of(connection, side)}];
    }
  }

  // Who dials, as the first request says, once it is whole; each later piece is asked too while nobody is known.
  void find_dialler(Connection& connection, std::string_view head) {
    constexpr std::string_view kHeader = "\r\nx-peerurls: ";
    const auto same = [](char a, char b) { return (a >= 'A' && a <= 'Z' ? a + ('a' - 'A') : a) == b; };
    const auto found = std::search(head.begin(), head.end(), kHeader.begin(), kHeader.end(), same);
    const size_t at = found == head.end() ? std::string_view::npos : static_cast<size_t>(found - head.begin());
    if (at == std::string_view::npos) {
      const bool is_whole = head.find("\r\n\r\n") != std::string_view::npos || head.size() > kRequestHeadBytesMax ||
                            (!head.empty() && head[0] == 0x16);  // TLS
      if (is_whole && connection.dialler.empty()) set_dialler(connection, Name(kAnybody));
      return;
    }
    const std::string_view urls = head.substr(at + kHeader.size(), head.find("\r\n", at + 2) - at - kHeader.size());
    for (const auto& [name, listener] : listeners_) {
      if (urls.ends_with(fmt::format(":{}", listener.port))) set_dialler(connection, name);
    }
    if (connection.dialler.empty()) set_dialler(connection, Name(kAnybody));
  }

  // Bytes.

  void on_event(End& end, uint32_t events) {
    Connection& connection = *end.connection;
    if (connection.is_dead || end.fd < 0) return;
    if (end.connecting && (events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) != 0) {
      int error = 0;
      socklen_t size = sizeof error;
      getsockopt(end.fd, SOL_SOCKET, SO_ERROR, &error, &size);
      if (error != 0) return reset(connection);
      end.connecting = false;
    }
    if ((events & (EPOLLIN | EPOLLERR | EPOLLHUP)) != 0)
      take(connection, end.side, (events & (EPOLLERR | EPOLLHUP)) != 0);
  }

  [[nodiscard]] bool has_room(const Connection& connection, int side) {
    const Pipe& pipe = connection.pipes[side];
    const Link& link = link_of(connection, side);
    return pipe.bytes < (link.delay_ns > 0 ? kDelayedBytesMax : kHeldBytesMax);
  }

  void take(Connection& connection, int side, bool is_broken) {
    Pipe& pipe = connection.pipes[side];
    End& end = connection.ends[side];
    while (pipe.ending == Ending::kNone && (is_broken || has_room(connection, side))) {
      const ssize_t size = read(end.fd, buffer_, sizeof buffer_);
      if (size < 0 && errno == EINTR) continue;
      if (size < 0 && errno == EAGAIN) break;
      if (size <= 0) {
        pipe.ending = size == 0 ? Ending::kShutdown : Ending::kReset;
        break;
      }
      append(connection, side, std::string_view(buffer_, static_cast<size_t>(size)));
    }
    if (connection.orphan[1 - side] && pipe.ending != Ending::kNone) return reset(connection);
    if (!is_broken) return;
    // Both directions are over here: what is on its way to this end has nowhere to go.
    if (pipe.ending == Ending::kNone) pipe.ending = Ending::kReset;
    close_end(end, false);
  }

  void append(Connection& connection, int side, std::string_view bytes) {
    if (connection.orphan[1 - side]) return;
    Pipe& pipe = connection.pipes[side];
    if (side == kDialler && (connection.dialler.empty() || connection.dialler == kAnybody)) {
      std::string head;
      if (connection.dialler.empty()) {
        for (const Pipe::Piece& piece : pipe.pieces) head += piece.bytes;
      }
      head += bytes;
      find_dialler(connection, head);
    }
    Link& link = link_of(connection, side);
    link.bytes += bytes.size();
    if (link.mode == Link::Mode::kDrop) {
      pipe.lost_some = true;
      return;
    }
    const int64_t now = now_ns();
    int64_t due = now + link.delay_ns;
    if (link.jitter_ns > 0) due += std::uniform_int_distribution<int64_t>(0, link.jitter_ns)(random_);
    if (link.bytes_per_s > 0) {
      link.free_ns = std::max(link.free_ns, now) +
                     static_cast<int64_t>(static_cast<double>(bytes.size()) / link.bytes_per_s * 1e9);
      due = std::max(due, link.free_ns);
    }
    if (!pipe.pieces.empty()) due = std::max(due, pipe.pieces.back().due_ns);
    pipe.pieces.push_back({std::string(bytes), due});
    pipe.bytes += bytes.size();
  }

  // Moves on what may go now, and says what the connection waits for.
  void push(Connection& connection) {
    for (const int side : {kDialler, kTarget}) {
      if (!connection.is_dead) push_from(connection, side);
    }
    if (connection.is_dead) return;
    for (const int side : {kDialler, kTarget}) {
      End& end = connection.ends[side];
      if (end.fd < 0) continue;
      const Pipe& in = connection.pipes[side];
      uint32_t events = 0;
      if (!end.connecting && in.ending == Ending::kNone && has_room(connection, side)) events |= EPOLLIN;
      if (end.connecting || wants_out_[side]) events |= EPOLLOUT;
      if (events == end.events) continue;
      epoll_event event{.events = events, .data = {.ptr = &end}};
      epoll_ctl(epoll_, EPOLL_CTL_MOD, end.fd, &event);
      end.events = events;
    }
  }

  void push_from(Connection& connection, int side) {
    Pipe& pipe = connection.pipes[side];
    End& out = connection.ends[1 - side];
    wants_out_[1 - side] = false;
    if (connection.orphan[1 - side] || connection.orphan[side]) return;
    if (connection.dialler.empty()) {
      if (pipe.ending != Ending::kNone) reset(connection);  // went away before it had said who it is
      return;
    }
    if (link_of(connection, side).mode != Link::Mode::kPass) return;
    if (out.fd < 0 && side == kDialler && !dialled(connection)) return;
    const int64_t now = now_ns();
    while (out.fd >= 0 && !out.connecting && !pipe.pieces.empty() && pipe.pieces.front().due_ns <= now) {
      const std::string& bytes = pipe.pieces.front().bytes;
      const ssize_t size = send(out.fd, bytes.data() + pipe.written, bytes.size() - pipe.written, MSG_NOSIGNAL);
      if (size < 0 && errno == EAGAIN) {
        wants_out_[1 - side] = true;
        return;
      }
      if (size < 0) break;  // its reset is told by its own event
      pipe.written += static_cast<size_t>(size);
      pipe.bytes -= static_cast<size_t>(size);
      if (pipe.written == bytes.size()) pipe.pieces.pop_front(), pipe.written = 0;
    }
    if (out.fd < 0 && !out.connecting) pipe.pieces.clear(), pipe.bytes = pipe.written = 0;
    if (!pipe.pieces.empty() || pipe.ending == Ending::kNone || pipe.ended || out.connecting) return;
    pipe.ended = true;
    if (pipe.ending == Ending::kReset) return reset(connection);
    if (out.fd >= 0) shutdown(out.fd, SHUT_WR);
    if (connection.pipes[1 - side].ended || out.fd < 0) reset(connection);
  }

  // Connects to the member, once it is known that the dialler may. False: not connected, and the connection is over.
  bool dialled(Connection& connection) {
    End& end = connection.ends[kTarget];
    if (end.events != 0) return true;  // was connected, and has ended
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    no_delay(fd);
    const sockaddr_in address = loopback(connection.target);
    if (connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 && errno != EINPROGRESS) {
      close(fd);
      reset(connection);
      return false;
    }
    end.fd = fd;
    end.connecting = true;
    end.events = EPOLLOUT;
    watch_fd(fd, EPOLLOUT, &end);
    return true;
  }

  static void close_end(End& end, bool with_reset) {
    if (end.fd < 0) return;
    const linger at_once{.l_onoff = 1, .l_linger = 0};
    if (with_reset) setsockopt(end.fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    close(end.fd);
    end.fd = -1;
    end.connecting = false;
  }

  static void reset(Connection& connection) {
    const bool is_over = connection.pipes[kDialler].ended && connection.pipes[kTarget].ended &&
                         connection.pipes[kDialler].ending != Ending::kReset &&
                         connection.pipes[kTarget].ending != Ending::kReset;
    for (End& end : connection.ends) close_end(end, !is_over);
    connection.is_dead = true;
  }

  // Until the next piece is due.
  [[nodiscard]] int wait_ms() {
    int64_t next = INT64_MAX;
    for (const auto& connection : connections_) {
      if (connection->dialler.empty()) continue;
      for (const int side : {kDialler, kTarget}) {
        const Pipe& pipe = connection->pipes[side];
        const End& out = connection->ends[1 - side];
        if (pipe.pieces.empty() || out.connecting || (out.events & EPOLLOUT) != 0) continue;
        if (link_of(*connection, side).mode == Link::Mode::kPass) next = std::min(next, pipe.pieces.front().due_ns);
      }
    }
    if (next == INT64_MAX) return -1;
    const int64_t left = next - now_ns();
    return left <= 0 ? 0 : static_cast<int>(std::min<int64_t>((left + 999'999) / 1'000'000, 1000));
  }

  int epoll_;
  bool done_ = false;
  std::string commands_;
  std::map<Name, Listener> listeners_;
  std::vector<void*> listening_;
  std::vector<void*> closed_;  // listeners that an event of this turn may still name
  std::map<std::pair<Name, Name>, Link> links_;
  std::list<std::unique_ptr<Connection>> connections_;
  bool wants_out_[2] = {false, false};  // of the connection that is being pushed
  std::mt19937_64 random_{1};
  char buffer_[kReadBytes];
};

}  // namespace
}  // namespace cairn::robustness

int main() { return std::make_unique<cairn::robustness::Proxy>()->run(); }
