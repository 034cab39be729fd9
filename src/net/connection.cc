#include "net/connection.h"

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "net/http1/http1_session.h"
#include "net/http2/http2_session.h"
#include "net/loop.h"

namespace cairn::net {
namespace {

// No HTTP/1.1 method begins so; nghttp2 checks the rest of the preface.
constexpr std::string_view kHttp2Start = "PRI ";
constexpr unsigned kReadsATurn = 4;   // of Loop::kReadBytes: others want their turn
constexpr unsigned kWritesATurn = 4;  // of Output::kBytesMax
constexpr int64_t kGoodbyeNs = 1'000'000'000;

}  // namespace

Connection::Connection(Loop& loop, int fd, const ServerOptions& options, Services services)
    : loop_(loop),
      options_(options),
      services_(services),
      descriptor_(loop.reactor().watch(fd, *this)),
      transport_(clear_transport(fd)) {}

Connection::~Connection() { loop_.timers().remove(*this); }

void Connection::start() {
  loop_.timers().add(*this, loop_.now_ns() + options_.http_header_timeout_ns);
  descriptor_->wait_readable();
}

void Connection::drain() {
  draining_ = true;
  if (protocol_ != nullptr) {
    protocol_->drain();
  } else {
    loop_.close_later(*this);
  }
  wake();
}

void Connection::wake() {
  if (flush_asked_ || closing_) return;
  flush_asked_ = true;
  loop_.flush_later(*this);
}

void Connection::on_closed() {
  loop_.timers().remove(*this);
  if (protocol_ != nullptr) protocol_->on_closed();
  descriptor_.reset();
}

// Before the protocol is known: nothing came in time. Afterwards: the goodbye took too long.
void Connection::on_timer() { loop_.close_later(*this); }

bool Connection::sniff(std::string_view bytes) {
  const size_t compared = std::min(bytes.size(), kHttp2Start.size());
  const bool http2 = bytes.substr(0, compared) == kHttp2Start.substr(0, compared);
  if (http2 && compared < kHttp2Start.size()) return false;  // not told yet
  loop_.timers().remove(*this);
  if (http2 && services_.router != nullptr) {
    protocol_ = std::make_unique<Http2Session>(loop_, options_, *services_.router, *this);
  } else if (services_.http != nullptr) {
    protocol_ = std::make_unique<Http1Session>(loop_, options_, *services_.http, *this);
  } else {
    loop_.close_later(*this);
    return false;
  }
  if (draining_) protocol_->drain();
  return true;
}

void Connection::on_readable() {
  if (closing_) return;
  wake();  // to ask for the next event, whatever comes of this one
  if (write_closed_) {
    read_away();
    return;
  }
  for (unsigned reads = 0; reads < kReadsATurn; ++reads) {
    const Transport::Moved moved = transport_->read({loop_.read_buffer(), Loop::kReadBytes});
    loop_.counters().socket_reads.add();
    if (moved.outcome == Transport::Outcome::kBlocked) return;
    if (moved.outcome == Transport::Outcome::kClosed) {
      loop_.close_later(*this);
      return;
    }
    loop_.counters().socket_bytes_in.add(moved.bytes);
    std::string_view bytes(loop_.read_buffer(), moved.bytes);
    std::string joined;
    if (protocol_ == nullptr) {
      if (!sniffed_.empty()) {
        joined = std::exchange(sniffed_, {}).append(bytes);
        bytes = joined;
      }
      if (!sniff(bytes)) {
        sniffed_ = bytes;
        return;
      }
    }
    if (!protocol_->receive(bytes)) goodbye_ = true;
    if (goodbye_ || moved.bytes < Loop::kReadBytes || !protocol_->may_read(blocked_)) return;
  }
}

void Connection::read_away() {
  const Transport::Moved moved = transport_->read({loop_.read_buffer(), Loop::kReadBytes});
  if (moved.outcome == Transport::Outcome::kClosed) loop_.close_later(*this);
}

void Connection::on_writable() {
  if (closing_) return;
  blocked_ = false;
  wake();
}

void Connection::write_pending() {
  const std::string_view rest = std::string_view(pending_).substr(pending_offset_);
  const Transport::Moved moved = transport_->write(rest);
  loop_.counters().socket_writes.add();
  loop_.counters().socket_bytes_out.add(moved.bytes);
  if (moved.outcome == Transport::Outcome::kClosed) {
    loop_.close_later(*this);
    return;
  }
  pending_offset_ += moved.bytes;
  if (moved.bytes < rest.size()) {
    blocked_ = true;
    return;
  }
  pending_ = {};
  pending_offset_ = 0;
}

void Connection::fill_and_write() {
  Output& out = loop_.output();
  for (unsigned writes = 0; writes < kWritesATurn; ++writes) {
    out.clear();
    protocol_->output(out);
    if (out.size() == 0) return;
    const Transport::Moved moved = transport_->write(out.view());
    loop_.counters().socket_writes.add();
    loop_.counters().socket_bytes_out.add(moved.bytes);
    if (moved.outcome == Transport::Outcome::kClosed) {
      loop_.close_later(*this);
      return;
    }
    if (moved.bytes < out.size()) {
      pending_ = out.view().substr(moved.bytes);
      blocked_ = true;
      return;
    }
    // A turn's answers fit in one buffer, mostly: asking again only when it was near full saves a call.
    if (out.room() > Output::kBytesMax / 2) return;
  }
  more_to_send_ = true;
}

void Connection::flush() {
  flush_asked_ = false;
  if (closing_) return;
  more_to_send_ = false;
  if (!write_closed_) {
    if (!blocked_ && !pending_.empty()) write_pending();
    if (!blocked_ && !closing_ && protocol_ != nullptr) fill_and_write();
    if (closing_) return;
    if (protocol_ != nullptr && protocol_->wants_close()) goodbye_ = true;
    if (goodbye_) say_goodbye();
    if (closing_) return;
  }
  if (blocked_) descriptor_->wait_writable();
  if (protocol_ == nullptr || protocol_->may_read(blocked_)) descriptor_->wait_readable();
  if (more_to_send_) wake();
}

// Sends what is left, then ends our side and waits a moment for the peer's: closing with bytes unread would make
// the kernel drop what the peer has not read yet.
void Connection::say_goodbye() {
  if (!is_set()) loop_.timers().add(*this, loop_.now_ns() + kGoodbyeNs);
  if (blocked_ || more_to_send_) return;
  write_closed_ = true;
  transport_->close_write();
}

}  // namespace cairn::net
