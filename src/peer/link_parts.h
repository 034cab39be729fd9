// peer/link_parts.h: the parts of a Link: which URL is next, readers, writers, requests. Private to the module.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "peer/link.h"
#include "peer/msgapp_v2.h"

namespace cairn::peer {

// etcd's urlPicker: one URL until it fails, then the next.
class UrlPicker {
 public:
  void set(std::vector<std::string> urls);
  [[nodiscard]] const std::string& pick() const { return urls_[picked_]; }
  // Goes on to the next, unless somebody has done so already.
  void failed(const std::string& url);
  [[nodiscard]] const std::vector<std::string>& all() const { return urls_; }

 private:
  std::vector<std::string> urls_;
  size_t picked_ = 0;
};

// What we read of the peer: one of the two streams that we dial. It is always in one of these phases.
struct Reader {
  struct Waiting {
    int64_t dial_at_ns;
  };
  struct Dialling {
    LinkId id;
    std::string url;
    int64_t deadline_ns;
  };
  struct Open {
    LinkId id;
    // Lives as long as the stream: a new one begins at (term 0, index 0).
    std::variant<MessageDecoder, MsgAppV2Decoder> decoder;
    int64_t last_byte_ns;
  };
  std::variant<Waiting, Dialling, Open> phase;
  std::optional<int64_t> last_turn_ns;  // of the redialling; at most one turn in LinkLimits::redial_ns

  [[nodiscard]] bool is_open() const { return std::holds_alternative<Open>(phase); }
  [[nodiscard]] int64_t due_ns(const LinkLimits& limits) const;
};

// Messages that wait, bounded by count and bytes.
class MessageQueue {
 public:
  // False: full.
  [[nodiscard]] bool push(raft::Message&& message, size_t messages_max, uint64_t bytes_max);
  [[nodiscard]] raft::Message pop();
  [[nodiscard]] bool empty() const { return messages_.empty(); }

 private:
  std::deque<raft::Message> messages_;
  uint64_t bytes_ = 0;
};

// What the peer reads of us: a stream that it dialled.
struct Writer {
  LinkId id = 0;
  StreamKind kind = StreamKind::kMessage;
  MsgAppV2Encoder encoder;  // of kMsgApp. Lives as long as the stream
  MessageQueue queue;
  uint64_t undrained_bytes = 0;  // in the transport's hands
  int64_t progress_ns = 0;       // when the transport last took some, or had none left
  int64_t heartbeat_at_ns = 0;

  [[nodiscard]] bool has_work() const { return undrained_bytes != 0 || !queue.empty(); }
  [[nodiscard]] int64_t due_ns(const LinkLimits& limits) const;
};

// A POST under way.
struct Request {
  std::string url;
  int64_t deadline_ns = 0;
  bool is_counted = false;  // a POST to kForwardPath
};

[[nodiscard]] Answer no_answer_in_time();

struct Link::State {
  explicit State(LinkOptions given);

  // One step: what every part needs of it.
  struct Step {
    int64_t now_ns;
    Effects& out;
  };

  // ---- reading: link_read.cc
  void dial(size_t kind, Step step);
  void answered_dial(size_t kind, const Answer& answer, Step step);
  [[nodiscard]] bool take_stream(size_t kind, const Answer& answer, Step step);
  void reader_ended(size_t kind, Ending ending, std::string_view detail, Step step);
  void wait_for_turn(size_t kind, bool at_once, Step step);
  void bytes_came(size_t kind, std::string_view bytes, Step step);
  void readers_on_time(Step step);
  void start_probe(const std::string& url, Step step);
  void answered_probe(const Answer& answer, Step step);
  void redial_now(Step step);
  // Somebody answered: whatever was refused before is out of date.
  void peer_answers();
  void peer_refuses(const std::string& url, Step step);
  [[nodiscard]] bool any_reader_open() const;
  [[nodiscard]] const std::string* url_not_refused() const;

  // ---- writing: link_write.cc
  void send(std::vector<raft::Message> messages, Step step);
  LinkId attached(StreamKind kind, Step step);
  void writer_ended(size_t kind, Ending ending, std::string_view detail, Step step);
  void drained(size_t kind, uint64_t bytes, Step step);
  void pump(Writer& writer, Step step);
  void heartbeat(Writer& writer, Step step);
  void writers_on_time(Step step);
  void pump_posts(Step step);
  void send_snapshot(raft::Message message, Step step);
  void posted(LinkId id, const Answer& answer, Step step);
  void answered_post(const Request& request, const Answer& answer, Step step);
  void answered_snapshot(const Request& request, const Answer& answer, Step step);

  // ---- both: link.cc
  void activate(Step step);
  void deactivate(std::string detail, Step step);
  void report(Report::Kind kind, std::string detail, Step step);
  // What an answer says about this member; reported once until something succeeds.
  void complain(Report::Kind kind, std::string detail, Step step);
  void complain_of_412(const Answer& answer, Step step);
  [[nodiscard]] Headers headers(std::string_view content_type) const;
  [[nodiscard]] bool admits(const raft::Message& message) const;
  [[nodiscard]] LinkId new_id() { return ++last_id; }

  const LinkOptions options;
  UrlPicker urls;
  LinkId last_id = 0;
  std::optional<int64_t> active_since_ns;
  std::optional<Report::Kind> complaint;

  bool started = false;
  std::array<Reader, kStreamKinds> readers;
  struct Probe {
    LinkId id;
    std::string url;
    int64_t deadline_ns;
  };
  std::optional<Probe> probe;
  // Whether the peer's process is gone.
  std::set<std::string> refused_urls;  // since somebody answered, or the last reader ended
  bool was_open = false;               // a reader, since the peer was last reported dead
  static constexpr int kQuickDials = 10;
  int quick_dials_left = 0;  // behind a reader that was open
  bool is_asked = false;     // by redial_now(), not yet answered

  std::array<std::optional<Writer>, kStreamKinds> writers;
  MsgAppV2Encoder ended_encoder;  // of the last msgapp stream: only a mutant goes on with it
  MessageQueue post_queue;
  std::map<LinkId, Request> posts;
  std::optional<std::pair<LinkId, Request>> snapshot;
};

}  // namespace cairn::peer
