// member/peer_port.h: what carries a node's messages to the other members, as the node sees it.
//
// Threads: the core thread's, but for what says otherwise. Nothing here may block.
#pragma once

#include <memory>
#include <vector>

#include "base/strong.h"
#include "cluster/membership.h"
#include "raft/types.h"

namespace cairn::member {

class PeerPort {
 public:
  virtual ~PeerPort() = default;
  // In this order for each receiver. The WAL thread's, too.
  virtual void send(std::vector<raft::Message> messages) = 0;
  // Its connections may be dead: a new one is to be tried at once, and what comes of it reported.
  virtual void redial(NodeId member) = 0;
  // The members as they are now: before the first message is sent, and after each change.
  virtual void set_members(std::shared_ptr<const cluster::Membership> members) = 0;
  // Whether it is one of Cairn's, and so knows raft::ForwardTag. Any thread.
  [[nodiscard]] virtual bool speaks_cairn(NodeId member) const = 0;
};

}  // namespace cairn::member
