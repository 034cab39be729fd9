// member/apply/workbench.h: what the appliers and the commit planner share: the store, the place of the log they are
// at, and what leaves.
//
// Threads: the core thread's.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "member/apply/applied_state.h"
#include "member/requests.h"
#include "member/stages.h"
#include "mvcc/kv/store.h"
#include "mvcc/kv/txn.h"

namespace cairn::member {

struct ApplyOutput {
  AppliedNotice notice;
  std::optional<CommitJob> commit;
  std::vector<Proposal> proposals;  // of this member itself: alarms
  std::vector<LeaseChange> leases;  // in the order of the entries
  std::optional<HashOrder> hash;    // one at a time
};

// What was applied since the start, for metrics.
struct ApplyCounters {
  uint64_t compacted_records = 0;
  struct Requests {
    uint64_t done = 0;
    uint64_t refused = 0;
  };
  std::array<Requests, kRequestNames.size()> requests{};
  uint64_t requests_of_all_kinds = 0;
};

struct Workbench {
  Workbench(const ApplyOptions& given, AppliedState& state, Answers& out)
      : options(given),
        store(std::move(state.index), state.file, state.store),
        answers(out),
        cluster_id(state.members.cluster_id),
        applied(state.applied),
        applied_term(state.applied_term),
        space(state.space) {}
  Workbench(const Workbench&) = delete;
  Workbench& operator=(const Workbench&) = delete;

  [[nodiscard]] storage::WriteBuffer& tables() { return store.tables(); }
  [[nodiscard]] mvcc::HeaderValues header(int64_t revision) const {
    return {cluster_id, options.member_id, revision, term_for_headers};
  }

  // For nobody (tag 0), nothing happens.
  void answer(Tag tag, Code code, std::string_view text) {
    if (tag != 0) answers.add(tag, code, text);
  }
  void answer_error(Tag tag, const Error& error) {
    is_refused = true;
    answer(tag, error.code, error.message);
  }
  // A response that begins with the header of now; `append(out)` writes the rest of the message.
  template <class Append>
  void reply(Tag tag, const Append& append) {
    if (tag == 0) return;
    answers.write(tag, [&](std::string& out) {
      mvcc::append_header(out, header(store.revision()));
      append(out);
    });
  }
  void reply(Tag tag) {
    reply(tag, [](std::string&) {});
  }

  const ApplyOptions options;
  mvcc::Store store;
  Answers& answers;
  const uint64_t cluster_id;
  uint64_t term_for_headers = 0;
  Index applied;  // the entry that is applied, or was last
  Term applied_term;
  storage::Space space;  // of the file, after the last commit
  ApplyCounters counters;
  bool is_refused = false;  // the request that is applied
  ApplyOutput output;
  bool has_output = false;
};

}  // namespace cairn::member
