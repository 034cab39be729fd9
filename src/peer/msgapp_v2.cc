#include "peer/msgapp_v2.h"

#include <algorithm>
#include <utility>

#include "base/bytes.h"
#include "base/check.h"
#include "base/release.h"
#include "peer/codec.h"
#include "peer/protocol.h"

namespace cairn::peer {
namespace {

using raft::Message;
using raft::MessageType;

constexpr char kHeartbeat = 0;
constexpr char kAppEntries = 1;
constexpr char kApp = 2;

void append_u64(Pieces& out, uint64_t value) {
  char bytes[sizeof value];
  store_be64(bytes, value);
  out.append(std::string_view(bytes, sizeof bytes));
}
void append_byte(Pieces& out, char byte) { out.append(std::string_view(&byte, 1)); }

std::unexpected<Error> bad(std::string_view what, uint64_t value) {
  return fail(Code::kDataLoss, "peer: {} {}", what, value);
}

// A message of a kind that a later version may know is no damage.
Status deliver(Result<Message> message, std::vector<Message>& out) {
  if (message) {
    if (!is_link_heartbeat(*message)) out.push_back(*std::move(message));
    return {};
  }
  if (message.error().code == Code::kUnimplemented) return {};
  return std::unexpected(std::move(message).error());
}

}  // namespace

void append_framed_message(Pieces& out, const Message& message) {
  append_u64(out, message_size(message));
  append_message(out, message);
}

void append_message_heartbeat(Pieces& out) {
  Message heartbeat;
  heartbeat.type = MessageType::kHeartbeat;
  append_framed_message(out, heartbeat);
}

void MsgAppV2Encoder::append_heartbeat(Pieces& out) { append_byte(out, kHeartbeat); }

void MsgAppV2Encoder::append(Pieces& out, const Message& message) {
  CAIRN_ASSERT(message.type == MessageType::kApp);
  if (index_ == message.index && term_ == message.log_term && message.log_term == message.term) {
    append_byte(out, kAppEntries);
    append_u64(out, message.entries.size());
    for (const raft::Entry& entry : message.entries) {
      append_u64(out, entry_size(entry));
      append_entry(out, entry);
    }
    append_u64(out, message.commit.value);
    index_ += message.entries.size();
    return;
  }
  append_byte(out, kApp);
  append_framed_message(out, message);
  term_ = message.term;
  index_ = message.entries.empty() ? message.index : message.entries.back().index;
}

bool UnitBuffer::take(std::string_view& in, uint64_t bytes, std::string_view& unit) {
  if (std::exchange(given_, false)) release(gathered_);
  if (gathered_.empty() && in.size() >= bytes) {
    unit = in.substr(0, bytes);
    in.remove_prefix(bytes);
    return true;
  }
  const size_t part = static_cast<size_t>(std::min<uint64_t>(bytes - gathered_.size(), in.size()));
  gathered_.append(in.substr(0, part));
  in.remove_prefix(part);
  if (gathered_.size() < bytes) return false;
  unit = gathered_;
  given_ = true;
  return true;
}

Status MessageDecoder::feed(std::string_view bytes, std::vector<Message>& out) {
  std::string_view unit;
  while (unit_.take(bytes, in_body_ ? body_bytes_ : sizeof(uint64_t), unit)) {
    if (in_body_) {
      CAIRN_CHECK(deliver(decode_message(unit), out));
    } else {
      body_bytes_ = load_be64(unit.data());
      if (body_bytes_ > kMessageBytesMax) return bad("a message of bytes", body_bytes_);
    }
    in_body_ = !in_body_;
  }
  return {};
}

uint64_t MsgAppV2Decoder::unit_bytes() const {
  switch (at_) {
    case At::kKind: return 1;
    case At::kEntry:
    case At::kMessage: return body_bytes_;
    default: return sizeof(uint64_t);
  }
}

Status MsgAppV2Decoder::feed(std::string_view bytes, std::vector<Message>& out) {
  std::string_view unit;
  while (unit_.take(bytes, unit_bytes(), unit)) CAIRN_CHECK(step(unit, out));
  return {};
}

void MsgAppV2Decoder::begin_append() {
  append_ = Message{};
  append_.type = MessageType::kApp;
  append_.from = peer_;
  append_.to = self_;
  append_.term = term_;
  append_.log_term = term_;
  append_.index = index_;
  append_bytes_ = 0;
}

Status MsgAppV2Decoder::add_entry(std::string_view bytes) {
  CAIRN_TRY(raft::Entry entry, decode_entry(bytes));
  ++index_;
  // All are of the term of the message before the first: see the encoder.
  if (entry.index != index_ || entry.term != term_) return bad("an entry that does not follow", entry.index.value);
  append_.entries.push_back(std::move(entry));
  return {};
}

// A whole MsgApp, or what else a peer may send in this form.
Status MsgAppV2Decoder::finish(std::string_view bytes, std::vector<Message>& out) {
  Result<Message> message = decode_message(bytes);
  if (message) {
    term_ = message->term;
    index_ = message->entries.empty() ? message->index : message->entries.back().index;
  }
  return deliver(std::move(message), out);
}

Status MsgAppV2Decoder::step(std::string_view unit, std::vector<Message>& out) {
  switch (at_) {
    case At::kKind:
      switch (unit[0]) {
        case kHeartbeat: return {};
        case kAppEntries:
          if (term_ == Term(0)) return bad("a MsgApp that goes on from none, entry", index_.value);
          begin_append();
          at_ = At::kCount;
          return {};
        case kApp: at_ = At::kMessageLength; return {};
        default: return bad("a frame of kind", static_cast<uint8_t>(unit[0]));
      }
    case At::kCount:
      entries_left_ = load_be64(unit.data());
      if (entries_left_ > kEntriesMax) return bad("a MsgApp of entries", entries_left_);
      at_ = entries_left_ == 0 ? At::kCommit : At::kEntryLength;
      return {};
    case At::kEntryLength:
      body_bytes_ = load_be64(unit.data());
      if (body_bytes_ > kMessageBytesMax - append_bytes_) return bad("an entry of bytes", body_bytes_);
      append_bytes_ += body_bytes_;
      at_ = At::kEntry;
      return {};
    case At::kEntry:
      CAIRN_CHECK(add_entry(unit));
      at_ = --entries_left_ == 0 ? At::kCommit : At::kEntryLength;
      return {};
    case At::kCommit:
      append_.commit = Index(load_be64(unit.data()));
      out.push_back(std::exchange(append_, Message{}));
      at_ = At::kKind;
      return {};
    case At::kMessageLength:
      body_bytes_ = load_be64(unit.data());
      if (body_bytes_ > kMessageBytesMax) return bad("a message of bytes", body_bytes_);
      at_ = At::kMessage;
      return {};
    case At::kMessage: at_ = At::kKind; return finish(unit, out);
  }
  return bad("no frame", 0);
}

}  // namespace cairn::peer
