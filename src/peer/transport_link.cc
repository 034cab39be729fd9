#include "peer/transport_link.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "base/bytes.h"
#include "base/humane_bytes.h"
#include "base/log.h"
#include "env/clock.h"

namespace cairn::peer {
namespace {

constexpr uint64_t kImageQueuedBytesMax = 512 * 1024;  // of one snapshot, on its way to the socket

Answer answer_of(const Error& error) {
  Answer out;
  out.kind = error.code == Code::kAborted            ? Answer::Kind::kRefused
             : error.code == Code::kDeadlineExceeded ? Answer::Kind::kTimedOut
                                                     : Answer::Kind::kFailed;
  out.detail = error.message;
  return out;
}

}  // namespace

int64_t monotonic_now_ns() { return env::PosixClock().monotonic_ns(); }

// The answer to one request, as a Link wants it.
class AnswerHearer : public net::HttpClient::Hearer {
 public:
  void on_head(const net::HttpResponse& head) override {
    answer_.kind = Answer::Kind::kAnswered;
    answer_.status = head.status;
    for (const auto& [name, value] : head.headers) {
      if (net::equal_ignoring_case(name, kServerVersionHeader)) answer_.server_version = value;
      if (net::equal_ignoring_case(name, kCairnVersionHeader)) is_cairn_ = true;
    }
  }
  void on_body(std::string_view bytes) override {
    answer_.body.append(bytes.substr(0, kAnswerBodyBytesMax - std::min(answer_.body.size(), kAnswerBodyBytesMax)));
  }

 protected:
  [[nodiscard]] Answer take(const Status& outcome) { return outcome ? std::move(answer_) : answer_of(outcome.error()); }

  Answer answer_;
  bool is_cairn_ = false;  // the answer says so
};

// A stream that we read, or a probe.
class TransportLink::Dialled final : public AnswerHearer {
 public:
  Dialled(TransportLink& owner, LinkId id, bool is_probe) : owner_(owner), id_(id), is_probe_(is_probe) {}
  std::unique_ptr<net::HttpClient::Call> call;
  [[nodiscard]] bool is_stream() const { return is_stream_; }

  void on_head(const net::HttpResponse& head) override {
    AnswerHearer::on_head(head);
    if (head.status != 200) return;
    is_stream_ = true;
    if (!is_probe_) owner_.host_.note_kind(owner_.peer(), is_cairn_);
    owner_.step([this](Link& link, int64_t now_ns, Effects& out) { link.on_dialled(id_, answer_, now_ns, out); });
  }
  void on_body(std::string_view bytes) override {
    if (!is_stream_) return AnswerHearer::on_body(bytes);
    owner_.metrics_.received_bytes.add(bytes.size());
    owner_.step([&](Link& link, int64_t now_ns, Effects& out) { link.on_bytes(id_, bytes, now_ns, out); });
  }
  void on_end(Status outcome) override {
    const auto self = owner_.dialled_.extract(id_);  // alive until the end of this function
    owner_.step([&](Link& link, int64_t now_ns, Effects& out) {
      if (!is_stream_) return link.on_dialled(id_, take(outcome), now_ns, out);
      link.on_closed(id_, outcome ? Ending::kEnded : Ending::kFailed, outcome ? "EOF" : outcome.error().message, now_ns,
                     out);
    });
  }

 private:
  TransportLink& owner_;
  const LinkId id_;
  const bool is_probe_;
  bool is_stream_ = false;
};

class TransportLink::Posted final : public AnswerHearer {
 public:
  Posted(TransportLink& owner, LinkId id, uint64_t bytes) : owner_(owner), id_(id), bytes_(bytes) {}
  std::unique_ptr<net::HttpClient::Call> call;

  void on_end(Status outcome) override {
    const auto self = owner_.posted_.extract(id_);
    Answer answer = take(outcome);
    if (answer.status == 204) owner_.metrics_.sent_bytes.add(bytes_);
    owner_.step([&](Link& link, int64_t now_ns, Effects& out) { link.on_posted(id_, answer, now_ns, out); });
  }

 private:
  TransportLink& owner_;
  const LinkId id_;
  const uint64_t bytes_;
};

// One snapshot on its way: the message, then the image as the disk gives it and the peer takes it.
class TransportLink::SnapshotSending final : public AnswerHearer {
 public:
  SnapshotSending(TransportLink& owner, PostSnapshot& effect, net::HttpClient::Request request)
      : owner_(owner),
        id_(effect.id),
        index_(effect.message.snapshot->index),
        began_ns_(monotonic_now_ns()),
        bytes_(effect.prefix.size()) {
    inflight_.emplace(owner.metrics_.snapshot_send_inflights);
    call_ = owner.host_.snapshots.start(std::move(request), *this);
    call_->write(effect.prefix);
    reader_ = std::make_unique<ImageReader>(owner.host_.loop, owner.host_.threads, owner.host_.images,
                                            std::move(effect.message), [this] { pump(); });
  }

  void on_writable() override { pump(); }
  void on_end(Status outcome) override { end(take(outcome)); }

 private:
  void pump() {
    while (!is_sent_ && call_->queued_bytes() < kImageQueuedBytesMax) {
      auto piece = reader_->take();
      if (!piece) return;
      if (!*piece) return end(answer_of({.code = Code::kUnavailable, .message = piece->error().message}));
      if (!std::exchange(has_begun_, true)) tell_begin();
      if ((*piece)->empty()) {
        is_sent_ = true;
        return call_->finish();
      }
      bytes_ += (*piece)->size();
      call_->write(**piece);
    }
  }

  void tell_begin() {
    log::info("sending database snapshot", {{"snapshot-index", index_.value},
                                            {"remote-peer-id", hex_id(owner_.peer().value)},
                                            {"bytes", reader_->size_bytes()},
                                            {"size", humane_bytes(reader_->size_bytes())}});
  }

  void end(Answer answer) {
    const auto self = owner_.snapshots_.extract(id_);
    if (self.empty()) return;
    inflight_.reset();
    PeerMetrics& metrics = owner_.metrics_;
    const std::string peer = hex_id(owner_.peer().value);
    if (answer.kind == Answer::Kind::kAnswered && answer.status == 204) {
      log::info("sent database snapshot", {{"snapshot-index", index_.value},
                                           {"remote-peer-id", peer},
                                           {"bytes", bytes_},
                                           {"size", humane_bytes(bytes_)}});
      metrics.sent_bytes.add(bytes_);
      metrics.snapshot_send_success.add();
      metrics.snapshot_send_duration.observe(static_cast<uint64_t>(monotonic_now_ns() - began_ns_));
    } else {
      log::warn(
          "failed to send database snapshot",
          {{"snapshot-index", index_.value},
           {"remote-peer-id", peer},
           {"bytes", bytes_},
           {"error", answer.kind == Answer::Kind::kAnswered ? fmt::format("status {}: {}", answer.status, answer.body)
                                                            : answer.detail}});
      metrics.snapshot_send_failures.add();
      metrics.sent_failures.add();
    }
    owner_.step([&](Link& link, int64_t now_ns, Effects& out) { link.on_posted(id_, answer, now_ns, out); });
  }

  TransportLink& owner_;
  const LinkId id_;
  const Index index_;
  const int64_t began_ns_;
  std::optional<metrics::Held> inflight_;
  uint64_t bytes_;
  bool has_begun_ = false;
  bool is_sent_ = false;
  std::unique_ptr<net::HttpClient::Call> call_;
  std::unique_ptr<ImageReader> reader_;
};

// The peer's GET of a stream: what we write to it.
class TransportLink::StreamExchange final : public net::ExchangeHandler {
 public:
  StreamExchange(std::weak_ptr<TransportLink> owner, LinkId id) : owner_(std::move(owner)), id_(id) {}

  void on_writable(net::Exchange&) override {
    const auto owner = owner_.lock();
    if (owner == nullptr) return;
    const auto found = owner->attached_.find(id_);
    if (found == owner->attached_.end() || found->second.outstanding_bytes == 0) return;
    owner->step([&](Link&, int64_t, Effects& out) { owner->note_drained(id_, found->second, out); });
  }
  void on_end(net::Exchange&) override {
    const auto owner = owner_.lock();
    if (owner == nullptr || owner->attached_.erase(id_) == 0) return;
    owner->step([&](Link& link, int64_t now_ns, Effects& out) {
      link.on_closed(id_, Ending::kFailed, "the connection was closed", now_ns, out);
    });
  }

 private:
  const std::weak_ptr<TransportLink> owner_;
  const LinkId id_;
};

TransportLink::TransportLink(LinkHost& host, const LinkOptions& options)
    : host_(host), link_(options), urls_(options.peer_urls), metrics_(host.metrics.of(options.peer)) {}

TransportLink::~TransportLink() = default;

template <class Event>
void TransportLink::step(const Event& event) {
  Effects effects;
  event(link_, monotonic_now_ns(), effects);
  perform(effects);
  set_timer();
}

void TransportLink::start() {
  step([](Link& link, int64_t now_ns, Effects& out) { link.start(now_ns, out); });
}

void TransportLink::stop() {
  Effects effects;
  link_.stop(effects);
  perform(effects);
  timer_.reset();
  // What the link did not name has ended already, or is not heard any more.
  dialled_.clear();
  posted_.clear();
  snapshots_.clear();
}

void TransportLink::send(std::vector<raft::Message> messages) {
  step([&](Link& link, int64_t now_ns, Effects& out) { link.send(std::move(messages), now_ns, out); });
}

void TransportLink::redial() {
  step([](Link& link, int64_t now_ns, Effects& out) { link.redial_now(now_ns, out); });
}

void TransportLink::set_urls(const std::vector<std::string>& urls) {
  urls_ = urls;
  link_.set_urls(urls);
}

size_t TransportLink::open_count() const {
  return static_cast<size_t>(
      std::ranges::count_if(dialled_, [](const auto& each) { return each.second->is_stream(); }));
}

std::unique_ptr<net::ExchangeHandler> TransportLink::attach(StreamKind kind, net::Exchange& exchange,
                                                            const net::HttpResponse& head) {
  exchange.respond(head, std::nullopt);
  LinkId id = 0;
  step([&](Link& link, int64_t now_ns, Effects& out) {
    id = link.on_attached(kind, now_ns, out);
    attached_[id] = {.exchange = exchange.id()};
  });
  return std::make_unique<StreamExchange>(weak_from_this(), id);
}

void TransportLink::note_drained(LinkId id, Attached& attached, Effects& out) {
  net::Exchange* const exchange = host_.loop.find(attached.exchange);
  if (exchange == nullptr) return;
  const uint64_t left = std::min(exchange->queued_bytes(), attached.outstanding_bytes);
  const uint64_t gone = std::exchange(attached.outstanding_bytes, left) - left;
  if (gone > 0) link_.on_drained(id, gone, monotonic_now_ns(), out);
}

void TransportLink::set_timer() {
  const auto due_ns = link_.wake_at_ns();
  // A timer that is too early looks again.
  if (!due_ns || (timer_ != nullptr && timer_due_ns_ <= *due_ns)) return;
  timer_due_ns_ = *due_ns;
  timer_ = host_.loop.after(*due_ns - monotonic_now_ns(), [this] {
    timer_.reset();
    step([this](Link& link, int64_t now_ns, Effects& out) {
      for (auto& [id, attached] : attached_) note_drained(id, attached, out);
      link.on_time(now_ns, out);
    });
  });
}

void TransportLink::perform(Effects& effects) {
  for (Effect& effect : effects) {
    std::visit([this](auto& each) { perform(each); }, effect);
  }
}

net::HttpClient::Request TransportLink::request_to(const std::string& url, std::string method, std::string path,
                                                   Headers headers, int64_t connect_timeout_ns) {
  net::HttpClient::Request out;
  if (auto endpoint = net::endpoint_of(url)) {
    out.endpoint = *std::move(endpoint);
  } else {
    out.endpoint.address = url;  // that nobody can dial: the answer says so
  }
  out.head.method = std::move(method);
  out.head.path = std::move(path);
  out.head.headers = std::move(headers);
  out.dial_timeout_ns = connect_timeout_ns;
  return out;
}

void TransportLink::perform(Dial& effect) {
  auto dialled = std::make_unique<Dialled>(*this, effect.id, effect.path == kProbingPath);
  dialled->call = host_.streams.start(
      request_to(effect.url, "GET", std::move(effect.path), std::move(effect.headers), effect.connect_timeout_ns),
      *dialled);
  dialled_[effect.id] = std::move(dialled);
}

void TransportLink::perform(Write& effect) {
  const auto found = attached_.find(effect.id);
  if (found == attached_.end()) return;
  net::Exchange* const exchange = host_.loop.find(found->second.exchange);
  if (exchange == nullptr) return;
  std::vector<std::string_view> views;
  views.reserve(effect.bytes.count());
  effect.bytes.visit([&](std::string_view bytes) { views.push_back(bytes); });
  exchange->write_pieces(views);
  found->second.outstanding_bytes += effect.bytes.size();
  metrics_.sent_bytes.add(effect.bytes.size());
}

void TransportLink::perform(Post& effect) {
  auto posted = std::make_unique<Posted>(*this, effect.id, effect.body.size());
  auto request =
      request_to(effect.url, "POST", std::move(effect.path), std::move(effect.headers), effect.connect_timeout_ns);
  request.head.body = effect.body.flat();
  posted->call = host_.pipeline.start(std::move(request), *posted);
  posted_[effect.id] = std::move(posted);
}

void TransportLink::perform(PostSnapshot& effect) {
  auto request =
      request_to(effect.url, "POST", std::move(effect.path), std::move(effect.headers), effect.connect_timeout_ns);
  request.streams_body = true;
  const LinkId id = effect.id;
  snapshots_[id] = std::make_unique<SnapshotSending>(*this, effect, std::move(request));
}

void TransportLink::perform(Close& effect) {
  if (dialled_.erase(effect.id) > 0 || posted_.erase(effect.id) > 0 || snapshots_.erase(effect.id) > 0) return;
  const auto found = attached_.find(effect.id);
  if (found == attached_.end()) return;
  net::Exchange* const exchange = host_.loop.find(found->second.exchange);
  attached_.erase(found);
  if (exchange == nullptr) return;
  // In order, if the peer has taken all; else nobody waits until it does.
  exchange->queued_bytes() == 0 ? exchange->finish() : exchange->abort();
}

void TransportLink::perform(Deliver& effect) { host_.deliver(effect.messages); }

void TransportLink::perform(Report& effect) {
  const std::string id = hex_id(peer().value);
  switch (effect.kind) {
    case Report::Kind::kActive:
      log::info("peer became active", {{"peer-id", id}});
      metrics_.active_peers.add(1);
      break;
    case Report::Kind::kInactive:
      log::warn("peer became inactive (message send to peer failed)", {{"peer-id", id}, {"error", effect.detail}});
      metrics_.active_peers.add(-1);
      metrics_.disconnected_peers.add();
      break;
    case Report::Kind::kUnreachable: metrics_.sent_failures.add(); break;
    case Report::Kind::kStreamCut:
      log::warn("lost TCP streaming connection with remote peer", {{"remote-peer-id", id}, {"error", effect.detail}});
      break;
    case Report::Kind::kDied: log::warn("peer refuses connections", {{"peer-id", id}}); break;
    case Report::Kind::kClusterIdMismatch:
      log::warn("request sent was ignored by remote peer due to cluster ID mismatch", {{"remote-peer-id", id}});
      break;
    case Report::Kind::kIncompatibleVersion:
      log::warn("request sent was ignored by remote peer due to server version incompatibility",
                {{"remote-peer-id", id}});
      break;
    case Report::Kind::kRemoved:
      log::error("the member has been permanently removed from the cluster",
                 {{"remote-peer-id", id}, {"detail", effect.detail}});
      break;
    case Report::Kind::kSnapshotDelivered:
    case Report::Kind::kSnapshotFailed: break;
  }
  host_.report(peer(), effect);
}

}  // namespace cairn::peer
