#include "member/forwarding.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace cairn::member {
namespace {

// Starts of members within one term. More than that are refused: to forget one would be to take its entries twice.
constexpr size_t kOriginsMax = 4096;

uint64_t cost_bytes(const raft::PayloadPtr& payload) { return payload->bytes.size() + raft::kEntryOverheadBytes; }

}  // namespace

// --- the origin

void Forwarder::follow(NodeId leader, Term term) {
  if (term != term_) {
    term_ = term;
    confirmed_ = 0;
    unconfirmed_.clear();
    unconfirmed_bytes_ = 0;
    wait_ticks_ = options_.retry_ticks;
    begin_row();
  } else if (leader != leader_ && leader != raft::kNoNode) {
    note_cut();  // it was forgotten, and is back
  }
  leader_ = leader;
}

uint64_t Forwarder::room_bytes() const {
  return options_.window_bytes - std::min(options_.window_bytes, unconfirmed_bytes_);
}

void Forwarder::give(std::span<const raft::PayloadPtr> payloads, uint64_t tick, std::vector<raft::Message>& out) {
  CAIRN_ASSERT(leader_ != raft::kNoNode);
  if (unconfirmed_.empty()) {
    moved_at_tick_ = tick;
    again_at_tick_ = tick + wait_ticks_;
  }
  const size_t first = unconfirmed_.size();
  const bool is_all_sent = sent_ == first;
  for (const raft::PayloadPtr& payload : payloads) {
    unconfirmed_.push_back(payload);
    unconfirmed_bytes_ += cost_bytes(payload);
  }
  if (is_all_sent) sent_ = send(first, UINT64_MAX, out);
}

size_t Forwarder::send(size_t from, uint64_t bytes_max, std::vector<raft::Message>& out) const {
  uint64_t sent_bytes = 0;
  size_t i = from;
  while (i < unconfirmed_.size() && (sent_bytes == 0 || sent_bytes < bytes_max)) {
    raft::Message message;
    message.type = raft::MessageType::kProp;
    message.from = options_.self;
    message.to = leader_;
    message.forward = raft::ForwardTag{.origin = options_.self,
                                       .epoch = options_.epoch,
                                       .term = term_,
                                       .sequence = confirmed_ + i + 1,
                                       .is_conf_change = options_.type != raft::EntryType::kNormal};
    uint64_t bytes = 0;
    do {
      bytes += cost_bytes(unconfirmed_[i]);
      message.entries.push_back({.term = {}, .index = {}, .type = options_.type, .data = unconfirmed_[i]});
      ++i;
    } while (i < unconfirmed_.size() && bytes + cost_bytes(unconfirmed_[i]) <= options_.message_bytes_max);
    out.push_back(std::move(message));
    sent_bytes += bytes;
  }
  return i;
}

void Forwarder::take_answer(const raft::ForwardTag& tag, uint64_t tick) {
  const bool is_mine = tag.origin == options_.self && tag.epoch == options_.epoch && tag.term == term_;
  if (!is_mine || tag.sequence > confirmed_ + unconfirmed_.size()) return;
  const bool is_new = tag.sequence > confirmed_;
  if (is_new) {
    // Slowly less: between two large proposals there are small ones, which take no time.
    wait_at_least(std::max(2 * (tick - moved_at_tick_), wait_ticks_ - wait_ticks_ / 8));
    moved_at_tick_ = tick;
  }
  for (; confirmed_ < tag.sequence; ++confirmed_) {
    unconfirmed_bytes_ -= cost_bytes(unconfirmed_.front());
    unconfirmed_.pop_front();
    sent_ -= std::min<size_t>(sent_, 1);
  }
  if (is_new) loss_wait_ticks_ = options_.refusal_ticks;
  if (unconfirmed_.empty()) {
    begin_row();
  } else if (tag.is_refused && tag.sequence == confirmed_) {
    lose(tick, 2 * options_.refusal_ticks);
  } else if (is_new && sent_ < unconfirmed_.size()) {
    burst_bytes_ = 2 * std::min(burst_bytes_, UINT64_MAX / 2);
    again_at_tick_ = tick;
    is_known_lost_ = true;
  } else if (is_new) {
    again_at_tick_ = tick + wait_ticks_;
  }
}

void Forwarder::begin_row() {
  again_at_tick_ = UINT64_MAX;
  is_known_lost_ = false;
  sent_ = 0;
  burst_bytes_ = UINT64_MAX;
  loss_wait_ticks_ = options_.refusal_ticks;
}

void Forwarder::note_cut() {
  if (unconfirmed_.empty()) return;
  begin_row();
  again_at_tick_ = 0;
  is_known_lost_ = true;
}

void Forwarder::note_lost(uint64_t tick) { lose(tick, options_.retry_ticks); }

void Forwarder::lose(uint64_t tick, uint64_t wait_ticks_max) {
  const bool is_noted = is_known_lost_ && sent_ == 0;  // what was sent together comes back together
  if (unconfirmed_.empty() || is_noted) return;
  again_at_tick_ = tick + loss_wait_ticks_;
  loss_wait_ticks_ = std::min(2 * loss_wait_ticks_, wait_ticks_max);
  burst_bytes_ = options_.retry_bytes;
  sent_ = 0;
  is_known_lost_ = true;
}

void Forwarder::wait_at_least(uint64_t ticks) {
  wait_ticks_ = std::clamp(ticks, options_.retry_ticks, std::max(options_.retry_ticks, options_.retry_ticks_max));
}

void Forwarder::tick(uint64_t tick, std::vector<raft::Message>& out) {
  if (tick < again_at_tick_ || unconfirmed_.empty() || leader_ == raft::kNoNode) return;
  if (std::exchange(is_known_lost_, false)) {
    if (sent_ == 0) moved_at_tick_ = tick;
    sent_ = send(sent_, burst_bytes_, out);
  } else {
    wait_at_least(2 * wait_ticks_);
    send(0, options_.retry_bytes, out);
  }
  again_at_tick_ = tick + wait_ticks_;
}

// --- the leader

void Ledger::begin(Term term) {
  if (term == term_) return;
  term_ = term;
  if (!CAIRN_MUTANT("server.forwarded_count_kept_over_terms")) taken_.clear();
}

uint64_t Ledger::taken(const raft::ForwardTag& tag) const {
  const auto found = taken_.find(origin_of(tag));
  return found == taken_.end() ? 0 : found->second;
}

Ledger::Verdict Ledger::judge(const raft::ForwardTag& tag, size_t count) const {
  const uint64_t last = taken(tag);
  if (last == 0 && taken_.size() >= kOriginsMax) return {Turn::kNotKept};
  if (CAIRN_MUTANT("server.forwarded_twice_appended")) return {Turn::kDue};
  if (tag.sequence > last + 1) return {Turn::kEarly};
  const uint64_t known = last + 1 - tag.sequence;
  if (known >= count) return {Turn::kRepeat};
  return {Turn::kDue, known};
}

void Ledger::note_taken(const raft::ForwardTag& tag, size_t count) {
  uint64_t& last = taken_[origin_of(tag)];
  last = std::max(last, tag.sequence + count - 1);
}

raft::ForwardTag Ledger::answer(const raft::ForwardTag& tag, bool is_refused) const {
  raft::ForwardTag answer = tag;
  answer.sequence = taken(tag);
  answer.is_refused = is_refused;
  return answer;
}

}  // namespace cairn::member
