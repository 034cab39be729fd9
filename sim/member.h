// sim/member.h: a member made of the real MemberCore and stages, in virtual time and on a simulated disk.
//
// MemberCore, WalStage, CommitStage and Housekeeper are those that member/driver.h runs on its threads. Here each
// effect of MemberCore is an event with a random delay, and so is its result. Effects of one kind keep their order;
// different kinds may overtake each other. While the file is committed or the log written, other_threads() lets the
// rest go on between two disk operations, as threads would. Where disk operations take time (MemberOptions::disk_ns),
// the stages are fibers that wait for them, and the core goes on with ticks and messages meanwhile.
//
// Threads: one.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/random.h"
#include "member/commit_stage.h"
#include "member/compaction_hasher.h"
#include "member/housekeeper.h"
#include "member/installer.h"
#include "member/member_core.h"
#include "member/recovery/bootstrap.h"
#include "member/wal_stage.h"
#include "sim/disk/sim_fs.h"
#include "sim/schedule.h"

namespace cairn::sim {

// Where the log is written: in line by the core's thread, or by one of its own. Commits and housekeeping always have
// theirs.
enum class Arrangement : uint8_t { kWalInLine, kWalApart };

struct MemberOptions {
  member::BootstrapOptions bootstrap;
  member::MemberOptions core;
  member::CheckpointOptions checkpoint;  // the directory is set here
  member::DiskGuard::Options disk;       // directories are set here
  Arrangement arrangement = Arrangement::kWalInLine;
  int64_t delay_mean_ns = 100'000;
  uint64_t overlap_one_in = 4;  // of the disk operations: others go on before it; 0: never
  // How long an operation takes. Empty: no time at all.
  std::function<int64_t(const Operation&)> disk_ns;
  uint64_t seed = 1;
};

// Watches the member and, as an observer, its core.
class MemberClient : public member::MemberObserver {
 public:
  virtual void on_answer(member::Tag tag, Code code, std::string_view text) = 0;
  // It will never be an entry.
  virtual void on_refused(member::Tag tag, const Error& error) = 0;
  // Around each step: what goes in, what comes out, and behind what comes of it at once.
  virtual void on_events(const member::Events& events) = 0;
  virtual void on_effects(const member::Effects& effects) = 0;
  // After each step; and in it, when it has published a revision, before its answers leave.
  virtual void on_step() = 0;
  virtual void on_news() = 0;
  virtual void on_ready() = 0;
  virtual void on_commit_done(const member::CommitJob& job) = 0;
  virtual void on_commit_without_space(const Error& error) = 0;
  virtual void on_checkpoint() = 0;
  // What a compaction covers was hashed.
  virtual void on_compaction_hash(const member::HashOrder& order, uint32_t hash) = 0;
  // To other members. They may be taken.
  virtual void on_messages([[maybe_unused]] std::vector<raft::Message>& messages) {}
  // The connections to these may be dead: each is to be tried at once, and reported on.
  virtual void on_redial([[maybe_unused]] const std::vector<NodeId>& members) {}
  // Others are to be asked for their versions; tell_versions() brings what they say.
  virtual void on_question([[maybe_unused]] const member::VersionQuestion& question) {}
};

class Member {
 public:
  static Result<std::unique_ptr<Member>> start(SimFileSystem& fs, Schedule& schedule, MemberOptions options,
                                               MemberClient& client);
  ~Member();  // the schedule holds none of its events any more

  void propose(member::Proposal proposal);
  void change_members(member::Proposal change);
  void control(member::ControlRequest request);
  void raise_alarm(uint32_t type);
  void ask(const member::LeaseRequest& request);
  // From another member, and about one. The core's next step takes it.
  void receive(raft::Message message);
  void report(const member::PeerReport& report);
  void tell_versions(member::VersionReport report);
  void transfer(const member::TransferRequest& request);
  // The image of a snapshot has come. It is put on the disk as the transport does it; `done` hears how that went, if
  // the process lives so long.
  void save_image(Index index, std::string bytes, std::function<void(const Status&)> done);
  // The process dies here: the disk is out of reach, and stages end in the middle of what they do. After this the
  // member can only be destroyed.
  //   needs: not called by one of its stages
  void die();
  // A stop begins; stopped() says when it is done and all answers are there, ending() how it went.
  void stop();

  [[nodiscard]] bool stopped() const { return is_closed_ && core_to_client_.in_flight() == 0; }
  [[nodiscard]] member::Ending ending() const { return ending_; }
  // The error that ended it; a real member would have ended its process.
  [[nodiscard]] const std::optional<Error>& failure() const { return failure_; }

  // Asked before a disk operation of a file or log that is being written.
  void other_threads(const Operation& operation);

  [[nodiscard]] member::MemberCore& core() { return *member_core_; }
  [[nodiscard]] const member::ApplyCore& apply() const { return member_core_->apply(); }
  [[nodiscard]] member::PublishedDomain& published() { return member_core_->published(); }
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
  // An event for the core, by way of `lane`.
  template <class Put>
  void tell_core(Lane& lane, Put put);
  void step();
  void carry_out(member::Effects& effects);
  void answer(member::Effects& effects);
  void write(std::vector<member::WalWrite>& writes);
  void write_arrived();
  std::optional<std::vector<member::WalDone>> run_wal(std::vector<member::WalWrite> writes);
  void run_commit(const member::CommitJob& job);
  void run_install(const member::InstallOrder& order);
  void read_log(const member::LogRead& read);
  void find_in_log(const member::LogRead& read);
  void keep_house();
  void begin_hash(const member::HashOrder& order);
  void go_on_with_hash(const member::HashOrder& order);
  void plan_step(std::optional<int64_t> wake_at_ns);
  void take_time(const Operation& operation);
  void wake_core();
  [[nodiscard]] Status write_image(Index index, std::string_view bytes);
  void finish_stop();

  SimFileSystem& fs_;
  Schedule& schedule_;
  MemberOptions options_;
  MemberClient& client_;
  Random chance_;
  uint64_t member_id_;
  uint64_t cluster_id_;

  std::unique_ptr<member::WalStage> wal_stage_;
  std::unique_ptr<member::MemberCore> member_core_;
  std::unique_ptr<member::PublishedDomain::Reader> commit_reader_;
  std::unique_ptr<member::CommitStage> commit_stage_;
  std::unique_ptr<member::Installer> installer_;
  std::unique_ptr<member::PublishedDomain::Reader> housekeeper_reader_;
  std::unique_ptr<member::Housekeeper> housekeeper_;
  std::unique_ptr<member::PublishedDomain::Reader> hash_reader_;
  std::unique_ptr<member::CompactionHasher> hasher_;  // while one is under way

  Worker core_;
  Worker wal_;
  Worker committer_;
  Worker house_;
  Worker receiver_;  // of images
  Lane client_to_core_;
  Lane core_to_wal_;
  Lane wal_to_core_;
  Lane core_to_commit_;
  Lane commit_to_core_;
  Lane core_to_client_;
  Lane core_to_house_;
  Lane house_to_core_;
  Lane log_readers_;  // of whom several work at a time
  Lane hash_lane_;    // to who hashes, from slice to slice, and back

  member::Events arrived_;  // while the core was busy; its next step takes all of it, as the driver's does
  member::Events events_;
  std::vector<member::WalWrite> writes_;     // that have arrived where the log is written apart
  member::Housekeeper::Orders orders_;       // that have arrived
  std::vector<member::Proposal> proposals_;  // on their way as one batch
  std::optional<int64_t> planned_step_ns_;
  std::optional<int64_t> planned_slice_ns_;
  uint64_t idle_steps_ = 0;  // one behind the other at one time: the member spins
  int64_t last_idle_step_ns_ = 0;
  bool committing_ = false;
  bool wal_busy_ = false;
  uint64_t depth_ = 0;  // of other_threads()
  uint64_t images_ = 0;
  uint64_t checkpoints_seen_ = 0;
  member::Ending ending_ = member::Ending::kNone;
  bool is_closed_ = false;  // what comes after the ending is done
  std::optional<Error> failure_;
};

}  // namespace cairn::sim
