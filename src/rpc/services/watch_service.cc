#include "rpc/services/watch_service.h"

#include <string>
#include <utility>

#include "base/errors.h"
#include "base/fault.h"
#include "base/random.h"
#include "base/wire.h"
#include "proto/rpc.pb.h"
#include "rpc/handler.h"
#include "rpc/unmarshal.h"
#include "rpc/watch_loop.h"
#include "tracing/tracer.h"

namespace cairn::rpc {
namespace {

// A stream takes no more events while so much waits for its client.
constexpr uint64_t kQueueBytesMax = 64 << 10;
constexpr uint64_t kQueueBytesSmall = 4 << 10;  // while all clients together take too little
// compat: a client that takes nothing of so much is ended, with etcd it stays; of less it may stay here too.
constexpr uint64_t kStalledBytesMax = 256 << 10;
constexpr uint64_t kOverheadBytes = 512 << 10;  // of a message beyond its requests: where etcd begins a fragment
constexpr size_t kFragmentFlagBytes = 2;

class WatchHandler final : public Handler, private WatchLoop::Stream {
 public:
  WatchHandler(Context& context, const Method& method, const Caller& caller)
      : Handler(context, method, caller),
        began_ns_(context.clock().monotonic_ns()),
        progress_interval_ns_(with_jitter(context.limits().watch_progress_interval_ns, began_ns_)) {}

  // As etcd, which counts a stream before its first message.
  void on_begin(net::Call& call) override {
    if (!watches().open(*this)) return finish_with(call, errors::stopped());
    call_ = &call;
    context_.metrics().watch_streams.add(1);
  }
  void on_message(net::Call& call, std::string_view message) override {
    etcdserverpb::WatchRequest request;
    if (const Status parsed = unmarshal(message, request, Answer::kStream); !parsed) {
      return finish_with(call, parsed.error());
    }
    const metrics::StopWatch watch(&context_.metrics().watch_send_control);
    if (request.has_create_request()) {
      create(request.create_request());
    } else if (request.has_cancel_request()) {
      cancel(request.cancel_request().watch_id());
    } else if (request.has_progress_request()) {
      send_progress_of_all();
    }
  }
  void on_writable(net::Call&) override {
    forget_pending();
    watches().unblock(*this);
  }
  [[nodiscard]] bool ends_when_stalled() const override {
    return call_ != nullptr && call_->queued_bytes() > kStalledBytesMax;
  }
  void on_end(net::Call& call) override {
    if (call_ != nullptr) {
      watches().close(*this);
      context_.metrics().watch_streams.add(-1);
      forget_pending();
    }
    Handler::on_end(call);
  }

 private:
  // So that streams that began together do not all send together.
  static int64_t with_jitter(int64_t interval_ns, int64_t seed) {
    return interval_ns +
           static_cast<int64_t>(Random(static_cast<uint64_t>(seed)).below(static_cast<uint64_t>(interval_ns) / 10));
  }
  WatchLoop& watches() { return context_.watches(); }

  // The watcher's: it lasts until the client cancels it, or the stream ends.
  static void open_span(tracing::CallTrace& call, const etcdserverpb::WatchCreateRequest& request, int64_t id) {
    const bool is_first = request.key().empty();  // as etcd shows it
    const bool is_to_last = request.range_end() == std::string_view("\0", 1);
    call.open("watch",
              {{"key", is_first ? std::string(1, '\0') : request.key()},
               {"range_end", is_to_last ? std::string() : request.range_end()},
               {"start_rev", int64_t{request.start_revision()}},
               {"progress_notify", request.progress_notify()},
               {"prev_kv", request.prev_kv()},
               {"fragment", request.fragment()}},
              static_cast<uint64_t>(id));
  }

  // --- requests

  void create(const etcdserverpb::WatchCreateRequest& request) {
    watches().refresh();
    const int64_t revision = watches().hub().seen();
    if (request.start_revision() < 0) return refuse(revision, errors::compacted());
    const auto interval = admit_watch(request);
    if (!interval) return refuse(revision, as_go_shows(interval.error()));
    mvcc::WatchHub::Wanted wanted;
    wanted.target.interval = mvcc::OwnedInterval(*interval);
    for (const int filter : request.filters()) {
      if (filter == etcdserverpb::WatchCreateRequest::NOPUT) wanted.target.no_put = true;
      if (filter == etcdserverpb::WatchCreateRequest::NODELETE) wanted.target.no_delete = true;
    }
    wanted.target.prev_kv = request.prev_kv();
    wanted.start = request.start_revision();
    wanted.id = request.watch_id();
    const auto added = watches().hub().add(*this, std::move(wanted));
    if (!added) return refuse(revision, added.error());
    (*added)->fragment = request.fragment();
    (*added)->progress_notify = request.progress_notify();
    if (trace() != nullptr) open_span(*trace(), request, (*added)->id());
    if (request.progress_notify()) begin_progress();
    std::string& out = response(revision, (*added)->id());
    wire::append_varint_field(out, 3, 1);
    call_->send(out);
    watches().catch_up();
  }
  [[nodiscard]] Result<mvcc::KeyInterval> admit_watch(const etcdserverpb::WatchCreateRequest& request) {
    const auto state = context_.enter();
    CAIRN_TRY(const auth::Identity who, identify(*call_, *state));
    return member::admit_watch(*state->auth, who, request.key(), request.range_end());
  }
  // A reason for a cancel is the text of an error as Go prints it.
  [[nodiscard]] static Error as_go_shows(const Error& error) {
    const std::string_view code = error.code == Code::kUnauthenticated    ? "Unauthenticated"
                                  : error.code == Code::kPermissionDenied ? "PermissionDenied"
                                                                          : "InvalidArgument";
    return {error.code, fmt::format("rpc error: code = {} desc = {}", code, error.message)};
  }
  // As etcd: created and cancelled at once, with no watcher's id.
  void refuse(int64_t revision, const Error& error) {
    std::string& out = response(revision, -1);
    wire::append_varint_field(out, 3, 1);
    wire::append_varint_field(out, 4, 1);
    wire::append_bytes_field(out, 6, error.message);
    call_->send(out);
  }
  void cancel(int64_t id) {
    watches().refresh();
    if (!watches().hub().remove(*this, id)) return;
    if (trace() != nullptr) trace()->close(static_cast<uint64_t>(id));
    std::string& out = response(watches().hub().seen(), id);
    wire::append_varint_field(out, 4, 1);
    call_->send(out);
    watches().catch_up();
  }

  // --- progress

  void send_progress_of_all() {
    watches().refresh();
    if (size() == 0 || !watches().hub().is_synced(*this) || call_->queued_bytes() > kQueueBytesMax) return;
    CAIRN_FAULT("beforeSendWatchResponse");
    call_->send(response(watches().hub().seen(), -1));
  }
  void begin_progress() {
    if (progress_timer_ != nullptr) return;
    const int64_t passed_ns = (context_.clock().monotonic_ns() - began_ns_) % progress_interval_ns_;
    progress_timer_ = context_.loop().after(progress_interval_ns_ - passed_ns, [this] { send_progress(); });
  }
  void send_progress() {
    const metrics::StopWatch watch(&context_.metrics().watch_send_progress);
    watches().refresh();
    bool is_wanted = false;
    each([&](const mvcc::Watcher& watcher) {
      if (!watcher.progress_notify) return;
      is_wanted = true;
      const bool is_due = std::exchange(watcher.progress_due, true);
      if (!is_due || !watches().hub().is_synced(watcher) || call_->queued_bytes() > kQueueBytesMax) return;
      CAIRN_FAULT("beforeSendWatchResponse");
      call_->send(response(watches().hub().seen(), watcher.id()));
    });
    progress_timer_.reset();
    if (is_wanted) begin_progress();
  }

  // --- events

  bool has_room() const override { return call_->queued_bytes() <= queue_bytes_max(); }
  // While much waits for clients, watchers wait for theirs: events come from the store as well.
  [[nodiscard]] uint64_t queue_bytes_max() const {
    return call_->queued_bytes() > kQueueBytesSmall && call_->is_room_scarce() ? kQueueBytesSmall : kQueueBytesMax;
  }
  bool send(const mvcc::Watcher& watcher, const mvcc::SharedBatch& batch, int64_t revision) override {
    CAIRN_FAULT("beforeSendWatchResponse");
    const std::string_view events = batch->events;
    if (events.size() > net::Call::kCopiedBytesMax && batch->note == nullptr) {
      if (events.size() > call_->room_bytes()) return refused();
      batch->note = context_.loop().charge(events.size());
    }
    std::string& head = response(revision, watcher.id());
    const size_t message_bytes_max = size_t{context_.limits().request_bytes_max} + kOverheadBytes;
    if (!watcher.fragment || batch->count < 2 || head.size() + events.size() < message_bytes_max) {
      if (!call_->offer(head, events, batch, queue_bytes_max())) return refused();
    } else if (!send_fragments(head, batch, message_bytes_max)) {
      return refused();
    }
    watcher.progress_due = false;
    pending_events_ += batch->count;
    context_.metrics().pending_watch_events.add(static_cast<int64_t>(batch->count));
    watches().note_sent(batch->count);
    return true;
  }
  bool refused() {
    if (call_->queued_bytes() == 0) watches().ask_again_later();
    return false;
  }
  // All or none: what follows the first part waits as long as it must.
  bool send_fragments(const std::string& head, const mvcc::SharedBatch& batch, size_t message_bytes_max) {
    const auto parts = mvcc::split_events(batch->events, head.size() + kFragmentFlagBytes, message_bytes_max);
    std::string flagged = head;
    wire::append_varint_field(flagged, 7, 1);
    if (!call_->offer(parts.size() > 1 ? flagged : head, parts.front(), batch, queue_bytes_max())) return false;
    for (size_t i = 1; i < parts.size(); ++i) {
      const bool is_last = i + 1 == parts.size();
      if (call_->offer(is_last ? head : flagged, parts[i], batch, UINT64_MAX)) continue;
      call_->finish(Code::kResourceExhausted, "cairn: too many bytes of answers wait for clients to take them");
      return true;
    }
    return true;
  }
  void on_compacted(const mvcc::Watcher& watcher, int64_t compact_revision) override {
    CAIRN_FAULT("beforeSendWatchResponse");
    std::string& out = response(0, watcher.id());
    wire::append_varint_field(out, 4, 1);
    wire::append_varint_field(out, 5, static_cast<uint64_t>(compact_revision));
    call_->send(out);
  }
  void fail(const Error& error) override { finish_with(*call_, error); }
  [[nodiscard]] bool has_queue() const override { return call_->queued_bytes() > 0; }

  // The beginning of a response: its header and the watcher's id.
  std::string& response(int64_t revision, int64_t id) {
    response_ = watches().header(revision);
    wire::append_varint_if(response_, 2, static_cast<uint64_t>(id));
    return response_;
  }
  void forget_pending() {
    if (pending_events_ > 0) {
      context_.metrics().pending_watch_events.add(-static_cast<int64_t>(std::exchange(pending_events_, 0)));
    }
  }

  net::Call* call_ = nullptr;  // null: it was refused
  const int64_t began_ns_;
  const int64_t progress_interval_ns_;
  std::unique_ptr<net::EventLoop::Timer> progress_timer_;
  std::string response_;  // kept for its memory
  uint64_t pending_events_ = 0;
};

}  // namespace

std::unique_ptr<net::CallHandler> make_watch(Context& context, const Method& method, const Caller& caller) {
  return make_handler<WatchHandler>(context, method, caller);
}

}  // namespace cairn::rpc
