// peer/link.h: what a member does for ONE other member: its connections, its queues and what it knows of the other.
//
// Pure: events in, effects out. No clock, thread or socket; the transport carries the effects out, the simulator does
// so over simulated byte streams. Each call gets the time and appends its effects, in the order in which they are to be
// carried out. After any call: ask wake_at_ns(), and call on_time() then.
//
//     this member                                     the peer
//     reader  GET /raft/stream/{msgapp,message} ----> its writer      what the peer sends to us
//     writer <---- GET /raft/stream/{msgapp,message}  its reader      what we send to the peer
//     POST /raft, POST /raft/snapshot           ----> listener        what has no stream, and snapshots
//
// Readers are dialled by this class, forever, unless Options::pipeline_only. Writers come when the peer dials
// (on_attached). Each connection and POST has an id that this class gives; ids are never used twice, and an event with
// the id of something that has ended or was closed is ignored. So an event that crossed a Close needs no care.
//
// Which way a message takes (etcd's):   MsgSnap     POST /raft/snapshot, one at a time
//                                       MsgApp      stream msgapp, else as the others
//                                       others      stream message, else POST /raft (4 at once)
// Messages of one writer arrive in the order in which they were sent. When it ends, those that were not read are lost,
// a suffix. None arrives twice. Between two ways there is no order.
//
// Queues: each way has a queue, bounded by a count (etcd's 4096 and 64) and by bytes. A message that finds its queue
// full is dropped, with a report. At most Limits::window_bytes of one writer are in the transport's hands; the rest
// waits here, not yet encoded, so what a new connection begins with is never the middle of an old one's sequence.
//
// Who may speak: a message delivered was addressed to this member, and is from the peer unless it is of a kind that
// members forward (MsgProp, MsgReadIndex, MsgTransferLeader). What else arrives is dropped. That a *response* is from a
// member of the configuration is checked where the configuration is: raft::Core::step.
//
// Failure: nothing here fails. A connection whose bytes cannot be decoded is closed and dialled again.
// Source:  etcd's package rafthttp.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "peer/pieces.h"
#include "peer/protocol.h"
#include "raft/types.h"

namespace cairn::peer {

// A connection or a POST of one Link.
using LinkId = uint64_t;

using Headers = std::vector<std::pair<std::string, std::string>>;

// How a request to the peer went.
struct Answer {
  enum class Kind : uint8_t {
    kAnswered,  // `status` and what follows are set
    kRefused,   // the connection was refused: nobody listens there (ECONNREFUSED; ENOENT of a Unix socket)
    kTimedOut,
    kFailed,  // anything else: no route, name not found, TLS, reset before an answer
  };
  Kind kind = Kind::kFailed;
  int status = 0;
  std::string server_version;  // header X-Server-Version; "" none
  std::string body;            // not of a stream's 200. The first kAnswerBodyBytesMax bytes are enough
  std::string detail;          // for the log
};
inline constexpr size_t kAnswerBodyBytesMax = 64 * 1024;

enum class Ending : uint8_t {
  kEnded,   // the other side closed it in order, or had closed it before
  kFailed,  // a reset, a read or write error, a timeout, a body that is no valid chunk
};

// ---- effects

// GET `url` + `path`. Answered by on_dialled; with status 200 the body is the stream: on_bytes, then on_closed once.
// The answer to anything but 200 is passed on with its body when it is whole. A connection of its own, never pooled.
struct Dial {
  LinkId id;
  std::string url;   // "http://host:2380"
  std::string path;  // "/raft/stream/msgapp/8211f1d0f64f3269"; of a probe kProbingPath
  Headers headers;
  int64_t connect_timeout_ns;  // to the end of the TLS handshake; the transport's to keep, kTimedOut then
};
// Bytes for the body of an attached stream. Each byte is acknowledged by on_drained when the transport holds it no
// longer (the kernel took it).
struct Write {
  LinkId id;
  Pieces bytes;
};
// POST `url` + `path` with this body. Answered once by on_posted. Connections may be pooled.
struct Post {
  LinkId id;
  std::string url;
  std::string path;
  Headers headers;
  Pieces body;
  int64_t connect_timeout_ns;
};
// The same, chunked: the body is `prefix` and then the image of the database at `message.snapshot`. The transport
// reports a failure to make the image as kFailed.
struct PostSnapshot {
  LinkId id;
  std::string url;
  std::string path;
  Headers headers;
  std::string prefix;  // length and raftpb.Message
  raft::Message message;
  int64_t connect_timeout_ns;
};
// Ends a connection or a request, also one that is being dialled. No event of it is waited for.
struct Close {
  LinkId id;
};
// Messages of the peer, in the order of their stream.
struct Deliver {
  std::vector<raft::Message> messages;
};
struct Report {
  enum class Kind : uint8_t {
    kUnreachable,  // a message to the peer was dropped, or a POST of one failed
    // A writer ended: messages given to send() since an unknown moment are lost. Also when its queue was empty, because
    // nobody knows what the peer read.
    kStreamCut,
    // Both readers have ended and every URL of the peer refuses connections: its process is gone. Reported once; again
    // only after a reader was open again.
    kDied,
    kSnapshotDelivered,  // exactly one of these two for each MsgSnap given to send()
    kSnapshotFailed,
    kRemoved,  // the peer says that this member was removed from the cluster (410, 403): it must stop for good
    kClusterIdMismatch,  // the peer is of another cluster. It is tried again, as etcd does
    kIncompatibleVersion,
    kActive,  // for the log and metrics: active_since_ns() has changed
    kInactive,
  };
  Kind kind;
  std::string detail;  // for the log
};
using Effect = std::variant<Dial, Write, Post, PostSnapshot, Close, Deliver, Report>;
using Effects = std::vector<Effect>;

struct LinkLimits {
  size_t stream_messages_max = 4096;
  size_t pipeline_messages_max = 64;
  size_t posts_max = 4;
  uint64_t queue_bytes_max = 64ull * 1024 * 1024;  // of each queue; one message above it passes when the queue is empty
  uint64_t window_bytes = 1024 * 1024;
  int64_t redial_ns = 100'000'000;
  int64_t quick_redial_ns = 5'000'000;  // a few times, once all that was open has ended, and a dial ends without answer
  int64_t read_timeout_ns = 5'000'000'000;   // a reader without a byte for so long is closed
  int64_t write_timeout_ns = 5'000'000'000;  // a writer whose bytes do not drain for so long is closed
  int64_t heartbeat_ns = 5'000'000'000 / 3;
  // A POST without an answer for so long, behind connecting, is given up. etcd waits for ever, on a dead host too. The
  // time of a snapshot is the transport's to bound.
  int64_t post_timeout_ns = 10'000'000'000;
};

struct LinkOptions {
  NodeId self;
  NodeId peer;
  uint64_t cluster_id = 0;
  std::vector<std::string> self_urls;          // advertised peer URLs of this member
  std::vector<std::string> peer_urls;          // not empty
  int64_t connect_timeout_ns = 2'000'000'000;  // etcd: 1 s and the election timeout
  // No streams: a member that this one does not know yet, which is only answered (etcd's remote).
  bool pipeline_only = false;
  LinkLimits limits;
};

class Link {
 public:
  // Dials nothing before start().
  explicit Link(LinkOptions options);
  ~Link();
  Link(const Link&) = delete;
  Link& operator=(const Link&) = delete;

  void start(int64_t now_ns, Effects& out);
  // Timers: redialling, heartbeats, timeouts. Harmless when nothing is due.
  void on_time(int64_t now_ns, Effects& out);
  // nullopt: nothing will be due before another event.
  [[nodiscard]] std::optional<int64_t> wake_at_ns() const;

  // Messages to the peer, in order. Those with `to` other than the peer are a bug.
  void send(std::vector<raft::Message> messages, int64_t now_ns, Effects& out);

  // The answer to a Dial.
  void on_dialled(LinkId id, const Answer& answer, int64_t now_ns, Effects& out);
  // Bytes of a reader, cut anywhere.
  void on_bytes(LinkId id, std::string_view bytes, int64_t now_ns, Effects& out);
  // A reader or a writer has ended by itself.
  void on_closed(LinkId id, Ending ending, std::string_view detail, int64_t now_ns, Effects& out);
  // The peer dialled a stream and was answered 200: this is a writer from now on, instead of the one of that kind
  // before it. The caller has checked the request (cluster, versions, removed members, X-Raft-To).
  [[nodiscard]] LinkId on_attached(StreamKind kind, int64_t now_ns, Effects& out);
  // So many bytes of Writes have left the transport.
  void on_drained(LinkId id, uint64_t bytes, int64_t now_ns, Effects& out);
  // The answer to a Post or PostSnapshot.
  void on_posted(LinkId id, const Answer& answer, int64_t now_ns, Effects& out);

  // The peer's URLs have changed. Open connections stay.
  void set_urls(std::vector<std::string> urls);
  // Asks at once whether the peer is there, whatever its streams look like: dials a reader that waits for its turn,
  // else makes a connection only to see whether it is refused. If every URL refuses, streams that look open are closed,
  // and kDied is reported. Nothing is reported when the peer answers, or does not answer in time.
  void redial_now(int64_t now_ns, Effects& out);
  // The peer has left, or this member stops: closes all, reports a snapshot under way as failed. Nothing may follow.
  void stop(Effects& out);

  // Since when messages have gone through without a failure, etcd's activeSince; nullopt: they do not.
  [[nodiscard]] std::optional<int64_t> active_since_ns() const;
  [[nodiscard]] NodeId peer() const;

  struct State;

 private:
  std::unique_ptr<State> state_;
};

}  // namespace cairn::peer
