#include "sim/history/watch_check.h"

#include <algorithm>
#include <optional>
#include <unordered_map>

#include "sim/history/answers.h"

namespace cairn::sim {
namespace {

using etcdserverpb::WatchCreateRequest;
using etcdserverpb::WatchResponse;

mvccpb::KeyValue key_value(const Model::Record& record) {
  mvccpb::KeyValue kv;
  kv.ParseFromString(record.bytes);
  if (record.dead) kv.set_mod_revision(record.revision.main);
  return kv;
}

bool is_record(const mvccpb::KeyValue& kv, const Model::Record& record) {
  return kv.SerializeAsString() == (record.dead ? key_value(record).SerializeAsString() : record.bytes);
}

class Checker {
 public:
  Checker(const Events& events, int64_t compacted, WatchCreateRequest request)
      : events_(events), compacted_(compacted), request_(std::move(request)) {
    for (const int filter : request_.filters()) {
      if (filter == WatchCreateRequest::NOPUT) no_put_ = true;
      if (filter == WatchCreateRequest::NODELETE) no_delete_ = true;
    }
    if (request_.start_revision() > 0) start(request_.start_revision());
  }

  void take(int64_t time_ns, const WatchResponse& response) {
    if (has_ended_) return fail("a response after the watch was cancelled");
    if (response.canceled()) return take_cancel(response);
    if (response.created()) {
      // A watch from now on begins behind the revision that it is told.
      if (!has_begun_) start(response.header().revision() + 1);
      return;
    }
    if (response.events().empty()) return take_progress(time_ns, response.header().revision());
    take_events(time_ns, response);
  }
  WatchReport report() {
    report_.next = next_;
    return std::move(report_);
  }

 private:
  void start(int64_t revision) {
    has_begun_ = true;
    next_ = revision;
    at_ = events_.first_of(revision);
  }
  // A watch from now on that was never told where it began.
  void begin_at_latest(int64_t revision) {
    if (!has_begun_) start(revision);
  }

  void take_cancel(const WatchResponse& response) {
    has_ended_ = true;
    const int64_t revision = response.compact_revision();
    if (revision == 0) return;
    if (revision > compacted_) {
      return fail(fmt::format("cancelled for a compaction at {}, and the last one was at {}", revision, compacted_));
    }
    if (has_begun_ && next_ >= revision) {
      fail(fmt::format("cancelled for the compaction at {}, and it had all below {}", revision, next_));
    }
  }
  void take_progress(int64_t time_ns, int64_t revision) {
    report_.sightings.push_back({time_ns, revision});
    begin_at_latest(revision + 1);
    if (const auto* const event = wanted(); event != nullptr && event->record->revision.main <= revision) {
      return fail(fmt::format("not bookmarkable: progress {} came before the event of revision {}, {}", revision,
                              event->record->revision.main, key_value(*event->record).ShortDebugString()));
    }
    next_ = std::max(next_, revision + 1);
  }
  void take_events(int64_t time_ns, const WatchResponse& response) {
    begin_at_latest(response.events(0).kv().mod_revision());
    for (const auto& event : response.events()) take_event(event);
    if (!report_.failure.empty()) return;
    const int64_t last = response.events().rbegin()->kv().mod_revision();
    const auto* const more = wanted();
    if (more != nullptr && more->record->revision.main == last) {
      return fail(fmt::format("not atomic: revision {} is split over two responses", last));
    }
    if (response.header().revision() < last) {
      return fail(fmt::format("a header of revision {} over an event of {}", response.header().revision(), last));
    }
    next_ = last + 1;
    report_.sightings.push_back({time_ns, response.header().revision()});
  }
  void take_event(const mvccpb::Event& event) {
    if (!report_.failure.empty()) return;
    ++report_.events;
    const int64_t revision = event.kv().mod_revision();
    if (revision < next_) {
      const char* const why =
          revision < request_.start_revision() ? "from before its start" : "not ordered, or not unique";
      return fail(fmt::format("{}: the event of revision {} came when all below {} had come: {}", why, revision, next_,
                              event.ShortDebugString()));
    }
    const Events::Event* const expected = wanted();
    if (expected == nullptr) {
      return fail("an event that did not happen, or that it did not ask for: " + event.ShortDebugString());
    }
    const bool is_delete = event.type() == mvccpb::Event::DELETE;
    if (is_delete != expected->record->dead || !is_record(event.kv(), *expected->record)) {
      const int64_t due = expected->record->revision.main;
      return fail(fmt::format("{}: the next event is {}{} and it got {}",
                              revision > due ? "not reliable, an event is missing" : "a wrong event",
                              expected->record->dead ? "the delete " : "",
                              key_value(*expected->record).ShortDebugString(), event.ShortDebugString()));
    }
    check_previous(event, *expected);
    ++at_;
  }
  void check_previous(const mvccpb::Event& event, const Events::Event& expected) {
    if (!event.has_prev_kv()) {
      const bool may_lack =
          !request_.prev_kv() || expected.previous == nullptr || expected.record->revision.main - 1 < compacted_;
      if (!may_lack) fail("prev_kv is missing: " + event.ShortDebugString());
      return;
    }
    if (!request_.prev_kv()) return fail("a prev_kv that nobody asked for: " + event.ShortDebugString());
    if (expected.previous == nullptr) return fail("a prev_kv where there was no value: " + event.ShortDebugString());
    if (!is_record(event.prev_kv(), *expected.previous)) {
      fail(fmt::format("a wrong prev_kv: it was {} in {}", key_value(*expected.previous).ShortDebugString(),
                       event.ShortDebugString()));
    }
  }

  // The next event that the watcher must have; null: none.
  const Events::Event* wanted() {
    for (; at_ < events_.all().size(); ++at_) {
      const Events::Event& event = events_.all()[at_];
      if (event.record->dead ? no_delete_ : no_put_) continue;
      if (!inside(*event.record->key, request_.key(), request_.range_end())) continue;
      if (!may_be_gone()) return &event;
    }
    return nullptr;
  }
  // A change that a later one of its own transaction replaced goes with the compaction of that very revision; a watcher
  // that begins there is not cancelled, in etcd neither, and misses it.
  [[nodiscard]] bool may_be_gone() const {
    const Model::Record& record = *events_.all()[at_].record;
    if (record.revision.main > compacted_) return false;
    for (size_t i = at_ + 1; i < events_.all().size(); ++i) {
      const Model::Record& later = *events_.all()[i].record;
      if (later.revision.main != record.revision.main) return false;
      if (*later.key == *record.key) return true;
    }
    return false;
  }
  void fail(std::string what) {
    if (report_.failure.empty()) report_.failure = std::move(what);
  }

  const Events& events_;
  int64_t compacted_;
  WatchCreateRequest request_;
  bool no_put_ = false;
  bool no_delete_ = false;
  bool has_begun_ = false;
  bool has_ended_ = false;
  int64_t next_ = 0;
  size_t at_ = 0;  // in the events
  WatchReport report_;
};

}  // namespace

Events::Events(const Model& model) {
  std::unordered_map<std::string_view, const Model::Record*> alive;  // before the transaction
  const auto& records = model.records();
  all_.reserve(records.size());
  for (size_t i = 0; i < records.size();) {
    size_t end = i;
    for (; end < records.size() && records[end].revision.main == records[i].revision.main; ++end) {
      const Model::Record& record = records[end];
      const auto at = alive.find(*record.key);
      const Model::Record* previous = at == alive.end() ? nullptr : at->second;
      if (!record.dead && previous != nullptr) {
        mvccpb::KeyValue kv;
        kv.ParseFromString(record.bytes);
        if (kv.create_revision() == kv.mod_revision()) previous = nullptr;
      }
      all_.push_back({&record, previous});
    }
    for (; i < end; ++i) alive[*records[i].key] = records[i].dead ? nullptr : &records[i];
  }
}

size_t Events::first_of(int64_t revision) const {
  const auto at = std::partition_point(all_.begin(), all_.end(),
                                       [&](const Event& event) { return event.record->revision.main < revision; });
  return static_cast<size_t>(at - all_.begin());
}

WatchReport check_watch(const Watch& watch, const Events& events, int64_t compacted) {
  WatchCreateRequest request;
  if (!request.ParseFromString(watch.request)) return {.failure = "the request is no WatchCreateRequest"};
  Checker checker(events, compacted, std::move(request));
  WatchResponse whole;  // so far: pieces of one response are judged together
  for (const Watch::Response& one : watch.responses) {
    WatchResponse response;
    if (!response.ParseFromString(one.bytes)) return {.failure = "a response that cannot be read"};
    const bool has_more = response.fragment();
    whole.MergeFrom(response);
    if (has_more) continue;
    checker.take(one.time_ns, whole);
    whole.Clear();
  }
  return checker.report();
}

std::string describe(const Watch& watch) {
  WatchCreateRequest request;
  request.ParseFromString(watch.request);
  std::string out = fmt::format("client {}", watch.client);
  if (watch.member.value != 0) out += fmt::format(" at member {:x}", watch.member.value);
  return out + fmt::format(": watch {{{}}} called {}", request.ShortDebugString(), watch.call_ns);
}

}  // namespace cairn::sim
