#include "net/http2/http2_session.h"

#include <algorithm>
#include <array>
#include <utility>

#include <nghttp2/nghttp2.h>

#include "base/check.h"
#include "base/log.h"
#include "net/http2/grpc_call.h"
#include "net/http2/grpc_text.h"
#include "net/loop.h"

namespace cairn::net {
namespace {

constexpr int32_t kStreamWindowBytes = 1024 * 1024;
constexpr int32_t kConnectionWindowBytes = 16 * 1024 * 1024;
// What nghttp2 may give at once: one frame of the default maximum and its header, with room to spare.
constexpr size_t kFrameRoomBytes = 17 * 1024;
constexpr size_t kHeaderBytesMax = 256 * 1024;  // of one call
// compat: grpc-go sends an error's text whatever its length. nghttp2 sends headers of 64 KB at most, and what a client
// allows (SETTINGS_MAX_HEADER_LIST_SIZE, often 8 or 16 KB) it means: longer texts are cut.
constexpr size_t kStatusTextBytesMax = 60 * 1024;
constexpr size_t kOtherHeadersBytes = 512;  // of an answer, as SETTINGS_MAX_HEADER_LIST_SIZE counts
constexpr uint64_t kResetsMax = 100'000;
constexpr uint64_t kResetsASecond = 20'000;
constexpr size_t kQueuedFramesMax = 1000;                    // with the socket blocked: read no more
constexpr std::string_view kGracefulStop = "graceful_stop";  // grpc-go's text
constexpr std::array<uint8_t, 8> kDrainPing = {'c', 'a', 'i', 'r', 'n', 'd', 'r', 'n'};
constexpr std::array<uint8_t, 8> kKeepalivePing = {'c', 'a', 'i', 'r', 'n', 'k', 'a', 'l'};

uint8_t* bytes_of(std::string_view text) {
  return const_cast<uint8_t*>(reinterpret_cast<const uint8_t*>(text.data()));  // nghttp2 only reads them
}

// A header whose texts outlive the session.
nghttp2_nv fixed_header(std::string_view name, std::string_view value) {
  return {bytes_of(name), bytes_of(value), name.size(), value.size(),
          NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE};
}

// A header whose value is copied and not kept in the header table.
nghttp2_nv own_header(std::string_view name, std::string_view value) {
  return {bytes_of(name), bytes_of(value), name.size(), value.size(),
          NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_INDEX};
}

std::string_view code_text(Code code) {
  static constexpr std::array<std::string_view, kCodeCount> kTexts = {"0", "1",  "2",  "3",  "4",  "5",  "6",  "7", "8",
                                                                      "9", "10", "11", "12", "13", "14", "15", "16"};
  return kTexts[static_cast<size_t>(code)];
}

std::string_view text_of(nghttp2_rcbuf* buffer) {
  const nghttp2_vec bytes = nghttp2_rcbuf_get_buf(buffer);
  return {reinterpret_cast<const char*>(bytes.base), bytes.len};
}

// What HTTP/2 asks of a header, but for the syntax of pseudo headers. grpc-go takes all but one of those that are about
// connections as metadata.
bool is_valid_header(std::string_view name, std::string_view value) {
  const bool is_known_pseudo = name == ":path" || name == ":method" || name == ":scheme" || name == ":authority";
  if (!is_known_pseudo && (name.empty() || name == "connection" || name.front() == ':' ||
                           nghttp2_check_header_name(bytes_of(name), name.size()) == 0)) {
    return false;
  }
  return nghttp2_check_header_value(bytes_of(value), value.size()) != 0;
}

Http2Session& session_of(void* user_data) { return *static_cast<Http2Session*>(user_data); }

}  // namespace

// What nghttp2 calls.
struct Http2Callbacks {
  static GrpcCall* call_of(nghttp2_session* session, int32_t stream_id) {
    return static_cast<GrpcCall*>(nghttp2_session_get_stream_user_data(session, stream_id));
  }

  static int on_begin_headers(nghttp2_session*, const nghttp2_frame* frame, void* user_data) {
    if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST) return 0;
    session_of(user_data).open_call(frame->hd.stream_id);
    return 0;
  }

  static int on_header(nghttp2_session* session, const nghttp2_frame* frame, nghttp2_rcbuf* name, nghttp2_rcbuf* value,
                       uint8_t, void* user_data) {
    GrpcCall* call = session_of(user_data).receiving_;
    if (call == nullptr || frame->headers.cat != NGHTTP2_HCAT_REQUEST) return 0;  // trailers say nothing to us
    const std::string_view name_text = text_of(name);
    const std::string_view value_text = text_of(value);
    call->header_bytes_ += name_text.size() + value_text.size() + 32;
    if (call->header_bytes_ > kHeaderBytesMax) return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    if (!is_valid_header(name_text, value_text)) {
      session_of(user_data).receiving_ = nullptr;  // it never begins
      call->finished_ = call->headers_submitted_ = true;
      nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id, NGHTTP2_PROTOCOL_ERROR);
      return 0;
    }
    call->add_header(name, value, name_text, value_text);
    return 0;
  }

  static int on_frame_recv(nghttp2_session* session, const nghttp2_frame* frame, void* user_data) {
    Http2Session& self = session_of(user_data);
    const bool end_stream = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
    switch (frame->hd.type) {
      case NGHTTP2_HEADERS: {
        if (frame->headers.cat == NGHTTP2_HCAT_REQUEST) {
          GrpcCall* call = std::exchange(self.receiving_, nullptr);
          if (call != nullptr) self.begin_call(*call, end_stream);
          return 0;
        }
        [[fallthrough]];
      }
      case NGHTTP2_DATA: {
        if (!end_stream) return 0;
        GrpcCall* call = call_of(session, frame->hd.stream_id);
        if (call != nullptr) call->on_half_close();
        return 0;
      }
      case NGHTTP2_PING: {
        self.on_ping(frame->ping.opaque_data, (frame->hd.flags & NGHTTP2_FLAG_ACK) != 0);
        return 0;
      }
      default: return 0;
    }
  }

  static int on_data_chunk(nghttp2_session* session, uint8_t, int32_t stream_id, const uint8_t* data, size_t length,
                           void* user_data) {
    Http2Session& self = session_of(user_data);
    GrpcCall* call = call_of(session, stream_id);
    if (call == nullptr) {
      nghttp2_session_consume(session, stream_id, length);
      return 0;
    }
    self.on_data(*call, {reinterpret_cast<const char*>(data), length});
    return 0;
  }

  static int on_stream_close(nghttp2_session* session, int32_t stream_id, uint32_t, void* user_data) {
    GrpcCall* call = call_of(session, stream_id);
    if (call != nullptr) session_of(user_data).close_call(*call);
    return 0;
  }

  static int on_frame_send(nghttp2_session* session, const nghttp2_frame* frame, void*) {
    // Trailers to a client that has not ended its side: it need not go on.
    if (frame->hd.type != NGHTTP2_HEADERS || (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) == 0) return 0;
    const GrpcCall* call = call_of(session, frame->hd.stream_id);
    if (call != nullptr && !call->half_closed_) {
      nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id, NGHTTP2_NO_ERROR);
    }
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
    GrpcCall& call = *static_cast<GrpcCall*>(source->ptr);
    const GrpcCall::Filled filled = call.fill({reinterpret_cast<char*>(buffer), length});
    if (filled.failed) return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    if (filled.defer) return NGHTTP2_ERR_DEFERRED;
    if (filled.last) {
      *flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
      session_of(user_data).submit_trailers(call);
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
      // the book. So nghttp2 checks no headers: is_valid_header(), refuse_early() and the router do.
      nghttp2_option_set_no_http_messaging(o, 1);
      return o;
    }();
    return made;
  }
};

Http2Session::Http2Session(Loop& loop, const ServerOptions& options, Router& router, ProtocolHost& host)
    : loop_(loop), options_(options), router_(router), host_(host), pings_(options.keepalive.min_time_ns) {
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
  if (options_.keepalive.interval_ns > 0) loop_.timers().add(*this, last_read_ns_ + options_.keepalive.interval_ns);
}

Http2Session::~Http2Session() {
  if (!closed_) on_closed();
}

void Http2Session::on_closed() {
  closed_ = true;
  loop_.timers().remove(*this);
  while (first_call_ != nullptr) close_call(*first_call_);
  nghttp2_session_del(session_);
  session_ = nullptr;
  if (last_path_ != nullptr) nghttp2_rcbuf_decref(last_path_);
  last_path_ = nullptr;
}

bool Http2Session::receive(std::string_view bytes) {
  last_read_ns_ = loop_.now_ns();
  const ssize_t taken =
      nghttp2_session_mem_recv(session_, reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
  if (taken < 0) {
    log::debug("closing an HTTP/2 connection", {{"error", nghttp2_strerror(static_cast<int>(taken))}});
    failed_ = true;
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
        failed_ = true;
        return;
      }
      if (length == 0) break;
      out.append({reinterpret_cast<const char*>(data), static_cast<size_t>(length)});
    }
    if (writable_.empty() || out.room() < kFrameRoomBytes) return;
    fire_writable();
  }
}

void Http2Session::fire_writable() {
  firing_.swap(writable_);
  for (const CallId id : firing_) {
    GrpcCall* call = loop_.calls().find(id);
    if (call == nullptr || call->session_ != this) continue;
    call->writable_noted_ = false;
    if (!call->finished_ && call->handler_ != nullptr) call->handler_->on_writable(*call);
  }
  firing_.clear();
}

bool Http2Session::wants_close() const {
  if (failed_) return true;
  if (last_goaway_ && call_count_ == 0) return true;
  return nghttp2_session_want_read(session_) == 0 && nghttp2_session_want_write(session_) == 0;
}

bool Http2Session::may_read(bool blocked) const {
  return !blocked || nghttp2_session_get_outbound_queue_size(session_) < kQueuedFramesMax;
}

void Http2Session::drain() {
  if (draining_) return;
  draining_ = true;
  // First "no new calls, please", then, when the client has surely seen it, the last stream that counts.
  nghttp2_submit_shutdown_notice(session_);
  nghttp2_submit_ping(session_, NGHTTP2_FLAG_NONE, kDrainPing.data());
  host_.wake();
}

void Http2Session::send_last_goaway() {
  if (last_goaway_) return;
  last_goaway_ = true;
  nghttp2_submit_goaway(session_, NGHTTP2_FLAG_NONE, nghttp2_session_get_last_proc_stream_id(session_),
                        NGHTTP2_NO_ERROR, bytes_of(kGracefulStop), kGracefulStop.size());
  host_.wake();
}

void Http2Session::on_ping(const uint8_t* opaque, bool ack) {
  if (ack) {
    if (draining_ && std::equal(kDrainPing.begin(), kDrainPing.end(), opaque)) send_last_goaway();
    return;
  }
  if (!pings_.on_ping(last_read_ns_, call_count_ != 0) || last_goaway_ || failed_) return;
  constexpr std::string_view kReason = "too_many_pings";
  log::warn("closing a connection that pings too often", {{"min-time-ns", options_.keepalive.min_time_ns}});
  failed_ = true;
  nghttp2_submit_goaway(session_, NGHTTP2_FLAG_NONE, nghttp2_session_get_last_proc_stream_id(session_),
                        NGHTTP2_ENHANCE_YOUR_CALM, bytes_of(kReason), kReason.size());
}

// Silent for the interval: ask. Silent still: gone.
void Http2Session::on_timer() {
  const int64_t now_ns = loop_.now_ns();
  const Keepalive& keepalive = options_.keepalive;
  if (asked_ns_ != 0 && last_read_ns_ < asked_ns_) {
    failed_ = true;
    host_.wake();
    return;
  }
  asked_ns_ = 0;
  const int64_t due_ns = last_read_ns_ + keepalive.interval_ns;
  if (now_ns < due_ns) {
    loop_.timers().add(*this, due_ns);
    return;
  }
  nghttp2_submit_ping(session_, NGHTTP2_FLAG_NONE, kKeepalivePing.data());
  host_.wake();
  if (keepalive.timeout_ns > 0) {
    asked_ns_ = now_ns;
    loop_.timers().add(*this, now_ns + keepalive.timeout_ns);
  } else {
    loop_.timers().add(*this, now_ns + keepalive.interval_ns);
  }
}

GrpcCall* Http2Session::open_call(int32_t stream_id) {
  GrpcCall& call = loop_.calls().acquire();
  call.open(*this, stream_id, options_.max_request_message_bytes);
  call.next_ = first_call_;
  if (first_call_ != nullptr) first_call_->previous_ = &call;
  first_call_ = &call;
  ++call_count_;
  nghttp2_session_set_stream_user_data(session_, stream_id, &call);
  receiving_ = &call;
  return &call;
}

void Http2Session::close_call(GrpcCall& call) {
  call.end();
  if (receiving_ == &call) receiving_ = nullptr;
  if (call.previous_ != nullptr) {
    call.previous_->next_ = call.next_;
  } else {
    first_call_ = call.next_;
  }
  if (call.next_ != nullptr) call.next_->previous_ = call.previous_;
  --call_count_;
  loop_.calls().release(call);
}

// What grpc-go turns away before it looks for the method, in its order.
bool Http2Session::refuse_early(GrpcCall& call) {
  const auto refuse = [&](unsigned http_status, Code code, std::string_view message) {
    loop_.counters().calls_unknown.add();
    call.finished_ = call.headers_submitted_ = true;
    submit_trailers_only(call, http_status, code, message);
    return true;
  };
  if (!call.has_content_type_) {
    return refuse(415, Code::kInvalidArgument,
                  fmt::format("invalid gRPC request content-type {}", quoted(call.content_type_)));
  }
  if (call.header_error_) return refuse(400, call.header_error_->code, call.header_error_->message);
  if (!call.has_method_) {
    return refuse(405, Code::kInternal,
                  fmt::format("Received a HEADERS frame with :method {} which should be POST", quoted(call.method_)));
  }
  return false;
}

void Http2Session::begin_call(GrpcCall& call, bool half_closed) {
  call.half_closed_ = half_closed;
  if (refuse_early(call)) return;
  call.set_deadline(call.deadline_ns_);
  call.handler_ = router_.route(call.path(), call);
  if (call.handler_ == nullptr) {
    loop_.counters().calls_unknown.add();
    if (call.finished_) return;
    const auto name = parse_path(call.path());
    if (!name) {
      call.finish(Code::kUnimplemented, name.error().message);
    } else if (!router_.has_service(name->service)) {
      call.finish(Code::kUnimplemented, fmt::format("unknown service {}", name->service));
    } else {
      call.finish(Code::kUnimplemented, fmt::format("unknown method {} for service {}", name->method, name->service));
    }
    return;
  }
  if (last_path_ == nullptr || (call.path_ != last_path_ && call.path() != text_of(last_path_))) {
    if (last_path_ != nullptr) nghttp2_rcbuf_decref(last_path_);
    last_path_ = call.path_;
    nghttp2_rcbuf_incref(last_path_);
    last_counters_ = &loop_.method_counters(call.path());
  }
  call.counters_ = last_counters_;
  call.counters_->started.add();
  if (call.finished_) {
    call.counters_->handled[static_cast<size_t>(call.code_)].add();
    return;
  }
  if (call.encoding_ == GrpcCall::Encoding::kOther) {
    call.finish(Code::kUnimplemented,
                fmt::format("grpc: Decompressor is not installed for grpc-encoding {}", quoted(call.encoding_name_)));
    return;
  }
  if (call.deadline_ns_ <= loop_.now_ns()) {
    call.finish(Code::kDeadlineExceeded, "context deadline exceeded");
    return;
  }
  if (half_closed) {
    call.half_closed_ = false;
    call.on_half_close();
  }
}

void Http2Session::on_data(GrpcCall& call, std::string_view bytes) {
  call.on_bytes(bytes);
  nghttp2_session_consume_connection(session_, bytes.size());
  call.held_bytes_ += bytes.size();
  if (call.queued_bytes() <= 256 * 1024 || call.ended_) give_back(call);
}

void Http2Session::give_back(GrpcCall& call) {
  nghttp2_session_consume_stream(session_, call.stream_id_, std::exchange(call.held_bytes_, 0));
}

// "" for the usual one.
std::string Http2Session::own_content_type(const GrpcCall& call) {
  return call.content_subtype_.empty() ? "" : "application/grpc+" + call.content_subtype_;
}

std::string Http2Session::status_text(std::string_view message) const {
  const size_t allowed = nghttp2_session_get_remote_settings(session_, NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE);
  const size_t bytes_max = std::min(allowed - std::min(allowed, kOtherHeadersBytes), kStatusTextBytesMax);
  return percent_encode(message, bytes_max);
}

void Http2Session::submit_headers(GrpcCall& call) {
  static const std::array<nghttp2_nv, 2> kHeaders = {fixed_header(":status", "200"),
                                                     fixed_header("content-type", "application/grpc")};
  std::array<nghttp2_nv, 2> headers = kHeaders;
  const std::string own_type = own_content_type(call);
  if (!own_type.empty()) headers[1] = own_header("content-type", own_type);
  nghttp2_data_provider provider{};
  provider.source.ptr = &call;
  provider.read_callback = Http2Callbacks::read_data;
  pings_.on_sent();
  nghttp2_submit_response(session_, call.stream_id_, headers.data(), headers.size(), &provider);
  // nghttp2 sends the streams of a connection one after the other (RFC 9218's default), which is right for what fits a
  // frame. The longer ones take turns, so that nothing waits for the whole of another's list.
  if (!call.finished_ || call.queued_bytes() > SendQueue::kPieceBytes) {
    const nghttp2_extpri in_turns{.urgency = NGHTTP2_EXTPRI_DEFAULT_URGENCY, .inc = 1};
    nghttp2_session_change_extpri_stream_priority(session_, call.stream_id_, &in_turns, /*ignore_client_signal=*/1);
  }
  host_.wake();
}

void Http2Session::submit_trailers(GrpcCall& call) {
  const std::array<nghttp2_nv, 2> trailers = {fixed_header("grpc-status", code_text(call.code_)),
                                              own_header("grpc-message", call.status_message_)};
  nghttp2_submit_trailer(session_, call.stream_id_, trailers.data(), call.status_message_.empty() ? 1 : 2);
}

void Http2Session::submit_trailers_only(GrpcCall& call, unsigned http_status, Code code, std::string_view message) {
  const std::string_view status = http_status == 200   ? "200"
                                  : http_status == 400 ? "400"
                                  : http_status == 405 ? "405"
                                                       : "415";
  const std::string encoded = status_text(message);
  const std::string own_type = http_status == 200 ? own_content_type(call) : "";
  const std::array<nghttp2_nv, 4> headers = {
      fixed_header(":status", status),
      own_type.empty() ? fixed_header("content-type", "application/grpc") : own_header("content-type", own_type),
      fixed_header("grpc-status", code_text(code)), own_header("grpc-message", encoded)};
  pings_.on_sent();
  nghttp2_submit_response(session_, call.stream_id_, headers.data(), encoded.empty() ? 3 : 4, nullptr);
  host_.wake();
}

void Http2Session::resume(GrpcCall& call) {
  nghttp2_session_resume_data(session_, call.stream_id_);
  host_.wake();
}

// With the error that gRPC's clients read as `code`, as far as there is one.
void Http2Session::reset(GrpcCall& call, Code code) {
  uint32_t error = NGHTTP2_INTERNAL_ERROR;
  if (code == Code::kCancelled || code == Code::kDeadlineExceeded) error = NGHTTP2_CANCEL;
  if (code == Code::kResourceExhausted) error = NGHTTP2_ENHANCE_YOUR_CALM;
  if (code == Code::kUnavailable) error = NGHTTP2_REFUSED_STREAM;
  nghttp2_submit_rst_stream(session_, NGHTTP2_FLAG_NONE, call.stream_id_, error);
  host_.wake();
}

void Http2Session::note_writable(GrpcCall& call) {
  if (call.writable_noted_ || call.ended_) return;
  call.writable_noted_ = true;
  writable_.push_back(call.id_);
}

}  // namespace cairn::net
