// cairn_raft_node: Cairn's members of the cluster in which tests/oracles/raftmixed puts etcd's raft beside ours.
//
// Reads commands from stdin and answers each on stdout (raftmixed/text.h, raftmixed/node.h):
//
//     member ID PRE_VOTE SEED   a new one, not started
//     mutant NAME               switches a deliberate bug on: cairn_raft_node_mutants only
//     ID command ...            for one of them
#include <iostream>
#include <map>

#include "base/check.h"
#include "raftmixed/node.h"

int main() {
  using namespace cairn;
  std::ios::sync_with_stdio(false);
  std::map<uint64_t, raftmixed::Node> nodes;
  std::string line;
  std::string out;
  while (std::getline(std::cin, line)) {
    raftmixed::Words words(line);
    out.clear();
    const std::string_view first = words.next();
    if (first == "member") {
      const uint64_t id = words.number();
      const bool pre_vote = words.number() != 0;
      nodes.try_emplace(id, NodeId(id), pre_vote, words.number());
#ifdef CAIRN_MUTANTS
    } else if (first == "mutant") {
      set_mutant(words.next());
#endif
    } else {
      const uint64_t id = raftmixed::Words(first).number();
      const std::string_view command = words.next();
      nodes.at(id).run(command, words, out);
    }
    out += ".\n";
    std::cout << out << std::flush;
  }
}
