// Proposals: appended by the leader, forwarded by the others.
#include <algorithm>
#include <limits>
#include <utility>

#include "base/check.h"
#include "raft/conf_change.h"
#include "raft/core.h"

namespace cairn::raft {
namespace {

bool removes(EntryType type, std::string_view bytes, NodeId member) {
  const Result<ConfChange> change = decode_conf_change(type, bytes);
  return change && std::ranges::any_of(change->changes, [member](const ConfChangeSingle& one) {
           return one.type == ConfChangeType::kRemoveNode && one.node == member;
         });
}

}  // namespace

ProposeResult Core::propose(std::span<PayloadPtr> payloads) {
  if (is_leader()) return append_batch(payloads);
  return forward(EntryType::kNormal, payloads);
}

ProposeResult Core::propose_as_leader(Term term, std::span<PayloadPtr> payloads) {
  if (!is_leader() || term != hard_.term) {
    return {.outcome = ProposeOutcome::kWrongTerm, .term = hard_.term, .first = Index(0)};
  }
  return append_batch(payloads);
}

ProposeResult Core::propose_conf_change(EntryType type, PayloadPtr data) {
  CAIRN_ASSERT(type != EntryType::kNormal);
  if (!is_leader()) return forward(type, {&data, 1});
  ProposeResult result{.outcome = may_append(), .term = hard_.term, .first = Index(0)};
  if (result.outcome != ProposeOutcome::kAppended) return result;
  if (!conf_change_fits(type, data ? std::string_view(data->bytes) : std::string_view())) {
    result.outcome = ProposeOutcome::kConfRefused;
    return result;
  }
  result.first = append_as_leader(type, std::move(data));
  return result;
}

// kAppended: yes.
ProposeOutcome Core::may_append() const {
  if (!is_member(conf_, config_.id)) return ProposeOutcome::kNotMember;
  if (leading().transfer_target != kNoNode) return ProposeOutcome::kTransferring;
  return ProposeOutcome::kAppended;
}

uint64_t Core::proposal_room_bytes() const {
  if (!is_leader()) return std::numeric_limits<uint64_t>::max();
  const uint64_t uncommitted = std::min(leading().uncommitted_bytes, config_.max_uncommitted_bytes);
  const uint64_t unstable = std::min(log_.unstable_bytes(), config_.max_unstable_bytes);
  return std::min(config_.max_uncommitted_bytes - uncommitted, config_.max_unstable_bytes - unstable);
}

// Books `bytes` of the entries that end at `last`. False: too much is uncommitted, or not stable here. A proposal that
// is larger than the bounds is taken while they leave any room: it would wait for ever where others go on proposing.
bool Core::admit(uint64_t bytes, Index last) {
  Leader& leader = leading();
  const uint64_t room = proposal_room_bytes();
  const bool never_fits = bytes > std::min(config_.max_uncommitted_bytes, config_.max_unstable_bytes);
  if (bytes > room && !(never_fits && room > 0)) return false;
  leader.uncommitted_bytes += bytes;
  leader.uncommitted.push_back({last, bytes});
  return true;
}

ProposeResult Core::append_batch(std::span<PayloadPtr> payloads) {
  ProposeResult result{.outcome = may_append(), .term = hard_.term, .first = log_.last_index() + 1};
  // Others hear no more of this member once they have applied its removal: what stands behind it could be lost then.
  const bool is_being_removed = leading().own_removal > log_.applied();
  if (result.outcome == ProposeOutcome::kAppended && is_being_removed) result.outcome = ProposeOutcome::kTransferring;
  if (result.outcome != ProposeOutcome::kAppended || payloads.empty()) return result;
  uint64_t bytes = 0;
  for (const PayloadPtr& payload : payloads) bytes += (payload ? payload->bytes.size() : 0) + kEntryOverheadBytes;
  if (!admit(bytes, log_.last_index() + payloads.size())) {
    result.outcome = ProposeOutcome::kFull;
    return result;
  }
  Index index = log_.last_index();
  for (PayloadPtr& payload : payloads) {
    log_.append({.term = hard_.term, .index = ++index, .type = EntryType::kNormal, .data = std::move(payload)});
  }
  leading().appends_due = true;
  return result;
}

// Without admission, for the few entries that must always get in.
Index Core::append_as_leader(EntryType type, PayloadPtr data) {
  const Index index = log_.last_index() + 1;
  const bool removes_self = type != EntryType::kNormal && data != nullptr && removes(type, data->bytes, config_.id);
  log_.append({.term = hard_.term, .index = index, .type = type, .data = std::move(data)});
  leading().appends_due = true;
  if (type == EntryType::kNormal) return index;
  leading().pending_conf_index = index;
  if (removes_self) leading().own_removal = index;
  if (CAIRN_MUTANT("raft.conf_change_counted_early")) {
    const std::optional<Entry> entry = log_.tail_entry(index);
    if (auto change = decode_conf_change(type, entry->bytes()); change && !is_noop(*change)) {
      if (Result<ConfState> next = changed(conf_, *change)) switch_to(*std::move(next));
    }
  }
  return index;
}

ProposeResult Core::forward(EntryType type, std::span<PayloadPtr> payloads) {
  if (leader_ == kNoNode) return {.outcome = ProposeOutcome::kNoLeader, .term = hard_.term, .first = Index(0)};
  Message message;
  uint64_t bytes = 0;
  const auto flush = [&] {
    Message full = message_to(leader_, MessageType::kProp);
    full.forward = ForwardTag{.origin = config_.id, .term = hard_.term};
    full.entries = std::exchange(message.entries, {});
    bytes = 0;
    send(std::move(full));
  };
  for (PayloadPtr& payload : payloads) {
    Entry entry{.term = Term(0), .index = Index(0), .type = type, .data = std::move(payload)};
    if (!message.entries.empty() && bytes + cost_bytes(entry) > config_.max_bytes_per_message) flush();
    bytes += cost_bytes(entry);
    message.entries.push_back(std::move(entry));
  }
  if (!message.entries.empty()) flush();
  return {.outcome = ProposeOutcome::kForwarded, .term = hard_.term, .first = Index(0)};
}

void Core::on_proposal(Message& message) {
  if (message.entries.empty()) return;
  const bool is_bound = message.forward && message.forward->term != Term(0);
  if (is_bound && message.forward->term != hard_.term && !CAIRN_MUTANT("raft.forwarded_term_ignored")) return;
  if (!is_leader()) {
    if (leader_ == kNoNode || leader_ == message.from) return;
    message.to = leader_;
    send(std::move(message));
    return;
  }
  if (may_append() != ProposeOutcome::kAppended) return;
  uint64_t bytes = 0;
  for (const Entry& entry : message.entries) bytes += cost_bytes(entry);
  if (!admit(bytes, log_.last_index() + message.entries.size())) return;
  for (Entry& entry : message.entries) {
    // An impossible conf change becomes an empty entry, so that its place in the log shows the refusal.
    if (entry.type != EntryType::kNormal && !conf_change_fits(entry.type, entry.bytes())) {
      append_as_leader(EntryType::kNormal, nullptr);
    } else {
      append_as_leader(entry.type, std::move(entry.data));
    }
  }
}

bool Core::conf_change_fits(EntryType type, std::string_view bytes) const {
  if (awaits_conf_verdict() || leading().pending_conf_index > log_.applied()) return false;
  const Result<ConfChange> change = decode_conf_change(type, bytes);
  if (!change) return false;
  return is_noop(*change) || changed(conf_, *change).has_value();
}

}  // namespace cairn::raft
