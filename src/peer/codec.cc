#include "peer/codec.h"

#include <algorithm>
#include <limits>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/wire.h"
#include "raft/conf_change.h"

namespace cairn::peer {
namespace {

using raft::Message;
using raft::MessageType;

constexpr uint32_t kForwardField = 1000;

constexpr size_t kEntryHeadBytesMax = 48;

char* put_entry_head(char* to, const raft::Entry& entry) {
  to = wire::put_varint_field(to, 1, static_cast<uint64_t>(entry.type));
  to = wire::put_varint_field(to, 2, entry.term.value);
  to = wire::put_varint_field(to, 3, entry.index.value);
  if (!entry.bytes().empty()) {
    to = wire::put_varint(to, wire::tag(4, wire::Type::kBytes));
    to = wire::put_varint(to, entry.bytes().size());
  }
  return to;
}

std::string encode_snapshot_metadata(const raft::Snapshot& snapshot) {
  std::string out;
  wire::append_bytes_field(out, 1, raft::encode(snapshot.conf));
  wire::append_varint_field(out, 2, snapshot.index.value);
  wire::append_varint_field(out, 3, snapshot.term.value);
  return out;
}

std::string encode_forward(const raft::ForwardTag& forward) {
  std::string out;
  wire::append_varint_field(out, 1, forward.origin.value);
  wire::append_varint_field(out, 2, forward.epoch);
  wire::append_varint_field(out, 3, forward.term.value);
  wire::append_varint_field(out, 4, forward.sequence);
  wire::append_varint_if(out, 5, forward.is_conf_change ? 1 : 0);
  wire::append_varint_if(out, 6, forward.is_refused ? 1 : 0);
  return out;
}

// Everything around entries and snapshot.
struct Frame {
  std::string head;    // before the entries
  std::string middle;  // commit, and the snapshot up to its data
  std::string_view snapshot_data;
  std::string tail;
};

Frame frame_of(const Message& message) {
  Frame frame;
  wire::append_varint_field(frame.head, 1, static_cast<uint64_t>(message.type));
  wire::append_varint_field(frame.head, 2, message.to.value);
  wire::append_varint_field(frame.head, 3, message.from.value);
  wire::append_varint_field(frame.head, 4, message.term.value);
  wire::append_varint_field(frame.head, 5, message.log_term.value);
  wire::append_varint_field(frame.head, 6, message.index.value);
  wire::append_varint_field(frame.middle, 8, message.commit.value);
  if (message.snapshot) {
    const std::string metadata = encode_snapshot_metadata(*message.snapshot);
    frame.snapshot_data = message.snapshot->data;
    const size_t data_size = frame.snapshot_data.empty() ? 0 : wire::bytes_field_size(1, frame.snapshot_data.size());
    wire::append_varint(frame.middle, wire::tag(9, wire::Type::kBytes));
    wire::append_varint(frame.middle, data_size + wire::bytes_field_size(2, metadata.size()));
    if (data_size != 0) {
      wire::append_varint(frame.middle, wire::tag(1, wire::Type::kBytes));
      wire::append_varint(frame.middle, frame.snapshot_data.size());
    }
    wire::append_bytes_field(frame.tail, 2, metadata);
  }
  wire::append_varint_field(frame.tail, 10, message.reject ? 1 : 0);
  wire::append_varint_field(frame.tail, 11, message.reject_hint.value);
  wire::append_bytes_if(frame.tail, 12, message.context);
  wire::append_varint_field(frame.tail, 13, 0);  // vote: of messages that stay in the process
  if (message.forward) wire::append_bytes_field(frame.tail, kForwardField, encode_forward(*message.forward));
  return frame;
}

// ---- reading

std::unexpected<Error> bad(std::string_view what) { return fail(Code::kDataLoss, "peer: {}", what); }

// One element, or several packed: readers of protobuf take both.
bool read_members(wire::Reader& in, std::vector<NodeId>& members) {
  if (in.type() == wire::Type::kVarint) {
    members.emplace_back(in.varint());
    return members.size() <= kConfMembersMax;
  }
  std::string_view packed = in.bytes();
  if (!in.ok()) return false;
  while (!packed.empty()) {
    uint64_t value = 0;
    size_t used = 0;
    for (;;) {
      if (used == packed.size() || used == 10) return false;
      const auto byte = static_cast<uint8_t>(packed[used]);
      if (used == 9 && byte > 1) return false;
      value |= uint64_t{byte & 0x7fu} << (7 * used);
      ++used;
      if ((byte & 0x80) == 0) break;
    }
    packed.remove_prefix(used);
    members.emplace_back(value);
    if (members.size() > kConfMembersMax) return false;
  }
  return true;
}

// Ascending. False: one is named twice, or is nobody.
bool sort_members(std::vector<NodeId>& members) {
  std::ranges::sort(members);
  return std::ranges::adjacent_find(members) == members.end() && (members.empty() || members.front() != raft::kNoNode);
}

std::optional<raft::ConfState> decode_conf_state(std::string_view bytes) {
  wire::Reader in(bytes);
  raft::ConfState conf;
  while (in.next()) {
    switch (in.field()) {
      case 1:
        if (!read_members(in, conf.voters)) return std::nullopt;
        break;
      case 2:
        if (!read_members(in, conf.learners)) return std::nullopt;
        break;
      case 3:
        if (!read_members(in, conf.voters_outgoing)) return std::nullopt;
        break;
      case 4:
        if (!read_members(in, conf.learners_next)) return std::nullopt;
        break;
      case 5: conf.auto_leave = in.boolean(); break;
      default: break;
    }
  }
  if (!in.ok() || !sort_members(conf.voters) || !sort_members(conf.learners) || !sort_members(conf.voters_outgoing) ||
      !sort_members(conf.learners_next)) {
    return std::nullopt;
  }
  return conf;
}

Result<raft::SnapshotPtr> decode_snapshot(std::string_view bytes) {
  auto snapshot = std::make_shared<raft::Snapshot>();
  std::string_view metadata;
  wire::Reader in(bytes);
  while (in.next()) {
    switch (in.field()) {
      case 1: snapshot->data = in.bytes(); break;
      case 2: metadata = in.bytes(); break;
      default: break;
    }
  }
  if (!in.ok()) return bad("a snapshot's bytes are no message");
  std::string_view conf_bytes;
  wire::Reader meta(metadata);
  while (meta.next()) {
    switch (meta.field()) {
      case 1: conf_bytes = meta.bytes(); break;
      case 2: snapshot->index = Index(meta.varint()); break;
      case 3: snapshot->term = Term(meta.varint()); break;
      default: break;
    }
  }
  if (!meta.ok()) return bad("a snapshot's metadata is no message");
  std::optional<raft::ConfState> conf = decode_conf_state(conf_bytes);
  if (!conf) return bad("a snapshot's configuration cannot be read");
  snapshot->conf = *std::move(conf);
  if (snapshot->index == Index(0) || snapshot->term == Term(0) || snapshot->conf.voters.empty()) {
    return bad("a snapshot of nothing");
  }
  return raft::SnapshotPtr(std::move(snapshot));
}

std::optional<raft::ForwardTag> decode_forward(std::string_view bytes) {
  wire::Reader in(bytes);
  raft::ForwardTag forward;
  while (in.next()) {
    switch (in.field()) {
      case 1: forward.origin = NodeId(in.varint()); break;
      case 2: forward.epoch = in.varint(); break;
      case 3: forward.term = Term(in.varint()); break;
      case 4: forward.sequence = in.varint(); break;
      case 5: forward.is_conf_change = in.boolean(); break;
      case 6: forward.is_refused = in.boolean(); break;
      default: break;
    }
  }
  if (!in.ok() || forward.origin == raft::kNoNode) return std::nullopt;
  return forward;
}

// What the core takes for granted of a message from another member.
Status check_append(const Message& message) {
  if (message.index.value > std::numeric_limits<uint64_t>::max() - kEntriesMax - 1) return bad("an index without end");
  Index expected = message.index;
  Term term = message.log_term;
  for (const raft::Entry& entry : message.entries) {
    ++expected;
    if (entry.index != expected || entry.term < term || entry.term > message.term || entry.term == Term(0)) {
      return bad(fmt::format("entry {} of term {} behind {} of term {} in an append of term {}", entry.index,
                             entry.term, expected - 1, term, message.term));
    }
    term = entry.term;
  }
  return {};
}

Status check_message(const Message& message) {
  if (message.context.size() > kContextBytesMax) {
    return bad(fmt::format("a context of {} bytes", message.context.size()));
  }
  switch (message.type) {
    case MessageType::kApp: return check_append(message);
    case MessageType::kSnap:
      if (!message.snapshot) return bad("MsgSnap without a snapshot");
      return {};
    case MessageType::kReadIndex:
    case MessageType::kReadIndexResp:
      if (message.entries.size() != 1 || message.entries[0].bytes().size() > kContextBytesMax) {
        return bad("a read index without its context");
      }
      return {};
    default: return {};
  }
}

}  // namespace

size_t entry_size(const raft::Entry& entry) {
  const size_t head = wire::varint_field_size(1, static_cast<uint64_t>(entry.type)) +
                      wire::varint_field_size(2, entry.term.value) + wire::varint_field_size(3, entry.index.value);
  return head + (entry.bytes().empty() ? 0 : wire::bytes_field_size(4, entry.bytes().size()));
}

void append_entry(Pieces& out, const raft::Entry& entry) {
  char head[kEntryHeadBytesMax];
  out.append(std::string_view(head, put_entry_head(head, entry)));
  out.append(entry.data);
}

Result<raft::Entry> decode_entry(std::string_view bytes) {
  wire::Reader in(bytes);
  raft::Entry entry;
  std::string_view data;
  while (in.next()) {
    switch (in.field()) {
      case 1: {
        const uint64_t type = in.varint();
        if (type > 2) return bad(fmt::format("an entry of type {}", type));
        entry.type = static_cast<raft::EntryType>(type);
        break;
      }
      case 2: entry.term = Term(in.varint()); break;
      case 3: entry.index = Index(in.varint()); break;
      case 4: data = in.bytes(); break;
      default: break;
    }
  }
  if (!in.ok()) return bad("an entry's bytes are no message");
  if (!data.empty()) {
    auto payload = std::make_shared<raft::Payload>();
    payload->bytes = data;
    entry.data = std::move(payload);
  }
  return entry;
}

size_t message_size(const Message& message) {
  const Frame frame = frame_of(message);
  size_t size = frame.head.size() + frame.middle.size() + frame.snapshot_data.size() + frame.tail.size();
  for (const raft::Entry& entry : message.entries) size += wire::bytes_field_size(7, entry_size(entry));
  return size;
}

void append_message(Pieces& out, const Message& message) {
  const Frame frame = frame_of(message);
  out.append(frame.head);
  for (const raft::Entry& entry : message.entries) {
    char head[16 + kEntryHeadBytesMax];
    char* to = wire::put_varint(head, wire::tag(7, wire::Type::kBytes));
    to = put_entry_head(wire::put_varint(to, entry_size(entry)), entry);
    out.append(std::string_view(head, to));
    out.append(entry.data);
  }
  out.append(frame.middle);
  out.append(frame.snapshot_data);
  out.append(frame.tail);
}

Result<Message> decode_message(std::string_view bytes) {
  wire::Reader in(bytes);
  Message message;
  uint64_t type = 0;
  std::optional<std::string_view> snapshot;
  while (in.next()) {
    switch (in.field()) {
      case 1: type = in.varint(); break;
      case 2: message.to = NodeId(in.varint()); break;
      case 3: message.from = NodeId(in.varint()); break;
      case 4: message.term = Term(in.varint()); break;
      case 5: message.log_term = Term(in.varint()); break;
      case 6: message.index = Index(in.varint()); break;
      case 7: {
        if (message.entries.size() == kEntriesMax) return bad("too many entries");
        const std::string_view entry_bytes = in.bytes();
        if (!in.ok()) break;
        CAIRN_TRY(raft::Entry entry, decode_entry(entry_bytes));
        message.entries.push_back(std::move(entry));
        break;
      }
      case 8: message.commit = Index(in.varint()); break;
      case 9: snapshot = in.bytes(); break;
      case 10: message.reject = in.boolean(); break;
      case 11: message.reject_hint = Index(in.varint()); break;
      case 12: message.context = in.bytes(); break;
      case kForwardField: {
        message.forward = decode_forward(in.bytes());
        if (!message.forward) return bad("a forwarded proposal's tag cannot be read");
        break;
      }
      default: break;
    }
  }
  if (!in.ok()) return bad("a message's bytes are none");
  if (!raft::is_peer_message(type)) return fail(Code::kUnimplemented, "peer: a message of type {}", type);
  message.type = static_cast<MessageType>(type);
  if (message.type == MessageType::kSnap && snapshot) {
    CAIRN_TRY(message.snapshot, decode_snapshot(*snapshot));
  }
  CAIRN_CHECK(check_message(message));
  return message;
}

}  // namespace cairn::peer
