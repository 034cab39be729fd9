#include "member/compaction_duty.h"

#include <algorithm>
#include <chrono>

#include "base/errors.h"
#include "base/go_duration.h"
#include "base/log.h"
#include "proto/raft_internal.pb.h"

namespace cairn::member {
namespace {

constexpr int64_t kHourNs = int64_t{3600} * 1'000'000'000;
constexpr int64_t kRevisionIntervalNs = kHourNs / 12;
constexpr int64_t kRetryDivisor = 10;

std::string text(int64_t duration_ns) { return go_duration(std::chrono::nanoseconds(duration_ns)); }

bool is_periodic(const AutoCompaction& options) { return options.mode == AutoCompaction::Mode::kPeriodic; }

int64_t retry_interval(const AutoCompaction& options) {
  if (!is_periodic(options)) return kRevisionIntervalNs;
  return std::max<int64_t>(1, std::min(options.retention, kHourNs) / kRetryDivisor);
}

}  // namespace

CompactionDuty::CompactionDuty(const AutoCompaction& options, NextRequestId next_request_id)
    : options_(options),
      next_request_id_(std::move(next_request_id)),
      interval_ns_(is_periodic(options) ? std::min(options.retention, kHourNs) : kRevisionIntervalNs),
      retry_interval_ns_(retry_interval(options)),
      revisions_max_(is_periodic(options) ? static_cast<size_t>(options.retention / retry_interval_ns_) + 1 : 1) {}

std::optional<int64_t> CompactionDuty::next_ns(Index applied) const {
  if (options_.retention <= 0 || !has_begun_) return std::nullopt;
  if (!asked_) return look_at_ns_;
  if (applied < asked_->index) return std::nullopt;
  return asked_->at_ns;
}

// What etcd's loop does before it waits.
void CompactionDuty::note_revision(const Scene& scene) {
  revisions_.push_back(scene.revision);
  if (revisions_.size() > revisions_max_) revisions_.pop_front();
  look_at_ns_ = scene.now_ns + retry_interval_ns_;
}

bool CompactionDuty::act(const Scene& scene, const Propose& propose) {
  if (options_.retention <= 0) return false;
  if (!has_begun_) {
    has_begun_ = true;
    last_success_ns_ = scene.now_ns;
    note_revision(scene);
  }
  if (asked_) {
    const bool is_applied = scene.applied >= asked_->index;
    if (!is_applied && scene.term == asked_->term) return false;
    end(scene);
    return false;
  }
  if (scene.now_ns < look_at_ns_) return false;
  const std::optional<int64_t> revision = scene.term != Term{} ? due(scene) : std::nullopt;
  if (!revision) {
    note_revision(scene);
    return false;
  }
  is_first_ = false;
  if (is_periodic(options_)) {
    log::info("starting auto periodic compaction",
              {{"revision", *revision}, {"compact-period", text(options_.retention)}});
  } else {
    log::info("starting auto revision compaction",
              {{"revision", *revision}, {"revision-compaction-retention", options_.retention}});
  }
  etcdserverpb::InternalRaftRequest request;
  request.mutable_header()->set_id(next_request_id_());
  request.mutable_compaction()->set_revision(*revision);
  const auto index = propose({request.SerializeAsString()});
  asked_ = Asked{.revision = *revision, .at_ns = scene.now_ns, .index = index.value_or(Index{}), .term = scene.term};
  if (!index) end(scene);
  return index.has_value();
}

std::optional<int64_t> CompactionDuty::due(const Scene& scene) {
  if (!is_periodic(options_)) {
    const int64_t revision = scene.revision - options_.retention;
    if (revision <= 0 || revision == last_revision_) return std::nullopt;
    return revision;
  }
  const int64_t base_ns = is_first_ ? options_.retention : interval_ns_;
  const int64_t revision = revisions_.front();
  if (scene.now_ns - last_success_ns_ < base_ns || revision == last_revision_) return std::nullopt;
  return revision;
}

void CompactionDuty::end(const Scene& scene) {
  const Asked asked = *asked_;
  const bool succeeded = scene.compacted >= asked.revision;
  const bool is_refused = scene.term == asked.term && asked.index != Index{} && scene.applied >= asked.index;
  asked_.reset();
  const std::string took = text(scene.now_ns - asked.at_ns);
  if (succeeded) {
    last_revision_ = asked.revision;
    last_success_ns_ = scene.now_ns;
  }
  const log::Field revision{"revision", asked.revision};
  const log::Field kept = is_periodic(options_) ? log::Field{"compact-period", text(options_.retention)}
                                                : log::Field{"revision-compaction-retention", options_.retention};
  const log::Field retry{"retry-interval", text(retry_interval_ns_)};
  const log::Field error{
      "error", is_refused ? errors::corrupt().message : "the compaction was not applied in this leader's term"};
  if (is_periodic(options_)) {
    succeeded ? log::info("completed auto periodic compaction", {revision, kept, {"took", took}})
              : log::warn("failed auto periodic compaction", {revision, kept, retry, error});
  } else {
    succeeded ? log::info("completed auto revision compaction", {revision, kept, {"took", took}})
              : log::warn("failed auto revision compaction", {revision, kept, retry, error});
  }
  note_revision(scene);
}

}  // namespace cairn::member
