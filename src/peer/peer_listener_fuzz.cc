// Any requests to the listener of a member, over HTTP/1.1 and however they are cut: messages, snapshots with images,
// streams. What is handed on is for this member and from one that belongs to it, an image arrives as it was sent, only
// who was removed is told so, and nothing is left behind.
#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <fmt/format.h>

#include "base/bytes.h"
#include "base/check.h"
#include "base/log.h"
#include "metrics/metrics.h"
#include "net/http1/http1_session.h"
#include "net/loop.h"
#include "net/protocol.h"
#include "peer/codec.h"
#include "peer/msgapp_v2.h"
#include "peer/peer_listener.h"
#include "storage/memory/file_system.h"

namespace {

using namespace cairn;
using namespace cairn::peer;

constexpr NodeId kSelf{0x1a};
constexpr NodeId kPeer{0x2b};
constexpr NodeId kRemoved{0x3c};
constexpr uint64_t kClusterId = 0xc1;
constexpr uint64_t kImageBytesMax = 1 << 20;
constexpr uint64_t kDiskBytes = 64 << 20;  // enough that an image is taken (kRoomBytes)
constexpr const char* kSnap = "/snap";
constexpr std::chrono::seconds kPatience{60};

struct ProtocolEnd final : net::ProtocolHost {
  void wake() override {}
  bool is_blocked() const override { return false; }
  std::string peer_address() const override { return "nowhere"; }
};

// Of a stream: some bytes, and then it ends.
class Stream final : public net::ExchangeHandler {};

class Host final : public PeerListener::Host {
 public:
  bool is_removed(NodeId id) const override {
    has_met_removed = has_met_removed || id == kRemoved;
    return id == kRemoved;
  }
  bool has_peer(NodeId id) const override { return id == kPeer; }
  void add_remote(NodeId, const std::vector<std::string>& urls) override { CAIRN_ASSERT(!urls.empty()); }
  void note_kind(NodeId, bool) override {}
  std::unique_ptr<net::ExchangeHandler> attach(NodeId id, StreamKind, net::Exchange& exchange,
                                               const net::HttpResponse& head) override {
    CAIRN_ASSERT(id == kPeer && !exchange.is_answered());
    exchange.respond(head, std::nullopt);
    exchange.write("stream");
    exchange.finish();
    return std::make_unique<Stream>();
  }
  void deliver(raft::Message message) override {
    CAIRN_ASSERT(message.to == kSelf && message.from != raft::kNoNode && message.from != kRemoved);
    CAIRN_ASSERT((message.type == raft::MessageType::kSnap) == (message.snapshot != nullptr));
    delivered.push_back(std::move(message));
  }
  PeerMetrics& metrics(NodeId id) override { return metrics_.of(id); }

  mutable bool has_met_removed = false;
  std::vector<raft::Message> delivered;

 private:
  metrics::Registry registry_;
  TransportMetrics metrics_{registry_, kSelf};
};

class Connection {
 public:
  Connection() : session_(*loop_, limits_, listener_, end_) {}
  ~Connection() {
    session_.on_closed();
    threads_.join();
    while (loop_->turn()) {
    }
    CAIRN_ASSERT(loop_->sum_everywhere(&net::LoopCounters::request_bytes_held) == 0);
    CAIRN_ASSERT(host.metrics(kPeer).snapshot_receive_inflights.value() == 0);
    const auto names = fs_.list(kSnap);
    CAIRN_ASSERT(names &&
                 std::ranges::none_of(*names, [](const std::string& name) { return name.starts_with("tmp"); }));
    // 403 and 410 end a member for good.
    for (const char* status : {"HTTP/1.1 403", "HTTP/1.1 410"}) {
      CAIRN_ASSERT(answer.find(status) == std::string::npos || host.has_met_removed);
    }
  }
  void send(std::string_view bytes, size_t step) {
    while (is_open_ && !bytes.empty()) {
      const std::string part(bytes.substr(0, step));
      bytes.remove_prefix(part.size());
      is_open_ = session_.receive(part);
      turn();
    }
  }
  // What a thread has to write is waited for.
  void wait_for_answer() {
    const auto until = std::chrono::steady_clock::now() + kPatience;
    while (answer.empty()) {
      CAIRN_ASSERT(std::chrono::steady_clock::now() < until);
      std::this_thread::sleep_for(std::chrono::microseconds(20));
      turn();
    }
  }
  [[nodiscard]] std::string image(Index index) {
    threads_.join();
    const auto bytes = env::read_file(fs_, ImageWriter::path_of(kSnap, index));
    CAIRN_ASSERT(bytes);
    return *bytes;
  }

  Host host;
  std::string answer;

 private:
  void turn() {
    loop_->turn();
    for (;;) {
      net::Output& out = loop_->output();
      out.clear();
      session_.output(out);
      if (out.size() == 0) break;
      answer.append(out.view());
    }
    is_open_ = is_open_ && !session_.wants_close();
  }

  std::shared_ptr<net::Loop> loop_ = std::make_shared<net::Loop>(0);
  storage::MemoryFileSystem fs_{kDiskBytes};
  TransferThreads threads_;
  ProtocolEnd end_;
  net::HttpLimits limits_{.body_bytes_max = kImageBytesMax};
  PeerListener listener_{
      {.self = kSelf, .cluster_id = kClusterId, .fs = &fs_, .snap_directory = kSnap}, threads_, host};
  net::Http1Session session_;
  bool is_open_ = true;
};

std::string head(std::string_view method, std::string_view path, uint64_t body_bytes, std::string_view more = {}) {
  return fmt::format(
      "{} {} HTTP/1.1\r\nHost: x\r\nX-Server-From: 2b\r\nX-Server-Version: 3.7.1\r\nX-Min-Cluster-Version: 3.0.0\r\n"
      "X-Etcd-Cluster-ID: c1\r\nX-Raft-To: 1a\r\n{}Content-Length: {}\r\n\r\n",
      method, path, more, body_bytes);
}

// A message and its length, as in front of an image.
std::string snapshot_message(Index index) {
  raft::Message message;
  message.type = raft::MessageType::kSnap;
  message.from = kPeer;
  message.to = kSelf;
  message.term = Term(3);
  auto snapshot = std::make_shared<raft::Snapshot>();
  snapshot->index = index;
  snapshot->term = Term(2);
  snapshot->conf.voters = {kSelf, kPeer};
  message.snapshot = std::move(snapshot);
  Pieces out;
  append_framed_message(out, message);
  return out.flat();
}

// A header's value.
std::string value_of(std::string_view bytes) {
  std::string out(bytes.substr(0, 200));
  std::ranges::replace_if(out, [](char c) { return c == '\r' || c == '\n' || c == '\0'; }, '.');
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  log::set_sink([](const log::Entry&) {}, log::Level::kFatal);
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 2, size - 2);
  const size_t step = 1 + data[1] * 8;
  Connection connection;
  switch (data[0] % 8) {
    case 0: connection.send(bytes, step); break;
    case 1: connection.send(head("POST", "/raft", bytes.size()) + std::string(bytes), step); break;
    case 2: connection.send(head("POST", "/raft/snapshot", bytes.size()) + std::string(bytes), step); break;
    case 3: {  // a whole image
      const std::string body = snapshot_message(Index(7)).append(bytes);
      connection.send(head("POST", "/raft/snapshot", body.size()) + body, step);
      connection.wait_for_answer();
      CAIRN_ASSERT(connection.answer.starts_with("HTTP/1.1 204") && connection.host.delivered.size() == 1);
      CAIRN_ASSERT(connection.image(Index(7)) == bytes);
      break;
    }
    case 4: {  // one that is cut short
      const std::string body = snapshot_message(Index(7)).append(bytes);
      connection.send(head("POST", "/raft/snapshot", body.size() + 1) + body, step);
      CAIRN_ASSERT(connection.answer.empty() && connection.host.delivered.empty());
      break;
    }
    case 5: connection.send(head("GET", "/raft/stream/" + value_of(bytes), 0), step); break;
    case 6: {  // what it says of itself
      const size_t half = bytes.size() / 2;
      connection.send(fmt::format("GET /raft/stream/message/2b HTTP/1.1\r\nHost: x\r\nX-Server-Version: {}\r\n"
                                  "X-Etcd-Cluster-ID: c1\r\nX-Raft-To: 1a\r\nX-PeerURLs: {}\r\n\r\n",
                                  value_of(bytes.substr(0, half)), value_of(bytes.substr(half))),
                      step);
      break;
    }
    default: connection.send(head("POST", "/raft", 0, fmt::format("X-PeerURLs: {}\r\n", value_of(bytes))), step); break;
  }
  return 0;
}
