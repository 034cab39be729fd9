#include "integration/call_runner.h"

#include <cerrno>
#include <utility>

#include <fmt/format.h>
#include <poll.h>

#include "base/bytes.h"

namespace cairn::integration {
namespace {

constexpr size_t kPrefixBytes = 5;  // gRPC: compressed flag, length
constexpr int kSilenceMsMax = 30'000;

}  // namespace

Result<std::unique_ptr<CallRunner>> CallRunner::connect(uint16_t port, uint32_t slots) {
  CAIRN_TRY(auto client,
            net::Http2Channel::connect({.address = fmt::format("127.0.0.1:{}", port), .streams_max = slots}));
  return std::unique_ptr<CallRunner>(new CallRunner(std::move(client), slots));
}

CallRunner::CallRunner(std::unique_ptr<net::Http2Channel> client, uint32_t slots)
    : client_(std::move(client)), bodies_(slots), held_(slots), open_(slots) {}

Status CallRunner::wait(bool for_output) {
  pollfd waiting{client_->fd(), static_cast<short>(POLLIN | (for_output ? POLLOUT : 0)), 0};
  const int count = poll(&waiting, 1, kSilenceMsMax);
  if (count < 0 && errno != EINTR) return fail_errno(errno, "poll");
  if (count == 0) return fail(Code::kDeadlineExceeded, "the server is silent");
  return {};
}

Status CallRunner::run(const Next& next, const Done& done) {
  while (true) {
    size_t open_count = 0;
    for (uint32_t slot = 0; slot < open_.size(); ++slot) {
      if (!open_[slot]) {
        if (!held_[slot]) held_[slot] = next(slot);
        if (!held_[slot]) continue;
        std::string body(kPrefixBytes, '\0');
        store_be32(body.data() + 1, static_cast<uint32_t>(held_[slot]->message.size()));
        body += held_[slot]->message;
        if (client_->can_send(body.size())) {
          client_->call(slot, held_[slot]->path, body);
          held_[slot].reset();
          bodies_[slot].clear();
          open_[slot] = true;
        }
      }
      ++open_count;
    }
    if (open_count == 0) return {};
    CAIRN_TRY(const bool wants_out, client_->flush());
    CAIRN_CHECK(wait(wants_out));
    const Status received = client_->receive(*this);
    // Answers that came before the end count.
    for (const auto& [slot, code] : std::exchange(ended_, {})) {
      open_[slot] = false;
      const std::string_view body = bodies_[slot];
      done(slot, code, body.substr(std::min(kPrefixBytes, body.size())));
    }
    CAIRN_CHECK(received);
  }
}

Status CallRunner::run_all(const std::vector<Call>& calls,
                           const std::function<void(size_t index, std::string_view message)>& on) {
  size_t begun = 0;
  std::vector<size_t> index_of(open_.size());
  Status failed;
  CAIRN_CHECK(run(
      [&](uint32_t slot) -> std::optional<Call> {
        if (begun == calls.size()) return std::nullopt;
        index_of[slot] = begun;
        return calls[begun++];
      },
      [&](uint32_t slot, int code, std::string_view message) {
        if (code == 0) return on(index_of[slot], message);
        failed = fail(Code::kInternal, "{} is answered with code {}", calls[index_of[slot]].path, code);
      }));
  return failed;
}

}  // namespace cairn::integration
