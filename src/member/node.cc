#include "member/node.h"

#include <algorithm>
#include <chrono>
#include <map>
#include <utility>

#include "base/bytes.h"
#include "base/check.h"
#include "base/errors.h"
#include "base/log.h"
#include "cluster/codec.h"
#include "member/quota.h"
#include "proto/raft_internal.pb.h"

namespace cairn::member {
namespace {

constexpr int64_t kRaftTickNs = 10'000'000;
constexpr int64_t kCommitRetryMs = 200;
// What may wait to be applied before proposals are refused: as in etcd, but for that long.
constexpr uint64_t kBehindEntriesMax = 5000;
constexpr int64_t kBehindNs = 1'000'000'000;
constexpr uint64_t kFeedBytesMax = 8 << 20;  // to the log at once
constexpr int64_t kAlarmIntervalNs = 1'000'000'000;
constexpr int64_t kDiskLookMs = 1000;
constexpr int64_t kShortLookMs = 100;  // while there is no spare segment: the log takes from the disk as it is written
constexpr int64_t kSparePauseMs = 4;   // between slices of a megabyte: 250 MB/s at most
constexpr uint64_t kSpareMarkBytes = 8 << 20;  // of a segment: then the next one is made; a small member takes none
constexpr int64_t kCheckpointPauseMs = 1;
// Of a tombstone, without its key: its revision, the framing of the key, the leaf's element; and what is not asked
// about, so that there is always a way to make room.
constexpr uint64_t kTombstoneBytes = 48;
constexpr uint64_t kSmallDeleteBytes = 1 << 20;
constexpr int64_t kDeletesOnTheWayNs = 1'000'000'000;
constexpr int64_t kCheckpointAtStopNs = 300'000'000;

// Unique per member and start: 16 bits of the member, 40 of milliseconds, 8 of count.
uint64_t first_request_id(uint64_t member_id, int64_t wall_ns) {
  const auto ms = static_cast<uint64_t>(wall_ns / 1'000'000) & ((uint64_t{1} << 40) - 1);
  return (member_id << 48) | (ms << 8);
}

// The log cannot be written: what is in it is not known to be durable, so nobody may be told that it is.
Error log_failure(Error error) {
  error.message += error.code == Code::kResourceExhausted
                       ? "; the member ends without loss of anything acknowledged: make room on that device, and start "
                         "it again"
                       : "; the member ends, since trying again could acknowledge what was lost";
  return error;
}

Proposal proposal_of(std::string bytes) {
  return std::make_shared<const raft::Payload>(raft::Payload{.bytes = std::move(bytes)});
}

}  // namespace

Result<std::unique_ptr<Node>> Node::open(NodeOptions options, env::FileSystem& fs, const env::Clock& clock,
                                         metrics::ServerMetrics& metrics) {
  options.bootstrap.concurrent = true;
  CAIRN_TRY(Bootstrapped state, bootstrap(fs, options.bootstrap));
  return std::unique_ptr<Node>(new Node(std::move(options), fs, clock, metrics, std::move(state)));
}

Node::Node(NodeOptions options, env::FileSystem& fs, const env::Clock& clock, metrics::ServerMetrics& metrics,
           Bootstrapped state)
    : options_(std::move(options)),
      fs_(fs),
      clock_(clock),
      metrics_(metrics),
      member_id_(state.member_id),
      cluster_id_(state.cluster_id),
      request_id_(first_request_id(state.member_id, clock.wall_ns())),
      wal_stage_(std::make_unique<WalStage>(fs, std::move(state.log), state.snap_directory)) {
  ReplicationCore::Options replication;
  replication.raft.id = NodeId(member_id_);
  replication.raft.seed = request_id_.load();
  replication.start_epoch = static_cast<uint64_t>(clock.wall_ns());
  replication.raft.heartbeat_ticks = std::max<uint32_t>(1, options_.heartbeat_ms / 10);
  replication.raft.election_ticks = std::max<uint32_t>(10, options_.election_ms / 10);
  replication.raft.pre_vote = options_.pre_vote;
  replication_ = std::make_unique<ReplicationCore>(replication, std::move(state.raft_log), state.start);
  options_.apply.member_id = member_id_;
  apply_ = std::make_unique<ApplyCore>(options_.apply, std::move(state.state), clock.monotonic_ns());
  page_roots_ = std::make_unique<PageRoots>(clock_);
  commit_reader_ = apply_->published().register_thread();
  commit_stage_ = std::make_unique<CommitStage>(std::move(state.engine), *commit_reader_);
  disk_guard_ = std::make_unique<DiskGuard>(
      fs, DiskGuard::Options{.directory = state.checkpoint_directory,
                             .log_directory = wal_stage_->log().directory(),
                             .low_bytes = DiskGuard::Options{}.reserve_bytes + 2 * options_.apply.buffer_bytes_max});
  checkpoint_reader_ = apply_->published().register_thread();
  checkpoint_ =
      std::make_unique<CheckpointWriter>(fs, CheckpointOptions{.directory = state.checkpoint_directory, .db = state.db},
                                         state.checkpoint, *checkpoint_reader_);
}

Node::~Node() { CAIRN_ASSERT(!core_thread_.joinable()); }

void Node::start(AnswerSink sink) {
  sink_ = std::move(sink);
  next_raft_tick_ns_ = clock_.monotonic_ns() + kRaftTickNs;
  commit_thread_ = std::thread([this] { run_commit(); });
  housekeeper_thread_ = std::thread([this] { run_housekeeper(); });
  core_thread_ = std::thread([this] { run_core(); });
}

bool Node::wait_ready(int64_t timeout_ns) {
  MutexLock lock(mutex_);
  return ready_.wait_for(lock.native(), std::chrono::nanoseconds(timeout_ns), [this] { return is_ready_; });
}

void Node::stop() {
  {
    MutexLock lock(mutex_);
    inbox_.stop = true;
    stop_wanted_.store(true);  // behind it: who sees this knows that the core will see that
    wake_core_.notify_one();
  }
  core_thread_.join();
  {
    MutexLock lock(mutex_);
    stop_helpers_ = true;
    wake_commit_.notify_one();
    wake_housekeeper_.notify_one();
  }
  commit_thread_.join();
  housekeeper_thread_.join();
  if (!db_is_complete_) return;
  checkpoint_at_stop();
  const Status closed = commit_stage_->close();
  if (!closed && closed.error().code == Code::kResourceExhausted) {
    log::warn("no space for the db's list of free pages; the next start finds them by itself",
              {{"error", closed.error().message}});
    return;
  }
  check(closed);
}

void Node::propose(std::vector<Proposal> proposals) {
  if (proposals.empty()) return;
  uint64_t awaited = 0;
  uint64_t bytes = 0;
  for (const Proposal& one : proposals) {
    awaited += one->tag != 0 ? 1 : 0;
    bytes += one->bytes.size();
  }
  pending_.fetch_add(awaited, std::memory_order_relaxed);
  if (waiting_bytes_.fetch_add(bytes, std::memory_order_relaxed) + bytes > options_.waiting_bytes_max) {
    waiting_bytes_.fetch_sub(bytes, std::memory_order_relaxed);
    return refuse(proposals, errors::request_too_many_requests());
  }
  MutexLock lock(mutex_);
  auto& queue = inbox_.proposals;
  if (queue.empty()) {
    queue = std::move(proposals);
  } else {
    queue.insert(queue.end(), std::make_move_iterator(proposals.begin()), std::make_move_iterator(proposals.end()));
  }
  if (core_sleeps_) wake_core_.notify_one();
}

void Node::control(std::vector<ControlRequest> requests) {
  if (requests.empty()) return;
  pending_.fetch_add(requests.size(), std::memory_order_relaxed);
  MutexLock lock(mutex_);
  inbox_.controls.insert(inbox_.controls.end(), requests.begin(), requests.end());
  if (core_sleeps_) wake_core_.notify_one();
}

void Node::raise_alarm(uint32_t type) {
  const int64_t now_ns = clock_.monotonic_ns();
  int64_t last_ns = alarm_raised_ns_.load(std::memory_order_relaxed);
  if (last_ns != 0 && now_ns - last_ns < kAlarmIntervalNs) return;
  if (!alarm_raised_ns_.compare_exchange_strong(last_ns, now_ns)) return;
  propose({proposal_of(alarm_request(member_id_, type, next_request_id()))});
}

void Node::check(const Status& status) {
  if (status) return;
  options_.fail_stop(status.error());
  std::abort();  // fail_stop does not return
}

Node::Inbox Node::wait_for_work(int64_t now_ns) {
  std::optional<int64_t> deadline = apply_->next_tick_ns();
  if (replication_->needs_ticks()) deadline = std::min(deadline.value_or(INT64_MAX), next_raft_tick_ns_);
  MutexLock lock(mutex_);
  core_sleeps_ = true;
  const auto has_work = [this] { return !inbox_.empty(); };
  if (!deadline) {
    wake_core_.wait(lock.native(), has_work);
  } else if (*deadline > now_ns) {
    wake_core_.wait_for(lock.native(), std::chrono::nanoseconds(*deadline - now_ns), has_work);
  }
  core_sleeps_ = false;
  const bool stop = inbox_.stop;
  Inbox work = std::exchange(inbox_, {});
  work.stop = stop;
  return work;
}

void Node::run_core() {
  pump(clock_.monotonic_ns());
  while (true) {
    Inbox work = wait_for_work(clock_.monotonic_ns());
    const int64_t now_ns = clock_.monotonic_ns();
    if (work.stop) stopping_ = true;
    if (now_ns >= next_raft_tick_ns_) {
      if (replication_->needs_ticks()) replication_->tick();
      next_raft_tick_ns_ = now_ns + kRaftTickNs;  // never made up for
    }
    if (work.commit && stopping_ && !work.commit->status &&
        work.commit->status.error().code == Code::kResourceExhausted) {
      log::error("no space for the db at the stop; the next start takes what it lacks from the WAL",
                 {{"error", work.commit->status.error().message}});
      db_is_complete_ = false;
      return;
    }
    if (work.commit) {
      applies_up_to_bytes_ = 0;
      check(apply_->commit_done(*std::move(work.commit), now_ns));
      MutexLock lock(mutex_);
      committed_db_ = true;
      wake_housekeeper_.notify_one();
    }
    if (!work.proposals.empty()) take_proposals(std::move(work.proposals), now_ns);
    for (const ControlRequest& request : work.controls) replication_->control(request);
    apply_->tick(now_ns);
    pump(now_ns);
    if (stopping_) {
      refuse({waiting_.begin(), waiting_.end()}, errors::stopped());
      waiting_.clear();
      replication_->refuse_held(errors::stopped());
      pump(now_ns);
      if (apply_queue_.empty() && !apply_->commit_pending()) {
        if (apply_->is_clean()) return;
        apply_->request_commit(now_ns);
        pump(now_ns);
        if (apply_->is_clean()) return;
      }
    }
  }
}

// Entries are on disk long before they are applied, but while the db has no room for them they pile up in memory.
bool Node::is_far_behind(int64_t now_ns) {
  // compat: etcd refuses at once.
  if (replication_->raft().committed() <= apply_->applied() + kBehindEntriesMax) {
    behind_since_ns_ = 0;
    return false;
  }
  if (behind_since_ns_ == 0) behind_since_ns_ = now_ns;
  return now_ns - behind_since_ns_ >= kBehindNs;
}

void Node::take_proposals(std::vector<Proposal> proposals, int64_t now_ns) {
  if (is_far_behind(now_ns)) {
    uint64_t bytes = 0;
    for (const Proposal& one : proposals) bytes += one->bytes.size();
    waiting_bytes_.fetch_sub(bytes, std::memory_order_relaxed);
    return refuse(proposals, errors::request_too_many_requests());
  }
  // The ordinary case: all of them, and nothing is copied.
  const bool fits = waiting_bytes_.load(std::memory_order_relaxed) <= kFeedBytesMax &&
                    replication_->log_bytes() < options_.unapplied_bytes_max;
  if (!fits || !waiting_.empty()) {
    waiting_.insert(waiting_.end(), std::make_move_iterator(proposals.begin()),
                    std::make_move_iterator(proposals.end()));
    return;
  }
  uint64_t bytes = 0;
  for (const Proposal& one : proposals) bytes += one->bytes.size();
  waiting_bytes_.fetch_sub(bytes, std::memory_order_relaxed);
  replication_->propose(std::move(proposals));
}

// Gives what waits to the log, a bounded batch at a time. False: there is nothing, or the log is to take no more now.
bool Node::feed_log() {
  if (waiting_.empty() || replication_->log_bytes() >= options_.unapplied_bytes_max) return false;
  std::vector<Proposal> batch;
  uint64_t bytes = 0;
  while (!waiting_.empty() && bytes < kFeedBytesMax) {
    bytes += waiting_.front()->bytes.size();
    batch.push_back(std::move(waiting_.front()));
    waiting_.pop_front();
  }
  waiting_bytes_.fetch_sub(bytes, std::memory_order_relaxed);
  replication_->propose(std::move(batch));
  return true;
}

void Node::refuse(const std::vector<Proposal>& proposals, const Error& error) {
  std::vector<Refused> refused;
  for (const Proposal& one : proposals) refused.push_back({one->tag, error});
  deliver_refused(std::move(refused));
}

void Node::pump(int64_t now_ns) {
  if (!stopping_ && !replication_->raft().is_leader() && replication_->raft().is_sole_voter()) {
    replication_->campaign();
  }
  bool progress = true;
  while (progress) {
    progress = pump_replication();
    progress = pump_apply(now_ns) || progress;
    progress = feed_log() || progress;
    if (!announced_ && !progress) announce();
    progress = progress || replication_->has_output();
  }
  update_metrics();
}

bool Node::pump_replication() {
  if (!replication_->has_output()) return false;
  ReplicationOutput output = replication_->take_output();
  bool may_have_released = false;
  for (WalWrite& write : output.wal) {
    const int64_t began_ns = clock_.monotonic_ns();
    may_have_released = may_have_released || write.release_below != Index{};
    const bool synced = write.must_sync;
    auto done = wal_stage_->run(std::move(write));
    if (!done) check(std::unexpected(log_failure(done.error())));
    const auto took_ns = static_cast<uint64_t>(clock_.monotonic_ns() - began_ns);
    if (synced) metrics_.wal_fsync.observe(took_ns);
    replication_->wal_done(*std::move(done));
  }
  deliver_refused(std::move(output.refused));
  if (!output.apply.empty()) {
    apply_->note_durable_commit(output.apply.durable_commit);
    apply_queue_.push_back(std::move(output.apply));
  }
  committed_.store(replication_->raft().committed().value, std::memory_order_relaxed);
  const wal::Log& log = wal_stage_->log();
  const uint64_t spare_mark = std::min(kSpareMarkBytes, options_.bootstrap.wal.segment_bytes / 8);
  const bool is_due = log.segment_sequence() != spared_sequence_ && log.segment_used_bytes() > spare_mark;
  if (is_due) spared_sequence_ = log.segment_sequence();
  if (is_due || (may_have_released && wal_stage_->spares()->has_released())) {
    MutexLock lock(mutex_);
    spare_wanted_ = true;
    wake_housekeeper_.notify_one();
  }
  return true;
}

bool Node::pump_apply(int64_t now_ns) {
  bool progress = false;
  while (!apply_queue_.empty()) {
    const bool waits = !apply_queue_.front().entries.empty() && apply_->stalled();
    if (waits && !goes_on_when_full()) break;
    ApplyBatch batch = std::move(apply_queue_.front());
    apply_queue_.pop_front();
    check(apply_->apply(std::move(batch), now_ns, waits));
    progress = true;
  }
  if (progress) page_roots_->tidy(apply_->store().compact_revision(), apply_->store().index().stats().retired_bytes);
  if (!apply_->has_output()) return progress;
  ApplyOutput output = apply_->take_output();
  deliver(output);
  if (output.commit) {
    MutexLock lock(mutex_);
    CAIRN_ASSERT(!commit_job_);
    commit_job_ = std::move(output.commit);
    wake_commit_.notify_one();
  }
  if (!output.proposals.empty()) replication_->propose(std::move(output.proposals));
  if (output.notice.worth_sending()) replication_->applied(std::move(output.notice));
  return true;
}

// A member that is started with a db that takes nothing must come to where it can be read and told to compact: what
// its log holds, which was bounded when it was written, is applied in memory, and then a little more.
bool Node::goes_on_when_full() {
  if (!db_is_full_.load()) return false;
  const uint64_t bytes = apply_->store().buffered_bytes();
  if (!announced_) applies_up_to_bytes_ = bytes + options_.apply.buffer_bytes_max;
  return bytes < applies_up_to_bytes_;
}

bool Node::admit_deletes(const mvcc::DeleteCount& count) {
  // compat: etcd refuses no delete, and its db fills up with what is to make room in it.
  const uint64_t cost = (count.keys * kTombstoneBytes + count.key_bytes) * 9 / 8;
  if (cost < kSmallDeleteBytes) return true;
  const auto buffered = static_cast<uint64_t>(metrics_.memory_write_buffers.value());
  const MutexLock lock(deletes_mutex_);
  // What was let through a moment ago may not be in the buffers yet.
  const int64_t now_ns = clock_.monotonic_ns();
  if (now_ns - deletes_since_ns_ > kDeletesOnTheWayNs) {
    deletes_since_ns_ = now_ns;
    deletes_bytes_ = 0;
  }
  const uint64_t room = disk_guard_->room_for_deletes(std::max(buffered, deletes_bytes_));
  if (cost <= room) {
    deletes_bytes_ += cost;
    return true;
  }
  log::warn("a delete of so many keys has no room in the db; delete in smaller pieces, and compact between them",
            {{"keys", count.keys}, {"bytes", cost}, {"free-bytes", room}});
  return false;
}

void Node::deliver(ApplyOutput& output) {
  uint64_t count = 0;
  for (uint64_t loops = output.loops; loops != 0; loops &= loops - 1) {
    const auto loop = static_cast<unsigned>(std::countr_zero(loops));
    count += output.answers[loop].answers.size();
    sink_(loop, std::move(output.answers[loop]));
  }
  pending_.fetch_sub(std::min(count, pending_.load(std::memory_order_relaxed)), std::memory_order_relaxed);
}

void Node::deliver_refused(std::vector<Refused> refused) {
  std::map<unsigned, AnswerBatch> by_loop;
  uint64_t count = 0;
  for (const Refused& one : refused) {
    if (one.tag == 0) continue;
    ++count;
    by_loop[loop_of(one.tag)].add(one.tag, one.error.code, one.error.message);
  }
  metrics_.proposals_failed.add(count);
  pending_.fetch_sub(std::min(count, pending_.load(std::memory_order_relaxed)), std::memory_order_relaxed);
  for (auto& [loop, batch] : by_loop) sink_(loop, std::move(batch));
}

// As etcd does after it has a leader: the member's name and client URLs, then a new cluster's version.
void Node::announce() {
  if (!replication_->raft().has_committed_in_term() || !replication_->raft().is_leader()) return;
  if (apply_->applied() < replication_->raft().committed()) return;  // nobody is to see a state from before the start
  const cluster::Membership& members = apply_->members();
  const cluster::Member* const self = members.find(NodeId(member_id_));
  if (self == nullptr) return;
  const Schema schema = apply_->schema();  // a found directory keeps its version
  const std::string& name = options_.bootstrap.name;
  if (self->name != name || self->client_urls != options_.client_urls) {
    if (std::exchange(attributes_proposed_, true)) return;
    if (schema >= Schema::k3_6) {
      etcdserverpb::InternalRaftRequest request;
      request.mutable_header()->set_id(next_request_id());
      auto* const set = request.mutable_cluster_member_attr_set();
      set->set_member_id(member_id_);
      set->mutable_member_attributes()->set_name(name);
      for (const std::string& url : options_.client_urls) set->mutable_member_attributes()->add_client_urls(url);
      replication_->propose({proposal_of(request.SerializeAsString())});
    } else {
      replication_->propose({proposal_of(
          cluster::encode_v2_attributes(next_request_id(), {NodeId(member_id_), name, options_.client_urls}))});
    }
    return;
  }
  if (members.version.empty()) {
    if (std::exchange(version_proposed_, true)) return;
    if (schema >= Schema::k3_6) {
      etcdserverpb::InternalRaftRequest request;
      request.mutable_header()->set_id(next_request_id());
      request.mutable_cluster_version_set()->set_ver(options_.cluster_version);
      replication_->propose({proposal_of(request.SerializeAsString())});
    } else {  // restored from a snapshot by a tool of that version
      const std::string_view version = schema == Schema::k3_4 ? "3.4.0" : "3.5.0";
      replication_->propose({proposal_of(cluster::encode_v2_version(next_request_id(), version))});
    }
    return;
  }
  announced_ = true;
  log::info("published local member to cluster through raft",
            {{"local-member-id", hex_id(member_id_)}, {"cluster-id", hex_id(cluster_id_)}});
  MutexLock lock(mutex_);
  is_ready_ = true;
  ready_.notify_all();
}

void Node::update_metrics() {
  const raft::Core& raft = replication_->raft();
  metrics_.has_leader.set(raft.leader() != raft::kNoNode ? 1 : 0);
  metrics_.is_leader.set(raft.is_leader() ? 1 : 0);
  metrics_.proposals_committed.set(static_cast<int64_t>(raft.committed().value));
  metrics_.proposals_applied.set(static_cast<int64_t>(apply_->applied().value));
  metrics_.proposals_pending.set(static_cast<int64_t>(pending_.load(std::memory_order_relaxed)));
  metrics_.current_revision.set(apply_->store().revision());
  metrics_.compact_revision.set(apply_->store().compact_revision());
  const ApplyCore::Counters& now = apply_->counters();
  metrics_.put_total.add(now.puts - counted_.puts);
  metrics_.delete_total.add(now.deletes - counted_.deletes);
  metrics_.txn_total.add(now.txns - counted_.txns);
  metrics_.compaction_keys.add(now.compacted_records - counted_.compacted_records);
  metrics_.total_put_size.set(static_cast<int64_t>(now.put_bytes));
  counted_ = now;
  const Published& state = apply_->published().newest();
  metrics_.db_total_size.set(static_cast<int64_t>(state.db_total_bytes));
  metrics_.db_size_in_use.set(static_cast<int64_t>(state.db_in_use_bytes));
  metrics_.keys_total.set(static_cast<int64_t>(state.kv.root.tally({}).count));
  metrics_.wal_write_bytes.set(static_cast<int64_t>(wal_stage_->written_bytes()));
  const mvcc::IndexStats index = apply_->store().index().stats();
  metrics_.memory_index.set(static_cast<int64_t>(index.reserved_bytes - index.retired_bytes));
  metrics_.memory_index_for_readers.set(static_cast<int64_t>(index.retired_bytes));
  metrics_.memory_write_buffers.set(static_cast<int64_t>(apply_->store().buffered_bytes()));
  metrics_.memory_raft_log.set(static_cast<int64_t>(replication_->log_bytes()));
}

void Node::run_commit() {
  while (true) {
    CommitJob job;
    {
      MutexLock lock(mutex_);
      wake_commit_.wait(lock.native(), [this] { return commit_job_.has_value() || stop_helpers_; });
      if (!commit_job_) return;
      job = *std::exchange(commit_job_, std::nullopt);
    }
    const int64_t began_ns = clock_.monotonic_ns();
    CommitDone done = commit_stage_->run(job);
    while (!done.status && done.status.error().code == Code::kResourceExhausted) {
      if (!db_is_full_.exchange(true)) {
        log::error("no space for the db; it is tried again until there is", {{"error", done.status.error().message}});
        MutexLock lock(mutex_);
        inbox_.db_is_full = true;
        wake_core_.notify_one();
      }
      if (stop_wanted_.load()) break;
      watch_disk(*commit_reader_);
      std::this_thread::sleep_for(std::chrono::milliseconds(kCommitRetryMs));
      done = commit_stage_->run(job);
    }
    db_is_full_.store(false);
    watch_disk(*commit_reader_);
    metrics_.backend_commit.observe(static_cast<uint64_t>(clock_.monotonic_ns() - began_ns));
    MutexLock lock(mutex_);
    inbox_.commit = std::move(done);
    wake_core_.notify_one();
  }
}

void Node::run_housekeeper() {
  Progress spare = Progress::kDone;
  bool checkpoint = false;
  int64_t next_look_ns = 0;
  while (true) {
    if (const int64_t now_ns = clock_.monotonic_ns(); now_ns >= next_look_ns) {
      watch_disk(*checkpoint_reader_);
      next_look_ns = now_ns + (spare == Progress::kLater ? kShortLookMs : kDiskLookMs) * 1'000'000;
      if (spare == Progress::kLater) spare = Progress::kMore;
    }
    {
      MutexLock lock(mutex_);
      const bool busy = spare == Progress::kMore || checkpoint;
      const int64_t look_ms = spare == Progress::kLater ? kShortLookMs : kDiskLookMs;
      const int64_t pause_ms = spare == Progress::kMore ? kSparePauseMs : checkpoint ? kCheckpointPauseMs : look_ms;
      wake_housekeeper_.wait_for(lock.native(), std::chrono::milliseconds(pause_ms),
                                 [&] { return stop_helpers_ || (!busy && (spare_wanted_ || committed_db_)); });
      if (stop_helpers_) return;
      if (std::exchange(spare_wanted_, false)) spare = Progress::kMore;
      checkpoint = std::exchange(committed_db_, false) || checkpoint;
    }
    if (spare == Progress::kMore) spare = prepare_spare();
    if (disk_guard_->is_low()) {
      // It would keep a compaction from going on, which is what makes room.
      checkpoint_->abandon();
      checkpoint = false;
    } else if (checkpoint) {
      checkpoint = step_checkpoint(false);
    }
  }
}

// Raises the alarm while space is low, and gives the reserve up to what goes on then.
void Node::watch_disk(PublishedDomain::Reader& reader) {
  bool is_raised = false;
  DiskGuard::Room room{.has_spare = wal_stage_->spares()->ready(), .db_is_full = db_is_full_.load()};
  {
    const auto state = reader.enter();
    const auto& alarms = *state->alarms;
    is_raised = std::find(alarms.begin(), alarms.end(), Alarm{member_id_, kAlarmNoSpace}) != alarms.end();
    room.in_db_bytes = state->db_total_bytes - std::min(state->db_total_bytes, state->db_in_use_bytes);
  }
  if (!disk_guard_->look(room)) return;
  if (!is_raised) raise_alarm(kAlarmNoSpace);
  if (is_raised || room.db_is_full) disk_guard_->give_up_reserve();
}

// A slice of the next WAL segment.
Node::Progress Node::prepare_spare() {
  wal::SparePreparer& spares = *wal_stage_->spares();
  // Without room for a whole segment the log goes on in the one it has, which takes only what is written.
  if (spares.needs_space() && !disk_guard_->has_room_for(options_.bootstrap.wal.segment_bytes)) return Progress::kLater;
  const auto step = spares.prepare_step();
  if (step) return *step ? Progress::kMore : Progress::kDone;
  log::warn("no spare WAL segment could be made; the next one is made when it is needed",
            {{"error", step.error().message}});
  return step.error().code == Code::kResourceExhausted ? Progress::kLater : Progress::kDone;
}

// A slice of the index checkpoint. True: there is more to do now.
bool Node::step_checkpoint(bool stopping) {
  const auto step = checkpoint_->step(stopping);
  if (step) return *step == CheckpointWriter::Step::kMore;
  log::warn("failed to save an index checkpoint; a restart takes longer", {{"error", step.error().message}});
  return false;
}

// Everything is in the db by now.
void Node::checkpoint_at_stop() {
  const int64_t deadline_ns = clock_.monotonic_ns() + kCheckpointAtStopNs;
  while (step_checkpoint(true)) {
    if (!checkpoint_->in_progress() || clock_.monotonic_ns() < deadline_ns) continue;
    log::info("the index checkpoint takes too long to be saved at a stop");
    checkpoint_->abandon();
    return;
  }
}

}  // namespace cairn::member
