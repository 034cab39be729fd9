#include "peer/peer_listener.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "base/bytes.h"
#include "base/go_duration.h"
#include "base/humane_bytes.h"
#include "base/log.h"
#include "cluster/versions.h"
#include "env/clock.h"
#include "net/gathered_bytes.h"
#include "peer/codec.h"
#include "peer/transport_prober.h"

namespace cairn::peer {
namespace {

constexpr std::string_view kStreamPrefix = "/raft/stream/";
constexpr std::string_view kUnsaidVersion = "2.0.0";  // etcd's for who names none
constexpr size_t kUrlsMax = 64;
constexpr size_t kLengthBytes = 8;
// A leader sends one image at a time, and there may be a new leader. Further ones come from whoever knows the cluster.
constexpr size_t kImagesMax = 4;
constexpr int64_t kImageSettleNs = 2'000'000'000;  // then it is known how fast one comes

std::vector<std::string> split(std::string_view list) {
  std::vector<std::string> out;
  while (!list.empty() && out.size() < kUrlsMax) {
    const size_t comma = list.find(',');
    if (comma != 0) out.emplace_back(list.substr(0, comma));
    if (comma == std::string_view::npos) break;
    list.remove_prefix(comma + 1);
  }
  return out;
}

std::optional<NodeId> id_of(std::string_view text) {
  const auto value = parse_hex(text);
  if (!value || *value == 0) return std::nullopt;
  return NodeId{*value};
}

bool is_from_cairn(const net::HttpRequest& request) { return !request.header(kCairnVersionHeader).empty(); }

int64_t now_ns() { return env::PosixClock().monotonic_ns(); }

}  // namespace

// A route of serve().
class PeerListener::Route final : public net::WholeBodyHandler {
 public:
  explicit Route(Handler handler) : handler_(std::move(handler)) {}
  void handle(net::HttpRequest request, net::EventLoop&, net::HttpRespond respond) override {
    handler_(std::move(request), std::move(respond));
  }

 private:
  const Handler handler_;
};

PeerListener::PeerListener(Options options, TransferThreads& threads, Host& host)
    : options_(std::move(options)), cluster_id_(hex_id(options_.cluster_id)), threads_(threads), host_(host) {}

PeerListener::~PeerListener() = default;

void PeerListener::serve(std::string path, Handler handler) {
  const MutexLock lock(mutex_);
  routes_[std::move(path)] = std::make_shared<Route>(std::move(handler));
}

std::shared_ptr<PeerListener::Route> PeerListener::route_of(std::string_view path) const {
  const MutexLock lock(mutex_);
  if (const auto exact = routes_.find(path); exact != routes_.end()) return exact->second;
  for (size_t end = path.rfind('/'); end != std::string_view::npos && end != 0; end = path.rfind('/', end - 1)) {
    if (const auto below = routes_.find(path.substr(0, end + 1)); below != routes_.end()) return below->second;
  }
  return nullptr;
}

void PeerListener::refuse(net::Exchange& exchange, int status, std::string_view text, net::HttpFields headers) const {
  headers.emplace_back("X-Content-Type-Options", "nosniff");
  net::respond_whole(exchange, {.status = status, .headers = std::move(headers), .body = std::string(text) + "\n"});
}

std::unique_ptr<net::ExchangeHandler> PeerListener::begin(net::Exchange& exchange) {
  const std::string& path = exchange.request().path;
  if (path == kPostPath || path == kForwardPath) return begin_message(exchange);
  if (path == kSnapshotPath) return begin_snapshot(exchange);
  if (path.starts_with(kStreamPrefix)) return begin_stream(exchange);
  if (path == kProbingPath) {
    net::respond_whole(exchange, {.body = probing_answer(env::PosixClock().wall_ns())});
    return nullptr;
  }
  if (const auto route = route_of(path)) return route->begin(exchange);
  if (path + "/" == kStreamPrefix || route_of(path + "/") != nullptr) {
    net::respond_whole(exchange, net::redirect(exchange.request(), exchange.request().path + "/"));
    return nullptr;
  }
  refuse(exchange, 404, "404 page not found");
  return nullptr;
}

std::string_view PeerListener::incompatibility(const net::HttpRequest& request) const {
  const auto version_in = [&](std::string_view header) {
    const std::string_view text = request.header(header);
    return cluster::parse_version(text.empty() ? kUnsaidVersion : text);
  };
  const auto server = version_in(kServerVersionHeader);
  const auto least_cluster = version_in(kMinClusterVersionHeader);
  const auto own_least = cluster::parse_version(kMinClusterVersion);
  const std::string_view cluster_id = request.header(kClusterIdHeader);
  const auto warn = [&](std::string_view message) {
    log::warn(message, {{"local-member-id", hex_id(options_.self.value)},
                        {"local-member-cluster-id", cluster_id_},
                        {"local-member-server-version", cluster::kEtcdVersion},
                        {"local-member-server-minimum-cluster-version", kMinClusterVersion},
                        {"remote-peer-server-name", request.header(kServerFromHeader)},
                        {"remote-peer-server-version", request.header(kServerVersionHeader)},
                        {"remote-peer-server-minimum-cluster-version", request.header(kMinClusterVersionHeader)},
                        {"remote-peer-cluster-id", cluster_id}});
  };
  // compat: etcd closes the connection of who names something that is no version.
  if (!server || !least_cluster || *server < *own_least || *least_cluster > cluster::kOwnVersion) {
    warn("failed version compatibility check");
    return kIncompatibleVersionText;
  }
  if (cluster_id != cluster_id_) {
    warn("request cluster ID mismatch");
    return kClusterIdMismatchText;
  }
  return {};
}

void PeerListener::note_sender(const net::HttpRequest& request) {
  const auto from = id_of(request.header(kServerFromHeader));
  if (!from) return;
  const std::vector<std::string> urls = split(request.header(kPeerUrlsHeader));
  if (!urls.empty()) host_.add_remote(*from, urls);
  host_.note_kind(*from, is_from_cairn(request));
}

// ---- streams

std::unique_ptr<net::ExchangeHandler> PeerListener::begin_stream(net::Exchange& exchange) {
  const net::HttpRequest& request = exchange.request();
  if (request.method != "GET") {
    refuse(exchange, 405, "Method Not Allowed", {{"Allow", "GET"}});
    return nullptr;
  }
  net::HttpFields headers = {{std::string(kServerVersionHeader), std::string(cluster::kEtcdVersion)},
                             {std::string(kClusterIdHeader), cluster_id_},
                             {std::string(kCairnVersionHeader), std::string(cluster::kCairnVersion)}};
  const auto answer = [&](int status, std::string_view text) {
    refuse(exchange, status, text, headers);
    return nullptr;
  };
  if (const std::string_view why = incompatibility(request); !why.empty()) return answer(412, why);
  const std::string_view path = request.path;
  const size_t slash = path.rfind('/');
  const std::string_view kind_path = path.substr(0, slash);
  if (kind_path != kMsgAppStreamPath && kind_path != kMessageStreamPath) return answer(404, "invalid path");
  const StreamKind kind = kind_path == kMsgAppStreamPath ? StreamKind::kMsgApp : StreamKind::kMessage;
  const auto from = id_of(path.substr(slash + 1));
  if (!from) return answer(404, "invalid from");
  const std::string from_text = hex_id(from->value);
  if (host_.is_removed(*from)) {
    log::warn("rejected stream from remote peer because it was removed", {{"remote-peer-id-from", from_text}});
    return answer(410, "removed member");
  }
  if (!host_.has_peer(*from)) {
    if (const auto urls = split(request.header(kPeerUrlsHeader)); !urls.empty()) host_.add_remote(*from, urls);
    log::warn("failed to find remote peer in cluster",
              {{"remote-peer-id-from", from_text}, {"cluster-id", cluster_id_}});
    return answer(404, "error sender not found");
  }
  if (request.header(kRaftToHeader) != hex_id(options_.self.value)) {
    log::warn("ignored streaming request; ID mismatch",
              {{"remote-peer-id-header", request.header(kRaftToHeader)}, {"remote-peer-id-from", from_text}});
    return answer(412, "to field mismatch");
  }
  host_.note_kind(*from, is_from_cairn(request));
  return host_.attach(*from, kind, exchange, {.content_type = "", .headers = std::move(headers)});
}

// ---- one message

class PeerListener::MessagePost final : public net::ExchangeHandler {
 public:
  MessagePost(PeerListener& owner, net::Exchange& exchange) : owner_(owner), gathered_(exchange) {}

  void on_body(net::Exchange& exchange, std::string_view bytes) override {
    if (exchange.is_answered()) return;
    if (!gathered_.add(bytes.size())) return answer(exchange, 503, "too many unfinished requests");
    body_.append(bytes);
  }

  void on_body_end(net::Exchange& exchange) override {
    if (exchange.is_answered()) return;
    auto message = decode_message(body_);
    if (!message && message.error().code == Code::kUnimplemented) return done(exchange);  // no message between members
    if (!message) {
      log::warn("failed to unmarshal Raft message", {{"error", message.error().message}});
      owner_.host_.metrics(sender(exchange)).received_failures.add();
      return answer(exchange, 400, "error unmarshalling raft message");
    }
    owner_.host_.metrics(message->from).received_bytes.add(body_.size());
    if (owner_.host_.is_removed(message->from)) {
      log::warn("rejected Raft message from removed member", {{"removed-member-id", hex_id(message->from.value)}});
      // compat: etcd means to answer 403, too, and by a slip answers 500.
      return answer(exchange, 403, "cannot process message from removed member");
    }
    if (message->to != owner_.options_.self || message->from == raft::kNoNode) {
      log::warn("rejected Raft message to mismatch member", {{"mismatch-member-id", hex_id(message->to.value)}});
      return answer(exchange, 500, "error processing raft message");
    }
    owner_.host_.deliver(*std::move(message));
    done(exchange);
  }

 private:
  [[nodiscard]] static NodeId sender(net::Exchange& exchange) {
    return id_of(exchange.request().header(kServerFromHeader)).value_or(NodeId{0});
  }
  [[nodiscard]] net::HttpFields headers() const { return {{std::string(kClusterIdHeader), owner_.cluster_id_}}; }
  void answer(net::Exchange& exchange, int status, std::string_view text) const {
    owner_.refuse(exchange, status, text, headers());
  }
  void done(net::Exchange& exchange) const {
    net::respond_whole(exchange, {.status = 204, .content_type = "", .headers = headers()});
  }

  PeerListener& owner_;
  net::GatheredBytes gathered_;
  std::string body_;
};

std::unique_ptr<net::ExchangeHandler> PeerListener::begin_message(net::Exchange& exchange) {
  const net::HttpRequest& request = exchange.request();
  if (request.method != "POST") {
    refuse(exchange, 405, "Method Not Allowed", {{"Allow", "POST"}});
    return nullptr;
  }
  if (const std::string_view why = incompatibility(request); !why.empty()) {
    refuse(exchange, 412, why, {{std::string(kClusterIdHeader), cluster_id_}});
    return nullptr;
  }
  note_sender(request);
  return std::make_unique<MessagePost>(*this, exchange);
}

// ---- a snapshot

class PeerListener::SnapshotPost final : public net::ExchangeHandler {
 public:
  SnapshotPost(PeerListener& owner, net::Exchange& exchange)
      : owner_(owner), exchange_(exchange), gathered_(exchange), began_ns_(now_ns()) {}
  ~SnapshotPost() override { owner_.receiving_.erase(this); }
  SnapshotPost(const SnapshotPost&) = delete;
  SnapshotPost& operator=(const SnapshotPost&) = delete;

  void on_body(net::Exchange&, std::string_view bytes) override {
    if (exchange_.is_answered()) return;
    if (writer_ == nullptr) {
      bytes = take_message(bytes);
      if (writer_ == nullptr || bytes.empty()) return;
    }
    writer_->write(bytes);
    if (writer_->is_full() && !std::exchange(holds_, true)) exchange_.hold_body(true);
  }

  void on_body_end(net::Exchange&) override {
    if (exchange_.is_answered()) return;
    if (writer_ == nullptr) return undecodable(head_.empty() ? "EOF" : "unexpected EOF");
    is_whole_ = true;
    writer_->finish();
  }

  // Of the image so far; nullopt: it has only begun, or is here already.
  [[nodiscard]] std::optional<double> bytes_per_second() const {
    const int64_t took_ns = now_ns() - began_ns_;
    if (took_ns < kImageSettleNs || is_whole_) return std::nullopt;
    return static_cast<double>(writer_->written_bytes()) * 1e9 / static_cast<double>(took_ns);
  }
  void give_way() {
    log::warn("gave up a database snapshot that comes too slowly: another one has begun",
              {{"remote-snapshot-sender-id", hex_id(from_.value)},
               {"incoming-snapshot-index", message_.snapshot->index.value},
               {"bytes", writer_->written_bytes()}});
    refuse(500, "failed to save KV snapshot (it comes too slowly)");
    writer_.reset();
  }

  void on_end(net::Exchange&) override {
    if (!inflight_) return;
    log::warn("failed to save incoming database snapshot",
              {{"remote-snapshot-sender-id", hex_id(from_.value)}, {"error", "unexpected EOF"}});
    owner_.host_.metrics(from_).snapshot_receive_failures.add();
  }

 private:
  // The message in front of the image; the bytes behind it.
  std::string_view take_message(std::string_view bytes) {
    const auto fill = [&](size_t size) {
      const std::string_view taken = bytes.substr(0, size - std::min(size, head_.size()));
      head_.append(taken);
      bytes.remove_prefix(taken.size());
      if (!gathered_.add(taken.size())) undecodable("too many unfinished requests");
      return !exchange_.is_answered() && head_.size() == size;
    };
    if (head_.size() < kLengthBytes && !fill(kLengthBytes)) return {};
    const uint64_t length = load_be64(head_.data());
    if (length > kSnapshotMessageBytesMax) {
      undecodable("rafthttp: error limit exceeded");
      return {};
    }
    if (!fill(kLengthBytes + length)) return {};
    auto message = decode_message(std::string_view(head_).substr(kLengthBytes));
    gathered_.let_go();
    if (!message && message.error().code != Code::kUnimplemented) {
      undecodable(message.error().message);
      return {};
    }
    if (!message || message->type != raft::MessageType::kSnap) {
      if (message) from_ = message->from;
      refuse(400, "wrong raft message type");
      return {};
    }
    message_ = *std::move(message);
    from_ = message_.from;
    begin_image();
    return bytes;
  }

  void begin_image() {
    PeerMetrics& metrics = owner_.host_.metrics(from_);
    metrics.received_bytes.add(head_.size() - kLengthBytes);
    if (owner_.host_.is_removed(from_)) {
      return refuse(403, "cannot process message from removed member");  // compat: as for one message
    }
    if (message_.to != owner_.options_.self || from_ == raft::kNoNode) {
      return refuse(500, "failed to process raft message (cannot process message to mismatch member)");
    }
    if (owner_.options_.snap_directory.empty()) return refuse(500, "failed to save KV snapshot (no directory)");
    if (!owner_.make_room_for_image()) {
      return refuse(500, "failed to save KV snapshot (too many are on their way)");
    }
    owner_.receiving_.insert(this);
    inflight_.emplace(metrics.snapshot_receive_inflights);
    const Index index = message_.snapshot->index;
    log::info("receiving database snapshot", {{"local-member-id", hex_id(owner_.options_.self.value)},
                                              {"remote-snapshot-sender-id", hex_id(from_.value)},
                                              {"incoming-snapshot-index", index.value},
                                              {"incoming-snapshot-message-size-bytes", head_.size() - kLengthBytes}});
    head_ = {};
    writer_ = std::make_unique<ImageWriter>(
        exchange_.loop(), owner_.threads_, *owner_.options_.fs, owner_.options_.snap_directory, index,
        owner_.options_.look_at_image,
        ImageWriter::Events{.on_room =
                                [this] {
                                  if (std::exchange(holds_, false)) exchange_.hold_body(false);
                                },
                            .on_done = [this](const Status& outcome) { on_written(outcome); }});
  }

  void on_written(const Status& outcome) {
    if (exchange_.is_answered()) return;
    if (!outcome) {
      log::warn("failed to save incoming database snapshot",
                {{"remote-snapshot-sender-id", hex_id(from_.value)},
                 {"incoming-snapshot-index", message_.snapshot->index.value},
                 {"error", outcome.error().message}});
      return refuse(500, "failed to save KV snapshot (" + outcome.error().message + ")");
    }
    PeerMetrics& metrics = owner_.host_.metrics(from_);
    const uint64_t bytes = writer_->written_bytes();
    const int64_t took_ns = now_ns() - began_ns_;
    metrics.received_bytes.add(bytes);
    log::info("received and saved database snapshot",
              {{"local-member-id", hex_id(owner_.options_.self.value)},
               {"remote-snapshot-sender-id", hex_id(from_.value)},
               {"incoming-snapshot-index", message_.snapshot->index.value},
               {"incoming-snapshot-size-bytes", bytes},
               {"incoming-snapshot-size", humane_bytes(bytes)},
               {"download-took", go_duration(std::chrono::nanoseconds(took_ns))}});
    owner_.host_.deliver(std::move(message_));
    net::respond_whole(
        exchange_,
        {.status = 204, .content_type = "", .headers = {{std::string(kClusterIdHeader), owner_.cluster_id_}}});
    metrics.snapshot_receive_success.add();
    metrics.snapshot_receive_duration.observe(static_cast<uint64_t>(took_ns));
    metrics.db_save_duration.observe(static_cast<uint64_t>(took_ns));
    metrics.db_sync_duration.observe(static_cast<uint64_t>(writer_->sync_took_ns()));
    owner_.receiving_.erase(this);
    inflight_.reset();
  }

  void undecodable(std::string_view why) {
    log::warn("failed to decode Raft message", {{"remote-snapshot-sender-id", hex_id(from_.value)}, {"error", why}});
    owner_.host_.metrics(from_).received_failures.add();
    refuse(400, fmt::format("failed to decode raft message ({})", why));
  }

  void refuse(int status, std::string_view text) {
    owner_.host_.metrics(from_).snapshot_receive_failures.add();
    owner_.receiving_.erase(this);
    inflight_.reset();
    owner_.refuse(exchange_, status, text, {{std::string(kClusterIdHeader), owner_.cluster_id_}});
  }

  PeerListener& owner_;
  net::Exchange& exchange_;
  net::GatheredBytes gathered_;
  const int64_t began_ns_;
  std::string head_;  // length and message, until both are whole
  NodeId from_;
  raft::Message message_;
  bool holds_ = false;
  bool is_whole_ = false;
  std::optional<metrics::Held> inflight_;  // while an image is taken in
  std::unique_ptr<ImageWriter> writer_;
};

bool PeerListener::make_room_for_image() {
  if (receiving_.size() < kImagesMax) return true;
  SnapshotPost* slowest = nullptr;
  double least = 0;
  for (SnapshotPost* const each : receiving_) {
    const auto speed = each->bytes_per_second();
    if (!speed || (slowest != nullptr && *speed >= least)) continue;
    slowest = each;
    least = *speed;
  }
  if (slowest == nullptr) return false;
  slowest->give_way();
  return true;
}

std::unique_ptr<net::ExchangeHandler> PeerListener::begin_snapshot(net::Exchange& exchange) {
  const net::HttpRequest& request = exchange.request();
  if (request.method != "POST") {
    host_.metrics(NodeId{0}).snapshot_receive_failures.add();
    refuse(exchange, 405, "Method Not Allowed", {{"Allow", "POST"}});
    return nullptr;
  }
  if (const std::string_view why = incompatibility(request); !why.empty()) {
    host_.metrics(NodeId{0}).snapshot_receive_failures.add();
    refuse(exchange, 412, why, {{std::string(kClusterIdHeader), cluster_id_}});
    return nullptr;
  }
  note_sender(request);
  exchange.stream_body();
  return std::make_unique<SnapshotPost>(*this, exchange);
}

}  // namespace cairn::peer
