// sim/history/history.h: what the clients of a cluster saw, and the log that says what really happened.
//
// A history is plain data. Clients write one, and a judge says whether a correct cluster can have given it. Requests
// and responses are the bytes of their etcd messages, so that every language can record them.
//
// Times are nanoseconds on one clock that all clients share: virtual time, or CLOCK_MONOTONIC of one machine. Only
// their order matters. An operation that returned before another was called comes before it; at equal times the two
// are concurrent.
//
// Source: etcd's documentation, "KV API guarantees" and "Watch APIs guarantees".
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "raft/types.h"

namespace cairn::sim {

// Which request an operation is. The request is the message of that RPC (Range: etcdserverpb.RangeRequest ...).
// kOther: an etcdserverpb.InternalRaftRequest with any other content (auth, alarms); looked up in the log, and its
// answer is compared.
enum class Rpc : uint8_t { kRange, kPut, kDeleteRange, kTxn, kCompact, kLeaseGrant, kLeaseRevoke, kOther };
[[nodiscard]] std::string_view name_of(Rpc rpc);
[[nodiscard]] std::optional<Rpc> rpc_of(std::string_view name);

enum class Outcome : uint8_t {
  kAnswered,  // a response, or an error that says something about the state: "key not found", "compacted" ...
  kRefused,   // an error that says that the request was never applied and will never be
  kUnknown,   // timeout, lost connection, or no answer yet: applied at any time after the call, or never
};
// What an error means to a client. `code`: not kOk. In doubt kUnknown.
[[nodiscard]] Outcome outcome_of(Code code, std::string_view text);

struct ClientOperation {
  uint64_t client = 0;
  NodeId member;  // who was asked; 0: not known. After a client's own retries: who answered
  Rpc rpc = Rpc::kRange;
  std::string request;
  int64_t call_ns = 0;
  // When the client knew the outcome; of unknown ones, when it gave up: that means nothing, and may be missing.
  std::optional<int64_t> return_ns;
  Outcome outcome = Outcome::kUnknown;
  Code code = Code::kOk;  // of the answer or the refusal
  std::string response;   // kAnswered and kOk: the response's bytes; otherwise the error's text
  // Of its entry (InternalRaftRequest.header.ID), set also when the outcome is unknown. 0: not known; then the entry is
  // found by its content and the answer's revision.
  uint64_t request_id = 0;
};

// One watcher from its creation to its end. A watcher that was broken and created again is two watches.
struct Watch {
  struct Response {
    int64_t time_ns = 0;
    std::string
        bytes;  // of an etcdserverpb.WatchResponse for this watcher; all kinds: created, progress, cancelled ...
  };
  uint64_t client = 0;
  NodeId member;
  int64_t call_ns = 0;
  std::string request;  // etcdserverpb.WatchCreateRequest
  std::vector<Response> responses;
  // The watch (position in History::watches) that this one goes on after, with the revision behind the last that it
  // had.
  std::optional<size_t> resumes;
};

// One committed entry of the raft log.
struct LogEntry {
  Index index;
  Term term;
  raft::EntryType type = raft::EntryType::kNormal;
  std::string bytes;
  // Whose proposal it is. 0: as the bytes say (InternalRaftRequest.header.ID).
  uint64_t request_id = 0;
  // The entry has no effect although it is a request: what the cluster's rules drop when they apply it, as a second
  // copy of a forwarded proposal.
  bool is_void = false;
};

struct History {
  std::vector<ClientOperation> operations;  // in any order
  std::vector<Watch> watches;
  // The committed log from index 1 on, without gaps. Empty: no log is at hand, and a watch of all keys from revision 1
  // is the witness.
  std::vector<LogEntry> log;

  // Every request of a client is in `operations`: an entry that nobody asked for is a violation.
  bool is_complete = true;
  // The floor of --min-lease-ttl-seconds, as the members have it.
  int64_t lease_ttl_min = 2;
  // Members may refuse for lack of space what the model writes.
  bool has_quota = false;
};

}  // namespace cairn::sim
