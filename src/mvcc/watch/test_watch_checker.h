// mvcc/watch/test_watch_checker.h: etcd's guarantees for one watcher, checked against the whole history. For tests and
// the simulator.
//
// Ordered, unique, reliable: the events are those of the history that the watcher wants, one after the other, from its
// start on. Atomic: a response ends behind a whole main revision. Bookmarkable: what a progress response promises has
// been sent. Resumable: a watcher that begins where another ended checks with the same history. prev_kv: is the state
// before, and is only missing when that is compacted.
//
// Source: etcd's documentation of the watch API, "Watch APIs guarantees"; its robustness tests.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "mvcc/watch/event.h"
#include "proto/rpc.pb.h"

namespace cairn::mvcc {

struct HistoryEvent {
  Revision revision;
  bool tombstone = false;
  std::string key;
  std::string record;    // as stored
  std::string previous;  // the record before the transaction; "": there was none, or the event created the key
};
using WatchHistory = std::vector<HistoryEvent>;  // in order

class WatchChecker {
 public:
  // `start`: the first revision to be had.
  WatchChecker(const WatchHistory& history, WatchTarget target, int64_t start)
      : history_(&history), target_(std::move(target)), next_(start) {}

  // Everything below has been had.
  [[nodiscard]] int64_t next() const { return next_; }
  [[nodiscard]] const WatchTarget& target() const { return target_; }
  // The first failure; "": none.
  [[nodiscard]] const std::string& failure() const { return failure_; }

  // A response with the fields `events`. `compacted`: what was compacted at the latest when it was made.
  void on_events(std::string_view events, int64_t header_revision, int64_t compacted) {
    etcdserverpb::WatchResponse response;
    if (!response.ParseFromArray(events.data(), static_cast<int>(events.size())) || response.events().empty()) {
      return fail("a response without events, or one that cannot be read");
    }
    for (const auto& event : response.events()) check(event, compacted);
    if (!failure_.empty()) return;
    const int64_t last = response.events().rbegin()->kv().mod_revision();
    if (const HistoryEvent* const more = wanted(); more != nullptr && more->revision.main == last) {
      fail(fmt::format("revision {} is split", last));
    }
    next_ = last + 1;
    if (header_revision < last) fail(fmt::format("the header says {} and an event {}", header_revision, last));
  }
  // Everything up to `revision` is said to have been sent. `compacted`: as for on_events().
  void on_progress(int64_t revision, int64_t compacted) {
    if (const HistoryEvent* const more = missing(revision, compacted)) {
      return fail(fmt::format("progress {} before the event of {}", revision, more->revision.main));
    }
    next_ = std::max(next_, revision + 1);
  }
  void on_compacted(int64_t compact_revision) {
    if (next_ >= compact_revision) fail(fmt::format("cancelled at {} for {}", next_, compact_revision));
  }
  // Everything up to `revision` must have been had by now.
  void check_complete(int64_t revision, int64_t compacted) {
    if (const HistoryEvent* const more = missing(revision, compacted)) {
      fail(fmt::format("the event of {} has not come", more->revision.main));
    }
  }

 private:
  void check(const mvccpb::Event& event, int64_t compacted) {
    if (!failure_.empty()) return;
    const HistoryEvent* expected = wanted();
    while (expected != nullptr && !is(event, *expected) && may_be_gone(*expected, compacted)) expected = skip();
    if (expected == nullptr) return fail("an event that did not happen:\n" + event.ShortDebugString());
    ++at_;
    if (!is(event, *expected)) {
      return fail("expected " + kv_of(*expected).ShortDebugString() + " and got " + event.ShortDebugString());
    }
    const std::string previous = event.has_prev_kv() ? event.prev_kv().SerializeAsString() : "";
    const bool may_lack = expected->revision.main - 1 < compacted;
    const bool is_right =
        target_.prev_kv ? previous == expected->previous || (may_lack && previous.empty()) : previous.empty();
    if (!is_right) fail("a wrong prev_kv: " + event.ShortDebugString());
  }
  [[nodiscard]] static mvccpb::KeyValue kv_of(const HistoryEvent& event) {
    mvccpb::KeyValue kv;
    kv.ParseFromString(event.record);
    if (event.tombstone) kv.set_mod_revision(event.revision.main);
    return kv;
  }
  [[nodiscard]] static bool is(const mvccpb::Event& event, const HistoryEvent& expected) {
    const bool is_delete = event.type() == mvccpb::Event::DELETE;
    return is_delete == expected.tombstone && event.kv().SerializeAsString() == kv_of(expected).SerializeAsString();
  }
  // A change that a later one of its own transaction replaced goes with the compaction of that very revision; a watcher
  // that begins there is not cancelled, in etcd neither, and misses it.
  [[nodiscard]] bool may_be_gone(const HistoryEvent& event, int64_t compacted) const {
    if (event.revision.main > compacted) return false;
    for (size_t i = at_ + 1; i < history_->size() && (*history_)[i].revision.main == event.revision.main; ++i) {
      if ((*history_)[i].key == event.key) return true;
    }
    return false;
  }
  const HistoryEvent* skip() {
    ++at_;
    return wanted();
  }
  // What must have come when all up to `revision` has; null: nothing.
  const HistoryEvent* missing(int64_t revision, int64_t compacted) {
    const HistoryEvent* more = wanted();
    while (more != nullptr && more->revision.main <= revision && may_be_gone(*more, compacted)) more = skip();
    return more != nullptr && more->revision.main <= revision ? more : nullptr;
  }
  // The next event of the history that the watcher has not had; null: none yet.
  const HistoryEvent* wanted() {
    while (at_ < history_->size()) {
      const HistoryEvent& event = (*history_)[at_];
      if (event.revision.main >= next_ && target_.wants(event.tombstone) && contains(event.key)) return &event;
      ++at_;
    }
    return nullptr;
  }
  [[nodiscard]] bool contains(std::string_view key) const { return target_.interval.view().contains(key); }
  void fail(std::string what) {
    if (failure_.empty()) failure_ = std::move(what);
  }

  const WatchHistory* history_;
  WatchTarget target_;
  int64_t next_;
  size_t at_ = 0;  // in the history
  std::string failure_;
};

}  // namespace cairn::mvcc
