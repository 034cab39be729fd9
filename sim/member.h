// sim/member.h: a member made of the real stages, in virtual time and on a simulated disk.
//
// ReplicationCore, WalStage, ApplyCore and CommitStage are those that member/node.h runs on its threads. Here each
// hand-over between two of them is an event with a random delay; the order between two stages is kept, that between
// different pairs is free. While the file is being committed or the log written, other_threads() lets the rest go on
// between two disk operations, as threads would.
//
// Threads: one.
#pragma once

#include <array>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/random.h"
#include "member/apply/apply_core.h"
#include "member/commit_stage.h"
#include "member/recovery/bootstrap.h"
#include "member/recovery/checkpoint.h"
#include "member/replication_core.h"
#include "member/wal_stage.h"
#include "sim/disk/sim_fs.h"
#include "sim/schedule.h"

namespace cairn::sim {

// Which stages share a thread. Commit and the making of spares always have their own.
enum class Arrangement : uint8_t { kOneThread, kWalApart, kAllApart };

struct MemberOptions {
  member::BootstrapOptions bootstrap;
  member::ApplyOptions apply;
  member::CheckpointOptions checkpoint;  // directory and db are set here
  Arrangement arrangement = Arrangement::kOneThread;
  int64_t delay_mean_ns = 100'000;
  uint64_t overlap_one_in = 4;  // of the disk operations: others go on before it; 0: never
  uint64_t seed = 1;
};

// Who watches the member.
class MemberClient {
 public:
  virtual ~MemberClient() = default;
  // Goes from replication to apply, in the order of indexes.
  virtual void on_entry(const raft::Entry& entry) = 0;
  // The member itself proposes something.
  virtual void on_own_proposal(const member::Proposal& proposal) = 0;
  virtual void on_answer(member::Tag tag, Code code, std::string_view text) = 0;
  // It will never be an entry.
  virtual void on_refused(member::Tag tag, const Error& error) = 0;
  // After the apply stage has done something.
  virtual void on_published() = 0;
  virtual void on_commit_done(const member::CommitJob& job) = 0;
  virtual void on_commit_without_space(const Error& error) = 0;
  virtual void on_checkpoint() = 0;
};

class Member {
 public:
  static Result<std::unique_ptr<Member>> start(SimFileSystem& fs, Schedule& schedule, MemberOptions options,
                                               MemberClient& client);
  ~Member();  // the schedule holds none of its events any more

  void propose(member::Proposal proposal);
  void control(member::ControlRequest request);
  // A clean stop begins; stopped() says when it is done.
  void stop();

  [[nodiscard]] bool stopped() const { return stopped_; }
  // What ended it: a real one would have ended its process.
  [[nodiscard]] const std::optional<Error>& failure() const { return failure_; }

  // Asked before a disk operation of a file or log that is being written.
  void other_threads(const Operation& operation);

  [[nodiscard]] member::ApplyCore& apply() { return *apply_; }
  [[nodiscard]] member::PublishedDomain& published() { return apply_->published(); }
  [[nodiscard]] const member::ReplicationCore& replication() const { return *replication_; }
  [[nodiscard]] const wal::Log& log() const { return wal_stage_->log(); }
  [[nodiscard]] storage::Engine& engine() { return commit_stage_->engine(); }
  [[nodiscard]] uint64_t member_id() const { return member_id_; }
  [[nodiscard]] uint64_t cluster_id() const { return cluster_id_; }
  [[nodiscard]] bool committing() const { return committing_; }
  // In one line, for messages.
  [[nodiscard]] std::string describe() const;

 private:
  Member(SimFileSystem& fs, Schedule& schedule, MemberOptions options, MemberClient& client,
         member::Bootstrapped state);

  void fail_stop(Error error);
  void pump_replication();
  void hand_over(member::ReplicationOutput output);
  void run_wal(member::WalWrite write);
  void pump_apply();
  void flush_apply();
  void run_commit(member::CommitJob job);
  void prepare_spare();
  void step_checkpoint();
  void plan_apply_tick();
  void plan_raft_tick();
  void check_stop();
  void look_again();
  [[nodiscard]] bool quiet() const;
  [[nodiscard]] Worker& wal_worker();
  [[nodiscard]] Worker& apply_worker();

  SimFileSystem& fs_;
  Schedule& schedule_;
  MemberOptions options_;
  MemberClient& client_;
  Random chance_;
  uint64_t member_id_;
  uint64_t cluster_id_;

  std::unique_ptr<member::WalStage> wal_stage_;
  std::unique_ptr<member::ReplicationCore> replication_;
  std::unique_ptr<member::ApplyCore> apply_;
  std::unique_ptr<member::PublishedDomain::Reader> commit_reader_;
  std::unique_ptr<member::CommitStage> commit_stage_;
  std::unique_ptr<member::PublishedDomain::Reader> checkpoint_reader_;
  std::unique_ptr<member::CheckpointWriter> checkpoint_;

  Worker core_;  // replication
  Worker wal_;
  Worker applier_;
  Worker committer_;
  Worker housekeeper_;
  Lane client_to_replication_;
  Lane replication_to_wal_;
  Lane wal_to_replication_;
  Lane replication_to_apply_;
  Lane apply_to_replication_;
  Lane apply_to_commit_;
  Lane commit_to_apply_;
  Lane to_client_;
  Lane housekeeping_;

  std::vector<member::Proposal> proposals_;  // on their way as one batch
  std::deque<member::ApplyBatch> apply_queue_;
  std::optional<int64_t> planned_tick_ns_;
  uint64_t idle_ticks_ = 0;  // one behind the other at one time: the member spins
  int64_t last_tick_ns_ = 0;
  bool raft_tick_planned_ = false;
  bool committing_ = false;
  bool wal_busy_ = false;
  uint64_t depth_ = 0;  // of other_threads()
  uint64_t segment_count_ = 0;
  bool spare_planned_ = false;
  bool checkpoint_planned_ = false;
  bool stopping_ = false;
  bool look_planned_ = false;
  bool final_commit_asked_ = false;
  bool stopped_ = false;
  std::optional<Error> failure_;
};

}  // namespace cairn::sim
