#include "loadgen/outage_run.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <ctime>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <poll.h>

#include "base/bytes.h"
#include "base/wire.h"
#include "loadgen/runner.h"
#include "loadgen/workload.h"
#include "net/client/http2_channel.h"

namespace cairn::bench {
namespace {

constexpr size_t kPrefixBytes = 5;  // gRPC: compressed flag, length
constexpr uint32_t kStreamsMax = 16384;
constexpr uint64_t kRetryNs = 5'000'000;
constexpr uint64_t kLateNs = 20'000'000;  // a put that the connection does not take for so long is not sent

volatile std::sig_atomic_t interrupted = 0;

class OutageRun : private net::ResponseSink {
 public:
  OutageRun(const LoadOptions& options, Workload& workload) : options_(options), workload_(workload) {}

  void run() {
    for (size_t begin = 0; begin <= options_.endpoints.size();) {
      const size_t end = std::min(options_.endpoints.find(',', begin), options_.endpoints.size());
      members_.push_back({.address = options_.endpoints.substr(begin, end - begin)});
      begin = end + 1;
    }
    std::signal(SIGINT, [](int) { interrupted = 1; });
    period_ns_ = static_cast<uint64_t>(1e9 / options_.rate);
    const uint64_t begin_ns = now_ns();
    const uint64_t end_ns =
        options_.seconds > 0 ? begin_ns + static_cast<uint64_t>(options_.seconds * 1e9) : UINT64_MAX;
    for (size_t i = 0; i < members_.size(); ++i) members_[i].due_ns = begin_ns + period_ns_ * i / members_.size();

    uint64_t give_up_ns = 0;
    while (true) {
      const uint64_t now = now_ns();
      const bool is_over = interrupted != 0 || now >= end_ns;
      if (is_over && give_up_ns == 0) give_up_ns = now + static_cast<uint64_t>(options_.timeout_seconds * 1e9);
      for (Member& member : members_) turn(member, now, is_over);
      if (is_over && (open_ == 0 || now >= give_up_ns)) break;
      wait(is_over ? now + 10'000'000 : next_due_ns());
    }
    for (Member& member : members_) drop(member, kUnansweredStatus);
    std::fflush(stdout);
  }

 private:
  struct Call {
    uint64_t due_ns = 0;
    std::string body = {};
    bool is_open = false;
  };
  struct Member {
    std::string address;
    std::unique_ptr<net::Http2Channel> channel = nullptr;  // null: not connected
    std::vector<Call> calls = {};
    std::vector<uint32_t> free_calls = {};
    uint64_t due_ns = 0;
    uint64_t retry_ns = 0;
    bool wants_out = false;
  };

  void turn(Member& member, uint64_t now, bool is_over) {
    if (member.channel == nullptr && now >= member.retry_ns && !is_over) connect(member, now);
    for (; !is_over && member.due_ns <= now; member.due_ns += period_ns_) {
      if (member.channel != nullptr && !member.free_calls.empty() && begin_call(member)) continue;
      if (member.channel != nullptr && now - member.due_ns < kLateNs) break;
      tell(member, member.due_ns, kNotSentStatus, 0);
    }
    if (member.channel == nullptr) return;
    const auto wants_out = member.channel->flush();
    if (!wants_out) return drop(member, kLostStatus);
    member.wants_out = *wants_out;
  }

  void connect(Member& member, uint64_t now) {
    member.retry_ns = now + kRetryNs;
    auto channel = net::Http2Channel::connect(
        {.address = member.address, .streams_max = kStreamsMax, .window_bytes = options_.window_bytes});
    if (!channel) return;
    member.channel = std::move(*channel);
    member.calls.assign(kStreamsMax, {});
    member.free_calls.clear();
    for (uint32_t slot = 0; slot < kStreamsMax; ++slot) member.free_calls.push_back(slot);
  }

  bool begin_call(Member& member) {
    message_.assign(kPrefixBytes, '\0');
    CallState state;
    workload_.build(number_, state, message_);
    store_be32(message_.data() + 1, static_cast<uint32_t>(message_.size() - kPrefixBytes));
    if (!member.channel->can_send(message_.size())) return false;
    const uint32_t slot = member.free_calls.back();
    member.free_calls.pop_back();
    member.calls[slot] = {.due_ns = member.due_ns, .is_open = true};
    member.channel->call(slot, workload_.path(state), message_);
    ++number_;
    ++open_;
    return true;
  }

  void drop(Member& member, int status) {
    for (Call& call : member.calls) {
      if (!call.is_open) continue;
      call.is_open = false;
      --open_;
      tell(member, call.due_ns, status, 0);
    }
    member.channel.reset();
    member.wants_out = false;
  }

  [[nodiscard]] uint64_t next_due_ns() const {
    uint64_t out = UINT64_MAX;
    for (const Member& member : members_) out = std::min(out, member.due_ns);
    return out;
  }

  void wait(uint64_t until_ns) {
    std::vector<pollfd> fds;
    std::vector<Member*> watched;
    for (Member& member : members_) {
      if (member.channel == nullptr) continue;
      fds.push_back({.fd = member.channel->fd(),
                     .events = static_cast<short>(POLLIN | (member.wants_out ? POLLOUT : 0)),
                     .revents = 0});
      watched.push_back(&member);
    }
    const uint64_t now = now_ns();
    const uint64_t left_ns = until_ns > now ? until_ns - now : 0;
    const timespec timeout{.tv_sec = static_cast<time_t>(left_ns / 1'000'000'000),
                           .tv_nsec = static_cast<long>(left_ns % 1'000'000'000)};
    if (ppoll(fds.data(), fds.size(), &timeout, nullptr) <= 0) return;
    received_ns_ = now_ns();
    for (size_t i = 0; i < fds.size(); ++i) {
      if ((fds[i].revents & (POLLIN | POLLHUP | POLLERR)) == 0) continue;
      current_ = watched[i];
      if (!current_->channel->receive(*this)) drop(*current_, kLostStatus);
    }
  }

  void on_data(uint32_t slot, std::string_view bytes) override { current_->calls[slot].body.append(bytes); }

  void on_end(uint32_t slot, int grpc_status) override {
    Call& call = current_->calls[slot];
    call.is_open = false;
    --open_;
    current_->free_calls.push_back(slot);
    const std::string_view body = call.body;
    tell(*current_, call.due_ns, grpc_status == net::kNoStatus ? kLostStatus : grpc_status,
         body.size() > kPrefixBytes ? raft_term_of(body.substr(kPrefixBytes)) : 0);
  }

  void tell(const Member& member, uint64_t due_ns, int status, uint64_t term) {
    const uint64_t ended_ns = status >= kLostStatus && received_ns_ != 0 ? received_ns_ : now_ns();
    fmt::print("{} {} {} {} {}\n", due_ns / 1000, ended_ns / 1000, &member - members_.data(), status, term);
  }

  const LoadOptions& options_;
  Workload& workload_;
  std::vector<Member> members_;
  Member* current_ = nullptr;  // whose answers are being read
  uint64_t period_ns_ = 0;
  uint64_t number_ = 0;
  uint64_t open_ = 0;
  uint64_t received_ns_ = 0;
  std::string message_;
};

}  // namespace

uint64_t raft_term_of(std::string_view answer) {
  wire::Reader in(answer);
  while (in.next()) {
    if (in.field() != 1) continue;
    wire::Reader header(in.bytes());
    while (header.next()) {
      if (header.field() == 4) return header.varint();
    }
  }
  return 0;
}

Status run_outage(const LoadOptions& options) {
  if (options.endpoints.empty() || options.rate <= 0) {
    return fail(Code::kInvalidArgument, "loadgen: outage needs --endpoints and --rate");
  }
  LoadOptions puts = options;
  puts.workload = "put";
  CAIRN_TRY(const std::unique_ptr<Workload> workload, make_workload(puts));
  OutageRun(options, *workload).run();
  return {};
}

}  // namespace cairn::bench
