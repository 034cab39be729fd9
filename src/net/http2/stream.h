// net/http2/stream.h: what an HTTP/2 session and the user of one of its streams know of each other.
//
// The session tells the user of its stream what comes (the virtual functions), and the user asks the session to send
// (Http2Session's part "For streams"). Neither sees the other's inside. Users are GrpcCall and Http2Exchange.
//
// Threads: one loop.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace cairn::net {

class Http2Stream {
 public:
  Http2Stream() = default;
  virtual ~Http2Stream() = default;
  Http2Stream(const Http2Stream&) = delete;
  Http2Stream& operator=(const Http2Stream&) = delete;

  // The client's side. Each piece is given back to its window by Http2Session::give_back().
  virtual void on_body(std::string_view bytes) = 0;
  virtual void on_half_close() = 0;

  // The answer is whole and the client's side is not: whether its end may be on its way. Then the stream is not reset
  // at once. What comes meanwhile is passed over.
  [[nodiscard]] virtual bool may_end_soon() const { return false; }

  // Ours. The transport wants up to out.size() bytes of the body.
  enum class Next : uint8_t {
    kMore,      // ask again
    kWait,      // nothing now; Http2Session::resume() later
    kEnd,       // these were the last bytes
    kTrailers,  // these were the last bytes, and the trailers are submitted
    kFailed,    // the rest cannot be had: the stream is reset
  };
  struct Filled {
    size_t bytes = 0;
    Next next = Next::kMore;
  };
  virtual Filled fill(std::span<char> out) = 0;
  // After Http2Session::note_writable(): the transport has what fill() gave, and it was all there is.
  virtual void on_writable() = 0;

  // What waits for the client, and how much of it the client has had since the stream began: for the stall watch.
  [[nodiscard]] virtual bool waits_for_client() const = 0;
  [[nodiscard]] virtual uint64_t sent_bytes() const = 0;
  virtual void on_stalled() = 0;

  // The stream is gone, and the session knows it no more. Destroys the object, or gives it back to a pool.
  virtual void on_closed() = 0;

  // The session's notes. Set by the session alone.
  struct Link {
    int32_t stream_id = 0;
    bool half_closed = false;  // the client has ended its side
    bool deferred = false;     // fill() said kWait
    bool needs_window = true;  // what comes is not the last
    Http2Stream* previous = nullptr;
    Http2Stream* next = nullptr;
    // Where the stall watch stands: 0 when nothing waits for the client.
    int64_t mark_ns = 0;
    uint64_t mark_bytes = 0;
  };
  Link link;
};

}  // namespace cairn::net
