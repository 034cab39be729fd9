// rpc/peer_hashes.h: asks all other members for the hash of their keys at a revision.
//
// Source: etcd 3.7.1, getPeerHashKVs and HashByRev.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "cluster/membership.h"
#include "rpc/hash_compare.h"
#include "rpc/peers.h"

namespace cairn::rpc {

struct PeerHashQuestion {
  NodeId self;
  uint64_t cluster_id = 0;
  int64_t revision = 0;
  int64_t deadline_ns = 0;
};

// `then` is called once, on whichever thread, with what each has answered; at once when there are no others.
void ask_for_hashes(const Peers& peers, const cluster::Membership& members, const PeerHashQuestion& question,
                    std::function<void(std::vector<PeerHashAnswer> answers)> then);

}  // namespace cairn::rpc
