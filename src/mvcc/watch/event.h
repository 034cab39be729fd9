// mvcc/watch/event.h: watch events as they are sent: WatchResponse.events, encoded once for all who get them.
//
//     WatchResponse:  header 1 | watch_id 2 | ... | events 11, 11, 11 ...
//     Event:          type 1 (1: DELETE) | kv 2 | prev_kv 3
//
// A put's `kv` is the stored record. A delete's is the stored record, which holds the key, with its mod_revision.
//
// Source: proto/rpc.proto, proto/kv.proto; etcd's kvsToEvents and serverWatchStream.sendLoop.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "mvcc/kv/view.h"
#include "mvcc/watch/interval_map.h"

namespace cairn::mvcc {

// What watchers have in common that get the same bytes.
struct WatchTarget {
  OwnedInterval interval;
  bool no_put = false;
  bool no_delete = false;
  bool prev_kv = false;
  friend bool operator==(const WatchTarget&, const WatchTarget&) = default;

  [[nodiscard]] bool wants(bool tombstone) const { return tombstone ? !no_delete : !no_put; }
};

// Events of one target, in order; whole main revisions.
struct WatchBatch {
  std::string events;      // fields 11
  uint64_t count = 0;      // of events
  uint64_t revisions = 0;  // distinct ones
  int64_t first = 0;       // main revisions
  int64_t last = 0;
  std::shared_ptr<void> note;  // the sender's own: lives as long as the batch

  // How long it was before a revision that may have to be taken out again.
  struct Mark {
    size_t bytes = 0;
    uint64_t count = 0;
    uint64_t revisions = 0;
    int64_t last = 0;
  };
  [[nodiscard]] Mark mark() const { return {events.size(), count, revisions, last}; }
  void cut(const Mark& to) {
    events.resize(to.bytes);
    count = to.count;
    revisions = to.revisions;
    last = to.last;
  }
};
using SharedBatch = std::shared_ptr<WatchBatch>;

// One stored record that is an event.
struct WatchedRecord {
  Revision revision;
  bool tombstone = false;
  std::string_view record;
};

// Where the previous state of a key lies; nullopt: the event created the key, or the state is compacted.
struct PreviousState {
  bool known = false;
  Revision mod;
};
[[nodiscard]] PreviousState previous_state(const StoreView& view, const WatchedRecord& event, const KeyValue& kv);

// Adds one event. `previous`: the record before it; "": none is sent.
void append_event(WatchBatch& batch, const WatchedRecord& event, std::string_view previous);

// Cuts `events` into parts, each as long as a message may be that has `other_bytes` of other fields and must stay below
// `message_bytes_max`; a part has at least one event.
[[nodiscard]] std::vector<std::string_view> split_events(std::string_view events, size_t other_bytes,
                                                         size_t message_bytes_max);

}  // namespace cairn::mvcc
