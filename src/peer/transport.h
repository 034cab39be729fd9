// peer/transport.h: a member's connections with all others: the peer thread.
//
// One thread with a loop of its own serves --listen-peer-urls, dials the other members and runs a Link for each. It
// serves no client, and waits for no disk: images of the database have threads of their own
// (peer/snapshot_transfer.h).
//
//     core thread   send() --> queue --> Link --> streams, POSTs --> the others
//     core thread   <-- Sink::on_messages, on_report <-- Link <-- streams;  listener <-- POSTs
//
// Messages of one peer's stream arrive in order. Between two ways there is no order (peer/link.h).
//
// Bounded: what send() has handed over and the peer thread has not taken, in bytes; each Link's queues; answers of
// call(). A message over a bound is dropped, and reported as unreachable; a snapshot as failed.
//
// Threads: any may call anything; on the peer thread run the Sink, handlers and answers.
// Source:  etcd's server/etcdserver/api/rafthttp.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/strong.h"
#include "env/fs.h"
#include "metrics/metrics.h"
#include "net/http.h"
#include "net/server.h"
#include "net/tls/tls_client_context.h"
#include "peer/byte_source.h"
#include "peer/link.h"
#include "raft/types.h"

namespace cairn::peer {

// Another member.
struct Peer {
  NodeId id;
  std::vector<std::string> urls;  // not empty
};

class Transport {
 public:
  // None may block: the peer thread waits meanwhile. None may call stop().
  class Sink {
   public:
    virtual ~Sink() = default;
    // What a turn of the thread has brought. The image that belongs to a kSnap is in place: <index>.snap.db.
    virtual void on_messages(std::vector<raft::Message> messages) = 0;
    // kUnreachable, kStreamCut, kDied; kSnapshotDelivered or kSnapshotFailed once for each kSnap that was sent.
    virtual void on_report(NodeId peer, Report::Kind kind) = 0;
    // `peer` says that this member was removed from the cluster.
    virtual void on_removed_by(NodeId peer) = 0;
  };

  // Answers a request, on any thread, once.
  using Handler = std::function<void(net::HttpRequest request, net::HttpRespond respond)>;

  struct Options {
    NodeId self;
    uint64_t cluster_id = 0;
    std::vector<std::string> self_urls;  // advertised
    std::vector<net::Listen> listen;     // addresses or sockets, and their TLS
    std::vector<Peer> others = {};       // as set_members(), before anybody can ask
    std::vector<NodeId> removed = {};
    std::unique_ptr<net::TlsClientContext> tls = {};  // null: https is not dialled
    int64_t dial_timeout_ns = 2'000'000'000;          // etcd: 1 s and the election timeout
    std::string local_ip = {};                        // where connections to others come from; "": the system chooses
    env::FileSystem* fs = nullptr;
    std::string snap_directory;                                // "": no snapshot is taken
    LookAtImage look_at_image = {};                            // on a transfer's thread; see there
    OpenImage open_image = {};                                 // empty: none is sent
    std::vector<std::pair<std::string, Handler>> routes = {};  // as serve(), before anybody can ask
    metrics::Registry* registry = nullptr;

    LinkLimits limits = {};
    uint64_t send_bytes_max = 64 << 20;                  // in the queue to the peer thread
    uint64_t snapshot_bytes_per_second_max = 256 << 20;  // of each snapshot that is sent: others want the thread, too
    // A snapshot's receiver that takes nothing for so long, or, when it has all, says nothing, has failed.
    // compat: etcd waits until TCP gives up.
    int64_t snapshot_write_timeout_ns = 60'000'000'000;
    int64_t snapshot_answer_timeout_ns = 600'000'000'000;
    int64_t connection_read_timeout_ns = 5'000'000'000;   // of the listener, as etcd's
    int64_t connection_write_timeout_ns = 5'000'000'000;  // the same
    size_t connections_max = 4096;
    size_t calls_max = 64;  // under way to one member, a connection each; further ones wait for their turn
    int64_t probe_interval_ns = 4'000'000'000;
  };

  // Listens, and dials the others that the options name.
  //   errors: those of net::Server::start()
  static Result<std::unique_ptr<Transport>> start(Options options, Sink& sink);
  ~Transport();  // stops
  Transport(const Transport&) = delete;
  Transport& operator=(const Transport&) = delete;

  // "host:port" of each listener.
  [[nodiscard]] const std::vector<std::string>& addresses() const;

  // All other members, and all that were removed from the cluster: these are told so.
  void set_members(std::vector<Peer> others, std::vector<NodeId> removed);
  // In this order for each receiver. What has no known receiver is dropped.
  void send(std::vector<raft::Message> messages);
  // Is it there? Asked at once; a Sink hears of kDied if not.
  void redial(NodeId peer);
  // By the monotonic clock; nullopt: messages do not go through.
  [[nodiscard]] std::optional<int64_t> active_since_ns(NodeId peer) const;

  // Whether the process that is behind this member now is Cairn's, as it says on each connection; false before the
  // first. It is known before anything of that process is heard.
  // That of a member that was removed stays known: it may lead for a moment still.
  [[nodiscard]] bool speaks_cairn(NodeId peer) const;

  // How many streams are open with a member, 0 to 2 each way. Waits for the peer thread: for tests.
  struct Streams {
    size_t from_us = 0;
    size_t to_us = 0;
    friend bool operator==(const Streams&, const Streams&) = default;
  };
  [[nodiscard]] Streams streams(NodeId peer) const;

  // Asks `peer`, at one URL after the other until one answers, whatever it answers. `then` is called once.
  //   errors: kNotFound for no such member, kResourceExhausted for too many that wait, kCancelled by stop(), and those
  //           of net::HttpClient
  using Answered = std::function<void(Result<net::HttpResponse> answer)>;
  void call(NodeId peer, net::HttpRequest request, int64_t timeout_ns, Answered then);
  // Answers to a path; one that ends with '/' is of all below it. The handler answers from any thread.
  void serve(std::string path, Handler handler);

  // Afterwards nothing is heard any more.
  void stop();

 private:
  struct Impl;
  explicit Transport(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace cairn::peer
