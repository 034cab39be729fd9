// rpc/hash_kv_json.h: what members ask and answer each other about hashes of their keys, as Go's encoding/json writes
// it.
//
// Source: etcd 3.7.1, server/etcdserver/corrupt.go.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace cairn::rpc {

inline constexpr std::string_view kHashKvPath = "/members/hashkv";

struct PeerHash {
  int64_t revision = 0;  // the member's newest one
  uint32_t hash = 0;
  int64_t compact_revision = 0;
  int64_t hash_revision = 0;
};

[[nodiscard]] std::string hash_kv_request(int64_t revision);
[[nodiscard]] std::string hash_kv_response(const PeerHash& hash);
// nullopt: it is none.
[[nodiscard]] std::optional<int64_t> parse_hash_kv_request(std::string_view json);
[[nodiscard]] std::optional<PeerHash> parse_hash_kv_response(std::string_view json);

}  // namespace cairn::rpc
