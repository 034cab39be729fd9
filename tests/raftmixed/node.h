// raftmixed/node.h: one member: a raft core, what a disk holds of it, and an applier, driven command by command.
//
// Writes and entries to apply wait until the world says so, one at a time; a crash keeps some of the writes. What
// happens is told in lines:
//
//     M message                     sent
//     R context index               a read may be answered
//     A index term type data        applied
//     C index conf                  the configuration behind that entry
//     X text                        a promise was broken
//     S role leader term commit applied writes entries conf    the state after the command; in hand: writes, entries
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "raft/core.h"
#include "raft/memory_log.h"
#include "raftmixed/text.h"

namespace cairn::raftmixed {

class Node {
 public:
  Node(NodeId id, bool pre_vote, uint64_t seed);

  // Carries out the command and appends what happened to `out`.
  void run(std::string_view command, Words& words, std::string& out);

 private:
  struct Write {
    uint64_t number = 0;
    std::optional<raft::HardState> hard;
    std::vector<raft::Entry> entries;
    raft::SnapshotPtr snapshot;
    std::vector<raft::Message> messages;
  };

  void found(const raft::ConfState& conf);
  void start();
  void crash(uint64_t kept_writes);
  void input(std::string_view command, Words& words, std::string& out);
  void propose_conf_change(Words& words);
  void finish_write(std::string& out);
  void apply_one(std::string& out);
  void apply_conf_change(const raft::Entry& entry, std::string& out);
  void settle(std::string& out);
  void compact(uint64_t kept_entries);
  void install(const raft::SnapshotPtr& snapshot);
  void collect(std::string& out);
  static void tell_conf(Index index, const raft::ConfState& conf, std::string& out);
  void tell_state(std::string& out) const;
  [[nodiscard]] raft::ConfState conf_at(Index index) const;

  raft::Config config_;
  // On disk:
  raft::MemoryLog log_;
  raft::HardState hard_;
  Index stored_;                            // the state on disk is that after this entry
  std::map<Index, raft::ConfState> confs_;  // by the entry that made them; those above stored_ go in a crash
  // Lost in a crash:
  std::unique_ptr<raft::Core> core_;
  std::deque<Write> writes_;
  std::deque<raft::Entry> to_apply_;
  Index applied_;
};

}  // namespace cairn::raftmixed
