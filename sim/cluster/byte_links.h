// sim/cluster/byte_links.h: messages between members as bytes: each process has a real peer::Link for each other
// member.
//
// What a Link decides is carried out here as peer/transport_link.h does it on sockets: streams are dialled and answered
// with the listener's checks, written, read and closed; single messages are POSTed. A stream is a pipe of bytes:
//
//     Link of who sends --> what the transport holds --> what the kernels hold, bounded --> Link of who reads
//
// Bytes of a pipe arrive in order and in chunks of any size. A path that is cut stops them, and they go on when it is
// mended, if nobody has given up by then. A connection may break at any byte: what is behind that is lost, and both
// ends hear of it, each in its time, or one of them, or none: half open. The kernel of a process that dies closes its
// connections; that of a machine without power says nothing, and resets them once the power is back. A process that is
// paused neither reads nor writes nor accepts.
//
// Checked: nothing arrives that was not sent, nor more often; no stream has bytes that cannot be decoded; nobody is
// told that it was removed unless it was.
//
// Snapshots go their own way (sim/cluster/transfers.h).
//
// Threads: one.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/random.h"
#include "cluster/membership.h"
#include "member/stages.h"
#include "peer/link.h"
#include "raft/types.h"
#include "sim/cluster/byte_frames.h"
#include "sim/cluster/network.h"
#include "sim/cluster/node.h"
#include "sim/coverage.h"
#include "sim/schedule.h"

namespace cairn::sim {

class ByteLinks {
 public:
  class Host {
   public:
    virtual ~Host() = default;
    // A message arrives at a process that runs.
    virtual void on_link_message(size_t to, raft::Message message) = 0;
    // What the transport of `place` finds out about a member.
    virtual void on_link_report(size_t place, member::PeerReport::Kind kind, NodeId about) = 0;
    // Its link to `by` was told that it was removed.
    virtual void on_told_removed(size_t place, NodeId by) = 0;
    virtual void on_wrong_bytes(std::string text) = 0;
  };
  using Nodes = std::vector<std::unique_ptr<ClusterNode>>;

  ByteLinks(Schedule& schedule, Random chance, Nodes& nodes, Network& network, Coverage& coverage, Host& host);
  ~ByteLinks();

  // Connections break by chance, until end().
  void begin();
  void end() { has_ended_ = true; }

  // After each start of a process, and whenever its members have changed.
  void set_members(size_t place);
  // The process ends. `kernel_stays`: the machine does not.
  void on_gone(size_t place, bool kernel_stays);

  // From the core of `place`.
  void send(size_t place, raft::Message message);
  void redial(size_t place, NodeId member);
  // Since when messages to it have gone through without a failure.
  [[nodiscard]] std::optional<int64_t> active_since_ns(size_t place, NodeId member) const;
  [[nodiscard]] uint64_t delivered() const { return delivered_; }

 private:
  // A Link with its place in the world. Its number is never used again.
  struct Linked {
    uint64_t number = 0;
    size_t place = 0;
    bool is_remote = false;  // to who is no member, as far as this one knows
    std::unique_ptr<peer::Link> link;
    std::vector<std::string> urls;
    std::vector<raft::Message> outbox;  // on its way to the peer thread
    int64_t timer_ns = INT64_MAX;
  };
  // A connection of one Link.
  using End = std::pair<uint64_t, peer::LinkId>;  // the Linked, and its name for it
  struct Pipe {
    uint64_t number = 0;
    peer::StreamKind kind{};
    size_t reading = 0;  // the places of both ends
    size_t writing = 0;
    std::optional<End> reader;  // nullopt: that end is closed
    std::optional<End> writer;
    bool is_answered = false;  // who reads knows that it may
    bool is_silent = false;    // half open: nothing passes any more, and nobody is told
    bool has_ended = false;    // behind what is in `kernel` comes the end
    peer::Ending ending{};
    std::string held;      // by the transport of who writes
    std::string kernel;    // on its way
    uint64_t drained = 0;  // went from `held` to `kernel`, and the writer does not know it
    bool is_delivering = false;
    bool is_draining = false;
    int64_t read_ns = 0;     // when something arrived
    int64_t drained_ns = 0;  // and when something was taken from `held`
    ByteFrames read;         // of what arrived
  };

  [[nodiscard]] Linked* find(uint64_t number);
  [[nodiscard]] Linked* find(size_t place, NodeId peer);
  [[nodiscard]] Linked* find_any(size_t place, NodeId peer);
  [[nodiscard]] Pipe* find_pipe(uint64_t number);
  [[nodiscard]] Pipe* pipe_of(const End& end);
  [[nodiscard]] NodeId id_of(size_t place) const { return NodeId(nodes_[place]->member_id()); }
  // Whose process or kernel answers there.
  [[nodiscard]] std::optional<size_t> listener_at(std::string_view url, NodeId wanted) const;
  [[nodiscard]] bool is_connected(size_t one, size_t other) const { return network_.is_connected(one, other); }
  [[nodiscard]] int64_t delay_ns();

  Linked& add_link(size_t place, NodeId peer, const std::vector<std::string>& urls, bool is_remote);
  void drop_link(uint64_t number);
  void add_remote(size_t place, NodeId id);

  // Later, for this Link, when its process goes on; not at all when it is gone.
  template <class Event>
  void later(uint64_t link, int64_t delay_ns, Event event);
  // At once in this process, or when it goes on.
  template <class Event>
  void awake(size_t place, uint64_t process, Event event);
  template <class Event>
  void step(Linked& linked, Event event);
  void settle(uint64_t link, peer::Effects effects);
  void set_timer(Linked& linked);

  void perform(Linked& linked, peer::Dial& effect);
  void perform(Linked& linked, peer::Write& effect);
  void perform(Linked& linked, peer::Post& effect);
  void perform(Linked& linked, peer::Close& effect);
  void perform(Linked& linked, peer::Deliver& effect);
  void perform(Linked& linked, peer::PostSnapshot& effect);
  void perform(Linked& linked, peer::Report& effect);

  // A request of one Link: where it goes, and what comes back.
  struct Request {
    End asked;
    size_t from = 0;
    NodeId to;
    std::string url;
    int64_t connect_timeout_ns = 0;
    std::optional<peer::StreamKind> stream{};
    std::optional<std::string> message{};  // of a POST. Neither: a probe
  };
  void request(Request request);
  void serve(const Request& request, size_t at);
  void attach(const Request& request, size_t at, peer::StreamKind kind);
  [[nodiscard]] int take_post(const Request& request, size_t at);
  void answer(const Request& request, size_t at, const peer::Answer& answer);
  void answer_now(const Request& request, const peer::Answer& answer);
  void begin_reading(uint64_t pipe);
  // Notes what is sent; says whether what arrives was.
  void note_sent(size_t from, const raft::Message& message);
  [[nodiscard]] bool take_sent(size_t from, const raft::Message& message);
  void arrive(size_t from, size_t to, raft::Message message);

  void feed(Pipe& pipe);
  void tell_drained(uint64_t pipe);
  void plan_delivery(Pipe& pipe, int64_t delay_ns);
  void deliver(uint64_t pipe);
  // False: the stream is closed.
  bool deliver_bytes(uint64_t pipe);
  void deliver_end(uint64_t pipe);
  void close_reader(Pipe& pipe);
  void close_writer(Pipe& pipe);
  void tell_writer(uint64_t pipe, int64_t delay_ns);
  // What has not arrived is lost, but for so many bytes.
  void lose(Pipe& pipe, size_t but);
  void drop_if_closed(uint64_t pipe);
  void plan_trouble();
  void break_one();

  Schedule& schedule_;
  Random chance_;
  Nodes& nodes_;
  Network& network_;
  Coverage& coverage_;
  Host& host_;
  peer::LinkLimits limits_;
  uint64_t kernel_bytes_max_;
  uint64_t last_number_ = 0;
  std::map<uint64_t, std::unique_ptr<Linked>> links_;
  std::map<std::pair<size_t, NodeId>, uint64_t> members_;  // the link to a member
  std::map<std::pair<size_t, NodeId>, uint64_t> remotes_;  // and to who is none
  std::map<size_t, std::shared_ptr<const cluster::Membership>> seen_;
  std::map<uint64_t, Pipe> pipes_;
  std::map<End, uint64_t> ends_;  // the pipe of each end that is open
  std::set<End> asked_;           // dials and POSTs without an answer
  std::set<std::pair<uint64_t, peer::StreamKind>> had_stream_;
  std::map<std::pair<size_t, NodeId>, std::map<uint64_t, uint64_t>> sent_;  // and not arrived: how often, by content
  std::optional<uint64_t> reading_;                                         // the pipe whose bytes are taken in now
  uint64_t delivered_ = 0;
  bool has_ended_ = false;
};

}  // namespace cairn::sim
