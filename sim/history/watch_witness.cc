#include "sim/history/watch_witness.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <unordered_map>

#include "base/check.h"
#include "sim/history/answers.h"
#include "sim/history/effects.h"
#include "sim/history/replay.h"

namespace cairn::sim {
namespace {

using etcdserverpb::InternalRaftRequest;

// Ids of entries that belong to no operation.
constexpr uint64_t kNobody = 1ULL << 63;

bool watches_everything(const Watch& watch) {
  etcdserverpb::WatchCreateRequest request;
  const std::string zero(1, '\0');
  return request.ParseFromString(watch.request) && request.key() == zero && request.range_end() == zero &&
         request.filters().empty();
}

bool has_changed(const etcdserverpb::TxnResponse& response) {
  return std::any_of(response.responses().begin(), response.responses().end(), [](const auto& op) {
    return op.has_response_put() || op.response_delete_range().deleted() > 0 ||
           (op.has_response_txn() && has_changed(op.response_txn()));
  });
}

class Reconstruction {
 public:
  explicit Reconstruction(const History& history) : history_(history), replay_(history) {}

  WatchedOrder run() {
    order_.request_ids.assign(history_.operations.size(), 0);
    if (learn_events() && replay_events() && learn_operations()) {
      claim_by_answer();
      claim_by_matching();
      place_rest();
      if (order_.violations.empty()) write_log();
    }
    return std::move(order_);
  }

 private:
  using Batch = std::vector<mvccpb::Event>;

  void violation(std::string text) { order_.violations.push_back(std::move(text)); }
  [[nodiscard]] const ClientOperation& operation(uint32_t i) const { return history_.operations[i]; }
  [[nodiscard]] int64_t newest() const { return static_cast<int64_t>(events_.size()) + 1; }
  [[nodiscard]] const Batch& events(int64_t revision) const { return events_[static_cast<size_t>(revision - 2)]; }
  [[nodiscard]] const std::vector<Change>& changes(int64_t revision) const {
    return changes_[static_cast<size_t>(revision - 2)];
  }

  // --- events

  bool learn_events() {
    std::map<int64_t, Batch> seen;
    for (const Watch& watch : history_.watches) {
      if (!watches_everything(watch)) continue;
      std::map<int64_t, Batch> mine;
      for (const Watch::Response& one : watch.responses) {
        etcdserverpb::WatchResponse response;
        response.ParseFromString(one.bytes);
        for (const auto& event : response.events()) {
          Batch& batch = mine[event.kv().mod_revision()];
          batch.push_back(event);
          batch.back().clear_prev_kv();
        }
      }
      for (auto& [revision, batch] : mine) {
        const auto [at, is_new] = seen.try_emplace(revision, std::move(batch));
        if (!is_new && text_of(at->second) != text_of(batch)) {
          violation(fmt::format("two watches show revision {} differently:\n  {}\n  {}", revision, text_of(at->second),
                                text_of(batch)));
        }
      }
    }
    for (auto& [revision, batch] : seen) {
      if (revision != newest() + 1) {
        order_.unjudged = fmt::format("no watch of all keys has revision {}, and one has {}", newest() + 1, revision);
        return false;
      }
      events_.push_back(std::move(batch));
    }
    return order_.violations.empty();
  }
  static std::string text_of(const Batch& batch) {
    std::string out;
    for (const auto& event : batch) out += "{" + event.ShortDebugString() + "} ";
    return out;
  }

  // The state of each revision, from the events alone.
  bool replay_events() {
    std::set<int64_t> leases;
    for (int64_t revision = 2; revision <= newest(); ++revision) {
      InternalRaftRequest request;
      std::vector<Change>& changes = changes_.emplace_back();
      for (const auto& event : events(revision)) {
        auto* const op = request.mutable_txn()->add_success();
        if (event.type() == mvccpb::Event::DELETE) {
          op->mutable_request_delete_range()->set_key(event.kv().key());
          changes.push_back({true, event.kv().key(), "", 0});
          continue;
        }
        const int64_t lease = event.kv().lease();
        op->mutable_request_put()->set_key(event.kv().key());
        op->mutable_request_put()->set_value(event.kv().value());
        op->mutable_request_put()->set_lease(lease);
        changes.push_back({false, event.kv().key(), event.kv().value(), lease});
        if (lease != 0 && leases.insert(lease).second)
          CAIRN_ASSERT(replay_.apply(entry(grant_of(lease), kNobody)).has_value());
      }
      const size_t before = replay_.model().records().size();
      const auto reply = replay_.apply(entry(request, kNobody));
      if (!reply || !shows(before, events(revision))) {
        violation(fmt::format("a watch of all keys has for revision {} what cannot come after revision {}: {}",
                              revision, revision - 1, text_of(events(revision))));
        return false;
      }
    }
    return true;
  }
  [[nodiscard]] bool shows(size_t first_record, const Batch& batch) const {
    const auto& records = replay_.model().records();
    if (records.size() - first_record != batch.size()) return false;
    for (size_t i = 0; i < batch.size(); ++i) {
      const Model::Record& record = records[first_record + i];
      mvccpb::KeyValue kv;
      kv.ParseFromString(record.bytes);
      if (record.dead) kv.set_mod_revision(record.revision.main);
      if (kv.SerializeAsString() != batch[i].kv().SerializeAsString()) return false;
    }
    return true;
  }
  [[nodiscard]] static InternalRaftRequest grant_of(int64_t lease) {
    InternalRaftRequest request;
    request.mutable_lease_grant()->set_id(lease);
    request.mutable_lease_grant()->set_ttl(1);
    return request;
  }
  [[nodiscard]] static InternalRaftRequest revoke_of(int64_t lease) {
    InternalRaftRequest request;
    request.mutable_lease_revoke()->set_id(lease);
    return request;
  }
  static LogEntry entry(InternalRaftRequest request, uint64_t id) {
    request.mutable_header()->set_id(id);
    return {.term = Term(1), .bytes = request.SerializeAsString(), .request_id = id};
  }

  // --- operations

  bool learn_operations() {
    proposals_.resize(history_.operations.size());
    for (uint32_t i = 0; i < history_.operations.size(); ++i) {
      const ClientOperation& one = operation(i);
      if (one.outcome == Outcome::kAnswered && one.code == Code::kOk) {
        const auto answer = split_answer(one.response);
        if (!answer) return violation(describe(one) + "\n  the answer cannot be read"), false;
        const int64_t revision = answer->header.revision();
        if (revision > newest()) {
          order_.unjudged = fmt::format("the watches of all keys end at revision {}\n  {}", newest(), describe(one));
          return false;
        }
        if (one.return_ns) seen_.emplace_back(*one.return_ns, revision);
      }
      if (one.outcome == Outcome::kRefused || path_of(one.rpc, one.request) != Path::kLog) continue;
      auto proposal = proposal_of(one.rpc, one.request, 0);
      if (!proposal) return violation(describe(one) + "\n  " + proposal.error().message), false;
      proposals_[i] = *std::move(proposal);
    }
    for (const Watch& watch : history_.watches) {
      for (const Watch::Response& one : watch.responses) {
        etcdserverpb::WatchResponse response;
        if (!response.ParseFromString(one.bytes) || response.header().revision() == 0) continue;
        if (response.header().revision() > newest()) {
          order_.unjudged = fmt::format("the watches of all keys end at revision {}, and a watch has {}", newest(),
                                        response.header().revision());
          return false;
        }
        if (!response.created()) seen_.emplace_back(one.time_ns, response.header().revision());
      }
    }
    std::sort(seen_.begin(), seen_.end());
    for (size_t i = 1; i < seen_.size(); ++i) seen_[i].second = std::max(seen_[i].second, seen_[i - 1].second);
    doers_.assign(events_.size(), std::nullopt);
    for (const ClientOperation& one : history_.operations) {
      if (one.rpc == Rpc::kCompact && !is_time_known(one)) learn_perhaps_compacted(one);
    }
    return true;
  }
  // A compaction's answer has the revision of the time at which it leaves, as etcd's: when a physical one has ended,
  // for example. The entry may stand before it.
  [[nodiscard]] bool is_time_known(const ClientOperation& one) const {
    if (one.outcome == Outcome::kUnknown) return false;
    return !is_answered(one) || revision_of(one) == seen_before(one.call_ns);
  }
  void learn_perhaps_compacted(const ClientOperation& one) {
    etcdserverpb::CompactionRequest request;
    request.ParseFromString(one.request);
    order_.perhaps_compacted = std::max(order_.perhaps_compacted, request.revision());
  }
  // The newest revision that somebody had been told before `time_ns`.
  [[nodiscard]] int64_t seen_before(int64_t time_ns) const {
    const auto at = std::lower_bound(seen_.begin(), seen_.end(), std::pair(time_ns, int64_t{0}));
    return at == seen_.begin() ? 1 : std::prev(at)->second;
  }
  static int64_t revision_of(const ClientOperation& one) { return split_answer(one.response)->header.revision(); }
  static bool is_answered(const ClientOperation& one) {
    return one.outcome == Outcome::kAnswered && one.code == Code::kOk;
  }

  [[nodiscard]] bool did(uint32_t i, int64_t revision) const {
    return effects_of(replay_.model(), *proposals_[i], revision - 1) == changes(revision);
  }
  std::optional<uint32_t>& doer(int64_t revision) { return doers_[static_cast<size_t>(revision - 2)]; }

  // Whoever was answered with a revision and changed something made that revision.
  void claim_by_answer() {
    for (uint32_t i = 0; i < history_.operations.size(); ++i) {
      const ClientOperation& one = operation(i);
      if (!proposals_[i] || !is_answered(one)) continue;
      const int64_t revision = revision_of(one);
      if (one.rpc == Rpc::kLeaseRevoke) {
        if (revision > 1 && !doer(revision) && !changes(revision).empty() && did(i, revision)) doer(revision) = i;
        continue;
      }
      if (!says_it_changed(one)) continue;
      if (revision < 2) {
        violation(describe(one) + "\n  changed something without a revision of its own");
      } else if (doer(revision) && operation(*doer(revision)).rpc != Rpc::kLeaseRevoke) {
        violation(fmt::format("{}\n  has the revision of\n{}", describe(one), describe(operation(*doer(revision)))));
      } else if (!did(i, revision)) {
        violation(fmt::format("{}\n  is not what happened at revision {}: {}", describe(one), revision,
                              text_of(events(revision))));
      } else {
        doer(revision) = i;
      }
    }
  }
  static bool says_it_changed(const ClientOperation& one) {
    if (one.rpc == Rpc::kPut) return true;
    if (one.rpc == Rpc::kDeleteRange) {
      etcdserverpb::DeleteRangeResponse response;
      return response.ParseFromString(one.response) && response.deleted() > 0;
    }
    etcdserverpb::TxnResponse response;
    return one.rpc == Rpc::kTxn && response.ParseFromString(one.response) && has_changed(response);
  }

  // Revisions that nobody was answered with go to operations of unknown outcome: a maximum matching.
  void claim_by_matching() {
    std::unordered_map<std::string, std::vector<uint32_t>> by_first;  // by a change that it may make
    std::vector<uint32_t> others;
    for (uint32_t i = 0; i < history_.operations.size(); ++i) {
      if (!proposals_[i] || operation(i).outcome != Outcome::kUnknown || !may_change(operation(i).rpc)) continue;
      std::set<std::string> names;
      if (name_changes(*proposals_[i], names)) {
        for (const std::string& name : names) by_first[name].push_back(i);
      } else {
        others.push_back(i);
      }
    }
    for (int64_t revision = 2; revision <= newest(); ++revision) {
      if (doer(revision)) continue;
      std::vector<uint32_t>& able = able_[revision];
      std::map<std::pair<Rpc, std::string_view>, bool> did_it;  // by request: equal ones do the same
      const auto consider = [&](uint32_t i) {
        if (seen_before(operation(i).call_ns) >= revision) return;
        const auto [at, is_new] = did_it.try_emplace({operation(i).rpc, operation(i).request}, false);
        if (is_new) at->second = did(i, revision);
        if (at->second) able.push_back(i);
      };
      const Change& first = changes(revision).front();
      const auto at = by_first.find(name_of_change(first.dead, first.key, first.value));
      if (at != by_first.end()) std::for_each(at->second.begin(), at->second.end(), consider);
      std::for_each(others.begin(), others.end(), consider);
    }
    for (const auto& [revision, able] : able_) {
      std::set<uint32_t> tried;
      if (augment(revision, tried)) continue;
      if (const auto lease = ended_lease(revision)) {
        ended_[revision] = *lease;
      } else if (history_.is_complete) {
        violation(fmt::format("nobody asked for revision {}: {}", revision, text_of(events(revision))));
      }
    }
    for (const auto& [i, revision] : given_) doer(revision) = i;
  }
  static bool may_change(Rpc rpc) {
    return rpc == Rpc::kPut || rpc == Rpc::kDeleteRange || rpc == Rpc::kTxn || rpc == Rpc::kLeaseRevoke;
  }
  static std::string name_of_change(bool is_delete, const std::string& key, const std::string& value) {
    return is_delete ? "-" + key : fmt::format("+{}+{}={}", key.size(), key, value);
  }
  // The changes that it may make; false: more than its bytes say.
  static bool name_changes(const InternalRaftRequest& request, std::set<std::string>& out) {
    if (request.has_put()) return name_changes(request.put(), out);
    if (request.has_delete_range()) return name_changes(request.delete_range(), out);
    return request.has_txn() && name_changes(request.txn(), out);
  }
  static bool name_changes(const etcdserverpb::PutRequest& put, std::set<std::string>& out) {
    out.insert(name_of_change(false, put.key(), put.value()));
    return !put.ignore_value();
  }
  static bool name_changes(const etcdserverpb::DeleteRangeRequest& request, std::set<std::string>& out) {
    out.insert(name_of_change(true, request.key(), ""));
    return request.range_end().empty();
  }
  static bool name_changes(const etcdserverpb::TxnRequest& txn, std::set<std::string>& out) {
    for (const auto* branch : {&txn.success(), &txn.failure()}) {
      for (const auto& op : *branch) {
        if (op.has_request_put() && !name_changes(op.request_put(), out)) return false;
        if (op.has_request_delete_range() && !name_changes(op.request_delete_range(), out)) return false;
        if (op.has_request_txn() && !name_changes(op.request_txn(), out)) return false;
      }
    }
    return true;
  }
  bool augment(int64_t revision, std::set<uint32_t>& tried) {
    for (const uint32_t i : able_[revision]) {
      if (given_.contains(i)) continue;
      given_[i] = revision;
      return true;
    }
    for (const uint32_t i : able_[revision]) {
      if (!tried.insert(i).second || !augment(given_.at(i), tried)) continue;
      given_[i] = revision;
      return true;
    }
    return false;
  }
  // The lease whose end deletes exactly what `revision` deletes.
  [[nodiscard]] std::optional<int64_t> ended_lease(int64_t revision) const {
    const Model::Version* const first = replay_.model().find(changes(revision).front().key, revision - 1);
    if (first == nullptr || first->lease == 0) return std::nullopt;
    if (effects_of(replay_.model(), revoke_of(first->lease), revision - 1) != changes(revision)) return std::nullopt;
    return first->lease;
  }

  // --- the log

  // Answered and without a change: in the state of the answer's revision.
  void place_rest() {
    std::set<uint32_t> placed;
    for (const auto& one : doers_) {
      if (one) placed.insert(*one);
    }
    for (uint32_t i = 0; i < history_.operations.size(); ++i) {
      if (proposals_[i] && is_answered(operation(i)) && !placed.contains(i))
        rest_[revision_of(operation(i))].push_back(i);
    }
    for (auto& [revision, list] : rest_) {
      std::stable_sort(list.begin(), list.end(),
                       [&](uint32_t a, uint32_t b) { return operation(a).call_ns < operation(b).call_ns; });
      order_compactions(list);
    }
  }
  // Compactions that overlapped succeeded in the order of their revisions: the larger one moves behind the smaller one.
  void order_compactions(std::vector<uint32_t>& list) const {
    for (size_t at = list.size(); at-- > 0;) {
      if (operation(list[at]).rpc != Rpc::kCompact) continue;
      size_t to = at;
      for (size_t i = at + 1; i < list.size(); ++i) {
        const bool is_smaller =
            operation(list[i]).rpc == Rpc::kCompact &&
            proposals_[list[i]]->compaction().revision() < proposals_[list[at]]->compaction().revision();
        if (is_smaller && operation(list[i]).call_ns <= operation(list[at]).return_ns.value_or(INT64_MAX)) to = i;
      }
      const auto begin = list.begin() + static_cast<std::ptrdiff_t>(at);
      std::rotate(begin, begin + 1, list.begin() + static_cast<std::ptrdiff_t>(to) + 1);
    }
  }

  void append(const InternalRaftRequest& request, uint64_t id) {
    order_.log.push_back(entry(request, id));
    order_.log.back().index = Index(order_.log.size());
    if (request.has_lease_grant()) leases_.insert(request.lease_grant().id());
    if (request.has_lease_revoke()) leases_.erase(request.lease_revoke().id());
  }
  void append(uint32_t i, int64_t revision) {
    InternalRaftRequest request = *proposals_[i];
    if (request.has_lease_revoke()) need_lease(request.lease_revoke().id());
    if (request.has_lease_grant() && is_answered(operation(i))) {
      etcdserverpb::LeaseGrantResponse response;
      response.ParseFromString(operation(i).response);
      if (request.lease_grant().id() == 0) request.mutable_lease_grant()->set_id(response.id());
      // It ended unseen before, if it had no keys.
      const int64_t lease = request.lease_grant().id();
      if (leases_.contains(lease) && keys_of_lease(replay_.model(), lease, revision).empty()) {
        append(revoke_of(lease), ++nobody_);
      }
    }
    order_.request_ids[i] = i + 1;
    append(request, i + 1);
  }
  void need_lease(int64_t lease) {
    if (lease != 0 && !leases_.contains(lease)) append(grant_of(lease), ++nobody_);
  }
  void write_log() {
    for (int64_t revision = 1; revision <= newest(); ++revision) {
      if (revision > 1) write_change(revision);
      const auto rest = rest_.find(revision);
      if (rest == rest_.end()) continue;
      for (const uint32_t i : rest->second) append(i, revision);
    }
  }
  void write_change(int64_t revision) {
    for (const Change& change : changes(revision)) need_lease(change.lease);
    if (doer(revision)) return append(*doer(revision), revision);
    if (const auto ended = ended_.find(revision); ended != ended_.end()) {
      need_lease(ended->second);
      return append(revoke_of(ended->second), ++nobody_);
    }
    InternalRaftRequest request;
    for (const Change& change : changes(revision)) {
      auto* const op = request.mutable_txn()->add_success();
      if (change.dead) {
        op->mutable_request_delete_range()->set_key(change.key);
        continue;
      }
      op->mutable_request_put()->set_key(change.key);
      op->mutable_request_put()->set_value(change.value);
      op->mutable_request_put()->set_lease(change.lease);
    }
    append(request, ++nobody_);
  }

  const History& history_;
  WatchedOrder order_;
  Replay replay_;                                              // of the events
  std::vector<Batch> events_;                                  // from revision 2 on
  std::vector<std::vector<Change>> changes_;                   // likewise
  std::vector<std::optional<InternalRaftRequest>> proposals_;  // by operation; those that may be in the log
  std::vector<std::pair<int64_t, int64_t>> seen_;              // (time, newest revision that was answered by then)
  std::vector<std::optional<uint32_t>> doers_;                 // from revision 2 on: the operation that made it
  std::map<int64_t, std::vector<uint32_t>> able_;              // by revision without one: who may have made it
  std::map<uint32_t, int64_t> given_;                          // by operation: the revision that it gets
  std::map<int64_t, int64_t> ended_;                           // by revision: the lease that ended
  std::map<int64_t, std::vector<uint32_t>> rest_;              // by revision
  std::set<int64_t> leases_;
  uint64_t nobody_ = kNobody;
};

}  // namespace

WatchedOrder order_by_watch(const History& history) { return Reconstruction(history).run(); }

}  // namespace cairn::sim
