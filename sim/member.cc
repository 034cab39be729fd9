#include "sim/member.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/errors.h"

namespace cairn::sim {
namespace {

constexpr int64_t kRaftTickNs = 10'000'000;
constexpr int64_t kCommitRetryNs = 200'000'000;
constexpr uint64_t kIdleTicksMax = 200;
constexpr uint64_t kPumpTurnsMax = 10'000;

}  // namespace

Result<std::unique_ptr<Member>> Member::start(SimFileSystem& fs, Schedule& schedule, MemberOptions options,
                                              MemberClient& client) {
  CAIRN_TRY(member::Bootstrapped state, member::bootstrap(fs, options.bootstrap));
  return std::unique_ptr<Member>(new Member(fs, schedule, std::move(options), client, std::move(state)));
}

Member::Member(SimFileSystem& fs, Schedule& schedule, MemberOptions options, MemberClient& client,
               member::Bootstrapped state)
    : fs_(fs),
      schedule_(schedule),
      options_(std::move(options)),
      client_(client),
      chance_(options_.seed),
      member_id_(state.member_id),
      cluster_id_(state.cluster_id),
      wal_stage_(std::make_unique<member::WalStage>(fs, std::move(state.log), state.snap_directory)),
      client_to_replication_(schedule, chance_.fork(), options_.delay_mean_ns),
      replication_to_wal_(schedule, chance_.fork(), options_.delay_mean_ns),
      wal_to_replication_(schedule, chance_.fork(), options_.delay_mean_ns),
      replication_to_apply_(schedule, chance_.fork(), options_.delay_mean_ns),
      apply_to_replication_(schedule, chance_.fork(), options_.delay_mean_ns),
      apply_to_commit_(schedule, chance_.fork(), options_.delay_mean_ns),
      commit_to_apply_(schedule, chance_.fork(), options_.delay_mean_ns),
      to_client_(schedule, chance_.fork(), options_.delay_mean_ns),
      housekeeping_(schedule, chance_.fork(), options_.delay_mean_ns * 4) {
  member::ReplicationCore::Options replication;
  replication.raft.id = NodeId(member_id_);
  replication.raft.seed = chance_.next();
  replication.start_epoch = chance_.next();
  replication_ = std::make_unique<member::ReplicationCore>(replication, std::move(state.raft_log), state.start);
  options_.apply.member_id = member_id_;
  apply_ = std::make_unique<member::ApplyCore>(options_.apply, std::move(state.state), schedule_.now_ns());
  commit_reader_ = apply_->published().register_thread();
  commit_stage_ = std::make_unique<member::CommitStage>(std::move(state.engine), *commit_reader_);
  options_.checkpoint.directory = state.checkpoint_directory;
  options_.checkpoint.db = state.db;
  checkpoint_reader_ = apply_->published().register_thread();
  checkpoint_ =
      std::make_unique<member::CheckpointWriter>(fs, options_.checkpoint, state.checkpoint, *checkpoint_reader_);
  schedule_.after(0, [this] {
    core_.run([this] { pump_replication(); });
    apply_worker().run([this] { pump_apply(); });
  });
}

Member::~Member() = default;

Worker& Member::wal_worker() { return options_.arrangement == Arrangement::kOneThread ? core_ : wal_; }
Worker& Member::apply_worker() { return options_.arrangement == Arrangement::kAllApart ? applier_ : core_; }

void Member::fail_stop(Error error) {
  if (failure_) return;
  failure_ = std::move(error);
  // The process is gone: whatever is under way elsewhere comes no further.
  fs_.kill();
  for (Worker* worker : {&core_, &wal_, &applier_, &committer_, &housekeeper_}) worker->forget();
}

void Member::propose(member::Proposal proposal) {
  proposals_.push_back(std::move(proposal));
  if (proposals_.size() > 1) return;
  client_to_replication_.send([this] {
    core_.run([this] {
      replication_->propose(std::exchange(proposals_, {}));
      pump_replication();
    });
  });
}

void Member::control(member::ControlRequest request) {
  client_to_replication_.send([this, request] {
    core_.run([this, request] {
      replication_->control(request);
      pump_replication();
    });
  });
}

std::string Member::describe() const {
  const raft::Core& raft = replication_->raft();
  return fmt::format(
      "leader {}, term {}, log to {}, committed {}, applied {}, {} batches wait, stalled {}, commit pending {}, held "
      "{}, "
      "durable commit {}, next tick {}, busy {}{}{}{}{}",
      raft.is_leader(), raft.term(), log().last_index(), raft.committed(), apply_->applied(), apply_queue_.size(),
      apply_->stalled(), apply_->commit_pending(), replication_->held_count(), log().hard_state().commit,
      apply_->next_tick_ns().value_or(0) - schedule_.now_ns(), core_.idle() ? "" : "r", wal_.idle() ? "" : "w",
      applier_.idle() ? "" : "a", committer_.idle() ? "" : "c", housekeeper_.idle() ? "" : "h");
}

// --- replication

void Member::pump_replication() {
  if (failure_) return;
  if (!stopping_ && replication_->raft().role() == raft::Role::kFollower && replication_->raft().is_sole_voter()) {
    replication_->campaign();
  }
  if (stopping_) replication_->refuse_held(errors::stopped());
  uint64_t turns = 0;
  while (replication_->has_output()) {
    CAIRN_ASSERT(++turns < kPumpTurnsMax);
    hand_over(replication_->take_output());
  }
  plan_raft_tick();
  check_stop();
}

void Member::hand_over(member::ReplicationOutput output) {
  for (member::WalWrite& write : output.wal) {
    replication_to_wal_.send([this, write = std::move(write)]() mutable {
      wal_worker().run([this, write = std::move(write)]() mutable { run_wal(std::move(write)); });
    });
  }
  for (member::Refused& refused : output.refused) {
    to_client_.send([this, refused = std::move(refused)] {
      if (!failure_) client_.on_refused(refused.tag, refused.error);
    });
  }
  if (output.apply.empty()) return;
  for (const raft::Entry& entry : output.apply.entries) client_.on_entry(entry);
  replication_to_apply_.send([this, batch = std::move(output.apply)]() mutable {
    apply_worker().run([this, batch = std::move(batch)]() mutable {
      if (failure_) return;
      apply_->note_durable_commit(batch.durable_commit);
      apply_queue_.push_back(std::move(batch));
      pump_apply();
    });
  });
}

void Member::plan_raft_tick() {
  if (raft_tick_planned_ || !replication_->needs_ticks()) return;
  raft_tick_planned_ = true;
  schedule_.after(kRaftTickNs, [this] {
    core_.run([this] {
      raft_tick_planned_ = false;
      if (failure_) return;
      if (replication_->needs_ticks()) replication_->tick();
      pump_replication();
    });
  });
}

// --- WAL

void Member::run_wal(member::WalWrite write) {
  if (failure_) return;
  wal_busy_ = true;
  auto done = wal_stage_->run(std::move(write));
  wal_busy_ = false;
  if (failure_) return;
  if (!done) return fail_stop(std::move(done).error());
  wal_to_replication_.send([this, done = *std::move(done)]() mutable {
    core_.run([this, done = std::move(done)]() mutable {
      if (failure_) return;
      replication_->wal_done(std::move(done));
      pump_replication();
    });
  });
  const wal::Log& log = wal_stage_->log();
  if (log.segment_count() != segment_count_ && log.segment_used_bytes() > options_.bootstrap.wal.segment_bytes / 8) {
    segment_count_ = log.segment_count();
    if (!std::exchange(spare_planned_, true)) prepare_spare();
  }
}

void Member::prepare_spare() {
  housekeeping_.send([this] {
    housekeeper_.run([this] {
      if (failure_) return;
      const auto more = wal_stage_->spares()->prepare_step();
      if (more && *more && !stopping_) return prepare_spare();
      spare_planned_ = false;
    });
  });
}

// A slice of the index checkpoint. A failure costs only the checkpoint.
void Member::step_checkpoint() {
  if (std::exchange(checkpoint_planned_, true)) return;
  housekeeping_.send([this] {
    housekeeper_.run([this] {
      checkpoint_planned_ = false;
      if (failure_) return;
      const uint64_t before = checkpoint_->written_count();
      const auto step = checkpoint_->step();
      if (failure_) return;
      if (checkpoint_->written_count() > before) client_.on_checkpoint();
      if (step && *step == member::CheckpointWriter::Step::kMore && !stopping_) step_checkpoint();
    });
  });
}

// --- apply

void Member::pump_apply() {
  while (!failure_ && !apply_queue_.empty() && (apply_queue_.front().entries.empty() || !apply_->stalled())) {
    member::ApplyBatch batch = std::move(apply_queue_.front());
    apply_queue_.pop_front();
    if (auto status = apply_->apply(std::move(batch), schedule_.now_ns()); !status) {
      return fail_stop(std::move(status).error());
    }
    idle_ticks_ = 0;
  }
  flush_apply();
}

void Member::flush_apply() {
  if (failure_) return;
  if (apply_->has_output()) {
    idle_ticks_ = 0;
    member::ApplyOutput output = apply_->take_output();
    for (uint64_t loops = output.loops; loops != 0; loops &= loops - 1) {
      auto& batch = output.answers[static_cast<size_t>(std::countr_zero(loops))];
      to_client_.send([this, batch = std::move(batch)] {
        if (failure_) return;
        for (const member::Answer& answer : batch.answers)
          client_.on_answer(answer.tag, answer.code, batch.text(answer));
      });
    }
    if (output.commit) {
      apply_to_commit_.send(
          [this, job = *std::move(output.commit)] { committer_.run([this, job] { run_commit(job); }); });
    }
    for (const member::Proposal& proposal : output.proposals) client_.on_own_proposal(proposal);
    if (!output.proposals.empty() || output.notice.worth_sending()) {
      apply_to_replication_.send(
          [this, notice = std::move(output.notice), proposals = std::move(output.proposals)]() mutable {
            core_.run([this, notice = std::move(notice), proposals = std::move(proposals)]() mutable {
              if (failure_) return;
              if (!proposals.empty()) replication_->propose(std::move(proposals));
              if (notice.worth_sending()) replication_->applied(std::move(notice));
              pump_replication();
            });
          });
    }
  }
  client_.on_published();
  plan_apply_tick();
  check_stop();
}

void Member::plan_apply_tick() {
  const auto next = apply_->next_tick_ns();
  if (!next) return;
  const int64_t when = std::max(*next, schedule_.now_ns() + 1000);  // a thread needs a moment to wake up
  if (planned_tick_ns_ && *planned_tick_ns_ <= when) return;
  planned_tick_ns_ = when;
  schedule_.at(when, [this, when] {
    if (planned_tick_ns_ != when) return;  // an earlier one took its place
    planned_tick_ns_.reset();
    apply_worker().run([this] {
      if (failure_) return;
      const int64_t now_ns = schedule_.now_ns();
      idle_ticks_ = now_ns - last_tick_ns_ < 100'000 ? idle_ticks_ + 1 : 0;
      last_tick_ns_ = now_ns;
      CAIRN_ASSERT(idle_ticks_ < kIdleTicksMax);  // else the thread spins without doing anything
      apply_->tick(now_ns);
      pump_apply();
    });
  });
}

// --- commit

void Member::run_commit(member::CommitJob job) {
  if (failure_) return;
  committing_ = true;
  member::CommitDone done = commit_stage_->run(job);
  committing_ = false;
  if (failure_) return;
  if (!done.status && done.status.error().code == Code::kResourceExhausted) {
    client_.on_commit_without_space(done.status.error());
    schedule_.after(kCommitRetryNs, [this, job] { committer_.run([this, job] { run_commit(job); }); });
    return;
  }
  if (done.status) client_.on_commit_done(job);
  commit_to_apply_.send([this, done = std::move(done)]() mutable {
    apply_worker().run([this, done = std::move(done)]() mutable {
      if (failure_) return;
      if (auto status = apply_->commit_done(std::move(done), schedule_.now_ns()); !status) {
        return fail_stop(std::move(status).error());
      }
      idle_ticks_ = 0;
      pump_apply();
      step_checkpoint();
    });
  });
}

void Member::other_threads(const Operation& operation) {
  if (failure_ || options_.overlap_one_in == 0 || depth_ >= 2 || !(committing_ || wal_busy_)) return;
  const bool of_a_writer = operation.op == Op::kWrite || operation.op == Op::kSync || operation.op == Op::kPunch ||
                           operation.op == Op::kTruncate || operation.op == Op::kAllocate;
  if (!of_a_writer || !(operation.path.ends_with("/db") || operation.path.ends_with(".wal"))) return;
  if (!chance_.one_in(options_.overlap_one_in)) return;
  ++depth_;
  for (uint64_t left = chance_.between(1, 12); left > 0 && !failure_ && !fs_.crashed(); --left) {
    if (!schedule_.step()) break;
  }
  --depth_;
}

// --- clean stop

void Member::stop() {
  stopping_ = true;
  client_to_replication_.send([this] { core_.run([this] { pump_replication(); }); });
}

bool Member::quiet() const {
  for (const Lane* lane : {&client_to_replication_, &replication_to_wal_, &wal_to_replication_, &replication_to_apply_,
                           &apply_to_replication_, &apply_to_commit_, &commit_to_apply_, &to_client_}) {
    if (lane->in_flight() > 0) return false;
  }
  return proposals_.empty() && !replication_->has_output() && apply_queue_.empty() && !apply_->commit_pending() &&
         !wal_busy_ && !committing_;
}

void Member::look_again() {
  if (std::exchange(look_planned_, true)) return;
  schedule_.after(1'000'000, [this] {
    look_planned_ = false;
    core_.run([this] { check_stop(); });
  });
}

void Member::check_stop() {
  if (!stopping_ || stopped_ || failure_) return;
  if (!quiet() || !housekeeper_.idle() || housekeeping_.in_flight() > 0) return look_again();
  if (!apply_->is_clean()) {
    if (!std::exchange(final_commit_asked_, true)) {
      schedule_.after(0, [this] {
        final_commit_asked_ = false;
        apply_worker().run([this] {
          if (failure_) return;
          apply_->request_commit(schedule_.now_ns());
          pump_apply();
        });
      });
    }
    return;
  }
  stopped_ = true;
  const uint64_t before = checkpoint_->written_count();
  while (true) {
    const auto step = checkpoint_->step(true);
    if (!step || *step != member::CheckpointWriter::Step::kMore) break;
  }
  if (checkpoint_->written_count() > before) client_.on_checkpoint();
  if (auto status = commit_stage_->close(); !status) fail_stop(std::move(status).error());
}

}  // namespace cairn::sim
