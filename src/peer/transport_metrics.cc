#include "peer/transport_metrics.h"

#include "base/bytes.h"

namespace cairn::peer {
namespace {

constexpr metrics::Buckets kRoundTripBuckets{0.0001, 2, 16};
constexpr metrics::Buckets kSnapshotBuckets{0.1, 2, 10};

metrics::Labels local_and_remote(NodeId self, NodeId peer) {
  return {{"Local", hex_id(self.value)}, {"Remote", hex_id(peer.value)}};
}
metrics::Labels to(NodeId peer) { return {{"To", hex_id(peer.value)}}; }
metrics::Labels from(NodeId peer) { return {{"From", hex_id(peer.value)}}; }

metrics::Histogram& db_saves(metrics::Registry& registry) {
  return registry.histogram("etcd_snap_db_save_total_duration_seconds", "Duration of saving a received database.",
                            kSnapshotBuckets);
}

metrics::Histogram& db_syncs(metrics::Registry& registry) {
  return registry.histogram("etcd_snap_db_fsync_duration_seconds", "Duration of a sync of a received database.",
                            metrics::kDiskBuckets);
}

}  // namespace

PeerMetrics::PeerMetrics(metrics::Registry& registry, NodeId self, NodeId peer)
    : active_peers(registry.gauge("etcd_network_active_peers", "The current number of active peer connections.",
                                  local_and_remote(self, peer))),
      disconnected_peers(registry.counter("etcd_network_disconnected_peers_total",
                                          "The total number of disconnected peers.", local_and_remote(self, peer))),
      sent_bytes(
          registry.counter("etcd_network_peer_sent_bytes_total", "The total number of bytes sent to peers.", to(peer))),
      received_bytes(registry.counter("etcd_network_peer_received_bytes_total",
                                      "The total number of bytes received from peers.", from(peer))),
      sent_failures(registry.counter("etcd_network_peer_sent_failures_total",
                                     "The total number of send failures from peers.", to(peer))),
      received_failures(registry.counter("etcd_network_peer_received_failures_total",
                                         "The total number of receive failures from peers.", from(peer))),
      round_trip(registry.histogram("etcd_network_peer_round_trip_time_seconds",
                                    "Round-Trip-Time histogram between peers", kRoundTripBuckets, metrics::kSeconds,
                                    to(peer))),
      snapshot_send_inflights(registry.gauge("etcd_network_snapshot_send_inflights_total",
                                             "Total number of inflight snapshot sends", to(peer))),
      snapshot_send_success(registry.counter("etcd_network_snapshot_send_success",
                                             "Total number of successful snapshot sends", to(peer))),
      snapshot_send_failures(
          registry.counter("etcd_network_snapshot_send_failures", "Total number of snapshot send failures", to(peer))),
      snapshot_send_duration(registry.histogram("etcd_network_snapshot_send_total_duration_seconds",
                                                "Total latency distributions of v3 snapshot sends", kSnapshotBuckets,
                                                metrics::kSeconds, to(peer))),
      snapshot_receive_inflights(registry.gauge("etcd_network_snapshot_receive_inflights_total",
                                                "Total number of inflight snapshot receives", from(peer))),
      snapshot_receive_success(registry.counter("etcd_network_snapshot_receive_success",
                                                "Total number of successful snapshot receives", from(peer))),
      snapshot_receive_failures(registry.counter("etcd_network_snapshot_receive_failures",
                                                 "Total number of snapshot receive failures", from(peer))),
      snapshot_receive_duration(registry.histogram("etcd_network_snapshot_receive_total_duration_seconds",
                                                   "Total latency distributions of v3 snapshot receives",
                                                   kSnapshotBuckets, metrics::kSeconds, from(peer))),
      db_save_duration(db_saves(registry)),
      db_sync_duration(db_syncs(registry)) {}

// What is of no single member is there before any is.
TransportMetrics::TransportMetrics(metrics::Registry& registry, NodeId self) : registry_(registry), self_(self) {
  db_saves(registry);
  db_syncs(registry);
}

PeerMetrics& TransportMetrics::of(NodeId peer) {
  const auto found = peers_.find(peer);
  if (found != peers_.end()) return *found->second;
  const NodeId named = peers_.size() < kPeersMax ? peer : NodeId{0};
  auto& made = peers_[named];
  if (made == nullptr) made = std::make_unique<PeerMetrics>(registry_, self_, named);
  return *made;
}

}  // namespace cairn::peer
