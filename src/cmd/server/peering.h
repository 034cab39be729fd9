// cmd/server/peering.h: a node among the other members: what it sends and hears goes through the peer thread.
//
//     core thread   PeerPort ------------------> peer::Transport -> the others
//     core thread   <- Node::receive, report <-- its Sink
//     a transfer    <- a snapshot's image is looked at before raft hears of it
//
// Made before the node, which names it, and destroyed after it. It listens from start() on, and speaks until stop(): a
// node that stops hands over its leadership first.
//
// Threads: as PeerPort says; start() and stop() are the main thread's.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "cluster/membership.h"
#include "env/fs.h"
#include "member/peer_port.h"
#include "member/stages.h"
#include "metrics/metrics.h"
#include "net/server.h"
#include "net/tls/tls_client_context.h"
#include "peer/transport.h"

namespace cairn::cmd {

// Who is talked to, and to whom it is said that they were removed. Pure.
struct PeerList {
  std::vector<peer::Peer> others;  // by id
  std::vector<NodeId> removed;
};
// `remotes`: whom this member was told of when its directory was new. They count until the log has brought it in: for
// who joins only they can do that, and founders dial each other before they have applied their first entries.
[[nodiscard]] PeerList peer_list(NodeId self, const cluster::Membership& members,
                                 const std::vector<cluster::Member>& remotes);

class Peering final : public member::PeerPort, private peer::Transport::Sink {
 public:
  struct Options {
    env::FileSystem& fs;
    metrics::Registry& registry;
    std::vector<net::Listen> listen;  // bound
    std::unique_ptr<net::TlsClientContext> tls;
    std::vector<std::string> urls;  // advertised
    int64_t dial_timeout_ns = 0;
    std::string local_ip = {};  // as peer::Transport::Options
    int64_t read_timeout_ns = 0;
    int64_t write_timeout_ns = 0;
    size_t connections_max = 4096;  // from others
  };
  explicit Peering(Options options);
  ~Peering() override;  // stops

  // What the node gives. It outlives this object's stop().
  struct Start {
    NodeId self;
    uint64_t cluster_id = 0;
    std::shared_ptr<const cluster::Membership> members;  // as the node has found them
    std::vector<cluster::Member> remotes;
    std::string snap_directory;
    std::function<void(std::vector<raft::Message>)> receive;
    std::function<void(const member::PeerReport&)> report;
    // What the others ask beside raft's messages. Any thread; it is answered once.
    peer::Transport::Handler answer;
  };
  // Before the node starts.
  //   errors: those of peer::Transport::start()
  Status start(Start start);
  // After the node has stopped.
  void stop();

  // needs: start(). For requests to others and answers to theirs.
  [[nodiscard]] peer::Transport& transport() { return *transport_; }

  // PeerPort
  void send(std::vector<raft::Message> messages) override;
  void redial(NodeId member) override;
  void set_members(std::shared_ptr<const cluster::Membership> members) override;
  [[nodiscard]] bool speaks_cairn(NodeId member) const override;

 private:
  [[nodiscard]] PeerList list_of(const cluster::Membership& members);

  // peer::Transport::Sink
  void on_messages(std::vector<raft::Message> messages) override;
  void on_report(NodeId peer, peer::Report::Kind kind) override;
  void on_removed_by(NodeId peer) override;

  Options options_;
  Start start_;
  bool has_joined_ = false;  // the log has brought this member in. From start() on the core thread's
  std::unique_ptr<peer::Transport> transport_;
};

}  // namespace cairn::cmd
