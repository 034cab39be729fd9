#include "sim/history/replay.h"

#include <algorithm>

#include "base/check.h"
#include "proto/raft.pb.h"

namespace cairn::sim {
namespace {

constexpr uint64_t kMemberId = 1;

raft::Entry entry_of(uint64_t index, Term term, raft::EntryType type, std::string bytes) {
  return {.term = term,
          .index = Index(index),
          .type = type,
          .data = bytes.empty() ? nullptr : std::make_shared<raft::Payload>(raft::Payload{.bytes = std::move(bytes)})};
}

}  // namespace

Replay::Replay(const History& history) {
  model_.begin({.member_id = kMemberId, .lease_ttl_min = history.lease_ttl_min, .has_quota = history.has_quota});
  raftpb::ConfChange founding;
  founding.set_node_id(kMemberId);
  founding.set_context(R"({"id":1,"peerURLs":["http://localhost"]})");
  const auto founded = model_.apply(entry_of(1, Term(1), raft::EntryType::kConfChange, founding.SerializeAsString()));
  CAIRN_ASSERT(founded.has_value());
  states_ = 1;
}

Result<Reply> Replay::apply(const LogEntry& entry) {
  const uint64_t index = states_ + 1;
  const bool is_empty = entry.is_void || entry.type != raft::EntryType::kNormal;
  auto reply =
      model_.apply(entry_of(index, entry.term, raft::EntryType::kNormal, is_empty ? std::string() : entry.bytes));
  if (model_.last() < Index(index)) {
    // Not a request of this kind: what 3.4 writes about members, in its own form.
    CAIRN_ASSERT(model_.apply(entry_of(index, entry.term, raft::EntryType::kNormal, "")).has_value());
  }
  const uint64_t position = states_++;
  for (auto next = static_cast<int64_t>(first_.size()); next <= revision(); ++next) first_.push_back(position);
  if (compacted() > (compactions_.empty() ? -1 : compactions_.back().first)) {
    compactions_.emplace_back(compacted(), position);
  }
  return reply;
}

uint64_t Replay::last_with(int64_t revision) const {
  return revision < this->revision() ? first_with(revision + 1) - 1 : last();
}

std::optional<uint64_t> Replay::first_compacted(int64_t revision) const {
  const auto at = std::upper_bound(compactions_.begin(), compactions_.end(), revision,
                                   [](int64_t wanted, const auto& one) { return wanted < one.first; });
  if (at == compactions_.end()) return std::nullopt;
  return at->second;
}

std::optional<uint64_t> Replay::last_readable(int64_t revision) const {
  const auto gone = first_compacted(revision);
  if (!gone) return last();
  if (*gone == 0) return std::nullopt;
  return *gone - 1;
}

uint64_t Replay::last_before(int64_t revision) const {
  return revision > this->revision() ? last() : first_with(revision) - 1;
}

}  // namespace cairn::sim
