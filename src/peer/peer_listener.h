// peer/peer_listener.h: what a member answers to others on its peer URLs, with etcd's checks and texts.
//
//     GET  /raft/stream/{msgapp,message}/<id>   a stream of messages to member <id>, which is the one that asks
//     POST /raft                                one message
//     POST /raft/snapshot                       a message of 8 bytes length and itself, then the image of a database
//     GET  /raft/probing                        the time
//     what serve() adds                         /members, /version, ...
//
// A member that is told 410 or 403 takes itself for removed and stops for good: nothing else is answered with these.
//
// Threads: the peer thread; serve() any.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/mutex.h"
#include "env/fs.h"
#include "net/http.h"
#include "peer/protocol.h"
#include "peer/snapshot_transfer.h"
#include "peer/transport_metrics.h"
#include "raft/types.h"

namespace cairn::peer {

class PeerListener final : public net::HttpHandler {
 public:
  // What the listener asks of the transport.
  class Host {
   public:
    virtual ~Host() = default;
    [[nodiscard]] virtual bool is_removed(NodeId id) const = 0;
    [[nodiscard]] virtual bool has_peer(NodeId id) const = 0;
    // A member that is not known yet, and where it says that it can be reached.
    virtual void add_remote(NodeId id, const std::vector<std::string>& urls) = 0;
    // What a member's request has said of itself. What the request brings is heard afterwards.
    virtual void note_kind(NodeId id, bool is_cairn) = 0;
    // needs: has_peer(id). Answers the exchange with `head` and a stream.
    [[nodiscard]] virtual std::unique_ptr<net::ExchangeHandler> attach(NodeId id, StreamKind kind,
                                                                       net::Exchange& exchange,
                                                                       const net::HttpResponse& head) = 0;
    virtual void deliver(raft::Message message) = 0;
    [[nodiscard]] virtual PeerMetrics& metrics(NodeId id) = 0;
  };
  struct Options {
    NodeId self;
    uint64_t cluster_id = 0;
    env::FileSystem* fs = nullptr;
    std::string snap_directory;  // images go here; "": none is taken
    LookAtImage look_at_image = {};
  };
  // `threads` and `host` outlive the listener.
  PeerListener(Options options, TransferThreads& threads, Host& host);
  ~PeerListener() override;

  // Answers from any thread, once.
  using Handler = std::function<void(net::HttpRequest request, net::HttpRespond respond)>;
  // A path that ends with '/' is of all paths below it; the longest counts.
  void serve(std::string path, Handler handler);

  std::unique_ptr<net::ExchangeHandler> begin(net::Exchange& exchange) override;

 private:
  class MessagePost;
  class SnapshotPost;
  class Route;
  friend class MessagePost;
  friend class SnapshotPost;

  [[nodiscard]] std::unique_ptr<net::ExchangeHandler> begin_stream(net::Exchange& exchange);
  [[nodiscard]] std::unique_ptr<net::ExchangeHandler> begin_message(net::Exchange& exchange);
  [[nodiscard]] std::unique_ptr<net::ExchangeHandler> begin_snapshot(net::Exchange& exchange);
  // "": compatible. Else the text of 412.
  [[nodiscard]] std::string_view incompatibility(const net::HttpRequest& request) const;
  void note_sender(const net::HttpRequest& request);
  // For one more image: if there are as many as there may be, the slowest gives way. False: all have only begun.
  [[nodiscard]] bool make_room_for_image();
  // As Go's http.Error.
  void refuse(net::Exchange& exchange, int status, std::string_view text, net::HttpFields headers = {}) const;
  [[nodiscard]] std::shared_ptr<Route> route_of(std::string_view path) const;

  const Options options_;
  const std::string cluster_id_;  // hexadecimal
  TransferThreads& threads_;
  Host& host_;
  std::set<SnapshotPost*> receiving_;  // an image each
  mutable Mutex mutex_;
  std::map<std::string, std::shared_ptr<Route>, std::less<>> routes_ CAIRN_GUARDED_BY(mutex_);
};

}  // namespace cairn::peer
