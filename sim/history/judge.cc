#include "sim/history/judge.h"

#include <algorithm>
#include <unordered_map>

#include "base/errors.h"
#include "sim/history/answers.h"
#include "sim/history/real_time.h"
#include "sim/history/replay.h"
#include "sim/history/watch_check.h"
#include "sim/history/watch_witness.h"

namespace cairn::sim {
namespace {

constexpr size_t kViolationsMax = 20;

class Judge {
 public:
  explicit Judge(const History& history)
      : history_(history), log_(&history.log), is_complete_(history.is_complete), replay_(history) {
    ids_.reserve(history.operations.size());
    for (const ClientOperation& operation : history.operations) ids_.push_back(operation.request_id);
  }

  Verdict run() {
    find_paths();
    if (history_.log.empty()) {
      order_ = order_by_watch(history_);
      for (std::string& one : order_.violations) violation(std::move(one));
      verdict_.unjudged = order_.unjudged;
      if (!verdict_.ok()) return std::move(verdict_);
      log_ = &order_.log;
      ids_ = order_.request_ids;
      is_complete_ = false;  // it has entries of its own
    }
    learn_ids();
    read_log();
    match_by_content();
    for (uint32_t i = 0; i < history_.operations.size(); ++i) place(i);
    watches();
    for (const Contradiction& one : sweep(placements_, kViolationsMax)) contradiction(one);
    verdict_.revision = replay_.revision();
    return std::move(verdict_);
  }

 private:
  // An entry that clients ask for, whose id nobody has.
  struct Orphan {
    uint64_t position = 0;
    std::string content;  // the RPC, then the request
    Reply reply;
  };

  [[nodiscard]] const ClientOperation& operation(uint32_t i) const { return history_.operations[i]; }
  void violation(std::string text) {
    if (verdict_.violations.size() < kViolationsMax) verdict_.violations.push_back(std::move(text));
  }
  template <class... Args>
  void violation(uint32_t i, fmt::format_string<Args...> format, Args&&... args) {
    violation(describe(operation(i)) + "\n  " + fmt::format(format, std::forward<Args>(args)...));
  }
  static std::string key_of(const Content& content) {
    return static_cast<char>('A' + static_cast<int>(content.rpc)) + content.request;
  }

  void find_paths() {
    paths_.reserve(history_.operations.size());
    for (const ClientOperation& one : history_.operations) paths_.push_back(path_of(one.rpc, one.request));
    entries_.assign(history_.operations.size(), 0);
  }
  void learn_ids() {
    by_id_.reserve(ids_.size());
    for (uint32_t i = 0; i < ids_.size(); ++i) {
      if (ids_[i] == 0 || paths_[i] != Path::kLog) continue;
      const auto [at, is_new] = by_id_.try_emplace(ids_[i], i);
      if (!is_new) violation(i, "has the request id of {}", describe(operation(at->second)));
    }
  }

  // --- the log

  void read_log() {
    for (size_t at = 0; at < log_->size(); ++at) {
      const LogEntry& entry = (*log_)[at];
      if (entry.index.value != at + 1) {
        return violation(fmt::format("the log has entry {} in the place of {}", entry.index, at + 1));
      }
      if (at > 0 && entry.term < (*log_)[at - 1].term) {
        violation(
            fmt::format("entry {} is of term {}, and the one before of {}", at + 1, entry.term, (*log_)[at - 1].term));
      }
      const auto reply = replay_.apply(entry);
      if (entry.is_void || entry.type != raft::EntryType::kNormal || entry.bytes.empty() || !reply) continue;
      etcdserverpb::InternalRaftRequest request;
      if (request.ParseFromString(entry.bytes)) meet(at + 1, entry, request, *reply);
    }
  }
  void meet(uint64_t position, const LogEntry& entry, const etcdserverpb::InternalRaftRequest& request,
            const Reply& reply) {
    uint64_t id = entry.request_id;
    if (id == 0) id = request.header().id() != 0 ? request.header().id() : request.id();
    const Content content = content_of(request);
    const auto found = id == 0 ? by_id_.end() : by_id_.find(id);
    if (found == by_id_.end()) {
      const bool is_asked_by_clients = content.rpc != Rpc::kOther && content.rpc != Rpc::kRange;
      if (is_asked_by_clients) orphans_.push_back({position, key_of(content), reply});
      return;
    }
    const uint32_t i = found->second;
    if (entries_[i] != 0) return violation(i, "is in the log twice, as entries {} and {}", entries_[i], position);
    if (!is_content(operation(i), content)) {
      return violation(i, "is entry {}, which asks for something else: {} {}", position, name_of(content.rpc),
                       request.ShortDebugString());
    }
    attach(i, position, reply);
  }
  // A front end may choose a lease's id, and writes fields in its own order.
  static bool is_content(const ClientOperation& one, const Content& content) {
    if (one.rpc != content.rpc) return false;
    if (one.request == content.request) return true;
    auto mine = proposal_of(one.rpc, one.request, 0);
    if (!mine) return false;
    if (one.rpc == Rpc::kLeaseGrant && mine->lease_grant().id() == 0) {
      etcdserverpb::LeaseGrantRequest other;
      other.ParseFromString(content.request);
      mine->mutable_lease_grant()->set_id(other.id());
    }
    return content_of(*mine) == content;
  }

  // Entries without a known id go to operations without one: by their answers, or, if they changed something, to those
  // whose outcome is unknown, of equal ones the earlier entry to the earlier call. Which of several equal entries
  // without a change an operation is stays open: place_write() takes their state.
  void match_by_content() {
    if (orphans_.empty()) return;
    std::unordered_map<std::string, std::vector<uint32_t>> asked;
    for (uint32_t i = 0; i < history_.operations.size(); ++i) {
      if (ids_[i] == 0 && paths_[i] == Path::kLog) asked[content_key(operation(i))].push_back(i);
    }
    for (auto& [content, operations] : asked) {
      std::stable_sort(operations.begin(), operations.end(),
                       [&](uint32_t a, uint32_t b) { return operation(a).call_ns < operation(b).call_ns; });
    }
    std::vector<const Orphan*> left;
    for (const Orphan& orphan : orphans_) {
      const bool is_change = changes(orphan.position);
      if (orphan.reply.code != Code::kOk && !is_change) continue;
      const auto at = asked.find(orphan.content);
      const bool is_given = at != asked.end() && give(orphan, at->second, Outcome::kAnswered);
      if (!is_given && is_change) left.push_back(&orphan);
    }
    for (const Orphan* const orphan : left) {
      // Members end leases by themselves.
      const auto rpc = static_cast<Rpc>(orphan->content.front() - 'A');
      if (rpc == Rpc::kLeaseRevoke) continue;
      const auto at = asked.find(orphan->content);
      const bool is_given = at != asked.end() && (give(*orphan, at->second, Outcome::kUnknown) ||
                                                  give(*orphan, at->second, Outcome::kRefused));
      if (is_given || !is_complete_) continue;
      const auto request = proposal_of(rpc, std::string_view(orphan->content).substr(1), 0);
      violation(fmt::format("entry {} is a {} that nobody asked for: {}", orphan->position, name_of(rpc),
                            request ? request->ShortDebugString() : ""));
    }
  }
  static std::string content_key(const ClientOperation& one) {
    auto proposal = proposal_of(one.rpc, one.request, 0);
    if (!proposal) return {};
    if (one.rpc == Rpc::kLeaseGrant && one.outcome == Outcome::kAnswered && one.code == Code::kOk) {
      etcdserverpb::LeaseGrantResponse response;
      response.ParseFromString(one.response);
      proposal->mutable_lease_grant()->set_id(response.id());
    }
    return key_of(content_of(*proposal));
  }
  bool give(const Orphan& orphan, const std::vector<uint32_t>& operations, Outcome outcome) {
    for (const uint32_t i : operations) {
      const ClientOperation& one = operation(i);
      if (entries_[i] != 0 || one.outcome != outcome) continue;
      if (outcome == Outcome::kAnswered && !wrong_answer(one, orphan.reply).empty()) continue;
      attach(i, orphan.position, orphan.reply);
      return true;
    }
    return false;
  }

  // Entry `position` made a revision.
  [[nodiscard]] bool changes(uint64_t position) const {
    return replay_.revision_at(position) != replay_.revision_at(position - 1);
  }
  // Operation i is entry `position`.
  void attach(uint32_t i, uint64_t position, const Reply& reply) {
    const ClientOperation& one = operation(i);
    entries_[i] = position;
    if (one.outcome == Outcome::kUnknown) {
      ++verdict_.unknown_applied;
    } else if (one.outcome == Outcome::kRefused) {
      if (reply.code == Code::kOk) violation(i, "was refused, and it is entry {} of the log", position);
    } else if (const std::string wrong = wrong_answer(one, reply); !wrong.empty()) {
      violation(i, "is entry {}: {}", position, wrong);
    } else {
      const auto answer = split_answer(one.response);
      const uint64_t term = one.code == Code::kOk && answer ? answer->header.raft_term() : 0;
      if (term != 0 && term < (*log_)[position - 1].term.value) {
        violation(i, "is entry {} of term {}, and a member of term {} answered", position, (*log_)[position - 1].term,
                  term);
      }
    }
  }
  // "": it is the model's.
  static std::string wrong_answer(const ClientOperation& one, const Reply& reply) {
    if (one.code != Code::kOk || reply.code != Code::kOk) {
      if (reply.kind == Reply::Kind::kNone || (one.code == reply.code && one.response == reply.text)) return {};
      if (reply.code != Code::kOk) return "the right answer is the error " + reply.text;
      if (reply.kind == Reply::Kind::kExactOrNoSpace && one.response == errors::no_space().message) return {};
      return "the right answer is " + text_of_answer(one.rpc, reply.text);
    }
    if (reply.kind == Reply::Kind::kNone || reply.kind == Reply::Kind::kErrorOrNone) return {};
    const auto seen = split_answer(one.response);
    const auto right = split_answer(reply.text);
    if (!seen || !right) return "the answer cannot be read";
    const bool may_be_later = reply.kind == Reply::Kind::kAfterPass;
    const bool is_revision = may_be_later ? seen->header.revision() >= right->header.revision()
                                          : seen->header.revision() == right->header.revision();
    if (is_revision && same_answer(one.rpc, one.response, reply.text)) return {};
    return "the right answer is " + text_of_answer(one.rpc, reply.text);
  }

  // --- places

  void place(uint32_t i) {
    const ClientOperation& one = operation(i);
    if (one.outcome == Outcome::kAnswered) check_member(i);
    if (paths_[i] == Path::kLog) return place_write(i);
    if (one.outcome != Outcome::kAnswered) return;
    if (one.code == Code::kOk) return place_read(i);
    etcdserverpb::RangeRequest request;
    if (one.rpc == Rpc::kRange && request.ParseFromString(one.request)) place_error(i, request.revision());
  }
  void check_member(uint32_t i) {
    const ClientOperation& one = operation(i);
    if (one.code != Code::kOk || one.member.value == 0) return;
    const auto answer = split_answer(one.response);
    const uint64_t member = answer ? answer->header.member_id() : 0;
    if (member != 0 && member != one.member.value) {
      violation(i, "member {:x} was asked, and {:x} answered", one.member.value, member);
    }
  }
  void add(uint32_t i, int64_t low, int64_t high, bool is_bound = true) {
    const ClientOperation& one = operation(i);
    const int64_t end = one.outcome == Outcome::kUnknown ? kNever : one.return_ns.value_or(kNever);
    placements_.push_back({low, high, one.call_ns, end, is_bound, i});
  }
  void place_write(uint32_t i) {
    const ClientOperation& one = operation(i);
    if (entries_[i] != 0) {
      ++verdict_.writes;
      const int64_t revision = replay_.revision_at(entries_[i]);
      if (ids_[i] == 0 && !changes(entries_[i])) {
        return add(i, after_entry(replay_.first_with(revision)), after_entry(replay_.last_with(revision)));
      }
      return add(i, at_entry(entries_[i]), at_entry(entries_[i]));
    }
    if (one.outcome != Outcome::kAnswered) return;
    if (one.code == Code::kOk) return violation(i, "was acknowledged, and the log does not have it");
    etcdserverpb::CompactionRequest request;
    // A compaction at what is compacted is refused too, a range at it is not.
    if (one.rpc != Rpc::kCompact || !request.ParseFromString(one.request)) return;
    place_error(i, request.revision() - (one.response == errors::compacted().message ? 1 : 0));
  }
  // "compacted" or "future" for a request at `revision`.
  void place_error(uint32_t i, int64_t revision) {
    const bool is_bound = paths_[i] != Path::kSerializable;
    if (operation(i).response == errors::future_rev().message) {
      if (revision <= 1) return violation(i, "there is no state to which revision {} is in the future", revision);
      if (is_bound) add(i, after_entry(0), after_entry(replay_.last_before(revision)));
    } else if (operation(i).response == errors::compacted().message) {
      if (revision < order_.perhaps_compacted) return;  // nobody knows since when
      const auto first = replay_.first_compacted(revision);
      if (first) return add(i, after_entry(*first), after_entry(replay_.last()), is_bound);
      violation(i, "it was not compacted at any time");
    }
  }
  void place_read(uint32_t i) {
    const ClientOperation& one = operation(i);
    const bool is_bound = paths_[i] == Path::kRead;
    ++(is_bound ? verdict_.reads : verdict_.serializable_reads);
    const auto answer = split_answer(one.response);
    if (!answer) return violation(i, "the answer cannot be read");
    const int64_t revision = answer->header.revision();
    if (revision < 1 || revision > replay_.revision()) {
      return violation(i, "is of revision {}, and there are only 1 to {}", revision, replay_.revision());
    }
    const ReadAnswer right = read(replay_.model(), one.rpc, one.request, revision);
    if (right.newest && *right.newest > revision) {
      return violation(i, "was answered at revision {} about the future one {}", revision, *right.newest);
    }
    if (!same_answer(one.rpc, one.response, right.response)) {
      return violation(i, "the right answer is {}", text_of_answer(one.rpc, right.response));
    }
    const int64_t low = after_entry(replay_.first_with(revision));
    int64_t high = after_entry(replay_.last_with(revision));
    if (right.oldest) {
      const auto readable = replay_.last_readable(*right.oldest);
      if (!readable || after_entry(*readable) < low) {
        return violation(i, "revision {} was compacted before there was revision {}", *right.oldest, revision);
      }
      high = std::min(high, after_entry(*readable));
    }
    add(i, low, high, is_bound);
  }

  // --- watches, real time

  void watches() {
    if (history_.watches.empty()) return;
    const Events events(replay_.model());
    const int64_t compacted = std::max(replay_.compacted(), order_.perhaps_compacted);
    std::vector<int64_t> next;
    for (size_t w = 0; w < history_.watches.size(); ++w) {
      const Watch& watch = history_.watches[w];
      const WatchReport report = check_watch(watch, events, compacted);
      verdict_.watch_events += report.events;
      if (!report.failure.empty()) violation(describe(watch) + "\n  " + report.failure);
      next.push_back(report.next);
      if (watch.resumes && *watch.resumes < w) {
        etcdserverpb::WatchCreateRequest request;
        request.ParseFromString(watch.request);
        if (request.start_revision() != next[*watch.resumes]) {
          violation(fmt::format("{}\n  goes on at {}, and the one before had all below {}", describe(watch),
                                request.start_revision(), next[*watch.resumes]));
        }
      }
      for (const Sighting& one : report.sightings) {
        if (one.revision < 1 || one.revision > replay_.revision()) {
          violation(fmt::format("{}\n  has revision {}, and there are only 1 to {}", describe(watch), one.revision,
                                replay_.revision()));
          continue;
        }
        const int64_t low = after_entry(replay_.first_with(one.revision));
        placements_.push_back(
            {low, kNever, one.time_ns, one.time_ns, false, static_cast<uint32_t>(history_.operations.size() + w)});
      }
    }
  }
  [[nodiscard]] std::string subject(const Placement& one) const {
    if (one.subject < history_.operations.size()) return describe(operation(one.subject));
    return fmt::format("{}, a response at {}", describe(history_.watches[one.subject - history_.operations.size()]),
                       one.call_ns);
  }
  [[nodiscard]] std::string position_of(const Placement& one) const {
    const auto entry = static_cast<uint64_t>(one.low / 2);
    if (one.low == one.high && one.low % 2 == 0) {
      return fmt::format("entry {} (revision {})", entry, replay_.revision_at(entry));
    }
    std::string out = fmt::format("after entry {} (revision {})", entry, replay_.revision_at(entry));
    if (!one.is_bound || one.high == kNever) return out + " or later";
    if (one.high > one.low) out += fmt::format(" and before entry {}", one.high / 2 + 1);
    return out;
  }
  void contradiction(const Contradiction& one) {
    const Placement& earlier = placements_[one.earlier];
    const Placement& later = placements_[one.later];
    violation(fmt::format("{}\n  is {}, but it was called after the end of\n{}\n  which is {}", subject(later),
                          position_of(later), subject(earlier), position_of(earlier)));
  }

  const History& history_;
  const std::vector<LogEntry>* log_;
  bool is_complete_;
  Verdict verdict_;
  Replay replay_;
  WatchedOrder order_;
  std::vector<uint64_t> ids_;      // by operation
  std::vector<Path> paths_;        // by operation
  std::vector<uint64_t> entries_;  // by operation: its position in the log; 0: not there
  std::unordered_map<uint64_t, uint32_t> by_id_;
  std::vector<Orphan> orphans_;
  std::vector<Placement> placements_;
};

}  // namespace

Verdict judge(const History& history) { return Judge(history).run(); }

}  // namespace cairn::sim
