// member/cluster_world_test.h: a cluster of MemberCores in virtual time: logs in memory that forget what was not
// synced, a network that loses, repeats and delays, members that crash, stop and stand still, and clients at each of
// them.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>

#include "base/errors.h"
#include "base/random.h"
#include "member/commit_stage.h"
#include "member/member_core.h"
#include "member/requests.h"
#include "mvcc/kv/range.h"
#include "proto/rpc.pb.h"
#include "raft/conf_change.h"
#include "storage/memory/engine.h"

namespace cairn::member::world {

inline constexpr int64_t kUs = 1000;
inline constexpr int64_t kMs = 1000 * kUs;
inline constexpr int64_t kSecond = 1000 * kMs;
inline constexpr int64_t kNever = INT64_MAX;

struct Request {
  enum class Kind : uint8_t { kPut, kRead };
  Kind kind = Kind::kPut;
  uint64_t member = 0;
  int64_t since_ns = 0;
  int64_t floor = 0;  // kRead: the newest revision that anybody had seen when it began
  std::optional<Error> outcome;
  int64_t took_ns = 0;
  bool is_orphan = false;  // its member has crashed
};

// What a process leaves behind.
struct Disk {
  std::vector<raft::Entry> entries;
  raft::HardState hard;

  void write(const WalWrite& write) {
    if (!write.entries.empty()) {
      entries.resize(write.entries.front().index.value - 1);
      entries.insert(entries.end(), write.entries.begin(), write.entries.end());
    }
    if (write.hard_state) hard = *write.hard_state;
  }
};

inline raft::PayloadPtr without_tag(const raft::PayloadPtr& payload) {
  if (payload == nullptr || payload->tag == 0) return payload;
  return std::make_shared<const raft::Payload>(raft::Payload{.bytes = payload->bytes});
}

class World;

struct Node {
  uint64_t id = 0;
  uint64_t generation = 0;  // of the process; what was meant for an earlier one is dropped
  Disk disk;
  std::unique_ptr<storage::Engine> engine;
  std::unique_ptr<MemberCore> core;  // null: it does not run
  std::unique_ptr<PublishedDomain::Reader> reader;
  std::unique_ptr<PublishedDomain::Reader> commit_reader;
  std::unique_ptr<CommitStage> commit;
  Events events;
  int64_t step_at_ns = kNever;
  int64_t stands_until_ns = 0;
  int64_t wal_free_at_ns = 0;
  bool is_ready = false;
  bool has_stopped = false;
  Index told_commit;                         // the newest that others were told
  std::map<Index, Index> told_when_applied;  // what it was before the step that got as far as the key
};

class World {
 public:
  struct Options {
    uint64_t seed = 1;
    uint64_t members = 3;
    std::function<bool(NodeId)> speaks_cairn;
  };
  explicit World(const Options& options) : options_(options), random_(options.seed) {
    for (uint64_t id = 1; id <= options.members; ++id) {
      nodes_[id].id = id;
      start(id);
    }
  }
  ~World() { EXPECT_EQ(failures_, std::vector<std::string>{}) << "seed " << options_.seed; }

  // --- what happens to members

  void start(uint64_t id) {
    Node& node = nodes_[id];
    ++node.generation;
    node.is_ready = node.has_stopped = false;
    node.stands_until_ns = node.wal_free_at_ns = 0;
    node.step_at_ns = kNever;
    node.engine = *storage::open_memory();
    AppliedState state;
    state.index = std::make_unique<mvcc::Index>();
    state.file = node.engine->view();
    state.members.cluster_id = 9;
    raft::StartState begin;
    for (uint64_t one = 1; one <= options_.members; ++one) {
      const NodeId member(one);
      state.members.members[member] = {.id = member, .peer_urls = {"http://m" + std::to_string(one)}};
      begin.conf.voters.push_back(member);
    }
    state.conf = begin.conf;
    begin.hard = node.disk.hard;
    RaftLog log(Index(0), Term(0), {});
    log.append(node.disk.entries);
    MemberOptions options;
    options.replication.raft.id = NodeId(id);
    options.replication.raft.seed = options_.seed * 100 + id;
    options.replication.start_epoch = node.generation;
    options.replication.speaks_cairn = options_.speaks_cairn;
    options.apply.member_id = id;
    options.announcement = {.name = "m" + std::to_string(id), .client_urls = {"http://c" + std::to_string(id)}};
    options.first_request_id = id << 48 | node.generation << 32;
    node.core = std::make_unique<MemberCore>(options, std::move(log), begin, std::move(state), now_ns_);
    node.reader = node.core->published().register_thread();
    node.commit_reader = node.core->published().register_thread();
    node.commit = std::make_unique<CommitStage>(std::move(node.engine), *node.commit_reader);
    wake(node, 0);
  }

  // What was on its way to the disk may or may not have reached it.
  void crash(uint64_t id) {
    Node& node = nodes_[id];
    if (!node.core) return;
    end(node);
    report_of(id, PeerReport::Kind::kDied);
  }
  void end(Node& node) {
    ++node.generation;
    node.commit.reset();
    node.commit_reader.reset();
    node.reader.reset();
    node.core.reset();
    node.events = {};
    for (auto& [tag, request] : requests_) {
      if (request.member == node.id && !request.outcome) request.is_orphan = true;
    }
  }
  void stop(uint64_t id) {
    if (!runs(id)) return;
    nodes_[id].events.stop = true;
    wake(nodes_[id], 0);
  }
  // What it writes from here on is durable only then.
  void stall_log(uint64_t id, int64_t for_ns) { nodes_[id].wal_free_at_ns = now_ns_ + for_ns; }
  void stand_still(uint64_t id, int64_t for_ns) { nodes_[id].stands_until_ns = now_ns_ + for_ns; }
  // Between a member and all others; what is under way is lost.
  void cut(uint64_t id, bool is_cut) {
    is_cut ? void(cut_.insert(id)) : void(cut_.erase(id));
    report_of(id, PeerReport::Kind::kStreamCut);
    for (auto& [other, node] : nodes_) {
      if (other != id) report(nodes_[id], {PeerReport::Kind::kStreamCut, NodeId(other)});
    }
  }
  void transfer(uint64_t from, uint64_t to) {
    if (!runs(from)) return;
    nodes_[from].events.transfers.push_back({NodeId(to), ++next_tag_});
    transfers_[next_tag_];
    wake(nodes_[from], 0);
  }
  void raise_no_space(uint64_t id) {
    nodes_[id].events.alarms.push_back(kAlarmNoSpace);
    wake(nodes_[id], 0);
  }
  // Asks `by`. What becomes of it is transfer_outcome().
  Tag remove(uint64_t by, uint64_t id) {
    transfers_[++next_tag_];
    nodes_[by].events.conf_changes.push_back(std::make_shared<const raft::Payload>(raft::Payload{
        .bytes = raft::encode(raft::ConfChangeV1{
            .id = nodes_[by].core->next_request_id(), .type = raft::ConfChangeType::kRemoveNode, .node = NodeId(id)}),
        .tag = next_tag_}));
    wake(nodes_[by], 0);
    return next_tag_;
  }
  // Asks `by`. What becomes of it is transfer_outcome().
  Tag renew(uint64_t by, int64_t lease) {
    transfers_[++next_tag_];
    nodes_[by].events.leases.push_back({.kind = LeaseRequest::Kind::kRenew, .id = lease, .tag = next_tag_});
    wake(nodes_[by], 0);
    return next_tag_;
  }
  // `by` refuses to talk to it.
  void tell_removal(uint64_t id, uint64_t by) {
    nodes_[id].events.peer_reports.push_back({PeerReport::Kind::kTellsRemoval, NodeId(by)});
    wake(nodes_[id], 0);
  }
  void report_of(uint64_t id, PeerReport::Kind kind) {
    for (auto& [other, node] : nodes_) {
      if (other != id) report(node, {kind, NodeId(id)});
    }
  }
  void report(Node& node, PeerReport report) {
    if (!node.core) return;
    at(now_ns_ + random_range(100 * kUs, deaths_are_heard_for_ns_), node, [this, &node, report] {
      if (report.kind == PeerReport::Kind::kDied && runs(report.peer.value)) return;
      node.events.peer_reports.push_back(report);
      wake(node, 0);
    });
  }

  // --- clients

  Tag put(uint64_t id) {
    Node& node = nodes_[id];
    const Tag tag = ++next_tag_;
    requests_[tag] = {.kind = Request::Kind::kPut, .member = id, .since_ns = now_ns_};
    etcdserverpb::PutRequest request;
    request.set_key(key_of(tag));
    request.set_value(std::string(random_.below(300), 'v'));
    auto payload = std::make_shared<const raft::Payload>(raft::Payload{
        .bytes = join_request(RequestKind::kPut, request.SerializeAsString(), node.core->next_request_id()),
        .tag = tag});
    EXPECT_TRUE(node.core->admit(payload->bytes.size()));
    node.events.proposals.push_back(std::move(payload));
    wake(node, 0);
    return tag;
  }
  // Of all keys.
  void delete_all(uint64_t id) {
    Node& node = nodes_[id];
    etcdserverpb::DeleteRangeRequest request;
    request.set_key(std::string(1, '\0'));
    request.set_range_end(std::string(1, '\0'));
    auto payload = std::make_shared<const raft::Payload>(raft::Payload{
        .bytes = join_request(RequestKind::kDeleteRange, request.SerializeAsString(), node.core->next_request_id())});
    EXPECT_TRUE(node.core->admit(payload->bytes.size()));
    node.events.proposals.push_back(std::move(payload));
    wake(node, 0);
  }
  Tag read(uint64_t id) {
    const Tag tag = ++next_tag_;
    requests_[tag] = {.kind = Request::Kind::kRead, .member = id, .since_ns = now_ns_, .floor = seen_revision_};
    nodes_[id].events.controls.push_back({.kind = Control::kLinearizable, .tag = tag});
    wake(nodes_[id], 0);
    return tag;
  }
  static std::string key_of(Tag tag) { return "op" + std::to_string(tag); }

  // --- time

  // Goes on for so long, with clients at members that run, if they are to ask for something.
  void run(int64_t for_ns, bool with_clients) {
    const int64_t until_ns = now_ns_ + for_ns;
    while (now_ns_ < until_ns && failures_.empty()) {
      if (with_clients && next_request_ns_ <= now_ns_) {
        next_request_ns_ = now_ns_ + random_range(1 * kMs, 8 * kMs);
        const uint64_t id = 1 + random_.below(options_.members);
        if (runs(id) && nodes_[id].core && !nodes_[id].core->is_stopping()) random_.one_in(3) ? read(id) : put(id);
      }
      const int64_t next_client_ns = with_clients ? next_request_ns_ : until_ns;
      const int64_t next_ns = agenda_.empty() ? until_ns : agenda_.begin()->first;
      now_ns_ = std::max(now_ns_, std::min({until_ns, next_client_ns, next_ns}));
      if (agenda_.empty() || agenda_.begin()->first > now_ns_) continue;
      const auto what = std::move(agenda_.begin()->second);
      agenda_.erase(agenda_.begin());
      what();
    }
  }
  bool run_until(const std::function<bool()>& is_true, int64_t at_most_ns) {
    for (const int64_t until_ns = now_ns_ + at_most_ns; now_ns_ < until_ns;) {
      if (is_true()) return true;
      run(kMs, false);
    }
    return is_true();
  }

  // --- what is seen

  [[nodiscard]] bool runs(uint64_t id) { return nodes_[id].core != nullptr && !nodes_[id].has_stopped; }
  [[nodiscard]] MemberCore& core(uint64_t id) { return *nodes_[id].core; }
  [[nodiscard]] bool is_ready(uint64_t id) { return nodes_[id].is_ready; }
  // Whom a majority follows; 0: nobody.
  [[nodiscard]] uint64_t leader() {
    for (auto& [id, node] : nodes_) {
      if (!runs(id) || !node.core->replication().raft().is_leader()) continue;
      size_t followers = 0;
      for (auto& [other, one] : nodes_) {
        const bool follows = runs(other) && one.core->replication().raft().leader() == NodeId(id) &&
                             one.core->replication().raft().term() == node.core->replication().raft().term();
        followers += follows ? 1 : 0;
      }
      if (followers > nodes_.size() / 2) return id;
    }
    return 0;
  }
  // The first entry of this kind behind `before` in the log of `id`; 0: there is none.
  [[nodiscard]] Index entry_behind(uint64_t id, Index before, RequestKind kind) {
    for (const raft::Entry& entry : nodes_[id].disk.entries) {
      if (entry.index <= before) continue;
      const auto request = split_request(entry.bytes());
      if (request && request->kind == kind) return entry.index;
    }
    return {};
  }
  // What `id` had told others to be committed before it began to apply the entry.
  [[nodiscard]] Index told_before(uint64_t id, Index entry) {
    const auto step = nodes_[id].told_when_applied.lower_bound(entry);
    return step != nodes_[id].told_when_applied.end() ? step->second : Index{};
  }
  [[nodiscard]] Request& request(Tag tag) { return requests_[tag]; }
  [[nodiscard]] std::map<Tag, Request>& requests() { return requests_; }
  [[nodiscard]] std::optional<Error>& transfer_outcome(Tag tag) { return transfers_[tag]; }
  [[nodiscard]] Tag last_tag() const { return next_tag_; }
  [[nodiscard]] int64_t now_ns() const { return now_ns_; }
  [[nodiscard]] Random& random() { return random_; }
  [[nodiscard]] size_t count(const std::function<bool(const Request&)>& is_it) {
    return static_cast<size_t>(
        std::count_if(requests_.begin(), requests_.end(), [&](const auto& one) { return is_it(one.second); }));
  }

  // Everything is well: each member gets to the same state, and it has what was acknowledged, once.
  void heal() {
    losses_one_in_ = repeats_one_in_ = 0;
    for (auto& [id, node] : nodes_) {
      node.stands_until_ns = 0;
      if (cut_.contains(id)) cut(id, false);
      if (!runs(id)) restart(id);
    }
  }
  void restart(uint64_t id) {
    if (nodes_[id].core) end(nodes_[id]);
    start(id);
  }
  void check_end() {
    const uint64_t leads = leader();
    ASSERT_NE(leads, 0u) << "seed " << options_.seed;
    const Index last = core(leads).replication().raft().last_index();
    const bool arrived = run_until(
        [&] {
          return std::all_of(nodes_.begin(), nodes_.end(),
                             [&](auto& one) { return one.second.core->apply().applied() >= last; });
        },
        10 * kSecond);
    std::string states;
    for (auto& [id, node] : nodes_) states += node.core->describe() + "\n";
    ASSERT_TRUE(arrived) << "seed " << options_.seed << ", all want " << last.value << "\n" << states;
    for (auto& [id, node] : nodes_) {
      const auto state = node.reader->enter();
      for (const auto& [tag, request] : requests_) {
        if (request.kind != Request::Kind::kPut) continue;
        const auto record = mvcc::find_record(state->kv, key_of(tag), state->kv.revision);
        ASSERT_TRUE(record);
        const bool is_there = record->has_value();
        if (request.outcome && request.outcome->code == Code::kOk && !is_there) {
          fail(fmt::format("member {} lacks acknowledged {}", id, key_of(tag)));
        }
        if (is_there && mvcc::decode_key_value(**record)->version != 1) {
          fail(fmt::format("member {} has applied {} more than once", id, key_of(tag)));
        }
      }
      EXPECT_EQ(node.core->replication().own_count(), 0u) << "member " << id << " seed " << options_.seed;
      EXPECT_EQ(node.core->replication().held_count(), 0u) << "member " << id << " seed " << options_.seed;
    }
    for (const auto& [tag, request] : requests_) {
      if (!request.outcome && !request.is_orphan) fail(fmt::format("{} at {} has no answer", tag, request.member));
    }
  }
  bool lacks_refused_puts(uint64_t id) {
    const auto state = nodes_[id].reader->enter();
    return std::ranges::none_of(requests_, [&](const auto& one) {
      const auto& [tag, request] = one;
      if (request.kind != Request::Kind::kPut || !request.outcome || request.outcome->code == Code::kOk) return false;
      return mvcc::find_record(state->kv, key_of(tag), state->kv.revision)->has_value();
    });
  }
  void fail(const std::string& text) { failures_.push_back(fmt::format("{} at {} ms", text, now_ns_ / kMs)); }

  uint64_t losses_one_in_ = 0;  // of messages; 0: none
  uint64_t repeats_one_in_ = 0;
  int64_t deaths_are_heard_for_ns_ = 2 * kMs;  // and what else is reported of others: until all have heard of it

 private:
  int64_t random_range(int64_t low, int64_t high) {
    return low + static_cast<int64_t>(random_.below(static_cast<uint64_t>(high - low + 1)));
  }
  void at(int64_t when_ns, std::function<void()> what) { agenda_.emplace(when_ns, std::move(what)); }
  void at(int64_t when_ns, Node& node, std::function<void()> what) {
    at(when_ns, [&node, generation = node.generation, what = std::move(what)] {
      if (node.generation == generation) what();
    });
  }
  void wake(Node& node, int64_t in_ns) {
    const int64_t when_ns = now_ns_ + std::max<int64_t>(in_ns, 5 * kUs);
    if (!node.core || node.step_at_ns <= when_ns) return;
    node.step_at_ns = when_ns;
    at(when_ns, node, [this, &node, when_ns] {
      if (node.step_at_ns == when_ns) step(node);
    });
  }

  void step(Node& node) {
    node.step_at_ns = kNever;
    if (node.has_stopped) return;
    if (node.stands_until_ns > now_ns_) return wake(node, node.stands_until_ns - now_ns_);
    const Index told = node.told_commit;
    Effects& effects = node.core->step(node.events, now_ns_);
    node.told_when_applied.emplace(node.core->apply().applied(), told);
    carry_out(node, effects);
  }

  void carry_out(Node& node, Effects& effects) {
    if (effects.failed) return fail("member " + std::to_string(node.id) + " failed: " + effects.failed->message);
    note_state(node);
    effects.answers.hand_out([&](unsigned, const AnswerBatch& batch) {
      for (const Answer& one : batch.answers) answer(node, one.tag, {one.code, std::string(batch.text(one))});
    });
    for (const Refused& one : effects.refused) answer(node, one.tag, one.error);
    for (WalWrite& write : effects.wal) write_log(node, std::move(write));
    for (raft::Message& message : effects.messages) send(std::move(message));
    for (const NodeId peer : effects.redial) {
      if (!runs(peer.value)) report(node, {PeerReport::Kind::kDied, peer});
    }
    if (effects.commit) {
      at(now_ns_ + random_range(100 * kUs, 5 * kMs), node, [this, &node, job = *effects.commit] {
        node.events.commit = node.commit->run(job);
        wake(node, 0);
      });
    }
    node.is_ready = node.is_ready || effects.is_ready;
    if (effects.ending != Ending::kNone) {
      node.has_stopped = true;
      for (const auto& [tag, request] : requests_) {
        if (request.member == node.id && !request.outcome && !request.is_orphan) fail("a stop left a request behind");
      }
      return report_of(node.id, PeerReport::Kind::kDied);
    }
    if (effects.wake_at_ns) wake(node, *effects.wake_at_ns - now_ns_);
  }

  // At an index all members have the same state.
  void note_state(Node& node) {
    const Published& newest = node.core->published().newest();
    const auto [known, is_new] = revisions_.try_emplace(newest.applied, newest.kv.revision);
    if (!is_new && known->second != newest.kv.revision) {
      fail(fmt::format("member {} has revision {} at entry {}, another had {}", node.id, newest.kv.revision,
                       newest.applied, known->second));
    }
  }

  void answer(Node& node, Tag tag, Error outcome) {
    if (tag == 0) return;
    if (const auto transfer = transfers_.find(tag); transfer != transfers_.end()) {
      if (transfer->second) fail("a transfer was answered twice");
      transfer->second = std::move(outcome);
      return;
    }
    Request& request = requests_.at(tag);
    if (request.outcome || request.is_orphan || request.member != node.id) {
      return fail(fmt::format("request {} of member {} is answered by {} again: {}", tag, request.member, node.id,
                              outcome.message));
    }
    request.took_ns = now_ns_ - request.since_ns;
    const bool is_ok = outcome.code == Code::kOk;
    if (is_ok && request.kind == Request::Kind::kPut) {
      etcdserverpb::PutResponse response;
      if (!response.ParseFromString(outcome.message)) fail("an answer that cannot be read");
      seen_revision_ = std::max(seen_revision_, response.header().revision());
    }
    if (is_ok && request.kind == Request::Kind::kRead) {
      const int64_t revision = node.core->published().newest().kv.revision;
      if (revision < request.floor) {
        fail(fmt::format("a read at {} sees revision {}, {} was acknowledged before it began", node.id, revision,
                         request.floor));
      }
      seen_revision_ = std::max(seen_revision_, revision);
    }
    request.outcome = std::move(outcome);
  }

  void write_log(Node& node, WalWrite write) {
    node.wal_free_at_ns = std::max(node.wal_free_at_ns, now_ns_) + random_range(50 * kUs, 2 * kMs);
    at(node.wal_free_at_ns, node, [this, &node, write = std::move(write)]() mutable {
      node.disk.write(write);
      WalDone done{.number = write.number, .entries = std::move(write.entries)};
      if (write.hard_state) done.durable_commit = write.hard_state->commit;
      if (write.snapshot) done.snapshot = write.snapshot->index;
      done.bytes = write.bytes;
      for (raft::Message& message : write.messages) send(std::move(message));
      node.events.wal.push_back(std::move(done));
      wake(node, 0);
    });
  }

  void send(raft::Message message) {
    const uint64_t from = message.from.value;
    const uint64_t to = message.to.value;
    if (message.type == raft::MessageType::kApp) {
      nodes_[from].told_commit = std::max(nodes_[from].told_commit, message.commit);
    }
    for (raft::Entry& entry : message.entries) entry.data = without_tag(entry.data);
    if (!runs(to) || cut_.contains(from) || cut_.contains(to)) return;
    if (losses_one_in_ != 0 && random_.one_in(losses_one_in_)) return;
    const bool repeats = repeats_one_in_ != 0 && random_.one_in(repeats_one_in_);
    const bool overtakes = repeats_one_in_ != 0 && random_.one_in(20);
    for (int copies = repeats ? 2 : 1; copies > 0; --copies) {
      int64_t when_ns = now_ns_ + random_range(50 * kUs, 800 * kUs);
      if (copies == 1 && repeats) when_ns += random_range(0, 300 * kMs);
      int64_t& last_ns = arrives_ns_[{from, to}];
      if (!overtakes && !(repeats && copies == 1)) when_ns = last_ns = std::max(last_ns, when_ns);
      Node& node = nodes_[to];
      at(when_ns, node, [this, &node, message, from] {
        if (cut_.contains(from) || cut_.contains(node.id)) return;
        if (node.core->apply().members().removed.contains(NodeId(from))) return;
        node.events.messages.push_back(message);
        wake(node, 0);
      });
    }
  }

  Options options_;
  Random random_;
  int64_t now_ns_ = 1;
  int64_t next_request_ns_ = 0;
  std::multimap<int64_t, std::function<void()>> agenda_;
  std::map<uint64_t, Node> nodes_;
  std::set<uint64_t> cut_;
  std::map<std::pair<uint64_t, uint64_t>, int64_t> arrives_ns_;
  std::map<Tag, Request> requests_;
  std::map<Tag, std::optional<Error>> transfers_;
  Tag next_tag_ = 0;
  int64_t seen_revision_ = 0;
  std::map<Index, int64_t> revisions_;
  std::vector<std::string> failures_;
};

}  // namespace cairn::member::world
