#include "net/client/resolver.h"

#include <compare>
#include <cstring>
#include <deque>
#include <map>
#include <thread>
#include <utility>

#include <netdb.h>
#include <pthread.h>
#include <sys/un.h>

#include "base/mutex.h"
#include "net/event_loop.h"

namespace cairn::net {
namespace {

using Addresses = Result<std::vector<SocketAddress>>;

Addresses look_up(const std::string& host, const std::string& port, int flags) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV | flags;
  addrinfo* found = nullptr;
  if (const int outcome = ::getaddrinfo(host.c_str(), port.c_str(), &hints, &found); outcome != 0) {
    return fail(Code::kUnavailable, "lookup {}: {}", host,
                outcome == EAI_NONAME || outcome == EAI_NODATA ? "no such host" : ::gai_strerror(outcome));
  }
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> owned(found, &::freeaddrinfo);
  std::vector<SocketAddress> out;
  for (const bool wants_v4 : {true, false}) {
    for (const addrinfo* info = found; info != nullptr; info = info->ai_next) {
      if ((info->ai_family == AF_INET) != wants_v4) continue;
      SocketAddress& address = out.emplace_back();
      std::memcpy(&address.storage, info->ai_addr, info->ai_addrlen);
      address.length = info->ai_addrlen;
    }
  }
  return out;
}

}  // namespace

Result<SocketAddress> unix_address(const std::string& path) {
  sockaddr_un address{};
  if (path.empty() || path.size() >= sizeof address.sun_path) {
    return fail(Code::kInvalidArgument, "dial unix {}: connect: invalid argument", path);
  }
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, path.size());
  SocketAddress out;
  std::memcpy(&out.storage, &address, sizeof address);
  out.length = sizeof address;
  return out;
}

Resolver::Lookup Resolver::system_lookup() {
  return [](const std::string& host, const std::string& port) { return look_up(host, port, 0); };
}

// What one caller asked. Its handle and the answer on its way share it.
struct Resolver::Asked final {
  Then then;  // empty: nobody wants to hear any more. Touched on the loop's thread only
};

struct Resolver::State {
  struct Place {
    std::string host;
    std::string port;
    auto operator<=>(const Place&) const = default;
  };

  EventLoop& loop;
  const Lookup lookup;
  Mutex mutex;
  // Who waits for a place. It is looked up once for all of them: one that DNS is silent about takes one thread, however
  // often it is asked for, and others go on.
  std::map<Place, std::vector<std::shared_ptr<Asked>>> asked CAIRN_GUARDED_BY(mutex);
  std::deque<Place> waiting CAIRN_GUARDED_BY(mutex);  // for a thread
  size_t running CAIRN_GUARDED_BY(mutex) = 0;
  bool is_over CAIRN_GUARDED_BY(mutex) = false;

  State(EventLoop& of, Lookup how) : loop(of), lookup(std::move(how)) {}

  // needs: the resolver lives, for the loop lives then
  void answer(std::shared_ptr<Asked> one, Addresses addresses) {
    loop.post([one = std::move(one), addresses = std::move(addresses)]() mutable {
      if (const Then then = std::move(one->then)) then(std::move(addresses));
    });
  }

  static void run(const std::shared_ptr<State>& state, Place place) {
    pthread_setname_np(pthread_self(), "cairn-resolver");
    for (;;) {
      const Addresses addresses = state->lookup(place.host, place.port);
      const MutexLock lock(state->mutex);  // so that whom it tells lives
      if (state->is_over) return;
      const auto answered = state->asked.extract(place);
      for (const auto& one : answered.mapped()) state->answer(one, addresses);
      if (state->waiting.empty()) {
        --state->running;
        return;
      }
      place = std::move(state->waiting.front());
      state->waiting.pop_front();
    }
  }
};

Resolver::Resolver(EventLoop& loop, Lookup lookup) : state_(std::make_shared<State>(loop, std::move(lookup))) {}

Resolver::~Resolver() {
  const MutexLock lock(state_->mutex);
  state_->is_over = true;
  state_->waiting.clear();
  state_->asked.clear();
}

std::unique_ptr<Resolver::Question> Resolver::resolve(const std::string& host, const std::string& port, Then then) {
  class Handle final : public Question {
   public:
    explicit Handle(std::shared_ptr<Asked> asked) : asked_(std::move(asked)) {}
    ~Handle() override { asked_->then = nullptr; }

   private:
    const std::shared_ptr<Asked> asked_;
  };
  auto asked = std::make_shared<Asked>(std::move(then));
  auto handle = std::make_unique<Handle>(asked);
  if (Addresses numeric = look_up(host, port, AI_NUMERICHOST)) {
    state_->answer(std::move(asked), std::move(numeric));
    return handle;
  }
  const MutexLock lock(state_->mutex);
  State::Place place{host, port};
  const auto at = state_->asked.find(place);
  const size_t ahead = at != state_->asked.end() ? at->second.size() : state_->waiting.size();
  if (ahead >= kWaitingMax) {
    state_->answer(std::move(asked), fail(Code::kResourceExhausted, "lookup {}: too many names to look up", host));
    return handle;
  }
  if (at != state_->asked.end()) {
    at->second.push_back(std::move(asked));
    return handle;
  }
  state_->asked[place].push_back(std::move(asked));
  if (state_->running < kLookupsMax) {
    ++state_->running;
    std::thread([state = state_, place] { State::run(state, place); }).detach();
  } else {
    state_->waiting.push_back(std::move(place));
  }
  return handle;
}

}  // namespace cairn::net
