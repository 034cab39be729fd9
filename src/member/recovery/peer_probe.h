// member/recovery/peer_probe.h: how a start asks the members that run already, before there is a transport.
#pragma once

#include <cstdint>
#include <string>

#include "base/error.h"

namespace cairn::member {

struct PeerAnswer {
  int status = 0;
  std::string cluster_id;  // the header X-Etcd-Cluster-ID, as sent
  std::string body;
};

class PeerProbe {
 public:
  virtual ~PeerProbe() = default;
  // GET `url` ("http://10.0.0.1:2380/members"); redirections are not followed. Waits.
  //   errors: kUnavailable, kDeadlineExceeded: nobody answers there; kInvalidArgument: the URL
  virtual Result<PeerAnswer> get(const std::string& url, int64_t timeout_ns) = 0;
};

}  // namespace cairn::member
