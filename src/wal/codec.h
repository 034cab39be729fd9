// wal/codec.h: the messages inside records, by hand.
//
// Writing follows etcd 3.4 to 3.6, which all versions read: every scalar is written, also 0, and an entry's data unless
// it is empty. Reading takes missing fields as 0. It refuses unknown fields, because the checksum does not cover a
// record's type and a record of one type must not pass for another.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "wal/types.h"

namespace cairn::wal {

inline constexpr size_t kEntryHeadBytesMax = 40;

// Everything of an entry but the bytes of its data; returns the end. `to` has room for kEntryHeadBytesMax.
char* put_entry_head(char* to, const Entry& entry);

[[nodiscard]] std::string encode_metadata(const Metadata& metadata);
[[nodiscard]] std::string encode_hard_state(const HardState& state);
[[nodiscard]] std::string encode_snapshot_record(const SnapshotRecord& record);

// nullopt: not such a message. Metadata skips unknown fields.
[[nodiscard]] std::optional<Entry> decode_entry(std::string_view bytes);  // data is a view of `bytes`
[[nodiscard]] std::optional<Metadata> decode_metadata(std::string_view bytes);
[[nodiscard]] std::optional<HardState> decode_hard_state(std::string_view bytes);
[[nodiscard]] std::optional<SnapshotRecord> decode_snapshot_record(std::string_view bytes);

}  // namespace cairn::wal
