#include "mvcc/watch/hub.h"

#include <algorithm>
#include <utility>

#include <boost/unordered/unordered_flat_set.hpp>

#include "base/check.h"

namespace cairn::mvcc {

// Small, and so is Watcher: there may be as many of both as clients like.
struct WatchGroup {
  uint64_t number;
  const OwnedInterval& interval;  // the map's
  const bool no_put;
  const bool no_delete;
  const bool prev_kv;
  uint32_t watchers = 0;  // in any state
  WatcherList live;
  // Events that are found and not sent. Only a few groups have some at a time.
  struct Found {
    SharedBatch batch = std::make_shared<WatchBatch>();
    // How the batch was before the revision that is read, for when that one has to be left to a scan.
    int64_t marked_at = 0;  // that revision
    WatchBatch::Mark mark;
    int64_t left_at = 0;  // not 0: from this revision on its watchers are left to a scan
  };
  std::unique_ptr<Found> found;      // null: none; else the group is in the list of those to flush
  std::unique_ptr<WatchGroup> next;  // of the same interval

  [[nodiscard]] WatchTarget target() const { return {interval, no_put, no_delete, prev_kv}; }
  [[nodiscard]] bool wants(bool tombstone) const { return tombstone ? !no_delete : !no_put; }
};

namespace {

bool is_slow(Watcher::State state) {
  return state == Watcher::State::kBehind || state == Watcher::State::kScanning || state == Watcher::State::kBlocked;
}

}  // namespace

WatchHub::WatchHub(uint64_t secret) : WatchHub(Limits{}, secret) {}
WatchHub::WatchHub(const Limits& limits, uint64_t secret) : limits_(limits), secret_(secret), groups_(secret) {}
WatchHub::~WatchHub() { CAIRN_ASSERT(watcher_count_ == 0); }

// --- watchers

WatchGroup& WatchHub::group_of(const WatchTarget& target) {
  auto& [interval, first] = groups_.entry(target.interval);
  for (WatchGroup* group = first.get(); group != nullptr; group = group->next.get()) {
    if (group->no_put == target.no_put && group->no_delete == target.no_delete && group->prev_kv == target.prev_kv) {
      return *group;
    }
  }
  first = std::make_unique<WatchGroup>(++group_count_, interval, target.no_put, target.no_delete, target.prev_kv, 0,
                                       WatcherList{}, nullptr, std::move(first));
  return *first;
}

void WatchHub::leave_group(WatchGroup& group) {
  if (--group.watchers > 0) return;
  CAIRN_ASSERT(group.found == nullptr);
  auto& [interval, first] = groups_.entry(group.interval);
  std::unique_ptr<WatchGroup>* link = &first;
  while (link->get() != &group) link = &(*link)->next;
  *link = std::move(group.next);
  if (first == nullptr) groups_.erase(OwnedInterval(interval));
}

void WatchHub::set_state(Watcher& watcher, Watcher::State state) {
  const auto count = [this, &watcher](bool add) {
    const size_t by = add ? 1 : static_cast<size_t>(-1);
    if (watcher.state_ == Watcher::State::kLive) {
      live_count_ += by;
      watcher.stream_.live_ += by;
    }
    if (is_slow(watcher.state_)) slow_count_ += by;
  };
  count(false);
  watcher.state_ = state;
  count(true);
}

// Into the state that fits next_.
void WatchHub::place(Watcher& watcher) {
  if (watcher.is_linked()) watcher.unlink();
  if (watcher.next_ > seen_ + 1) {
    set_state(watcher, Watcher::State::kFuture);
    future_[watcher.next_].push_back(watcher);
  } else if (watcher.next_ == seen_ + 1) {
    set_state(watcher, Watcher::State::kLive);
    watcher.group_.live.push_back(watcher);
  } else if (watcher.stream_.has_room()) {
    set_state(watcher, Watcher::State::kBehind);
    (watcher.is_long_ ? long_ : behind_).push_back(watcher);
  } else {
    block(watcher);
  }
}

// As place(), of one that may be live from the next revision on.
void WatchHub::begin(Watcher& watcher) {
  place(watcher);
  if (watcher.state_ != Watcher::State::kLive) return;
  WatchStream& stream = watcher.stream_;
  if (std::exchange(stream.begins_at_, watcher.next_) != watcher.next_) stream.beginning_ = 0;
  ++stream.beginning_;
}

void WatchHub::block(Watcher& watcher) {
  if (watcher.is_linked()) watcher.unlink();
  set_state(watcher, Watcher::State::kBlocked);
  watcher.stream_.blocked_.push_back(watcher);
}

Result<Watcher*> WatchHub::add(WatchStream& stream, Wanted wanted) {
  const OwnedInterval& interval = wanted.target.interval;
  if (!interval.single() && !interval.to_end() && interval.low() >= interval.high()) {
    return fail(Code::kInvalidArgument, "mvcc: watcher range is empty");
  }
  if (wanted.id == 0) {
    while (stream.watchers_.contains(stream.next_id_)) ++stream.next_id_;
    wanted.id = stream.next_id_++;
  } else if (stream.watchers_.contains(wanted.id)) {
    return fail(Code::kInvalidArgument, "mvcc: duplicate watch ID provided on the WatchStream");
  }
  WatchGroup& group = group_of(wanted.target);
  ++group.watchers;
  auto made = std::unique_ptr<Watcher>(new Watcher(stream, wanted.id, group));
  Watcher& watcher = *made;
  stream.watchers_.emplace(wanted.id, std::move(made));
  ++watcher_count_;
  ++slow_count_;  // as what is made is behind
  watcher.next_ =
      wanted.start == 0 ? seen_ + (CAIRN_MUTANT("watch.batch_skipped_at_registration") ? 2 : 1) : wanted.start;
  if (wanted.start == 0) {
    place(watcher);
    watcher.next_ = 0;  // it has begun
  } else {
    begin(watcher);
  }
  return &watcher;
}

// Out of all lists and counts; the stream still owns it.
void WatchHub::detach(Watcher& watcher) {
  const bool is_future = watcher.state_ == Watcher::State::kFuture;
  if (watcher.state_ == Watcher::State::kLive && watcher.next_ > seen_) --watcher.stream_.beginning_;
  set_state(watcher, Watcher::State::kCompacted);  // in no count
  if (watcher.is_linked()) watcher.unlink();
  if (is_future && future_.at(watcher.next_).empty()) future_.erase(watcher.next_);
  --watcher_count_;
  leave_group(watcher.group_);
}

bool WatchHub::remove(WatchStream& stream, int64_t id) {
  const auto found = stream.watchers_.find(id);
  if (found == stream.watchers_.end()) return false;
  detach(*found->second);
  stream.watchers_.erase(found);
  return true;
}

// In one pass: looking for the first watcher that is left takes longer the fewer there are.
void WatchHub::remove_all(WatchStream& stream) {
  for (const auto& [id, watcher] : stream.watchers_) detach(*watcher);
  stream.watchers_.clear();
  stream.unlink();
}

void WatchHub::unblock(WatchStream& stream) {
  if (!stream.blocked_.empty() && !stream.is_linked()) ready_.push_back(stream);
}

void WatchHub::tell_compacted(Watcher& watcher) {
  watcher.unlink();
  set_state(watcher, Watcher::State::kCompacted);
  watcher.stream_.on_compacted(watcher, compact_revision_);
}

// --- live events

Status WatchHub::advance(const StoreView& view, bool careful) {
  compact_revision_ = view.compact_revision;
  sends_ = visits_ = 0;
  while (seen_ < view.revision) {
    begin_future();
    int64_t to = view.revision;
    if (!future_.empty()) to = std::min(to, future_.begin()->first - 1);
    const bool is_history = view.revision - seen_ > limits_.live_revisions_max || seen_ < view.records.file_revision ||
                            visits_ > limits_.visits_max;
    if (live_count_ > 0 && is_history) {
      leave_to_scans();
    } else if (live_count_ > 0) {
      CAIRN_CHECK(distribute(view, to, careful));
    }
    seen_ = to;
  }
  begin_future();
  return {};
}

void WatchHub::begin_future() {
  while (!future_.empty() && future_.begin()->first <= seen_ + 1) {
    WatcherList& begun = future_.begin()->second;
    while (!begun.empty()) begin(begun.front());
    future_.erase(future_.begin());
  }
}

// All that is live is behind from here on. Costs as much as there are watchers; comes when this thread stood still, or
// when as much was looked at for a few changes.
void WatchHub::leave_to_scans() {
  groups_.each([this](const std::unique_ptr<WatchGroup>& first) {
    for (WatchGroup* group = first.get(); group != nullptr; group = group->next.get())
      leave_to_scans(*group, seen_ + 1);
  });
}

void WatchHub::leave_to_scans(WatchGroup& group, int64_t next) {
  while (!group.live.empty()) leave_to_scans(group.live.front(), next);
}

// A live one: what comes from `next` on is left to a scan.
void WatchHub::leave_to_scans(Watcher& watcher, int64_t next) {
  watcher.unlink();
  watcher.next_ = next;
  set_state(watcher, Watcher::State::kBehind);
  behind_.push_back(watcher);
}

// compat: events of revisions that are published together come in one response, etcd sends one each.
// Up to `to`, which becomes less when too much was looked at.
Status WatchHub::distribute(const StoreView& view, int64_t& to, bool careful) {
  int64_t at = 0;
  Status given;
  const Status visited = visit_records(view, seen_ + 1, to, [&](const WatchedRecord& record) {
    if (at != 0 && record.revision.main != at) {
      end_revision();
      if (visits_ > limits_.visits_max) {
        to = at;
        return false;
      }
    } else if (at != 0 && (visits_ > limits_.visits_max || dirty_bytes_ > limits_.revision_bytes_max)) {
      take_back(at);
      to = at - 1;
      return false;
    }
    at = record.revision.main;
    given = give(view, record, careful);
    return given.has_value();
  });
  flush_all();
  CAIRN_CHECK(visited);
  return given;
}

// A revision is too long to be read here: all of it is left to scans.
void WatchHub::take_back(int64_t revision) {
  for (const WatchGroup* const group : dirty_) {
    if (group->found->marked_at == revision) group->found->left_at = revision;
  }
  visits_ = limits_.visits_max + 1;
}

Status WatchHub::give(const StoreView& view, const WatchedRecord& record, bool careful) {
  const auto kv = decode_key_value(record.record);
  if (!kv) return fail(Code::kDataLoss, "mvcc: damaged record at revision {}", record.revision.main);
  std::optional<Result<std::string_view>> previous;
  bool must_wait = false;
  const auto find_previous = [&] {
    const PreviousState state = previous_state(view, record, *kv);
    must_wait = state.known && careful && !view.records.resident(state.mod);
    previous = state.known && !must_wait ? view.records.record(state.mod) : std::string_view{};
  };
  groups_.at(kv->key, [&](const std::unique_ptr<WatchGroup>& first) {
    for (WatchGroup* at = first.get(); at != nullptr; at = at->next.get()) {
      WatchGroup& group = *at;
      ++visits_;
      if (group.live.empty() || !group.wants(record.tombstone)) continue;
      if (group.found != nullptr && group.found->left_at != 0) continue;
      const bool is_too_much = sends_ >= limits_.sends_max;
      if (is_too_much && group.found == nullptr) {
        leave_to_scans(group, record.revision.main);
        continue;
      }
      if (group.prev_kv && !previous && !is_too_much) find_previous();
      if (group.prev_kv && !is_too_much && !*previous) continue;
      if (group.found == nullptr) {
        group.found = std::make_unique<WatchGroup::Found>();
        dirty_.push_back(&group);
      }
      WatchGroup::Found& found = *group.found;
      WatchBatch& batch = *found.batch;
      const size_t before = batch.events.size();
      if (std::exchange(found.marked_at, record.revision.main) != record.revision.main) found.mark = batch.mark();
      if (is_too_much || (group.prev_kv && must_wait)) {
        found.left_at = record.revision.main;
        continue;
      }
      ++sends_;
      append_event(batch, record, group.prev_kv ? **previous : std::string_view{});
      dirty_bytes_ += batch.events.size() - before;
    }
  });
  if (previous && !*previous) return std::unexpected(previous->error());
  return {};
}

// A main revision is whole.
void WatchHub::end_revision() {
  if (dirty_bytes_ >= limits_.round_bytes_max) return flush_all();
  if (dirty_bytes_ < limits_.batch_bytes_max) return;
  std::erase_if(dirty_, [this](WatchGroup* group) {
    const uint64_t bytes = group->found->batch->events.size();
    if (bytes < limits_.batch_bytes_max) return false;
    dirty_bytes_ -= bytes;
    flush(*group);
    return true;
  });
}

void WatchHub::flush_all() {
  for (WatchGroup* const group : dirty_) flush(*group);
  dirty_.clear();
  dirty_bytes_ = 0;
}

// Sends the group's events; those of a revision that is left to a scan come with that one.
void WatchHub::flush(WatchGroup& group) {
  const std::unique_ptr<WatchGroup::Found> found = std::move(group.found);
  const SharedBatch& batch = found->batch;
  const int64_t left_at = found->left_at;
  if (left_at != 0) batch->cut(found->mark);
  for (auto at = group.live.begin(); at != group.live.end();) {
    Watcher& watcher = *at++;
    if (batch->count > 0 && sends_ >= limits_.sends_max) {
      leave_to_scans(watcher, batch->first);
    } else if (batch->count > 0 && !send(watcher, batch, batch->last)) {
      watcher.next_ = batch->first;
      block(watcher);
    } else if (left_at != 0) {
      leave_to_scans(watcher, left_at);
    }
  }
}

bool WatchHub::send(const Watcher& watcher, const SharedBatch& batch, int64_t revision) {
  WatchStream& stream = watcher.stream_;
  if (stream.has_room()) {
    ++sends_;
    if (stream.send(watcher, batch, revision)) return true;
  }
  stream.unlink();  // unblock() comes again
  return false;
}

// --- history

// Some watchers of the streams that take events again are behind from here on.
void WatchHub::take_ready() {
  for (size_t left = limits_.scan_watchers_max; left > 0 && !ready_.empty(); --left) {
    WatchStream& stream = ready_.front();
    if (stream.blocked_.empty() || !stream.has_room()) {
      ready_.pop_front();
    } else {
      place(stream.blocked_.front());
    }
  }
}

std::optional<WatchScan> WatchHub::take_scan() {
  if (is_scanning_) return std::nullopt;
  take_ready();
  took_long_ = !long_.empty() && (!took_long_ || (behind_.empty() && unreached_.empty()));
  WatcherList& from = took_long_ ? long_ : unreached_.empty() ? behind_ : unreached_;
  const size_t cohorts_max = took_long_ ? limits_.long_cohorts_max : limits_.cohorts_max;
  WatchScan scan;
  scan.secret = secret_;
  boost::unordered_flat_set<const WatchStream*> served;
  boost::unordered_flat_set<std::pair<uint64_t, int64_t>> known;
  int64_t first = 0;
  size_t left = limits_.scan_watchers_max;
  for (auto at = from.begin(); at != from.end() && left > 0 && scan.cohorts.size() < cohorts_max; --left) {
    Watcher& watcher = *at++;
    if (watcher.next_ < compact_revision_) {
      tell_compacted(watcher);
      continue;
    }
    if (!watcher.stream_.has_room()) {
      block(watcher);
      continue;
    }
    // After a long batch a stream has no room for another.
    if (took_long_ && !served.insert(&watcher.stream_).second) continue;
    if (scan.cohorts.empty()) first = watcher.next_;
    if (watcher.next_ < first || watcher.next_ - first > limits_.scan_revisions_max) continue;
    if (known.emplace(watcher.group_.number, watcher.next_).second) {
      scan.cohorts.push_back({watcher.group_.number, watcher.group_.target(), watcher.next_});
    }
    watcher.unlink();
    set_state(watcher, Watcher::State::kScanning);
    scanning_.push_back(watcher);
  }
  if (scan.cohorts.empty()) return std::nullopt;
  is_scanning_ = true;
  return scan;
}

void WatchHub::finish_scan(const WatchScan& scan, const WatchScanned& found) {
  CAIRN_ASSERT(is_scanning_ && found.revision <= seen_);
  is_scanning_ = false;
  compact_revision_ = std::max(compact_revision_, found.compact_revision);
  boost::unordered_flat_map<std::pair<uint64_t, int64_t>, const WatchScanned::Part*> parts;
  for (size_t i = 0; i < scan.cohorts.size(); ++i) {
    parts.emplace(std::pair(scan.cohorts[i].group, scan.cohorts[i].next), &found.parts[i]);
  }
  while (!scanning_.empty()) {
    Watcher& watcher = scanning_.front();
    if (watcher.next_ < found.compact_revision) {
      tell_compacted(watcher);
      continue;
    }
    const WatchScanned::Part& part = *parts.at({watcher.group_.number, watcher.next_});
    if (part.batch != nullptr && !send(watcher, part.batch, seen_)) {
      block(watcher);
      continue;
    }
    const int64_t next = part.reached + (CAIRN_MUTANT("watch.duplicate_after_catch_up") ? 0 : 1);
    const bool is_unreached = std::exchange(watcher.next_, next) == next && !part.is_long;
    if (!is_unreached) watcher.is_long_ = part.is_long;
    place(watcher);
    if (watcher.state_ == Watcher::State::kLive) watcher.next_ = 0;
    if (is_unreached && !watcher.is_long_ && watcher.state_ == Watcher::State::kBehind) {
      watcher.unlink();
      unreached_.push_back(watcher);
    }
  }
}

void WatchHub::abandon_scan() {
  is_scanning_ = false;
  while (!scanning_.empty()) place(scanning_.front());
}

bool WatchHub::is_synced(const WatchStream& stream) const {
  if (CAIRN_MUTANT("watch.progress_ahead_of_events")) return true;
  return stream.live_ == stream.size() && (seen_ >= stream.begins_at_ || stream.beginning_ == 0);
}

}  // namespace cairn::mvcc
