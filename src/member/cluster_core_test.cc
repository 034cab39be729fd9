// A cluster of MemberCores in virtual time: logs in memory that forget what was not synced, a network that loses,
// repeats and delays, members that crash, stop and stand still, and clients at each of them.
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

namespace cairn::member {
namespace {

constexpr int64_t kUs = 1000;
constexpr int64_t kMs = 1000 * kUs;
constexpr int64_t kSecond = 1000 * kMs;
constexpr int64_t kNever = INT64_MAX;

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

raft::PayloadPtr without_tag(const raft::PayloadPtr& payload) {
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
    Effects& effects = node.core->step(node.events, now_ns_);
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

bool is_ok(const Request& request) { return request.outcome && request.outcome->code == Code::kOk; }

TEST(ClusterCore, EveryMemberIsReadyAndTakesRequests) {
  World world({.members = 3});
  ASSERT_TRUE(
      world.run_until([&] { return world.is_ready(1) && world.is_ready(2) && world.is_ready(3); }, 5 * kSecond));
  world.run(500 * kMs, false);
  EXPECT_EQ(world.core(1).apply().members().version, "3.7.0");
  for (uint64_t id = 1; id <= 3; ++id) {
    const Tag put = world.put(id);
    const Tag read = world.read(id);
    world.run(100 * kMs, false);
    EXPECT_TRUE(is_ok(world.request(put))) << id;
    EXPECT_TRUE(is_ok(world.request(read))) << id;
  }
  world.check_end();
}

// Clients of the members that are left see nothing of it but a delay.
TEST(ClusterCore, NoRequestFailsWhenTheLeaderDies) {
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    World world({.seed = seed, .members = seed % 2 == 0 ? 3u : 5u});
    ASSERT_TRUE(world.run_until([&] { return world.leader() != 0; }, 5 * kSecond));
    world.run(2 * kSecond, true);
    const uint64_t dead = world.leader();
    ASSERT_NE(dead, 0u);
    const int64_t died_ns = world.now_ns();
    world.crash(dead);
    ASSERT_TRUE(world.run_until([&] { return world.leader() != 0; }, kSecond)) << "seed " << seed;
    EXPECT_LT(world.now_ns() - died_ns, 300 * kMs) << "seed " << seed;
    world.run(3 * kSecond, true);
    world.restart(dead);
    world.run(kSecond, true);
    world.run(kSecond, false);
    EXPECT_EQ(world.count([](const Request& one) { return !is_ok(one) && !one.is_orphan; }), 0u) << "seed " << seed;
    world.check_end();
  }
}

// Survivors that hear of it at the wrong times campaign at the same time, and each votes for itself. Without further
// tries the next leader would come with the election timeout, 1 s or more later.
TEST(ClusterCore, SplitVotesAreDecidedSoon) {
  int most_terms = 0;
  for (uint64_t seed = 1; seed <= 600; ++seed) {
    World world({.seed = seed, .members = seed % 3 == 0 ? 5u : 3u});
    ASSERT_TRUE(world.run_until([&] { return world.leader() != 0; }, 5 * kSecond));
    world.run(500 * kMs, false);
    const uint64_t dead = world.leader();
    ASSERT_NE(dead, 0u);
    const int term = static_cast<int>(world.core(dead).replication().raft().term().value);
    const int64_t died_ns = world.now_ns();
    world.deaths_are_heard_for_ns_ = 40 * kMs;
    world.crash(dead);
    ASSERT_TRUE(world.run_until([&] { return world.leader() != 0; }, 3 * kSecond)) << "seed " << seed;
    EXPECT_LT(world.now_ns() - died_ns, 300 * kMs) << "seed " << seed;
    most_terms =
        std::max(most_terms, static_cast<int>(world.core(world.leader()).replication().raft().term().value) - term);
  }
  EXPECT_GT(most_terms, 1);  // else no vote was split, and this test shows nothing
}

TEST(ClusterCore, NoRequestFailsWhenTheLeaderStops) {
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    World world({.seed = seed, .members = 3});
    ASSERT_TRUE(world.run_until([&] { return world.leader() != 0; }, 5 * kSecond));
    world.run(kSecond, true);
    const uint64_t old = world.leader();
    const int64_t stopped_ns = world.now_ns();
    world.stop(old);
    world.run(2 * kSecond, true);
    EXPECT_FALSE(world.runs(old));
    EXPECT_LT(world.now_ns() - stopped_ns, 3 * kSecond);
    world.restart(old);
    world.run(kSecond, true);
    world.run(kSecond, false);
    EXPECT_EQ(world.count([](const Request& one) { return !is_ok(one); }), 0u) << "seed " << seed;
    world.check_end();
  }
}

TEST(ClusterCore, ARemovedLeaderIsSucceededAtOnce) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    World world({.seed = seed, .members = 3});
    ASSERT_TRUE(world.run_until([&] { return world.leader() != 0; }, 5 * kSecond));
    world.run(kSecond, true);
    const uint64_t old = world.leader();
    const Tag removal = world.remove(old, old);
    const int64_t asked_ns = world.now_ns();
    while (world.leader() == old || world.leader() == 0) {
      world.run(kMs, true);
      ASSERT_LT(world.now_ns() - asked_ns, 100 * kMs) << "seed " << seed;
    }
    world.run(kSecond, true);
    ASSERT_TRUE(world.transfer_outcome(removal));
    EXPECT_EQ(world.transfer_outcome(removal)->code, Code::kOk);
    world.stop(old);
    world.run(kSecond, true);
    world.run(kSecond, false);
    // Who asks the removed one hears that it has stopped, and knows that nothing has come of the request.
    for (const auto& [tag, request] : world.requests()) {
      if (is_ok(request)) continue;
      EXPECT_EQ(request.member, old) << "seed " << seed;
      EXPECT_EQ(request.outcome, errors::stopped()) << "seed " << seed;
    }
    EXPECT_TRUE(world.lacks_refused_puts(old % 3 + 1)) << "seed " << seed;
  }
}

// It was removed because its disk was full, say: nobody else could say that there is room.
TEST(ClusterCore, TheAlarmOfARemovedMemberDoesNotKeepTheOthersFromWriting) {
  World world({.members = 3});
  ASSERT_TRUE(world.run_until([&] { return world.leader() != 0; }, 5 * kSecond));
  const uint64_t leader = world.leader();
  const uint64_t full = leader % 3 + 1;
  const auto has_alarm = [&] { return world.core(leader).published().newest().has_alarm(kAlarmNoSpace); };
  world.raise_no_space(full);
  ASSERT_TRUE(world.run_until(has_alarm, kSecond));
  const Tag removal = world.remove(leader, full);
  ASSERT_TRUE(world.run_until([&] { return world.transfer_outcome(removal).has_value(); }, kSecond));
  world.stop(full);
  EXPECT_TRUE(has_alarm());
  EXPECT_TRUE(world.run_until([&] { return !has_alarm(); }, 12 * kSecond));
  const Tag put = world.put(leader);
  world.run(kSecond, false);
  EXPECT_TRUE(is_ok(world.request(put)));
}

// Its successor counts the time of leases from when it began to lead.
TEST(ClusterCore, ARemovedLeaderRenewsNoLease) {
  World world({.members = 3});
  ASSERT_TRUE(world.run_until([&] { return world.leader() != 0; }, 5 * kSecond));
  world.run(kSecond, false);
  const uint64_t old = world.leader();
  const Tag before = world.renew(old, 5);
  world.remove(old, old);
  ASSERT_TRUE(
      world.run_until([&] { return world.core(old).apply().members().removed.contains(NodeId(old)); }, kSecond));
  EXPECT_TRUE(world.core(old).replication().raft().is_leader());
  const Tag after = world.renew(old, 5);
  world.run(5 * kMs, false);
  ASSERT_TRUE(world.transfer_outcome(before));
  EXPECT_EQ(world.transfer_outcome(before)->code, Code::kOk);
  EXPECT_TRUE(world.core(old).replication().raft().is_leader());
  EXPECT_EQ(world.transfer_outcome(after), errors::stopped());
}

// It stays for a while, for the sake of its vote. Its clients need not wait for that.
TEST(ClusterCore, WhoIsToldThatItWasRemovedTakesNoRequests) {
  World world({.members = 5});
  ASSERT_TRUE(world.run_until([&] { return world.leader() != 0; }, 5 * kSecond));
  world.run(kSecond, false);
  const uint64_t away = world.leader() % 5 + 1;
  const uint64_t other = away % 5 + 1;
  world.cut(away, true);
  world.remove(world.leader(), away);
  world.run(kSecond, false);
  const std::vector<Tag> before = {world.put(away), world.read(away), world.remove(away, other)};
  world.run(100 * kMs, false);
  world.tell_removal(away, other);
  world.run(10 * kMs, false);
  const std::vector<Tag> after = {world.put(away), world.read(away), world.remove(away, other)};
  world.run(10 * kMs, false);
  for (const auto& tags : {before, after}) {
    EXPECT_EQ(world.request(tags[0]).outcome, errors::stopped());
    EXPECT_EQ(world.request(tags[1]).outcome, errors::stopped());
    EXPECT_EQ(world.transfer_outcome(tags[2]), errors::stopped());
  }
  EXPECT_FALSE(world.core(away).is_stopping());
}

TEST(ClusterCore, LeadershipIsHandedToWhomItIsWanted) {
  World world({.members = 3});
  ASSERT_TRUE(world.run_until([&] { return world.leader() != 0; }, 5 * kSecond));
  const uint64_t old = world.leader();
  const uint64_t next = old % 3 + 1;
  world.transfer(next, old);
  const Tag refused = world.last_tag();
  world.transfer(old, 17);
  const Tag bad = world.last_tag();
  world.run(100 * kMs, true);
  world.transfer(old, next);
  const Tag done = world.last_tag();
  world.run(500 * kMs, true);
  EXPECT_EQ(world.leader(), next);
  EXPECT_EQ(world.transfer_outcome(refused), errors::not_leader());
  EXPECT_EQ(world.transfer_outcome(bad), errors::bad_leader_transferee());
  ASSERT_TRUE(world.transfer_outcome(done));
  EXPECT_EQ(world.transfer_outcome(done)->code, Code::kOk);
  world.run(kSecond, false);
  EXPECT_EQ(world.count([](const Request& one) { return !is_ok(one); }), 0u);
  world.check_end();
}

TEST(ClusterCore, ALeaderWhoseLogStandsStillHandsOver) {
  World world({.members = 3});
  ASSERT_TRUE(world.run_until([&] { return world.leader() != 0; }, 5 * kSecond));
  world.run(500 * kMs, true);
  const uint64_t old = world.leader();
  ASSERT_NE(old, 0U);
  for (uint64_t id = 1; id <= 3; ++id) world.stall_log(id, 2 * kSecond);
  world.run(3 * kSecond, true);
  EXPECT_EQ(world.leader(), old) << "no other log goes on";
  world.stall_log(old, 5 * kSecond);
  world.run(kSecond, true);
  EXPECT_NE(world.leader(), old);
  EXPECT_NE(world.leader(), 0U);
  world.run(6 * kSecond, true);
  world.run(kSecond, false);
  EXPECT_EQ(world.count([](const Request& one) { return !is_ok(one); }), 0u);
  world.check_end();
}

// While it stood still its disk did not: that a write was under way for so long says nothing.
TEST(ClusterCore, ALeaderThatStoodStillForLessThanAnElectionGoesOn) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    World world({.seed = seed, .members = 3});
    ASSERT_TRUE(world.run_until([&] { return world.leader() != 0; }, 5 * kSecond));
    world.run(500 * kMs, true);
    const uint64_t old = world.leader();
    ASSERT_NE(old, 0U);
    world.stall_log(old, 720 * kMs);
    world.run(10 * kMs, true);
    world.stand_still(old, 700 * kMs);  // the whole process: a write comes to its end afterwards
    world.run(2 * kSecond, true);
    EXPECT_EQ(world.leader(), old) << seed;
    world.run(kSecond, false);
    world.check_end();
  }
}

TEST(ClusterCore, WhatWaitsForTooLongIsRefusedAsByEtcd) {
  World world({.members = 3});
  ASSERT_TRUE(world.run_until([&] { return world.leader() != 0; }, 5 * kSecond));
  const uint64_t alone = world.leader() % 3 + 1;
  const Tag before = world.put(alone);
  world.run(kSecond, false);
  ASSERT_TRUE(is_ok(world.request(before)));
  world.cut(alone, true);
  world.run(100 * kMs, false);
  const Tag put = world.put(alone);
  const Tag read = world.read(alone);
  world.run(6900 * kMs, false);
  EXPECT_FALSE(world.request(put).outcome);
  EXPECT_FALSE(world.request(read).outcome);
  world.run(200 * kMs, false);
  EXPECT_EQ(world.request(put).outcome, errors::timeout());
  EXPECT_EQ(world.request(read).outcome, errors::timeout());
  world.cut(alone, false);
  world.run(2 * kSecond, true);
  world.run(kSecond, false);
  world.check_end();
}

// Everything at once, and then peace.
TEST(ClusterCore, LivesWithFaults) {
  for (uint64_t seed = 1; seed <= 12; ++seed) {
    World world({.seed = seed, .members = seed % 3 == 0 ? 5u : 3u});
    const uint64_t members = seed % 3 == 0 ? 5 : 3;
    Random& random = world.random();
    world.run_until([&] { return world.leader() != 0; }, 5 * kSecond);
    for (int round = 0; round < 25 && !::testing::Test::HasFailure(); ++round) {
      const uint64_t id = random.one_in(2) && world.leader() != 0 ? world.leader() : 1 + random.below(members);
      world.losses_one_in_ = random.one_in(3) ? 30 : 0;
      world.repeats_one_in_ = random.one_in(3) ? 30 : 0;
      switch (random.below(6)) {
        case 0: world.crash(id); break;
        case 1: world.stop(id); break;
        case 2: world.cut(id, true); break;
        case 3: world.stand_still(id, static_cast<int64_t>(random.below(2500)) * kMs); break;
        case 4: world.transfer(id, 1 + random.below(members)); break;
        default: break;
      }
      world.run(static_cast<int64_t>(random.between(50, 1500)) * kMs, true);
      if (!random.one_in(4)) world.heal();
    }
    world.heal();
    world.run(kSecond, true);
    world.heal();  // one was about to stop
    world.run(8 * kSecond, true);
    world.run(8 * kSecond, false);
    world.check_end();
    EXPECT_GT(world.count(is_ok), 500u) << "seed " << seed;
  }
}

}  // namespace
}  // namespace cairn::member
