// sim/cluster/operators.h: who changes the members of a cluster: adds, promotes, updates, removes and replaces them.
//
// A change is asked of any member, as its RPC does it: what the member sees is held against --strict-reconfig-check,
// then the change goes to the log. Its outcome may never be known. A machine that was added is started as soon as the
// log has it, with the members that somebody lists. A machine may lose its disk: it is removed and added again, under
// another id; and before that it may try to come back as what it was, which has to be refused.
//
// Bounded: a majority of the members is always such that it can be started, whatever becomes of changes of which
// nothing is known.
//
// Threads: one.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/random.h"
#include "cluster/membership.h"
#include "sim/cluster/judge.h"
#include "sim/cluster/membership_check.h"
#include "sim/cluster/node.h"
#include "sim/coverage.h"
#include "sim/schedule.h"

namespace cairn::sim {

// The machines' addresses, counted from 0.
[[nodiscard]] std::string machine_name(size_t address);
[[nodiscard]] std::string peer_url_of(size_t address);
// Of a URL of machine `address`; nullopt: it is nobody's.
[[nodiscard]] std::optional<size_t> address_of(std::string_view url);

class ClusterOperators {
 public:
  using Nodes = std::vector<std::unique_ptr<ClusterNode>>;
  struct Options {
    bool is_strict = true;  // --strict-reconfig-check
    int64_t pause_mean_ns = 2'000'000'000;
    size_t voters_max = 7;
    size_t places_max = 16;  // of all that ever were
  };
  // The life, which has the machines.
  class Host {
   public:
    virtual ~Host() = default;
    // A machine that may become this member.
    virtual void reserve(NodeId id, size_t address) = 0;
    // The machine of a member that the log has is started, again and again until it can.
    virtual void begin_machine(size_t place) = 0;
    // Its process ends, and its disk is empty.
    virtual void lose_disk(size_t place) = 0;
    // It starts on its empty disk as what it was. `joins`: with --initial-cluster-state existing.
    virtual void come_back_empty(size_t place, bool joins) = 0;
    // Since when `place` has been connected to this member; nullopt: it is not.
    [[nodiscard]] virtual std::optional<int64_t> connected_since_ns(size_t place, NodeId to) = 0;
    [[nodiscard]] virtual std::optional<size_t> place_of(NodeId id) const = 0;
    virtual void note(const std::string& text) = 0;
    virtual void violation(std::string text) = 0;
  };

  ClusterOperators(Schedule& schedule, Random chance, Options options, Nodes& nodes, Judge& judge, Coverage& coverage,
                   Host& host);

  void begin();
  // Nothing new is begun; who cannot come back is removed, and who was added is started.
  void end();
  // They do nothing any more.
  void leave() { has_left_ = true; }
  // Nobody is a member any more who cannot come back.
  [[nodiscard]] bool is_done() const { return lost_members().empty(); }
  [[nodiscard]] bool is_member(size_t place) const;

  // To what a member was asked, and to how far it knows the others' logs to be.
  void on_answer(ClusterNode& node, const ClusterCall& call);
  void on_progress(ClusterNode& node, member::Tag tag, Code code, std::string_view text);
  // These tags belong to questions about progress.
  [[nodiscard]] static bool is_progress(member::Tag tag) { return tag >= kFirstProgressTag; }

 private:
  static constexpr member::Tag kFirstProgressTag = member::Tag{1} << 41;
  struct Change {
    uint64_t call = 0;
    cluster::MemberChange what;
  };
  struct Promotion {
    NodeId id;
    bool is_forwarded = false;  // the leader is asked by another member
  };

  void turn();
  void act();
  bool remove_who_is_lost();
  void try_to_come_back();
  void start_who_was_added();
  void add(bool is_learner);
  void add_at(size_t address, bool is_learner);
  void remove();
  void remove(NodeId id, bool is_lost);
  void promote();
  void update();
  void lose();
  void revive();
  void ask_wrongly();
  void ask_progress(size_t place, Promotion promotion);
  void propose(ClusterNode& node, cluster::MemberChange change, const std::vector<member::PeerProgress>& progress = {});

  [[nodiscard]] std::optional<size_t> somebody();
  [[nodiscard]] std::optional<NodeId> any_member(bool is_learner);
  [[nodiscard]] bool is_unresolved(const Change& change) const;
  // Who may be removed, whether that is known or not.
  [[nodiscard]] std::set<NodeId> on_their_way_out() const;
  [[nodiscard]] std::set<NodeId> lost_members() const;
  [[nodiscard]] bool all_know_the_members() const;
  // Whether a majority of what may become of the members can be started, though this one is removed or lost, too.
  [[nodiscard]] bool can_do_without(NodeId id, bool is_lost) const;
  [[nodiscard]] size_t voter_count() const;
  [[nodiscard]] std::optional<size_t> free_address();
  [[nodiscard]] Admission admission_of(ClusterNode& node) const;

  Schedule& schedule_;
  Random chance_;
  Options options_;
  Nodes& nodes_;
  Judge& judge_;
  Coverage& coverage_;
  Host& host_;
  std::vector<Change> changes_;
  std::map<member::Tag, Promotion> promotions_;
  member::Tag last_tag_ = kFirstProgressTag;
  size_t addresses_ = 0;  // so many were ever used
  struct Tries {
    bool founds = true;
    bool joins = true;
  };
  std::map<NodeId, Tries> tries_;  // of who lost its disk: to come back as what it was
  std::set<size_t> returns_;       // addresses of such machines, to be members again under another id
  bool has_ended_ = false;
  bool has_left_ = false;
};

}  // namespace cairn::sim
