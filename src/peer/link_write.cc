// The half of a Link that sends: streams that the peer has dialled, POSTs, snapshots.
#include <algorithm>
#include <utility>

#include "base/check.h"
#include "peer/codec.h"
#include "peer/link_parts.h"

namespace cairn::peer {

using State = Link::State;

namespace {

constexpr size_t kMsgAppAt = static_cast<size_t>(StreamKind::kMsgApp);
constexpr size_t kMessageAt = static_cast<size_t>(StreamKind::kMessage);
constexpr uint64_t kMessageOverheadBytes = 128;

uint64_t cost_bytes(const raft::Message& message) {
  uint64_t bytes = kMessageOverheadBytes + message.context.size();
  for (const raft::Entry& entry : message.entries) bytes += raft::cost_bytes(entry);
  return bytes;
}

}  // namespace

bool MessageQueue::push(raft::Message&& message, size_t messages_max, uint64_t bytes_max) {
  const uint64_t bytes = cost_bytes(message);
  if (messages_.size() >= messages_max || (!messages_.empty() && bytes_ + bytes > bytes_max)) return false;
  bytes_ += bytes;
  messages_.push_back(std::move(message));
  return true;
}

raft::Message MessageQueue::pop() {
  raft::Message message = std::move(messages_.front());
  messages_.pop_front();
  bytes_ -= cost_bytes(message);
  return message;
}

int64_t Writer::due_ns(const LinkLimits& limits) const {
  if (undrained_bytes == 0) return heartbeat_at_ns;
  return std::min(heartbeat_at_ns, progress_ns + limits.write_timeout_ns);
}

void State::send(std::vector<raft::Message> messages, Step step) {
  const LinkLimits& limits = options.limits;
  size_t dropped = 0;
  for (raft::Message& message : messages) {
    CAIRN_ASSERT(message.to == options.peer);
    if (message.type == raft::MessageType::kSnap) {
      send_snapshot(std::move(message), step);
      continue;
    }
    const bool as_append = message.type == raft::MessageType::kApp && writers[kMsgAppAt];
    const size_t kind = as_append ? kMsgAppAt : kMessageAt;
    const bool is_taken =
        writers[kind]
            ? writers[kind]->queue.push(std::move(message), limits.stream_messages_max, limits.queue_bytes_max)
            : post_queue.push(std::move(message), limits.pipeline_messages_max, limits.queue_bytes_max);
    if (!is_taken) ++dropped;
  }
  for (auto& writer : writers) {
    if (writer) pump(*writer, step);
  }
  pump_posts(step);
  if (dropped != 0) report(Report::Kind::kUnreachable, fmt::format("{} messages, for want of room", dropped), step);
}

// ---- streams

LinkId State::attached(StreamKind kind, Step step) {
  auto& slot = writers[static_cast<size_t>(kind)];
  if (slot) {
    step.out.emplace_back(Close{slot->id});
    writer_ended(static_cast<size_t>(kind), Ending::kEnded, "the peer has dialled it again", step);
  }
  slot.emplace();
  slot->id = new_id();
  slot->kind = kind;
  if (CAIRN_MUTANT("peer.stream_state_kept")) slot->encoder = ended_encoder;
  slot->progress_ns = step.now_ns;
  slot->heartbeat_at_ns = step.now_ns + options.limits.heartbeat_ns;
  activate(step);
  return slot->id;
}

void State::writer_ended(size_t kind, Ending ending, std::string_view detail, Step step) {
  const bool had_work = writers[kind]->has_work();
  if (kind == kMsgAppAt) ended_encoder = writers[kind]->encoder;
  writers[kind].reset();
  if (ending == Ending::kFailed) deactivate(std::string(detail), step);
  if (had_work) report(Report::Kind::kUnreachable, std::string(detail), step);
  report(Report::Kind::kStreamCut, std::string(detail), step);
}

void State::drained(size_t kind, uint64_t bytes, Step step) {
  Writer& writer = *writers[kind];
  CAIRN_ASSERT(bytes <= writer.undrained_bytes);
  writer.undrained_bytes -= bytes;
  writer.progress_ns = step.now_ns;
  pump(writer, step);
}

void State::pump(Writer& writer, Step step) {
  Pieces bytes;
  while (!writer.queue.empty() && writer.undrained_bytes + bytes.size() < options.limits.window_bytes) {
    const raft::Message message = writer.queue.pop();
    if (writer.kind == StreamKind::kMsgApp) {
      writer.encoder.append(bytes, message);
    } else {
      append_framed_message(bytes, message);
    }
  }
  if (bytes.empty()) return;
  if (writer.undrained_bytes == 0) writer.progress_ns = step.now_ns;
  writer.undrained_bytes += bytes.size();
  step.out.emplace_back(Write{.id = writer.id, .bytes = std::move(bytes)});
}

// Also on a busy stream: etcd's readers only count bytes, but so its heartbeats come.
void State::heartbeat(Writer& writer, Step step) {
  Pieces bytes;
  if (writer.kind == StreamKind::kMsgApp) {
    MsgAppV2Encoder::append_heartbeat(bytes);
  } else {
    append_message_heartbeat(bytes);
  }
  if (writer.undrained_bytes == 0) writer.progress_ns = step.now_ns;
  writer.undrained_bytes += bytes.size();
  writer.heartbeat_at_ns = step.now_ns + options.limits.heartbeat_ns;
  step.out.emplace_back(Write{.id = writer.id, .bytes = std::move(bytes)});
}

void State::writers_on_time(Step step) {
  for (size_t kind = 0; kind < kStreamKinds; ++kind) {
    if (!writers[kind]) continue;
    Writer& writer = *writers[kind];
    if (writer.undrained_bytes != 0 && writer.progress_ns + options.limits.write_timeout_ns <= step.now_ns) {
      step.out.emplace_back(Close{writer.id});
      writer_ended(kind, Ending::kFailed, "the peer takes nothing for too long", step);
    } else if (writer.heartbeat_at_ns <= step.now_ns) {
      heartbeat(writer, step);
    }
  }
  std::vector<LinkId> late;
  for (const auto& [id, request] : posts) {
    if (request.deadline_ns <= step.now_ns) late.push_back(id);
  }
  for (const LinkId id : late) {
    step.out.emplace_back(Close{id});
    posted(id, no_answer_in_time(), step);
  }
}

// ---- requests

void State::pump_posts(Step step) {
  while (!post_queue.empty() && posts.size() < options.limits.posts_max) {
    const raft::Message message = post_queue.pop();
    const bool is_counted = message.type == raft::MessageType::kProp && message.forward;
    Pieces body;
    append_message(body, message);
    const LinkId id = new_id();
    posts[id] = {.url = urls.pick(),
                 .deadline_ns = step.now_ns + options.connect_timeout_ns + options.limits.post_timeout_ns,
                 .is_counted = is_counted};
    step.out.emplace_back(Post{.id = id,
                               .url = urls.pick(),
                               .path = std::string(is_counted ? kForwardPath : kPostPath),
                               .headers = headers("application/protobuf"),
                               .body = std::move(body),
                               .connect_timeout_ns = options.connect_timeout_ns});
  }
}

void State::send_snapshot(raft::Message message, Step step) {
  if (snapshot) {
    report(Report::Kind::kUnreachable, "a snapshot while another is under way", step);
    report(Report::Kind::kSnapshotFailed, "another is under way", step);
    return;
  }
  Pieces prefix;
  append_framed_message(prefix, message);
  const LinkId id = new_id();
  snapshot = {id, Request{.url = urls.pick()}};
  step.out.emplace_back(PostSnapshot{.id = id,
                                     .url = urls.pick(),
                                     .path = std::string(kSnapshotPath),
                                     .headers = headers("application/octet-stream"),
                                     .prefix = prefix.flat(),
                                     .message = std::move(message),
                                     .connect_timeout_ns = options.connect_timeout_ns});
}

void State::posted(LinkId id, const Answer& answer, Step step) {
  if (snapshot && snapshot->first == id) {
    const Request request = std::exchange(snapshot, std::nullopt)->second;
    return answered_snapshot(request, answer, step);
  }
  const auto found = posts.find(id);
  if (found == posts.end()) return;
  const Request request = std::move(found->second);
  posts.erase(found);
  answered_post(request, answer, step);
  pump_posts(step);
}

// A POST succeeds with 204 alone, as for etcd.
void State::answered_post(const Request& request, const Answer& answer, Step step) {
  if (answer.kind == Answer::Kind::kAnswered) peer_answers();
  if (answer.kind == Answer::Kind::kAnswered && answer.status == 204) return activate(step);
  if (request.is_counted && answer.kind == Answer::Kind::kAnswered && answer.status == 404) {
    return report(Report::Kind::kUnreachable, "an etcd has come to its address", step);
  }
  urls.failed(request.url);
  std::string detail = answer.detail;
  if (answer.kind == Answer::Kind::kAnswered) {
    detail = fmt::format("a POST is answered with status {}", answer.status);
    if (answer.status == 403) complain(Report::Kind::kRemoved, "the peer answers 403 to a POST", step);
    if (answer.status == 412) complain_of_412(answer, step);
  }
  deactivate(detail, step);
  report(Report::Kind::kUnreachable, std::move(detail), step);
}

void State::answered_snapshot(const Request& request, const Answer& answer, Step step) {
  const bool is_delivered = answer.kind == Answer::Kind::kAnswered && answer.status == 204;
  answered_post(request, answer, step);
  report(is_delivered ? Report::Kind::kSnapshotDelivered : Report::Kind::kSnapshotFailed, answer.detail, step);
}

}  // namespace cairn::peer
