#include "rpc/corruption_checks.h"

#include <algorithm>
#include <chrono>
#include <functional>
#include <future>

#include "base/bytes.h"
#include "base/go_duration.h"
#include "base/log.h"
#include "env/clock.h"
#include "member/quota.h"
#include "mvcc/kv/hash.h"
#include "rpc/peer_hashes.h"

namespace cairn::rpc {
namespace {

constexpr uint64_t kSliceRecords = 5000;
constexpr uint64_t kNoClient = 0;  // the workers count by connection

std::string duration_text(int64_t ns) { return go_duration(std::chrono::nanoseconds(ns)); }

}  // namespace

struct CorruptionChecks::Walk {
  Then then;
  KvHash hash;
  std::optional<mvcc::KvHasher> hasher;
  member::PublishedDomain::Pin pin;
};

CorruptionChecks::CorruptionChecks(Shared& shared, Context& context, const Options& options)
    : shared_(shared),
      context_(context),
      loop_(context.loop()),
      options_(options),
      calls_(context),
      reader_(shared.node.published().register_thread()) {
  if (options_.periodic_ns > 0) {
    log::info("enabled corruption checking", {{"local-member-id", hex_id(shared_.node.member_id())},
                                              {"interval", duration_text(options_.periodic_ns)}});
  }
  loop_.post([this] {
    plan_periodic();
    plan_compact_hash();
  });
}

void CorruptionChecks::plan_periodic() {
  if (options_.periodic_ns > 0) periodic_ = loop_.after(options_.periodic_ns, [this] { check(); });
}

void CorruptionChecks::plan_compact_hash() {
  if (options_.compact_hash_ns > 0) {
    compact_hash_ = loop_.after(options_.compact_hash_ns, [this] { check_compactions(); });
  }
}

bool CorruptionChecks::leads() { return reader_->enter()->leader.is_leader; }

void CorruptionChecks::check() {
  if (!leads()) return plan_periodic();
  hash([this](const Result<KvHash>& first) { first ? ask_others(*first) : end_check(std::unexpected(first.error())); });
}

void CorruptionChecks::ask_others(const KvHash& first) {
  ask_peers(first.revision, [this, first](std::vector<PeerHashAnswer> peers) {
    calls_.when_linearizable([this, first, peers = std::move(peers)](const Status& read) {
      read ? read_again(first, peers) : end_check(read);
    });
  });
}

void CorruptionChecks::read_again(const KvHash& first, const std::vector<PeerHashAnswer>& peers) {
  hash([this, first, peers](const Result<KvHash>& second) {
    if (!second) return end_check(std::unexpected(second.error()));
    const NodeId self(shared_.node.member_id());
    if (const auto corrupt = compare_now(self, first, *second, second->revision, peers)) raise(*corrupt);
    end_check({});
  });
}

void CorruptionChecks::end_check(const Status& done) {
  if (!done) log::warn("failed to check hash KV", {{"error", done.error().message}});
  plan_periodic();
}

void CorruptionChecks::raise(NodeId member) {
  if (member == NodeId(shared_.node.member_id())) return shared_.node.raise_alarm(member::kAlarmCorrupt);
  shared_.node.propose({std::make_shared<const raft::Payload>(raft::Payload{
      .bytes = member::alarm_request(member.value, member::kAlarmCorrupt, shared_.node.next_request_id())})});
}

void CorruptionChecks::ask_peers(int64_t revision, std::function<void(std::vector<PeerHashAnswer> answers)> then) {
  if (context_.peers() == nullptr) return then({});
  const PeerHashQuestion question{
      .self = NodeId(shared_.node.member_id()),
      .cluster_id = shared_.node.cluster_id(),
      .revision = revision,
      .deadline_ns = shared_.clock.monotonic_ns() + shared_.limits.request_timeout_ns,
  };
  ask_for_hashes(*context_.peers(), *reader_->enter()->members, question,
                 [&loop = loop_, then = std::move(then)](std::vector<PeerHashAnswer> answers) {
                   loop.post([then, answers = std::move(answers)] { then(answers); });
                 });
}

// Compactions happen at the same revision everywhere, so what they leave must be the same.
void CorruptionChecks::check_compactions() {
  if (!leads()) return plan_compact_hash();
  log::info("starting compact hash check", {{"local-member-id", hex_id(shared_.node.member_id())},
                                            {"timeout", duration_text(shared_.limits.request_timeout_ns)}});
  std::vector<KvHash> hashes;  // the newest first
  for (const member::CompactionHash& one : *reader_->enter()->compaction_hashes) {
    if (one.revision > compaction_checked_) hashes.push_back({one.revision, one.compact_revision, one.hash});
  }
  std::ranges::sort(hashes, std::greater(), &KvHash::revision);
  check_compaction(std::move(hashes), 0);
}

void CorruptionChecks::check_compaction(std::vector<KvHash> hashes, size_t at) {
  const auto end = [this](size_t count) {
    log::info("finished compaction hash check", {{"number-of-hashes-checked", count}});
    plan_compact_hash();
  };
  if (at == hashes.size()) return end(at);
  const KvHash own = hashes[at];
  ask_peers(own.revision, [this, end, own, at, hashes = std::move(hashes)](const std::vector<PeerHashAnswer>& peers) {
    if (peers.empty()) return check_compaction(hashes, at + 1);  // there is nobody to compare with
    const CompactionVerdict verdict = compare_compaction(NodeId(shared_.node.member_id()), own, peers);
    for (const NodeId member : verdict.alarms) raise(member);
    if (verdict.is_whole) compaction_checked_ = std::max(compaction_checked_, own.revision);
    verdict.is_over ? end(at + 1) : check_compaction(hashes, at + 1);
  });
}

void CorruptionChecks::hash(Then then) {
  auto walk = std::make_shared<Walk>();
  walk->then = std::move(then);
  const bool is_taken =
      shared_.workers.run(Workers::Lane::kBackground, kNoClient, [this, walk](auto& reader) { step(walk, reader); });
  if (!is_taken) walk->then(std::unexpected(errors::request_too_many_requests()));
}

// On the worker.
void CorruptionChecks::step(const std::shared_ptr<Walk>& walk, member::PublishedDomain::Reader& reader) {
  const auto state = reader.enter();
  if (!walk->hasher) {
    walk->hash = {.revision = state->kv.revision, .compact_revision = state->kv.compact_revision};
    walk->hasher.emplace(state->kv.root, state->kv.revision, state->kv.compact_revision);
    walk->pin = state.pin(std::max<int64_t>(state->kv.compact_revision, 0));
  }
  const auto done = walk->hasher->step(state->records_of(walk->pin.number()), kSliceRecords);
  if (done && !*done) {
    return shared_.workers.go_on(Workers::Lane::kBackground, kNoClient, [this, walk](auto& next) { step(walk, next); });
  }
  walk->pin.release();
  Result<KvHash> result = walk->hash;
  if (done) {
    result->hash = walk->hasher->hash();
  } else {
    result = std::unexpected(done.error());
  }
  loop_.post([walk, result = std::move(result)] { walk->then(result); });
}

Status check_at_start(member::Node& node, int64_t request_timeout_ns, const Peers* peers) {
  const std::string id = hex_id(node.member_id());
  log::info("starting initial corruption check",
            {{"local-member-id", id}, {"timeout", duration_text(request_timeout_ns)}});
  const auto reader = node.published().register_thread();
  std::optional<mvcc::KvHasher> hasher;
  member::PublishedDomain::Pin pin;
  KvHash own;
  while (true) {
    const auto state = reader->enter();
    if (!hasher) {
      own = {.revision = state->kv.revision, .compact_revision = state->kv.compact_revision};
      hasher.emplace(state->kv.root, state->kv.revision, state->kv.compact_revision);
      pin = state.pin(std::max<int64_t>(state->kv.compact_revision, 0));
    }
    const auto done = hasher->step(state->kv.records, kSliceRecords);
    if (!done) return fail(done.error().code, "{} failed to fetch hash ({})", id, done.error().message);
    if (*done) break;
  }
  own.hash = hasher->hash();
  pin.release();
  if (peers != nullptr) {
    std::promise<std::vector<PeerHashAnswer>> said;
    const PeerHashQuestion question{.self = NodeId(node.member_id()),
                                    .cluster_id = node.cluster_id(),
                                    .revision = own.revision,
                                    .deadline_ns = env::PosixClock().monotonic_ns() + request_timeout_ns};
    const auto members = reader->enter()->members;
    ask_for_hashes(*peers, *members, question,
                   [&said](std::vector<PeerHashAnswer> answers) { said.set_value(std::move(answers)); });
    CAIRN_CHECK(compare_at_start(question.self, own, said.get_future().get()));
  }
  log::info("initial corruption checking passed; no corruption", {{"local-member-id", id}});
  return {};
}

}  // namespace cairn::rpc
