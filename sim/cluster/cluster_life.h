// sim/cluster/cluster_life.h: one life of a cluster, from a seed: members, network, clients, faults, and all checks.
//
// A life has at least 60 virtual seconds, 1000 calls by four or more clients, and 10 faults of 3 kinds. Then everything
// is healed, and the cluster must make progress soon, come to the same state on all members, and stop. The checks are
// those of sim/cluster/judge.h, of each member's directory after its end, and of the history of all clients
// (sim/history/judge.h).
//
// Threads: one. Same seed, same life.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/fault.h"
#include "member/recovery/peer_probe.h"
#include "sim/cluster/bounds.h"
#include "sim/cluster/byte_links.h"
#include "sim/cluster/clients.h"
#include "sim/cluster/faults.h"
#include "sim/cluster/judge.h"
#include "sim/cluster/mixed_versions.h"
#include "sim/cluster/network.h"
#include "sim/cluster/node.h"
#include "sim/cluster/operators.h"
#include "sim/cluster/plots.h"
#include "sim/cluster/transfers.h"
#include "sim/cluster/watchers.h"
#include "sim/coverage.h"
#include "sim/history/history.h"

namespace cairn::sim {

// "./dev sim --cluster --seed 0x51f3"
[[nodiscard]] std::string cluster_replay_command(uint64_t seed);

// In one life in so many clients ask only what etcd's own judge of histories knows.
inline constexpr uint64_t kLivesForOneHistory = 100;

class ClusterLife final : private NodeHost,
                          private ClusterFaults::Host,
                          private ClusterOperators::Host,
                          private Network::Host,
                          private ByteLinks::Host,
                          private Transfers::Host {
 public:
  struct Options {
    uint64_t seed = 1;
    size_t members = 0;  // 0: the seed chooses
    bool verbose = false;
    bool has_faults = true;
    std::optional<bool> changes_members{};  // nullopt: the seed chooses
    std::optional<bool> has_byte_links{};   // the same
    int64_t length_ns = 60'000'000'000;
    uint64_t calls_min = 1000;
    std::string history_path{};  // its history is written here; "": nowhere
    // What a test has go wrong, for a check to find.
    WatchLie watch_lie = WatchLie::kNone;
    bool renews_for_ever = false;
  };
  explicit ClusterLife(const Options& options);
  ~ClusterLife() override;

  // "": every check passed. Else the first failure.
  [[nodiscard]] const std::string& run();
  [[nodiscard]] const Coverage& coverage() const { return coverage_; }
  // Of everything that happened, in its order: lives with the same one were the same.
  [[nodiscard]] uint64_t fingerprint() const { return fingerprint_; }
  // What clients and watchers saw; after run().
  [[nodiscard]] const History& history() const { return history_; }

 private:
  static constexpr int64_t kLeases = 4;
  static constexpr member::Tag kTransferTag = member::Tag{1} << 40;  // no call has it
  static constexpr member::Tag kRenewalTag = kTransferTag + 1;       // nor this one

  void choose();
  void choose_log();
  [[nodiscard]] MemberOptions member_options(const std::string& name);
  void add_node(NodeId id, size_t address, ClusterNode::Standing standing);
  void found();
  // Until `is_done`, or for so long; false: it was not.
  bool live(int64_t ns_max, const std::function<bool()>& is_done);
  bool step();
  void look_at(ClusterNode& node);
  void heal();
  void converge();
  void outlive_leases();
  void renew_all();
  void stop();
  void judge_history();
  [[nodiscard]] bool is_for_etcd() const { return options_.seed % kLivesForOneHistory == 0; }
  // `applied`: the db of a member that has stopped holds exactly this; nullopt: of one that was cut off.
  void check_left_over(ClusterNode& node, std::optional<Index> applied);
  [[nodiscard]] std::string describe() const;
  [[nodiscard]] bool agree() const;
  void violation(std::string text) override;
  void mix(uint64_t value);

  void on_messages(ClusterNode& node, std::vector<raft::Message>& messages) override;
  void on_redial(ClusterNode& node, const std::vector<NodeId>& members) override;
  void on_question(ClusterNode& node, const member::VersionQuestion& question) override;
  void on_committed(ClusterNode& node, const std::vector<raft::Entry>& entries) override;
  void on_own_proposal(ClusterNode& node, const member::Proposal& proposal) override;
  void on_answer(ClusterNode& node, member::Tag tag, Code code, std::string_view text) override;
  void on_refused(ClusterNode& node, member::Tag tag, const Error& error) override;
  void on_installed(ClusterNode& node, Index index) override;
  void on_step(ClusterNode& node) override;
  void on_news(ClusterNode& node) override { watchers_->on_news(node); }
  Fault on_operation(ClusterNode& node, const Operation& operation) override;

  bool on_arrival(size_t to, raft::Message message) override;
  void on_stream_cut(size_t from, size_t to) override;
  void on_link_message(size_t to, raft::Message message) override { (void)on_arrival(to, std::move(message)); }
  void on_link_report(size_t place, member::PeerReport::Kind kind, NodeId about) override;
  void on_told_removed(size_t place, NodeId by) override;
  void on_wrong_bytes(std::string text) override { violation(std::move(text)); }
  [[nodiscard]] bool is_open(size_t from, size_t to) override;
  void on_image(size_t to, const raft::Message& message, std::string bytes, uint64_t transfer) override;
  void on_outcome(size_t from, size_t to, bool is_delivered) override;
  void take_image(size_t to, const raft::Message& message, uint64_t transfer, const Status& written);
  void report(size_t to, member::PeerReport::Kind kind, size_t about);
  void tell_of_death(size_t node);
  void dial(size_t from, size_t to);
  void lose_connections(size_t place, bool kernel_stays);

  void on_fault_point(fault::Point point);
  void kill_at_point(fault::Point point, uint64_t nth) override;
  void start_process(size_t node) override;
  void kill_process(size_t node) override;
  void cut_power(size_t node) override;
  void move_leader(size_t leader, size_t to) override;
  void note(const std::string& text) override;

  // cluster_members.cc: who comes and goes
  [[nodiscard]] bool speaks_cairn(size_t place, NodeId other) const;
  // Its process answers what is asked from there at once.
  [[nodiscard]] bool answers(size_t from, const ClusterNode& node) const;
  void choose_operators();
  void begin_operators();
  [[nodiscard]] bool is_member(size_t place) const;
  // False: it cannot be started now.
  [[nodiscard]] bool prepare_start(ClusterNode& node);
  [[nodiscard]] bool list_members(ClusterNode& node);
  // Whether a start may be refused so.
  [[nodiscard]] bool may_refuse_start(ClusterNode& node, const Error& error);
  void note_start(ClusterNode& node);
  void start_again(size_t place);
  void look_for_removed();
  void end_removed(ClusterNode& node);
  [[nodiscard]] bool has_left(ClusterNode& node);
  void leave(ClusterNode& node);
  [[nodiscard]] bool removed_are_gone() const;
  [[nodiscard]] bool is_cut_off_by_removal() const;
  [[nodiscard]] bool is_dropped(ClusterNode& node, const raft::Message& message);
  [[nodiscard]] bool is_rejected(ClusterNode& node, const raft::Message& message);
  void check_removed_read(ClusterNode& node, member::Tag tag, Code code);
  void compare_members();
  void on_removed(ClusterNode& node) override { end_removed(node); }
  void reserve(NodeId id, size_t address) override;
  void begin_machine(size_t place) override;
  void lose_disk(size_t place) override;
  void come_back_empty(size_t place, bool joins) override;
  [[nodiscard]] std::optional<int64_t> connected_since_ns(size_t place, NodeId to) override;
  [[nodiscard]] std::optional<size_t> place_of(NodeId id) const override;

  // Whom a member without data asks: what a machine's process shows, if it can be reached from the one that starts.
  class Probe final : public member::PeerProbe {
   public:
    explicit Probe(ClusterLife& life) : life_(life) {}
    Result<member::PeerAnswer> get(const std::string& url, int64_t timeout_ns) override;

   private:
    ClusterLife& life_;
  };

  Options options_;
  Probe probe_;
  Random chance_;
  Coverage coverage_;
  ClusterBounds bounds_{coverage_};
  MixedVersions versions_{coverage_};
  std::string violation_;
  Schedule schedule_;  // of the world: network, clients, faults
  Judge judge_;
  Network network_;
  Transfers transfers_;
  std::vector<std::unique_ptr<ClusterNode>> nodes_;
  std::unique_ptr<ByteLinks> links_;  // null: messages go through network_
  std::unique_ptr<ClusterClients> clients_;
  std::unique_ptr<ClusterWatchers> watchers_;
  std::unique_ptr<ClusterFaults> faults_;
  std::unique_ptr<ClusterPlots> plots_;
  std::unique_ptr<ClusterOperators> operators_;  // null: nobody changes the members
  ClusterOperators::Options operating_;
  bool changes_members_ = false;
  size_t founders_ = 0;
  uint64_t learners_max_ = 1;             // of the members: some have fewer
  size_t starting_ = 0;                   // whose start asks others
  std::map<size_t, uint64_t> ending_;     // by place: the process, by its number, that ends since it was removed
  std::map<size_t, uint64_t> told_late_;  // by place: as often a removed member goes on talking
  std::set<size_t> barred_;               // whose process began when all others knew that it was removed
  std::map<std::string, std::vector<std::string>> initial_cluster_;
  std::map<NodeId, size_t> places_;
  std::map<size_t, bool> was_leader_;
  std::set<size_t> installing_;             // in the step that goes on
  std::map<size_t, Index> arrived_images_;  // the newest of this process
  ClusterNode* current_ = nullptr;          // whose code runs
  std::optional<fault::Point> deadly_;
  uint64_t deadly_nth_ = 0;
  std::optional<size_t> dying_;  // has reached it
  MemberOptions common_;
  uint64_t events_ = 0;
  uint64_t fingerprint_ = 0;
  History history_;
  std::map<size_t, std::shared_ptr<const cluster::Membership>> members_seen_;  // by place
  std::array<uint64_t, fault::kPointCount> points_reached_{};
  int64_t renewed_ns_ = 0;
  bool is_stopping_ = false;
  bool is_stuck_ = false;  // for good, and rightly
  bool is_aside_ = false;  // what happens on a disk is no member's doing
};

}  // namespace cairn::sim
