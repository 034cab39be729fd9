#include "peer/transport.h"

#include <algorithm>
#include <deque>
#include <future>
#include <map>
#include <set>
#include <utility>

#include <pthread.h>

#include "base/bytes.h"
#include "base/log.h"
#include "base/mutex.h"
#include "net/client/http_client.h"
#include "peer/peer_listener.h"
#include "peer/transport_link.h"
#include "peer/transport_prober.h"

namespace cairn::peer {
namespace {

constexpr size_t kRemotesMax = 64;
constexpr size_t kIdleConnectionsMax = 16;   // kept to one member
constexpr size_t kCallsWaitingMax = 10'000;  // to one member
constexpr uint64_t kAnswerBytesMax = 64 << 20;
constexpr uint64_t kRequestBytesMax = kMessageBytesMax;
constexpr uint64_t kMessageOverheadBytes = 256;
constexpr int64_t kHeadTimeoutNs = 10'000'000'000;
constexpr int64_t kBodyTimeoutNs = 60'000'000'000;

uint64_t cost_of(const raft::Message& message) {
  uint64_t bytes = kMessageOverheadBytes + message.context.size();
  for (const raft::Entry& entry : message.entries) bytes += raft::cost_bytes(entry);
  if (message.snapshot) bytes += message.snapshot->data.size();
  return bytes;
}

bool is_dialable(const std::vector<std::string>& urls) {
  return !urls.empty() && std::ranges::all_of(urls, [](const auto& url) { return net::endpoint_of(url).has_value(); });
}

net::ServerOptions server_options(Transport::Options& options) {
  net::ServerOptions out;
  out.listen = std::move(options.listen);
  for (net::Listen& listen : out.listen) {
    listen.grpc = false;
    listen.http_limits = {.body_bytes_max = kRequestBytesMax,
                          .header_timeout_ns = kHeadTimeoutNs,
                          .whole_body_timeout_ns = kBodyTimeoutNs,
                          .read_timeout_ns = options.connection_read_timeout_ns};
    listen.tls.is_for_peers = true;
  }
  out.io_threads = 1;
  out.connections_max = options.connections_max;
  out.newcomers_displace = true;  // strangers must not keep members out
  out.reader_stall_ns = options.connection_write_timeout_ns;
  out.reader_rate_min = 1;
  return out;
}

}  // namespace

struct Transport::Impl final : PeerListener::Host {
  Impl(Options given, Sink& to)
      : options(std::move(given)),
        sink(to),
        metrics_of_peers(*options.registry, options.self),
        listener({.self = options.self,
                  .cluster_id = options.cluster_id,
                  .fs = options.fs,
                  .snap_directory = options.snap_directory,
                  .look_at_image = options.look_at_image},
                 threads, *this),
        server(std::make_unique<net::Server>(server_options(options), nullptr, &listener)),
        loop(*server->loops().front()) {
    const net::HttpClient::Options streaming{
        .tls = options.tls.get(), .dial_timeout_ns = options.dial_timeout_ns, .local_ip = options.local_ip};
    net::HttpClient::Options keeping = streaming;
    keeping.idle_max = kIdleConnectionsMax;
    net::HttpClient::Options patient = streaming;
    patient.write_timeout_ns = options.snapshot_write_timeout_ns;
    patient.read_timeout_ns = options.snapshot_answer_timeout_ns;
    streams = std::make_unique<net::HttpClient>(loop, streaming);
    pipeline = std::make_unique<net::HttpClient>(loop, keeping);
    snapshots = std::make_unique<net::HttpClient>(loop, patient);
    host = std::make_unique<LinkHost>(LinkHost{
        .loop = loop,
        .streams = *streams,
        .pipeline = *pipeline,
        .snapshots = *snapshots,
        .threads = threads,
        .images = {.open = options.open_image, .bytes_per_second_max = options.snapshot_bytes_per_second_max},
        .metrics = metrics_of_peers,
        .deliver =
            [this](std::vector<raft::Message>& messages) { std::ranges::move(messages, std::back_inserter(inbox)); },
        .report = [this](NodeId peer, const Report& report) { on_report(peer, report); },
        .note_kind = [this](NodeId peer, bool is_cairn) { note_kind(peer, is_cairn); }});
    loop.set_turn_end([this] { hand_on(); });
  }

  // ---- PeerListener::Host

  bool is_removed(NodeId id) const override { return removed.contains(id); }
  bool has_peer(NodeId id) const override { return peers.contains(id); }
  PeerMetrics& metrics(NodeId id) override { return metrics_of_peers.of(id); }
  void deliver(raft::Message message) override { inbox.push_back(std::move(message)); }

  void add_remote(NodeId id, const std::vector<std::string>& urls) override {
    if (id == options.self || peers.contains(id) || remotes.contains(id) || removed.contains(id) || is_stopped) return;
    if (remotes.size() >= kRemotesMax || !is_dialable(urls)) return;
    log::info("added new remote peer", {{"local-member-id", hex_id(options.self.value)},
                                        {"remote-peer-id", hex_id(id.value)},
                                        {"remote-peer-urls", urls}});
    remotes[id] = make_link(id, urls, true);
  }

  void note_kind(NodeId id, bool is_cairn) override {
    if (!peers.contains(id)) return;
    const MutexLock lock(known_mutex);
    is_cairn ? void(cairn_members.insert(id)) : void(cairn_members.erase(id));
  }

  std::unique_ptr<net::ExchangeHandler> attach(NodeId id, StreamKind kind, net::Exchange& exchange,
                                               const net::HttpResponse& head) override {
    return peers.at(id).link->attach(kind, exchange, head);
  }

  // ---- members

  // A member with all that runs for it.
  struct Running {
    std::shared_ptr<TransportLink> link;
    std::vector<std::unique_ptr<Prober>> probers;
  };

  [[nodiscard]] std::shared_ptr<TransportLink> make_link(NodeId id, const std::vector<std::string>& urls,
                                                         bool pipeline_only) {
    auto link = std::make_shared<TransportLink>(*host, LinkOptions{.self = options.self,
                                                                   .peer = id,
                                                                   .cluster_id = options.cluster_id,
                                                                   .self_urls = options.self_urls,
                                                                   .peer_urls = urls,
                                                                   .connect_timeout_ns = options.dial_timeout_ns,
                                                                   .pipeline_only = pipeline_only,
                                                                   .limits = options.limits});
    link->start();
    return link;
  }

  void probe(Running& running) {
    running.probers.clear();
    const auto add = [&](net::HttpClient& client, std::string name) {
      running.probers.push_back(std::make_unique<Prober>(loop, client,
                                                         metrics_of_peers.of(running.link->peer()).round_trip,
                                                         Prober::Options{.peer = hex_id(running.link->peer().value),
                                                                         .name = std::move(name),
                                                                         .urls = running.link->urls(),
                                                                         .interval_ns = options.probe_interval_ns}));
    };
    add(*pipeline, "ROUND_TRIPPER_SNAPSHOT");
    add(*streams, "ROUND_TRIPPER_RAFT_MESSAGE");
  }

  void set_members(const std::vector<Peer>& others, const std::vector<NodeId>& gone) {
    if (is_stopped) return;
    removed = {gone.begin(), gone.end()};
    std::erase_if(peers, [&](auto& each) {
      if (std::ranges::any_of(others, [&](const Peer& peer) { return peer.id == each.first; })) return false;
      log::info("removed remote peer", {{"local-member-id", hex_id(options.self.value)},
                                        {"removed-remote-peer-id", hex_id(each.first.value)}});
      end_later(each.first, std::move(each.second.link));
      return true;
    });
    std::erase_if(remotes, [&](auto& each) {
      const bool is_known = removed.contains(each.first) ||
                            std::ranges::any_of(others, [&](const Peer& peer) { return peer.id == each.first; });
      if (is_known) end(each.first, *each.second);
      return is_known;
    });
    for (const Peer& peer : others) {
      if (peer.id == options.self || peer.urls.empty()) continue;
      const auto found = peers.find(peer.id);
      if (found == peers.end()) {
        Running& running = peers[peer.id];
        running.link = make_link(peer.id, peer.urls, false);
        probe(running);
        log::info("added remote peer", {{"local-member-id", hex_id(options.self.value)},
                                        {"remote-peer-id", hex_id(peer.id.value)},
                                        {"remote-peer-urls", peer.urls}});
      } else if (found->second.link->urls() != peer.urls) {
        found->second.link->set_urls(peer.urls);
        probe(found->second);
        log::info("updated remote peer", {{"local-member-id", hex_id(options.self.value)},
                                          {"updated-remote-peer-id", hex_id(peer.id.value)},
                                          {"updated-remote-peer-urls", peer.urls}});
      }
    }
  }

  // What has just been sent leaves at the end of this turn. The member may wait for it: it was removed, and learns so.
  void end_later(NodeId id, std::shared_ptr<TransportLink> link) {
    loop.post([this, id, link = std::move(link)] { end(id, *link); });
  }

  void end(NodeId id, TransportLink& link) {
    link.stop();
    const MutexLock lock(known_mutex);
    if (active_since.erase(id) > 0) metrics_of_peers.of(id).active_peers.add(-1);
  }

  // ---- messages

  void send(std::vector<raft::Message>&& messages) {
    bool wakes = false;
    {
      const MutexLock lock(send_mutex);
      wakes = outgoing.empty() && dropped.empty();
      for (raft::Message& message : messages) {
        const uint64_t cost = cost_of(message);
        if (outgoing_bytes + cost > options.send_bytes_max && !outgoing.empty()) {
          dropped.emplace_back(message.to, message.type == raft::MessageType::kSnap);
          continue;
        }
        outgoing_bytes += cost;
        outgoing.push_back(std::move(message));
      }
      wakes = wakes && !(outgoing.empty() && dropped.empty());
    }
    if (wakes) loop.post([this] { take_outgoing(); });
  }

  void take_outgoing() {
    std::vector<raft::Message> messages;
    std::vector<std::pair<NodeId, bool>> lost;
    {
      const MutexLock lock(send_mutex);
      messages.swap(outgoing);
      lost.swap(dropped);
      outgoing_bytes = 0;
    }
    std::map<NodeId, std::vector<raft::Message>> by_receiver;
    for (raft::Message& message : messages) by_receiver[message.to].push_back(std::move(message));
    for (auto& [to, each] : by_receiver) {
      if (TransportLink* const link = link_of(to)) {
        link->send(std::move(each));
        continue;
      }
      for (const raft::Message& message : each) {
        if (message.type == raft::MessageType::kSnap) sink.on_report(to, Report::Kind::kSnapshotFailed);
      }
    }
    std::set<NodeId> unreachable;
    for (const auto& [to, is_snapshot] : lost) {
      if (is_snapshot) sink.on_report(to, Report::Kind::kSnapshotFailed);
      if (unreachable.insert(to).second) sink.on_report(to, Report::Kind::kUnreachable);
    }
  }

  [[nodiscard]] TransportLink* link_of(NodeId id) {
    if (const auto peer = peers.find(id); peer != peers.end()) return peer->second.link.get();
    const auto remote = remotes.find(id);
    return remote == remotes.end() ? nullptr : remote->second.get();
  }

  void hand_on() {
    if (inbox.empty()) return;
    sink.on_messages(std::exchange(inbox, {}));
  }

  void on_report(NodeId peer, const Report& report) {
    switch (report.kind) {
      case Report::Kind::kActive: {
        const MutexLock lock(known_mutex);
        active_since[peer] = monotonic_now_ns();
        break;
      }
      case Report::Kind::kInactive: {
        const MutexLock lock(known_mutex);
        active_since.erase(peer);
        return;
      }
      case Report::Kind::kClusterIdMismatch:
      case Report::Kind::kIncompatibleVersion: return;
      case Report::Kind::kRemoved: return sink.on_removed_by(peer);
      default: break;
    }
    hand_on();  // what came before it is heard before it
    sink.on_report(peer, report.kind);
  }

  // ---- requests

  class Calling;

  // What is asked of one member.
  struct Asked {
    size_t under_way = 0;
    std::deque<std::unique_ptr<Calling>> waiting;  // each ends by itself: those under way end in time
  };

  void begin_call(NodeId peer, net::HttpRequest request, int64_t timeout_ns, Answered then);
  void begin(std::unique_ptr<Calling> calling);
  void call_ended(NodeId peer);

  // ----

  void stop() {
    if (std::exchange(is_stopped_outside, true)) return;
    std::promise<void> done;
    loop.post([this, &done] {
      is_stopped = true;
      cancel_calls();
      for (auto& [id, running] : peers) {
        running.probers.clear();
        end(id, *running.link);
      }
      for (auto& [id, link] : remotes) end(id, *link);
      take_outgoing_nowhere();
      hand_on();
      peers.clear();
      remotes.clear();
      streams.reset();
      pipeline.reset();
      snapshots.reset();
      done.set_value();
    });
    done.get_future().wait();
    server->stop(0);
    threads.join();
  }

  void cancel_calls();

  // Snapshots are answered for.
  void take_outgoing_nowhere() {
    std::vector<raft::Message> messages;
    {
      const MutexLock lock(send_mutex);
      messages.swap(outgoing);
    }
    for (const raft::Message& message : messages) {
      if (message.type == raft::MessageType::kSnap) sink.on_report(message.to, Report::Kind::kSnapshotFailed);
    }
  }

  Options options;
  Sink& sink;
  TransportMetrics metrics_of_peers;
  TransferThreads threads;
  PeerListener listener;
  std::unique_ptr<net::Server> server;
  net::EventLoop& loop;
  std::vector<std::string> addresses;
  std::unique_ptr<net::HttpClient> streams;
  std::unique_ptr<net::HttpClient> pipeline;
  std::unique_ptr<net::HttpClient> snapshots;
  std::unique_ptr<LinkHost> host;
  bool is_stopped_outside = false;  // of the thread that owns the transport

  // The peer thread's.
  std::map<NodeId, Running> peers;
  std::map<NodeId, std::shared_ptr<TransportLink>> remotes;  // not members, as far as this one knows
  std::set<NodeId> removed;
  std::vector<raft::Message> inbox;                    // of this turn
  std::map<Calling*, std::unique_ptr<Calling>> calls;  // under way
  std::map<NodeId, Asked> asked;
  bool is_stopped = false;

  Mutex send_mutex;
  std::vector<raft::Message> outgoing CAIRN_GUARDED_BY(send_mutex);
  uint64_t outgoing_bytes CAIRN_GUARDED_BY(send_mutex) = 0;
  std::vector<std::pair<NodeId, bool>> dropped CAIRN_GUARDED_BY(send_mutex);  // receiver, and whether it was a snapshot

  mutable Mutex known_mutex;
  std::map<NodeId, int64_t> active_since CAIRN_GUARDED_BY(known_mutex);
  std::set<NodeId> cairn_members
      CAIRN_GUARDED_BY(known_mutex);  // those of the others that are Cairn's, removed ones too
};

// A request of call(): at one URL after the other.
class Transport::Impl::Calling final : public net::HttpClient::Hearer {
 public:
  Calling(Impl& owner, NodeId peer, std::vector<std::string> urls, net::HttpRequest request, int64_t timeout_ns,
          Answered then)
      : owner_(owner),
        peer_(peer),
        urls_(std::move(urls)),
        request_(std::move(request)),
        due_ns_(monotonic_now_ns() + timeout_ns),
        then_(std::move(then)) {}

  void begin() {
    const int64_t left_ns = due_ns_ - monotonic_now_ns();
    if (left_ns <= 0) return end(fail(Code::kDeadlineExceeded, "context deadline exceeded"));
    auto endpoint = net::endpoint_of(urls_[next_++]);
    if (!endpoint) return end(std::unexpected(std::move(endpoint).error()));
    answer_ = {};
    call_ = owner_.pipeline->start({.endpoint = *std::move(endpoint), .head = request_, .deadline_ns = left_ns}, *this);
  }
  [[nodiscard]] NodeId peer() const { return peer_; }
  // Also one that has not begun.
  void cancel() { end(fail(Code::kCancelled, "peer: the transport was stopped")); }

  void on_head(const net::HttpResponse& head) override { answer_ = head; }
  void on_body(std::string_view bytes) override {
    if (answer_.body.size() + bytes.size() > kAnswerBytesMax) {
      return end(fail(Code::kResourceExhausted, "peer: the answer is too long"));
    }
    answer_.body.append(bytes);
  }
  void on_end(Status outcome) override {
    const auto gone = std::move(call_);
    if (outcome) return end(std::move(answer_));
    if (next_ < urls_.size()) return begin();
    end(std::unexpected(std::move(outcome).error()));
  }

 private:
  void end(Result<net::HttpResponse> outcome) {
    const auto self = owner_.calls.extract(this);  // alive until the end of this function
    then_(std::move(outcome));
    if (!self.empty()) owner_.call_ended(peer_);
  }

  Impl& owner_;
  const NodeId peer_;
  const std::vector<std::string> urls_;
  const net::HttpRequest request_;
  const int64_t due_ns_;
  const Answered then_;
  size_t next_ = 0;
  net::HttpResponse answer_;
  std::unique_ptr<net::HttpClient::Call> call_;
};

void Transport::Impl::begin_call(NodeId peer, net::HttpRequest request, int64_t timeout_ns, Answered then) {
  if (is_stopped) return then(fail(Code::kCancelled, "peer: the transport was stopped"));
  const TransportLink* const link = link_of(peer);
  if (link == nullptr) return then(fail(Code::kNotFound, "peer: no member {}", hex_id(peer.value)));
  Asked& to = asked[peer];
  if (to.under_way >= options.calls_max && to.waiting.size() >= kCallsWaitingMax) {
    return then(fail(Code::kResourceExhausted, "peer: too many requests to member {}", hex_id(peer.value)));
  }
  auto calling = std::make_unique<Calling>(*this, peer, link->urls(), std::move(request), timeout_ns, std::move(then));
  if (to.under_way >= options.calls_max) return to.waiting.push_back(std::move(calling));
  begin(std::move(calling));
}

void Transport::Impl::begin(std::unique_ptr<Calling> calling) {
  Calling* const begun = calling.get();
  ++asked[begun->peer()].under_way;
  calls[begun] = std::move(calling);
  begun->begin();
}

// In a turn of its own: what waits may end at once, too, and so on.
void Transport::Impl::call_ended(NodeId peer) {
  const auto found = asked.find(peer);
  --found->second.under_way;
  if (found->second.waiting.empty()) {
    if (found->second.under_way == 0) asked.erase(found);
    return;
  }
  loop.post([this, peer] {
    for (auto to = asked.find(peer); to != asked.end(); to = asked.find(peer)) {
      if (to->second.under_way >= options.calls_max || to->second.waiting.empty()) return;
      std::unique_ptr<Calling> next = std::move(to->second.waiting.front());
      to->second.waiting.pop_front();
      begin(std::move(next));
    }
  });
}

void Transport::Impl::cancel_calls() {
  for (auto& [peer, to] : asked) {
    for (const auto& calling : std::exchange(to.waiting, {})) calling->cancel();
  }
  while (!calls.empty()) calls.begin()->second->cancel();
}

Transport::Transport(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Transport::~Transport() { stop(); }

Result<std::unique_ptr<Transport>> Transport::start(Options options, Sink& sink) {
  auto impl = std::make_unique<Impl>(std::move(options), sink);
  // The first task of the loop: no connection is taken before it.
  impl->loop.post([impl = impl.get()] { impl->set_members(impl->options.others, impl->options.removed); });
  for (auto& [path, handler] : impl->options.routes) impl->listener.serve(path, std::move(handler));
  auto addresses = impl->server->start();
  if (!addresses) {
    impl->streams.reset();
    impl->pipeline.reset();
    impl->snapshots.reset();
    return std::unexpected(std::move(addresses).error());
  }
  impl->addresses = *std::move(addresses);
  impl->loop.post([] { pthread_setname_np(pthread_self(), "cairn-peer"); });
  return std::unique_ptr<Transport>(new Transport(std::move(impl)));
}

const std::vector<std::string>& Transport::addresses() const { return impl_->addresses; }

void Transport::set_members(std::vector<Peer> others, std::vector<NodeId> removed) {
  impl_->loop.post([impl = impl_.get(), others = std::move(others), removed = std::move(removed)] {
    impl->set_members(others, removed);
  });
}

void Transport::send(std::vector<raft::Message> messages) { impl_->send(std::move(messages)); }

void Transport::redial(NodeId peer) {
  impl_->loop.post([impl = impl_.get(), peer] {
    const auto found = impl->peers.find(peer);
    if (found != impl->peers.end()) found->second.link->redial();
  });
}

std::optional<int64_t> Transport::active_since_ns(NodeId peer) const {
  const MutexLock lock(impl_->known_mutex);
  const auto found = impl_->active_since.find(peer);
  return found == impl_->active_since.end() ? std::nullopt : std::optional(found->second);
}

Transport::Streams Transport::streams(NodeId peer) const {
  std::promise<Streams> out;
  impl_->loop.post([&, impl = impl_.get()] {
    const auto found = impl->peers.find(peer);
    if (found == impl->peers.end()) return out.set_value({});
    const TransportLink& link = *found->second.link;
    out.set_value({.from_us = link.attached_count(), .to_us = link.open_count()});
  });
  return out.get_future().get();
}

bool Transport::speaks_cairn(NodeId peer) const {
  const MutexLock lock(impl_->known_mutex);
  return impl_->cairn_members.contains(peer);
}

void Transport::call(NodeId peer, net::HttpRequest request, int64_t timeout_ns, Answered then) {
  // A task that never runs would never answer.
  class Once {
   public:
    explicit Once(Answered then) : then_(std::move(then)) {}
    ~Once() {
      if (then_) then_(fail(Code::kCancelled, "peer: the transport was stopped"));
    }
    [[nodiscard]] Answered take() { return std::exchange(then_, nullptr); }

   private:
    Answered then_;
  };
  impl_->loop.post([impl = impl_.get(), peer, timeout_ns, request = std::move(request),
                    once = std::make_shared<Once>(std::move(then))]() mutable {
    impl->begin_call(peer, std::move(request), timeout_ns, once->take());
  });
}

void Transport::serve(std::string path, Handler handler) { impl_->listener.serve(std::move(path), std::move(handler)); }

void Transport::stop() { impl_->stop(); }

}  // namespace cairn::peer
