#include "wal/codec.h"

#include "base/wire.h"

namespace cairn::wal {
namespace {

void append_ids(std::string& out, uint32_t field, const std::vector<NodeId>& ids) {
  for (const NodeId id : ids) wire::append_varint_field(out, field, id.value);
}

// A repeated number: proto2 writes it unpacked; packed must be read as well.
bool read_ids(wire::Reader& in, std::vector<NodeId>& ids) {
  if (in.type() == wire::Type::kVarint) {
    ids.emplace_back(in.varint());
    return in.ok();
  }
  const std::string_view packed = in.bytes();
  if (!in.ok()) return false;
  uint64_t value = 0;
  unsigned shift = 0;
  for (const char c : packed) {
    const auto byte = static_cast<uint8_t>(c);
    if (shift > 63) return false;
    value |= uint64_t{byte & 0x7fu} << shift;
    shift += 7;
    if ((byte & 0x80) != 0) continue;
    ids.emplace_back(value);
    value = 0;
    shift = 0;
  }
  return shift == 0;
}

}  // namespace

char* put_entry_head(char* to, const Entry& entry) {
  to = wire::put_varint_field(to, 1, entry.type);
  to = wire::put_varint_field(to, 2, entry.term.value);
  to = wire::put_varint_field(to, 3, entry.index.value);
  if (!entry.data.empty()) {
    to = wire::put_varint(to, wire::tag(4, wire::Type::kBytes));
    to = wire::put_varint(to, entry.data.size());
  }
  return to;
}

std::string encode_metadata(const Metadata& metadata) {
  std::string out;
  wire::append_varint_field(out, 1, metadata.node_id.value);
  wire::append_varint_field(out, 2, metadata.cluster_id);
  return out;
}

std::string encode_hard_state(const HardState& state) {
  std::string out;
  wire::append_varint_field(out, 1, state.term.value);
  wire::append_varint_field(out, 2, state.vote.value);
  wire::append_varint_field(out, 3, state.commit.value);
  return out;
}

std::string encode_snapshot_record(const SnapshotRecord& record) {
  std::string out;
  wire::append_varint_field(out, 1, record.index.value);
  wire::append_varint_field(out, 2, record.term.value);
  if (record.conf_state) wire::append_bytes_field(out, 3, encode_conf_state(*record.conf_state));
  return out;
}

std::string encode_conf_state(const ConfState& state) {
  std::string out;
  append_ids(out, 1, state.voters);
  append_ids(out, 2, state.learners);
  append_ids(out, 3, state.voters_outgoing);
  append_ids(out, 4, state.learners_next);
  wire::append_varint_field(out, 5, state.auto_leave ? 1 : 0);
  return out;
}

std::optional<Entry> decode_entry(std::string_view bytes) {
  wire::Reader in(bytes);
  Entry entry;
  while (in.next()) {
    switch (in.field()) {
      case 1: {
        const uint64_t type = in.varint();
        if (type > 2) return std::nullopt;
        entry.type = static_cast<uint8_t>(type);
        break;
      }
      case 2: entry.term = Term(in.varint()); break;
      case 3: entry.index = Index(in.varint()); break;
      case 4: entry.data = in.bytes(); break;
      default: return std::nullopt;
    }
  }
  if (!in.ok()) return std::nullopt;
  return entry;
}

std::optional<Metadata> decode_metadata(std::string_view bytes) {
  wire::Reader in(bytes);
  Metadata metadata;
  while (in.next()) {
    switch (in.field()) {
      case 1: metadata.node_id = NodeId(in.varint()); break;
      case 2: metadata.cluster_id = in.varint(); break;
      default: break;
    }
  }
  if (!in.ok()) return std::nullopt;
  return metadata;
}

std::optional<HardState> decode_hard_state(std::string_view bytes) {
  wire::Reader in(bytes);
  HardState state;
  while (in.next()) {
    switch (in.field()) {
      case 1: state.term = Term(in.varint()); break;
      case 2: state.vote = NodeId(in.varint()); break;
      case 3: state.commit = Index(in.varint()); break;
      default: return std::nullopt;
    }
  }
  if (!in.ok()) return std::nullopt;
  return state;
}

std::optional<SnapshotRecord> decode_snapshot_record(std::string_view bytes) {
  wire::Reader in(bytes);
  SnapshotRecord record;
  while (in.next()) {
    switch (in.field()) {
      case 1: record.index = Index(in.varint()); break;
      case 2: record.term = Term(in.varint()); break;
      case 3: {
        const std::string_view inner = in.bytes();
        if (!in.ok()) return std::nullopt;
        record.conf_state = decode_conf_state(inner);
        if (!record.conf_state) return std::nullopt;
        break;
      }
      default: return std::nullopt;
    }
  }
  if (!in.ok()) return std::nullopt;
  return record;
}

std::optional<ConfState> decode_conf_state(std::string_view bytes) {
  wire::Reader in(bytes);
  ConfState state;
  while (in.next()) {
    bool ok = true;
    switch (in.field()) {
      case 1: ok = read_ids(in, state.voters); break;
      case 2: ok = read_ids(in, state.learners); break;
      case 3: ok = read_ids(in, state.voters_outgoing); break;
      case 4: ok = read_ids(in, state.learners_next); break;
      case 5: state.auto_leave = in.boolean(); break;
      default: break;
    }
    if (!ok) return std::nullopt;
  }
  if (!in.ok()) return std::nullopt;
  return state;
}

}  // namespace cairn::wal
