#include "net/tls/handshakes.h"

#include <cerrno>
#include <deque>
#include <list>
#include <map>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include <pthread.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mutex.h"
#include "net/listener.h"
#include "net/loop.h"
#include "net/reactor.h"
#include "net/timer_heap.h"
#include "net/tls/tls_context.h"
#include "net/tls/tls_transport.h"

namespace cairn::net {
namespace {

constexpr size_t kEarlyBytes = 4096;
constexpr size_t kRecordHeadBytes = 5;
constexpr unsigned char kAlertRecord = 21;
constexpr unsigned char kHandshakeRecord = 22;
constexpr unsigned char kSslV2Record = 0x80;
constexpr unsigned kVersionBelow = 0x1000;
constexpr std::string_view kVersionAlert{"\x15\3\1\0\2\2\x46", 7};  // fatal, protocol version
constexpr size_t kLookupsMax = 16;                                  // at once
constexpr size_t kQuestionsMax = 256;
constexpr size_t kAskersMax = 256;  // of one question
constexpr int64_t kLeaveNs = 1'000'000'000;
constexpr int kNiceness = 5;  // those who are served already come first

// The host of "127.0.0.1:50000" or "[::1]:50000".
std::string host_of(const std::string& address) {
  const auto parts = split_address(address);
  return parts ? parts->host : address;
}

bool is_record_type(unsigned char type) {
  return type == kHandshakeRecord || type == kAlertRecord || type == kSslV2Record;
}

// As Go: what cannot be the first record of a client. "": it may be one.
std::string_view fault_of(std::string_view head) {
  const auto byte = [head](size_t at) { return static_cast<unsigned char>(head[at]); };
  if (byte(0) == kSslV2Record) return "tls: unsupported SSLv2 handshake received";
  const bool is_record = byte(0) == kHandshakeRecord || byte(0) == kAlertRecord;
  if (!is_record || byte(1) * 256u + byte(2) >= kVersionBelow) {
    return "tls: first record does not look like a TLS handshake";
  }
  return {};
}

// Looks names up, on threads that are left behind at the end: DNS may take its time, and nobody waits for it. A
// question that is asked again and again, as by a member whose name DNS does not know, is looked up once for all who
// wait: it takes one thread, and others' questions go on.
class Lookups {
 public:
  explicit Lookups(NameLookup lookup) : state_(std::make_shared<State>()) { state_->lookup = std::move(lookup); }
  ~Lookups() {
    const MutexLock lock(state_->mutex);
    state_->stop = true;
  }
  Lookups(const Lookups&) = delete;
  Lookups& operator=(const Lookups&) = delete;

  using Then = std::function<void(const std::optional<std::string>& mismatch)>;
  // False: too many wait already. `then` is called on a thread of the lookups, if this still lives.
  [[nodiscard]] bool ask(std::shared_ptr<const PeerCertificate> certificate, std::string host, Then then) {
    const MutexLock lock(state_->mutex);
    std::string key = host;
    for (const std::string& name : certificate->dns_names) key.append(1, '\0').append(name);
    const auto known = state_->asked.find(key);
    if (known != state_->asked.end()) {
      if (known->second.askers.size() >= kAskersMax) return false;
      known->second.askers.push_back(std::move(then));
      return true;
    }
    if (state_->asked.size() >= kQuestionsMax) return false;
    Question& question = state_->asked[key];
    question = {.certificate = std::move(certificate), .host = std::move(host), .askers = {}};
    question.askers.push_back(std::move(then));
    if (state_->running < kLookupsMax) {
      ++state_->running;
      std::thread([state = state_, key] { run(*state, key); }).detach();
    } else {
      state_->waiting.push_back(std::move(key));
    }
    return true;
  }

 private:
  struct Question {
    std::shared_ptr<const PeerCertificate> certificate;
    std::string host;
    std::vector<Then> askers;
  };
  struct State {
    NameLookup lookup;
    Mutex mutex;
    std::map<std::string, Question> asked CAIRN_GUARDED_BY(mutex);
    std::deque<std::string> waiting CAIRN_GUARDED_BY(mutex);  // for a thread
    size_t running CAIRN_GUARDED_BY(mutex) = 0;
    bool stop CAIRN_GUARDED_BY(mutex) = false;
  };

  static void run(State& state, std::string key) {
    pthread_setname_np(pthread_self(), "cairn-tls-names");
    for (;;) {
      std::shared_ptr<const PeerCertificate> certificate;
      std::string host;
      {
        const MutexLock lock(state.mutex);
        const Question& question = state.asked.at(key);
        certificate = question.certificate;
        host = question.host;
      }
      const auto mismatch = remote_mismatch(*certificate, host, state.lookup);
      const MutexLock lock(state.mutex);  // so that whom it tells lives
      if (state.stop) return;
      const auto answered = state.asked.extract(key);
      for (const Then& then : answered.mapped().askers) then(mismatch);
      if (state.waiting.empty()) {
        --state.running;
        return;
      }
      key = std::move(state.waiting.front());
      state.waiting.pop_front();
    }
  }

  const std::shared_ptr<State> state_;
};

class Handshake;
using Open = std::list<std::unique_ptr<Handshake>>;  // the oldest first

}  // namespace

struct Handshakes::Impl {
  explicit Impl(unsigned index, Options wanted)
      : options(std::move(wanted)), loop(std::make_shared<Loop>(index)), lookups(options.lookup) {}
  const Options options;
  std::shared_ptr<Loop> loop;
  Open open;  // those that are not done
  uint64_t last_id = 0;
  Lookups lookups;  // behind the loop, to which it tells what it found
  std::thread thread;
};

namespace {

// One connection on its way: its first bytes tell TLS from clear text, then comes the handshake, then what the client's
// certificate must be.
class Handshake final : private Reactor::Handler, private TimerHeap::Node {
 public:
  Handshake(Loop& loop, Lookups& lookups, Open& open, uint64_t id, TlsListen listen, Seat seat, Handshakes::Done done)
      : loop_(loop),
        lookups_(lookups),
        open_(open),
        id_(id),
        listen_(std::move(listen)),
        seat_(std::move(seat)),
        done_(std::move(done)) {}
  ~Handshake() override { loop_.timers().remove(*this); }
  Handshake(const Handshake&) = delete;
  Handshake& operator=(const Handshake&) = delete;

  [[nodiscard]] uint64_t id() const { return id_; }

  // Owns `fd`. `place`: its own in the list, which it leaves at its end.
  void begin(int fd, Open::iterator place, int64_t due_ns) {
    place_ = place;
    auto watched = loop_.reactor().watch(fd, *this);
    if (!watched) {
      log::error("closing a connection", {{"error", watched.error().message}});
      return leave();
    }
    descriptor_ = *std::move(watched);
    loop_.timers().add(*this, due_ns);
    step();
  }

  void give_up(std::string_view why) {
    if (phase_ != Phase::kLeaving) report(std::string(why));
    leave();
  }

  void on_names_checked(const std::optional<std::string>& mismatch) {
    if (mismatch) return refuse(*mismatch);
    finish(std::move(transport_));
  }

 private:
  void on_readable() override { phase_ == Phase::kLeaving ? read_away() : step(); }
  void on_writable() override {
    if (phase_ == Phase::kShaking) step();
  }
  void on_timer() override {
    if (phase_ == Phase::kLeaving) return leave();
    const int fd = descriptor_->fd();
    refuse(fmt::format("read tcp {}->{}: i/o timeout", socket_address(fd, true), socket_address(fd, false)));
  }

  // Each of these may be the last of this object.
  void step() {
    if (phase_ != Phase::kShaking) return;
    if (transport_ == nullptr && !read_early()) return;
    switch (transport_->shake_hands()) {
      case Transport::Outcome::kWantsReadable: return descriptor_->wait_readable();
      case Transport::Outcome::kWantsWritable: return descriptor_->wait_writable();
      case Transport::Outcome::kClosed: return refuse(transport_->failure());
      case Transport::Outcome::kDone: return check_names();
    }
  }

  // Until the first bytes have told what this is; true: TLS, and the handshake may begin.
  bool read_early() {
    char buffer[kEarlyBytes];
    while (early_.size() < kRecordHeadBytes && !is_clear()) {
      const ssize_t bytes = ::recv(descriptor_->fd(), buffer, sizeof buffer, 0);
      if (bytes > 0) {
        early_.append(buffer, static_cast<size_t>(bytes));
        continue;
      }
      if (bytes < 0 && errno == EINTR) continue;
      if (bytes < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
        descriptor_->wait_readable();
      } else {
        refuse(early_.empty() ? "EOF" : "unexpected EOF");
      }
      return false;
    }
    if (is_clear()) {
      finish(clear_transport(descriptor_->fd(), std::move(early_)));
      return false;
    }
    if (const std::string_view fault = fault_of(early_); !fault.empty()) {
      if (static_cast<unsigned char>(early_.front()) == kSslV2Record) {
        static_cast<void>(::send(descriptor_->fd(), kVersionAlert.data(), kVersionAlert.size(), MSG_NOSIGNAL));
      }
      refuse(std::string(fault));
      return false;
    }
    transport_ =
        std::make_unique<TlsTransport>(descriptor_->fd(), listen_.context->new_session(), std::exchange(early_, {}));
    return true;
  }

  [[nodiscard]] bool is_clear() const {
    return listen_.takes_clear && !early_.empty() && !is_record_type(static_cast<unsigned char>(early_.front()));
  }

  void check_names() {
    phase_ = Phase::kChecking;
    if (const Status admitted = listen_.context->admit(transport_->shown_serials()); !admitted) {
      return refuse(admitted.error().message);
    }
    const auto& certificate = transport_->peer_certificate();
    if (!listen_.checks_remote || certificate == nullptr) return finish(std::move(transport_));
    std::string host = host_of(transport_->peer_address());
    if (!asks_dns(*certificate, host)) return on_names_checked(remote_mismatch(*certificate, host, {}));
    const auto then = [loop = &loop_, open = &open_, id = id_](const std::optional<std::string>& mismatch) {
      loop->post([open, id, mismatch] {
        for (const auto& each : *open) {
          if (each->id() == id) return each->on_names_checked(mismatch);
        }
      });
    };
    if (!lookups_.ask(certificate, std::move(host), then)) {
      refuse("too many names to look up");
    }
  }

  void refuse(const std::string& why) {
    report(why);
    if (transport_ == nullptr) return leave();
    if (phase_ == Phase::kChecking) {
      transport_->close_write();
    } else {
      ::shutdown(descriptor_->fd(), SHUT_WR);
    }
    // The client reads why, if what it has sent meanwhile is taken: else the kernel would only tell it of a reset.
    phase_ = Phase::kLeaving;
    loop_.timers().remove(*this);
    loop_.timers().add(*this, loop_.now_ns() + kLeaveNs);
    read_away();
  }

  void read_away() {
    char buffer[kEarlyBytes];
    const ssize_t bytes = ::recv(descriptor_->fd(), buffer, sizeof buffer, 0);
    if (bytes > 0 || (bytes < 0 && (errno == EAGAIN || errno == EINTR))) return descriptor_->wait_readable();
    leave();
  }

  void report(const std::string& why) const {
    // Who connects and says nothing is no news: a load balancer that looks whether somebody is there.
    const bool is_eof = why == "EOF" || why == "unexpected EOF";
    const log::Level level = is_eof ? log::Level::kDebug : log::Level::kWarn;
    if (!log::enabled(level)) return;
    std::vector<log::Field> fields;
    fields.emplace_back("remote-addr", socket_address(descriptor_->fd(), false));
    fields.emplace_back("server-name", transport_ != nullptr ? transport_->server_name() : "");
    if (transport_ != nullptr && transport_->peer_certificate() != nullptr) {
      const PeerCertificate& certificate = *transport_->peer_certificate();
      std::vector<std::string> addresses;
      for (const std::string& each : certificate.ip_addresses) addresses.push_back(ip_text(each));
      fields.emplace_back("ip-addresses", std::move(addresses));
      fields.emplace_back("dns-names", certificate.dns_names);
    }
    fields.emplace_back("error", why);
    log::write(level,
               listen_.is_for_peers ? "rejected connection on peer endpoint" : "rejected connection on client endpoint",
               std::span<const log::Field>(fields));
  }

  void finish(std::unique_ptr<Transport> transport) {
    const int fd = descriptor_->release();
    const Handshakes::Done done = std::move(done_);
    Seat seat = std::move(seat_);
    leave();
    done(fd, std::move(transport), std::move(seat));
  }

  void leave() { open_.erase(place_); }  // destroys this

  enum class Phase : uint8_t {
    kShaking,   // from the first bytes to the last of the handshake
    kChecking,  // the certificate
    kLeaving,   // refused; what the client still sends is read away
  };

  Loop& loop_;
  Lookups& lookups_;
  Open& open_;
  const uint64_t id_;
  const TlsListen listen_;
  Seat seat_;
  Handshakes::Done done_;
  Open::iterator place_;
  std::unique_ptr<Reactor::Descriptor> descriptor_;
  std::string early_;
  std::unique_ptr<TlsTransport> transport_;  // null: it is not known yet that this is TLS
  Phase phase_ = Phase::kShaking;
};

}  // namespace

Handshakes::Handshakes(unsigned index, Options options) : impl_(std::make_unique<Impl>(index, std::move(options))) {}

Handshakes::~Handshakes() { stop(); }

void Handshakes::begin(int fd, TlsListen listen, Seat seat, Done done) {
  // The descriptor is closed also when the task never runs.
  const auto guard = std::shared_ptr<int>(new int(fd), [](int* held) {
    if (*held >= 0) ::close(*held);
    delete held;
  });
  impl_->loop->post(
      [impl = impl_.get(), guard, listen = std::move(listen), seat = std::move(seat), done = std::move(done)] {
        Loop& loop = *impl->loop;
        loop.refresh_now();
        listen.context->look_again(loop.now_ns());
        if (impl->open.size() >= impl->options.open_max) impl->open.front()->give_up("too many handshakes at once");
        impl->open.push_back(
            std::make_unique<Handshake>(loop, impl->lookups, impl->open, ++impl->last_id, listen, seat, done));
        impl->open.back()->begin(std::exchange(*guard, -1), std::prev(impl->open.end()),
                                 loop.now_ns() + impl->options.timeout_ns);
      });
}

void Handshakes::start() {
  impl_->thread = std::thread([impl = impl_.get()] {
    ::setpriority(PRIO_PROCESS, static_cast<id_t>(::gettid()), kNiceness);
    impl->loop->run();
    impl->open.clear();
  });
  pthread_setname_np(impl_->thread.native_handle(), "cairn-tls");
}

void Handshakes::stop() {
  if (!impl_->thread.joinable()) return;
  impl_->loop->stop();
  impl_->thread.join();
}

}  // namespace cairn::net
