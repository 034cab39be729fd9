#include "sim/cluster/judge.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "base/errors.h"
#include "base/wire.h"

namespace cairn::sim {
namespace {

constexpr int64_t kTtlMin = 2;  // seconds; Model::Options::lease_ttl_min

// What is refused with one of these was not proposed. After every other error the outcome is not known.
bool is_final(const Error& error) {
  return error == errors::request_too_many_requests() || error == errors::no_leader();
}

bool is_of_members(const raft::Entry& entry) {
  if (entry.type != raft::EntryType::kNormal) return true;
  const auto request = request_of(entry.bytes());
  return request && (request->has_cluster_member_attr_set() || request->has_cluster_version_set() ||
                     request->has_downgrade_info_set());
}

std::string text_of(const cluster::Membership& members, const raft::ConfState& conf) {
  std::string out = "version \"" + members.version + "\"";
  for (const auto& [id, one] : members.members) {
    out += fmt::format(", {:x} {} of {} {}{}", id.value, one.name, fmt::join(one.peer_urls, " "),
                       fmt::join(one.client_urls, " "), one.is_learner ? " learner" : "");
  }
  const auto add = [&](const char* what, const std::vector<NodeId>& ids) {
    if (!ids.empty()) out += std::string("; ") + what;
    for (const NodeId id : ids) out += fmt::format(" {:x}", id.value);
  };
  add("voters", conf.voters);
  add("outgoing", conf.voters_outgoing);
  add("learners", conf.learners);
  add("next", conf.learners_next);
  return out;
}

}  // namespace

std::optional<SplitResponse> split_response(std::string_view text) {
  wire::Reader in(text);
  SplitResponse out;
  if (!in.next() || in.field() != 1) return std::nullopt;
  const std::string_view header = in.bytes();
  if (!out.header.ParseFromArray(header.data(), static_cast<int>(header.size()))) return std::nullopt;
  out.rest = text.substr(static_cast<size_t>(header.data() + header.size() - text.data()));
  return out;
}

void Judge::begin(const Model::Options& options, size_t members) {
  model_.begin(options);
  cluster_id_ = options.cluster_id;
  founded_ = Index(options.founders);
  handed_.assign(members, Index{});
  snapshots_.assign(members, {});
}

void Judge::add_member() {
  handed_.emplace_back();
  snapshots_.emplace_back();
}

void Judge::on_start(size_t member, Index applied) {
  if (applied > last()) violation(fmt::format("member {} starts at entry {}, which nobody committed", member, applied));
  handed_[member] = applied;
  snapshots_[member].clear();
}

void Judge::on_snapshot(size_t member, const raft::Snapshot& snapshot) {
  if (snapshot.index > last() || model_.state(snapshot.index).term != snapshot.term) {
    return violation(fmt::format("member {} is sent a snapshot at entry {} of term {}, which nobody committed", member,
                                 snapshot.index, snapshot.term));
  }
  snapshots_[member].insert(snapshot.index);
}

// --- the log

void Judge::on_leader(size_t member, Term term) {
  const auto [at, is_new] = leaders_.emplace(term, member);
  if (is_new) coverage_.hit("elections");
  if (at->second != member) {
    violation(fmt::format("members {} and {} both lead in term {}", at->second, member, term));
  }
}

void Judge::on_own_proposal(const member::Proposal& proposal, Index applied, int64_t now_ns) {
  ++own_[proposal->bytes];
  etcdserverpb::InternalRaftRequest request;
  if (!request.ParseFromString(proposal->bytes) || !request.has_lease_revoke()) return;
  coverage_.hit("leases that ran out");
  const auto lease = leases_.find(request.lease_revoke().id());
  if (lease == leases_.end() || lease->second.granted > applied) return;  // it knows an older one of this name
  // A machine's clock may be a little fast.
  const int64_t ttl_ns = lease->second.ttl * 1'000'000'000;
  if (now_ns - lease->second.since_ns < ttl_ns - ttl_ns / 1000) {
    // A leader that is none any more may ask for it; nothing comes of that.
    early_[proposal->bytes] =
        fmt::format("lease {} of {} s is revoked {} ms after it was granted or renewed", lease->first,
                    lease->second.ttl, (now_ns - lease->second.since_ns) / 1'000'000);
  }
}

void Judge::on_renewed(ClusterCall& call, int64_t ttl, int64_t now_ns) {
  if (call.state != ClusterCall::State::kWaiting) return;
  call.state = ClusterCall::State::kAnswered;
  call.return_ns = now_ns;
  const auto lease = leases_.find(call.renewed);
  if (ttl <= 0) return coverage_.hit("renewals of leases that are gone");
  coverage_.hit("renewals");
  ++answered_;
  // The lease of that name may have been granted anew since it was asked.
  if (lease != leases_.end() && lease->second.ttl == ttl) {
    lease->second.since_ns = std::max(lease->second.since_ns, call.call_ns);
  }
}

void Judge::note_lease(const raft::Entry& entry, int64_t now_ns) {
  etcdserverpb::InternalRaftRequest request;
  if (entry.type != raft::EntryType::kNormal || !request.ParseFromString(std::string(entry.bytes()))) return;
  if (request.has_lease_revoke()) leases_.erase(request.lease_revoke().id());
  if (!request.has_lease_grant() || leases_.contains(request.lease_grant().id())) return;
  leases_[request.lease_grant().id()] = {entry.index, std::max<int64_t>(request.lease_grant().ttl(), kTtlMin), now_ns};
}

void Judge::on_committed(size_t member, const std::vector<raft::Entry>& entries, int64_t now_ns) {
  for (const raft::Entry& entry : entries) on_entry(member, entry, now_ns);
}

void Judge::on_entry(size_t member, const raft::Entry& entry, int64_t now_ns) {
  const bool is_behind_snapshot = entry.index > handed_[member] && snapshots_[member].contains(entry.index - 1);
  if (entry.index != handed_[member] + 1 && !is_behind_snapshot) {
    return violation(fmt::format("member {} hands out entry {} behind {}", member, entry.index, handed_[member]));
  }
  handed_[member] = entry.index;
  if (entry.index <= last()) {
    const raft::Entry& before = log_[entry.index.value - 1];
    if (before.term != entry.term || before.type != entry.type || before.bytes() != entry.bytes()) {
      violation(fmt::format("entry {} is of term {} on member {} and was of term {}{}", entry.index, entry.term, member,
                            before.term, before.bytes() == entry.bytes() ? "" : ", with other bytes"));
    }
    return;
  }
  ClusterCall* asked = nullptr;
  if (entry.type == raft::EntryType::kNormal ? !entry.bytes().empty() : entry.index > founded_) {
    const auto at = by_payload_.find(entry.bytes());
    if (at != by_payload_.end()) {
      asked = &calls_[at->second - 1];
      if (asked->index != Index{}) {
        return violation(fmt::format("entry {} repeats entry {}", entry.index, asked->index));
      }
      if (asked->state == ClusterCall::State::kRefused) {
        return violation(fmt::format("entry {} was refused", entry.index));
      }
    } else {
      const auto own = own_.find(std::string(entry.bytes()));
      if (own == own_.end() || own->second == 0) {
        return violation(fmt::format("entry {} was asked for by nobody", entry.index));
      }
      --own->second;
      const auto early = early_.find(own->first);
      if (early != early_.end()) return violation(early->second);
    }
  }
  const std::string version = model_.version();
  auto reply = model_.apply(entry);
  if (!reply) return violation("the model: " + reply.error().message);
  if (model_.version() != version)
    coverage_.hit(version.empty() ? "cluster version " + model_.version() : "cluster version changed");
  log_.push_back(entry);
  if (is_of_members(entry)) {
    of_members_.push_back(entry.index);
    membership_.note(entry.index, model_);
  }
  note_lease(entry, now_ns);
  if (asked == nullptr) return;
  asked->index = entry.index;
  asked->reply = *std::move(reply);
  if (asked->state == ClusterCall::State::kUnknown) coverage_.hit("applied after its client had given up");
}

// --- calls

ClusterCall& Judge::begin_call(size_t client, size_t node, int64_t now_ns) {
  calls_.push_back({.number = calls_.size() + 1, .client = client, .node = node, .call_ns = now_ns, .floor = done_});
  return calls_.back();
}

void Judge::begin_write(ClusterCall& call, std::string payload) {
  call.payload = std::move(payload);
  if (!by_payload_.emplace(call.payload, call.number).second) violation("two requests are alike");
}

void Judge::on_answer(ClusterCall& call, uint64_t member_id, Code code, std::string_view text, int64_t now_ns) {
  if (call.state != ClusterCall::State::kWaiting) {
    if (!call.is_late) violation(fmt::format("call {} is answered twice", call.number));
    coverage_.hit("answer after its client had given up");
  }
  if (call.index == Index{}) return violation(fmt::format("call {} is answered and is no entry", call.number));
  check_answer(call, member_id, code, text);
  call.is_late = false;
  if (call.state == ClusterCall::State::kUnknown) return;  // its client does not know
  call.state = ClusterCall::State::kAnswered;
  call.return_ns = now_ns;
  call.code = code;
  call.response = std::string(text);
  done_ = std::max(done_, call.index);
  ++answered_;
}

void Judge::on_refused(ClusterCall& call, const Error& error, int64_t now_ns) {
  if (call.state != ClusterCall::State::kWaiting && !call.is_late) {
    return violation(fmt::format("call {} is refused after it was answered", call.number));
  }
  const bool final = is_final(error);
  if (final && call.index != Index{}) {
    return violation(fmt::format("call {} is refused ({}) and is entry {}", call.number, error.message, call.index));
  }
  coverage_.hit("refused: " + error.message);
  call.is_late = false;
  call.code = error.code;
  call.response = error.message;
  call.state = final ? ClusterCall::State::kRefused : ClusterCall::State::kUnknown;
  call.return_ns = now_ns;
}

void Judge::on_lost(ClusterCall& call, int64_t now_ns) {
  call.is_late = false;
  if (call.state != ClusterCall::State::kWaiting) return;
  call.state = ClusterCall::State::kUnknown;
  call.return_ns = now_ns;
}

void Judge::on_gone(size_t node, int64_t now_ns) {
  for (ClusterCall& call : calls_) {
    if (call.node == node) on_lost(call, now_ns);
  }
}

void Judge::check_answer(const ClusterCall& call, uint64_t member_id, Code code, std::string_view text) {
  const Reply& reply = *call.reply;
  const bool is_later = reply.kind == Reply::Kind::kAfterPass;
  if (reply.kind != Reply::Kind::kExact && !is_later) return violation("the model expects no plain answer");
  bool is_same = code == reply.code && text == reply.text;
  if (code == Code::kOk && reply.code == Code::kOk && !call.changes_members) {
    const auto found = split_response(text);
    const auto wanted = split_response(reply.text);
    is_same = found && wanted && found->rest == wanted->rest && found->header.member_id() == member_id &&
              found->header.cluster_id() == cluster_id_ && found->header.raft_term() >= wanted->header.raft_term() &&
              (is_later ? found->header.revision() >= wanted->header.revision()
                        : found->header.revision() == wanted->header.revision());
  }
  if (is_same) return coverage_.hit(code == Code::kOk ? "answers" : "answers that refuse");
  etcdserverpb::InternalRaftRequest request;
  request.ParseFromString(call.payload);
  violation(fmt::format("entry {} ({}) is answered {} \"{}\" and should be {} \"{}\"", call.index,
                        request.ShortDebugString().substr(0, 300), static_cast<int>(code),
                        code == Code::kOk ? "..." : text, static_cast<int>(reply.code),
                        reply.code == Code::kOk ? "..." : reply.text));
}

void Judge::on_members(size_t member, Index applied, const cluster::Membership& members, const raft::ConfState& conf) {
  const auto behind = std::upper_bound(of_members_.begin(), of_members_.end(), applied);
  const Index last = behind == of_members_.begin() ? Index{} : *std::prev(behind);
  const auto [at, is_new] = members_.try_emplace(last, Members{member, members, conf});
  const Members& first = at->second;
  if (const std::string wrong = membership_.compare(last, members, conf); !wrong.empty()) {
    return violation(fmt::format("after entry {} member {} {}", last, member, wrong));
  }
  if (is_new) return;
  coverage_.hit("members compared");
  if (first.members == members && first.conf == conf) return;
  violation(fmt::format("after entry {} member {} has {}, and member {} had {}", last, member, text_of(members, conf),
                        first.member, text_of(first.members, first.conf)));
}

void Judge::on_hash(size_t member, const member::Published& state, std::optional<uint32_t> hash) {
  const uint32_t wanted = model_.hash(state.kv.revision, state.kv.compact_revision);
  if (hash == wanted) return coverage_.hit("hashes");
  violation(fmt::format("the hash of member {} at revision {} is not that of the model", member, state.kv.revision));
}

int64_t Judge::longest_lease() const {
  int64_t out = 0;
  for (const auto& [id, lease] : leases_) out = std::max(out, lease.ttl);
  return out;
}

int64_t Judge::leases_end_ns(int64_t leads_since_ns) const {
  int64_t out = 0;
  for (const auto& [id, lease] : leases_) {
    out = std::max(out, std::max(lease.since_ns, leads_since_ns) + lease.ttl * 1'000'000'000);
  }
  return out;
}

bool Judge::takes_answer(ClusterCall& call) {
  const bool waits = call.state == ClusterCall::State::kWaiting;
  if (!waits && !call.is_late) violation(fmt::format("call {} is answered twice", call.number));
  call.is_late = false;
  return waits;
}

void Judge::check_answered() {
  for (const ClusterCall& call : calls_) {
    // A pass over the db that the stop has ended answers nobody.
    if (call.reply && call.reply->kind == Reply::Kind::kAfterPass) continue;
    if (call.state == ClusterCall::State::kWaiting || call.is_late) {
      etcdserverpb::InternalRaftRequest request;
      request.ParseFromString(call.payload);
      const std::string what = call.renewed != 0      ? fmt::format("renewal of lease {}", call.renewed)
                               : call.payload.empty() ? "read of " + call.range.ShortDebugString()
                                                      : request.ShortDebugString().substr(0, 300);
      return violation(fmt::format("call {} of {} us at member {} is never answered: {}, entry {}", call.number,
                                   call.call_ns / 1000, call.node, what, call.index));
    }
  }
}

void Judge::on_read(ClusterCall& call, const member::Published& state, uint64_t member_id,
                    const Result<std::string>& text, int64_t now_ns) {
  if (state.applied > last()) return violation("published above what is committed");
  const Model::State& expected = model_.state(state.applied);
  if (state.kv.revision != expected.revision || state.kv.compact_revision != expected.compacted) {
    return violation(fmt::format("published at entry {}: revision {}, compacted {}; should be {}, {}", state.applied,
                                 state.kv.revision, state.kv.compact_revision, expected.revision, expected.compacted));
  }
  const bool is_linearizable = !call.range.serializable();
  if (is_linearizable && state.applied < call.floor) {
    return violation(
        fmt::format("a read of call {} of {} us at member {} sees entry {}, and {} was answered before it began",
                    call.number, call.call_ns / 1000, call.node, state.applied, call.floor));
  }
  const int64_t revision = call.range.revision() > 0 ? call.range.revision() : expected.revision;
  const std::optional<Error> error = revision > expected.revision    ? std::optional(errors::future_rev())
                                     : revision < expected.compacted ? std::optional(errors::compacted())
                                                                     : std::nullopt;
  if (error ? text.has_value() || text.error() != *error : !text.has_value()) {
    return violation(fmt::format("a range says {}, and should say {}: {}", text ? "all is well" : text.error().message,
                                 error ? error->message : "all is well", call.range.ShortDebugString()));
  }
  if (!error) {
    const auto found = split_response(*text);
    const std::string wanted_text = model_.range(call.range, revision, expected.revision, state.leader.term.value);
    const auto wanted = split_response(wanted_text);
    if (!found || !wanted || found->rest != wanted->rest || found->header.member_id() != member_id) {
      return violation("a range differs: " + call.range.ShortDebugString());
    }
  }
  coverage_.hit(error ? "reads that are refused" : is_linearizable ? "linearizable reads" : "serializable reads");
  call.state = ClusterCall::State::kAnswered;
  call.return_ns = now_ns;
  call.index = state.applied;
  call.code = error ? error->code : Code::kOk;
  call.response = error ? error->message : *text;
  ++answered_;
  // Whoever reads later must see as much, also of what no writer was told of.
  if (is_linearizable) done_ = std::max(done_, state.applied);
}

}  // namespace cairn::sim
