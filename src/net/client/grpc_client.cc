#include "net/client/grpc_client.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include <nghttp2/nghttp2.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/check.h"
#include "net/http2/fields.h"
#include "net/http2/grpc_text.h"

namespace cairn::net {
namespace {

constexpr size_t kPrefixBytes = 5;

}  // namespace

struct GrpcClient::Session {
  Session(int descriptor, std::string named, Patience& limit)
      : fd(descriptor), authority(std::move(named)), patience(limit) {
    nghttp2_session_callbacks* callbacks = nullptr;
    CAIRN_ASSERT(nghttp2_session_callbacks_new(&callbacks) == 0);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_close);
    CAIRN_ASSERT(nghttp2_session_client_new(&session, callbacks, this) == 0);
    nghttp2_session_callbacks_del(callbacks);
    const std::array<nghttp2_settings_entry, 1> settings = {{{NGHTTP2_SETTINGS_ENABLE_PUSH, 0}}};
    CAIRN_ASSERT(nghttp2_submit_settings(session, NGHTTP2_FLAG_NONE, settings.data(), settings.size()) == 0);
  }
  ~Session() {
    nghttp2_session_del(session);
    ::close(fd);
  }
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // What the call under way has come to.
  struct Answer {
    int32_t stream = -1;
    bool is_over = false;
    bool is_too_long = false;
    std::string body;
    std::string http_status;
    std::string grpc_status;
    std::string grpc_message;
  };

  static int on_header(nghttp2_session*, const nghttp2_frame* frame, const uint8_t* name, size_t name_size,
                       const uint8_t* value, size_t value_size, uint8_t, void* self) {
    Answer& answer = static_cast<Session*>(self)->answer;
    if (frame->hd.stream_id != answer.stream) return 0;
    const std::string_view field(reinterpret_cast<const char*>(name), name_size);
    const std::string_view text(reinterpret_cast<const char*>(value), value_size);
    if (field == ":status") answer.http_status = text;
    if (field == "grpc-status") answer.grpc_status = text;
    if (field == "grpc-message") answer.grpc_message = text;
    return 0;
  }
  static int on_data(nghttp2_session*, uint8_t, int32_t stream, const uint8_t* data, size_t size, void* self) {
    Answer& answer = static_cast<Session*>(self)->answer;
    if (stream != answer.stream) return 0;
    answer.is_too_long = answer.is_too_long || answer.body.size() + size > kResponseBytesMax;
    if (!answer.is_too_long) answer.body.append(reinterpret_cast<const char*>(data), size);
    return 0;
  }
  static int on_close(nghttp2_session*, int32_t stream, uint32_t, void* self) {
    Answer& answer = static_cast<Session*>(self)->answer;
    if (stream == answer.stream) answer.is_over = true;
    return 0;
  }
  static ssize_t give_body(nghttp2_session*, int32_t, uint8_t* into, size_t room, uint32_t* flags,
                           nghttp2_data_source* source, void*) {
    auto& rest = *static_cast<std::string_view*>(source->ptr);
    const size_t size = std::min(room, rest.size());
    std::memcpy(into, rest.data(), size);
    rest.remove_prefix(size);
    if (rest.empty()) *flags |= NGHTTP2_DATA_FLAG_EOF;
    return static_cast<ssize_t>(size);
  }

  Status fail_for_good(std::string_view what, std::string_view why) {
    is_open = false;
    return fail(Code::kUnavailable, "net: {}: {}", what, why);
  }
  // Moves bytes both ways until nothing can be moved any more.
  Status move();
  Status send();
  Status receive();

  const int fd;
  const std::string authority;
  Patience& patience;
  nghttp2_session* session = nullptr;
  Answer answer;
  std::string out;  // not sent yet
  bool is_open = true;
};

Status GrpcClient::Session::receive() {
  std::array<uint8_t, 16384> bytes{};
  while (true) {
    const ssize_t got = ::recv(fd, bytes.data(), bytes.size(), 0);
    if (got == 0) return fail_for_good("receive", "the server closed the connection");
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return {};
    if (got < 0) return fail_for_good("receive", std::strerror(errno));
    const ssize_t used = nghttp2_session_mem_recv(session, bytes.data(), static_cast<size_t>(got));
    if (used < 0) return fail_for_good("receive", nghttp2_strerror(static_cast<int>(used)));
  }
}

Status GrpcClient::Session::send() {
  while (true) {
    if (out.empty()) {
      const uint8_t* data = nullptr;
      const ssize_t size = nghttp2_session_mem_send(session, &data);
      if (size < 0) return fail_for_good("send", nghttp2_strerror(static_cast<int>(size)));
      if (size == 0) return {};
      out.assign(reinterpret_cast<const char*>(data), static_cast<size_t>(size));
    }
    const ssize_t sent = ::send(fd, out.data(), out.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return {};
    if (sent < 0) return fail_for_good("send", std::strerror(errno));
    out.erase(0, static_cast<size_t>(sent));
  }
}

Status GrpcClient::Session::move() {
  CAIRN_CHECK(receive());
  return send();
}

GrpcClient::GrpcClient(std::unique_ptr<Session> session) : session_(std::move(session)) {}
GrpcClient::~GrpcClient() = default;

Result<std::unique_ptr<GrpcClient>> GrpcClient::connect(const GrpcTarget& target, Patience& patience,
                                                        int64_t deadline_ns) {
  CAIRN_TRY(const int fd, connect_to(target, patience, deadline_ns));
  return std::unique_ptr<GrpcClient>(new GrpcClient(std::make_unique<Session>(fd, target.authority, patience)));
}

bool GrpcClient::is_open() const {
  return session_->is_open && nghttp2_session_want_read(session_->session) != 0 &&
         nghttp2_session_check_request_allowed(session_->session) != 0;
}

Result<std::string> GrpcClient::call(std::string_view path, std::string_view message, int64_t deadline_ns) {
  Session& it = *session_;
  if (is_open()) CAIRN_CHECK(it.move());
  if (!is_open()) return fail(Code::kUnavailable, "net: the server ends the connection");
  std::string body(kPrefixBytes, '\0');
  store_be32(body.data() + 1, static_cast<uint32_t>(message.size()));
  body.append(message);
  std::string_view rest = body;
  const std::string named(path);
  const std::array<nghttp2_nv, 7> fields = {
      fixed_field(":method", "POST"),    fixed_field(":scheme", "http"),
      own_field(":path", named),         own_field(":authority", it.authority),
      fixed_field("te", "trailers"),     fixed_field("content-type", "application/grpc"),
      fixed_field("user-agent", "cairn")};
  nghttp2_data_provider provider{};
  provider.source.ptr = &rest;
  provider.read_callback = Session::give_body;
  it.answer = {};
  const int32_t stream = nghttp2_submit_request(it.session, nullptr, fields.data(), fields.size(), &provider, nullptr);
  if (stream < 0) return std::unexpected(it.fail_for_good("request", nghttp2_strerror(stream)).error());
  it.answer.stream = stream;
  while (!it.answer.is_over) {
    CAIRN_CHECK(it.send());
    if (it.answer.is_over) break;
    const short events = static_cast<short>(POLLIN | (it.out.empty() ? 0 : POLLOUT));
    if (!it.patience.wait(it.fd, events, deadline_ns)) {
      it.is_open = false;  // the body that nghttp2 may still ask for ends here
      return fail(Code::kDeadlineExceeded, "net: no answer in time");
    }
    const Status received = it.receive();
    if (!received && !it.answer.is_over) return std::unexpected(received.error());
  }
  const Session::Answer& answer = it.answer;
  if (answer.grpc_status.empty()) {
    return fail(Code::kUnavailable, "net: no gRPC status, HTTP status {}", quoted(answer.http_status));
  }
  if (answer.grpc_status != "0") {
    const int number = std::atoi(answer.grpc_status.c_str());
    const bool is_known = number > 0 && number <= static_cast<int>(Code::kUnauthenticated);
    return fail(is_known ? static_cast<Code>(number) : Code::kUnknown, "{}", percent_decode(answer.grpc_message));
  }
  if (answer.is_too_long || answer.body.size() < kPrefixBytes) return fail(Code::kInternal, "net: odd response");
  return answer.body.substr(kPrefixBytes);
}

}  // namespace cairn::net
