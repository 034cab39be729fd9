#include "net/connection.h"

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "base/release.h"
#include "net/http1/http1_session.h"
#include "net/http2/http2_session.h"
#include "net/loop.h"
#include "net/refusal.h"

namespace cairn::net {
namespace {

// No HTTP/1.1 method begins so; nghttp2 checks the rest of the preface.
constexpr std::string_view kHttp2Start = "PRI ";
constexpr unsigned kReadsATurn = 4;            // of Loop::kReadBytes: others want their turn
constexpr unsigned kWritesATurn = 4;           // of Output::kBytesMax
constexpr int64_t kGoodbyeNs = 1'000'000'000;  // for the peer's end
constexpr int64_t kRefusalNs = 1'000'000'000;  // for the first bytes of one that is refused

}  // namespace

Connection::Connection(Loop& loop, int fd, std::unique_ptr<Transport> transport, Seat seat,
                       const ServerOptions& options, Services services)
    : loop_(loop),
      fd_(fd),
      seat_(std::move(seat)),
      options_(options),
      services_(services),
      transport_(std::move(transport)) {}

Connection::~Connection() { loop_.timers().remove(*this); }

bool Connection::start() {
  auto watched = loop_.reactor().watch(fd_, *this);
  if (!watched) {
    log::error("closing a connection", {{"error", watched.error().message}});
    return false;
  }
  descriptor_ = *std::move(watched);
  set_timer(services_.refuse ? kRefusalNs : services_.limits->header_timeout_ns);
  wait_to_read();
  return true;
}

bool Connection::mark_closing() {
  if (phase_ == Phase::kClosing) return false;
  phase_ = Phase::kClosing;
  return true;
}

bool Connection::may_be_displaced() const {
  return seat_ != nullptr && !services_.refuse && phase_ != Phase::kClosing && stake() != Stake::kAnswer;
}

void Connection::set_timer(int64_t delay_ns) {
  loop_.timers().remove(*this);
  loop_.timers().add(*this, loop_.now_ns() + delay_ns);
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
  if (flush_asked_ || phase_ == Phase::kClosing) return;
  flush_asked_ = true;
  loop_.flush_later(*this);
}

void Connection::on_closed() {
  loop_.timers().remove(*this);
  if (protocol_ != nullptr) protocol_->on_closed();
  descriptor_.reset();
}

void Connection::on_timer() {
  switch (phase_) {
    case Phase::kUnknown:      // nothing came in time
    case Phase::kWriteClosed:  // the peer does not end its side
      loop_.close_later(*this);
      return;
    case Phase::kOpen:
    case Phase::kGoodbye: {
      if (!blocked_) return;
      const uint64_t taken_bytes = transport_->taken_bytes() - mark_bytes_;
      if (taken_bytes < options_.reader_bytes_min()) {
        log::warn("closing a connection whose client does not take what is sent", {{"taken-bytes", taken_bytes}});
        loop_.close_later(*this);
        return;
      }
      watch_progress();
      return;
    }
    case Phase::kClosing: return;
  }
}

void Connection::watch_progress() {
  mark_bytes_ = transport_->taken_bytes();
  set_timer(options_.reader_stall_ns);
}

bool Connection::sniff(std::string_view bytes) {
  const Transport::Spoken spoken = transport_->spoken();
  bool http2 = spoken == Transport::Spoken::kHttp2;
  if (spoken == Transport::Spoken::kUnsaid) {
    const size_t compared = std::min(bytes.size(), kHttp2Start.size());
    http2 = bytes.substr(0, compared) == kHttp2Start.substr(0, compared);
    if (http2 && compared < kHttp2Start.size()) return false;  // not told yet
  }
  loop_.timers().remove(*this);
  phase_ = Phase::kOpen;
  if (services_.refuse) {
    protocol_ = std::make_unique<Refusal>(http2);
  } else if (http2) {
    protocol_ =
        std::make_unique<Http2Session>(loop_, options_, *services_.limits, services_.router, services_.http, *this);
  } else if (services_.http != nullptr) {
    protocol_ = std::make_unique<Http1Session>(loop_, *services_.limits, *services_.http, *this);
  } else {
    loop_.close_later(*this);
    return false;
  }
  if (draining_) protocol_->drain();
  return true;
}

void Connection::on_readable() {
  if (phase_ == Phase::kClosing) return;
  if (std::exchange(writes_when_readable_, false)) blocked_ = false;
  wake();  // to ask for the next event, whatever comes of this one
  read_on();
}

void Connection::read_on() {
  if (phase_ == Phase::kGoodbye || phase_ == Phase::kWriteClosed) {
    read_away();
    return;
  }
  for (unsigned reads = 0; reads < kReadsATurn; ++reads) {
    const Transport::Moved moved = transport_->read({loop_.read_buffer(), Loop::kReadBytes});
    loop_.counters().socket_reads.add();
    if (moved.outcome == Transport::Outcome::kWantsReadable) return;
    if (moved.outcome == Transport::Outcome::kWantsWritable) {
      reads_when_writable_ = true;
      return;
    }
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
    if (!protocol_->receive(bytes)) begin_goodbye();
    if (phase_ != Phase::kOpen || !protocol_->may_read(blocked_)) return;
    if (moved.bytes < Loop::kReadBytes && !transport_->has_unread()) return;
  }
}

void Connection::read_away() {
  const Transport::Moved moved = transport_->read({loop_.read_buffer(), Loop::kReadBytes});
  if (moved.outcome == Transport::Outcome::kClosed) loop_.close_later(*this);
}

void Connection::on_writable() {
  if (phase_ == Phase::kClosing) return;
  if (!writes_when_readable_) blocked_ = false;
  wake();
  if (std::exchange(reads_when_writable_, false)) read_on();
}

// False: the connection is lost.
bool Connection::write_some(std::string_view bytes, size_t& written) {
  const Transport::Moved moved = transport_->write(bytes);
  loop_.counters().socket_writes.add();
  loop_.counters().socket_bytes_out.add(moved.bytes);
  written = moved.bytes;
  if (moved.outcome == Transport::Outcome::kClosed) {
    loop_.close_later(*this);
    return false;
  }
  blocked_ = moved.bytes < bytes.size();
  writes_when_readable_ = moved.outcome == Transport::Outcome::kWantsReadable;
  return true;
}

void Connection::write_pending() {
  size_t written = 0;
  if (!write_some(std::string_view(pending_).substr(pending_offset_), written)) return;
  pending_offset_ += written;
  if (blocked_) return;
  release(pending_);
  pending_offset_ = 0;
}

void Connection::fill_and_write() {
  Output& out = loop_.output();
  for (unsigned writes = 0; writes < kWritesATurn; ++writes) {
    out.clear();
    protocol_->output(out);
    if (out.size() == 0) return;
    size_t written = 0;
    if (!write_some(out.view(), written)) return;
    if (blocked_) {
      pending_ = out.view().substr(written);
      return;
    }
    // A turn's answers fit in one buffer, mostly: asking again only when it was near full saves a call.
    if (out.room() > Output::kBytesMax / 2) return;
  }
  more_to_send_ = true;
}

void Connection::flush() {
  flush_asked_ = false;
  if (phase_ == Phase::kClosing) return;
  more_to_send_ = false;
  if (std::exchange(read_again_, false)) read_on();
  if (phase_ == Phase::kClosing) return;
  if (phase_ != Phase::kWriteClosed) {
    if (!blocked_ && !pending_.empty()) write_pending();
    if (!blocked_ && phase_ != Phase::kClosing && protocol_ != nullptr) fill_and_write();
    if (phase_ == Phase::kClosing) return;
    if (protocol_ != nullptr && protocol_->wants_close()) begin_goodbye();
    if (phase_ == Phase::kGoodbye && !blocked_ && !more_to_send_) close_write();
  }
  if (blocked_ || reads_when_writable_) descriptor_->wait_writable();
  if (blocked_) {
    if (!is_set()) watch_progress();
  } else if (phase_ == Phase::kOpen && is_set()) {
    loop_.timers().remove(*this);
  }
  if (phase_ != Phase::kOpen || writes_when_readable_ || protocol_->may_read(blocked_)) wait_to_read();
  if (more_to_send_) wake();
}

void Connection::wait_to_read() {
  descriptor_->wait_readable();
  // The socket does not speak of what the transport has already: the next turn's end reads it.
  if ((phase_ == Phase::kUnknown || phase_ == Phase::kOpen) && transport_->has_unread()) {
    read_again_ = true;
    wake();
  }
}

void Connection::begin_goodbye() {
  if (phase_ == Phase::kOpen) phase_ = Phase::kGoodbye;
}

// Ends our side and waits a moment for the peer's: closing with bytes unread would make the kernel drop what the peer
// has not read yet.
void Connection::close_write() {
  phase_ = Phase::kWriteClosed;
  set_timer(kGoodbyeNs);
  transport_->close_write();
}

}  // namespace cairn::net
