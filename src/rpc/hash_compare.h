// rpc/hash_compare.h: what the hashes of a cluster's members say about who is corrupt. Pure, but for the lines that it
// logs, which are etcd's.
//
// Source: etcd 3.7.1, server/etcdserver/corrupt.go.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/strong.h"
#include "rpc/hash_kv_json.h"

namespace cairn::rpc {

struct KvHash {
  int64_t revision = 0;
  int64_t compact_revision = 0;
  uint32_t hash = 0;
};

// What another member has answered.
struct PeerHashAnswer {
  NodeId member;
  std::vector<std::string> urls;
  Result<PeerHash> hash = PeerHash{};
};

// Before a member serves.
//   errors: it is not what the others are; but not if a majority is what it is
[[nodiscard]] Status compare_at_start(NodeId self, const KvHash& own, std::span<const PeerHashAnswer> peers);

// A leader's hashes before and after the others were asked at the revision of the first one; `newest`: its own at the
// second. Whose alarm is to be raised; nullopt: nobody's.
[[nodiscard]] std::optional<NodeId> compare_now(NodeId self, const KvHash& first, const KvHash& second, int64_t newest,
                                                std::span<const PeerHashAnswer> peers);

// A leader's hash of a compaction, and those of the others.
struct CompactionVerdict {
  std::vector<NodeId> alarms;  // 0: of the whole cluster
  bool is_over = false;        // older compactions need not be looked at
  bool is_whole = false;       // all agree
};
[[nodiscard]] CompactionVerdict compare_compaction(NodeId self, const KvHash& own,
                                                   std::span<const PeerHashAnswer> peers);

}  // namespace cairn::rpc
