// Conversations between members, word for word: testdata/*.txt.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <deque>
#include <memory>
#include <set>

#include "raft/conf_change.h"
#include "raft/core.h"
#include "raft/datadriven_test.h"
#include "raft/describe.h"
#include "raft/memory_log.h"

namespace cairn::raft {
namespace {

using datadriven::Command;

// Commands (N is a member):
//   members COUNT [voters=K] [pre_vote=0] [check_quorum=0] [inflight=I] [bytes=B] [uncommitted=U] [unapplied=A]
//   log N term=T count=C     appends C entries of T to the stable log before the start (only before `start`)
//   start N [term=T] [vote=V] [commit=C]
//   campaign|forget|tick|...  inputs of one member
//   ready N                  takes what is ready; its writes wait for `sync N`, its entries for `apply N`
//   sync N / apply N         all of them
//   deliver [to=N] [count=C] what flies, in order; drop [from=N] [to=N] [type=T]
//   cut N / mend N           nothing gets to or from N
//   settle                   all of this until nothing moves
//   elect N                  campaign and settle, without a word
//   state N / peers N
class Env {
 public:
  std::string handle(const Command& command) {
    out_.clear();
    dispatch(command);
    return std::exchange(out_, {});
  }

 private:
  struct Write {
    uint64_t number = 0;
    std::vector<Entry> entries;
    SnapshotPtr snapshot;
    std::vector<Message> messages;
  };
  struct Member {
    Config config;
    ConfState conf;
    MemoryLog log;
    std::unique_ptr<Core> core;
    std::deque<Write> writes;
    std::deque<Entry> to_apply;
  };

  template <class... Args>
  void say(fmt::format_string<Args...> format, Args&&... args) {
    out_ += fmt::format(format, std::forward<Args>(args)...) + "\n";
  }

  Member& member(const Command& command) { return members_.at(command.number(0)); }
  Core& core(const Command& command) { return *member(command).core; }

  void dispatch(const Command& command) {
    const std::string& name = command.name;
    if (name == "members") {
      make_members(command);
    } else if (name == "log") {
      extend_log(command);
    } else if (name == "start") {
      start(member(command), command);
    } else if (name == "campaign") {
      say("{}", core(command).campaign() ? "campaigns" : "does not campaign");
    } else if (name == "forget") {
      core(command).forget_leader();
    } else if (name == "tick") {
      for (uint64_t i = command.number("count", 1); i > 0; --i) core(command).tick();
    } else if (name == "propose") {
      propose(command);
    } else if (name == "change") {
      propose_change(command);
    } else if (name == "read") {
      if (!core(command).read_index(command.words.at(1))) say("no leader");
    } else if (name == "transfer") {
      say("{}", core(command).transfer_leader(NodeId(command.number("to", 0))) ? "asked" : "refused");
    } else if (name == "unreachable") {
      core(command).report_unreachable(NodeId(command.number("peer", 0)));
    } else if (name == "snapshot-sent") {
      core(command).report_snapshot(NodeId(command.number("peer", 0)), command.number("ok", 1) != 0);
    } else if (name == "compact") {
      compact(member(command), Index(command.number("to", 0)));
    } else if (name == "message") {
      inject(command);
    } else if (name == "ready") {
      ready(member(command));
    } else if (name == "sync") {
      sync(member(command));
    } else if (name == "apply") {
      apply(member(command));
    } else if (name == "deliver") {
      deliver(command);
    } else if (name == "drop") {
      drop(command);
    } else if (name == "elect") {
      core(command).campaign();
      settle();
      out_.clear();
      EXPECT_TRUE(core(command).is_leader());
    } else if (name == "cut") {
      cut_.insert(command.number(0));
    } else if (name == "mend") {
      cut_.erase(command.number(0));
    } else if (name == "settle") {
      settle();
    } else if (name == "state") {
      state(core(command));
    } else if (name == "peers") {
      for (const PeerStatus& peer : core(command).peers()) say("{}", describe(peer));
    } else {
      ADD_FAILURE() << "unknown command " << name;
    }
  }

  void make_members(const Command& command) {
    members_.clear();
    flying_.clear();
    const uint64_t count = command.number(0);
    ConfState conf;
    for (uint64_t i = 1; i <= command.number("voters", count); ++i) conf.voters.emplace_back(i);
    for (uint64_t i = 1; i <= count; ++i) {
      Member& made = members_[i];
      made.config.id = NodeId(i);
      made.config.seed = i;
      made.config.election_ticks = 10;
      made.config.heartbeat_ticks = 2;
      made.config.pre_vote = command.number("pre_vote", 1) != 0;
      made.config.check_quorum = command.number("check_quorum", 1) != 0;
      made.config.max_inflight_messages = static_cast<uint32_t>(command.number("inflight", 512));
      made.config.max_bytes_per_message = command.number("bytes", 1 << 20);
      made.config.max_uncommitted_bytes = command.number("uncommitted", 1 << 20);
      made.config.max_unapplied_bytes = command.number("unapplied", 1 << 20);
      made.conf = conf;
      if (!command.values.contains("later")) start(made, command);
    }
  }

  void start(Member& which, const Command& command) {
    StartState from;
    from.conf = which.conf;
    from.hard = {.term = Term(command.number("term", 0)),
                 .vote = NodeId(command.number("vote", 0)),
                 .commit = Index(command.number("commit", 0))};
    which.core = std::make_unique<Core>(which.config, which.log, from);
  }

  void extend_log(const Command& command) {
    Member& which = member(command);
    std::vector<Entry> entries;
    Index index = which.log.last_index();
    for (uint64_t i = command.number("count", 1); i > 0; --i) {
      entries.push_back(
          {.term = Term(command.number("term", 1)), .index = ++index, .type = EntryType::kNormal, .data = nullptr});
    }
    which.log.append(entries);
  }

  void compact(Member& which, Index to) {
    which.log.set_snapshot(std::make_shared<const Snapshot>(
        Snapshot{.index = to, .term = *which.log.term(to), .conf = which.core->conf(), .data = {}}));
    which.log.compact(to);
  }

  static PayloadPtr payload(std::string bytes) {
    return std::make_shared<const Payload>(Payload{.bytes = std::move(bytes), .tag = 0});
  }

  void propose(const Command& command) {
    std::vector<PayloadPtr> payloads;
    for (size_t i = 1; i < command.words.size(); ++i) payloads.push_back(payload(command.words[i]));
    const bool bound = command.values.contains("as_leader_of");
    const ProposeResult result =
        bound ? core(command).propose_as_leader(Term(command.number("as_leader_of", 0)), payloads)
              : core(command).propose(payloads);
    say("{}{}", name_of(result.outcome),
        result.outcome == ProposeOutcome::kAppended ? fmt::format(" at {}/{}", result.first, result.term) : "");
  }

  // change N +4 -1 ~2 (add, remove, learner) [v1] [joint|explicit]; without changes: leave.
  void propose_change(const Command& command) {
    ConfChange change;
    bool v1 = false;
    for (size_t i = 1; i < command.words.size(); ++i) {
      const std::string& word = command.words[i];
      if (word == "v1") {
        v1 = true;
      } else if (word == "joint") {
        change.transition = ConfChangeTransition::kJointImplicit;
      } else if (word == "explicit") {
        change.transition = ConfChangeTransition::kJointExplicit;
      } else {
        const ConfChangeType type = word[0] == '+'   ? ConfChangeType::kAddNode
                                    : word[0] == '~' ? ConfChangeType::kAddLearnerNode
                                                     : ConfChangeType::kRemoveNode;
        change.changes.push_back({type, NodeId(std::stoull(word.substr(1)))});
      }
    }
    const ProposeResult result =
        v1 ? core(command).propose_conf_change(
                 EntryType::kConfChange,
                 payload(encode(ConfChangeV1{
                     .id = 0, .type = change.changes.at(0).type, .node = change.changes.at(0).node, .context = {}})))
           : core(command).propose_conf_change(EntryType::kConfChangeV2, payload(encode(change)));
    say("{}", name_of(result.outcome));
  }

  // message TYPE from= to= term= index= log_term= commit= reject= hint= context=
  void inject(const Command& command) {
    Message message;
    for (uint64_t type = 0; type < 24; ++type) {
      if (is_peer_message(type) && name_of(static_cast<MessageType>(type)) == command.words.at(0)) {
        message.type = static_cast<MessageType>(type);
      }
    }
    message.from = NodeId(command.number("from", 0));
    message.to = NodeId(command.number("to", 0));
    message.term = Term(command.number("term", 0));
    message.index = Index(command.number("index", 0));
    message.log_term = Term(command.number("log_term", 0));
    message.commit = Index(command.number("commit", 0));
    message.reject = command.number("reject", 0) != 0;
    message.reject_hint = Index(command.number("hint", 0));
    message.context = command.text("context", "");
    members_.at(message.to.value).core->step(std::move(message));
  }

  void ready(Member& which) {
    if (!which.core->has_ready()) {
      say("nothing");
      return;
    }
    Ready taken = which.core->take_ready();
    if (taken.soft_state) say("{} of {}", name_of(taken.soft_state->role), taken.soft_state->leader);
    if (taken.hard_state) {
      say("hard term={} vote={} commit={}{}", taken.hard_state->term, taken.hard_state->vote, taken.hard_state->commit,
          taken.must_sync ? " (sync)" : "");
    }
    if (taken.snapshot) say("install {}/{}", taken.snapshot->index, taken.snapshot->term);
    for (const Entry& entry : taken.entries) say("append {}", describe(entry));
    for (const Entry& entry : taken.committed) say("apply {}", describe(entry));
    for (const ReadState& read : taken.read_states) say("read {} at {}", read.context, read.index);
    for (const Message& message : taken.messages) say("send {}", describe(message));
    for (const Message& message : taken.messages_after_sync) say("after sync {}", describe(message));
    for (Message& message : taken.messages) flying_.push_back(std::move(message));
    for (Entry& entry : taken.committed) which.to_apply.push_back(std::move(entry));
    if (taken.number != 0 || !taken.messages_after_sync.empty()) {
      which.writes.push_back(
          {taken.number, std::move(taken.entries), std::move(taken.snapshot), std::move(taken.messages_after_sync)});
    }
  }

  void sync(Member& which) {
    for (; !which.writes.empty(); which.writes.pop_front()) {
      Write& write = which.writes.front();
      if (write.snapshot) which.log.install(write.snapshot);
      which.log.append(write.entries);
      for (Message& message : write.messages) flying_.push_back(std::move(message));
      if (write.number != 0) which.core->appended(write.number);
    }
  }

  void apply(Member& which) {
    for (; !which.to_apply.empty(); which.to_apply.pop_front()) {
      const Entry& entry = which.to_apply.front();
      if (entry.type != EntryType::kNormal) {
        const Result<ConfState> conf =
            which.core->apply_conf_change(entry.index, *decode_conf_change(entry.type, entry.bytes()));
        say("{} has {}", which.config.id, conf ? describe(*conf) : conf.error().message);
      }
      which.core->applied_to(entry.index);
    }
  }

  void deliver(const Command& command) {
    uint64_t left = command.number("count", flying_.size());
    const uint64_t to = command.number("to", 0);
    std::deque<Message> rest;
    while (!flying_.empty()) {
      Message message = std::move(flying_.front());
      flying_.pop_front();
      if (left == 0 || (to != 0 && message.to != NodeId(to))) {
        rest.push_back(std::move(message));
        continue;
      }
      --left;
      if (cut_.contains(message.to.value) || cut_.contains(message.from.value)) continue;
      const auto found = members_.find(message.to.value);
      if (found != members_.end()) found->second.core->step(std::move(message));
    }
    flying_ = std::move(rest);
  }

  void drop(const Command& command) {
    std::erase_if(flying_, [&](const Message& message) {
      return (!command.values.contains("from") || message.from == NodeId(command.number("from", 0))) &&
             (!command.values.contains("to") || message.to == NodeId(command.number("to", 0))) &&
             (!command.values.contains("type") || name_of(message.type) == command.text("type", ""));
    });
  }

  void settle() {
    for (int round = 0; round < 100; ++round) {
      bool moved = false;
      for (auto& [id, which] : members_) {
        if (!which.core) continue;
        while (which.core->has_ready()) {
          moved = true;
          say("- {}", id);
          ready(which);
          sync(which);
          apply(which);
        }
        // What was taken before.
        moved = moved || !which.writes.empty() || !which.to_apply.empty();
        sync(which);
        apply(which);
      }
      if (!flying_.empty()) moved = true;
      deliver(Command());
      if (!moved) return;
    }
    ADD_FAILURE() << "does not settle";
  }

  void state(const Core& which) {
    say("{} of {} term={} vote={} commit={} applied={} last={} stable={} {}", name_of(which.role()), which.leader(),
        which.term(), which.hard_state().vote, which.committed(), which.applied(), which.last_index(),
        which.stable_index(), describe(which.conf()));
  }

  std::map<uint64_t, Member> members_;
  std::deque<Message> flying_;
  std::set<uint64_t> cut_;
  std::string out_;
};

class RaftTranscript : public testing::TestWithParam<const char*> {};

TEST_P(RaftTranscript, IsAsWritten) {
  Env env;
  datadriven::run(std::string("src/raft/testdata/") + GetParam() + ".txt",
                  [&](const Command& command) { return env.handle(command); });
}

INSTANTIATE_TEST_SUITE_P(All, RaftTranscript,
                         testing::Values("election", "lease", "replication", "storage", "reads", "membership",
                                         "snapshot", "transfer", "proposals"),
                         [](const auto& param) { return std::string(param.param); });

}  // namespace
}  // namespace cairn::raft
