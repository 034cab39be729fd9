// peer/transport_link.h: carries out what one Link decides: its connections, its requests, its timer.
//
// Threads: the peer thread.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "net/client/http_client.h"
#include "net/event_loop.h"
#include "net/http.h"
#include "peer/link.h"
#include "peer/snapshot_transfer.h"
#include "peer/transport_metrics.h"

namespace cairn::peer {

// What all links use.
struct LinkHost {
  net::EventLoop& loop;
  net::HttpClient& streams;    // each request has a connection of its own
  net::HttpClient& pipeline;   // connections are kept
  net::HttpClient& snapshots;  // with patience
  TransferThreads& threads;
  ImageReader::Options images;
  TransportMetrics& metrics;
  std::function<void(std::vector<raft::Message>&)> deliver;
  std::function<void(NodeId peer, const Report&)> report;
  std::function<void(NodeId peer, bool is_cairn)> note_kind;
};

[[nodiscard]] int64_t monotonic_now_ns();

class TransportLink : public std::enable_shared_from_this<TransportLink> {
 public:
  TransportLink(LinkHost& host, const LinkOptions& options);
  ~TransportLink();  // after stop()
  TransportLink(const TransportLink&) = delete;
  TransportLink& operator=(const TransportLink&) = delete;

  void start();
  void stop();

  void send(std::vector<raft::Message> messages);
  void redial();
  void set_urls(const std::vector<std::string>& urls);
  [[nodiscard]] const std::vector<std::string>& urls() const { return urls_; }
  [[nodiscard]] NodeId peer() const { return link_.peer(); }
  [[nodiscard]] size_t attached_count() const { return attached_.size(); }  // streams that the peer reads
  [[nodiscard]] size_t open_count() const;                                  // streams that we read
  // The peer has dialled a stream, and may have it: answers the exchange.
  [[nodiscard]] std::unique_ptr<net::ExchangeHandler> attach(StreamKind kind, net::Exchange& exchange,
                                                             const net::HttpResponse& head);

 private:
  class Dialled;
  class Posted;
  class SnapshotSending;
  class StreamExchange;
  friend class Dialled;
  friend class Posted;
  friend class SnapshotSending;
  friend class StreamExchange;

  // A stream that the peer reads.
  struct Attached {
    net::ExchangeId exchange;
    uint64_t outstanding_bytes = 0;  // written, and not known to have gone
  };

  template <class Event>
  void step(const Event& event);
  void perform(Effects& effects);
  void perform(Dial& effect);
  void perform(Write& effect);
  void perform(Post& effect);
  void perform(PostSnapshot& effect);
  void perform(Close& effect);
  void perform(Deliver& effect);
  void perform(Report& effect);
  void set_timer();
  void note_drained(LinkId id, Attached& attached, Effects& out);
  [[nodiscard]] net::HttpClient::Request request_to(const std::string& url, std::string method, std::string path,
                                                    Headers headers, int64_t connect_timeout_ns);

  LinkHost& host_;
  Link link_;
  std::vector<std::string> urls_;
  PeerMetrics& metrics_;
  std::map<LinkId, std::unique_ptr<Dialled>> dialled_;
  std::map<LinkId, std::unique_ptr<Posted>> posted_;
  std::map<LinkId, std::unique_ptr<SnapshotSending>> snapshots_;
  std::map<LinkId, Attached> attached_;
  std::unique_ptr<net::EventLoop::Timer> timer_;
  int64_t timer_due_ns_ = INT64_MAX;
};

}  // namespace cairn::peer
