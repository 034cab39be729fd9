// member/requests.h: InternalRaftRequest, the payload of a log entry, for the requests that are written per second.
//
// The message has one payload field and a header (field 100). Key-value requests are taken apart and put together by
// hand; all others go through the generated class.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.h"
#include "lease/lessor.h"

namespace cairn::member {

// Field numbers of the payloads that are handled by hand.
enum class RequestKind : uint32_t {
  kOther = 0,
  kRange = 3,
  kPut = 4,
  kDeleteRange = 5,
  kTxn = 6,
  kCompaction = 7,
  kLeaseGrant = 8,
  kLeaseRevoke = 9,
};

// Names of requests in etcd's metrics, ordered by field number. A request of another kind counts as the last.
struct RequestName {
  uint32_t field;
  std::string_view name;
};
inline constexpr auto kRequestNames = std::to_array<RequestName>({
    {3, "Range"},
    {4, "Put"},
    {5, "DeleteRange"},
    {6, "Txn"},
    {7, "Compaction"},
    {8, "LeaseGrant"},
    {9, "LeaseRevoke"},
    {10, "Alarm"},
    {11, "LeaseCheckpoint"},
    {1000, "AuthEnable"},
    {1011, "AuthDisable"},
    {1012, "Authenticate"},
    {1013, "AuthStatus"},
    {1100, "AuthUserAdd"},
    {1101, "AuthUserDelete"},
    {1102, "AuthUserGet"},
    {1103, "AuthUserChangePassword"},
    {1104, "AuthUserGrantRole"},
    {1105, "AuthUserRevokeRole"},
    {1106, "AuthUserList"},
    {1107, "AuthRoleList"},
    {1200, "AuthRoleAdd"},
    {1201, "AuthRoleDelete"},
    {1202, "AuthRoleGet"},
    {1203, "AuthRoleGrantPermission"},
    {1204, "AuthRoleRevokePermission"},
    {1300, "ClusterVersionSet"},
    {1301, "ClusterMemberAttrSet"},
    {1302, "DowngradeInfoSet"},
    {9900, "DowngradeVersionTest"},
    {UINT32_MAX, "unknown"},
});
// The place in kRequestNames of the payload with this field number.
[[nodiscard]] size_t request_name_index(uint32_t field);
// The same of the request that an entry's bytes hold.
[[nodiscard]] size_t request_name_index(std::string_view bytes);

struct RaftRequest {
  RequestKind kind = RequestKind::kOther;
  std::string_view body;                   // of the hand-made kinds
  std::string_view header;                 // as it came; decode_header() reads it
  size_t name = kRequestNames.size() - 1;  // place in kRequestNames
};

// What to say of a request in the log that is not such a message: kDataLoss.
[[nodiscard]] Error damaged_request();

//   errors: damaged_request()
[[nodiscard]] Result<RaftRequest> split_request(std::string_view bytes);

// Who has sent it, as the member says that proposed it.
struct RequestHeader {
  uint64_t id = 0;
  std::string_view user = {};  // "": nobody who is known
  uint64_t auth_revision = 0;  // of the rules when it was proposed, or of the user's token
};
//   errors: damaged_request()
[[nodiscard]] Result<RequestHeader> decode_header(std::string_view bytes);

// The bodies of both lease requests, which are so small that they are written anew each time.
struct LeaseGrantBody {
  lease::LeaseId id = 0;
  int64_t ttl = 0;  // seconds
};
//   errors: damaged_request()
[[nodiscard]] Result<LeaseGrantBody> decode_lease_grant(std::string_view bytes);
[[nodiscard]] Result<lease::LeaseId> decode_lease_revoke(std::string_view bytes);
[[nodiscard]] std::string encode_lease_grant(const LeaseGrantBody& body);
[[nodiscard]] std::string encode_lease_revoke(lease::LeaseId id);

// The bytes of an entry: payload, then the header. `kind` is not kOther. What every etcd reads alike goes into it as it
// came; otherwise the request is written anew.
[[nodiscard]] std::string join_request(RequestKind kind, std::string_view request, const RequestHeader& header);
[[nodiscard]] inline std::string join_request(RequestKind kind, std::string_view request, uint64_t id) {
  return join_request(kind, request, RequestHeader{.id = id});
}

}  // namespace cairn::member
