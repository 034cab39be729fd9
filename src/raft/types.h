// raft/types.h: the values of consensus: entries, hard state, configurations, messages.
//
// Plain values. Field for field those of etcd's raftpb, so that others (peer/codec.h, member/wal_stage.h) make bytes of
// them and read them back without loss; fields marked "local" never leave the process.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/strong.h"

namespace cairn::raft {

inline constexpr NodeId kNoNode{0};

enum class EntryType : uint8_t { kNormal = 0, kConfChange = 1, kConfChangeV2 = 2 };

// What an entry carries. Immutable once proposed, and shared by log, messages and appliers: never copied.
struct Payload {
  std::string bytes;
  uint64_t tag = 0;  // local: who waits for it here; 0 none
};
using PayloadPtr = std::shared_ptr<const Payload>;

struct Entry {
  Term term;
  Index index;
  EntryType type = EntryType::kNormal;
  PayloadPtr data;  // null: empty, as a new leader's first entry

  [[nodiscard]] std::string_view bytes() const { return data ? std::string_view(data->bytes) : std::string_view(); }
  [[nodiscard]] uint64_t tag() const { return data ? data->tag : 0; }
};

// What an entry counts against limits of bytes: its payload, and a little so that empty ones are not free.
inline constexpr uint64_t kEntryOverheadBytes = 16;
[[nodiscard]] inline uint64_t cost_bytes(const Entry& entry) {
  return (entry.data ? entry.data->bytes.size() : 0) + kEntryOverheadBytes;
}

// The state beside the log that must survive a restart.
struct HardState {
  Term term;
  NodeId vote;   // whom this member voted for in `term`; 0 nobody
  Index commit;  // known to be committed; may lag behind the truth

  friend bool operator==(const HardState&, const HardState&) = default;
};

enum class Role : uint8_t { kFollower = 0, kCandidate = 1, kLeader = 2, kPreCandidate = 3 };

// What the server may want to know when it changes; never stored.
struct SoftState {
  NodeId leader;  // 0 unknown
  Role role = Role::kFollower;

  friend bool operator==(const SoftState&, const SoftState&) = default;
};

// Who takes part. All lists ascending and without duplicates. `voters_outgoing` is not empty only while the
// configuration is joint: then both majorities are needed. `learners_next` become learners when that ends.
struct ConfState {
  std::vector<NodeId> voters;
  std::vector<NodeId> learners;
  std::vector<NodeId> voters_outgoing;
  std::vector<NodeId> learners_next;
  bool auto_leave = false;

  friend bool operator==(const ConfState&, const ConfState&) = default;
};

// A state that replaces the log up to `index`. `data` is opaque here.
struct Snapshot {
  Index index;
  Term term;
  ConfState conf;
  std::string data;
  // Local: what the sender keeps for as long as the snapshot is on its way. Null for one that was received.
  std::shared_ptr<const void> source = nullptr;
};
using SnapshotPtr = std::shared_ptr<const Snapshot>;

enum class ConfChangeType : uint8_t { kAddNode = 0, kRemoveNode = 1, kUpdateNode = 2, kAddLearnerNode = 3 };
// How a change is carried out: kAuto goes through a joint configuration only when more than one voter changes.
enum class ConfChangeTransition : uint8_t { kAuto = 0, kJointImplicit = 1, kJointExplicit = 2 };

struct ConfChangeSingle {
  ConfChangeType type = ConfChangeType::kAddNode;
  NodeId node;  // 0: no effect. How the server says that it refused the change

  friend bool operator==(const ConfChangeSingle&, const ConfChangeSingle&) = default;
};

// The payload of a kConfChange entry.
struct ConfChangeV1 {
  uint64_t id = 0;  // the proposer's, not used here
  ConfChangeType type = ConfChangeType::kAddNode;
  NodeId node;
  std::string context;

  friend bool operator==(const ConfChangeV1&, const ConfChangeV1&) = default;
};

// The payload of a kConfChangeV2 entry. Without changes and with transition kAuto: leave the joint configuration.
struct ConfChange {
  ConfChangeTransition transition = ConfChangeTransition::kAuto;
  std::vector<ConfChangeSingle> changes;
  std::string context;

  ConfChange() = default;
  explicit ConfChange(const ConfChangeV1& v1) : changes{{v1.type, v1.node}}, context(v1.context) {}

  friend bool operator==(const ConfChange&, const ConfChange&) = default;
};

// Numbers as on the wire. Those not listed (0-1, 10-12, 19-23 in etcd's table) are calls of Core, not messages.
enum class MessageType : uint8_t {
  kProp = 2,
  kApp = 3,
  kAppResp = 4,
  kVote = 5,
  kVoteResp = 6,
  kSnap = 7,
  kHeartbeat = 8,
  kHeartbeatResp = 9,
  kTransferLeader = 13,
  kTimeoutNow = 14,
  kReadIndex = 15,
  kReadIndexResp = 16,
  kPreVote = 17,
  kPreVoteResp = 18,
};
// False for numbers that are no message between members: the transport drops such a message.
[[nodiscard]] constexpr bool is_peer_message(uint64_t type) {
  return (type >= 2 && type <= 9) || (type >= 13 && type <= 18);
}
// True for answers. Only a member of the configuration can have been asked.
[[nodiscard]] constexpr bool is_response(MessageType type) {
  return type == MessageType::kAppResp || type == MessageType::kVoteResp || type == MessageType::kHeartbeatResp ||
         type == MessageType::kReadIndexResp || type == MessageType::kPreVoteResp;
}

// Goes with a forwarded kProp between members that are Cairn's, so that a proposal is appended exactly once in a term.
// Not in raftpb: etcd drops it. The leader's answer, a kHeartbeatResp that carries a tag, says what it has taken; etcd
// ignores such a message from its leader.
struct ForwardTag {
  NodeId origin;       // the member that proposed
  uint64_t epoch = 0;  // of its start
  Term term;           // only the leader of this term may append
  // kProp: of the first entry, the others follow; an origin counts from 1 in each term. 0: the entries are not counted.
  // An answer: all entries up to this one are appended.
  uint64_t sequence = 0;
  bool is_conf_change = false;  // these are counted apart
  bool is_refused = false;      // an answer: there was no room, or something before is missing: send the rest again

  friend bool operator==(const ForwardTag&, const ForwardTag&) = default;
};

// The meaning of a field depends on the type:
//   kApp            (log_term, index): the entry before `entries`; commit
//   kAppResp        index: the last one that matches, or the refused one; reject: (log_term, reject_hint) is a guess
//                   at where the logs agree
//   kVote, kPreVote (log_term, index): the candidate's last entry; context "CampaignTransfer": answer in spite of a
//                   living leader
//   k[Pre]VoteResp  reject: (log_term, commit) is the last entry that the refuser knows to be committed (etcd: 0)
//   kReadIndex[Resp] entries[0].data: the request's context; index: the answer
//   kHeartbeat[Resp] context: returned unchanged; commit
//   kProp, kReadIndex  forwarded: term 0
//   kTransferLeader from: who shall lead
struct Message {
  MessageType type = MessageType::kApp;
  NodeId to;
  NodeId from;
  Term term;
  Term log_term;
  Index index;
  Index commit;
  Index reject_hint;
  bool reject = false;
  std::vector<Entry> entries;
  SnapshotPtr snapshot;
  std::string context;
  std::optional<ForwardTag> forward;  // kProp, and the answer to it
};

inline constexpr std::string_view kCampaignTransfer = "CampaignTransfer";

// A read request that may be answered once everything up to `index` is applied.
struct ReadState {
  Index index;
  std::string context;
};

[[nodiscard]] std::string_view name_of(MessageType type);
[[nodiscard]] std::string_view name_of(Role role);
[[nodiscard]] std::string_view name_of(EntryType type);

}  // namespace cairn::raft
