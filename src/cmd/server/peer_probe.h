// cmd/server/peer_probe.h: asks other members over HTTP/1.1, one question a connection, while a member starts.
#pragma once

#include <string>

#include "member/recovery/peer_probe.h"

namespace cairn::cmd {

class HttpPeerProbe final : public member::PeerProbe {
 public:
  // No connection takes longer than `dial_timeout_ns` to come about.
  explicit HttpPeerProbe(int64_t dial_timeout_ns) : dial_timeout_ns_(dial_timeout_ns) {}

  //   errors: as in the interface; kUnimplemented for https
  Result<member::PeerAnswer> get(const std::string& url, int64_t timeout_ns) override;

 private:
  const int64_t dial_timeout_ns_;
};

}  // namespace cairn::cmd
