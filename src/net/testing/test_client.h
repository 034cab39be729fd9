// net/testing/test_client.h: a gRPC client for tests: one blocking socket, an nghttp2 client session pumped by hand.
// What client/http2_channel.h does not let one do: streams, windows, resets, pings, and not reading.
//
// Nothing is read but inside pump(): a test that does not pump is a client that does not read.
#pragma once

#include <chrono>
#include <cstring>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include <nghttp2/nghttp2.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/check.h"
#include "net/client/dial.h"
#include "net/http2/framing.h"
#include "net/http2/grpc_text.h"

namespace cairn::net {

// A connected blocking socket to "127.0.0.1:port".
inline int connect_to(const std::string& address, int receive_buffer_bytes = 0) {
  const auto fd = dial(address, {.receive_buffer_bytes = receive_buffer_bytes});
  CAIRN_ASSERT(fd.has_value());
  return *fd;
}

// What comes until the peer closes, `enough` says so, or `timeout_ms` passes.
inline std::string read_until(int fd, const std::function<bool(const std::string&)>& enough, int timeout_ms = 60'000) {
  std::string got;
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(timeout_ms);
  while (!enough(got) && std::chrono::steady_clock::now() < deadline) {
    pollfd waits{.fd = fd, .events = POLLIN, .revents = 0};
    if (::poll(&waits, 1, 20) <= 0) continue;
    static thread_local char buffer[64 * 1024];
    const ssize_t bytes = ::recv(fd, buffer, sizeof buffer, 0);
    if (bytes <= 0) break;
    got.append(buffer, static_cast<size_t>(bytes));
  }
  return got;
}

inline std::string framed(std::string_view message, bool compressed = false) {
  std::string out(kPrefixBytes, '\0');
  write_prefix(out.data(), static_cast<uint32_t>(message.size()), compressed);
  return out.append(message);
}

using Headers = std::vector<std::pair<std::string, std::string>>;

class TestClient {
 public:
  struct Options {
    uint32_t stream_window_bytes = 65535;
    int receive_buffer_bytes = 0;
    bool give_window = true;  // false: never a WINDOW_UPDATE
  };
  struct Stream {
    std::map<std::string, std::string> headers;  // trailers too
    std::string data;
    std::string outgoing;
    size_t outgoing_offset = 0;
    bool half_close = false;
    bool deferred = false;
    bool closed = false;
    uint32_t error = 0;
    uint64_t data_bytes = 0;
    bool keep_data = true;

    [[nodiscard]] int code() const {
      const auto at = headers.find("grpc-status");
      return at == headers.end() ? -1 : std::stoi(at->second);
    }
    [[nodiscard]] std::string message() const {
      const auto at = headers.find("grpc-message");
      return at == headers.end() ? "" : percent_decode(at->second);
    }
    [[nodiscard]] std::vector<std::string> messages() const {
      Deframer deframer(UINT32_MAX);
      std::vector<std::string> out;
      std::string_view rest = data;
      while (true) {
        const auto frame = deframer.next(rest);
        if (frame.outcome != Deframer::Outcome::kMessage) return out;
        out.emplace_back(frame.message);
      }
    }
  };

  explicit TestClient(const std::string& address) : TestClient(address, Options{}) {}
  TestClient(const std::string& address, Options options) : fd_(connect_to(address, options.receive_buffer_bytes)) {
    nghttp2_session_callbacks* callbacks = nullptr;
    nghttp2_session_callbacks_new(&callbacks);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_close);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
    nghttp2_option* option = nullptr;
    nghttp2_option_new(&option);
    nghttp2_option_set_no_auto_window_update(option, options.give_window ? 0 : 1);
    nghttp2_option_set_max_send_header_block_length(option, 256 * 1024);
    nghttp2_session_client_new2(&session_, callbacks, this, option);
    nghttp2_option_del(option);
    nghttp2_session_callbacks_del(callbacks);
    const nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, options.stream_window_bytes},
        {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
    };
    nghttp2_submit_settings(session_, NGHTTP2_FLAG_NONE, settings, 2);
  }
  ~TestClient() {
    nghttp2_session_del(session_);
    close();
  }
  TestClient(const TestClient&) = delete;
  TestClient& operator=(const TestClient&) = delete;

  void close() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }

  int32_t start(const std::string& path, const Headers& extra = {}, bool half_close = false,
                const std::string& content_type = "application/grpc", const std::string& method = "POST") {
    std::vector<nghttp2_nv> headers;
    const Headers fixed = {
        {":method", method}, {":scheme", "http"}, {":path", path}, {":authority", "x"}, {"content-type", content_type},
        {"te", "trailers"}};
    const auto add = [&](const std::pair<std::string, std::string>& header) {
      headers.push_back({reinterpret_cast<uint8_t*>(const_cast<char*>(header.first.data())),
                         reinterpret_cast<uint8_t*>(const_cast<char*>(header.second.data())), header.first.size(),
                         header.second.size(), NGHTTP2_NV_FLAG_NONE});
    };
    for (const auto& header : fixed) {
      if (!header.second.empty()) add(header);
    }
    for (const auto& header : extra) add(header);
    nghttp2_data_provider provider{};
    provider.read_callback = read_data;
    const int32_t id = nghttp2_submit_request(session_, nullptr, headers.data(), headers.size(),
                                              half_close ? nullptr : &provider, nullptr);
    CAIRN_ASSERT(id > 0);
    streams_[id].half_close = half_close;
    return id;
  }
  void send_bytes(int32_t id, std::string_view bytes) {
    streams_[id].outgoing += bytes;
    wake(id);
  }
  void send(int32_t id, std::string_view message) { send_bytes(id, framed(message)); }
  void half_close(int32_t id) {
    streams_[id].half_close = true;
    wake(id);
  }
  void reset(int32_t id) { nghttp2_submit_rst_stream(session_, NGHTTP2_FLAG_NONE, id, NGHTTP2_CANCEL); }
  void ping() { nghttp2_submit_ping(session_, NGHTTP2_FLAG_NONE, nullptr); }

  Stream& stream(int32_t id) { return streams_[id]; }
  Stream& unary(const std::string& path, std::string_view message, const Headers& extra = {}) {
    const int32_t id = start(path, extra);
    send(id, message);
    half_close(id);
    pump_until([&] { return streams_[id].closed; });
    return streams_[id];
  }

  // Sends what is there, reads for at most `timeout_ms`. False: the connection has ended.
  bool pump(int timeout_ms = 10) {
    flush();
    pollfd waits{.fd = fd_, .events = POLLIN, .revents = 0};
    if (::poll(&waits, 1, timeout_ms) > 0) {
      static thread_local char buffer[256 * 1024];
      const ssize_t bytes = ::recv(fd_, buffer, sizeof buffer, 0);
      if (bytes <= 0) {
        ended_ = true;
        return false;
      }
      if (nghttp2_session_mem_recv(session_, reinterpret_cast<const uint8_t*>(buffer), static_cast<size_t>(bytes)) <
          0) {
        ended_ = true;
        return false;
      }
    }
    flush();
    return true;
  }
  bool pump_until(const std::function<bool()>& done, int timeout_ms = 60'000) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(timeout_ms);
    while (!done()) {
      if (std::chrono::steady_clock::now() > deadline) return false;
      if (!pump()) return done();
    }
    return true;
  }
  // All that was given for the stream has gone to the socket.
  [[nodiscard]] bool has_sent(int32_t id) { return streams_[id].outgoing_offset == streams_[id].outgoing.size(); }
  // Sends without reading.
  void flush() {
    const uint8_t* data = nullptr;
    for (ssize_t length = 0; (length = nghttp2_session_mem_send(session_, &data)) > 0;) {
      size_t sent = 0;
      while (sent < static_cast<size_t>(length)) {
        const ssize_t bytes = ::send(fd_, data + sent, static_cast<size_t>(length) - sent, MSG_NOSIGNAL);
        if (bytes <= 0) {
          ended_ = true;
          return;
        }
        sent += static_cast<size_t>(bytes);
      }
    }
  }
  [[nodiscard]] bool ended() const { return ended_; }
  int fd() const { return fd_; }
  nghttp2_session* session() { return session_; }
  int goaway_count = 0;
  uint32_t goaway_error = 0;
  std::string goaway_text;
  int ping_acks = 0;
  int pings = 0;

 private:
  static TestClient& self(void* user) { return *static_cast<TestClient*>(user); }
  void wake(int32_t id) {
    if (std::exchange(streams_[id].deferred, false)) nghttp2_session_resume_data(session_, id);
  }
  static int on_header(nghttp2_session*, const nghttp2_frame* frame, const uint8_t* name, size_t name_bytes,
                       const uint8_t* value, size_t value_bytes, uint8_t, void* user) {
    self(user).streams_[frame->hd.stream_id].headers[std::string(reinterpret_cast<const char*>(name), name_bytes)] =
        std::string(reinterpret_cast<const char*>(value), value_bytes);
    return 0;
  }
  static int on_data(nghttp2_session*, uint8_t, int32_t id, const uint8_t* data, size_t bytes, void* user) {
    Stream& stream = self(user).streams_[id];
    stream.data_bytes += bytes;
    if (stream.keep_data) stream.data.append(reinterpret_cast<const char*>(data), bytes);
    return 0;
  }
  static int on_close(nghttp2_session*, int32_t id, uint32_t error, void* user) {
    Stream& stream = self(user).streams_[id];
    stream.closed = true;
    stream.error = error;
    return 0;
  }
  static int on_frame(nghttp2_session*, const nghttp2_frame* frame, void* user) {
    TestClient& client = self(user);
    if (frame->hd.type == NGHTTP2_GOAWAY) {
      ++client.goaway_count;
      client.goaway_error = frame->goaway.error_code;
      client.goaway_text.assign(reinterpret_cast<const char*>(frame->goaway.opaque_data),
                                frame->goaway.opaque_data_len);
    }
    if (frame->hd.type == NGHTTP2_PING) {
      ++((frame->hd.flags & NGHTTP2_FLAG_ACK) != 0 ? client.ping_acks : client.pings);
    }
    return 0;
  }
  static ssize_t read_data(nghttp2_session*, int32_t id, uint8_t* buffer, size_t length, uint32_t* flags,
                           nghttp2_data_source*, void* user) {
    Stream& stream = self(user).streams_[id];
    const size_t bytes = std::min(length, stream.outgoing.size() - stream.outgoing_offset);
    std::memcpy(buffer, stream.outgoing.data() + stream.outgoing_offset, bytes);
    stream.outgoing_offset += bytes;
    if (stream.outgoing_offset == stream.outgoing.size()) {
      stream.outgoing.clear();
      stream.outgoing_offset = 0;
    }
    if (stream.outgoing.empty() && stream.half_close) {
      *flags |= NGHTTP2_DATA_FLAG_EOF;
    } else if (bytes == 0) {
      stream.deferred = true;
      return NGHTTP2_ERR_DEFERRED;
    }
    return static_cast<ssize_t>(bytes);
  }

  int fd_;
  nghttp2_session* session_ = nullptr;
  std::map<int32_t, Stream> streams_;
  bool ended_ = false;
};

}  // namespace cairn::net
