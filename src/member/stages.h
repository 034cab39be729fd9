// member/stages.h: the messages between the stages of a member. docs/architecture.md has the picture.
//
//     io threads -> ReplicationCore -> WalStage -> ReplicationCore -> ApplyCore -> io threads
//                                                                        |  ^
//                                                                        v  |
//                                                                     CommitStage
//
// A stage is a value with functions: messages in, messages out. MemberCore (member_core.h) owns the two cores and
// carries what goes between them; WalStage and CommitStage are run by its driver, as effects. Messages between two
// stages are never reordered.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "auth/rules.h"
#include "base/check.h"
#include "base/error.h"
#include "base/strong.h"
#include "cluster/membership.h"
#include "cluster/versions.h"
#include "raft/types.h"
#include "storage/engine.h"
#include "storage/write_buffer.h"

namespace cairn::member {

// Names who waits for an answer: a call on an io thread, or 0 for nobody. Its top byte is the io thread's number.
using Tag = uint64_t;
[[nodiscard]] constexpr unsigned loop_of(Tag tag) { return static_cast<unsigned>(tag >> 56); }

// --- leases -------------------------------------------------------------------------------------------------

// What a log entry did to a lease.
struct LeaseChange {
  enum class Kind : uint8_t { kGranted, kRevoked, kCheckpointed };
  Kind kind = Kind::kGranted;
  int64_t id = 0;
  int64_t ttl = 0;  // seconds, of a grant
};

// Asks the core for what is in no log; each is answered once. Source: docs/architecture.md, "Leases".
struct LeaseRequest {
  enum class Kind : uint8_t {
    kRenew,       // answer: LeaseKeepAliveResponse; TTL 0: there is no such lease
    kTimeToLive,  // answer: LeaseKeysToCome, then LeaseTimeToLiveResponse; TTL -1: there is no such lease
    kList,        // answer: LeaseListed
    kCountKeys,   // answer: LeaseKeyCount
    kMayRenew,    // answer: nothing, once `who` may renew it, as far as this member knows
  };
  Kind kind = Kind::kRenew;
  bool wants_keys = false;  // kTimeToLive
  uint64_t first = 0;       // kList: of the slots
  int64_t id = 0;           // of the lease; kList: none
  Tag tag = 0;
  // kRenew and kMayRenew, while auth is on; null: nobody who is known
  std::shared_ptr<const auth::Identity> who = {};
  bool is_members = false;  // kRenew: another member asks, which has seen to it that its client may
};
// Before the answer to kTimeToLive: whether there are so many keys that they are left out, to be found in the index.
enum class LeaseKeysToCome : char { kNone = 0, kInIndex = 1 };
// The answer to kList, as bytes: where the next part begins (0: that was all), then pairs of id and deadline.
struct LeaseListed {
  uint64_t next = 0;
  struct One {
    int64_t id = 0;
    int64_t deadline_ns = 0;  // INT64_MAX: none, since this member does not lead
  };
};
// The answer to kCountKeys, as bytes.
struct LeaseKeyCount {
  uint64_t keys = 0;
  uint64_t key_bytes = 0;
};

// --- from clients -------------------------------------------------------------------------------------------

// Becomes one log entry; the payload's tag says who waits.
using Proposal = std::shared_ptr<const raft::Payload>;

// Asks ApplyCore for something that is not in the log. Each is answered when it is done.
enum class Control : uint8_t {
  kLinearizable,  // everything acknowledged before this was sent is applied and published
  kCommit,        // everything applied is in the file
  kDefragment,    // the file is as short as it can be made
  kProgress,      // answer: a PeerProgress for each member, this one too; only of a leader
};
struct ControlRequest {
  Control kind = Control::kLinearizable;
  Tag tag = 0;
  Index due;  // kLinearizable: once this is applied; set by ReplicationCore
};

// The answer to kProgress, as bytes.
struct PeerProgress {
  uint64_t id = 0;
  uint64_t match = 0;  // the last entry of the log that the member is known to hold
};

// MoveLeader: answered with nothing once `to` leads; with errors::not_leader(), bad_leader_transferee() or
// timeout_leader_transfer() when it does not.
struct TransferRequest {
  NodeId to;
  Tag tag = 0;
};

// --- from the transport ---------------------------------------------------------------------------------------

// What the transport finds out about another member.
struct PeerReport {
  enum class Kind : uint8_t {
    kUnreachable,        // a message to it could not be sent
    kDied,               // both streams from it ended, and a new connection to it was refused: its process is gone
    kSnapshotDelivered,  // it has all of the snapshot that was sent to it
    kSnapshotFailed,
    kStreamCut,     // what was sent to it before may be lost, what is sent from now on goes another way
    kConnected,     // there was no connection to it, and now there is one
    kTellsRemoval,  // it does not talk to this member, which was removed
  };
  Kind kind = Kind::kUnreachable;
  NodeId peer;
};

// These members are to be asked which versions they run; and what they have said.
struct VersionQuestion {
  Term term;  // of who asks
  std::vector<NodeId> members;
};
struct VersionReport {
  struct One {
    NodeId member;
    std::optional<cluster::MinorVersion> server;  // nullopt: no answer
    bool is_cairn = false;                        // the answer says so
  };
  Term term;  // of the question
  std::vector<One> others;
};

// What one call gets: an encoded response message when `code` is kOk, else the error's text.
struct Answer {
  Tag tag = 0;
  Code code = Code::kOk;
  uint64_t offset = 0;  // in AnswerBatch::bytes, which may be long: several lists in one batch
  uint64_t size = 0;
};
struct AnswerBatch {
  std::string bytes;
  std::vector<Answer> answers;

  void add(Tag tag, Code code, std::string_view text) {
    answers.push_back({tag, code, bytes.size(), text.size()});
    bytes.append(text);
  }
  [[nodiscard]] std::string_view text(const Answer& answer) const {
    return std::string_view(bytes).substr(answer.offset, answer.size);
  }
};

// Answers on their way to the io threads.
struct Answers {
  std::array<AnswerBatch, 64> by_loop;  // by loop_of(tag); only those of loops in `loops` are filled
  uint64_t loops = 0;                   // bit set

  void add(Tag tag, Code code, std::string_view text) { batch_of(tag).add(tag, code, text); }
  // The place where a response is written; end() says that it is, from `offset` on.
  std::string& begin(Tag tag) { return batch_of(tag).bytes; }
  void end(Tag tag, uint64_t offset) {
    AnswerBatch& batch = by_loop[loop_of(tag)];
    batch.answers.push_back({tag, Code::kOk, offset, batch.bytes.size() - offset});
  }
  // A response that `append`, a void(std::string&), writes behind what is there.
  template <class Append>
  void write(Tag tag, const Append& append) {
    std::string& out = begin(tag);
    const size_t offset = out.size();
    append(out);
    end(tag, offset);
  }
  // Hands each loop's batch to `sink(loop, batch)`; nothing is left.
  template <class Sink>
  void hand_out(const Sink& sink) {
    for (; loops != 0; loops &= loops - 1) {
      const auto loop = static_cast<unsigned>(std::countr_zero(loops));
      sink(loop, std::exchange(by_loop[loop], {}));
    }
  }

 private:
  AnswerBatch& batch_of(Tag tag) {
    const unsigned loop = loop_of(tag);
    CAIRN_ASSERT(loop < by_loop.size());
    loops |= uint64_t{1} << loop;
    return by_loop[loop];
  }
};

// --- replication <-> WAL ------------------------------------------------------------------------------------

// A point from which a restart may begin: goes to a .snap file and then to the WAL, each synced.
struct SnapshotPoint {
  Index index;
  Term term;
  raft::ConfState conf_state;
  std::shared_ptr<const std::string> members;  // the .snap file's content: membership as etcd's v2 store
};

struct WalWrite {
  uint64_t number = 0;  // raft::Ready::number; 0: not a Ready that is reported back
  std::vector<raft::Entry> entries;
  std::optional<raft::HardState> hard_state;
  bool must_sync = false;
  std::optional<SnapshotPoint> snapshot;
  raft::SnapshotPtr install;    // of a leader: before the entries. Its image of the db is on disk
  Index release_below{0};       // entries at or below are needed no more; 0: nothing new
  bool give_tail_back = false;  // of the last segment: the blocks that no record has taken
  uint64_t bytes = 0;           // of the entries, as MemberCore counts them
  // Leave once this is stable: who writes sends them, or else ReplicationCore does when it hears of it.
  std::vector<raft::Message> messages;
};

struct WalDone {
  uint64_t number = 0;               // of the WalWrite
  std::vector<raft::Entry> entries;  // of the WalWrite: now in the log
  Index durable_commit;              // a HardState with this commit index is synced
  std::optional<Index> snapshot;     // the point is synced
  Index released;                    // entries at or below are in no segment any more
  uint64_t bytes = 0;                // of the WalWrite
  uint64_t segment_sequence = 0;     // of the segment in use, and what of it is
  uint64_t segment_used_bytes = 0;
  uint64_t segment_count = 0;           // in use, not released, without what is merely kept
  bool has_released_files = false;      // segments that wait to be used again or removed
  bool has_messages = false;            // the WalWrite had some
  std::vector<raft::Message> messages;  // those that have not left
};

// --- replication <-> who reads the segments -----------------------------------------------------------------

// Entries that have left memory are wanted again: those from `first` on, up to `end`, cut by bytes, at least one.
struct LogRead {
  uint64_t number = 0;
  Index first;
  Index end;
  uint64_t bytes_max = 0;
};
struct LogReadDone {
  uint64_t number = 0;
  std::vector<raft::Entry> entries;  // consecutive, from `first` on; fewer where the segments end
  Status status;                     // without entries: why there are none. kOutOfRange: they are released
  Index first_in_segments;           // then: what is below is in no segment
};

// --- replication -> apply -----------------------------------------------------------------------------------

struct LeaderState {
  Term term;
  NodeId leader;
  bool is_leader = false;
  bool sole_member = false;  // there is no learner either
  Index shared_up_to;        // what members that were removed since may have applied, and answered
  friend bool operator==(const LeaderState&, const LeaderState&) = default;
};

struct ApplyBatch {
  std::vector<raft::Entry> entries;         // committed, in order; a conf change is the last
  std::vector<ControlRequest> controls;     // in addition to those of earlier batches
  std::optional<LeaderState> leader_state;  // as of the entries
  Index durable_commit;                     // newest WalDone::durable_commit, when it has risen

  [[nodiscard]] bool empty() const {
    return entries.empty() && controls.empty() && !leader_state && durable_commit == Index{};
  }
};

// --- apply -> replication -----------------------------------------------------------------------------------

struct ConfVerdict {
  Index index;
  bool accepted = false;
};

// The state that a finished commit left, to be sent to a member that is too far behind.
struct SendableState {
  Index index;
  Term term;
  raft::ConfState conf;
  std::shared_ptr<const cluster::Membership> members;
  std::shared_ptr<const storage::View> file;
  uint64_t image_bytes = 0;
};

struct AppliedNotice {
  Index applied;                            // 0: no news
  std::optional<ConfVerdict> conf_verdict;  // the batch ended at a configuration change
  Index need_durable_commit;                // please make a HardState with commit >= this durable
  std::optional<SnapshotPoint> snapshot;    // due
  Index release_below;                      // both meta pages of the db are at or above this index
  std::optional<SendableState> sendable;    // a commit has finished

  [[nodiscard]] bool worth_sending() const {
    return applied != Index{} || conf_verdict || snapshot || need_durable_commit != Index{} ||
           release_below != Index{} || sendable;
  }
};

// --- apply <-> who hashes ------------------------------------------------------------------------------------

// What a compaction covers is to be hashed before its pass deletes anything: apply/compaction_hashes.h.
struct HashOrder {
  int64_t revision = 0;   // of the compaction
  int64_t compacted = 0;  // of the one before
};
struct HashDone {
  int64_t revision = 0;
  std::optional<uint32_t> hash;  // empty: it could not be taken
};
// As HashKV answers at exactly this revision.
struct CompactionHash {
  uint32_t hash = 0;
  int64_t revision = 0;
  int64_t compact_revision = 0;
  friend bool operator==(const CompactionHash&, const CompactionHash&) = default;
};

// --- apply <-> commit ---------------------------------------------------------------------------------------

struct ReclaimPart {
  std::string first;             // record key to begin at
  int64_t compact_revision = 0;  // the pass removes what this compaction supersedes
  uint64_t entries_max = 0;      // storage::Reclaim::entries_max; 0: no such limit
};

struct CommitJob {
  std::array<std::span<const storage::Change>, storage::kTableCount> changes;  // of the frozen buffer
  Index consistent_index;
  Term term;
  int64_t revision = 0;  // newest record in the buffer or the file
  std::optional<ReclaimPart> reclaim;
  std::vector<uint64_t> open_views;  // storage::Commit::open_views
  storage::GiveBack give_back = storage::GiveBack::kNone;
};

struct CommitDone {
  Status status;
  storage::CommitResult result;
  storage::Space space;
};

}  // namespace cairn::member
