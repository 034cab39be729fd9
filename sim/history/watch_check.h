// sim/history/watch_check.h: etcd's guarantees for one watcher, held against all events that there were.
//
// Ordered, unique, reliable: the events are those that the watcher wants, one after the other, from its start on.
// Atomic: a response ends behind a whole main revision. Bookmarkable: what a progress response promises has been sent.
// Resumable: a watch that begins where another ended is held against the same events. Filters, prev_kv and
// create_revision are right. mvcc/watch/test_watch_checker.h checks the same for the hubs of one member, without a
// history of responses.
//
// Source: etcd's documentation, "Watch APIs guarantees"; its robustness tests.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "proto/rpc.pb.h"
#include "sim/history/history.h"
#include "sim/model.h"

namespace cairn::sim {

// All events in order.
class Events {
 public:
  struct Event {
    const Model::Record* record = nullptr;
    const Model::Record* previous = nullptr;  // what prev_kv shows; null: there was none, or the event created the key
  };
  explicit Events(const Model& model);

  [[nodiscard]] const std::vector<Event>& all() const { return all_; }
  [[nodiscard]] size_t first_of(int64_t revision) const;  // where the events of `revision` and later begin

 private:
  std::vector<Event> all_;
};

// Something of `revision` was seen: it had happened by then.
struct Sighting {
  int64_t time_ns = 0;
  int64_t revision = 0;
};

struct WatchReport {
  std::string failure;  // "": none
  uint64_t events = 0;
  int64_t next = 0;  // the revision after the last that the watcher has had
  std::vector<Sighting> sightings;
};

// `compacted`: what was compacted when the history ended.
[[nodiscard]] WatchReport check_watch(const Watch& watch, const Events& events, int64_t compacted);

// "client 3 at member 2: watch of [a, b) from 5"
[[nodiscard]] std::string describe(const Watch& watch);

}  // namespace cairn::sim
