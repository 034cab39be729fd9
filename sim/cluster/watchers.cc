#include "sim/cluster/watchers.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "mvcc/kv/key_value.h"

namespace cairn::sim {
namespace {

constexpr int64_t kMs = 1'000'000;
constexpr int64_t kLoopDelayNs = 100'000;
constexpr int64_t kWayDelayNs = 500'000;
constexpr int64_t kTurnMs = 400;
constexpr int64_t kSettlingTurnMs = 40;

}  // namespace

// One connection at a time, with one watcher.
class ClusterWatchers::Client final : public mvcc::WatchStream {
 public:
  Client(ClusterWatchers& watchers, uint64_t its_number, Random chance)
      : number(its_number), way(watchers.schedule_, chance, kWayDelayNs), watchers_(watchers) {}

  bool has_room() const override {
    if (room == 0) watchers_.coverage_.hit("watchers that stand still");
    return room > 0;
  }
  bool send(const mvcc::Watcher&, const mvcc::SharedBatch& batch, int64_t revision) override {
    if (room == 0) return false;
    --room;
    watchers_.send(*this, watchers_.response_of(*this, revision), batch->events);
    return true;
  }
  void on_compacted(const mvcc::Watcher&, int64_t compact_revision) override {
    etcdserverpb::WatchResponse response = watchers_.response_of(*this, compact_revision);
    response.set_canceled(true);
    response.set_compact_revision(compact_revision);
    watchers_.send(*this, std::move(response));
  }

  const uint64_t number;
  Lane way;  // to it
  uint64_t room = UINT64_MAX;
  std::optional<size_t> place;  // of its member
  int64_t id = 0;               // of its watcher
  uint64_t connections = 0;     // what an earlier one had on its way is lost
  etcdserverpb::WatchCreateRequest request;
  mvcc::WatchTarget target;
  std::optional<size_t> watch;  // where it is recorded; nullopt: this request has not begun yet
  bool has_ended = true;
  int64_t next = 0;      // the first revision that it has not had; 0: from now on
  int64_t progress = 0;  // the newest that it was promised to have all of

 private:
  ClusterWatchers& watchers_;
};

struct ClusterWatchers::Loop {
  Loop(ClusterNode& its_node, Random chance)
      : node(its_node),
        hub({.batch_bytes_max = chance.between(1, 2000),
             .round_bytes_max = chance.between(1, 20'000),
             .live_revisions_max = static_cast<int64_t>(chance.between(1, 200)),
             .sends_max = chance.between(1, 50),
             .visits_max = chance.between(1, 200),
             .cohorts_max = chance.between(1, 10),
             .scan_watchers_max = chance.between(1, 20),
             .scan_revisions_max = static_cast<int64_t>(chance.between(1, 400))},
            chance.next()),
        reader(its_node.member().published().register_thread()),
        worker(its_node.member().published().register_thread()),
        from_core(its_node.schedule(), chance.fork(), kLoopDelayNs),
        to_worker(its_node.schedule(), chance.fork(), kLoopDelayNs * 4),
        from_worker(its_node.schedule(), chance.fork(), kLoopDelayNs),
        told_revision(its_node.member().published().newest().kv.revision) {}

  ClusterNode& node;
  mvcc::WatchHub hub;
  std::unique_ptr<member::PublishedDomain::Reader> reader;
  std::unique_ptr<member::PublishedDomain::Reader> worker;
  Lane from_core;
  Lane to_worker;
  Lane from_worker;
  int64_t told_revision;
  bool is_told = false;
};

ClusterWatchers::ClusterWatchers(Schedule& schedule, Random chance, Options options, Nodes& nodes, const Model& model,
                                 Coverage& coverage, Violation violation)
    : schedule_(schedule),
      chance_(chance),
      options_(options),
      nodes_(nodes),
      model_(model),
      coverage_(coverage),
      violation_(std::move(violation)) {}

ClusterWatchers::~ClusterWatchers() {
  for (Client& client : clients_) {
    if (client.place) loops_.at(*client.place)->hub.remove_all(client);
  }
}

void ClusterWatchers::begin() {
  for (uint64_t i = 0; i < options_.clients; ++i) {
    clients_.emplace_back(*this, i, chance_.fork());
    turn(clients_.back());
  }
}

// --- members

void ClusterWatchers::on_start(ClusterNode& node) {
  loops_[node.place()] = std::make_unique<Loop>(node, chance_.fork());
}

void ClusterWatchers::on_gone(const ClusterNode& node) {
  for (Client& client : clients_) {
    if (client.place == node.place()) break_off(client);
  }
  loops_.erase(node.place());
}

void ClusterWatchers::on_news(ClusterNode& node) {
  const auto at = loops_.find(node.place());
  if (at == loops_.end()) return;  // it is starting
  Loop& loop = *at->second;
  if (options_.lie == WatchLie::kIsNotTold) return;
  loop.told_revision = node.member().published().newest().kv.revision;
  if (std::exchange(loop.is_told, true)) return;
  loop.from_core.send([this, &loop] {
    loop.is_told = false;
    if (loop.node.member().failure()) return;
    read_news(loop);
    catch_up(loop);
  });
}

void ClusterWatchers::check_told(ClusterNode& node) {
  const auto at = loops_.find(node.place());
  if (at == loops_.end()) return;
  const int64_t revision = node.member().published().newest().kv.revision;
  if (revision == at->second->told_revision) return;
  violation_(fmt::format("member {} publishes revision {}, and who watches was told of {}", node.place(), revision,
                         at->second->told_revision));
}

// --- clients

void ClusterWatchers::turn(Client& client) {
  if (has_left_) return;
  const uint64_t dice = settles_ ? UINT64_MAX : chance_.below(24);
  if (!client.place) {
    connect(client);
  } else if (dice == 0) {
    coverage_.hit("watchers that go elsewhere");
    break_off(client);
  } else if (dice == 1) {
    break_off(client);
    client.has_ended = true;
  } else if (dice < 6) {
    stall(client);
  } else if (dice < 10 || settles_) {
    ask_for_progress(client);
  }
  const int64_t mean_ms = settles_ ? kSettlingTurnMs : kTurnMs;
  schedule_.after(static_cast<int64_t>(chance_.below(static_cast<uint64_t>(2 * mean_ms * kMs)) + 1),
                  [this, &client] { turn(client); });
}

std::string ClusterWatchers::key() {
  const auto& keys = model_.keys();
  if (keys.empty()) return "/k/1";
  return std::next(keys.begin(), static_cast<std::ptrdiff_t>(chance_.below(keys.size())))->first;
}

void ClusterWatchers::begin_new(Client& client) {
  etcdserverpb::WatchCreateRequest& request = client.request;
  request.Clear();
  request.set_key(key());
  switch (chance_.below(4)) {
    case 0:
      request.set_key(std::string(1, '\0'));
      request.set_range_end(std::string(1, '\0'));
      break;
    case 1:
      request.set_key("/k/");
      request.set_range_end("/k0");
      break;
    case 2: {
      const std::string other = key();
      if (!options_.is_for_etcd && request.key() < other) request.set_range_end(other);
      break;
    }
    default: break;
  }
  request.set_prev_kv(chance_.one_in(2));
  client.target = {.interval = {}, .no_put = false, .no_delete = false, .prev_kv = request.prev_kv()};
  client.target.interval = mvcc::OwnedInterval(mvcc::KeyInterval::of(request.key(), request.range_end()));
  if (!options_.is_for_etcd && chance_.one_in(8)) {
    client.target.no_put = chance_.one_in(2);
    client.target.no_delete = !client.target.no_put;
    request.add_filters(client.target.no_put ? etcdserverpb::WatchCreateRequest::NOPUT
                                             : etcdserverpb::WatchCreateRequest::NODELETE);
  }
  const int64_t now = model_.newest().revision;
  client.next = 0;
  if (!chance_.one_in(3)) {
    const int64_t oldest = std::max<int64_t>(1, model_.newest().compacted - 1);
    client.next = static_cast<int64_t>(chance_.between(static_cast<uint64_t>(oldest), static_cast<uint64_t>(now + 8)));
  }
  coverage_.hit(client.next == 0     ? "watchers from now on"
                : client.next <= now ? "watchers from the past"
                                     : "watchers from the future");
  client.watch.reset();
  client.has_ended = false;
}

void ClusterWatchers::connect(Client& client) {
  const size_t place = any_that_serves(nodes_, chance_);
  const auto at = loops_.find(place);
  if (at == loops_.end() || nodes_[place]->is_dead() || nodes_[place]->is_paused(schedule_.now_ns())) return;
  Loop& loop = *at->second;
  if (client.has_ended) begin_new(client);
  client.request.set_start_revision(client.next);
  const std::optional<size_t> before = std::exchange(client.watch, watches_.size());
  watches_.push_back({.client = client.number,
                      .member = NodeId(loop.node.member_id()),
                      .call_ns = schedule_.now_ns(),
                      .request = client.request.SerializeAsString(),
                      .responses = {},
                      .resumes = before});
  if (before) {
    const bool is_elsewhere = watches_[*before].member != watches_.back().member;
    coverage_.hit(is_elsewhere ? "watchers that go on at another member" : "watchers that go on at their member");
  }
  read_news(loop);
  const auto added = loop.hub.add(client, {.target = client.target, .start = client.next});
  if (!added) return violation_("a watcher is refused: " + added.error().message);
  client.id = (*added)->id();
  client.place = place;
  client.room = UINT64_MAX;
  client.progress = 0;
  etcdserverpb::WatchResponse created = response_of(client, loop.hub.seen());
  created.set_created(true);
  send(client, std::move(created));
  catch_up(loop);
}

void ClusterWatchers::break_off(Client& client) {
  if (!client.place) return;
  loops_.at(*client.place)->hub.remove_all(client);
  client.place.reset();
  ++client.connections;
}

etcdserverpb::WatchResponse ClusterWatchers::response_of(const Client& client, int64_t revision) const {
  etcdserverpb::WatchResponse response;
  response.mutable_header()->set_revision(revision);
  response.set_watch_id(client.id);
  return response;
}

void ClusterWatchers::send(Client& client, etcdserverpb::WatchResponse response, std::string_view events) {
  if (client.place) response.mutable_header()->set_member_id(nodes_[*client.place]->member_id());
  std::string bytes = response.SerializeAsString();
  bytes += events;
  client.way.send([this, &client, connection = client.connections, bytes = std::move(bytes)] {
    if (connection != client.connections) return coverage_.hit("watch responses lost with their connection");
    receive(client, bytes);
  });
}

// As etcd's client: it goes on behind the last event, or behind what it was promised.
void ClusterWatchers::receive(Client& client, const std::string& bytes) {
  etcdserverpb::WatchResponse response;
  if (!response.ParseFromString(bytes)) return violation_("a watch response cannot be read");
  if (options_.lie == WatchLie::kLosesResponse && response.events_size() > 0 && ++event_responses_ == 10) return;
  watches_[*client.watch].responses.push_back({schedule_.now_ns(), bytes});
  const int64_t revision = response.header().revision();
  if (response.canceled()) {
    coverage_.hit("watchers whose history is compacted");
    break_off(client);
    client.has_ended = true;
  } else if (response.created()) {
    if (client.next == 0) client.next = revision + 1;
  } else if (response.events().empty()) {
    coverage_.hit("progress of watchers");
    client.next = std::max(client.next, revision + 1);
    client.progress = revision;
  } else {
    coverage_.hit("watch events", static_cast<uint64_t>(response.events_size()));
    client.next = response.events().rbegin()->kv().mod_revision() + 1;
  }
}

void ClusterWatchers::stall(Client& client) {
  client.room = chance_.one_in(2) ? chance_.below(6) : UINT64_MAX;
  if (client.room == 0) return;
  Loop& loop = *loops_.at(*client.place);
  loop.hub.unblock(client);
  catch_up(loop);
}

void ClusterWatchers::ask_for_progress(Client& client) {
  Loop& loop = *loops_.at(*client.place);
  if (loop.node.is_dead()) return;
  if (settles_) {
    client.room = UINT64_MAX;
    loop.hub.unblock(client);
  }
  if (options_.lie == WatchLie::kNeverHasAll && settles_) return;
  read_news(loop);
  catch_up(loop);
  if (loop.hub.is_synced(client)) send(client, response_of(client, loop.hub.seen()));
}

void ClusterWatchers::leave() {
  has_left_ = true;
  for (Client& client : clients_) break_off(client);
}

bool ClusterWatchers::settled() const {
  return std::all_of(clients_.begin(), clients_.end(), [&](const Client& client) {
    const int64_t newest = model_.newest().revision;
    return client.place && !client.has_ended && (client.progress >= newest || client.next > newest);
  });
}

std::string ClusterWatchers::describe() const {
  std::string out;
  for (const Client& client : clients_) {
    out += fmt::format("; client {} at {} has all below {}, was promised {}", client.number,
                       client.place ? static_cast<int64_t>(*client.place) : -1, client.next, client.progress);
  }
  return out;
}

// --- a member's loop

void ClusterWatchers::read_news(Loop& loop) {
  const auto state = loop.reader->enter();
  if (const Status read = loop.hub.advance(state->kv, chance_.one_in(4)); !read) {
    violation_("watch events cannot be read: " + read.error().message);
  }
}

void ClusterWatchers::catch_up(Loop& loop) {
  auto taken = loop.hub.take_scan();
  while (!taken && !loop.hub.is_scanning() && loop.hub.has_behind()) taken = loop.hub.take_scan();
  if (!taken) return;
  coverage_.hit("history read for watchers");
  taken->limits.records_max = chance_.between(1, 60);
  taken->limits.cohort_revisions_max = chance_.between(1, 20);
  taken->limits.cohort_bytes_max = chance_.between(1, 2000);
  auto scan = std::make_shared<const mvcc::WatchScan>(*std::move(taken));
  loop.to_worker.send([this, scan, &loop] {
    if (loop.node.member().failure()) return;
    auto found = std::make_shared<const Result<mvcc::WatchScanned>>(mvcc::run_scan(*scan, loop.worker->enter()->kv));
    loop.from_worker.send([this, scan, found, &loop] {
      if (!loop.node.member().failure()) finish_scan(loop, *scan, *found);
    });
  });
}

void ClusterWatchers::finish_scan(Loop& loop, const mvcc::WatchScan& scan, const Result<mvcc::WatchScanned>& found) {
  if (!found) return violation_("history cannot be read: " + found.error().message);
  read_news(loop);
  loop.hub.finish_scan(scan, *found);
  catch_up(loop);
}

}  // namespace cairn::sim
