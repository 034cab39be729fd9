#include "rpc/corruption_checks.h"

#include <algorithm>
#include <chrono>

#include "base/bytes.h"
#include "base/go_duration.h"
#include "base/log.h"
#include "mvcc/kv/hash.h"

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

CorruptionChecks::CorruptionChecks(Shared& shared, net::EventLoop& loop, const Options& options)
    : shared_(shared), loop_(loop), options_(options), reader_(shared.node.published().register_thread()) {
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
  const auto failed = [this](const Error& error) {
    log::warn("failed to check hash KV", {{"error", error.message}});
    plan_periodic();
  };
  hash([this, failed](const Result<KvHash>& first) {
    if (!first) return failed(first.error());
    hash([this, failed, first = *first](const Result<KvHash>& second) {
      if (!second) return failed(second.error());
      compare(first, *second);
      plan_periodic();
    });
  });
}

void CorruptionChecks::compare(const KvHash& first, const KvHash& second) {
  const bool is_same_state = first.revision == second.revision && first.compact_revision == second.compact_revision;
  if (is_same_state && first.hash != second.hash) {
    log::warn("found hash mismatch", {{"revision-1", first.revision},
                                      {"compact-revision-1", first.compact_revision},
                                      {"hash-1", first.hash},
                                      {"revision-2", second.revision},
                                      {"compact-revision-2", second.compact_revision},
                                      {"hash-2", second.hash}});
    shared_.node.raise_alarm(member::kAlarmCorrupt);
  }
  log::info("finished peer corruption check", {{"number-of-peers-checked", 0}});
}

// There is nobody to compare with.
void CorruptionChecks::check_compactions() {
  if (leads()) {
    log::info("starting compact hash check", {{"local-member-id", hex_id(shared_.node.member_id())},
                                              {"timeout", duration_text(shared_.limits.request_timeout_ns)}});
    const size_t count = reader_->enter()->compaction_hashes->size();
    log::info("finished compaction hash check", {{"number-of-hashes-checked", count}});
  }
  plan_compact_hash();
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

Status check_at_start(member::Node& node, int64_t request_timeout_ns) {
  const std::string id = hex_id(node.member_id());
  log::info("starting initial corruption check",
            {{"local-member-id", id}, {"timeout", duration_text(request_timeout_ns)}});
  const auto reader = node.published().register_thread();
  std::optional<mvcc::KvHasher> hasher;
  member::PublishedDomain::Pin pin;
  while (true) {
    const auto state = reader->enter();
    if (!hasher) {
      hasher.emplace(state->kv.root, state->kv.revision, state->kv.compact_revision);
      pin = state.pin(std::max<int64_t>(state->kv.compact_revision, 0));
    }
    const auto done = hasher->step(state->kv.records, kSliceRecords);
    if (!done) return fail(done.error().code, "{} failed to fetch hash ({})", id, done.error().message);
    if (*done) break;
  }
  log::info("initial corruption checking passed; no corruption", {{"local-member-id", id}});
  return {};
}

}  // namespace cairn::rpc
