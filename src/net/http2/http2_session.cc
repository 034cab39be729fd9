#include "net/http2/http2_session.h"

#include <algorithm>
#include <array>
#include <utility>

#include <nghttp2/nghttp2.h>

#include "base/check.h"
#include "base/log.h"
#include "net/http2/fields.h"
#include "net/http2/grpc_call.h"
#include "net/http2/grpc_text.h"
#include "net/http2/http2_exchange.h"
#include "net/loop.h"

namespace cairn::net {
namespace {

constexpr int32_t kStreamWindowBytes = 1024 * 1024;
constexpr int32_t kConnectionWindowBytes = 16 * 1024 * 1024;
// What nghttp2 may give at once: one frame of the default maximum and its header, with room to spare.
constexpr size_t kFrameRoomBytes = 17 * 1024;
// compat: grpc-go sends an error's text whatever its length. nghttp2 sends headers of 64 KB at most, and what a client
// allows (SETTINGS_MAX_HEADER_LIST_SIZE, often 8 or 16 KB) it means: longer texts are cut.
constexpr size_t kStatusTextBytesMax = 60 * 1024;
constexpr size_t kOtherHeadersBytes = 512;  // of an answer, as SETTINGS_MAX_HEADER_LIST_SIZE counts
constexpr uint64_t kResetsMax = 100'000;
constexpr uint64_t kResetsASecond = 20'000;
constexpr int64_t kLingerNs = 1'000'000'000;
constexpr size_t kLingeringMax = 1000;
constexpr size_t kQueuedFramesMax = 1000;                    // with the socket blocked: read no more
constexpr int64_t kStallLooks = 4;                           // in the time that a client may stand still
constexpr std::string_view kGracefulStop = "graceful_stop";  // grpc-go's text
constexpr std::array<uint8_t, 8> kDrainPing = {'c', 'a', 'i', 'r', 'n', 'd', 'r', 'n'};
constexpr std::array<uint8_t, 8> kKeepalivePing = {'c', 'a', 'i', 'r', 'n', 'k', 'a', 'l'};

Http2Session& session_of(void* user_data) { return *static_cast<Http2Session*>(user_data); }

}  // namespace

// What nghttp2 calls.
struct Http2Callbacks {
  static int on_begin_headers(nghttp2_session*, const nghttp2_frame* frame, void* user_data) {
    if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST) return 0;
    session_of(user_data).begin_request(frame->hd.stream_id);
    return 0;
  }

  static int on_header(nghttp2_session* session, const nghttp2_frame* frame, nghttp2_rcbuf* name, nghttp2_rcbuf* value,
                       uint8_t, void* user_data) {
    Http2Session& self = session_of(user_data);
    if (self.receiving_ == 0 || frame->headers.cat != NGHTTP2_HCAT_REQUEST) return 0;  // trailers say nothing to us
    switch (self.head_.add(name, value, self.memo_, self.last_read_ns_)) {
      case RequestHead::Added::kDone: return 0;
      case RequestHead::Added::kTooMuch: self.receiving_ = 0; return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
      case RequestHead::Added::kInvalid:
        self.receiving_ = 0;  // it never begins
        nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id, NGHTTP2_PROTOCOL_ERROR);
        return 0;
    }
    return 0;
  }

  static int on_frame_recv(nghttp2_session*, const nghttp2_frame* frame, void* user_data) {
    Http2Session& self = session_of(user_data);
    const bool end_stream = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
    switch (frame->hd.type) {
      case NGHTTP2_HEADERS:
        if (frame->headers.cat == NGHTTP2_HCAT_REQUEST) {
          self.end_head(end_stream);
          return 0;
        }
        [[fallthrough]];
      case NGHTTP2_DATA:
        if (end_stream) self.on_end_stream(frame->hd.stream_id);
        return 0;
      case NGHTTP2_PING: self.on_ping(frame->ping.opaque_data, (frame->hd.flags & NGHTTP2_FLAG_ACK) != 0); return 0;
      default: return 0;
    }
  }

  static int on_data_chunk(nghttp2_session*, uint8_t flags, int32_t stream_id, const uint8_t* data, size_t length,
                           void* user_data) {
    session_of(user_data).on_data(stream_id, {reinterpret_cast<const char*>(data), length},
                                  (flags & NGHTTP2_FLAG_END_STREAM) != 0);
    return 0;
  }

  static int on_stream_close(nghttp2_session*, int32_t stream_id, uint32_t, void* user_data) {
    session_of(user_data).on_stream_closed(stream_id);
    return 0;
  }

  static int on_frame_send(nghttp2_session*, const nghttp2_frame* frame, void* user_data) {
    const bool is_answer = frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA;
    if (!is_answer || (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) == 0) return 0;
    session_of(user_data).on_answer_sent(frame->hd.stream_id);
    return 0;
  }

  // A head or trailers that cannot be sent would leave the client waiting for ever.
  static int on_frame_not_send(nghttp2_session* session, const nghttp2_frame* frame, int error, void*) {
    if (frame->hd.type != NGHTTP2_HEADERS || error == NGHTTP2_ERR_STREAM_CLOSED ||
        error == NGHTTP2_ERR_STREAM_CLOSING || error == NGHTTP2_ERR_SESSION_CLOSING) {
      return 0;
    }
    log::warn("resetting a stream whose headers cannot be sent", {{"error", nghttp2_strerror(error)}});
    nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id, NGHTTP2_INTERNAL_ERROR);
    return 0;
  }

  static ssize_t read_data(nghttp2_session*, int32_t, uint8_t* buffer, size_t length, uint32_t* flags,
                           nghttp2_data_source* source, void* user_data) {
    Http2Stream& stream = *static_cast<Http2Stream*>(source->ptr);
    session_of(user_data).last_used_ = &stream;  // its trailers are the next frame, mostly
    const Http2Stream::Filled filled = stream.fill({reinterpret_cast<char*>(buffer), length});
    switch (filled.next) {
      case Http2Stream::Next::kMore: break;
      case Http2Stream::Next::kWait: stream.link.deferred = true; return NGHTTP2_ERR_DEFERRED;
      case Http2Stream::Next::kEnd: *flags |= NGHTTP2_DATA_FLAG_EOF; break;
      case Http2Stream::Next::kTrailers: *flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM; break;
      case Http2Stream::Next::kFailed: return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    }
    return static_cast<ssize_t>(filled.bytes);
  }

  // Made once, shared by all sessions, never freed.
  static nghttp2_session_callbacks* callbacks() {
    static nghttp2_session_callbacks* const made = [] {
      nghttp2_session_callbacks* c = nullptr;
      CAIRN_ASSERT(nghttp2_session_callbacks_new(&c) == 0);
      nghttp2_session_callbacks_set_on_begin_headers_callback(c, on_begin_headers);
      nghttp2_session_callbacks_set_on_header_callback2(c, on_header);
      nghttp2_session_callbacks_set_on_frame_recv_callback(c, on_frame_recv);
      nghttp2_session_callbacks_set_on_data_chunk_recv_callback(c, on_data_chunk);
      nghttp2_session_callbacks_set_on_stream_close_callback(c, on_stream_close);
      nghttp2_session_callbacks_set_on_frame_send_callback(c, on_frame_send);
      nghttp2_session_callbacks_set_on_frame_not_send_callback(c, on_frame_not_send);
      return c;
    }();
    return made;
  }

  static nghttp2_option* options() {
    static nghttp2_option* const made = [] {
      nghttp2_option* o = nullptr;
      CAIRN_ASSERT(nghttp2_option_new(&o) == 0);
      nghttp2_option_set_no_auto_window_update(o, 1);
      nghttp2_option_set_no_closed_streams(o, 1);
      // Clients whose timeouts strike under load cancel thousands of calls a second, and their other calls must not
      // end with the connection; nghttp2 allows 33 a second by itself. A cancel costs less than the call it ends.
      nghttp2_option_set_stream_reset_rate_limit(o, kResetsMax, kResetsASecond);
      // compat: etcd's clients up to 3.4 send their endpoint as :authority, "http://127.0.0.1:2379", which is none by
      // the book. So nghttp2 checks no headers: RequestHead, GrpcCall and the router do.
      nghttp2_option_set_no_http_messaging(o, 1);
      return o;
    }();
    return made;
  }
};

Http2Session::Http2Session(Loop& loop, const ServerOptions& options, const HttpLimits& limits, Router* router,
                           HttpHandler* http, ProtocolHost& host)
    : loop_(loop),
      options_(options),
      limits_(limits),
      router_(router),
      http_(http),
      host_(host),
      answer_budget_(loop, options.answers),
      linger_timer_(*this, &Http2Session::reset_lingering),
      stall_timer_(*this, &Http2Session::watch_streams),
      pings_(options.keepalive.min_time_ns),
      keepalive_timer_(*this, &Http2Session::on_keepalive) {
  CAIRN_ASSERT(router != nullptr || http != nullptr);
  CAIRN_ASSERT(nghttp2_session_server_new2(&session_, Http2Callbacks::callbacks(), this, Http2Callbacks::options()) ==
               0);
  std::vector<nghttp2_settings_entry> settings = {
      {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, kStreamWindowBytes},
      {NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1},  // clients of gRPC set none, and the tree costs time
  };
  if (options.max_concurrent_streams != UINT32_MAX) {
    settings.push_back({NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, options.max_concurrent_streams});
  }
  nghttp2_submit_settings(session_, NGHTTP2_FLAG_NONE, settings.data(), settings.size());
  nghttp2_session_set_local_window_size(session_, NGHTTP2_FLAG_NONE, 0, kConnectionWindowBytes);
  last_read_ns_ = loop_.now_ns();
  if (options_.keepalive.interval_ns > 0) {
    loop_.timers().add(keepalive_timer_, last_read_ns_ + options_.keepalive.interval_ns);
  }
}

Http2Session::~Http2Session() { on_closed(); }

void Http2Session::on_closed() {
  if (phase_ == Phase::kClosed) return;
  phase_ = Phase::kClosed;
  loop_.timers().remove(keepalive_timer_);
  loop_.timers().remove(stall_timer_);
  loop_.timers().remove(linger_timer_);
  while (first_ != nullptr) close(*first_);
  nghttp2_session_del(session_);
  session_ = nullptr;
  if (last_path_ != nullptr) nghttp2_rcbuf_decref(std::exchange(last_path_, nullptr));
}

bool Http2Session::receive(std::string_view bytes) {
  last_read_ns_ = loop_.now_ns();
  const ssize_t taken =
      nghttp2_session_mem_recv(session_, reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
  if (consumed_bytes_ != 0) nghttp2_session_consume_connection(session_, std::exchange(consumed_bytes_, 0));
  if (taken < 0) {
    log::debug("closing an HTTP/2 connection", {{"error", nghttp2_strerror(static_cast<int>(taken))}});
    phase_ = Phase::kFailed;
    return false;
  }
  return true;
}

void Http2Session::output(Output& out) {
  for (;;) {
    while (out.room() >= kFrameRoomBytes) {
      const uint8_t* data = nullptr;
      const ssize_t length = nghttp2_session_mem_send(session_, &data);
      if (length < 0) {
        phase_ = Phase::kFailed;
        return;
      }
      if (length == 0) break;
      out.append({reinterpret_cast<const char*>(data), static_cast<size_t>(length)});
    }
    if (writable_.empty() || out.room() < kFrameRoomBytes) break;
    fire_writable();
  }
  // What is left waits for the client, or for us: worth a look now and then.
  if (queued_bytes_ != 0 && !stall_timer_.is_set()) watch_streams_again();
}

void Http2Session::fire_writable() {
  firing_.swap(writable_);
  for (const int32_t id : firing_) {
    if (Http2Stream* const stream = stream_of(id)) stream->on_writable();
  }
  firing_.clear();
}

bool Http2Session::wants_close() const {
  if (phase_ == Phase::kFailed) return true;
  if (phase_ == Phase::kLastGoaway && stream_count_ == 0) return true;
  return nghttp2_session_want_read(session_) == 0 && nghttp2_session_want_write(session_) == 0;
}

bool Http2Session::may_read(bool blocked) const {
  return !blocked || nghttp2_session_get_outbound_queue_size(session_) < kQueuedFramesMax;
}

// The connection.

void Http2Session::drain() {
  if (phase_ != Phase::kOpen) return;
  phase_ = Phase::kDraining;
  // First "no new calls, please", then, when the client has surely seen it, the last stream that counts.
  nghttp2_submit_shutdown_notice(session_);
  nghttp2_submit_ping(session_, NGHTTP2_FLAG_NONE, kDrainPing.data());
  host_.wake();
}

void Http2Session::send_last_goaway() {
  phase_ = Phase::kLastGoaway;
  nghttp2_submit_goaway(session_, NGHTTP2_FLAG_NONE, nghttp2_session_get_last_proc_stream_id(session_),
                        NGHTTP2_NO_ERROR, field_bytes(kGracefulStop), kGracefulStop.size());
  host_.wake();
}

void Http2Session::on_ping(const uint8_t* opaque, bool ack) {
  if (ack) {
    if (phase_ == Phase::kDraining && std::equal(kDrainPing.begin(), kDrainPing.end(), opaque)) send_last_goaway();
    return;
  }
  const bool is_too_often = pings_.on_ping(last_read_ns_, stream_count_ != 0);
  if (!is_too_often || phase_ == Phase::kLastGoaway || phase_ == Phase::kFailed) return;
  constexpr std::string_view kReason = "too_many_pings";
  log::warn("closing a connection that pings too often", {{"min-time-ns", options_.keepalive.min_time_ns}});
  phase_ = Phase::kFailed;
  nghttp2_submit_goaway(session_, NGHTTP2_FLAG_NONE, nghttp2_session_get_last_proc_stream_id(session_),
                        NGHTTP2_ENHANCE_YOUR_CALM, field_bytes(kReason), kReason.size());
}

// Silent for the interval: ask. Silent still: gone.
void Http2Session::on_keepalive() {
  const int64_t now_ns = loop_.now_ns();
  const Keepalive& keepalive = options_.keepalive;
  if (asked_ns_ != 0 && last_read_ns_ < asked_ns_) {
    phase_ = Phase::kFailed;
    host_.wake();
    return;
  }
  asked_ns_ = 0;
  const int64_t due_ns = last_read_ns_ + keepalive.interval_ns;
  if (now_ns < due_ns) {
    loop_.timers().add(keepalive_timer_, due_ns);
    return;
  }
  nghttp2_submit_ping(session_, NGHTTP2_FLAG_NONE, kKeepalivePing.data());
  host_.wake();
  if (keepalive.timeout_ns > 0) {
    asked_ns_ = now_ns;
    loop_.timers().add(keepalive_timer_, now_ns + keepalive.timeout_ns);
  } else {
    loop_.timers().add(keepalive_timer_, now_ns + keepalive.interval_ns);
  }
}

// Requests.

void Http2Session::begin_request(int32_t stream_id) {
  receiving_ = stream_id;
  head_.clear();
}

// compat: without TLS etcd takes every HTTP/2 request for gRPC. A service's path is gRPC's here too, whatever the
// content type says, so that its refusals are etcd's.
bool Http2Session::is_for_http() const {
  if (http_ == nullptr || router_ == nullptr) return http_ != nullptr;
  if (head_.is_grpc()) return false;
  const auto name = parse_path(head_.path());
  return !name || !router_->has_service(name->service);
}

void Http2Session::end_head(bool half_closed) {
  const int32_t stream_id = std::exchange(receiving_, 0);
  if (stream_id == 0) return;
  if (is_for_http()) {
    HttpRequest request = head_.http_request();
    request.is_secure = host_.is_secure();
    request.peer_certificate = host_.peer_certificate();
    auto* const exchange = new Http2Exchange(*this, std::move(request));
    adopt(*exchange, stream_id, half_closed);
    exchange->begin(*http_);
    return;
  }
  GrpcCall& call = loop_.calls().acquire();
  adopt(call, stream_id, half_closed);
  call.begin(*this, head_, *router_);
}

MethodCounters& Http2Session::counters_of(nghttp2_rcbuf* path) {
  if (last_path_ == nullptr || (path != last_path_ && text_of(path) != text_of(last_path_))) {
    if (last_path_ != nullptr) nghttp2_rcbuf_decref(last_path_);
    last_path_ = path;
    nghttp2_rcbuf_incref(last_path_);
    last_counters_ = &loop_.method_counters(text_of(path));
  }
  return *last_counters_;
}

// Streams.

void Http2Session::adopt(Http2Stream& stream, int32_t stream_id, bool half_closed) {
  stream.link = {.stream_id = stream_id, .half_closed = half_closed, .next = first_};
  if (first_ != nullptr) first_->link.previous = &stream;
  first_ = last_used_ = &stream;
  ++stream_count_;
  nghttp2_session_set_stream_user_data(session_, stream_id, &stream);
}

void Http2Session::close(Http2Stream& stream) {
  const Http2Stream::Link link = stream.link;
  if (last_used_ == &stream) last_used_ = nullptr;
  (link.previous != nullptr ? link.previous->link.next : first_) = link.next;
  if (link.next != nullptr) link.next->link.previous = link.previous;
  --stream_count_;
  stream.on_closed();
}

Http2Stream* Http2Session::stream_of(int32_t stream_id) {
  if (last_used_ != nullptr && last_used_->link.stream_id == stream_id) return last_used_;
  auto* const stream = static_cast<Http2Stream*>(nghttp2_session_get_stream_user_data(session_, stream_id));
  if (stream != nullptr) last_used_ = stream;
  return stream;
}

void Http2Session::on_data(int32_t stream_id, std::string_view bytes, bool is_last) {
  consumed_bytes_ += bytes.size();
  Http2Stream* const stream = stream_of(stream_id);
  if (stream == nullptr) {
    nghttp2_session_consume_stream(session_, stream_id, bytes.size());
    return;
  }
  stream->link.needs_window = !is_last;
  stream->on_body(bytes);
}

void Http2Session::on_end_stream(int32_t stream_id) {
  Http2Stream* const stream = stream_of(stream_id);
  if (stream == nullptr || std::exchange(stream->link.half_closed, true)) return;
  stream->on_half_close();
}

void Http2Session::on_stream_closed(int32_t stream_id) {
  if (Http2Stream* const stream = stream_of(stream_id)) close(*stream);
}

// To a client that has not ended its side: it need not go on. But where the end is only on its way (a request whose
// body does not matter was answered by its head), a reset would come to some clients as an error in place of the
// answer: curl of Debian 12 is one. They get a moment.
void Http2Session::on_answer_sent(int32_t stream_id) {
  const Http2Stream* const stream = stream_of(stream_id);
  if (stream == nullptr || stream->link.half_closed) return;
  if (!stream->may_end_soon()) {
    nghttp2_submit_rst_stream(session_, NGHTTP2_FLAG_NONE, stream_id, NGHTTP2_NO_ERROR);
    return;
  }
  if (lingering_.size() == kLingeringMax) reset_first_lingering();
  lingering_.push_back({stream_id, loop_.now_ns() + kLingerNs});
  if (!linger_timer_.is_set()) loop_.timers().add(linger_timer_, lingering_.front().until_ns);
}

void Http2Session::reset_first_lingering() {
  const int32_t stream_id = lingering_.front().stream_id;
  lingering_.pop_front();
  if (stream_of(stream_id) == nullptr) return;  // it has ended by itself
  nghttp2_submit_rst_stream(session_, NGHTTP2_FLAG_NONE, stream_id, NGHTTP2_NO_ERROR);
  host_.wake();
}

void Http2Session::reset_lingering() {
  while (!lingering_.empty() && lingering_.front().until_ns <= loop_.now_ns()) reset_first_lingering();
  if (!lingering_.empty()) loop_.timers().add(linger_timer_, lingering_.front().until_ns);
}

void Http2Session::submit_head(Http2Stream& stream, std::span<const nghttp2_nv> fields, Body body) {
  nghttp2_data_provider provider{};
  provider.source.ptr = &stream;
  provider.read_callback = Http2Callbacks::read_data;
  const int32_t id = stream.link.stream_id;
  nghttp2_submit_response(session_, id, fields.data(), fields.size(), body == Body::kNone ? nullptr : &provider);
  if (body == Body::kLong) {
    // nghttp2 sends the streams of a connection one after the other (RFC 9218's default), which is right for what fits
    // a frame. The longer ones take turns, so that nothing waits for the whole of another's list.
    const nghttp2_extpri in_turns{.urgency = NGHTTP2_EXTPRI_DEFAULT_URGENCY, .inc = 1};
    nghttp2_session_change_extpri_stream_priority(session_, id, &in_turns, /*ignore_client_signal=*/1);
  }
  pings_.on_sent();
  host_.wake();
}

void Http2Session::submit_trailers(Http2Stream& stream, std::span<const nghttp2_nv> fields) {
  nghttp2_submit_trailer(session_, stream.link.stream_id, fields.data(), fields.size());
}

void Http2Session::resume(Http2Stream& stream) {
  if (!std::exchange(stream.link.deferred, false)) return;
  nghttp2_session_resume_data(session_, stream.link.stream_id);
  host_.wake();
}

void Http2Session::reset(Http2Stream& stream, uint32_t error) {
  nghttp2_submit_rst_stream(session_, NGHTTP2_FLAG_NONE, stream.link.stream_id, error);
  host_.wake();
}

void Http2Session::give_back(Http2Stream& stream, size_t bytes) {
  if (stream.link.needs_window) nghttp2_session_consume_stream(session_, stream.link.stream_id, bytes);
}

void Http2Session::note_writable(Http2Stream& stream) { writable_.push_back(stream.link.stream_id); }

std::string Http2Session::status_text(std::string_view message) const {
  const size_t allowed = nghttp2_session_get_remote_settings(session_, NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE);
  const size_t bytes_max = std::min(allowed - std::min(allowed, kOtherHeadersBytes), kStatusTextBytesMax);
  return percent_encode(message, bytes_max);
}

// What waits for the client.

void Http2Session::account(int64_t queued_bytes, int64_t held_bytes) {
  queued_bytes_ += static_cast<uint64_t>(queued_bytes);
  answer_budget_.change(held_bytes);
}

// Each stream for itself: one whose client gives it no window stands still while others run. What the socket does not
// take is the connection's to watch.
void Http2Session::watch_streams() {
  const int64_t now_ns = loop_.now_ns();
  // A look that comes late says that this process stood still, not that its clients did: counting begins anew.
  const bool was_away = now_ns - stall_look_due_ns_ >= options_.reader_stall_ns / kStallLooks;
  for (Http2Stream *stream = first_, *next = nullptr; stream != nullptr; stream = next) {
    next = stream->link.next;
    Http2Stream::Link& link = stream->link;
    if (!stream->waits_for_client() || host_.is_blocked() || was_away) {
      link.mark_ns = 0;
    } else if (link.mark_ns == 0) {
      link.mark_ns = now_ns;
      link.mark_bytes = stream->sent_bytes();
    } else if (now_ns - link.mark_ns >= options_.reader_stall_ns) {
      const bool is_stalled = stream->sent_bytes() - link.mark_bytes < options_.reader_bytes_min();
      link.mark_ns = 0;
      if (is_stalled) stream->on_stalled();
    }
  }
  if (queued_bytes_ != 0) watch_streams_again();
}

void Http2Session::watch_streams_again() {
  stall_look_due_ns_ = loop_.now_ns() + options_.reader_stall_ns / kStallLooks;
  loop_.timers().add(stall_timer_, stall_look_due_ns_);
}

}  // namespace cairn::net
