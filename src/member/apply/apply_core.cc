#include "member/apply/apply_core.h"

#include <algorithm>
#include <limits>

#include "base/check.h"
#include "base/errors.h"
#include "base/log.h"
#include "cluster/codec.h"
#include "raft/conf_change.h"

namespace cairn::member {
namespace {

uint64_t entry_bytes(const raft::Entry& entry) { return entry.bytes().size() + 32; }

}  // namespace

ApplyCore::ApplyCore(const ApplyOptions& options, AppliedState state, Answers& answers, int64_t now_ns)
    : options_(options),
      answers_(answers),
      store_(std::move(state.index), state.file, state.store),
      lessor_(std::move(state.lessor)),
      auth_(std::move(state.auth)),
      alarms_(std::move(state.alarms)),
      alarm_list_(std::make_shared<const std::vector<Alarm>>(alarms_.begin(), alarms_.end())),
      members_(std::make_shared<const cluster::Membership>(std::move(state.members))),
      conf_(std::move(state.conf)),
      storage_version_(std::move(state.storage_version)),
      schema_(state.schema),
      applied_(state.applied),
      applied_term_(state.applied_term),
      space_(state.space),
      last_tick_ns_(now_ns),
      last_commit_ns_(now_ns),
      snapshot_index_(state.snapshot_index),
      last_snapshot_ns_(now_ns) {
  views_.push_back(store_.file());
  if (state.new_directory) store_first_tables();
  if (state.replaced_members) rewrite_members(*state.replaced_members);
  Published first;
  first.kv = store_.publish();
  const uint64_t number = first.kv.root.batch();
  first.file = store_.file();
  first.applied = applied_;
  first.applied_term = applied_term_;
  first.members = members_;
  first.alarms = alarm_list_;
  first.storage_version = storage_version_;
  first.db_total_bytes = space_.total_bytes;
  first.db_in_use_bytes = space_.in_use_bytes;
  published_ = std::make_unique<PublishedDomain>(number, std::move(first));
  published_compact_revision_ = store_.compact_revision();
  compact_number_ = number;
  if (state.unfinished_compaction > 0) {
    const bool wrong = CAIRN_MUTANT("server.compaction_resumed_at_wrong_revision");
    pass_ = Pass{.compact_revision = wrong ? store_.revision() : state.unfinished_compaction};
  }
  consider_commit(now_ns);
}

ApplyCore::~ApplyCore() = default;

Status ApplyCore::apply(ApplyBatch batch, int64_t now_ns, bool beyond_buffers) {
  CAIRN_ASSERT(batch.entries.empty() || beyond_buffers || !stalled());
  if (batch.leader_state) {
    leader_ = *batch.leader_state;
    term_for_headers_ = leader_.term.value;
    dirty_ = true;
  }
  note_durable_commit(batch.durable_commit);
  for (const raft::Entry& entry : batch.entries) {
    CAIRN_ASSERT(entry.index == applied_ + 1);
    applied_ = entry.index;
    applied_term_ = entry.term;
    ++entries_since_;
    wal_bytes_since_ += entry_bytes(entry);
    CAIRN_CHECK(apply_entry(entry));
    // The two buffers swap between entries; one entry may exceed the bound.
    if (!store_.committing() &&
        (store_.live().bytes() >= options_.buffer_bytes_max || entries_since_ >= options_.buffer_entries_max)) {
      begin_commit(now_ns);
    }
  }
  if (!batch.entries.empty()) {
    dirty_ = true;
    output_.notice.applied = applied_;
    has_output_ = true;
  }
  if (dirty_) publish();
  for (const ControlRequest& control : batch.controls) {
    if (control.kind == Control::kCommit) {
      commit_waiters_.push_back(control.tag);
      commit_now_ = true;
    } else {
      controls_.push_back(control);
    }
  }
  answer_controls();
  tidy();
  consider_commit(now_ns);
  consider_snapshot(now_ns);
  return {};
}

void ApplyCore::note_durable_commit(Index index) {
  if (index <= durable_commit_) return;
  durable_commit_ = index;
  release_commit();
}

Status ApplyCore::apply_entry(const raft::Entry& entry) {
  if (entry.type != raft::EntryType::kNormal) return apply_conf_change(entry);
  const std::string_view bytes = entry.bytes();
  Status status;
  switch (bytes.empty() ? cluster::PayloadKind::kEmpty : cluster::payload_kind(bytes)) {
    case cluster::PayloadKind::kEmpty: return {};
    case cluster::PayloadKind::kRaftRequest: status = apply_request(bytes, entry.tag()); break;
    case cluster::PayloadKind::kV2Request: status = apply_v2(bytes); break;
  }
  if (!status) {
    return fail(status.error().code, "server: entry {} of term {} cannot be applied: {}", entry.index, entry.term,
                status.error().message);
  }
  return {};
}

Status ApplyCore::apply_conf_change(const raft::Entry& entry) {
  auto change = raft::decode_conf_change(entry.type, entry.bytes());
  if (!change) {
    return fail(Code::kDataLoss, "server: configuration change at entry {} cannot be read: {}", entry.index,
                change.error().message);
  }
  ConfVerdict verdict{entry.index, false};
  if (entry.type == raft::EntryType::kConfChange && !change->changes.empty()) {
    const raft::ConfChangeSingle single = change->changes.front();
    auto decoded =
        cluster::decode_change(static_cast<cluster::ConfChangeType>(single.type), single.node, change->context);
    const Status allowed =
        decoded ? cluster::check_change(*members_, *decoded, learner_count_max(schema_, options_.learner_count_max))
                : Status(std::unexpected(decoded.error()));
    if (allowed) {
      auto members = std::make_shared<cluster::Membership>(*members_);
      cluster::apply_change(*members, *decoded);
      members_ = std::move(members);
      auto conf = raft::changed(conf_, *change);
      if (!conf) return fail(Code::kDataLoss, "server: entry {}: {}", entry.index, conf.error().message);
      conf_ = *std::move(conf);
      verdict.accepted = true;
      store_member(single.node);
      store_conf_state();
    } else {
      log::warn("refused a configuration change", {{"index", entry.index.value}, {"error", allowed.error().message}});
      answer_error(entry.tag(), allowed.error());
    }
  }
  output_.notice.conf_verdict = verdict;
  has_output_ = true;
  return {};
}

mvcc::HeaderValues ApplyCore::header(int64_t revision) const {
  return {members_->cluster_id, options_.member_id, revision, term_for_headers_};
}

void ApplyCore::answer(Tag tag, Code code, std::string_view text) {
  if (tag != 0) answers_.add(tag, code, text);
}

void ApplyCore::publish() {
  Published next;
  next.kv = store_.publish();
  next.file = store_.file();
  next.applied = applied_;
  next.applied_term = applied_term_;
  next.leader = leader_;
  next.reads_alone = leader_.is_leader && leader_.sole_voter && applied_term_ == leader_.term;
  next.members = members_;
  next.alarms = alarm_list_;
  next.storage_version = storage_version_;
  const uint64_t buffered = store_.buffered_bytes();
  next.db_total_bytes = space_.total_bytes + buffered;
  next.db_in_use_bytes = space_.in_use_bytes + buffered;
  const uint64_t number = next.kv.root.batch();
  published_->publish(number, std::move(next));
  if (store_.compact_revision() != published_compact_revision_) {
    published_compact_revision_ = store_.compact_revision();
    compact_number_ = number;
  }
  published_->collect();
  dirty_ = false;
}

void ApplyCore::answer_controls() {
  for (size_t i = 0; i < controls_.size();) {
    if (controls_[i].due > applied_) {
      ++i;
      continue;
    }
    answer(controls_[i].tag, Code::kOk, "");
    controls_[i] = controls_.back();
    controls_.pop_back();
  }
}

void ApplyCore::tidy() {
  published_->held(held_);
  untidy_ = store_.tidy(held_, trim_floor());
  free_buffers();
}

void ApplyCore::tick(int64_t now_ns) {
  last_tick_ns_ = now_ns;
  published_->collect();
  if (untidy_ || !retired_buffers_.empty()) {
    const bool was_untidy = untidy_;
    tidy();
    // What the last slice replaced comes free only once a root without it is published.
    if (was_untidy && !untidy_) publish();
  }
  consider_commit(now_ns);
  consider_snapshot(now_ns);
}

// Nobody asks for a revision below it any more: neither a guard that began before the compaction was published, nor a
// pin that such a guard became. In this order: a guard may become a pin.
int64_t ApplyCore::lowest_asked_revision() const {
  if (store_.compact_revision() != published_compact_revision_) return 0;  // nobody knows of it yet
  if (published_->lowest_number() < compact_number_) return 0;
  return published_->lowest_pinned_revision();
}

// The running pass asks the newest root what is superseded by *its* compaction, so of a later one nothing is trimmed
// before it has ended: its own commits do not hold that compaction yet.
int64_t ApplyCore::trim_floor() const {
  const int64_t asked = lowest_asked_revision();
  if (CAIRN_MUTANT("server.later_compaction_trimmed")) return asked;
  return pass_ ? std::min(asked, pass_->compact_revision) : asked;
}

ApplyOutput ApplyCore::take_output() {
  has_output_ = false;
  return std::exchange(output_, {});
}

}  // namespace cairn::member
