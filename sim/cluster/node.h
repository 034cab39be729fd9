// sim/cluster/node.h: one machine of a cluster: its disk, its clock, and the process that runs on it or not.
//
// The machine has a Schedule of its own, whose time is the machine's: it runs a little faster or slower than the
// world's, and began elsewhere. When the process dies, this schedule is emptied and nothing else. The wall clock of the
// machine may jump; the monotonic one only stands still.
//
// Threads: one.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/random.h"
#include "sim/directory.h"
#include "sim/disk/sim_fs.h"
#include "sim/member.h"
#include "sim/schedule.h"
#include "sim/step_kinds.h"

namespace cairn::sim {

class ClusterNode;

// Sees what all nodes do.
class NodeHost {
 public:
  virtual ~NodeHost() = default;
  virtual void on_messages(ClusterNode& node, std::vector<raft::Message>& messages) = 0;
  virtual void on_redial(ClusterNode& node, const std::vector<NodeId>& members) = 0;
  virtual void on_question(ClusterNode& node, const member::VersionQuestion& question) = 0;
  virtual void on_committed(ClusterNode& node, const std::vector<raft::Entry>& entries) = 0;
  virtual void on_own_proposal(ClusterNode& node, const member::Proposal& proposal) = 0;
  virtual void on_answer(ClusterNode& node, member::Tag tag, Code code, std::string_view text) = 0;
  virtual void on_refused(ClusterNode& node, member::Tag tag, const Error& error) = 0;
  // A leader's snapshot takes the place of its state in the step that begins now.
  virtual void on_installed(ClusterNode& node, Index index) = 0;
  virtual void on_step(ClusterNode& node) = 0;
  // In a step: it has published a revision.
  virtual void on_news(ClusterNode& node) = 0;
  // It has applied that it is no member any more: the server would end it after a moment. At each step from then on.
  virtual void on_removed(ClusterNode& node) = 0;
  // What becomes of a disk operation of the process.
  virtual Fault on_operation(ClusterNode& node, const Operation& operation) = 0;
};

// The machine's monotonic time, from the world's.
class MachineClock {
 public:
  MachineClock(int64_t world_ns, int64_t local_ns, int64_t drift_ppm)
      : world_ns_(world_ns), local_ns_(local_ns), rate_(kMillion + drift_ppm) {}
  [[nodiscard]] int64_t local(int64_t world_ns) const {
    return local_ns_ + scale(world_ns - world_ns_, rate_, kMillion);
  }
  // When the machine's clock shows at least `local_ns`.
  [[nodiscard]] int64_t world(int64_t local_ns) const {
    return world_ns_ + scale(local_ns - local_ns_ + 1, kMillion, rate_) + 1;
  }

 private:
  static constexpr int64_t kMillion = 1'000'000;
  static int64_t scale(int64_t ns, int64_t by, int64_t of) { return ns / of * by + ns % of * by / of; }

  int64_t world_ns_;
  int64_t local_ns_;
  int64_t rate_;
};

class ClusterNode final : private MemberClient {
 public:
  // Whether there is a process, or will be one again.
  enum class Standing : uint8_t {
    kReserved,  // its id was asked for, and nobody has started it
    kServes,
    kEnded,  // it was removed, and has ended for good
    kLost    // its disk is lost
  };
  struct Options {
    size_t place = 0;    // among the members
    size_t address = 0;  // of the machine: one that is replaced has its successor's
    MemberOptions member;
    int64_t drift_ppm = 0;
    uint64_t seed = 1;
  };
  // How long operations take.
  struct Disk {
    int64_t write_ns = 20'000;
    int64_t sync_ns = 500'000;
    int64_t stalled_until_ns = 0;  // of the machine's time: nothing ends before
  };

  ClusterNode(Options options, int64_t world_ns, NodeHost& host);
  ~ClusterNode() override;

  // --- the process

  // Starts the process on what the disk holds.
  //   errors: as of the start; kInternal: it was told to be another member. The process is not there then
  Status start(int64_t world_ns);
  // The process ends here, the kernel's pages stay; also to be called when is_dead().
  void kill();
  // The machine is off and on again: what was not synced may be gone.
  void cut_power(Damage damage);
  // All that its disk held is gone. needs: no process
  void wipe();
  [[nodiscard]] bool has_data();
  // It ended by itself, or the power went in one of its operations.
  [[nodiscard]] bool is_dead() const { return member_ && (fs_.crashed() || member_->failure()); }
  [[nodiscard]] bool is_running() const { return member_ != nullptr; }
  // The machine is on, so its kernel refuses connections where no process listens.
  [[nodiscard]] bool is_on() const { return is_on_; }
  [[nodiscard]] uint64_t starts() const { return starts_; }
  [[nodiscard]] int64_t started_ns() const { return started_ns_; }  // of the world's time, the last one
  [[nodiscard]] Standing standing() const { return standing_; }
  void set_standing(Standing standing) { standing_ = standing; }

  // --- time

  // When the next thing happens here, in the world's time; nullopt: nothing will.
  [[nodiscard]] std::optional<int64_t> next_ns() const;
  void step(int64_t world_ns);
  // Nothing happens here before this moment of the world's time.
  void pause_until(int64_t world_ns) { paused_until_ns_ = std::max(paused_until_ns_, world_ns); }
  // What the machine takes for the time of day.
  [[nodiscard]] int64_t wall_ns(int64_t world_ns) const;
  [[nodiscard]] bool is_paused(int64_t world_ns) const { return world_ns < paused_until_ns_; }
  [[nodiscard]] int64_t paused_until_ns() const { return paused_until_ns_; }
  void jump_wall_clock(int64_t by_ns) { wall_offset_ns_ += by_ns; }

  // --- what comes in, at this moment of the world's time

  void receive(raft::Message message, int64_t world_ns);
  void report(const member::PeerReport& report, int64_t world_ns);
  void tell_versions(member::VersionReport report, int64_t world_ns);
  void transfer(const member::TransferRequest& request, int64_t world_ns);
  void propose(member::Proposal proposal, int64_t world_ns);
  void change_members(member::Proposal change, int64_t world_ns);
  void control(member::ControlRequest request, int64_t world_ns);
  void ask(const member::LeaseRequest& request, int64_t world_ns);
  void stop(int64_t world_ns);
  void save_image(Index index, std::string bytes, std::function<void(const Status&)> done, int64_t world_ns);

  // --- what is there

  [[nodiscard]] size_t place() const { return options_.place; }
  [[nodiscard]] size_t address() const { return options_.address; }
  [[nodiscard]] const std::string& name() const { return options_.member.bootstrap.name; }
  [[nodiscard]] uint64_t member_id() const { return member_id_; }
  void set_member_id(uint64_t id) { member_id_ = id; }
  [[nodiscard]] Member& member() { return *member_; }
  [[nodiscard]] const raft::Core& raft() { return member_->core().replication().raft(); }
  // For reads between two events.
  [[nodiscard]] member::PublishedDomain::Reader& reader() { return *reader_; }
  [[nodiscard]] SimFileSystem& fs() { return fs_; }
  [[nodiscard]] Disk& disk() { return disk_; }
  [[nodiscard]] Schedule& schedule() { return schedule_; }
  [[nodiscard]] Directories directories() const;
  [[nodiscard]] const StepKinds& kinds() const { return kinds_; }
  // What the member is told to be from its next start on.
  [[nodiscard]] MemberOptions& member_options() { return options_.member; }

 private:
  void arrive(int64_t world_ns) { schedule_.advance_to(clock_.local(world_ns)); }
  void end_process();
  [[nodiscard]] int64_t disk_ns(const Operation& operation);

  void on_committed(const std::vector<raft::Entry>& entries) override { host_.on_committed(*this, entries); }
  void on_own_proposal(const member::Proposal& proposal) override { host_.on_own_proposal(*this, proposal); }
  void on_answer(member::Tag tag, Code code, std::string_view text) override {
    host_.on_answer(*this, tag, code, text);
  }
  void on_refused(member::Tag tag, const Error& error) override { host_.on_refused(*this, tag, error); }
  void on_events(const member::Events& events) override {
    kinds_.count(events);
    if (events.installed && events.installed->status) host_.on_installed(*this, events.installed->state->applied);
  }
  void on_effects(const member::Effects& effects) override {
    kinds_.count(effects);
    if (effects.is_removed) host_.on_removed(*this);
  }
  void on_step() override { host_.on_step(*this); }
  void on_news() override {
    if (member_) host_.on_news(*this);
  }
  void on_ready() override {}
  void on_commit_done(const member::CommitJob&) override {}
  void on_commit_without_space(const Error&) override {}
  void on_checkpoint() override {}
  void on_compaction_hash(const member::HashOrder&, uint32_t) override {}
  void on_messages(std::vector<raft::Message>& messages) override { host_.on_messages(*this, messages); }
  void on_redial(const std::vector<NodeId>& members) override { host_.on_redial(*this, members); }
  void on_question(const member::VersionQuestion& question) override { host_.on_question(*this, question); }

  Options options_;
  NodeHost& host_;
  Random chance_;
  MachineClock clock_;
  Schedule schedule_;
  SimFileSystem fs_;
  Disk disk_;
  StepKinds kinds_;
  uint64_t member_id_ = 0;
  uint64_t starts_ = 0;
  int64_t started_ns_ = 0;
  Standing standing_ = Standing::kServes;
  bool is_on_ = true;
  int64_t paused_until_ns_ = 0;
  mutable int64_t next_local_ns_ = 0;  // as it was last asked for, and what that is in the world's time
  mutable int64_t next_world_ns_ = 0;
  int64_t wall_offset_ns_ = 0;
  std::unique_ptr<Member> member_;
  std::unique_ptr<member::PublishedDomain::Reader> reader_;
};

// A random place, of one that serves if there is any.
[[nodiscard]] size_t any_that_serves(const std::vector<std::unique_ptr<ClusterNode>>& nodes, Random& chance);
// One that runs now, of those; nullptr if none does.
[[nodiscard]] ClusterNode* any_that_answers(const std::vector<std::unique_ptr<ClusterNode>>& nodes, Random& chance);

// The place of the leader of the newest term, among those that run.
[[nodiscard]] std::optional<size_t> leader_of(const std::vector<std::unique_ptr<ClusterNode>>& nodes);

}  // namespace cairn::sim
