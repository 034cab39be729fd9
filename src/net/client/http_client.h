// net/client/http_client.h: requests to other servers over HTTP/1.1, from a loop and without waiting, in clear text or
// over TLS.
//
// Bodies are streams both ways: an answer may never end, a request's body may be made while it is sent. A connection
// carries one request at a time. It is kept for the next one to the same endpoint if the options say so.
//
//     dialling -> busy <-> idle -> gone          a request that is given up takes its connection with it
//
// A request that found a kept connection dead is sent again on a new one, if it is a GET and nothing of an answer has
// come, as Go does: a server may close an idle connection at any time.
//
// Threads: one loop. The client outlives its calls.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "net/client/connecting.h"
#include "net/client/resolver.h"
#include "net/http.h"

namespace cairn::net {

class EventLoop;

class HttpClient {
 public:
  struct Options {
    TlsClientContext* tls = nullptr;  // null: https is refused. Outlives the client
    int64_t dial_timeout_ns = 2'000'000'000;
    int64_t handshake_timeout_ns = 10'000'000'000;
    std::string local_ip = {};  // as Connecting::Options
    // The server takes nothing of what is to be sent, or says nothing while its answer is awaited, for so long. 0: for
    // ever.
    int64_t write_timeout_ns = 0;
    int64_t read_timeout_ns = 0;
    size_t idle_max = 0;  // connections kept, for each endpoint
    int64_t idle_timeout_ns = 90'000'000'000;
  };
  explicit HttpClient(EventLoop& loop, Options options, Resolver::Lookup lookup = Resolver::system_lookup());
  // needs: no call is left
  ~HttpClient();
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  struct Request {
    Endpoint endpoint;
    HttpRequest head;             // method, path, query, headers and, unless it is streamed, body; Host is added
    bool streams_body = false;    // Call::write() gives it, in chunks
    int64_t dial_timeout_ns = 0;  // 0: the client's
    int64_t deadline_ns = 0;      // from now; 0: none. Then kDeadlineExceeded
  };

  // What the caller hears. Never from inside start() or a method of the call. Each may destroy the call; nothing is
  // heard afterwards.
  class Hearer {
   public:
    virtual ~Hearer() = default;
    // The connection stands, and what was written has gone to the socket. Of a streamed body.
    virtual void on_writable() {}
    virtual void on_head(const HttpResponse& head) = 0;  // without the body
    virtual void on_body(std::string_view) {}
    // Last event. Success: the answer is whole. Once, even when the body of the request was not.
    //   errors: kAborted when nobody listens there, kDeadlineExceeded, kInternal for what is no HTTP, kUnavailable else
    virtual void on_end(Status outcome) = 0;
  };

  // One request. Its destruction gives it up.
  class Call {
   public:
    virtual ~Call() = default;
    // The next piece of a streamed body, copied; also before the connection stands.
    virtual void write(std::string_view bytes) = 0;
    virtual void finish() = 0;
    [[nodiscard]] virtual uint64_t queued_bytes() const = 0;
    // Bytes that the server's kernel has acknowledged, of this connection: compared with what it was earlier.
    [[nodiscard]] virtual uint64_t taken_bytes() const = 0;
    // True: nothing is read until hold(false).
    virtual void hold(bool hold) = 0;
  };
  [[nodiscard]] std::unique_ptr<Call> start(Request request, Hearer& hearer);

  // Kept connections are closed; those that are busy are not kept afterwards.
  void close_idle();
  [[nodiscard]] size_t idle_count() const;

 private:
  class Connection;
  class Exchanging;
  using ConnectionPtr = std::shared_ptr<Connection>;

  [[nodiscard]] ConnectionPtr take_idle(const Endpoint& endpoint);
  void keep(const ConnectionPtr& connection);
  void forget(const Connection& connection);

  Loop& loop_;
  const Options options_;
  Resolver resolver_;
  std::vector<ConnectionPtr> idle_;  // the newest last
};

// "http://host:2380" and the other schemes of peers: https, unix, unixs. The path behind is left out.
//   errors: kInvalidArgument
[[nodiscard]] Result<Endpoint> endpoint_of(std::string_view url);

}  // namespace cairn::net
