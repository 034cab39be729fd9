// member/own_proposals.h: the requests of this member's own clients that wait to be applied, by their id.
//
// A member with peers needs it. A request that this member forwards comes back as an entry without its tag, and one
// that it appended as leader may be lost with the term: the id in the request's header says whose it is. While a member
// is alone, the tag in the payload is enough, and nothing is kept here.
//
//     add() -> waits here -> note_given(term) -> resolve(): an entry that is committed takes the tag, once
//                    ^             |-> take_lost(): entries of a later term are committed, so this will never be
//                    +-------------+
//              take_expired(): it has waited for too long; what becomes of it is no longer known here
//
// Always true: a tag leaves this table once: with an entry, as expired or as refused.
// Threads:     the core thread's.
// Source:      docs/architecture.md.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "member/stages.h"

namespace cairn::member {

// The id of the request that an entry of this type holds; 0: none can be read.
[[nodiscard]] uint64_t request_id_of(raft::EntryType type, std::string_view bytes);

class OwnProposals {
 public:
  struct One {
    Proposal payload;  // with its tag
    raft::EntryType type = raft::EntryType::kNormal;
  };
  struct Expired {
    One one;
    int64_t since_ns = 0;
  };

  explicit OwnProposals(int64_t timeout_ns) : timeout_ns_(timeout_ns) {}

  // Of a proposal for which nobody waits, nothing is kept; nor of one whose id another one has.
  void add(const Proposal& payload, raft::EntryType type, int64_t now_ns);
  // The leader of `term` has it. `is_certain`: if it is not among the entries up to the first one of a later term that
  // is committed, then it will never be an entry.
  void note_given(const Proposal& payload, raft::EntryType type, Term term, bool is_certain);
  // It was refused, or nothing may be said about it any more.
  void forget(const Proposal& payload, raft::EntryType type);

  // The entry is committed: it gets the tag of who waits for it here, and no other one.
  void resolve(raft::Entry& entry);
  // An entry of `term` is committed, and everything before it is resolved: what was given in an earlier term is lost.
  // In the order of arrival; each waits here again.
  std::vector<One> take_lost(Term term);
  // A snapshot replaces the log up to an entry of `term`, and may hold what was given up to then.
  void note_snapshot(Term term);

  // In the order of arrival; each is forgotten.
  std::vector<Expired> take_expired(int64_t now_ns);
  std::vector<One> take_all();
  // All but what this member, which leads in `term` and decides alone, has appended in that term: it will be applied.
  std::vector<One> take_undecided(Term term);

  [[nodiscard]] size_t size() const { return by_id_.size(); }
  [[nodiscard]] bool empty() const { return by_id_.empty(); }

 private:
  struct Kept {
    One one;
    int64_t since_ns = 0;
    Term given;  // 0: it waits here
    bool is_certain = true;
  };
  struct Arrival {
    uint64_t id = 0;
    int64_t since_ns = 0;
  };
  Kept* find(const Proposal& payload, raft::EntryType type);
  void trim();

  int64_t timeout_ns_;
  std::unordered_map<uint64_t, Kept> by_id_;
  std::deque<Arrival> arrivals_;  // some of them are in by_id_ no more
};

}  // namespace cairn::member
