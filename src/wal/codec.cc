#include "wal/codec.h"

#include "base/wire.h"

namespace cairn::wal {
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
  if (record.conf_state) wire::append_bytes_field(out, 3, *record.conf_state);
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
      case 3: record.conf_state = in.bytes(); break;
      default: return std::nullopt;
    }
  }
  if (!in.ok()) return std::nullopt;
  return record;
}

}  // namespace cairn::wal
