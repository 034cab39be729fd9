// cluster/codec.h: membership as bytes: the JSON that Go's encoder writes, byte for byte, and the old v2 requests.
//
// Ids are bare JSON numbers beyond 2^53. `<`, `>` and `&` in texts are written \u003c, \u003e, \u0026. Key order is
// fixed; isLearner, name and clientURLs are left out when false or empty; an empty peerURLs is `null`.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/error.h"
#include "cluster/membership.h"
#include "raft/types.h"

namespace cairn::cluster {

// {"id":1,"peerURLs":["http://a:2380"],"isLearner":true,"name":"a","clientURLs":["http://a:2379"]}
[[nodiscard]] std::string member_json(const Member& member);
//   errors: kDataLoss
[[nodiscard]] Result<Member> parse_member(std::string_view json);
// The array by id, as GET /members answers it (without the newline).
[[nodiscard]] std::string members_json(const Membership& cluster);
[[nodiscard]] Result<std::vector<Member>> parse_members(std::string_view json);

// {"peerURLs":[...],"isLearner":true} and {"name":"a","clientURLs":[...]}, the two halves as the v2 tree keeps them.
[[nodiscard]] std::string raft_attributes_json(const Member& member);
[[nodiscard]] std::string attributes_json(std::string_view name, const std::vector<std::string>& client_urls);

// {"target-version":"3.6.0","enabled":true}, value of cluster/downgrade.
[[nodiscard]] std::string downgrade_json(const Downgrade& downgrade);
[[nodiscard]] Result<Downgrade> parse_downgrade(std::string_view json);

// raftpb.ConfState, value of meta/confState: {"voters":[1,2],"learners":[3],"auto_leave":false}
[[nodiscard]] std::string conf_state_json(const raft::ConfState& conf);
[[nodiscard]] Result<raft::ConfState> parse_conf_state(std::string_view json);

// ---- v2 requests in the log of 3.4 and 3.5

enum class PayloadKind : uint8_t {
  kEmpty,        // a new leader's entry
  kRaftRequest,  // etcdserverpb.InternalRaftRequest
  kV2Request,    // etcdserverpb.Request, bare
};
// The kind of a normal entry's data. Reads the first three fields only.
[[nodiscard]] PayloadKind payload_kind(std::string_view data);

struct AttributesSet {
  NodeId id;
  std::string name;
  std::vector<std::string> client_urls;
};
struct VersionSet {
  std::string version;  // "3.4.0"
};
struct V2NoEffect {};  // SYNC, reads, and changes of the user's v2 keys: nothing of v3 changes
using V2Effect = std::variant<V2NoEffect, AttributesSet, VersionSet>;
//   errors: kDataLoss when the bytes are not a v2 request or its value is not what its path asks for
[[nodiscard]] Result<V2Effect> decode_v2_request(std::string_view data);
// Whether a v2 request writes a key of the user's.
[[nodiscard]] bool writes_v2_key(std::string_view data);
// The same for writing, as members up to 3.5 do it: every scalar is emitted.
[[nodiscard]] std::string encode_v2_attributes(uint64_t request_id, const AttributesSet& set);
[[nodiscard]] std::string encode_v2_version(uint64_t request_id, std::string_view version);

}  // namespace cairn::cluster
