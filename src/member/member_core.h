// member/member_core.h: everything a member decides, as one pure value: events in, effects out.
//
//     events: proposals, controls, WalDone, CommitDone, looks at the disk, a stop, the time
//                              |  step()
//         ReplicationCore -> WalWrite ... WalDone -> ReplicationCore -> ApplyCore -> CommitJob ... CommitDone
//                              v
//     effects: write to the WAL, commit, answer, prepare a spare, step the checkpoint, wake me at, stopped, failed
//
// It owns ReplicationCore and ApplyCore and decides everything between them: what goes to which stage next, how many
// proposals wait, what is applied although the db is full, what is announced, when a commit is tried again, when a
// spare segment and a checkpoint are due, in what order a stop goes. A driver carries the effects out: driver.h on
// threads, sim/member.h as events in virtual time. Effects of different kinds may be carried out in any order and at
// any later time; those of one kind keep their order.
//
// Order of a batch: the storage buffer, then one store of Published (in here: it is memory), then the answers.
//
// Always true: a proposal is refused, or becomes an entry once, or waits here; a commit that failed for want of space
//              is tried again until it succeeds or the member stops.
// Threads:     the core thread's; admit() and next_request_id() may be used by any.
// Source:      docs/architecture.md.
#pragma once

#include <atomic>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "member/apply/apply_core.h"
#include "member/duties.h"
#include "member/installation.h"
#include "member/known_versions.h"
#include "member/log_race.h"
#include "member/no_space_duty.h"
#include "member/removal.h"
#include "member/replication_core.h"
#include "member/stages.h"

namespace cairn::member {

struct MemberOptions {
  ReplicationCore::Options replication;  // its id is the member's
  ApplyOptions apply;
  Announcement::Options announcement;
  LeaseOptions leases;
  AutoCompaction auto_compaction;
  VersionOptions versions;
  NoSpaceOptions no_space;
  uint64_t first_request_id = 1;
  int64_t raft_tick_ns = 10'000'000;
  // Of entries in the log that are not applied yet, and of the log's part in memory: then proposals wait.
  uint64_t unapplied_bytes_max = 128 << 20;
  uint64_t waiting_bytes_max = 256 << 20;  // of the proposals that wait; more are refused
  // So many entries that wait to be applied for so long, and proposals are refused; entries as in etcd.
  uint64_t behind_entries_max = 5000;
  int64_t behind_ns_max = 1'000'000'000;
  int64_t commit_retry_ns = 200'000'000;
  // A stop waits so long for requests under way, once this member does not lead.
  int64_t drain_ns = 500'000'000;
  // A leader whose log has written nothing for so long, though there is something to write, hands over to a member
  // whose log goes on; after ten times as long to any.
  int64_t log_stall_ns = 500'000'000;
  int64_t alarm_interval_ns = 1'000'000'000;
  int64_t rest_after_ns = 5'000'000'000;  // without an applied entry
  int64_t tail_after_ns = 1'000'000'000;  // at rest: then what rest brings is written
  uint64_t feed_bytes_max = 8 << 20;      // to the log at once
  uint64_t segment_bytes = 64'000'000;    // of the log
  uint64_t spare_mark_bytes = 8 << 20;  // more used of a segment: then the next one is made; a small member takes none
};

// What has happened since the last step. The buffers are used again: step() leaves them empty.
struct Events {
  std::vector<Proposal> proposals;     // each admitted before: see MemberCore::admit
  std::vector<Proposal> conf_changes;  // each becomes an entry when those before it are decided
  std::vector<ControlRequest> controls;
  std::vector<LeaseRequest> leases;
  std::vector<WalDone> wal;  // in the order of the writes
  std::vector<LogReadDone> log_reads;
  std::optional<CommitDone> commit;
  std::optional<InstallDone> installed;
  std::optional<HashDone> hash;
  std::vector<uint32_t> alarms;     // this member's, to be raised: etcdserverpb.AlarmType
  std::optional<bool> disk_is_low;  // what a look at the disk found
  bool stop = false;
  std::vector<raft::Message> messages;   // of peers, in the order of arrival
  std::vector<PeerReport> peer_reports;  // after the messages that arrived before
  std::vector<TransferRequest> transfers;
  std::optional<VersionReport> versions;
  // This is only what became of the writes that the step before asked for. What came meanwhile comes with the next one.
  bool is_interim = false;

  [[nodiscard]] bool empty() const {
    return proposals.empty() && conf_changes.empty() && controls.empty() && leases.empty() && wal.empty() &&
           log_reads.empty() && !commit && !installed && !hash && alarms.empty() && !disk_is_low && !stop &&
           messages.empty() && peer_reports.empty() && transfers.empty() && !versions;
  }
  void clear();
};

// How a member ends.
enum class Ending : uint8_t {
  kNone,
  kSaved,   // all is in the db: save a last checkpoint, if it does not take long, then close the engine
  kNoRoom,  // the db has no room for all; the WAL has it. The engine is not closed
};

// What is to be done. Valid until the next step; the driver takes out what it needs for longer.
struct Effects {
  std::vector<WalWrite> wal;  // one behind the other; each is reported as a WalDone
  Answers answers;
  std::vector<Refused> refused;         // answered, too: these will never be entries
  std::vector<LeaseChange> leases;      // what was applied, for who counts
  std::vector<LogRead> log_reads;       // each is reported as a LogReadDone; in any order
  std::optional<CommitJob> commit;      // reported as a CommitDone
  std::optional<InstallOrder> install;  // reported as an InstallDone; never beside a commit
  std::optional<HashOrder> hash;        // reported as a HashDone
  bool prepare_spare = false;
  bool give_spare_back = false;  // it is of no use for a while
  bool remove_released = false;  // WAL segments that nobody needs: to be removed, or to become the spare
  bool step_checkpoint = false;  // the db has changed: a checkpoint may be due
  bool is_at_rest = false;       // with it: nothing has happened for a while, so fewer changes are worth one
  bool look_at_disk = false;     // reported as Events::disk_is_low when it is, or has ceased to be
  bool give_up_reserve = false;
  bool db_is_full = false;              // as it is now: a commit has found no room, and none has succeeded since
  bool has_news = false;                // a revision is published that was not: told to who watches, before the answers
  bool is_ready = false;                // the cluster knows the member; once
  std::optional<int64_t> wake_at_ns;    // a step is due then; nullopt: nothing but events
  Ending ending = Ending::kNone;        // nothing comes after it
  std::optional<Error> failed;          // the member cannot go on; nothing comes after it
  std::vector<raft::Message> messages;  // to peers, at once; those that wait for a WAL write come behind its WalDone
  bool is_removed = false;              // this member is of its cluster no more: it is to be stopped, after a moment
  std::optional<VersionQuestion> ask_versions;  // reported as Events::versions, perhaps
  std::vector<NodeId> redial;        // their connections may be dead: a new one is to be tried at once, and reported on
  std::vector<Index> unused_images;  // of snapshots that have come: the files are to be removed, if they are there

  void clear();
};

// Sees what happens inside, for simulators.
class MemberObserver {
 public:
  virtual ~MemberObserver() = default;
  // These go from replication to apply, in the order of indexes.
  virtual void on_committed(const std::vector<raft::Entry>& entries) = 0;
  // The member itself proposes something.
  virtual void on_own_proposal(const Proposal& proposal) = 0;
};

class MemberCore {
 public:
  // `log`, `start` and `state` are what bootstrap() found. `observer` may be null.
  MemberCore(const MemberOptions& options, RaftLog log, const raft::StartState& start, AppliedState state,
             int64_t now_ns, MemberObserver* observer = nullptr);

  // Takes the events, decides, and says what is to be done. Not after an ending or a failure. `now_ns` does not fall.
  // The first step may come with no event.
  Effects& step(Events& events, int64_t now_ns);

  // Whether proposals of so many bytes may be handed in; false: refuse them with request_too_many_requests(), there is
  // no room in the queue. What is admitted must come with an event.
  [[nodiscard]] bool admit(uint64_t bytes);
  [[nodiscard]] static uint64_t bytes_of(const std::vector<Proposal>& proposals);
  // Of proposals that were admitted and have not reached the log.
  [[nodiscard]] uint64_t waiting_bytes() const { return waiting_bytes_.load(std::memory_order_relaxed); }
  [[nodiscard]] uint64_t next_request_id() { return request_id_.fetch_add(1, std::memory_order_relaxed); }

  [[nodiscard]] const ReplicationCore& replication() const { return replication_; }
  [[nodiscard]] const ApplyCore& apply() const { return apply_; }
  [[nodiscard]] const LeaseDuty& leases() const { return duties_.leases(); }
  [[nodiscard]] PublishedDomain& published() { return apply_.published(); }
  [[nodiscard]] bool is_stopping() const { return phase_ != Phase::kRuns; }
  // Entries wait because both buffers are full.
  [[nodiscard]] bool is_stalled() const { return !apply_queue_.empty(); }
  [[nodiscard]] bool holds_proposals() const { return !waiting_.empty(); }
  [[nodiscard]] size_t waiting_count() const { return waiting_.size(); }
  // More is applied than the buffers are to hold, since the db takes nothing.
  [[nodiscard]] bool is_beyond_buffers() const { return is_beyond_buffers_; }
  // In one line, for messages.
  [[nodiscard]] std::string describe() const;

 private:
  // A member with peers gives leadership away before it stops, and then waits for what its clients have asked for.
  enum class Phase : uint8_t { kRuns, kHandsOver, kDrains, kStops, kEnded };
  struct Waiting {
    Proposal proposal;
    int64_t since_ns = 0;
  };

  // what comes in
  void take_wal_done(WalDone done);
  void take_commit_done(const CommitDone& done);
  void take_installed(InstallDone done);
  void take_look(bool disk_is_low);
  void take_proposals(std::vector<Proposal>& proposals);
  void take_conf_change(Proposal change);
  void take_control(const ControlRequest& request);
  void take_lease_request(const LeaseRequest& request);
  void take_from_peers(Events& events);
  [[nodiscard]] bool takes_requests() const { return phase_ <= Phase::kHandsOver && !was_removed_; }
  void refuse_what_waited_too_long();
  void leave_to_whose_log_works();
  void tell_progress(Tag tag);
  void take_ticks();
  void consider_rest();
  void consider_spare(const WalDone& done);
  void give_spare_back();
  void consider_tail();
  [[nodiscard]] int64_t tail_due_ns() const { return busy_at_ns_ + options_.rest_after_ns + options_.tail_after_ns; }
  [[nodiscard]] uint64_t next_spare_due_bytes() const;
  // what goes on inside
  void pump();
  bool move_replication();
  bool move_apply();
  bool lets_what_is_ready_leave_first(const ApplyBatch& batch);
  void begin_installation(const WalWrite& write);
  void give_images_up();
  void cut_apply_queue();
  void tell_leader_state();
  bool order_installation();
  bool feed_log();
  bool campaign_alone();
  bool announce();
  void tell_leader();
  void do_duties(bool may_ask);
  void note_leadership();
  void refuse_lease_requests();
  void ask_for_versions();
  [[nodiscard]] MembersVersions members_versions() const;
  [[nodiscard]] const MembersVersions& recent_versions();
  [[nodiscard]] std::optional<Index> propose_as_leader(std::vector<std::string> entries);
  [[nodiscard]] LeaseDuty::Scene scene();
  [[nodiscard]] bool goes_on_when_full();
  [[nodiscard]] bool is_far_behind();
  [[nodiscard]] bool log_has_room(uint64_t beyond = 0) const;
  void hand_to_log(std::vector<Proposal> proposals, uint64_t bytes);
  void raise_alarm(uint32_t type);
  void consider_alarm();
  [[nodiscard]] bool has_own_no_space() const;
  [[nodiscard]] std::optional<uint64_t> no_space_to_withdraw() const;
  void propose_own(std::string bytes);
  // how it ends
  void begin_stop();
  void go_on_with_leaving();
  void tell_handing_over();
  void note_removal();
  void go_on_with_stop();
  void refuse_what_waits();
  [[nodiscard]] bool is_quiet() const;
  void check(const Status& status);
  // what comes next
  void plan_wake_up();
  void consider_news();

  const MemberOptions options_;
  MemberObserver* const observer_;
  Effects effects_;
  ReplicationCore replication_;
  ApplyCore apply_;
  KnownVersions versions_;
  MembersVersions recent_versions_;  // of these members, at this time
  std::shared_ptr<const cluster::Membership> versions_of_;
  int64_t versions_ns_ = 0;
  Duties duties_;
  NoSpaceDuty no_space_;
  Removal removal_;
  bool was_removed_ = false;  // and knows
  bool disk_is_low_ = false;  // as the last look found it
  std::atomic<uint64_t> request_id_;
  std::atomic<uint64_t> waiting_bytes_{0};  // of `waiting_`, and of those on their way here

  Phase phase_ = Phase::kRuns;
  int64_t told_revision_ = 0;
  int64_t now_ns_;
  int64_t next_raft_tick_ns_;
  std::deque<Waiting> waiting_;         // for the log to have room
  std::deque<ApplyBatch> apply_queue_;  // for a buffer to be free
  uint64_t wal_in_flight_ = 0;          // writes
  uint64_t wal_bytes_in_flight_ = 0;
  int64_t wal_moved_ns_ = 0;  // when a write was done last, or given to the log while it had nothing to do
  int64_t left_ns_ = INT64_MIN;
  LogRace log_race_;
  int64_t behind_since_ns_ = 0;  // since when too many entries wait to be applied; 0: they do not
  bool is_announced_ = false;
  int64_t announced_ns_ = 0;  // when the last of it was proposed
  int64_t leaves_until_ns_ = 0;
  NodeId successor_ = raft::kNoNode;  // who is to lead once this member has stopped
  int64_t hands_over_since_ns_ = 0;

  // the db
  CommitJob running_job_;
  bool job_is_out_ = false;             // a CommitDone will come
  std::optional<int64_t> retry_at_ns_;  // the job is run again
  Installation installation_;
  std::vector<Index> images_;  // that have come, and may not be needed
  bool db_is_full_ = false;
  bool gives_db_up_ = false;  // no room, and no time to wait for it
  bool is_beyond_buffers_ = false;
  uint64_t applies_up_to_bytes_ = 0;  // while a db that was found full takes nothing; 0: as far as there are buffers

  NodeId leader_told_ = raft::kNoNode;  // the log has its election

  // rest
  Index busy_index_;             // what was applied when something happened last
  int64_t busy_at_ns_;           // and when that was
  std::optional<Index> rested_;  // what was applied when it came to rest last

  // the log
  struct Segment {
    uint64_t sequence = UINT64_MAX;
    uint64_t used_bytes = 0;
    uint64_t spare_due_bytes = 0;  // used: then its successor is asked for; UINT64_MAX: it has been
    bool has_given_spare_back = false;
    bool has_given_tail_back = false;
  };
  uint64_t segment_count_ = 0;
  Segment segment_;                               // the last one
  std::map<uint32_t, int64_t> alarms_raised_ns_;  // by type
  uint64_t steps_ = 0;
  uint64_t short_step_ = 0;  // the last that ended before what it might have applied
};

}  // namespace cairn::member
