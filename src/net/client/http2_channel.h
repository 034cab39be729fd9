// net/client/http2_channel.h: one HTTP/2 connection that carries unary gRPC calls at little CPU.
//
// The client's side: load generators and tests use it. It must cost less than what it measures, so frames are read and
// written by hand: a request is seven bytes of indexed header fields and its body. Header compression of the responses
// is nghttp2's, and skipped for a block that consists of indexed fields alone and was seen before: it can neither
// change the table nor mean something else than last time.
//
// Always true: at most `streams_max` calls are open; a call ends exactly once, by on_end.
// Threads:     none; non-blocking, the owner watches fd() with epoll or poll.
// Source:      RFC 9113, RFC 7541, the gRPC over HTTP/2 description.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nghttp2/nghttp2.h>

#include "base/error.h"
#include "net/client/client_socket.h"

namespace cairn::net {

class ResponseSink {
 public:
  virtual ~ResponseSink() = default;
  // A piece of the response body of the call that was made with `slot`: gRPC prefix and message.
  virtual void on_data(uint32_t slot, std::string_view bytes) = 0;
  // The call is over. `grpc_status` is kNoStatus when the server ended it without one.
  virtual void on_end(uint32_t slot, int grpc_status) = 0;
};

inline constexpr int kNoStatus = -1;

class Http2Channel {
 public:
  struct Options {
    std::string address;  // "host:port"
    uint32_t streams_max = 1;
    uint32_t window_bytes = 16u << 20;  // flow control, of each stream and of the connection
    // Sent with each call: names in lower case. All fields together fit into 3 KB.
    std::vector<std::pair<std::string, std::string>> metadata = {};
    const ClientTls* tls = nullptr;  // null: clear text. Outlives the channel
  };

  // Connects (waiting, for the handshake too) and queues the preface.
  //   errors: kUnavailable when nothing listens there, or the handshake fails
  static Result<std::unique_ptr<Http2Channel>> connect(const Options& options);

  ~Http2Channel();
  Http2Channel(const Http2Channel&) = delete;
  Http2Channel& operator=(const Http2Channel&) = delete;

  [[nodiscard]] int fd() const { return socket_.fd(); }

  // Whether flow control lets a body of so many bytes (prefix included) go out now.
  [[nodiscard]] bool can_send(size_t body_bytes) const {
    return static_cast<int64_t>(body_bytes) <= send_window_ && static_cast<int64_t>(body_bytes) <= stream_window_ &&
           !closing_;
  }

  // Queues a call of `path` ("/etcdserverpb.KV/Put") with `body` (prefix included).
  //   needs: can_send(body.size()), fewer than streams_max calls open
  void call(uint32_t slot, std::string_view path, std::string_view body);

  // Writes what is queued. True when some of it has to wait for EPOLLOUT.
  Result<bool> flush();

  // Reads what has come and reports it.
  //   errors: kUnavailable when the connection ended, kInternal when the server broke the protocol
  Status receive(ResponseSink& sink);

 private:
  struct Stream {
    uint32_t id = 0;  // 0: free
    uint32_t slot = 0;
    int grpc_status = kNoStatus;
    uint32_t unacknowledged_bytes = 0;
  };
  struct Frame;

  Http2Channel(ClientSocket socket, const Options& options);

  Stream* find(uint32_t id);
  [[nodiscard]] std::string_view pseudo_fields() const;
  const std::string& header_block(std::string_view path);
  void rebuild_blocks();
  void frame_header(size_t size, uint8_t type, uint8_t flags, uint32_t stream);
  void window_update(uint32_t stream, uint32_t bytes);

  Status on_frame(const Frame& frame, ResponseSink& sink);
  Status on_data(const Frame& frame, ResponseSink& sink);
  Status on_headers(const Frame& frame, ResponseSink& sink);
  Status on_settings(const Frame& frame);
  Result<int> inflate(std::string_view block);
  void end(Stream& stream, ResponseSink& sink);

  ClientSocket socket_;
  std::string authority_;
  uint32_t window_bytes_;
  int64_t send_window_ = 65535;
  int64_t stream_window_ = 65535;
  uint32_t next_id_ = 1;
  bool closing_ = false;
  std::vector<Stream> streams_;  // a ring: the call with id i is at (i / 2) mod size

  // What the server's table of our header fields holds, oldest first, and the block for each path.
  std::vector<std::pair<std::string, std::string>> sent_fields_;
  std::vector<std::pair<std::string, std::string>> blocks_;

  nghttp2_hd_inflater* inflater_ = nullptr;
  std::vector<std::pair<std::string, int>> known_blocks_;  // indexed fields alone -> grpc-status
  std::string header_fragments_;                           // until END_HEADERS
  uint32_t fragments_stream_ = 0;
  uint8_t fragments_flags_ = 0;

  std::string out_;
  size_t out_written_ = 0;
  std::vector<char> in_;
  size_t in_size_ = 0;
  uint32_t unacknowledged_bytes_ = 0;
};

}  // namespace cairn::net
