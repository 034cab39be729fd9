#include "sim/history/mutations.h"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>
#include <vector>

#include "base/errors.h"
#include "sim/history/answers.h"
#include "sim/history/replay.h"
#include "sim/history/watch_check.h"

namespace cairn::sim {
namespace {

bool is_answered(const ClientOperation& one) { return one.outcome == Outcome::kAnswered && one.code == Code::kOk; }
bool is_read(const ClientOperation& one) { return is_answered(one) && path_of(one.rpc, one.request) == Path::kRead; }
int64_t revision_of(const ClientOperation& one) { return split_answer(one.response)->header.revision(); }

// Another header in front of the rest of a response.
std::string with_header(const std::string& response, std::optional<int64_t> revision, std::optional<uint64_t> member) {
  const auto answer = split_answer(response);
  etcdserverpb::RangeResponse header;  // a header is field 1 of all responses
  *header.mutable_header() = answer->header;
  if (revision) header.mutable_header()->set_revision(*revision);
  if (member) header.mutable_header()->set_member_id(*member);
  return header.SerializeAsString() + std::string(answer->rest);
}

// One of those for which `suits` holds.
template <class List, class Suits>
std::optional<size_t> pick(const List& list, Random& chance, Suits suits) {
  std::vector<size_t> able;
  for (size_t i = 0; i < list.size(); ++i) {
    if (suits(list[i])) able.push_back(i);
  }
  if (able.empty()) return std::nullopt;
  return able[chance.below(able.size())];
}
std::optional<size_t> pick_put(const History& history, Random& chance) {
  return pick(history.operations, chance,
              [](const ClientOperation& one) { return one.rpc == Rpc::kPut && is_answered(one); });
}

// The newest revision that somebody had been told before `time_ns`.
int64_t seen_before(const History& history, int64_t time_ns) {
  int64_t seen = 1;
  for (const ClientOperation& one : history.operations) {
    if (is_answered(one) && one.return_ns && *one.return_ns < time_ns) seen = std::max(seen, revision_of(one));
  }
  return seen;
}
// The oldest revision that an acknowledged put made which was called after `time_ns`.
std::optional<int64_t> made_after(const History& history, int64_t time_ns) {
  std::optional<int64_t> made;
  for (const ClientOperation& one : history.operations) {
    if (one.rpc != Rpc::kPut || !is_answered(one) || one.call_ns <= time_ns) continue;
    made = std::min(made.value_or(INT64_MAX), revision_of(one));
  }
  return made;
}

// --- operations

// The right answer of another revision.
bool answer_at(History& history, size_t i, int64_t revision) {
  Replay replay(history);
  for (const LogEntry& entry : history.log) static_cast<void>(replay.apply(entry));
  ClientOperation& one = history.operations[i];
  if (revision > replay.revision()) return false;
  one.response = with_header(read(replay.model(), one.rpc, one.request, revision).response, revision, one.member.value);
  return true;
}
bool reads_newest(const ClientOperation& one) {
  etcdserverpb::RangeRequest request;
  return is_read(one) && (one.rpc != Rpc::kRange || (request.ParseFromString(one.request) && request.revision() == 0));
}
bool stale_read(History& history, Random& chance) {
  const auto i = pick(history.operations, chance, [&](const ClientOperation& one) {
    return reads_newest(one) && seen_before(history, one.call_ns) > 1;
  });
  if (!i) return false;
  const int64_t seen = seen_before(history, history.operations[*i].call_ns);
  return answer_at(history, *i, 1 + static_cast<int64_t>(chance.below(static_cast<uint64_t>(seen - 1))));
}
bool future_read(History& history, Random& chance) {
  const auto i = pick(history.operations, chance, [&](const ClientOperation& one) {
    return reads_newest(one) && made_after(history, *one.return_ns).has_value();
  });
  return i && answer_at(history, *i, *made_after(history, *history.operations[*i].return_ns));
}
bool future_serializable_read(History& history, Random& chance) {
  const auto i = pick(history.operations, chance, [&](const ClientOperation& one) {
    etcdserverpb::RangeRequest request;
    return is_answered(one) && one.rpc == Rpc::kRange && request.ParseFromString(one.request) &&
           request.serializable() && request.revision() == 0 && made_after(history, *one.return_ns).has_value();
  });
  return i && answer_at(history, *i, *made_after(history, *history.operations[*i].return_ns));
}
bool wrong_value(History& history, Random& chance) {
  const auto i = pick(history.operations, chance, [](const ClientOperation& one) {
    etcdserverpb::RangeResponse response;
    return one.rpc == Rpc::kRange && is_answered(one) && response.ParseFromString(one.response) &&
           response.kvs_size() > 0;
  });
  if (!i) return false;
  etcdserverpb::RangeResponse response;
  response.ParseFromString(history.operations[*i].response);
  response.mutable_kvs(0)->set_value(response.kvs(0).value() + "x");
  history.operations[*i].response = response.SerializeAsString();
  return true;
}
bool revisions_swapped(History& history, Random& chance) {
  const auto a = pick_put(history, chance);
  const auto b = pick_put(history, chance);
  if (!a || !b || *a == *b) return false;
  ClientOperation& one = history.operations[*a];
  ClientOperation& other = history.operations[*b];
  const std::string kept = one.response;
  one.response = with_header(one.response, revision_of(other), std::nullopt);
  other.response = with_header(other.response, revision_of(ClientOperation{.response = kept}), std::nullopt);
  return true;
}
bool revision_of_another(History& history, Random& chance) {
  const auto a = pick_put(history, chance);
  const auto b = pick_put(history, chance);
  if (!a || !b || *a == *b) return false;
  ClientOperation& one = history.operations[*a];
  one.response = with_header(one.response, revision_of(history.operations[*b]), std::nullopt);
  return true;
}
bool another_member(History& history, Random& chance) {
  const auto i = pick(history.operations, chance, [](const ClientOperation& one) {
    return is_answered(one) && one.member.value != 0 && split_answer(one.response)->header.member_id() != 0;
  });
  if (!i) return false;
  ClientOperation& one = history.operations[*i];
  one.response = with_header(one.response, std::nullopt, one.member.value + 1);
  return true;
}
bool failed_txn_moved(History& history, Random& chance) {
  const auto i = pick(history.operations, chance, [&](const ClientOperation& one) {
    etcdserverpb::TxnResponse response;
    return one.rpc == Rpc::kTxn && is_answered(one) && path_of(one.rpc, one.request) == Path::kLog &&
           response.ParseFromString(one.response) && !response.succeeded() && seen_before(history, one.call_ns) > 1;
  });
  if (!i) return false;
  ClientOperation& one = history.operations[*i];
  one.response = with_header(one.response, seen_before(history, one.call_ns) - 1, std::nullopt);
  return true;
}
bool wrong_count(History& history, Random& chance) {
  const auto i = pick(history.operations, chance,
                      [](const ClientOperation& one) { return one.rpc == Rpc::kDeleteRange && is_answered(one); });
  if (!i) return false;
  etcdserverpb::DeleteRangeResponse response;
  response.ParseFromString(history.operations[*i].response);
  response.set_deleted(response.deleted() + 1);
  history.operations[*i].response = response.SerializeAsString();
  return true;
}
bool acknowledged_and_lost(History& history, Random& chance) {
  const auto i = pick_put(history, chance);
  if (!i) return false;
  ClientOperation lost = history.operations[*i];
  lost.client += 1'000'000;
  lost.request_id += uint64_t{1'000'000} << 32;
  etcdserverpb::PutRequest request;
  request.ParseFromString(lost.request);
  request.set_value("lost");
  request.set_ignore_value(false);
  lost.request = request.SerializeAsString();
  lost.call_ns += 1;
  history.operations.push_back(std::move(lost));
  return true;
}
bool refused_and_applied(History& history, Random& chance) {
  const auto i = pick_put(history, chance);
  if (!i) return false;
  ClientOperation& one = history.operations[*i];
  one.outcome = Outcome::kRefused;
  one.code = errors::request_too_many_requests().code;
  one.response = errors::request_too_many_requests().message;
  return true;
}
bool wrong_error(History& history, Random& chance) {
  const auto i = pick_put(history, chance);
  if (!i) return false;
  ClientOperation& one = history.operations[*i];
  one.code = errors::key_not_found().code;
  one.response = errors::key_not_found().message;
  return true;
}
// Called when a later one had been answered.
bool out_of_time(History& history, Random& chance) {
  const auto i = pick(history.operations, chance, [&](const ClientOperation& one) {
    return one.rpc == Rpc::kPut && is_answered(one) &&
           std::any_of(history.operations.begin(), history.operations.end(), [&](const ClientOperation& other) {
             return is_answered(other) && other.return_ns && revision_of(other) > revision_of(one);
           });
  });
  if (!i) return false;
  ClientOperation& one = history.operations[*i];
  const auto later = pick(history.operations, chance, [&](const ClientOperation& other) {
    return is_answered(other) && other.return_ns && revision_of(other) > revision_of(one) &&
           path_of(other.rpc, other.request) != Path::kSerializable;
  });
  if (!later) return false;
  one.client += 1'000'000;
  one.call_ns = *history.operations[*later].return_ns + 1;
  one.return_ns = one.call_ns + 1;
  return true;
}
// Of unknown outcome, and seen before it was called.
bool applied_before_call(History& history, Random& chance) {
  const auto i = pick_put(history, chance);
  if (!i) return false;
  const int64_t revision = revision_of(history.operations[*i]);
  ClientOperation& one = history.operations[*i];
  const auto seen = pick(history.operations, chance, [&](const ClientOperation& other) {
    return &other != &one && is_answered(other) && other.return_ns && revision_of(other) >= revision;
  });
  if (!seen) return false;
  one.client += 1'000'000;
  one.call_ns = *history.operations[*seen].return_ns + 1;
  one.return_ns.reset();
  one.outcome = Outcome::kUnknown;
  one.response.clear();
  return true;
}
bool read_of_the_compacted(History& history, Random& chance) {
  const auto i = pick(history.operations, chance,
                      [](const ClientOperation& one) { return one.rpc == Rpc::kCompact && is_answered(one); });
  if (!i) return false;
  etcdserverpb::CompactionRequest compaction;
  compaction.ParseFromString(history.operations[*i].request);
  if (compaction.revision() < 2) return false;
  etcdserverpb::RangeRequest range;
  range.set_key("k0");
  range.set_revision(compaction.revision() - 1);
  int64_t end = 0;
  for (const ClientOperation& one : history.operations) end = std::max({end, one.call_ns, one.return_ns.value_or(0)});
  ClientOperation read{.client = 999, .rpc = Rpc::kRange, .request = range.SerializeAsString(), .call_ns = end + 1};
  read.return_ns = end + 2;
  read.outcome = Outcome::kAnswered;
  history.operations.push_back(std::move(read));
  return answer_at(history, history.operations.size() - 1, seen_before(history, end + 1));
}

// --- the log

bool applied_twice(History& history, Random& chance) {
  const auto i = pick(history.log, chance, [&](const LogEntry& one) { return one.request_id != 0; });
  if (!i) return false;
  LogEntry copy = history.log[*i];
  copy.index = Index(history.log.size() + 1);
  copy.term = history.log.back().term;
  history.log.push_back(std::move(copy));
  return true;
}
bool entry_of_nobody(History& history, Random& /*chance*/) {
  etcdserverpb::InternalRaftRequest request;
  request.mutable_header()->set_id(77);
  request.mutable_put()->set_key("k0");
  request.mutable_put()->set_value("of nobody");
  const Term term = history.log.empty() ? Term(1) : history.log.back().term;
  history.log.push_back({.index = Index(history.log.size() + 1), .term = term, .bytes = request.SerializeAsString()});
  return true;
}
bool entry_lost(History& history, Random& chance) {
  const auto i = pick_put(history, chance);
  if (!i) return false;
  const auto at = std::find_if(history.log.begin(), history.log.end(), [&](const LogEntry& one) {
    return one.request_id != 0 && one.request_id == history.operations[*i].request_id;
  });
  if (at == history.log.end()) return false;
  const auto place = history.log.erase(at);
  for (auto later = place; later != history.log.end(); ++later) later->index = later->index - 1;
  return true;
}
bool entries_swapped(History& history, Random& chance) {
  const auto is_put = [&](const LogEntry& entry) {
    return std::any_of(history.operations.begin(), history.operations.end(), [&](const ClientOperation& one) {
      return one.rpc == Rpc::kPut && is_answered(one) && one.request_id == entry.request_id;
    });
  };
  const auto a = pick(history.log, chance, is_put);
  const auto b = pick(history.log, chance, is_put);
  if (!a || !b || *a == *b) return false;
  std::swap(history.log[*a].bytes, history.log[*b].bytes);
  std::swap(history.log[*a].request_id, history.log[*b].request_id);
  return true;
}

// --- watches

struct Place {
  size_t watch = 0;
  size_t response = 0;
};
// A response with events, of a watch that is no witness; of more than `events_min` events, with another after it.
std::optional<Place> pick_response(const History& history, Random& chance, int events_min, bool has_next) {
  std::vector<Place> able;
  for (size_t w = 1; w < history.watches.size(); ++w) {
    const Watch& watch = history.watches[w];
    for (size_t r = 0; r < watch.responses.size(); ++r) {
      etcdserverpb::WatchResponse response;
      response.ParseFromString(watch.responses[r].bytes);
      if (response.events_size() < events_min) continue;
      if (has_next) {
        etcdserverpb::WatchResponse next;
        if (r + 1 >= watch.responses.size()) continue;
        next.ParseFromString(watch.responses[r + 1].bytes);
        if (next.events().empty()) continue;
      }
      able.push_back({w, r});
    }
  }
  if (able.empty()) return std::nullopt;
  return able[chance.below(able.size())];
}
template <class Change>
bool change_response(History& history, const std::optional<Place>& place, Change change) {
  if (!place) return false;
  std::string& bytes = history.watches[place->watch].responses[place->response].bytes;
  etcdserverpb::WatchResponse response;
  response.ParseFromString(bytes);
  if (!change(response)) return false;
  bytes = response.SerializeAsString();
  return true;
}

bool event_skipped(History& history, Random& chance) {
  const auto place = pick_response(history, chance, 1, true);
  if (!place) return false;
  auto& responses = history.watches[place->watch].responses;
  responses.erase(responses.begin() + static_cast<std::ptrdiff_t>(place->response));
  return true;
}
bool event_doubled(History& history, Random& chance) {
  const auto place = pick_response(history, chance, 1, false);
  if (!place) return false;
  auto& responses = history.watches[place->watch].responses;
  const auto at = responses.begin() + static_cast<std::ptrdiff_t>(place->response);
  responses.insert(at + 1, *at);
  return true;
}
bool events_reordered(History& history, Random& chance) {
  return change_response(history, pick_response(history, chance, 2, false), [](etcdserverpb::WatchResponse& response) {
    const int last = response.events_size() - 1;
    if (response.events(0).kv().mod_revision() == response.events(last).kv().mod_revision()) return false;
    response.mutable_events()->SwapElements(0, last);
    return true;
  });
}
bool revision_split(History& history, Random& chance) {
  std::vector<Place> able;
  for (size_t w = 1; w < history.watches.size(); ++w) {
    for (size_t r = 0; r < history.watches[w].responses.size(); ++r) {
      etcdserverpb::WatchResponse response;
      response.ParseFromString(history.watches[w].responses[r].bytes);
      const int count = response.events_size();
      if (count > 1 &&
          response.events(count - 1).kv().mod_revision() == response.events(count - 2).kv().mod_revision()) {
        able.push_back({w, r});
      }
    }
  }
  if (able.empty()) return false;
  const Place place = able[chance.below(able.size())];
  auto& responses = history.watches[place.watch].responses;
  etcdserverpb::WatchResponse response;
  response.ParseFromString(responses[place.response].bytes);
  etcdserverpb::WatchResponse second = response;
  second.mutable_events()->DeleteSubrange(0, response.events_size() - 1);
  response.mutable_events()->RemoveLast();
  responses[place.response].bytes = response.SerializeAsString();
  const Watch::Response more{responses[place.response].time_ns, second.SerializeAsString()};
  responses.insert(responses.begin() + static_cast<std::ptrdiff_t>(place.response) + 1, more);
  return true;
}
bool wrong_event(History& history, Random& chance) {
  return change_response(history, pick_response(history, chance, 1, false), [](etcdserverpb::WatchResponse& response) {
    auto* const kv = response.mutable_events(response.events_size() - 1)->mutable_kv();
    if (response.events().rbegin()->type() == mvccpb::Event::DELETE) return false;
    kv->set_value(kv->value() + "x");
    return true;
  });
}
bool wrong_previous(History& history, Random& chance) {
  return change_response(history, pick_response(history, chance, 1, false), [](etcdserverpb::WatchResponse& response) {
    for (auto& event : *response.mutable_events()) {
      if (!event.has_prev_kv()) continue;
      event.mutable_prev_kv()->set_value(event.prev_kv().value() + "x");
      return true;
    }
    return false;
  });
}
bool event_of_another_key(History& history, Random& chance) {
  return change_response(history, pick_response(history, chance, 1, false), [](etcdserverpb::WatchResponse& response) {
    response.mutable_events(0)->mutable_kv()->set_key("z");
    return true;
  });
}
// Before the first response with events comes the promise that they had come.
bool progress_too_early(History& history, Random& chance) {
  const auto place = pick_response(history, chance, 1, false);
  if (!place) return false;
  auto& responses = history.watches[place->watch].responses;
  etcdserverpb::WatchResponse response;
  response.ParseFromString(responses[place->response].bytes);
  etcdserverpb::WatchResponse progress;
  progress.mutable_header()->set_revision(response.events(0).kv().mod_revision());
  const Watch::Response early{responses[place->response].time_ns, progress.SerializeAsString()};
  responses.insert(responses.begin() + static_cast<std::ptrdiff_t>(place->response), early);
  return true;
}
// An event was shown before somebody asked for it.
bool event_before_its_call(History& history, Random& chance) {
  const auto i = pick_put(history, chance);
  if (!i) return false;
  const int64_t revision = revision_of(history.operations[*i]);
  for (Watch& watch : history.watches) {
    for (Watch::Response& one : watch.responses) {
      etcdserverpb::WatchResponse response;
      response.ParseFromString(one.bytes);
      if (response.events().empty() || response.events().rbegin()->kv().mod_revision() < revision) continue;
      if (one.time_ns >= history.operations[*i].call_ns) one.time_ns = history.operations[*i].call_ns - 1;
      return true;
    }
  }
  return false;
}

constexpr std::array kMutations = {
    Mutation{"stale read", stale_read, true, false, true},
    Mutation{"read of the future", future_read, true, false, true},
    Mutation{"serializable read of the future", future_serializable_read, true, false, false},
    Mutation{"wrong value", wrong_value, false, false, true},
    Mutation{"revisions swapped", revisions_swapped, false, false, true},
    Mutation{"revision of another write", revision_of_another, false, false, true},
    Mutation{"answer of another member", another_member, false, false, false},
    Mutation{"failed transaction at the wrong revision", failed_txn_moved, false, false, true},
    Mutation{"wrong count", wrong_count, false, false, true},
    Mutation{"acknowledged and lost", acknowledged_and_lost, false, false, true},
    Mutation{"refused and applied", refused_and_applied, false, false, false},
    Mutation{"wrong error", wrong_error, true, false, false},
    Mutation{"out of time", out_of_time, false, false, true},
    Mutation{"applied before its call", applied_before_call, false, false, true},
    Mutation{"read of a compacted revision", read_of_the_compacted, true, false, false},
    Mutation{"applied twice", applied_twice, true, false, false},
    Mutation{"entry of nobody", entry_of_nobody, true, false, false},
    Mutation{"entry lost", entry_lost, true, false, false},
    Mutation{"entries swapped", entries_swapped, true, false, false},
    Mutation{"events skipped", event_skipped, false, true, true},
    Mutation{"events doubled", event_doubled, false, true, true},
    Mutation{"events reordered", events_reordered, false, true, true},
    Mutation{"revision split", revision_split, false, true, true},
    Mutation{"wrong event", wrong_event, false, true, true},
    Mutation{"wrong prev_kv", wrong_previous, false, true, true},
    Mutation{"event of another key", event_of_another_key, false, true, true},
    Mutation{"progress too early", progress_too_early, false, true, true},
    Mutation{"event before its call", event_before_its_call, false, true, false},
};

}  // namespace

std::span<const Mutation> mutations() { return kMutations; }

}  // namespace cairn::sim
