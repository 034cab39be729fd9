// member/testing/inline_member.h: MemberCore with every effect carried out on the spot, in one thread.
//
// Time stands still but for what the test adds to it. The housekeeper's effects are only counted.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "env/fs.h"
#include "member/commit_stage.h"
#include "member/installer.h"
#include "member/log_service.h"
#include "member/member_core.h"
#include "member/recovery/bootstrap.h"
#include "member/wal_stage.h"

namespace cairn::member::testing {

class InlineMember {
 public:
  // Starts and lets it come to rest.
  InlineMember(env::FileSystem& fs, const BootstrapOptions& bootstrap_options, MemberOptions options,
               int64_t now_ns = 1)
      : now_ns_(now_ns) {
    auto opened = bootstrap(fs, bootstrap_options);
    CAIRN_ASSERT(opened);
    checkpoint_base_ = opened->checkpoint;
    checkpoint_directory_ = opened->checkpoint_directory;
    wal_ = std::make_unique<WalStage>(fs, std::move(opened->log), opened->snap_directory);
    options.replication.raft.id = NodeId(opened->member_id);
    options.apply.member_id = opened->member_id;
    core_ = std::make_unique<MemberCore>(options, std::move(opened->raft_log), opened->start, std::move(opened->state),
                                         now_ns_);
    reader_ = core_->published().register_thread();
    commit_reader_ = core_->published().register_thread();
    commit_ = std::make_unique<CommitStage>(std::move(opened->engine), *commit_reader_);
    installer_ =
        std::make_unique<Installer>(fs, Installer::Options{.snap_directory = opened->snap_directory,
                                                           .checkpoint_directory = opened->checkpoint_directory,
                                                           .open = std::move(opened->open_db),
                                                           .cluster_id = opened->cluster_id});
    id_ = NodeId(opened->member_id);
    pump();
  }

  // Steps until nothing is left to be done at this moment.
  void pump() {
    while (ending_ == Ending::kNone && !failed_) {
      if (!log_waits_) write_log();
      take(core_->step(events_, now_ns_));
      if (!events_.empty() || (wake_at_ns_ && *wake_at_ns_ <= now_ns_)) continue;
      if (install_ && !installs_wait_) {
        events_.installed = installer_->run(*std::exchange(install_, std::nullopt), *commit_);
        continue;
      }
      if (!job_ || commits_wait_) return;
      const CommitJob job = *std::exchange(job_, std::nullopt);
      if (const auto before = std::exchange(before_commit_, nullptr)) before();
      ++commits_;
      events_.commit = commit_->run(job);
    }
  }
  void propose(std::vector<Proposal> proposals) {
    if (!core_->admit(MemberCore::bytes_of(proposals))) {
      ++turned_away_;
      return;
    }
    events_.proposals = std::move(proposals);
    pump();
  }
  void ask(const LeaseRequest& request) {
    events_.leases.push_back(request);
    pump();
  }
  void wait(int64_t ns) {
    now_ns_ += ns;
    pump();
  }
  Ending stop() {
    events_.stop = true;
    pump();
    return ending_;
  }

  [[nodiscard]] const ApplyCore& apply() const { return core_->apply(); }

  int64_t now_ns_;
  CheckpointBase checkpoint_base_;  // as found, as is the next one
  std::string checkpoint_directory_;
  std::unique_ptr<WalStage> wal_;
  std::unique_ptr<MemberCore> core_;
  std::unique_ptr<PublishedDomain::Reader> reader_;
  std::unique_ptr<PublishedDomain::Reader> commit_reader_;
  std::unique_ptr<CommitStage> commit_;
  bool commits_wait_ = false;            // none is run
  bool log_waits_ = false;               // nothing is written to it
  bool installs_wait_ = false;           // no snapshot is put in the db's place
  bool log_reads_wait_ = false;          // nor is the log read for others
  uint64_t log_takes_ = UINT64_MAX;      // so many writes, then it waits
  std::function<void()> before_commit_;  // between the next commit's beginning and its run

  std::vector<Error> answered_;  // in order; kOk with the message
  std::vector<Error> refused_;
  std::vector<raft::Message> outbox_;  // to other members
  NodeId id_;
  int log_reads_ = 0;
  int commits_ = 0;
  int snapshots_ = 0;
  int turned_away_ = 0;
  int ready_ = 0;
  int spares_ = 0;
  int spares_given_back_ = 0;
  std::vector<Index> unused_images_;
  int tails_given_back_ = 0;
  int checkpoints_ = 0;
  int rests_ = 0;
  int looks_ = 0;
  int reserves_ = 0;
  std::optional<int64_t> wake_at_ns_;
  std::optional<Error> failed_;
  Ending ending_ = Ending::kNone;

 private:
  void write_log() {
    for (WalWrite& write : std::exchange(writes_, {})) {
      if (log_takes_ == 0) {
        writes_.push_back(std::move(write));
        continue;
      }
      --log_takes_;
      auto done = wal_->run(std::move(write));
      if (!done) {
        failed_ = done.error();
        return;
      }
      events_.wal.push_back(*std::move(done));
    }
  }
  void read_log_again() {
    for (const LogRead& read : std::exchange(reads_, {})) {
      ++log_reads_;
      events_.log_reads.push_back(read_log(*wal_->log().index(), read));
    }
  }
  void take(Effects& effects) {
    effects.answers.hand_out([this](unsigned, const AnswerBatch& batch) {
      for (const Answer& one : batch.answers) answered_.push_back({one.code, std::string(batch.text(one))});
    });
    for (const Refused& one : effects.refused) refused_.push_back(one.error);
    for (WalWrite& write : effects.wal) {
      snapshots_ += write.snapshot ? 1 : 0;
      tails_given_back_ += write.give_tail_back ? 1 : 0;
      writes_.push_back(std::move(write));
    }
    if (!log_waits_) write_log();
    if (effects.commit) job_ = std::move(effects.commit);
    if (effects.install) install_ = std::move(effects.install);
    for (raft::Message& message : effects.messages) outbox_.push_back(std::move(message));
    for (const LogRead& read : effects.log_reads) reads_.push_back(read);
    if (!log_reads_wait_) read_log_again();
    ready_ += effects.is_ready ? 1 : 0;
    spares_ += effects.prepare_spare ? 1 : 0;
    spares_given_back_ += effects.give_spare_back ? 1 : 0;
    checkpoints_ += effects.step_checkpoint ? 1 : 0;
    rests_ += effects.is_at_rest ? 1 : 0;
    for (const Index index : effects.unused_images) unused_images_.push_back(index);
    looks_ += effects.look_at_disk ? 1 : 0;
    reserves_ += effects.give_up_reserve ? 1 : 0;
    wake_at_ns_ = effects.wake_at_ns;
    if (effects.failed) failed_ = effects.failed;
    ending_ = effects.ending;
  }

 public:
  Events events_;

 private:
  std::unique_ptr<Installer> installer_;
  std::vector<WalWrite> writes_;
  std::vector<LogRead> reads_;
  std::optional<CommitJob> job_;
  std::optional<InstallOrder> install_;
};

}  // namespace cairn::member::testing
