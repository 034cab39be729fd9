// rpc/context.h: what the services of one io thread share: the published state, requests on their way to the core, and
// work on its way to the workers.
//
// Requests of one turn of the loop are gathered and handed to the core together at its end. Each request has a tag of
// its own, so a call may wait for many answers; each goes to whoever asked. Work for the workers goes through
// offload().
//
// Threads: each Context belongs to its loop's thread; deliver() is called there.
#pragma once

#include <algorithm>
#include <atomic>
#include <deque>
#include <functional>
#include <memory>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "auth/password.h"
#include "auth/tokens.h"
#include "base/errors.h"
#include "member/driver.h"
#include "member/requests.h"
#include "mvcc/kv/requests.h"
#include "net/event_loop.h"
#include "net/http2/grpc.h"
#include "rpc/leader_watch.h"
#include "rpc/methods.h"
#include "rpc/metrics.h"
#include "rpc/peers.h"
#include "rpc/pending_answers.h"
#include "rpc/reader_watch.h"
#include "rpc/residency.h"
#include "rpc/serving_status.h"
#include "rpc/turns.h"
#include "rpc/watch_loop.h"
#include "rpc/workers.h"

namespace cairn::rpc {

struct Limits {
  uint32_t request_bytes_max = 1'572'864;  // of the entry that a request becomes
  uint32_t txn_ops_max = 128;
  int bcrypt_cost = auth::kBcryptCostDefault;
  uint64_t quota_bytes = uint64_t{2} << 30;     // 0: no quota
  int64_t quota_configured = int64_t{2} << 30;  // as Status shows it; below 0: no quota
  int64_t request_timeout_ns = 7'000'000'000;
  int64_t warning_unary_ns = 300'000'000;  // a unary call that takes longer is logged
  int64_t warning_apply_ns = 100'000'000;  // a request that only reads keys and takes longer is logged
  bool times_calls = false;                // --metrics=extensive
  int64_t watch_progress_interval_ns = 600'000'000'000;
  bool stops_serving_on_defragment = false;  // the gate StopGRPCServiceOnDefrag
  bool strict_reconfig_check = true;
  ReaderLimits readers;
  Workers::Options workers;
};

// What the Contexts of all loops share.
struct Shared {
  Shared(member::Node& member, const env::Clock& time, const Limits& wanted, Metrics& counts)
      : node(member),
        clock(time),
        limits(wanted),
        metrics(counts),
        residency(time),
        workers(member.published(), residency, wanted.workers),
        serving(wanted.stops_serving_on_defragment) {}

  member::Node& node;
  const env::Clock& clock;
  Limits limits;
  Metrics& metrics;
  Residency residency;
  Workers workers;
  OldestReader oldest_reader;
  ServingStatus serving;
  std::optional<Peers> peers;                 // none: this member is alone, and remains so
  std::vector<metrics::Histogram*> handling;  // by the place in methods(); empty: calls are not timed
};

// How long a request to the core waits. A request that waits for more than its entry being applied (a physical
// compaction) waits as long as its caller does.
enum class AskWait : uint8_t { kApplied, kLonger };
struct Ask {
  AskWait until = AskWait::kApplied;
  uint64_t space = 0;       // bytes that it adds to the db; above 0 it is refused while there is no space
  auth::Identity who = {};  // whose request it is; checked when it is applied
  OnAnswer then = {};       // empty: the answer ends the call, which is unary
};

class Context {
 public:
  // Goes on with a call that has waited; `error` null: what was waited for has come.
  using Continuation = std::function<void(net::Call& call, const Error* error)>;

  Context(Shared& shared, net::EventLoop& loop);

  [[nodiscard]] member::PublishedDomain::Guard enter() { return reader_->enter(); }
  [[nodiscard]] member::Node& node() { return shared_.node; }
  [[nodiscard]] net::EventLoop& loop() { return loop_; }
  [[nodiscard]] const Limits& limits() const { return shared_.limits; }
  [[nodiscard]] Residency& residency() { return shared_.residency; }
  [[nodiscard]] Workers& workers() { return shared_.workers; }
  [[nodiscard]] WatchLoop& watches() { return watches_; }
  [[nodiscard]] auth::Tokens& tokens() { return *shared_.node.options().apply.tokens; }
  [[nodiscard]] auth::SessionMemo& sessions() { return sessions_; }
  size_t token_waits = 0;  // calls that wait for their token to be known
  [[nodiscard]] LeaderWatch& leaders() { return leaders_; }
  [[nodiscard]] ServingStatus& serving() { return shared_.serving; }
  [[nodiscard]] HealthWatches& health_watches() { return health_watches_; }
  // For lists of leases: the core gives each part of them between two of its steps.
  [[nodiscard]] Turns& lease_lists() { return lease_lists_; }
  // This member is one that does not vote. What it may then serve is little: Services::route.
  [[nodiscard]] bool is_learner() {
    if (!shared_.peers) return false;
    const auto state = enter();
    const cluster::Member* const self = state->members->find(NodeId(node().member_id()));
    return self != nullptr && self->is_learner;
  }
  // Null: this member is alone, and remains so.
  [[nodiscard]] const Peers* peers() const { return shared_.peers ? &*shared_.peers : nullptr; }
  [[nodiscard]] const env::Clock& clock() const { return shared_.clock; }
  // The time of the loop's turn: calls that are short need not look at the clock.
  [[nodiscard]] int64_t turn_ns() {
    if (turn_ns_ == 0) turn_ns_ = clock().monotonic_ns();
    return turn_ns_;
  }
  // compat: etcd prints a line for each token that is not good. A client may show as many as it likes: here a second's
  // first one is told.
  [[nodiscard]] bool tells_of_token() {
    constexpr int64_t kEveryNs = 1'000'000'000;
    if (turn_ns() < next_token_line_ns_) return false;
    next_token_line_ns_ = turn_ns() + kEveryNs;
    return true;
  }
  // A call was answered, or has failed.
  void time_call(const Method& method, int64_t took_ns) {
    if (shared_.handling.empty()) return;
    metrics::Histogram* const times = shared_.handling[static_cast<size_t>(&method - methods().data())];
    if (times != nullptr) times->observe(static_cast<uint64_t>(std::max<int64_t>(0, took_ns)));
  }
  // Whether a record must be known to be in memory before this thread reads it. Called before each read: at the end of
  // the turn the thread checks whether it waited for the disk all the same.
  [[nodiscard]] bool careful() {
    touches_file_ = true;
    return shared_.residency.careful();
  }
  // Room for decoding one transaction. Its memory is used again for the next one.
  [[nodiscard]] mvcc::TxnRequest& scratch_txn() { return scratch_txn_; }
  [[nodiscard]] Metrics& metrics() { return shared_.metrics; }
  void count_call(const net::Call& call, bool streams) {
    client_requests_.count(call.metadata("client-api-version").value_or("unknown"), streams);
  }
  // A range begins to read. Ranges that are answered in the same turn of the loop share the clock's reading.
  void begin_range() {
    metrics().range_total.add();
    if (ranges_began_ns_ == 0) ranges_began_ns_ = clock().monotonic_ns();
  }
  // It has read, or failed. `began_ns`: when it began, if that was in an earlier turn; else 0.
  void end_range(int64_t began_ns, bool success);
  void end_read_txn(int64_t began_ns, bool success, uint64_t ranges);

  // --- the core

  // Becomes a log entry; answered with what applying it gives, or by the request timeout.
  void propose(net::Call& call, member::RequestKind kind, std::string_view body, Ask ask = {});
  void propose_other(net::Call& call, std::string entry_bytes, Ask ask = {});
  // The same for a change of the members: the answer says nothing, and the published state shows it.
  void propose_conf_change(net::Call& call, std::string entry_bytes, OnAnswer then);
  // `then` gets a list of member::PeerProgress, or errors::not_leader().
  void ask_progress(net::Call& call, OnAnswer then);
  // Hands leadership to `target`, a voter; answered with nothing once it leads.
  void move_leader(net::Call& call, NodeId target, OnAnswer then);
  // Calls `then` when the published state contains everything that was acknowledged before now, or when that failed.
  void when_linearizable(net::Call& call, Continuation then);
  void when_committed(net::Call& call, Continuation then);
  // `then` gets the core's answer (member/stages.h), or an error by the request timeout.
  void ask_leases(net::Call& call, member::LeaseRequest request, OnAnswer then);
  // However long that takes.
  void when_defragmented(net::Call& call, Continuation then);

  // --- workers

  // One slice of work on a worker.
  struct Slice {
    member::PublishedDomain::Reader& reader;
    const std::atomic<bool>& wanted;  // false: the call has ended, and the work may be given up
  };
  enum class Turn : uint8_t { kFirst, kNext, kStep };
  // Runs `work`, a std::optional<T>(const Slice&), on a worker: when it gives a T, `then`, a void(net::Call&, T), runs
  // here with the call, if the call still lives. When it gives nullopt it runs again after the others' turns. Work for
  // a call that has ended is given up. kFirst: new work; if too much waits, the call is refused. kNext: more work for
  // the same call; it is never refused. kStep: new work of a call that was taken on before; neither is that.
  template <class Work, class Then>
  void offload(net::Call& call, Workers::Lane lane, Work work, Then then, Turn turn = Turn::kFirst);

  // --- answers

  // Reserves memory for an answer of about `bytes` bytes (Call::reserve). False: there is no room, and the call was
  // refused. Little is not worth counting.
  [[nodiscard]] bool admit(net::Call& call, uint64_t bytes);
  // The call keeps old state. It is ended if it keeps it for too long.
  void watch_reader(const net::Call& call) { watch_.watch(call); }

  // The call has ended: nobody waits any more.
  void forget(net::CallId id);

  // At the end of a turn of the loop.
  void flush();
  void deliver(const member::AnswerBatch& batch);

 private:
  void propose_entry(net::Call& call, std::string entry_bytes, Ask ask, size_t kind);
  [[nodiscard]] member::Tag expect(const net::Call& call, AskWait until, OnAnswer then, size_t kind);
  void wait(net::Call& call, member::Control kind, Continuation then);
  void set_deadlines();
  void drop_unwanted();
  void expire();
  void begin_work(net::Call& call, Workers::Lane lane, Turn turn, Workers::Task task);
  [[nodiscard]] std::shared_ptr<std::atomic<bool>> wanted_of(net::CallId id);

  Shared& shared_;
  net::EventLoop& loop_;
  ClientRequests client_requests_{shared_.metrics};
  RequestTimes request_times_{shared_.metrics};
  int64_t next_token_line_ns_ = 0;
  int64_t turn_ns_ = 0;            // of this turn; 0: nobody has asked
  uint64_t ranges_ = 0;            // of this turn
  int64_t ranges_began_ns_ = 0;    // 0: none in this turn
  int64_t requests_began_ns_ = 0;  // the same of requests to the core
  Residency::Faults faults_;
  bool touches_file_ = false;  // in this turn
  std::unique_ptr<member::PublishedDomain::Reader> reader_;
  std::vector<member::Proposal> proposals_;
  std::vector<member::ControlRequest> controls_;
  std::vector<member::LeaseRequest> lease_requests_;
  PendingAnswers pending_;
  struct Outstanding {
    int64_t deadline_ns;
    uint64_t ticket;
  };
  std::deque<Outstanding> outstanding_;  // in the order sent; those at the front are dropped when nobody waits
  std::unique_ptr<net::EventLoop::Timer> timer_;
  std::unordered_map<uint64_t, std::shared_ptr<std::atomic<bool>>> wanted_;  // by CallId, of calls that have work
  ReaderWatch watch_;
  WatchLoop watches_{*this};
  auth::SessionMemo sessions_;
  LeaderWatch leaders_{*this};
  HealthWatches health_watches_{shared_.serving, loop_};
  Turns lease_lists_{loop_, /*max=*/4};
  mvcc::TxnRequest scratch_txn_;
};

// A unary call that has been refused or has failed.
inline void finish_with(net::Call& call, const Error& error) { call.finish(error.code, error.message); }
// A call whose request cannot be read.
inline void reject_with(net::Call& call, const Error& error) { call.reject(error.code, error.message); }

template <class Work, class Then>
void Context::offload(net::Call& call, Workers::Lane lane, Work work, Then then, Turn turn) {
  using Made = std::invoke_result_t<Work&, const Slice&>;  // an optional
  struct Job {
    Workers& workers;
    Workers::Lane lane;
    uint64_t client;
    net::EventLoop& loop;
    net::CallId call;
    std::shared_ptr<std::atomic<bool>> wanted;
    Work work;
    Then then;
    Made made = std::nullopt;

    static void step(std::shared_ptr<Job> job, member::PublishedDomain::Reader& reader) {
      if (!job->wanted->load(std::memory_order_relaxed)) return;
      job->made = job->work(Slice{reader, *job->wanted});
      if (!job->made) {
        Workers& pool = job->workers;
        return pool.go_on(job->lane, job->client, [job](auto& next) { step(job, next); });
      }
      net::EventLoop& home = job->loop;
      home.post([job = std::move(job)] {
        if (net::Call* const later = job->loop.find(job->call)) job->then(*later, *std::move(job->made));
      });
    }
  };
  auto job = std::make_shared<Job>(Job{shared_.workers, lane, call.connection(), loop_, call.id(), wanted_of(call.id()),
                                       std::move(work), std::move(then)});
  begin_work(call, lane, turn, [job = std::move(job)](auto& reader) { Job::step(job, reader); });
}

}  // namespace cairn::rpc
