// sim/life.h: one life of a member, from a seed: requests of all kinds, crashes, faults, restarts, and all checks.
//
// A life is a row of rounds. A round starts the member on the disk's content, lets clients send requests, and ends with
// a crash of the machine, a death of the process, a fault that the member must not survive, or a clean stop. Between
// rounds the directory is checked from outside (sim/directory.h).
//
// What is checked:
//   - The log: an entry handed to the apply stage never changes and is never lost. The log holds only requested
//     entries, none twice and none that was refused.
//   - Answers: each equals the model's answer for the entry, at its revision.
//   - State after a start and at the end of a round: keys, leases with their keys, alarms, members equal the model's.
//   - Watchers get etcd's guarantees, over all rounds.
//   - Reads at old and new revisions, hashes and images of the file, begun and interrupted at any moment.
//   - A member without faults answers everything and comes to rest.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/fault.h"
#include "sim/coverage.h"
#include "sim/directory.h"
#include "sim/disk/sim_fs.h"
#include "sim/leases.h"
#include "sim/member.h"
#include "sim/model.h"
#include "sim/reads.h"
#include "sim/requests.h"
#include "sim/schedule.h"
#include "sim/step_kinds.h"
#include "sim/watches.h"

namespace cairn::sim {

// "./dev sim --seed 0x51f3"
[[nodiscard]] std::string replay_command(uint64_t seed);

class Life final : private MemberClient {
 public:
  struct Options {
    uint64_t seed = 1;
    bool verbose = false;
  };
  explicit Life(const Options& options);
  ~Life() override;

  // "": every check passed. Else the first failure.
  [[nodiscard]] const std::string& run();
  [[nodiscard]] const Coverage& coverage() const { return coverage_; }

 private:
  enum class End : uint8_t { kPowerCut, kDeath, kDiskError, kLogFull, kStop };
  // When and how the round ends.
  struct Plan {
    End end = End::kStop;
    uint64_t requests = 0;
    uint64_t at_mutation = 0;  // counted from the round's start; 0: by operation, or by requests
    std::optional<Op> op;      // with `path`: the `nth` operation of this kind
    std::string path;
    uint64_t nth = 0;
    bool meta_page = false;             // only writes of a meta page
    std::optional<fault::Point> point;  // the process dies when it is reached for the `nth` time
    Fault fault = Fault::kCrash;
    Fault passing = Fault::kNone;  // one that the member gets over: of the file's allocations or writes
    Op passing_op = Op::kAllocate;
    uint64_t passing_one_in = 0;
    bool small_disk = false;
    bool stops_under_load = false;    // else everything is answered before
    uint64_t second_start_after = 0;  // so many requests another process tries to start on the directory; 0: none
    bool other_program = false;       // has written to the db before the round
  };
  struct Sent {
    member::Tag tag = 0;
    std::string payload;
    std::optional<Reply> reply;
    Index index;
    bool answered = false;
    bool refused = false;
    bool awaited = false;  // an answer must come
    uint64_t round = 0;
  };
  // Of the db after a commit.
  struct InUse {
    Index index;
    uint64_t bytes = 0;
  };
  struct Control {
    member::Control kind;
    Index floor;
    std::optional<etcdserverpb::RangeRequest> range;
  };

  // life.cc
  void watch_disk();
  void choose_options();
  void choose_limits();
  void choose_leases();
  void plan_rounds();
  void plan_founding();
  [[nodiscard]] Plan plan_round(End end);
  void arm();
  Fault on_operation(const Operation& operation);
  void choose_point(Plan& plan);
  void on_fault_point(fault::Point point);
  void check_reserved(const Operation& operation);
  void note_own_alarm(bool is_raised);
  void check_withdrawal(const etcdserverpb::AlarmRequest& request);
  void run_round();
  bool start_member();
  void serve();
  void end_round();
  void cut_power();
  void check_left_over();
  void check_space();
  void check_durable();
  void start_another();
  void violation(std::string text);
  void note(const std::string& text) const;

  // life_clients.cc
  void client_turn();
  void send_request();
  void send_read();
  void ask_about_leases();
  void rest_a_while();
  void check_stop_left_nobody_waiting();
  void propose(const etcdserverpb::InternalRaftRequest& request, bool wants_answer);
  [[nodiscard]] Surroundings surroundings() const;
  [[nodiscard]] member::Tag next_tag();
  [[nodiscard]] bool all_answered() const;
  void check_state(const char* when);
  void check_answer(const Sent& sent, Code code, std::string_view text);
  void on_committed(const std::vector<raft::Entry>& entries) override;
  void on_entry(const raft::Entry& entry);
  [[nodiscard]] bool room_lacks_for(const Sent& sent) const;
  void on_own_proposal(const member::Proposal& proposal) override;
  void on_answer(member::Tag tag, Code code, std::string_view text) override;
  void on_refused(member::Tag tag, const Error& error) override;
  void on_events(const member::Events& events) override { kinds_.count(events); }
  void on_effects(const member::Effects& effects) override { kinds_.count(effects); }
  void on_step() override;
  void on_news() override;
  void on_ready() override;
  void on_commit_done(const member::CommitJob& job) override;
  void on_commit_without_space(const Error& error) override;
  void on_checkpoint() override;
  void on_compaction_hash(const member::HashOrder& order, uint32_t hash) override;

  Options options_;
  Random chance_;
  Random point_chance_;  // of its own, so that a life without deaths at fault points is what it was
  Coverage coverage_;
  StepKinds kinds_;
  std::array<uint64_t, fault::kPointCount> points_reached_{};
  std::string violation_;
  Schedule schedule_;
  SimFileSystem fs_;
  Model model_;
  MemberOptions member_options_;
  bool may_be_refused_ = false;               // for want of room in a queue
  std::optional<int64_t> no_space_since_ns_;  // the member's own alarm is in force in this round
  int64_t no_space_gone_ns_ = -1;             // when it was withdrawn last
  int64_t no_space_before_ns_ = 0;            // and since when it was in force then
  bool calls_raise_alarms_ = false;           // as those do that find no room for what they are asked
  std::unique_ptr<Member> member_;
  std::unique_ptr<Reads> reads_;
  std::unique_ptr<Watches> watches_;
  std::unique_ptr<Requests> requests_;
  std::unique_ptr<Leases> leases_;

  // the life
  std::deque<Plan> rounds_;
  uint64_t round_ = 0;
  uint64_t member_id_ = 0;
  uint64_t requests_sent_ = 0;
  uint64_t request_id_ = 0;
  uint64_t concurrency_ = 1;
  int64_t think_mean_ns_ = 0;
  std::deque<Sent> sent_;
  std::unordered_map<std::string_view, size_t> by_payload_;
  std::unordered_map<member::Tag, size_t> by_tag_;
  std::map<std::string, uint64_t> own_proposals_;
  std::vector<raft::Entry> log_;  // handed over; [i] has index i + 1
  Index acknowledged_;
  Index in_file_;  // said to be in the file
  Directories directories_;
  SpoiledList spoiled_;
  uint64_t whole_from_ = 0;    // another program has written over the trees of the db's metas below this txid
  uint64_t in_use_bytes_ = 0;  // of the db that the last round left

  // the round
  Plan plan_;
  uint64_t first_mutation_ = 0;
  uint64_t round_requests_ = 0;
  uint64_t waiting_ = 0;  // for answers
  std::unordered_map<member::Tag, Control> controls_;
  std::vector<InUse> in_use_;  // after the start and each commit
  bool fault_fired_ = false;   // one that ends the member
  bool aside_ = true;          // what happens on the disk is not the member's doing
  bool ending_ = false;
  bool stop_asked_ = false;
  uint64_t space_refusals_ = 0;
  int64_t clients_rest_until_ns_ = 0;
  bool leases_may_be_late_ = false;  // an alarm has refused their revokes
};

}  // namespace cairn::sim
