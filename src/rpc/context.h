// rpc/context.h: what the services of one io thread share: the published state, and requests on their way to the core.
//
// Requests of one turn of the loop are gathered and handed to the core together at its end. Answers come back by tag:
// a unary call gets the message as it is; a call that waits for something else left a continuation.
//
// Threads: each Context belongs to its loop's thread; deliver() is called there.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "member/driver.h"
#include "member/requests.h"
#include "mvcc/kv/requests.h"
#include "net/event_loop.h"
#include "net/http2/grpc.h"
#include "rpc/metrics.h"
#include "rpc/residency.h"
#include "rpc/workers.h"

namespace cairn::rpc {

struct Limits {
  uint32_t request_bytes_max = 1'572'864;  // of the entry that a request becomes
  uint32_t txn_ops_max = 128;
  uint64_t quota_bytes = uint64_t{2} << 30;     // 0: no quota
  int64_t quota_configured = int64_t{2} << 30;  // as Status tells it; below 0: no quota
  int64_t request_timeout_ns = 7'000'000'000;
  // A long answer keeps old state alive; so it ends when its client takes nothing for so long, or, but for snapshots,
  // when it is as old as that.
  int64_t reader_stall_ns = 30'000'000'000;
  int64_t reader_age_ns = 600'000'000'000;
  Workers::Options workers;
};

class Context {
 public:
  // Goes on with a call that has waited; `error` null: what was waited for has come.
  using Continuation = std::function<void(net::Call& call, const Error* error)>;

  Context(member::Node& node, net::EventLoop& loop, const env::Clock& clock, Residency& residency, Workers& workers,
          const Limits& limits, Metrics& metrics);

  [[nodiscard]] member::PublishedDomain::Guard enter() { return reader_->enter(); }
  [[nodiscard]] member::Node& node() { return node_; }
  [[nodiscard]] net::EventLoop& loop() { return loop_; }
  [[nodiscard]] const Limits& limits() const { return limits_; }
  [[nodiscard]] Workers& workers() { return workers_; }
  [[nodiscard]] Residency& residency() { return residency_; }
  // For who is about to read records on this thread: whether to ask before touching the file. The turn's end looks
  // whether the disk was waited for all the same.
  [[nodiscard]] bool careful() {
    touches_file_ = true;
    return residency_.careful();
  }
  [[nodiscard]] const env::Clock& clock() const { return clock_; }
  // For a transaction, while it is looked at: keeps its memory from one to the next.
  [[nodiscard]] mvcc::TxnRequest& scratch_txn() { return scratch_txn_; }
  [[nodiscard]] Metrics& metrics() { return metrics_; }
  void count_call(const net::Call& call, bool streams) {
    client_requests_.count(call.metadata("client-api-version").value_or("unknown"), streams);
  }
  // A range is answered in this turn of the loop; or was refused.
  void count_range() {
    metrics_.range_total.add();
    if (ranges_++ == 0) ranges_began_ns_ = clock_.monotonic_ns();
  }
  void count_failed_range() {
    metrics_.range_failed.observe(static_cast<uint64_t>(clock_.monotonic_ns() - ranges_began_ns_));
  }

  // Becomes a log entry; the call is answered with what applying it gives, or by the request timeout. What waits for
  // more than being applied (a physical compaction) waits as long as its caller does.
  enum class Wait : uint8_t { kApplied, kLonger };
  // `space` is what it will take of the db: above 0 it is refused while there is no space.
  void propose(net::Call& call, member::RequestKind kind, std::string_view body, Wait until = Wait::kApplied,
               uint64_t space = 0);
  void propose_other(net::Call& call, std::string entry_bytes, Wait until = Wait::kApplied, uint64_t space = 0);
  // Calls `then` once everything acknowledged before now is in the published state (at once when it is), or fails.
  void when_linearizable(net::Call& call, Continuation then);
  void when_committed(net::Call& call, Continuation then);
  // The call is answered by a worker with what `make` returns there; or refused, when too many wait for one.
  using Make = std::function<Result<std::string>(member::PublishedDomain::Reader& reader)>;
  void answer_elsewhere(net::Call& call, Make make);
  // From now on the call is aborted when its client takes nothing of what is queued for it for the time that a reader
  // may stand still; or, when `ages`, when it lasts too long.
  void watch_reader(const net::Call& call, bool ages);
  // The call has ended: nobody waits any more.
  void forget(net::CallId id) {
    if (!waiting_.empty()) waiting_.erase(id.value);
  }

  // At the end of a turn of the loop.
  void flush();
  void deliver(const member::AnswerBatch& batch);

 private:
  [[nodiscard]] member::Tag tag_of(net::CallId id) const { return id.value | (uint64_t{loop_.index()} << 56); }
  void wait(net::Call& call, member::Control kind, Continuation then);
  void expire();
  void look_after_readers();

  member::Node& node_;
  net::EventLoop& loop_;
  const env::Clock& clock_;
  Residency& residency_;
  Workers& workers_;
  Limits limits_;
  Metrics& metrics_;
  ClientRequests client_requests_{metrics_};
  uint64_t ranges_ = 0;  // of this turn
  int64_t ranges_began_ns_ = 0;
  Residency::Faults faults_;
  bool touches_file_ = false;  // in this turn
  std::unique_ptr<member::PublishedDomain::Reader> reader_;
  std::vector<member::Proposal> proposals_;
  std::vector<member::ControlRequest> controls_;
  std::unordered_map<uint64_t, Continuation> waiting_;  // by CallId
  struct Outstanding {
    int64_t deadline_ns;
    net::CallId id;
    bool continues = false;  // the answer is only the beginning: waits as long as it is in waiting_
  };
  [[nodiscard]] net::Call* still_waits(const Outstanding& one);
  std::deque<Outstanding> outstanding_;  // in the order sent; those at the front are dropped when they wait no more
  std::unique_ptr<net::EventLoop::Timer> timer_;
  struct Watched {
    net::CallId id;
    int64_t since_ns;
    int64_t moved_ns;
    uint64_t sent_bytes;
    bool ages;
  };
  std::vector<Watched> watched_;
  std::unique_ptr<net::EventLoop::Timer> watch_timer_;
  mvcc::TxnRequest scratch_txn_;
  int64_t turn_ns_ = 0;  // clock at the turn's first request; 0: not asked yet
};

// A unary call that has been refused or has failed.
inline void finish_with(net::Call& call, const Error& error) { call.finish(error.code, error.message); }

}  // namespace cairn::rpc
