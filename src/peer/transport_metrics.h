// peer/transport_metrics.h: etcd's figures of the network between members.
//
// Threads: made on the peer thread; counted there.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "base/strong.h"
#include "metrics/metrics.h"

namespace cairn::peer {

// Of one other member.
struct PeerMetrics {
  PeerMetrics(metrics::Registry& registry, NodeId self, NodeId peer);

  metrics::Gauge& active_peers;
  metrics::Counter& disconnected_peers;
  metrics::Counter& sent_bytes;
  metrics::Counter& received_bytes;
  metrics::Counter& sent_failures;
  metrics::Counter& received_failures;
  metrics::Histogram& round_trip;
  metrics::Gauge& snapshot_send_inflights;
  metrics::Counter& snapshot_send_success;
  metrics::Counter& snapshot_send_failures;
  metrics::Histogram& snapshot_send_duration;
  metrics::Gauge& snapshot_receive_inflights;
  metrics::Counter& snapshot_receive_success;
  metrics::Counter& snapshot_receive_failures;
  metrics::Histogram& snapshot_receive_duration;
  metrics::Histogram& db_save_duration;  // of all members together, as the next
  metrics::Histogram& db_sync_duration;
};

class TransportMetrics {
 public:
  // Members come and go, and their figures stay: so many are told apart, others share those of "0".
  static constexpr size_t kPeersMax = 256;

  TransportMetrics(metrics::Registry& registry, NodeId self);
  [[nodiscard]] PeerMetrics& of(NodeId peer);

 private:
  metrics::Registry& registry_;
  const NodeId self_;
  std::map<NodeId, std::unique_ptr<PeerMetrics>> peers_;
};

}  // namespace cairn::peer
