#include "mvcc/watch/event.h"

#include "base/check.h"
#include "base/wire.h"

namespace cairn::mvcc {
namespace {

constexpr uint32_t kEventsField = 11;
constexpr uint32_t kModRevisionField = 3;

}  // namespace

PreviousState previous_state(const StoreView& view, const WatchedRecord& event, const KeyValue& kv) {
  if (!event.tombstone && kv.create_revision == kv.mod_revision) return {};
  const int64_t before = event.revision.main - 1;
  if (before < view.compact_revision || before <= 0) return {};
  const auto found = view.root.find(kv.key, CAIRN_MUTANT("watch.prev_kv_of_wrong_revision") ? before + 1 : before);
  return found ? PreviousState{true, found->mod} : PreviousState{};
}

void append_event(WatchBatch& batch, const WatchedRecord& event, std::string_view previous) {
  const auto main = static_cast<uint64_t>(event.revision.main);
  size_t kv_bytes = event.record.size();
  if (event.tombstone) kv_bytes += wire::varint_field_size(kModRevisionField, main);
  size_t size = wire::bytes_field_size(2, kv_bytes);
  if (event.tombstone) size += wire::varint_field_size(1, 1);
  if (!previous.empty()) size += wire::bytes_field_size(3, previous.size());

  std::string& out = batch.events;
  wire::append_varint(out, wire::tag(kEventsField, wire::Type::kBytes));
  wire::append_varint(out, size);
  if (event.tombstone) wire::append_varint_field(out, 1, 1);
  wire::append_varint(out, wire::tag(2, wire::Type::kBytes));
  wire::append_varint(out, kv_bytes);
  out.append(event.record);
  if (event.tombstone) wire::append_varint_field(out, kModRevisionField, main);
  wire::append_bytes_if(out, 3, previous);

  if (batch.count++ == 0) batch.first = event.revision.main;
  if (batch.last != event.revision.main) ++batch.revisions;
  batch.last = event.revision.main;
}

// As etcd's sendFragments: an event goes to the next part when it would take a part that has one to the maximum.
std::vector<std::string_view> split_events(std::string_view events, size_t other_bytes, size_t message_bytes_max) {
  std::vector<std::string_view> parts;
  wire::Reader in(events);
  size_t begin = 0;
  size_t end = 0;
  while (in.next()) {
    const size_t next = end + wire::bytes_field_size(kEventsField, in.bytes().size());
    if (end > begin && other_bytes + next - begin >= message_bytes_max) {
      parts.push_back(events.substr(begin, end - begin));
      begin = end;
    }
    end = next;
  }
  CAIRN_ASSERT(in.ok() && end == events.size());
  parts.push_back(events.substr(begin));
  return parts;
}

}  // namespace cairn::mvcc
