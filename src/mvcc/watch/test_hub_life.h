// mvcc/watch/test_hub_life.h: a hub beside the whole history, with batches, stalls, compactions and registrations in
// any order. For the model test, which chooses by chance, and the fuzzer, which chooses by its input.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/random.h"
#include "mvcc/kv/store.h"
#include "mvcc/watch/hub.h"
#include "mvcc/watch/test_watch_checker.h"
#include "storage/memory/engine.h"

namespace cairn::mvcc::test {

// A view that is said to be on the disk only, now and then.
class ColdView final : public storage::View {
 public:
  ColdView(std::shared_ptr<const storage::View> view, Random& chance) : view_(std::move(view)), chance_(chance) {}
  Result<std::optional<std::string_view>> get(storage::Table table, std::string_view key) const override {
    return view_->get(table, key);
  }
  std::unique_ptr<storage::Cursor> cursor(storage::Table table) const override { return view_->cursor(table); }
  uint64_t txid() const override { return view_->txid(); }
  bool resident(storage::Table, std::string_view) const override { return !chance_.one_in(3); }

 private:
  Result<std::unique_ptr<storage::ImageReader>> make_image(std::shared_ptr<const View> /*self*/) const override {
    return storage::open_image(view_);
  }

  std::shared_ptr<const storage::View> view_;
  Random& chance_;
};

// A store and the history of what was written to it.
class WatchWorld {
 public:
  explicit WatchWorld(uint64_t seed)
      : chance(seed),
        engine_(*storage::open_memory()),
        store_(std::make_unique<Index>(), engine_->view(), Store::Options{}) {}

  [[nodiscard]] const WatchHistory& history() const { return history_; }
  [[nodiscard]] int64_t compacted() const { return store_.compact_revision(); }
  [[nodiscard]] int64_t revision() const { return store_.revision(); }
  StoreView view() {
    (void)store_.publish();
    return store_.working();
  }

  std::string key() { return "k" + std::to_string(chance.below(12)); }
  // A transaction of a few changes.
  void write() {
    store_.begin();
    std::map<std::string, bool> touched;
    for (uint64_t left = chance.between(1, 4); left > 0; --left) {
      const std::string at = key();
      if (!touched.emplace(at, true).second) continue;
      if (chance.one_in(3)) {
        remove(at);
      } else {
        put(at, std::string(chance.below(60), 'v'));
      }
    }
    store_.end();
  }
  // One of so many keys.
  void write_long(uint64_t keys) {
    store_.begin();
    for (uint64_t i = 0; i < keys; ++i) put("k" + std::to_string(i), std::string(60, 'v'));
    store_.end();
  }
  // Everything goes into the tables.
  void commit() { commit_at(0); }
  // What the compaction makes superfluous goes out of them.
  void compact() {
    const int64_t at = revision() - static_cast<int64_t>(chance.below(20));
    if (at <= compacted() || at <= 1) return;
    store_.compact(at);
    commit_at(at);
  }

  Random chance;

 private:
  void put(const std::string& key, const std::string& value) {
    CAIRN_ASSERT(store_.put({.key = key, .value = value}));
    mvccpb::KeyValue kv;
    const auto before = alive_.find(key);
    if (before != alive_.end()) kv.ParseFromString(before->second);
    kv.set_key(key);
    kv.set_value(value);
    kv.set_version(kv.version() + 1);
    kv.set_mod_revision(store_.writing_revision());
    if (before == alive_.end()) kv.set_create_revision(store_.writing_revision());
    add(key, false, kv.SerializeAsString());
    alive_[key] = kv.SerializeAsString();
  }
  void remove(const std::string& key) {
    CAIRN_ASSERT(store_.remove(KeyInterval::of(key, ""), nullptr));
    if (!alive_.contains(key)) return;
    mvccpb::KeyValue kv;
    kv.set_key(key);
    add(key, true, kv.SerializeAsString());
    alive_.erase(key);
  }
  void commit_at(int64_t compacted) {
    (void)store_.publish();
    store_.freeze();
    storage::Commit commit{.changes = store_.frozen_changes(), .open_views = {engine_->view()->txid()}};
    storage::Reclaim reclaim;
    const IndexRoot root = store_.working().root;
    if (compacted > 0) {
      reclaim.first = storage::revision_key({0, 0});
      reclaim.end = storage::revision_key({compacted + 1, 0});
      reclaim.keep = [&](std::string_view key, std::string_view value) {
        return root.keep_for_compaction(decode_key_value(value)->key, storage::decode_record_key(key)->revision,
                                        compacted);
      };
      commit.reclaim = &reclaim;
    }
    auto done = engine_->commit(commit);
    CAIRN_ASSERT(done);
    retired_ = store_.finish_commit(std::make_shared<ColdView>(done->view, chance));
  }
  void add(const std::string& key, bool tombstone, const std::string& record) {
    const Revision revision{store_.writing_revision(), static_cast<int64_t>(store_.changes().size()) - 1};
    const auto before = alive_.find(key);
    history_.push_back({revision, tombstone, key, record, before == alive_.end() ? "" : before->second});
  }

  std::unique_ptr<storage::Engine> engine_;
  Store store_;
  std::unique_ptr<storage::WriteBuffer> retired_;
  std::map<std::string, std::string> alive_;
  WatchHistory history_;
};

// Takes so many responses, and then no more.
class LifeStream final : public WatchStream {
 public:
  explicit LifeStream(WatchWorld& world) : world_(world) {}

  bool has_room() const override { return room > 0 || refuses; }
  bool send(const Watcher& watcher, const SharedBatch& batch, int64_t revision) override {
    if (room == 0) return false;
    --room;
    ++sent;
    checkers.at(watcher.id()).on_events(batch->events, revision, world_.compacted());
    return true;
  }
  void on_compacted(const Watcher& watcher, int64_t compact_revision) override {
    checkers.at(watcher.id()).on_compacted(compact_revision);
    compacted.push_back(watcher.id());
  }
  [[nodiscard]] std::string failure() const {
    for (const auto& [id, checker] : checkers) {
      if (!checker.failure().empty()) return checker.failure();
    }
    return "";
  }

  uint64_t room = 1000;
  bool refuses = false;  // although it has room: all clients together take too little
  uint64_t sent = 0;
  std::map<int64_t, WatchChecker> checkers;
  std::vector<int64_t> compacted;

 private:
  WatchWorld& world_;
};

class HubLife {
 public:
  explicit HubLife(uint64_t seed) : world_(seed), hub_(limits(world_.chance), seed) {
    for (int i = 0; i < 3; ++i) streams_.push_back(std::make_unique<LifeStream>(world_));
    advance();
  }
  ~HubLife() {
    for (const auto& stream : streams_) hub_.remove_all(*stream);
  }

  // `choice` is one of kChoices.
  static constexpr uint64_t kChoices = 20;
  void step(uint64_t choice) {
    Random& chance = world_.chance;
    switch (choice) {
      default:
        for (uint64_t left = chance.one_in(30) ? 60 : chance.between(1, 3); left > 0; --left) world_.write();
        return;
      case 8:
      case 9:
      case 10:
      case 11: return advance();
      case 12: return add();
      case 13: return cancel();
      case 14: return stall();
      case 15:
      case 16: return scan();
      case 17: return world_.commit();
      case 18:
        if (chance.one_in(4)) world_.compact();
        return;
      case 19: return progress();
    }
  }
  // Everybody reads again: everything comes.
  void heal() {
    for (int rounds = 0; rounds < 100'000; ++rounds) {
      for (const auto& stream : streams_) {
        stream->room = 1'000'000;
        hub_.unblock(*stream);
      }
      advance();
      if (!hub_.has_behind() && !hub_.is_scanning()) break;
      scan();
      if (!failure().empty()) return;
    }
    CAIRN_ASSERT(hub_.slow_count() == 0);
    for (const auto& stream : streams_) {
      for (auto& [id, checker] : stream->checkers) checker.check_complete(world_.revision(), world_.compacted());
    }
  }
  Random& chance() { return world_.chance; }
  [[nodiscard]] std::string failure() const {
    for (const auto& stream : streams_) {
      if (std::string what = stream->failure(); !what.empty()) return what;
    }
    return "";
  }
  [[nodiscard]] uint64_t sent() const {
    uint64_t all = 0;
    for (const auto& stream : streams_) all += stream->sent;
    return all;
  }
  [[nodiscard]] uint64_t compacted() const { return compacted_; }

 private:
  static WatchHub::Limits limits(Random& chance) {
    return {.batch_bytes_max = chance.between(1, 500),
            .round_bytes_max = chance.between(1, 2000),
            .revision_bytes_max = chance.between(1, 2000),
            .live_revisions_max = static_cast<int64_t>(chance.between(1, 30)),
            .sends_max = chance.between(1, 30),
            .visits_max = chance.between(1, 60),
            .cohorts_max = chance.between(1, 6),
            .long_cohorts_max = chance.between(1, 3),
            .scan_watchers_max = chance.between(1, 12),
            .scan_revisions_max = static_cast<int64_t>(chance.between(1, 60))};
  }

  LifeStream& any_stream() { return *streams_[world_.chance.below(streams_.size())]; }

  void advance() { CAIRN_ASSERT(hub_.advance(world_.view(), /*careful=*/true)); }
  void add() {
    Random& chance = world_.chance;
    advance();
    LifeStream& stream = any_stream();
    if (stream.size() > 8) return;
    WatchHub::Wanted wanted;
    const std::string low = world_.key();
    const std::string high = chance.one_in(2) ? "" : chance.one_in(2) ? std::string(1, '\0') : low + "~";
    wanted.target.interval = OwnedInterval(KeyInterval::of(low, high));
    wanted.target.prev_kv = chance.one_in(2);
    wanted.target.no_put = chance.one_in(6);
    wanted.target.no_delete = chance.one_in(6);
    if (chance.one_in(2))
      wanted.start = std::max<int64_t>(1, world_.revision() + 8 - static_cast<int64_t>(chance.below(60)));
    const auto added = hub_.add(stream, wanted);
    CAIRN_ASSERT(added);
    const int64_t start = wanted.start == 0 ? world_.revision() + 1 : wanted.start;
    stream.checkers.insert_or_assign((*added)->id(), WatchChecker(world_.history(), wanted.target, start));
  }
  void cancel() {
    LifeStream& stream = any_stream();
    if (stream.checkers.empty()) return;
    const int64_t id =
        std::next(stream.checkers.begin(), static_cast<std::ptrdiff_t>(world_.chance.below(stream.checkers.size())))
            ->first;
    CAIRN_ASSERT(hub_.remove(stream, id));
    CAIRN_ASSERT(!hub_.remove(stream, id));
    stream.checkers.erase(id);
  }
  void stall() {
    LifeStream& stream = any_stream();
    stream.room = world_.chance.one_in(2) ? world_.chance.below(4) : 1000;
    stream.refuses = world_.chance.one_in(3);
    if (stream.has_room()) hub_.unblock(stream);
  }
  void scan() {
    if (!pending_) {
      pending_ = hub_.take_scan();
      forget_compacted();
      if (!pending_) return;
      pending_->limits.records_max = world_.chance.between(1, 40);
      pending_->limits.bytes_max = world_.chance.between(1, 1000);
      pending_->limits.cohort_bytes_max = world_.chance.between(1, 300);
      pending_->limits.cohort_revisions_max = world_.chance.between(1, 5);
      pending_->limits.revision_bytes_max = world_.chance.between(1, 1000);
      pending_->limits.visits_max = world_.chance.between(1, 40);
      pending_->limits.gives_up = world_.chance.one_in(3);
      auto found = run_scan(*pending_, world_.view());
      if (found && found->gave_up) {
        pending_->limits.gives_up = false;
        found = run_scan(*pending_, world_.view());
      }
      CAIRN_ASSERT(found);
      found_ = *std::move(found);
      if (world_.chance.one_in(2)) return;
    }
    advance();
    hub_.finish_scan(*std::exchange(pending_, std::nullopt), found_);
    forget_compacted();
  }
  void forget_compacted() {
    for (const auto& stream : streams_) {
      for (const int64_t id : std::exchange(stream->compacted, {})) {
        ++compacted_;
        CAIRN_ASSERT(stream->find(id)->state() == Watcher::State::kCompacted);
        CAIRN_ASSERT(hub_.remove(*stream, id));
        stream->checkers.erase(id);
      }
    }
  }
  void progress() {
    advance();
    LifeStream& stream = any_stream();
    if (!hub_.is_synced(stream)) return;
    for (auto& [id, checker] : stream.checkers) checker.on_progress(hub_.seen(), world_.compacted());
  }
  WatchWorld world_;
  WatchHub hub_;
  std::vector<std::unique_ptr<LifeStream>> streams_;
  std::optional<WatchScan> pending_;
  WatchScanned found_;
  uint64_t compacted_ = 0;
};

}  // namespace cairn::mvcc::test
