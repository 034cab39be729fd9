// peer/transport_world_test.h: members that are transports only, on loopback, and what they hear. For tests.
#pragma once

#include <algorithm>
#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/check.h"
#include "base/mutex.h"
#include "metrics/metrics.h"
#include "net/client/dial.h"
#include "net/listener.h"
#include "peer/transport.h"
#include "testing/temp_dir.h"
#include "testing/wait.h"

namespace cairn::peer {

inline constexpr uint64_t kTestCluster = 0xc1a5;

// What a member hears; looked at from the test's thread.
class Ears final : public Transport::Sink {
 public:
  void on_messages(std::vector<raft::Message> messages) override {
    const MutexLock lock(mutex_);
    for (raft::Message& message : messages) messages_.push_back(std::move(message));
  }
  void on_report(NodeId peer, Report::Kind kind) override {
    const MutexLock lock(mutex_);
    reports_.emplace_back(peer, kind);
  }
  void on_removed_by(NodeId peer) override {
    const MutexLock lock(mutex_);
    removed_by_.push_back(peer);
  }

  [[nodiscard]] std::vector<raft::Message> messages() const {
    const MutexLock lock(mutex_);
    return messages_;
  }
  [[nodiscard]] size_t count() const {
    const MutexLock lock(mutex_);
    return messages_.size();
  }
  [[nodiscard]] bool heard(raft::MessageType type) const {
    const MutexLock lock(mutex_);
    return std::ranges::any_of(messages_, [&](const auto& message) { return message.type == type; });
  }
  [[nodiscard]] int reports(Report::Kind kind) const {
    const MutexLock lock(mutex_);
    return static_cast<int>(std::ranges::count_if(reports_, [&](const auto& each) { return each.second == kind; }));
  }
  [[nodiscard]] std::vector<NodeId> removed_by() const {
    const MutexLock lock(mutex_);
    return removed_by_;
  }
  void forget() {
    const MutexLock lock(mutex_);
    messages_.clear();
    reports_.clear();
  }

 private:
  mutable Mutex mutex_;
  std::vector<raft::Message> messages_ CAIRN_GUARDED_BY(mutex_);
  std::vector<std::pair<NodeId, Report::Kind>> reports_ CAIRN_GUARDED_BY(mutex_);
  std::vector<NodeId> removed_by_ CAIRN_GUARDED_BY(mutex_);
};

// A member: its transport, its ears, its folder.
class TestMember {
 public:
  using Change = std::function<void(Transport::Options&)>;
  // `address`: "" for any free port; one that was free a moment ago else.
  explicit TestMember(uint64_t id, const Change& change = {}, const std::string& address = "127.0.0.1:0",
                      const std::string& scheme = "http")
      : id_(id) {
    std::optional<net::BoundSocket> bound;
    CAIRN_ASSERT(cairn::testing::wait_until([&] {
      auto tried = net::listen_on(address);
      if (tried) bound = *std::move(tried);
      return bound.has_value();
    }));
    address_ = bound->address;
    url_ = scheme + "://" + address_;
    Transport::Options options;
    options.self = id_;
    options.cluster_id = kTestCluster;
    options.self_urls = {url_};
    options.listen.push_back({.address = address_, .fd = bound->fd});
    options.fs = &env::posix_fs();
    options.snap_directory = folder_.path();
    options.registry = &registry_;
    if (change) change(options);
    auto started = Transport::start(std::move(options), ears);
    CAIRN_ASSERT(started.has_value());
    transport_ = *std::move(started);
  }
  ~TestMember() { stop(); }

  [[nodiscard]] NodeId id() const { return id_; }
  [[nodiscard]] const std::string& url() const { return url_; }
  [[nodiscard]] const std::string& address() const { return address_; }
  [[nodiscard]] std::string path(const std::string& name) const { return folder_ / name; }
  [[nodiscard]] const std::string& folder() const { return folder_.path(); }
  [[nodiscard]] Peer as_peer() const { return {.id = id_, .urls = {url_}}; }
  // Of a series, named with its labels; -1: there is none.
  [[nodiscard]] double metric(const std::string& series) {
    const std::string text = "\n" + registry_.render();
    const size_t at = text.find("\n" + series + " ");
    return at == std::string::npos ? -1 : std::stod(text.substr(at + series.size() + 2));
  }
  Transport& transport() { return *transport_; }
  void stop() { transport_->stop(); }

  Ears ears;

 private:
  const NodeId id_;
  cairn::testing::TempDir folder_;
  metrics::Registry registry_;
  std::string address_;
  std::string url_;
  std::unique_ptr<Transport> transport_;
};

inline void know_each_other(TestMember& a, TestMember& b) {
  a.transport().set_members({b.as_peer()}, {});
  b.transport().set_members({a.as_peer()}, {});
}

// Both streams both ways.
[[nodiscard]] inline bool are_connected(TestMember& a, TestMember& b) {
  return cairn::testing::wait_until([&] {
    constexpr Transport::Streams kAll{.from_us = 2, .to_us = 2};
    return a.transport().streams(b.id()) == kAll && b.transport().streams(a.id()) == kAll &&
           a.transport().active_since_ns(b.id()) && b.transport().active_since_ns(a.id());
  });
}

[[nodiscard]] inline raft::Message heartbeat(NodeId from, NodeId to, uint64_t number) {
  raft::Message out;
  out.type = raft::MessageType::kHeartbeat;
  out.from = from;
  out.to = to;
  out.term = Term{7};
  out.commit = Index{number};
  return out;
}

// An append of one entry, behind the one before it.
[[nodiscard]] inline raft::Message append(NodeId from, NodeId to, uint64_t number, std::string data) {
  raft::Message out;
  out.type = raft::MessageType::kApp;
  out.from = from;
  out.to = to;
  out.term = Term{7};
  out.log_term = Term{7};
  out.index = Index{number - 1};
  out.commit = Index{number - 1};
  auto payload = std::make_shared<raft::Payload>();
  payload->bytes = std::move(data);
  out.entries.push_back({.term = Term{7}, .index = Index{number}, .data = std::move(payload)});
  return out;
}

[[nodiscard]] inline raft::Message snapshot(NodeId from, NodeId to, uint64_t index) {
  raft::Message out;
  out.type = raft::MessageType::kSnap;
  out.from = from;
  out.to = to;
  out.term = Term{7};
  auto made = std::make_shared<raft::Snapshot>();
  made->index = Index{index};
  made->term = Term{7};
  made->conf.voters = {NodeId{1}, NodeId{2}};
  made->data = "{\"root\":{}}";
  out.snapshot = std::move(made);
  return out;
}

// Passes bytes on between a port of its own and another, until it is frozen or cut.
class Proxy {
 public:
  explicit Proxy(std::string target) : target_(std::move(target)) {
    auto bound = net::listen_on("127.0.0.1:0");
    CAIRN_ASSERT(bound.has_value());
    fd_ = bound->fd;
    address_ = bound->address;
    thread_ = std::thread([this] { run(); });
  }
  ~Proxy() {
    is_over_ = true;
    thread_.join();
    ::close(fd_);
  }
  Proxy(const Proxy&) = delete;
  Proxy& operator=(const Proxy&) = delete;

  [[nodiscard]] const std::string& address() const { return address_; }
  void freeze(bool frozen) { frozen_ = frozen; }  // connections stay and nothing passes
  void cut() { cut_ = true; }                     // all that there are now

 private:
  struct Pair {
    int ends[2];
    std::string waits[2];  // for the end of the same number
  };

  void run() {
    std::vector<Pair> pairs;
    while (!is_over_) {
      if (cut_.exchange(false)) close_all(pairs);
      std::vector<pollfd> polled{{.fd = fd_, .events = POLLIN, .revents = 0}};
      for (const Pair& pair : pairs) {
        for (int i = 0; i < 2; ++i) {
          short events = 0;
          if (!frozen_ && pair.waits[1 - i].empty()) events = static_cast<short>(events | POLLIN);
          if (!frozen_ && !pair.waits[i].empty()) events = static_cast<short>(events | POLLOUT);
          polled.push_back({.fd = pair.ends[i], .events = events, .revents = 0});
        }
      }
      ::poll(polled.data(), polled.size(), 5);
      if (!frozen_) pass(pairs, polled);
      if ((polled[0].revents & POLLIN) != 0) accept_one(pairs);
    }
    close_all(pairs);
  }

  void accept_one(std::vector<Pair>& pairs) {
    const int fd = ::accept4(fd_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) return;
    const auto other = net::dial(target_, {.blocking = false});
    if (!other) {
      ::close(fd);
      return;
    }
    pairs.push_back({.ends = {fd, *other}, .waits = {}});
  }

  static void pass(std::vector<Pair>& pairs, const std::vector<pollfd>& polled) {
    char buffer[64 * 1024];
    for (size_t n = pairs.size(); n-- > 0;) {
      Pair& pair = pairs[n];
      bool is_dead = false;
      for (int i = 0; i < 2; ++i) {
        const short events = polled[1 + 2 * n + static_cast<size_t>(i)].revents;
        if ((events & POLLOUT) != 0) flush(pair, i, is_dead);
        if ((events & (POLLIN | POLLHUP | POLLERR)) == 0 || !pair.waits[1 - i].empty()) continue;
        const ssize_t got = ::recv(pair.ends[i], buffer, sizeof buffer, 0);
        if (got == 0 || (got < 0 && errno != EAGAIN)) is_dead = true;
        if (got > 0) pair.waits[1 - i].assign(buffer, static_cast<size_t>(got));
        flush(pair, 1 - i, is_dead);
      }
      if (!is_dead) continue;
      ::close(pair.ends[0]);
      ::close(pair.ends[1]);
      pairs.erase(pairs.begin() + static_cast<ptrdiff_t>(n));
    }
  }

  static void flush(Pair& pair, int to, bool& is_dead) {
    std::string& waits = pair.waits[to];
    if (waits.empty()) return;
    const ssize_t sent = ::send(pair.ends[to], waits.data(), waits.size(), MSG_NOSIGNAL);
    if (sent > 0) waits.erase(0, static_cast<size_t>(sent));
    if (sent < 0 && errno != EAGAIN) is_dead = true;
  }

  static void close_all(std::vector<Pair>& pairs) {
    for (const Pair& pair : pairs) {
      ::close(pair.ends[0]);
      ::close(pair.ends[1]);
    }
    pairs.clear();
  }

  const std::string target_;
  int fd_ = -1;
  std::string address_;
  std::atomic<bool> frozen_{false};
  std::atomic<bool> cut_{false};
  std::atomic<bool> is_over_{false};
  std::thread thread_;
};

// An image of `bytes` bytes, each piece another; fails behind `fails_at`.
class MadeImage final : public ByteSource {
 public:
  explicit MadeImage(uint64_t bytes, uint64_t fails_at = UINT64_MAX) : bytes_(bytes), fails_at_(fails_at) {}
  Result<size_t> read(std::span<char> into) override {
    if (at_ >= fails_at_) return fail(Code::kDataLoss, "test: the disk fails");
    const size_t count = static_cast<size_t>(std::min<uint64_t>(into.size(), bytes_ - at_));
    for (size_t i = 0; i < count; ++i) into[i] = byte_at(at_ + i);
    at_ += count;
    return count;
  }
  [[nodiscard]] uint64_t size_bytes() const override { return bytes_; }
  static char byte_at(uint64_t offset) { return static_cast<char>((offset * 2654435761u) >> 24); }

 private:
  const uint64_t bytes_;
  const uint64_t fails_at_;
  uint64_t at_ = 0;
};

}  // namespace cairn::peer
