#include "sim/watches.h"

#include <algorithm>
#include <array>
#include <utility>

#include "member/access.h"

namespace cairn::sim {
namespace {

constexpr size_t kLoops = 2;
constexpr size_t kStreams = 2;  // of each loop
constexpr size_t kClientsMax = 12;

}  // namespace

struct Watches::Client {
  mvcc::WatchChecker checker;
  int64_t id = 0;  // of its watcher, when it has a stream
  Stream* stream = nullptr;
  bool ended = false;  // its history was compacted
};

class Watches::Stream final : public mvcc::WatchStream {
 public:
  explicit Stream(Watches& watches) : watches_(watches) {}

  bool has_room() const override {
    if (room == 0) watches_.coverage_.hit("watch streams that stand still");
    return room > 0;
  }
  bool send(const mvcc::Watcher& watcher, const mvcc::SharedBatch& batch, int64_t revision) override {
    if (room == 0) return false;
    --room;
    Client& client = *clients.at(watcher.id());
    client.checker.on_events(batch->events, revision, watches_.compacted());
    watches_.coverage_.hit("watch events", batch->count);
    watches_.check(client);
    return true;
  }
  void on_compacted(const mvcc::Watcher& watcher, int64_t compact_revision) override {
    Client& client = *clients.at(watcher.id());
    client.checker.on_compacted(compact_revision);
    watches_.coverage_.hit("watchers whose history is compacted");
    watches_.check(client);
    client.ended = true;
  }

  uint64_t room = UINT64_MAX;
  std::map<int64_t, Client*> clients;

 private:
  Watches& watches_;
};

struct Watches::Loop {
  Loop(Watches& watches, Random chance, int64_t delay_mean_ns)
      : hub({.batch_bytes_max = chance.between(1, 2000),
             .round_bytes_max = chance.between(1, 20'000),
             .live_revisions_max = static_cast<int64_t>(chance.between(1, 200)),
             .sends_max = chance.between(1, 50),
             .visits_max = chance.between(1, 200),
             .cohorts_max = chance.between(1, 10),
             .scan_watchers_max = chance.between(1, 20),
             .scan_revisions_max = static_cast<int64_t>(chance.between(1, 400))},
            chance.next()),
        from_core(watches.schedule_, chance.fork(), delay_mean_ns),
        to_worker(watches.schedule_, chance.fork(), delay_mean_ns * 4),
        from_worker(watches.schedule_, chance.fork(), delay_mean_ns) {
    for (size_t i = 0; i < kStreams; ++i) streams.push_back(std::make_unique<Stream>(watches));
  }
  ~Loop() {
    for (const auto& stream : streams) hub.remove_all(*stream);
  }

  mvcc::WatchHub hub;
  std::unique_ptr<member::PublishedDomain::Reader> reader;
  std::unique_ptr<member::PublishedDomain::Reader> worker;
  Lane from_core;
  Lane to_worker;
  Lane from_worker;
  bool is_told = false;
  std::vector<std::unique_ptr<Stream>> streams;
};

Watches::Watches(Schedule& schedule, Random chance, int64_t delay_mean_ns, const Model& model, Coverage& coverage,
                 Violation violation)
    : schedule_(schedule),
      chance_(chance),
      delay_mean_ns_(delay_mean_ns),
      model_(model),
      coverage_(coverage),
      violation_(std::move(violation)) {}

Watches::~Watches() = default;

// --- the member

void Watches::attach(Member& member) {
  member_ = &member;
  settles_ = false;
  told_revision_ = member.published().newest().kv.revision;
  for (size_t i = 0; i < kLoops; ++i) {
    loops_.push_back(std::make_unique<Loop>(*this, chance_.fork(), delay_mean_ns_));
    loops_.back()->reader = member.published().register_thread();
    loops_.back()->worker = member.published().register_thread();
  }
  for (Client& client : clients_) {
    coverage_.hit("watchers that go on after a start");
    begin(client, *loops_[chance_.below(kLoops)]);
  }
  schedule_.after(0, [this] { turn(); });
}

void Watches::detach() {
  loops_.clear();
  for (Client& client : clients_) client.stream = nullptr;
  drop_ended();
  member_ = nullptr;
}

void Watches::on_news() {
  told_revision_ = member_->published().newest().kv.revision;
  for (const auto& loop : loops_) {
    if (std::exchange(loop->is_told, true)) continue;
    loop->from_core.send([this, &one = *loop] {
      one.is_told = false;
      if (member_->failure()) return;
      read_news(one);
      catch_up(one);
    });
  }
}

void Watches::check_told() {
  const int64_t revision = member_->published().newest().kv.revision;
  if (revision != told_revision_) {
    violation_(fmt::format("revision {} is published, and who watches was told of {}", revision, told_revision_));
  }
}

// --- what watchers are to get

void Watches::learn_history() {
  for (const auto& records = model_.records(); records_known_ < records.size(); ++records_known_) {
    const Model::Record& record = records[records_known_];
    if (!history_.empty() && history_.back().revision.main != record.revision.main) {
      for (; transaction_at_ < history_.size(); ++transaction_at_) {
        const mvcc::HistoryEvent& event = history_[transaction_at_];
        alive_[event.key] = event.tombstone ? "" : event.record;
      }
    }
    // As etcd: the state before the transaction; a put that creates the key has none.
    const auto kv = mvcc::decode_key_value(record.bytes);
    const bool creates = !record.dead && kv->create_revision == kv->mod_revision;
    history_.push_back({record.revision, record.dead, *record.key, record.bytes, creates ? "" : alive_[*record.key]});
  }
}

void Watches::check(const Client& client) {
  const std::string& failure = client.checker.failure();
  if (!failure.empty()) violation_("a watcher: " + failure);
}

void Watches::check_live(Loop& loop) {
  for (const auto& stream : loop.streams) {
    for (const auto& [id, client] : stream->clients) {
      if (client->ended || !loop.hub.is_synced(*stream->find(id))) continue;
      client->checker.check_complete(loop.hub.seen(), compacted());
      check(*client);
    }
  }
}

bool Watches::settle() {
  if (member_ == nullptr || member_->failure()) return true;
  settles_ = true;
  bool is_quiet = true;
  for (const auto& loop : loops_) {
    for (const auto& stream : loop->streams) {
      stream->room = UINT64_MAX;
      if (stream->has_blocked()) {
        loop->hub.unblock(*stream);
        is_quiet = false;
      }
    }
    if (!is_quiet) catch_up(*loop);
    const bool is_behind = loop->hub.has_behind() || loop->hub.is_scanning();
    if (loop->is_told || is_behind || loop->hub.seen() < member_->published().newest().kv.revision) is_quiet = false;
    if (is_quiet) check_live(*loop);
  }
  return is_quiet;
}

// --- what clients do

void Watches::turn() {
  if (member_->failure() || settles_) return;
  Loop& loop = *loops_[chance_.below(kLoops)];
  switch (chance_.below(8)) {
    case 0:
    case 1: begin_new(loop); break;
    case 2: cancel_one(loop); break;
    case 3:
    case 4: stall_one(loop); break;
    case 5: ask_for_progress(loop); break;
    default: break;
  }
  drop_ended();
  const auto mean = static_cast<uint64_t>(delay_mean_ns_) * 8 + 20'000;
  schedule_.after(static_cast<int64_t>(chance_.below(2 * mean) + 1), [this] { turn(); });
}

void Watches::begin(Client& client, Loop& loop) {
  read_news(loop);
  Stream& stream = *loop.streams[chance_.below(kStreams)];
  mvcc::WatchHub::Wanted wanted{.target = client.checker.target(), .start = client.checker.next()};
  if (chance_.one_in(2) && wanted.start == loop.hub.seen() + 1) wanted.start = 0;
  const auto added = loop.hub.add(stream, std::move(wanted));
  if (!added) return violation_("a watcher is refused: " + added.error().message);
  client.id = (*added)->id();
  client.stream = &stream;
  stream.clients[client.id] = &client;
  catch_up(loop);
}

void Watches::begin_new(Loop& loop) {
  if (clients_.size() >= kClientsMax || history_.empty()) return read_news(loop);
  mvcc::WatchTarget target;
  const std::string& some_key = history_[chance_.below(history_.size())].key;
  const std::string& other_key = history_[chance_.below(history_.size())].key;
  const bool is_range = chance_.one_in(2) && some_key < other_key;
  const std::string end = is_range ? other_key : chance_.one_in(2) ? std::string(1, '\0') : "";
  if (!admit(some_key, end, target)) return read_news(loop);
  target.prev_kv = chance_.one_in(2);
  target.no_put = chance_.one_in(8);
  target.no_delete = chance_.one_in(8);
  const int64_t now = member_->published().newest().kv.revision;
  int64_t start = now + 1;
  if (chance_.one_in(2)) start = static_cast<int64_t>(chance_.between(1, static_cast<uint64_t>(now) + 10));
  clients_.push_back({.checker = mvcc::WatchChecker(history_, target, start)});
  coverage_.hit(start > now + 1 ? "watchers from the future"
                : start > now   ? "watchers from now on"
                                : "watchers from the past");
  begin(clients_.back(), loop);
}

bool Watches::admit(const std::string& key, const std::string& range_end, mvcc::WatchTarget& target) {
  const std::shared_ptr<const auth::Rules> rules = member_->published().newest().auth;
  auth::Identity who;
  if (rules->enabled()) {
    constexpr std::array<const char*, 4> kUsers = {"ann", "bob", "eve", "root"};
    who = {.is_known = true, .user = kUsers[chance_.below(kUsers.size())], .revision = rules->revision()};
  }
  const auto interval = member::admit_watch(*rules, who, key, range_end);
  if (!interval) {
    coverage_.hit("watches that are denied");
    return false;
  }
  target.interval = mvcc::OwnedInterval(*interval);
  if (!rules->enabled()) return true;
  coverage_.hit("watches by users");
  const auth::User& user = *rules->find(who.user);
  for (const auto& [one, record] : alive_) {
    if (interval->contains(one) && !user.may(auth::Wants::kRead, {one, {}})) {
      violation_(fmt::format("{} is let watch the key {}", who.user, one));
    }
  }
  return true;
}

void Watches::cancel_one(Loop& loop) {
  Stream& stream = *loop.streams[chance_.below(kStreams)];
  if (stream.clients.empty() || chance_.one_in(2)) return;
  const auto at = std::next(stream.clients.begin(), static_cast<std::ptrdiff_t>(chance_.below(stream.clients.size())));
  at->second->ended = true;
}

void Watches::stall_one(Loop& loop) {
  Stream& stream = *loop.streams[chance_.below(kStreams)];
  stream.room = chance_.one_in(2) ? chance_.below(6) : UINT64_MAX;
  if (stream.room == 0) return;
  loop.hub.unblock(stream);
  catch_up(loop);
}

void Watches::ask_for_progress(Loop& loop) {
  read_news(loop);
  Stream& stream = *loop.streams[chance_.below(kStreams)];
  if (stream.size() == 0 || !loop.hub.is_synced(stream)) return;
  coverage_.hit("progress of all watchers of a stream");
  for (const auto& [id, client] : stream.clients) {
    client->checker.on_progress(loop.hub.seen(), compacted());
    check(*client);
  }
}

void Watches::drop_ended() {
  for (auto at = clients_.begin(); at != clients_.end();) {
    Client& client = *at;
    if (!client.ended) {
      ++at;
      continue;
    }
    for (const auto& loop : loops_) {
      for (const auto& stream : loop->streams) {
        if (stream.get() != client.stream) continue;
        (void)loop->hub.remove(*stream, client.id);
        stream->clients.erase(client.id);
      }
    }
    at = clients_.erase(at);
  }
}

// --- a loop

void Watches::read_news(Loop& loop) {
  learn_history();
  const auto state = loop.reader->enter();
  if (const Status read = loop.hub.advance(state->kv, chance_.one_in(4)); !read) {
    return violation_("watch events cannot be read: " + read.error().message);
  }
  check_live(loop);
}

void Watches::catch_up(Loop& loop) {
  auto taken = loop.hub.take_scan();
  while (!taken && !loop.hub.is_scanning() && loop.hub.has_behind()) taken = loop.hub.take_scan();
  if (!taken) return;
  coverage_.hit("history read for watchers");
  taken->limits.records_max = chance_.between(1, 60);
  taken->limits.cohort_revisions_max = chance_.between(1, 20);
  taken->limits.cohort_bytes_max = chance_.between(1, 2000);
  auto scan = std::make_shared<const mvcc::WatchScan>(*std::move(taken));
  loop.to_worker.send([this, scan, &loop] {
    if (member_->failure()) return;
    auto found = std::make_shared<const Result<mvcc::WatchScanned>>(mvcc::run_scan(*scan, loop.worker->enter()->kv));
    loop.from_worker.send([this, scan, found, &loop] {
      if (!member_->failure()) finish_scan(loop, *scan, *found);
    });
  });
}

void Watches::finish_scan(Loop& loop, const mvcc::WatchScan& scan, const Result<mvcc::WatchScanned>& found) {
  if (!found) return violation_("history cannot be read: " + found.error().message);
  read_news(loop);
  loop.hub.finish_scan(scan, *found);
  check_live(loop);
  catch_up(loop);
}

}  // namespace cairn::sim
