#include "net/client/http_client.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "net/byte_queue.h"
#include "net/http1/response_parser.h"
#include "net/loop.h"

namespace cairn::net {
namespace {

constexpr unsigned kReadsATurn = 4;              // of Loop::kReadBytes: others want their turn
constexpr size_t kWriteBytes = 256 * 1024;       // at once
constexpr uint64_t kWritesATurnBytes = 1 << 20;  // of one connection
constexpr size_t kAheadBytesMax = 64 * 1024;     // of what the parser cannot take yet: a line of a chunk

void append_head(std::string& out, const HttpClient::Request& request) {
  const HttpRequest& head = request.head;
  out.append(head.method).append(" ").append(head.path.empty() ? "/" : head.path);
  if (!head.query.empty()) out.append("?").append(head.query);
  out.append(" HTTP/1.1\r\nHost: ").append(request.endpoint.is_unix ? "localhost" : request.endpoint.address);
  const auto add = [&out](std::string_view name, std::string_view value) {
    out.append("\r\n").append(name).append(": ");
    for (const char c : value) out += c == '\r' || c == '\n' ? ' ' : c;
  };
  for (const auto& [name, value] : head.headers) add(name, value);
  if (request.streams_body) {
    add("Transfer-Encoding", "chunked");
  } else if (!head.body.empty() || head.method == "POST" || head.method == "PUT") {
    add("Content-Length", std::to_string(head.body.size()));
  }
  out.append("\r\n\r\n");
}

}  // namespace

// One socket, from the moment it may speak: what is sent, what is received, and how long neither moves.
class HttpClient::Connection final : private Reactor::Handler,
                                     private TimerHeap::Node,
                                     public std::enable_shared_from_this<Connection> {
 public:
  // Of the call that has it now.
  class User {
   public:
    virtual ~User() = default;
    virtual void on_received(std::string_view bytes) = 0;
    virtual void on_sent() = 0;  // all of it
    virtual void on_lost(Error why, bool is_end) = 0;
  };

  Connection(HttpClient& client, Endpoint endpoint, std::unique_ptr<Transport> transport)
      : client_(client), loop_(client.loop_), endpoint_(std::move(endpoint)), transport_(std::move(transport)) {}
  ~Connection() override { loop_.timers().remove(*this); }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  // Owns `fd`.
  Status open(int fd) {
    CAIRN_TRY(descriptor_, loop_.reactor().watch(fd, *this));
    descriptor_->wait_readable();
    return {};
  }

  [[nodiscard]] const Endpoint& endpoint() const { return endpoint_; }
  [[nodiscard]] uint64_t queued_bytes() const { return out_.size(); }
  [[nodiscard]] uint64_t taken_bytes() const { return transport_->taken_bytes(); }
  // The socket, or what TLS holds, has something that nobody asked for; or it has ended.
  [[nodiscard]] bool is_usable() const { return descriptor_ != nullptr && !transport_->has_unread(); }

  // `awaits`: an answer, from now on.
  void attach(User& user, bool awaits) {
    user_ = &user;
    awaits_ = awaits;
    last_read_ns_ = loop_.now_ns();
    last_taken_ = transport_->taken_bytes();
    last_taken_ns_ = last_read_ns_;
    set_timer();
  }
  void await_answer() {
    awaits_ = true;
    last_read_ns_ = loop_.now_ns();
  }
  // Idle from now on: only its end is looked for.
  void detach() {
    user_ = nullptr;
    holds_ = false;
    idle_since_ns_ = loop_.now_ns();
    set_timer();
  }
  void close() {
    loop_.timers().remove(*this);
    user_ = nullptr;
    descriptor_.reset();
  }

  void send(std::string_view bytes) {
    if (descriptor_ == nullptr) return;
    if (out_.empty()) last_taken_ns_ = loop_.now_ns();
    out_.push(bytes);
    ask_to_write();
  }
  void hold(bool hold) {
    if (std::exchange(holds_, hold) == hold || hold || descriptor_ == nullptr) return;
    last_read_ns_ = loop_.now_ns();
    // In a turn of its own, not from inside the caller.
    loop_.post([weak = weak_from_this()] {
      if (const auto self = weak.lock()) self->read_on();
    });
  }

 private:
  void on_readable() override {
    const auto self = shared_from_this();
    if (std::exchange(writes_when_readable_, false)) write_on();
    read_on();
  }
  void on_writable() override {
    const auto self = shared_from_this();
    write_on();
    if (std::exchange(reads_when_writable_, false)) read_on();
  }

  void read_on() {
    for (unsigned reads = 0; descriptor_ != nullptr && !holds_; ++reads) {
      if (reads >= kReadsATurn && !transport_->has_unread()) break;
      const Transport::Moved moved = transport_->read({loop_.read_buffer(), Loop::kReadBytes});
      if (moved.outcome == Transport::Outcome::kWantsReadable) break;
      if (moved.outcome == Transport::Outcome::kWantsWritable) {
        reads_when_writable_ = true;
        descriptor_->wait_writable();
        return;
      }
      if (moved.outcome == Transport::Outcome::kClosed) {
        return lose({.code = Code::kUnavailable, .message = "EOF"}, true);
      }
      last_read_ns_ = loop_.now_ns();
      // Idle: nothing was asked for.
      if (user_ == nullptr) return lose({.code = Code::kInternal, .message = "unsolicited response"}, false);
      user_->on_received({loop_.read_buffer(), moved.bytes});
      if (moved.bytes < Loop::kReadBytes && !transport_->has_unread()) break;
    }
    if (descriptor_ != nullptr && !holds_) descriptor_->wait_readable();
  }

  // At the end of the events that run now, so that small pieces share a write.
  void ask_to_write() {
    if (blocked_ || std::exchange(write_asked_, true)) return;
    loop_.post([weak = weak_from_this()] {
      const auto self = weak.lock();
      if (self == nullptr) return;
      self->write_asked_ = false;
      self->write_on();
    });
  }

  void write_on() {
    blocked_ = false;
    uint64_t written = 0;
    while (descriptor_ != nullptr && !out_.empty()) {
      if (written >= kWritesATurnBytes) return ask_to_write();
      const std::string_view bytes = out_.front(kWriteBytes);
      const Transport::Moved moved = transport_->write(bytes);
      if (moved.outcome == Transport::Outcome::kClosed) {
        // What the server said before it closed is worth more than that it did.
        out_.clear();
        return read_on();
      }
      out_.pop(moved.bytes);
      written += moved.bytes;
      if (moved.outcome == Transport::Outcome::kDone) continue;
      blocked_ = true;
      if (moved.outcome == Transport::Outcome::kWantsReadable) {
        writes_when_readable_ = true;
        descriptor_->wait_readable();
      } else {
        descriptor_->wait_writable();
      }
      return;
    }
    if (descriptor_ != nullptr && user_ != nullptr && written > 0) user_->on_sent();
  }

  // When something is too late at the earliest.
  void set_timer() {
    loop_.timers().remove(*this);
    const Options& options = client_.options_;
    int64_t due_ns = INT64_MAX;
    const auto at_most = [&due_ns](int64_t since_ns, int64_t timeout_ns) {
      if (timeout_ns > 0) due_ns = std::min(due_ns, since_ns + timeout_ns);
    };
    if (user_ == nullptr) {
      at_most(idle_since_ns_, options.idle_timeout_ns);
    } else {
      at_most(loop_.now_ns(), options.write_timeout_ns);
      at_most(last_read_ns_, options.read_timeout_ns);
    }
    if (due_ns != INT64_MAX) loop_.timers().add(*this, std::max(due_ns, loop_.now_ns() + 1));
  }

  void on_timer() override {
    const auto self = shared_from_this();
    const Options& options = client_.options_;
    const int64_t now_ns = loop_.now_ns();
    const auto is_over = [now_ns](int64_t since_ns, int64_t timeout_ns) {
      return timeout_ns > 0 && now_ns - since_ns >= timeout_ns;
    };
    if (user_ == nullptr) {
      if (is_over(idle_since_ns_, options.idle_timeout_ns)) return lose({Code::kUnavailable, "idle"}, false);
      return set_timer();
    }
    if (const uint64_t taken = transport_->taken_bytes(); taken != last_taken_ || out_.empty()) {
      last_taken_ = taken;
      last_taken_ns_ = now_ns;
    }
    if (is_over(last_taken_ns_, options.write_timeout_ns)) {
      return lose({Code::kDeadlineExceeded, "write: i/o timeout"}, false);
    }
    // While the request is being made or sent, or the caller holds, nothing is awaited.
    if (!awaits_ || !out_.empty() || holds_) last_read_ns_ = now_ns;
    if (is_over(last_read_ns_, options.read_timeout_ns)) {
      return lose({Code::kDeadlineExceeded, "read: i/o timeout"}, false);
    }
    set_timer();
  }

  void lose(Error why, bool is_end) {
    const auto self = shared_from_this();
    User* const user = user_;
    close();
    client_.forget(*this);
    if (user != nullptr) user->on_lost(std::move(why), is_end);
  }

  HttpClient& client_;
  Loop& loop_;
  const Endpoint endpoint_;
  std::unique_ptr<Reactor::Descriptor> descriptor_;  // null: closed
  const std::unique_ptr<Transport> transport_;
  User* user_ = nullptr;  // null: idle
  ByteQueue out_;
  int64_t last_read_ns_ = 0;
  uint64_t last_taken_ = 0;
  int64_t last_taken_ns_ = 0;
  int64_t idle_since_ns_ = 0;
  bool awaits_ = false;
  bool holds_ = false;
  bool blocked_ = false;  // the transport takes no more
  bool write_asked_ = false;
  bool reads_when_writable_ = false;  // what reading waits for, where it is not the usual
  bool writes_when_readable_ = false;
};

// One request and its answer.
class HttpClient::Exchanging final : public Call, private Connection::User, private TimerHeap::Node {
 public:
  Exchanging(HttpClient& client, Request request, Hearer& hearer)
      : client_(client), loop_(client.loop_), request_(std::move(request)), hearer_(hearer) {
    if (request_.deadline_ns > 0) loop_.timers().add(*this, loop_.now_ns() + request_.deadline_ns);
    append_head(early_, request_);
    if (!request_.streams_body) early_.append(request_.head.body);
    // Nothing is heard from inside start().
    post([](Exchanging& self) { self.begin(); });
  }
  ~Exchanging() override {
    loop_.timers().remove(*this);
    if (connection_ != nullptr) connection_->close();
  }
  Exchanging(const Exchanging&) = delete;
  Exchanging& operator=(const Exchanging&) = delete;

  // Call
  void write(std::string_view bytes) override {
    CAIRN_ASSERT(request_.streams_body && !is_sent_whole_);
    if (bytes.empty()) return;
    send(fmt::format("{:x}\r\n", bytes.size()));
    send(bytes);
    send("\r\n");
  }
  void finish() override {
    CAIRN_ASSERT(request_.streams_body && !is_sent_whole_);
    is_sent_whole_ = true;
    send("0\r\n\r\n");
    if (connection_ != nullptr) connection_->await_answer();
  }
  uint64_t queued_bytes() const override {
    return early_.size() + (connection_ != nullptr ? connection_->queued_bytes() : 0);
  }
  uint64_t taken_bytes() const override { return connection_ != nullptr ? connection_->taken_bytes() : 0; }
  void hold(bool hold) override {
    holds_ = hold;
    if (connection_ != nullptr) connection_->hold(hold);
  }

 private:
  template <class What>
  void post(What what) {
    loop_.post([weak = std::weak_ptr<bool>(alive_), this, what] {
      if (!weak.expired()) what(*this);
    });
  }

  void send(std::string_view bytes) {
    if (is_over_) return;
    if (connection_ != nullptr) {
      connection_->send(bytes);
    } else {
      early_.append(bytes);
    }
  }

  void begin() {
    if (is_over_) return;
    if (ConnectionPtr kept = client_.take_idle(request_.endpoint)) {
      is_reused_ = true;
      return use(std::move(kept));
    }
    Connecting::Options options{.tls = client_.options_.tls,
                                .dial_timeout_ns = client_.options_.dial_timeout_ns,
                                .handshake_timeout_ns = client_.options_.handshake_timeout_ns,
                                .local_ip = client_.options_.local_ip};
    if (request_.dial_timeout_ns > 0) options.dial_timeout_ns = request_.dial_timeout_ns;
    connecting_ = std::make_unique<Connecting>(
        loop_, client_.resolver_, options, request_.endpoint,
        [this](Result<Connecting::Connected> outcome) { on_connected(std::move(outcome)); });
  }

  void on_connected(Result<Connecting::Connected> outcome) {
    const auto gone = std::move(connecting_);  // whose function this is
    if (!outcome) return end(std::unexpected(std::move(outcome).error()));
    auto connection = std::make_shared<Connection>(client_, request_.endpoint, std::move(outcome->transport));
    if (Status opened = connection->open(outcome->fd); !opened) return end(std::move(opened));
    use(std::move(connection));
  }

  void use(ConnectionPtr connection) {
    connection_ = std::move(connection);
    connection_->attach(*this, !request_.streams_body || is_sent_whole_);
    connection_->hold(holds_);
    if (request_.streams_body || !is_reused_ || request_.head.method != "GET") {
      connection_->send(std::exchange(early_, {}));
    } else {
      connection_->send(early_);  // it may have to be sent again
      again_ = std::exchange(early_, {});
    }
    parser_ = std::make_shared<ResponseParser>(request_.head.method == "HEAD",
                                               [this, alive = std::weak_ptr(alive_)](std::string_view bytes) {
                                                 if (!alive.expired()) hearer_.on_body(bytes);
                                               });
  }

  // Connection::User
  void on_sent() override {
    if (request_.streams_body && !is_sent_whole_) hearer_.on_writable();
  }

  void on_received(std::string_view bytes) override {
    const std::weak_ptr<bool> alive = alive_;
    std::string joined;
    if (!ahead_.empty()) {
      joined = std::exchange(ahead_, {}).append(bytes);
      bytes = joined;
    }
    for (;;) {
      // The hearer may destroy this from inside.
      const auto parser = parser_;
      auto used = parser->put(bytes);
      if (alive.expired()) return;
      if (!used) return end(std::unexpected(std::move(used).error()));
      bytes.remove_prefix(*used);
      if (parser->has_head() && !std::exchange(has_told_head_, true)) {
        hearer_.on_head(parser->head());
        if (alive.expired()) return;
      }
      if (parser->is_done()) return on_whole(!bytes.empty());
      if (*used == 0 || bytes.empty()) break;
    }
    ahead_ = bytes;
    if (ahead_.size() > kAheadBytesMax) end(fail(Code::kInternal, "malformed HTTP response: a line is too long"));
  }

  void on_lost(Error why, bool is_end) override {
    connection_.reset();
    const auto parser = parser_;
    if (is_reused_ && !parser->has_begun() && !again_.empty()) {
      is_reused_ = false;
      early_ = std::exchange(again_, {});
      return begin();
    }
    if (is_end && parser->has_begun()) {
      const std::weak_ptr<bool> alive = alive_;
      Status ended = parser->end();
      if (alive.expired()) return;
      return end(std::move(ended));
    }
    end(std::unexpected(std::move(why)));
  }

  void on_whole(bool has_more) {
    const bool is_kept = !has_more && parser_->keeps_alive() && (!request_.streams_body || is_sent_whole_) &&
                         connection_->queued_bytes() == 0;
    const ConnectionPtr connection = std::move(connection_);
    if (is_kept) {
      connection->detach();
      client_.keep(connection);
    } else {
      connection->close();
    }
    end({});
  }

  void on_timer() override { end(fail(Code::kDeadlineExceeded, "context deadline exceeded")); }

  void end(Status outcome) {
    if (std::exchange(is_over_, true)) return;
    loop_.timers().remove(*this);
    connecting_.reset();
    if (connection_ != nullptr) connection_->close();
    connection_.reset();
    early_.clear();
    hearer_.on_end(std::move(outcome));  // may destroy this
  }

  HttpClient& client_;
  Loop& loop_;
  const Request request_;
  Hearer& hearer_;
  const std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  std::unique_ptr<Connecting> connecting_;
  ConnectionPtr connection_;
  std::string early_;  // what is to be sent once there is a connection
  std::string again_;  // what is sent again if a kept connection turns out dead
  std::string ahead_;  // received, and not whole enough for the parser
  std::shared_ptr<ResponseParser> parser_;
  bool is_sent_whole_ = false;  // of a streamed body
  bool is_reused_ = false;
  bool has_told_head_ = false;
  bool holds_ = false;
  bool is_over_ = false;
};

HttpClient::HttpClient(EventLoop& loop, Options options, Resolver::Lookup lookup)
    : loop_(static_cast<Loop&>(loop)), options_(std::move(options)), resolver_(loop, std::move(lookup)) {}

HttpClient::~HttpClient() { close_idle(); }

std::unique_ptr<HttpClient::Call> HttpClient::start(Request request, Hearer& hearer) {
  return std::make_unique<Exchanging>(*this, std::move(request), hearer);
}

void HttpClient::close_idle() {
  for (const ConnectionPtr& each : idle_) each->close();
  idle_.clear();
}

size_t HttpClient::idle_count() const { return idle_.size(); }

HttpClient::ConnectionPtr HttpClient::take_idle(const Endpoint& endpoint) {
  for (size_t at = idle_.size(); at-- > 0;) {
    if (idle_[at]->endpoint() != endpoint) continue;
    ConnectionPtr found = std::move(idle_[at]);
    idle_.erase(idle_.begin() + static_cast<ptrdiff_t>(at));
    if (found->is_usable()) return found;
    found->close();
  }
  return nullptr;
}

void HttpClient::keep(const ConnectionPtr& connection) {
  const auto count = std::ranges::count_if(
      idle_, [&](const ConnectionPtr& each) { return each->endpoint() == connection->endpoint(); });
  if (static_cast<size_t>(count) >= options_.idle_max) return connection->close();
  idle_.push_back(connection);
}

void HttpClient::forget(const Connection& connection) {
  std::erase_if(idle_, [&](const ConnectionPtr& each) { return each.get() == &connection; });
}

Result<Endpoint> endpoint_of(std::string_view url) {
  const size_t colon = url.find("://");
  const std::string_view scheme = url.substr(0, colon);
  Endpoint out{.is_unix = scheme == "unix" || scheme == "unixs", .is_secure = scheme == "https" || scheme == "unixs"};
  if (colon == std::string_view::npos || (!out.is_unix && !out.is_secure && scheme != "http")) {
    return fail(Code::kInvalidArgument, "unsupported URL {}", url);
  }
  url.remove_prefix(colon + 3);
  out.address = out.is_unix ? url : url.substr(0, url.find('/'));
  return out;
}

}  // namespace cairn::net
