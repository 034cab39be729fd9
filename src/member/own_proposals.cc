#include "member/own_proposals.h"

#include <utility>

#include "base/check.h"
#include "member/requests.h"
#include "raft/conf_change.h"

namespace cairn::member {

uint64_t request_id_of(raft::EntryType type, std::string_view bytes) {
  if (type == raft::EntryType::kConfChange) {
    const auto change = raft::decode_conf_change_v1(bytes);
    return change ? change->id : 0;
  }
  if (type != raft::EntryType::kNormal || bytes.empty()) return 0;
  const auto request = split_request(bytes);
  if (!request) return 0;
  const auto header = decode_header(request->header);
  return header ? header->id : 0;
}

void OwnProposals::add(const Proposal& payload, raft::EntryType type, int64_t now_ns) {
  if (payload->tag == 0) return;
  const uint64_t id = request_id_of(type, payload->bytes);
  if (id == 0) return;
  if (by_id_.try_emplace(id, Kept{.one = {payload, type}, .since_ns = now_ns, .given = {}}).second) {
    arrivals_.push_back({id, now_ns});
  }
}

OwnProposals::Kept* OwnProposals::find(const Proposal& payload, raft::EntryType type) {
  if (payload->tag == 0 || by_id_.empty()) return nullptr;
  const auto found = by_id_.find(request_id_of(type, payload->bytes));
  return found != by_id_.end() && found->second.one.payload == payload ? &found->second : nullptr;
}

void OwnProposals::note_given(const Proposal& payload, raft::EntryType type, Term term, bool is_certain) {
  Kept* const kept = find(payload, type);
  if (kept == nullptr) return;
  kept->given = term;
  kept->is_certain = kept->is_certain && is_certain;
}

void OwnProposals::forget(const Proposal& payload, raft::EntryType type) {
  if (find(payload, type) != nullptr) by_id_.erase(request_id_of(type, payload->bytes));
  trim();
}

// The bytes are compared: an id begins with the lowest 16 bits of its member's, and those of two members may be the
// same.
void OwnProposals::resolve(raft::Entry& entry) {
  if (entry.data == nullptr) return;
  const uint64_t id = entry.tag() != 0 || !by_id_.empty() ? request_id_of(entry.type, entry.bytes()) : 0;
  const auto found = id != 0 ? by_id_.find(id) : by_id_.end();
  const auto is_it = [&](const Proposal& own) { return own == entry.data || own->bytes == entry.data->bytes; };
  if (found != by_id_.end() && is_it(found->second.one.payload)) {
    entry.data = std::move(found->second.one.payload);
    by_id_.erase(found);
    trim();
  } else if (entry.tag() != 0) {  // it was answered before: as one that has waited for too long
    entry.data = std::make_shared<const raft::Payload>(raft::Payload{.bytes = entry.data->bytes});
  }
}

std::vector<OwnProposals::One> OwnProposals::take_lost(Term term) {
  std::vector<One> lost;
  for (const Arrival& arrival : arrivals_) {
    const auto found = by_id_.find(arrival.id);
    if (found == by_id_.end()) continue;
    Kept& kept = found->second;
    if (kept.given == Term{} || kept.given >= term || !kept.is_certain) continue;
    kept.given = {};
    lost.push_back(kept.one);
  }
  return lost;
}

void OwnProposals::note_snapshot(Term term) {
  for (auto& [id, kept] : by_id_) {
    if (kept.given != Term{} && kept.given <= term) kept.is_certain = false;
  }
}

std::vector<OwnProposals::Expired> OwnProposals::take_expired(int64_t now_ns) {
  std::vector<Expired> expired;
  for (; !arrivals_.empty() && arrivals_.front().since_ns + timeout_ns_ <= now_ns; arrivals_.pop_front()) {
    const auto found = by_id_.find(arrivals_.front().id);
    if (found == by_id_.end()) continue;
    expired.push_back({std::move(found->second.one), found->second.since_ns});
    by_id_.erase(found);
  }
  return expired;
}

std::vector<OwnProposals::One> OwnProposals::take_all() {
  std::vector<One> all;
  for (const Arrival& arrival : arrivals_) {
    if (const auto found = by_id_.find(arrival.id); found != by_id_.end()) all.push_back(std::move(found->second.one));
  }
  by_id_.clear();
  arrivals_.clear();
  return all;
}

std::vector<OwnProposals::One> OwnProposals::take_undecided(Term term) {
  std::vector<One> undecided;
  for (const Arrival& arrival : arrivals_) {
    const auto found = by_id_.find(arrival.id);
    if (found == by_id_.end() || found->second.given == term) continue;
    undecided.push_back(std::move(found->second.one));
    by_id_.erase(found);
  }
  trim();
  return undecided;
}

void OwnProposals::trim() {
  while (!arrivals_.empty() && !by_id_.contains(arrivals_.front().id)) arrivals_.pop_front();
}

}  // namespace cairn::member
