#include "sim/leases.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include <fmt/format.h>

#include "base/errors.h"

namespace cairn::sim {
namespace {

constexpr int64_t kSecondNs = 1'000'000'000;
constexpr int64_t kSlowStepNs = 500'000'000;
constexpr int kSlowStepsMax = 6;

}  // namespace

void Leases::begin_round(uint64_t first_request_id, int64_t now_ns) {
  first_request_id_ = first_request_id;
  began_ns_ = now_ns;
  leads_ = false;
  last_step_ns_ = now_ns;
  asked_.clear();
  const auto leases = model_.leases(model_.last());  // it leads when it has applied that
  for (auto& [id, times] : times_) {
    const Model::Lease& lease = leases.at(id);
    const int64_t rest = lease.remaining > 0 ? lease.remaining : lease.ttl;
    // A rest above the time itself, which no leader makes, ends with the first renewal. What a renewal promised holds.
    times.promised_ns = std::max(times.promised_ns, now_ns + std::min(rest, lease.ttl) * kSecondNs);
    times.longest = std::max(rest, lease.ttl);
    times.late_ns = std::max(times.promised_ns, now_ns + times.longest * kSecondNs) + extension_ns_ + slack_ns_;
    times.counts = times.end_is_asked = false;
    times.slow_steps = 0;
  }
}

void Leases::on_pause(int64_t now_ns) {
  for (auto& [id, times] : times_) times.late_ns = std::max(times.late_ns, now_ns + extension_ns_ + slack_ns_);
}

void Leases::on_entry(const raft::Entry& entry, const Reply& reply, bool is_own, int64_t now_ns) {
  etcdserverpb::InternalRaftRequest request;
  if (entry.type != raft::EntryType::kNormal || !request.ParseFromString(std::string(entry.bytes()))) return;
  if (reply.code != Code::kOk) {
    // The member asks again.
    const auto at = times_.find(request.lease_revoke().id());
    if (is_own && at != times_.end()) {
      at->second.end_is_asked = false;
      at->second.late_ns = std::max(at->second.late_ns, now_ns + slack_ns_);
    }
    return;
  }
  if (request.has_lease_grant()) {
    etcdserverpb::LeaseGrantResponse response;
    response.ParseFromString(reply.text);
    spans_[response.id()].push_back({.from = entry.index, .to = {}, .ttl = response.ttl()});
    const int64_t until_ns = now_ns + response.ttl() * kSecondNs;
    times_[response.id()] = {
        .promised_ns = until_ns, .late_ns = until_ns + slack_ns_, .longest = response.ttl(), .granted = entry.index};
  } else if (request.has_lease_revoke()) {
    const int64_t id = request.lease_revoke().id();
    spans_[id].back().to = entry.index;
    times_.erase(id);
  }
  for (const auto& point : request.lease_checkpoint().checkpoints()) {
    const auto at = times_.find(point.id());
    if (at == times_.end()) continue;
    if (!is_own) {
      // No leader has made it, so it is not held to what the leader promised.
      at->second.promised_ns = 0;
      at->second.foreign = entry.index;
      at->second.late_ns =
          std::max(at->second.late_ns, now_ns + point.remaining_ttl() * kSecondNs + extension_ns_ + slack_ns_);
    } else if (request.header().id() < first_request_id_ && point.remaining_ttl() > 0) {
      // The log of the member before held it, so this one counts from it.
      at->second.promised_ns = std::min(at->second.promised_ns, began_ns_ + point.remaining_ttl() * kSecondNs);
    }
    const auto made = checkpoints_.find(request.header().id());
    if (is_own && point.remaining_ttl() > 0 && made != checkpoints_.end() && at->second.granted > made->second) {
      violation_(fmt::format("a checkpoint of a lease that is gone takes time from lease {}", point.id()));
    }
    for (auto& [tag, asked] : asked_) {
      if (asked.request.id != point.id()) continue;
      asked.promised_ns = std::min(asked.promised_ns, at->second.promised_ns);
      asked.promises = asked.promises && is_own;
    }
  }
}

void Leases::on_own_proposal(const etcdserverpb::InternalRaftRequest& request, Index applied, int64_t now_ns) {
  if (request.has_lease_revoke()) {
    const int64_t id = request.lease_revoke().id();
    coverage_.hit("leases that ran out");
    const auto at = times_.find(id);
    // What the log holds and nobody has applied, the member does not know.
    if (at == times_.end() || at->second.granted > applied) return;
    Times& times = at->second;
    times.end_is_asked = true;
    if (now_ns < times.promised_ns) {
      violation_(fmt::format("lease {} ends {} ms early", id, (times.promised_ns - now_ns) / 1'000'000));
    }
    for (const auto& [tag, asked] : asked_) {
      const bool is_renewal = asked.request.kind == member::LeaseRequest::Kind::kRenew && asked.request.id == id;
      if (is_renewal && asked.sent_ns + extension_ns_ < times.promised_ns && asked.applied >= times.granted) {
        violation_(fmt::format("lease {} ends, and a renewal was sent in time", id));
      }
    }
  }
  if (request.has_lease_checkpoint()) checkpoints_[request.header().id()] = applied;
  for (const auto& point : request.lease_checkpoint().checkpoints()) {
    coverage_.hit(point.remaining_ttl() > 0 ? "checkpoints of leases" : "renewals that clear a rest");
    const auto at = times_.find(point.id());
    if (point.remaining_ttl() == 0 || at == times_.end() || at->second.granted > applied) continue;
    if (now_ns + point.remaining_ttl() * kSecondNs < at->second.promised_ns) {
      violation_(fmt::format("a checkpoint takes time from lease {}", point.id()));
    }
  }
}

int64_t Leases::some_lease() {
  if (times_.empty() || chance_.one_in(8)) return static_cast<int64_t>(chance_.between(1, 6)) * 0x1111;
  auto at = times_.begin();
  std::advance(at, static_cast<std::ptrdiff_t>(chance_.below(times_.size())));
  return at->first;
}

member::LeaseRequest Leases::next(member::Tag tag, Index applied, int64_t now_ns) {
  using Kind = member::LeaseRequest::Kind;
  const uint64_t kind = chance_.below(10);
  member::LeaseRequest request;
  request.tag = tag;
  request.kind = kind < 7 ? Kind::kRenew : kind < 9 ? Kind::kTimeToLive : Kind::kList;
  if (request.kind != Kind::kList) request.id = some_lease();
  request.wants_keys = request.kind == Kind::kTimeToLive && chance_.one_in(2);
  const auto times = times_.find(request.id);
  const int64_t promised_ns = times == times_.end() ? 0 : times->second.promised_ns;
  // A checkpoint that the member has yet to apply may take what it promises now.
  const bool promises = times == times_.end() || times->second.foreign <= applied;
  asked_[tag] = {.request = request,
                 .applied = applied,
                 .sent_ns = now_ns,
                 .promised_ns = promised_ns,
                 .promises = promises,
                 .listed = {}};
  return request;
}

bool Leases::lives_throughout(int64_t id, Index first, Index last) const {
  const auto at = spans_.find(id);
  if (at == spans_.end()) return false;
  return std::any_of(at->second.begin(), at->second.end(),
                     [&](const Span& span) { return span.from <= first && (!span.to || *span.to > last); });
}

const Leases::Span* Leases::lives_sometime(int64_t id, Index first, Index last) const {
  const auto at = spans_.find(id);
  if (at == spans_.end()) return nullptr;
  for (const Span& span : at->second) {
    if (span.from <= last && (!span.to || *span.to > first)) return &span;
  }
  return nullptr;
}

bool Leases::on_answer(member::Tag tag, Code code, std::string_view text, Index committed, int64_t now_ns,
                       member::LeaseRequest& more) {
  const auto at = asked_.find(tag);
  Asked& asked = at->second;
  bool is_done = true;
  if (code != Code::kOk) {
    if (text == errors::timeout_wait_applied_index().message) coverage_.hit("lease requests that waited too long");
  } else if (asked.request.kind == member::LeaseRequest::Kind::kRenew) {
    check_renewal(asked, text, committed, now_ns);
  } else if (asked.request.kind == member::LeaseRequest::Kind::kTimeToLive) {
    check_time_to_live(asked, text, committed, now_ns);
  } else {
    uint64_t next = 0;
    std::memcpy(&next, text.data(), sizeof next);
    for (text.remove_prefix(sizeof next); !text.empty(); text.remove_prefix(sizeof(member::LeaseListed::One))) {
      member::LeaseListed::One one;
      std::memcpy(&one, text.data(), sizeof one);
      asked.listed.push_back(one.id);
    }
    is_done = next == 0;
    more = asked.request;
    more.first = next;
    if (is_done) check_list(asked, committed);
    if (!is_done) coverage_.hit("lists of leases in parts");
  }
  if (is_done) asked_.erase(at);
  return is_done;
}

void Leases::check_renewal(const Asked& asked, std::string_view text, Index committed, int64_t now_ns) {
  etcdserverpb::LeaseKeepAliveResponse response;
  const int64_t id = asked.request.id;
  if (!response.ParseFromArray(text.data(), static_cast<int>(text.size())) || response.id() != id) {
    return violation_("a renewal's answer is wrong");
  }
  if (response.ttl() == 0) {
    if (lives_throughout(id, asked.applied, committed)) violation_(fmt::format("lease {} is not renewed", id));
    coverage_.hit("renewals of leases that are gone");
    return;
  }
  const Span* const span = lives_sometime(id, asked.applied, committed);
  if (span == nullptr) return violation_(fmt::format("lease {} is renewed, and there is none", id));
  coverage_.hit("renewals");
  const auto times = times_.find(id);
  if (times == times_.end() || times->second.granted > committed) return;
  const auto ttl = spans_.at(id).back().ttl;
  if (spans_.at(id).size() == 1 && response.ttl() != ttl) violation_(fmt::format("lease {} has another time", id));
  if (response.ttl() != ttl || times->second.granted > asked.applied) return;  // of the lease before this one
  if (asked.promises) {
    times->second.promised_ns = std::max(times->second.promised_ns, asked.sent_ns + ttl * kSecondNs);
  }
  times->second.late_ns = std::max(times->second.late_ns, now_ns + ttl * kSecondNs + slack_ns_);
  times->second.slow_steps = 0;
}

void Leases::check_time_to_live(const Asked& asked, std::string_view text, Index committed, int64_t now_ns) const {
  etcdserverpb::LeaseTimeToLiveResponse response;
  const int64_t id = asked.request.id;
  const bool has_all_keys = text.front() == static_cast<char>(member::LeaseKeysToCome::kNone);
  if (!response.ParseFromArray(text.data() + 1, static_cast<int>(text.size()) - 1) || response.id() != id) {
    return violation_("the answer about a lease's time is wrong");
  }
  if (response.ttl() == -1) {
    if (lives_throughout(id, asked.applied, committed)) violation_(fmt::format("lease {} is said to be gone", id));
    return;
  }
  if (lives_sometime(id, asked.applied, committed) == nullptr) {
    return violation_(fmt::format("lease {} is said to live", id));
  }
  if (!lives_throughout(id, asked.applied, committed)) return;
  if (now_ns + (response.ttl() + 1) * kSecondNs < asked.promised_ns) {
    violation_(fmt::format("lease {} is said to end in {} s, and {} ms were promised", id, response.ttl(),
                           (asked.promised_ns - now_ns) / 1'000'000));
  }
  if (!asked.request.wants_keys) return;
  if (!has_all_keys) return coverage_.hit("leases with too many keys for an answer");
  const std::set<std::string> keys(response.keys().begin(), response.keys().end());
  for (Index index = asked.applied; index <= committed; index = index + 1) {
    if (model_.leases(index).at(id).keys == keys) return;
  }
  violation_(fmt::format("lease {} never had these keys", id));
}

void Leases::check_list(const Asked& asked, Index committed) const {
  for (const auto& [id, spans] : spans_) {
    const bool is_listed = std::find(asked.listed.begin(), asked.listed.end(), id) != asked.listed.end();
    if (!is_listed && lives_throughout(id, asked.applied, committed)) {
      violation_(fmt::format("lease {} is missing in the list", id));
    }
    if (is_listed && lives_sometime(id, asked.applied, committed) == nullptr) {
      violation_(fmt::format("lease {} is listed, and there is none", id));
    }
  }
  coverage_.hit("lists of leases");
}

void Leases::on_step(Index applied, bool leads, int64_t now_ns) {
  const bool is_slow = now_ns - std::exchange(last_step_ns_, now_ns) > kSlowStepNs;
  if (!leads) return;
  for (auto& [id, times] : times_) {
    const bool is_due = now_ns > times.late_ns - slack_ns_;
    if (!is_slow || !is_due || ++times.slow_steps > kSlowStepsMax) continue;
    times.late_ns = std::max(times.late_ns, now_ns + extension_ns_ + slack_ns_);
  }
  const int64_t extension_ns = std::exchange(leads_, true) ? 0 : extension_ns_;
  for (auto& [id, times] : times_) {
    if (times.counts || times.granted > applied) continue;
    times.counts = true;
    times.late_ns = std::max(times.late_ns, now_ns + times.longest * kSecondNs + extension_ns + slack_ns_);
  }
}

void Leases::check_late(int64_t now_ns) const {
  for (const auto& [id, times] : times_) {
    if (!times.counts || times.end_is_asked || now_ns <= times.late_ns) continue;
    const bool may_be_renewed = std::any_of(asked_.begin(), asked_.end(), [&, lease = id](const auto& one) {
      return one.second.request.kind == member::LeaseRequest::Kind::kRenew && one.second.request.id == lease;
    });
    if (!may_be_renewed) {
      violation_(fmt::format("lease {} should have ended {} ms ago", id, (now_ns - times.late_ns) / 1'000'000));
    }
  }
}

}  // namespace cairn::sim
