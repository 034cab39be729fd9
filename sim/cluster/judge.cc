#include "sim/cluster/judge.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "base/errors.h"
#include "base/wire.h"

namespace cairn::sim {
namespace {

// What is refused with one of these was not proposed. After every other error the outcome is not known.
bool is_final(const Error& error) {
  return error == errors::request_too_many_requests() || error == errors::no_leader();
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
  handed_.assign(members, Index{});
}

void Judge::on_start(size_t member, Index applied) {
  if (applied > last()) violation(fmt::format("member {} starts at entry {}, which nobody committed", member, applied));
  handed_[member] = applied;
}

// --- the log

void Judge::on_leader(size_t member, Term term) {
  const auto [at, is_new] = leaders_.emplace(term, member);
  if (is_new) coverage_.hit("elections");
  if (at->second != member) {
    violation(fmt::format("members {} and {} both lead in term {}", at->second, member, term));
  }
}

void Judge::on_committed(size_t member, const std::vector<raft::Entry>& entries) {
  for (const raft::Entry& entry : entries) on_entry(member, entry);
}

void Judge::on_entry(size_t member, const raft::Entry& entry) {
  if (entry.index != handed_[member] + 1) {
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
  if (entry.type == raft::EntryType::kNormal && !entry.bytes().empty()) {
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
    }
  }
  auto reply = model_.apply(entry);
  if (!reply) return violation("the model: " + reply.error().message);
  log_.push_back(entry);
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
  if (reply.kind != Reply::Kind::kExact) return violation("the model expects no plain answer");
  bool is_same = code == reply.code && text == reply.text;
  if (code == Code::kOk && reply.code == Code::kOk) {
    const auto found = split_response(text);
    const auto wanted = split_response(reply.text);
    is_same = found && wanted && found->rest == wanted->rest && found->header.member_id() == member_id &&
              found->header.cluster_id() == cluster_id_ && found->header.revision() == wanted->header.revision() &&
              found->header.raft_term() >= wanted->header.raft_term();
  }
  if (is_same) return coverage_.hit(code == Code::kOk ? "answers" : "answers that refuse");
  etcdserverpb::InternalRaftRequest request;
  request.ParseFromString(call.payload);
  violation(fmt::format("entry {} ({}) is answered {} \"{}\" and should be {} \"{}\"", call.index,
                        request.ShortDebugString().substr(0, 300), static_cast<int>(code),
                        code == Code::kOk ? "..." : text, static_cast<int>(reply.code),
                        reply.code == Code::kOk ? "..." : reply.text));
}

void Judge::on_read(ClusterCall& call, const member::Published& state, uint64_t member_id, std::string_view text,
                    int64_t now_ns) {
  if (state.applied > last()) return violation("published above what is committed");
  const Model::State& expected = model_.state(state.applied);
  if (state.kv.revision != expected.revision || state.kv.compact_revision != expected.compacted) {
    return violation(fmt::format("published at entry {}: revision {}, compacted {}; should be {}, {}", state.applied,
                                 state.kv.revision, state.kv.compact_revision, expected.revision, expected.compacted));
  }
  const bool is_linearizable = !call.range.serializable();
  if (is_linearizable && state.applied < call.floor) {
    return violation(fmt::format("a read of call {} sees entry {}, and {} was answered before it began", call.number,
                                 state.applied, call.floor));
  }
  const auto found = split_response(text);
  const int64_t revision = call.range.revision() > 0 ? call.range.revision() : expected.revision;
  const std::string wanted_text = model_.range(call.range, revision, expected.revision, state.leader.term.value);
  const auto wanted = split_response(wanted_text);
  if (!found || !wanted || found->rest != wanted->rest || found->header.member_id() != member_id) {
    return violation("a range differs: " + call.range.ShortDebugString());
  }
  coverage_.hit(is_linearizable ? "linearizable reads" : "serializable reads");
  call.state = ClusterCall::State::kAnswered;
  call.return_ns = now_ns;
  call.index = state.applied;
  ++answered_;
  // Whoever reads later must see as much, also of what no writer was told of.
  if (is_linearizable) done_ = std::max(done_, state.applied);
}

}  // namespace cairn::sim
