// integration/call_runner.h: many gRPC calls over one connection, a fixed number at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "net/client/http2_channel.h"

namespace cairn::integration {

struct Call {
  std::string_view path;
  std::string message;
};

class CallRunner final : net::ResponseSink {
 public:
  //   errors: kUnavailable when nothing listens on the loopback's `port`
  static Result<std::unique_ptr<CallRunner>> connect(uint16_t port, uint32_t slots);

  // The next call of a free slot; nullopt: none for this slot, or none now.
  using Next = std::function<std::optional<Call>(uint32_t slot)>;
  // `code` is the gRPC status; kNoStatus when the server ended the call without one.
  using Done = std::function<void(uint32_t slot, int code, std::string_view message)>;

  // Until no call is open and `next` has none for any slot.
  //   errors: kUnavailable when the connection ends: the calls still open have no answer
  Status run(const Next& next, const Done& done);
  // Carries out all calls; answers come in any order. errors: as run(), and kInternal when a call fails
  Status run_all(const std::vector<Call>& calls, const std::function<void(size_t index, std::string_view message)>& on);

 private:
  CallRunner(std::unique_ptr<net::Http2Channel> client, uint32_t slots);
  void on_data(uint32_t slot, std::string_view bytes) override { bodies_[slot].append(bytes); }
  void on_end(uint32_t slot, int grpc_status) override { ended_.push_back({slot, grpc_status}); }
  Status wait(bool for_output);

  std::unique_ptr<net::Http2Channel> client_;
  std::vector<std::string> bodies_;
  std::vector<std::optional<Call>> held_;  // refused by flow control, goes first
  std::vector<bool> open_;
  std::vector<std::pair<uint32_t, int>> ended_;
};

}  // namespace cairn::integration
