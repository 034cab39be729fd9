// sim/cluster/judge.h: what must be true of a cluster, checked at each thing that happens.
//
//   - The log: all members hand out the same entry at the same index, without a gap, and it never changes. It holds
//     only what somebody asked for, nothing twice and nothing that was refused for good.
//   - A term has one leader.
//   - An append is acknowledged only when it is on the disk.
//   - Answers: each equals the model's answer for the request's entry. A request has one answer.
//   - Reads: what a member shows equals the model at the member's index; a linearizable read shows all that was
//     answered to anybody before the read began.
//
// The log is the order of all writes, so a history is linearizable exactly when each answer fits its entry and no read
// lies below what was known to be done when it began. A write cannot lie below: its entry is made after its call.
//
// Threads: one.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "member/published.h"
#include "member/stages.h"
#include "proto/raft_internal.pb.h"
#include "sim/coverage.h"
#include "sim/model.h"

namespace cairn::sim {

// One call of a client.
struct ClusterCall {
  enum class State : uint8_t { kWaiting, kAnswered, kRefused, kUnknown };
  uint64_t number = 0;
  size_t client = 0;
  size_t node = 0;
  State state = State::kWaiting;
  bool is_late = false;  // its client waits no more, and its member may still answer
  int64_t call_ns = 0;
  int64_t return_ns = 0;
  Index floor;  // entries up to here were known to be done when it was made

  std::string payload;  // of a write: the entry's bytes
  Index index;          // where it is
  std::optional<Reply> reply;

  etcdserverpb::RangeRequest range;  // of a read
};

class Judge {
 public:
  using Violation = std::function<void(std::string)>;
  Judge(Coverage& coverage, Violation violation) : coverage_(coverage), violation_(std::move(violation)) {}

  void begin(const Model::Options& options, size_t members);
  // A process of this member starts with everything up to `applied`.
  void on_start(size_t member, Index applied);

  // --- the log

  void on_committed(size_t member, const std::vector<raft::Entry>& entries);
  void on_own_proposal(const member::Proposal& proposal) { ++own_[proposal->bytes]; }
  void on_leader(size_t member, Term term);
  [[nodiscard]] Index last() const { return model_.last(); }

  // --- calls

  ClusterCall& begin_call(size_t client, size_t node, int64_t now_ns);
  void begin_write(ClusterCall& call, std::string payload);
  [[nodiscard]] ClusterCall& call(uint64_t number) { return calls_[number - 1]; }
  [[nodiscard]] const std::deque<ClusterCall>& calls() const { return calls_; }
  // Of a write.
  void on_answer(ClusterCall& call, uint64_t member_id, Code code, std::string_view text, int64_t now_ns);
  // It is answered with an error, and its member knows nothing of what becomes of it; or surely it is never an entry.
  void on_refused(ClusterCall& call, const Error& error, int64_t now_ns);
  // Nobody will answer.
  void on_lost(ClusterCall& call, int64_t now_ns);
  // Nobody of this member will.
  void on_gone(size_t node, int64_t now_ns);
  // Of a read: what `member_id` showed at its index.
  void on_read(ClusterCall& call, const member::Published& state, uint64_t member_id, std::string_view text,
               int64_t now_ns);

  [[nodiscard]] const Model& model() const { return model_; }
  [[nodiscard]] uint64_t answered() const { return answered_; }

 private:
  void on_entry(size_t member, const raft::Entry& entry);
  void check_answer(const ClusterCall& call, uint64_t member_id, Code code, std::string_view text);
  void violation(std::string text) { violation_(std::move(text)); }

  Coverage& coverage_;
  Violation violation_;
  Model model_;
  uint64_t cluster_id_ = 0;
  std::vector<raft::Entry> log_;  // [i] has index i + 1
  std::vector<Index> handed_;     // by member: the last one it handed out
  std::map<Term, size_t> leaders_;
  std::map<std::string, uint64_t> own_;  // what members proposed themselves, and is no entry yet
  std::deque<ClusterCall> calls_;
  std::unordered_map<std::string_view, uint64_t> by_payload_;
  Index done_;  // the highest entry that a client knows of
  uint64_t answered_ = 0;
};

// The bytes of a response are its header, field 1, and the rest.
struct SplitResponse {
  etcdserverpb::ResponseHeader header;
  std::string_view rest;
};
[[nodiscard]] std::optional<SplitResponse> split_response(std::string_view text);

}  // namespace cairn::sim
