#include "member/driver.h"

#include <pthread.h>

#include <algorithm>
#include <chrono>
#include <iterator>
#include <map>
#include <utility>

#include "base/append_all.h"
#include "base/bytes.h"
#include "base/check.h"
#include "base/errors.h"
#include "base/fault.h"
#include "base/go_duration.h"
#include "base/log.h"
#include "env/thread_slice.h"
#include "env/thread_times.h"
#include "member/log_service.h"
#include "member/read_pace.h"
#include "member/readable_request.h"
#include "member/start_names.h"

namespace cairn::member {
namespace {

constexpr int64_t kCheckpointAtStopNs = 300'000'000;
constexpr uint64_t kHashSliceRecords = 2000;
constexpr int64_t kHashPauseNsMax = 10'000'000;
constexpr uint64_t kReceivedBytesMax = 64 << 20;
// With those that the log keeps in memory because they are not applied yet. A db may be slower than the log for long,
// and a leader that is told that all is in the log sends more.
constexpr uint64_t kBehindBytesMax = 96 << 20;
// What takes a thread of its own not long.
constexpr size_t kLittleRequests = 2;
constexpr size_t kLittleMessages = 8;
constexpr uint64_t kLittleEntries = 8;
constexpr uint64_t kLittleBytes = 16 * 1024;

// The log cannot be written: what is in it is not known to be durable, so nobody may be told that it is.
Error log_failure(Error error) {
  error.message += error.code == Code::kResourceExhausted
                       ? "; the member ends without loss of anything acknowledged: make room on that device, and start "
                         "it again"
                       : "; the member ends, since trying again could acknowledge what was lost";
  return error;
}

// Of a leader's entries. What others forward comes a window at a time, and the core refuses what it has no room for.
uint64_t entry_bytes(const raft::Message& message) {
  if (message.type != raft::MessageType::kApp) return 0;
  uint64_t bytes = 0;
  for (const raft::Entry& entry : message.entries) bytes += raft::cost_bytes(entry);
  return bytes;
}

// They may be applied in the turn that brings them.
bool commits_its_own(const raft::Message& message) {
  return message.type == raft::MessageType::kApp && !message.entries.empty() &&
         message.commit >= message.entries.front().index;
}

MemberOptions core_options(const NodeOptions& options, uint64_t member_id, int64_t wall_ns) {
  // Without an opening number, which the server always has, the clock has to do.
  const uint64_t opening = options.bootstrap.opening;
  const StartNames names = start_names(member_id, opening != 0 ? opening : static_cast<uint64_t>(wall_ns));
  MemberOptions out;
  out.replication.start_epoch = names.epoch;
  out.replication.request_timeout_ns = options.request_timeout_ns;
  out.replication.shortens_first_timeout = options.shortens_first_timeout;
  out.replication.log.entries = options.snapshot_catchup_entries;
  if (options.peers != nullptr) {
    out.replication.speaks_cairn = [peers = options.peers](NodeId member) { return peers->speaks_cairn(member); };
  }
  raft::Config& raft = out.replication.raft;
  raft.id = NodeId(member_id);
  raft.seed = names.first_request_id;
  const auto tick_ms = static_cast<uint32_t>(out.raft_tick_ns / 1'000'000);
  raft.heartbeat_ticks = std::max<uint32_t>(1, options.heartbeat_ms / tick_ms);
  raft.election_ticks = std::max<uint32_t>(10, options.election_ms / tick_ms);
  out.replication.election_ns = int64_t{raft.election_ticks} * out.raft_tick_ns;
  raft.pre_vote = options.pre_vote;
  out.apply = options.apply;
  out.apply.member_id = member_id;
  out.apply.hash_compactions = true;
  out.leases.extension_ns = out.replication.election_ns;
  out.leases.checkpoints = options.lease_checkpoints;
  out.auto_compaction = options.auto_compaction;
  out.versions = options.versions;
  out.no_space = options.no_space;
  out.announcement = {options.bootstrap.name, options.client_urls, options.cluster_version};
  out.first_request_id = names.first_request_id;
  out.unapplied_bytes_max = options.unapplied_bytes_max;
  out.waiting_bytes_max = options.waiting_bytes_max;
  out.segment_bytes = options.bootstrap.wal.segment_bytes;
  out.spare_mark_bytes = std::min(out.spare_mark_bytes, options.bootstrap.wal.segment_bytes / 8);
  return out;
}

}  // namespace

Result<std::unique_ptr<Node>> Node::open(NodeOptions options, env::FileSystem& fs, const env::Clock& clock,
                                         Metrics& metrics) {
  options.bootstrap.concurrent = options.concurrent;
  CAIRN_TRY(Bootstrapped state, bootstrap(fs, options.bootstrap));
  return std::unique_ptr<Node>(new Node(std::move(options), fs, clock, metrics, std::move(state)));
}

Node::Node(NodeOptions options, env::FileSystem& fs, const env::Clock& clock, Metrics& metrics, Bootstrapped state)
    : options_(std::move(options)),
      clock_(clock),
      metrics_(metrics),
      member_id_(state.member_id),
      cluster_id_(state.cluster_id),
      remotes_(std::move(state.remotes)),
      snap_directory_(state.snap_directory),
      wal_stage_(std::make_unique<WalStage>(fs, std::move(state.log), state.snap_directory, options_.snapshots_kept)),
      core_(std::make_unique<MemberCore>(core_options(options_, member_id_, clock.wall_ns()), std::move(state.raft_log),
                                         state.start, std::move(state.state), clock.monotonic_ns())),
      page_roots_(std::make_unique<PageRoots>(clock_)),
      commit_reader_(core_->published().register_thread()),
      commit_stage_(std::make_unique<CommitStage>(std::move(state.engine), *commit_reader_)),
      installer_(std::make_unique<Installer>(fs, Installer::Options{.snap_directory = snap_directory_,
                                                                    .checkpoint_directory = state.checkpoint_directory,
                                                                    .open = std::move(state.open_db),
                                                                    .cluster_id = cluster_id_,
                                                                    .lease_ttl_min = options_.bootstrap.lease_ttl_min,
                                                                    .concurrent = options_.concurrent})),
      housekeeper_reader_(core_->published().register_thread()),
      hash_reader_(core_->published().register_thread()) {
  options_.apply.member_id = member_id_;
  committed_ = core_->replication().raft().committed().value;
  const DiskGuard::Options defaults;
  housekeeper_ = std::make_unique<Housekeeper>(
      fs,
      Housekeeper::Options{.disk = {.directory = state.checkpoint_directory,
                                    .log_directory = wal_stage_->log().directory(),
                                    .low_bytes = defaults.reserve_bytes + 2 * options_.apply.buffer_bytes_max},
                           .checkpoint = {.directory = state.checkpoint_directory},
                           .snap_directory = state.snap_directory,
                           .segment_bytes = options_.bootstrap.wal.segment_bytes},
      wal_stage_->spares(), state.checkpoint, *housekeeper_reader_);
}

Node::~Node() { CAIRN_ASSERT(!core_thread_.joinable()); }

void Node::fail(const Error& error) {
  options_.fail_stop(error);
  std::abort();  // fail_stop does not return
}

void Node::start(AnswerSink sink, std::function<void()> news) {
  sink_ = std::move(sink);
  news_ = std::move(news);
  const auto begin = [this](const char* name, void (Node::*work)(), env::Slice slice = env::Slice::kUsual) {
    std::thread thread([this, work, slice] {
      env::set_slice(slice);
      (this->*work)();
    });
    pthread_setname_np(thread.native_handle(), name);
    return thread;
  };
  wal_thread_ = begin("cairn-wal", &Node::run_wal, env::Slice::kShort);
  reader_thread_ = begin("cairn-log-read", &Node::run_reader);
  commit_thread_ = begin("cairn-commit", &Node::run_commit);
  housekeeper_thread_ = begin("cairn-house", &Node::run_housekeeper);
  hash_thread_ = begin("cairn-hash", &Node::run_hasher);
  core_thread_ = begin("cairn-core", &Node::run_core, env::Slice::kShort);
}

bool Node::wait_ready(int64_t timeout_ns) {
  const auto until = std::chrono::steady_clock::now() + std::chrono::nanoseconds(timeout_ns);
  MutexLock lock(ready_mutex_);
  while (!is_ready_) {
    if (!ready_.wait_until(lock, until)) return is_ready_;
  }
  return true;
}

void Node::stop() {
  ends_ = true;
  events_.put([](Events& events) { events.stop = true; });
  core_thread_.join();
  wal_orders_.put([](WalOrders& orders) { orders.end = true; });
  read_orders_.put([](ReadOrders& orders) { orders.end = true; });
  commit_orders_.put([](CommitOrders& orders) { orders.end = true; });
  housekeeper_orders_.put([](Housekeeper::Orders& orders) { orders.end = true; });
  hash_orders_.put([](HashOrders& orders) { orders.end = true; });
  wal_thread_.join();
  reader_thread_.join();
  commit_thread_.join();
  housekeeper_thread_.join();
  hash_thread_.join();
  if (ending_ != Ending::kSaved) return;
  const int64_t deadline_ns = clock_.monotonic_ns() + kCheckpointAtStopNs;
  housekeeper_->save_at_stop([&] { return clock_.monotonic_ns() >= deadline_ns; });
  if (const Status closed = commit_stage_->close(); !closed) fail(closed.error());
}

void Node::start_inline(AnswerSink sink, std::function<void()> news) {
  sink_ = std::move(sink);
  news_ = std::move(news);
}

std::optional<int64_t> Node::run() {
  Events events;
  events_.take(events, 0);
  while (true) {
    const std::optional<int64_t> wake_at_ns = turn(events);
    WalOrders writes;
    wal_orders_.take(writes, 0);
    write_apart(writes.writes);
    CommitOrders orders;
    commit_orders_.take(orders, 0);
    carry_out(orders);
    ReadOrders reads;
    read_orders_.take(reads, 0);
    for (const LogRead& read : reads.reads) read_log_again(read);
    HashOrders hash_orders;
    hash_orders_.take(hash_orders, 0);
    if (hash_orders.order) {
      events_.put([done = hash(*hash_orders.order)](Events& next) { next.hash = done; });
    }
    events_.take(events, 0);
    if (events.empty() && !(wake_at_ns && *wake_at_ns <= clock_.monotonic_ns())) return wake_at_ns;
  }
}

// --- from any thread

void Node::propose(std::vector<Proposal> proposals) {
  if (proposals.empty()) return;
  const auto awaited = std::count_if(proposals.begin(), proposals.end(), [](const Proposal& p) { return p->tag != 0; });
  pending_.fetch_add(static_cast<uint64_t>(awaited), std::memory_order_relaxed);
  if (!core_->admit(MemberCore::bytes_of(proposals))) {
    std::vector<Refused> refused;
    for (const Proposal& one : proposals) refused.push_back({one->tag, errors::request_too_many_requests()});
    return deliver_refused(refused);
  }
  const bool is_little = proposals.size() <= kLittleRequests && MemberCore::bytes_of(proposals) <= kLittleBytes;
  hand_in([&](Events& events) { append_all(events.proposals, proposals); }, is_little);
}

void Node::propose_conf_change(Proposal change) {
  pending_.fetch_add(1, std::memory_order_relaxed);
  events_.put([&](Events& events) { events.conf_changes.push_back(std::move(change)); });
}

void Node::control(std::vector<ControlRequest> requests) {
  if (requests.empty()) return;
  pending_.fetch_add(requests.size(), std::memory_order_relaxed);
  const bool is_little = requests.size() == 1 && requests.front().kind == Control::kLinearizable;
  hand_in([&](Events& events) { append_all(events.controls, requests); }, is_little);
}

void Node::receive(std::vector<raft::Message> messages) {
  uint64_t bytes = 0;
  for (raft::Message& message : messages) {
    empty_unreadable(message);
    bytes += entry_bytes(message);
  }
  // What is longer than all that may wait is taken when nothing does: a request may be as long as a flag says.
  const uint64_t waiting = received_bytes_.load(std::memory_order_relaxed);
  const bool is_too_much = (waiting > 0 && waiting + bytes > kReceivedBytesMax) ||
                           waiting + log_bytes_.load(std::memory_order_relaxed) > kBehindBytesMax;
  if (bytes > 0 && is_too_much) {
    std::erase_if(messages, [](const raft::Message& message) { return entry_bytes(message) > 0; });
    bytes = 0;
  }
  received_bytes_.fetch_add(bytes, std::memory_order_relaxed);
  if (messages.empty()) return;
  const bool is_little =
      messages.size() <= kLittleMessages && bytes <= kLittleBytes && std::ranges::none_of(messages, commits_its_own);
  hand_in([&](Events& events) { append_all(events.messages, messages); }, is_little);
}

void Node::report(const PeerReport& report) {
  events_.put([&](Events& events) { events.peer_reports.push_back(report); });
}

void Node::tell_versions(VersionReport report) {
  events_.put([&](Events& events) { events.versions = std::move(report); });
}

void Node::transfer(const TransferRequest& request) {
  pending_.fetch_add(1, std::memory_order_relaxed);
  events_.put([&](Events& events) { events.transfers.push_back(request); });
}

void Node::ask_leases(std::vector<LeaseRequest> requests) {
  if (requests.empty()) return;
  pending_.fetch_add(requests.size(), std::memory_order_relaxed);
  events_.put([&](Events& events) { append_all(events.leases, requests); });
}

void Node::raise_alarm(uint32_t type) {
  events_.put([&](Events& events) { events.alarms.push_back(type); });
}

// What is little, and finds the core thread asleep, is dealt with by the thread that brings it: to wake another one
// takes longer, and the one that has slept brings the answer back with another wake. Not where the log is written in
// line, where an entry waits that may take long to apply, nor where a fault point may have whoever comes along sleep.
template <class Put>
void Node::hand_in(Put&& put, bool is_little) {
  is_little = is_little && lends_.load(std::memory_order_relaxed) && !fault::is_any_armed();
  if (!is_little) return events_.put(std::forward<Put>(put));
  if (!events_.put_or_lend(std::forward<Put>(put), lent_events_)) return;
  const std::optional<int64_t> wake_at_ns = turn(lent_events_);
  events_.give_back(lent_events_, ending_ != Ending::kNone || wake_at_ns.value_or(INT64_MAX) < core_wakes_ns_);
}

// --- the core thread, or who is in its place

// What the next turn may apply, beside entries that come with it.
bool Node::is_little_unapplied() {
  const raft::Core& raft = core_->replication().raft();
  const Index first = core_->apply().applied() + 1;
  const Index end = raft.last_index() + 1;
  if (end - first > kLittleEntries) return false;
  unapplied_.clear();
  const bool is_there = first == end || raft.entries(first, end, UINT64_MAX, unapplied_).has_value();
  const bool is_little = is_there && std::ranges::all_of(unapplied_, [](const raft::Entry& entry) {
                           return entry.type == raft::EntryType::kNormal && is_quick_request(entry.bytes());
                         });
  unapplied_.clear();
  return is_little;
}

void Node::run_core() {
  Events events;
  while (ending_ == Ending::kNone) {
    std::optional<int64_t> wake_at_ns = turn(events);
    if (ending_ != Ending::kNone) return;
    core_wakes_ns_ = wake_at_ns.value_or(INT64_MAX);
    if (wake_at_ns) wake_at_ns = *wake_at_ns - clock_.monotonic_ns();
    events_.take(events, wake_at_ns);
  }
}

std::optional<int64_t> Node::turn(Events& events) {
  std::optional<int64_t> wake_at_ns;
  writes_apart_ -= events.wal.size();
  if (!events.messages.empty()) {
    uint64_t bytes = 0;
    for (const raft::Message& message : events.messages) bytes += entry_bytes(message);
    received_bytes_.fetch_sub(bytes, std::memory_order_relaxed);
  }
  do {
    const int64_t began_ns = clock_.monotonic_ns();
    Effects& effects = core_->step(events, began_ns);
    note_step(clock_.monotonic_ns() - began_ns);
    ending_ = carry_out(effects, events);
    if (ending_ != Ending::kNone) return std::nullopt;
    wake_at_ns = effects.wake_at_ns;
  } while (events.is_interim);
  log_bytes_.store(core_->replication().busy_log_bytes(), std::memory_order_relaxed);
  lends_.store(!writes_in_line() && is_little_unapplied(), std::memory_order_relaxed);
  page_roots_->tidy(core_->apply().store().compact_revision(), core_->apply().store().index().stats().retired_bytes);
  update_metrics();
  return wake_at_ns;
}

// News and answers first: they wait for nothing. What the WAL says goes into `next`.
Ending Node::carry_out(Effects& effects, Events& next) {
  talk_to_peers(effects);
  if (effects.is_removed && !std::exchange(is_removal_told_, true) && options_.on_removed) options_.on_removed();
  if (effects.has_news && news_) news_();
  deliver(effects.answers);
  count_leases(effects);
  if (!effects.refused.empty()) deliver_refused(effects.refused);
  if (effects.failed) fail(*effects.failed);
  if (effects.commit || effects.install) {
    commit_orders_.put([&](CommitOrders& orders) {
      CAIRN_ASSERT(!orders.job && !orders.install);
      orders.job = std::move(effects.commit);
      orders.install = std::move(effects.install);
    });
  }
  if (!effects.log_reads.empty()) {
    read_orders_.put([&](ReadOrders& orders) { append_all(orders.reads, effects.log_reads); });
  }
  if (effects.hash) hash_orders_.put([&](HashOrders& orders) { orders.order = effects.hash; });
  order_housekeeping(effects);
  if (effects.is_ready) {
    const MutexLock lock(ready_mutex_);
    is_ready_ = true;
    ready_.notify_all();
  }
  if (!effects.wal.empty()) write_log(effects.wal, next);
  committed_.store(core_->replication().raft().committed().value, std::memory_order_relaxed);
  buffered_bytes_.store(core_->apply().store().buffered_bytes(), std::memory_order_relaxed);
  return effects.ending;
}

void Node::talk_to_peers(Effects& effects) {
  if (options_.peers == nullptr) {
    CAIRN_ASSERT(effects.messages.empty());  // a member that is alone has nobody to send them to
    return;
  }
  if (const auto& members = core_->published().newest().members; members != members_told_) {
    send_to_those_who_go(*members, effects.messages);
    members_told_ = members;
    options_.peers->set_members(members);
  }
  watch_heartbeats(effects.messages);
  if (!effects.messages.empty()) options_.peers->send(std::exchange(effects.messages, {}));
  for (const NodeId member : effects.redial) options_.peers->redial(member);
  if (effects.ask_versions && ask_versions_) ask_versions_(*effects.ask_versions);
}

// Before their connections go. The one that tells them that their removal is committed comes with the same step:
// without it they could not answer the request for it.
void Node::send_to_those_who_go(const cluster::Membership& members, std::vector<raft::Message>& messages) {
  const auto gone = std::ranges::stable_partition(
      messages, [&](const raft::Message& message) { return !members.removed.contains(message.to); });
  std::vector<raft::Message> last(std::make_move_iterator(gone.begin()), std::make_move_iterator(gone.end()));
  messages.erase(gone.begin(), gone.end());
  if (!last.empty()) options_.peers->send(std::move(last));
}

// As etcd, whose operators look for this line: a leader that cannot keep its own pace is about to lose its followers.
void Node::watch_heartbeats(const std::vector<raft::Message>& messages) {
  if (!core_->replication().raft().is_leader()) return heartbeats_sent_ns_.clear();
  const int64_t expected_ns = int64_t{options_.heartbeat_ms} * 1'000'000;
  for (const raft::Message& message : messages) {
    if (message.type != raft::MessageType::kHeartbeat) continue;
    const int64_t now_ns = clock_.monotonic_ns();
    const auto [sent, is_first] = heartbeats_sent_ns_.try_emplace(message.to, now_ns);
    const int64_t late_ns = now_ns - std::exchange(sent->second, now_ns) - 2 * expected_ns;
    if (is_first || late_ns <= 0) continue;
    metrics_.heartbeat_send_failures.add();
    log::warn("leader failed to send out heartbeat on time; took too long, leader is overloaded likely from slow disk",
              {{"to", hex_id(message.to.value)},
               {"heartbeat-interval", go_duration(std::chrono::nanoseconds(expected_ns))},
               {"expected-duration", go_duration(std::chrono::nanoseconds(2 * expected_ns))},
               {"exceeded-duration", go_duration(std::chrono::nanoseconds(late_ns))}});
  }
}

// Unless there are peers, or the WAL thread has something left to do from when there were.
bool Node::writes_in_line() const { return writes_apart_ == 0 && core_->replication().raft().is_sole_member(); }

void Node::write_log(std::vector<WalWrite>& writes, Events& next) {
  if (!writes_in_line()) {
    writes_apart_ += writes.size();
    return wal_orders_.put([&](WalOrders& orders) { append_all(orders.writes, writes); });
  }
  for (WalWrite& write : writes) {
    auto done = wal_stage_->run(std::move(write));
    if (!done) fail(log_failure(done.error()));
    next.wal.push_back(*std::move(done));
  }
  next.is_interim = true;  // what it makes known is decided upon before anything new
}

void Node::count_leases(const Effects& effects) {
  for (const LeaseChange& change : effects.leases) {
    if (change.kind == LeaseChange::Kind::kGranted) {
      metrics_.lease_granted.add();
      metrics_.lease_ttl.observe(static_cast<uint64_t>(change.ttl));
    } else if (change.kind == LeaseChange::Kind::kRevoked) {
      metrics_.lease_revoked.add();
    }
  }
  const LeaseDuty& duty = core_->leases();
  metrics_.lease_renewed.add(duty.renewed() - std::exchange(renewals_counted_, duty.renewed()));
  metrics_.lease_expired.add(duty.expired() - std::exchange(expiries_counted_, duty.expired()));
}

void Node::order_housekeeping(const Effects& effects) {
  const Housekeeper::Orders orders = Housekeeper::Orders::of(effects);
  if (orders.empty()) return;
  housekeeper_orders_.put([&](Housekeeper::Orders& all) { all.add(orders); });
}

void Node::deliver(Answers& answers) {
  uint64_t count = 0;
  answers.hand_out([&](unsigned loop, AnswerBatch batch) {
    count += batch.answers.size();
    sink_(loop, std::move(batch));
  });
  if (count > 0) no_longer_pending(count);
}

void Node::deliver_refused(const std::vector<Refused>& refused) {
  std::map<unsigned, AnswerBatch> by_loop;
  uint64_t count = 0;
  uint64_t proposal_count = 0;
  for (const Refused& one : refused) {
    if (one.tag == 0) continue;
    ++count;
    proposal_count += one.is_proposal ? 1 : 0;
    by_loop[loop_of(one.tag)].add(one.tag, one.error.code, one.error.message);
  }
  metrics_.proposals_failed.add(proposal_count);
  no_longer_pending(count);
  for (auto& [loop, batch] : by_loop) sink_(loop, std::move(batch));
}

void Node::no_longer_pending(uint64_t count) {
  pending_.fetch_sub(std::min(count, pending_.load(std::memory_order_relaxed)), std::memory_order_relaxed);
}

// Each request counts with the mean of its step, under its kind and whether it was refused. Most steps have requests of
// one kind, which is among the first.
void Node::time_requests(int64_t took_ns) {
  const ApplyCounters& now = core_->apply().counters();
  uint64_t left = now.requests_of_all_kinds - std::exchange(counted_.requests_of_all_kinds, now.requests_of_all_kinds);
  if (left == 0) return;
  const uint64_t mean_ns = static_cast<uint64_t>(took_ns) / left;
  for (size_t i = 0; left > 0; ++i) {
    const ApplyCounters::Requests before = std::exchange(counted_.requests[i], now.requests[i]);
    if (const uint64_t done = now.requests[i].done - before.done; done > 0) {
      if (apply_done_[i] == nullptr) apply_done_[i] = &metrics_.apply(kRequestNames[i].name, true);
      apply_done_[i]->observe(mean_ns, done);
      left -= done;
    }
    if (const uint64_t refused = now.requests[i].refused - before.refused; refused > 0) {
      metrics_.apply(kRequestNames[i].name, false).observe(mean_ns, refused);
      left -= refused;
    }
  }
}

// A step applies what has been committed.
// compat: etcd times each request; here it is the step, since most entries take a microsecond.
void Node::note_step(int64_t took_ns) {
  time_requests(took_ns);
  const ApplyCore& apply = core_->apply();
  const Index before = std::exchange(counted_applied_, apply.applied());
  const int64_t compacted = std::exchange(counted_compact_revision_, apply.store().compact_revision());
  if (before == Index{} || before == counted_applied_) return;  // at a start what the log holds may take long
  if (compacted != counted_compact_revision_) {
    metrics_.index_compaction_pause.observe(static_cast<uint64_t>(took_ns));
  }
  if (took_ns < options_.slow_apply_ns) return;
  metrics_.slow_apply.add();
  log::warn("apply request took too long",
            {{"took", go_duration(std::chrono::nanoseconds(took_ns))},
             {"expected-duration", go_duration(std::chrono::nanoseconds(options_.slow_apply_ns))},
             {"prefix", ""},
             {"request", fmt::format("entries:{} last-index:{}", counted_applied_ - before, counted_applied_.value)},
             {"response", ""}});
}

void Node::update_metrics() {
  const raft::Core& raft = core_->replication().raft();
  const ApplyCore& apply = core_->apply();
  // One that was lost and is elected again counts, as in etcd.
  if (raft.leader() != std::exchange(leader_seen_, raft.leader()) && leader_seen_ != raft::kNoNode) {
    metrics_.leader_changes_seen.add();
  }
  const uint64_t slow_reads = core_->replication().slow_reads();
  if (const uint64_t more = slow_reads - std::exchange(slow_reads_counted_, slow_reads); more > 0) {
    metrics_.slow_read_indexes.add(more);
  }
  metrics_.auth_revision.set(static_cast<int64_t>(apply.auth().revision()));
  metrics_.has_leader.set(raft.leader() != raft::kNoNode ? 1 : 0);
  metrics_.is_leader.set(raft.is_leader() ? 1 : 0);
  metrics_.proposals_committed.set(static_cast<int64_t>(raft.committed().value));
  metrics_.proposals_applied.set(static_cast<int64_t>(apply.applied().value));
  // A member that is alone has no list of them. Whatever it is asked is a proposal, nearly: it reads without the core.
  const ReplicationCore& replication = core_->replication();
  const uint64_t pending = replication.has_peers() ? replication.own_count() + core_->waiting_count()
                                                   : pending_.load(std::memory_order_relaxed);
  metrics_.proposals_pending.set(static_cast<int64_t>(pending));
  metrics_.current_revision.set(apply.store().revision());
  metrics_.compact_revision.set(apply.store().compact_revision());
  const ApplyCounters& now = apply.counters();
  const mvcc::OpCounts& ops = apply.store().counts();
  metrics_.range_total.add(ops.ranges - counted_ops_.ranges);
  metrics_.put_total.add(ops.puts - counted_ops_.puts);
  metrics_.delete_total.add(ops.deletes - counted_ops_.deletes);
  metrics_.txn_total.add(ops.txns - counted_ops_.txns);
  metrics_.total_put_size.set(static_cast<int64_t>(ops.put_bytes));
  counted_ops_ = ops;
  metrics_.compaction_keys.add(now.compacted_records - counted_.compacted_records);
  counted_.compacted_records = now.compacted_records;
  const Published& state = core_->published().newest();
  const cluster::Member* const self = state.members->find(NodeId(member_id_));
  metrics_.is_learner.set(self != nullptr && self->is_learner ? 1 : 0);
  metrics_.db_total_size.set(static_cast<int64_t>(state.db_total_bytes));
  metrics_.db_size_in_use.set(static_cast<int64_t>(state.db_in_use_bytes));
  metrics_.db_high_water.set(static_cast<int64_t>(state.db_high_water_bytes));
  metrics_.keys_total.set(static_cast<int64_t>(state.kv.root.tally({}).count));
  const mvcc::IndexStats index = apply.store().index().stats();
  metrics_.memory_index.set(static_cast<int64_t>(index.reserved_bytes - index.retired_bytes));
  metrics_.memory_index_for_readers.set(static_cast<int64_t>(index.retired_bytes));
  metrics_.memory_write_buffers.set(static_cast<int64_t>(apply.store().buffered_bytes()));
  metrics_.memory_raft_log.set(static_cast<int64_t>(core_->replication().log_bytes()));
}

// --- the others

void Node::run_wal() {
  WalOrders orders;
  while (true) {
    wal_orders_.take(orders, std::nullopt);
    if (orders.writes.empty()) return;
    write_apart(orders.writes);
  }
}

void Node::write_apart(std::vector<WalWrite>& writes) {
  if (writes.empty()) return;
  auto done = wal_stage_->run(std::move(writes));
  if (!done) fail(log_failure(done.error()));
  // What waited for the disk alone waits for no other thread.
  if (options_.peers != nullptr) {
    std::vector<raft::Message> messages;
    for (WalDone& one : *done) append_all(messages, one.messages);
    if (!messages.empty()) options_.peers->send(std::move(messages));
  }
  const bool is_little = done->size() <= kLittleRequests;
  hand_in([&](Events& events) { append_all(events.wal, *done); }, is_little);
}

void Node::run_commit() {
  CommitOrders orders;
  while (true) {
    commit_orders_.take(orders, std::nullopt);
    if (!orders.job && !orders.install) return;
    carry_out(orders);
  }
}

void Node::carry_out(const CommitOrders& orders) {
  if (orders.job) {
    CommitDone done = commit(*orders.job);
    events_.put([&](Events& events) { events.commit = std::move(done); });
  }
  if (orders.install) {
    metrics_.snapshot_apply_in_progress.set(1);
    InstallDone done = installer_->run(*orders.install, *commit_stage_);
    metrics_.snapshot_apply_in_progress.set(0);
    events_.put([&](Events& events) { events.installed = std::move(done); });
  }
}

void Node::run_reader() {
  ReadPace pace;
  ReadOrders orders;
  while (true) {
    read_orders_.take(orders, std::nullopt);
    for (LogRead& read : orders.reads) {
      read.bytes_max = std::min(read.bytes_max, pace.read_bytes());
      const auto [entries, bytes] = read_log_again(read);
      const int64_t wait_ns = pace.after(
          entries, bytes, {.time_ns = clock_.monotonic_ns(), .thread = env::thread_times(), .committed = committed()});
      if (!ends_) std::this_thread::sleep_for(std::chrono::nanoseconds(wait_ns));
    }
    if (orders.end) return;
  }
}

Node::ReadAmount Node::read_log_again(const LogRead& read) {
  LogReadDone done = read_log(*wal_stage_->log().index(), read);
  ReadAmount out{.entries = done.entries.size()};
  for (const raft::Entry& entry : done.entries) out.bytes += raft::cost_bytes(entry);
  events_.put([&](Events& events) { events.log_reads.push_back(std::move(done)); });
  return out;
}

CommitDone Node::commit(const CommitJob& job) {
  const int64_t began_ns = clock_.monotonic_ns();
  CommitDone done = commit_stage_->run(job);
  if (job.reclaim && done.status) note_pass(done, began_ns);
  return done;
}

// A commit that began then has done a part of a compaction's pass.
void Node::note_pass(const CommitDone& done, int64_t began_ns) {
  const int64_t now_ns = clock_.monotonic_ns();
  if (pass_began_ns_ == 0) {
    pass_began_ns_ = began_ns;
    metrics_.compaction_last.set((clock_.wall_ns() - (now_ns - began_ns)) / 1'000'000'000);
  }
  metrics_.compaction_pause.observe(static_cast<uint64_t>(now_ns - began_ns));
  if (done.result.reclaim_done) {
    metrics_.compaction_total.observe(static_cast<uint64_t>(now_ns - std::exchange(pass_began_ns_, 0)));
  }
}

void Node::run_hasher() {
  HashOrders orders;
  while (true) {
    hash_orders_.take(orders, std::nullopt);
    if (orders.end) return;
    events_.put([done = hash(*orders.order)](Events& events) { events.hash = done; });
  }
}

// At most half of the time: a compaction is in no hurry, and clients are.
HashDone Node::hash(const HashOrder& order) {
  CompactionHasher hasher(order, *hash_reader_);
  while (!ends_) {
    const int64_t began_ns = clock_.monotonic_ns();
    const auto done = hasher.step(kHashSliceRecords);
    if (!done) {
      log::error("what a compaction covers cannot be hashed",
                 {{"compact-revision", order.revision}, {"error", done.error().message}});
      break;
    }
    if (*done) return hasher.result();
    if (!hash_thread_.joinable()) continue;  // in a test: nobody else runs
    const int64_t took_ns = std::min(clock_.monotonic_ns() - began_ns, kHashPauseNsMax);
    std::this_thread::sleep_for(std::chrono::nanoseconds(took_ns));
  }
  return {order.revision, std::nullopt};
}

void Node::run_housekeeper() {
  Housekeeper::Orders orders;
  while (true) {
    const Housekeeper::Slice slice = housekeeper_->step(orders, clock_.monotonic_ns());
    if (slice.disk_is_low) events_.put([&](Events& events) { events.disk_is_low = slice.disk_is_low; });
    housekeeper_orders_.take(orders, slice.again_at_ns - clock_.monotonic_ns());
    if (orders.end) return;
  }
}

}  // namespace cairn::member
