// member/requests.h: InternalRaftRequest, the payload of a log entry, for the requests that are written per second.
//
// The message has one payload field and a header (field 100). Key-value requests are taken apart and put together by
// hand; all others go through the generated class.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.h"

namespace cairn::member {

// Field numbers of the payloads that are handled by hand.
enum class RequestKind : uint32_t {
  kOther = 0,
  kRange = 3,
  kPut = 4,
  kDeleteRange = 5,
  kTxn = 6,
  kCompaction = 7,
};

struct RaftRequest {
  RequestKind kind = RequestKind::kOther;
  std::string_view body;  // of the hand-made kinds
};

//   errors: kDataLoss when `bytes` is not a message
[[nodiscard]] Result<RaftRequest> split_request(std::string_view bytes);

// The bytes of an entry: payload, then the header with the id. `kind` is not kOther. What every etcd reads alike goes
// into it as it came; otherwise the request is written anew.
[[nodiscard]] std::string join_request(RequestKind kind, std::string_view request, uint64_t id);

}  // namespace cairn::member
