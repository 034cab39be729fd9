// cairn_bootstrap [--existing] [--token TOKEN] [--max-learners N] NAME DATA_DIR INITIAL_CLUSTER: what a start of a
// member does to its directory, and no more: founds, joins, or opens it, asking the others over their peer URLs. Prints
// what is there then, as JSON. Exit: 0, or 1 with the reason in place of it, or 64 for usage.
#include <cstdio>
#include <cstdlib>
#include <string>

#include "base/bytes.h"
#include "cluster/codec.h"
#include "cluster/urls.h"
#include "cmd/server/peer_probe.h"
#include "env/fs.h"
#include "member/recovery/bootstrap.h"

namespace {

constexpr int64_t kDialTimeoutNs = 2'000'000'000;

int say(const cairn::Error& error) {
  std::printf("%s\n", error.message.c_str());
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  cairn::member::BootstrapOptions options;
  int at = 1;
  for (; at < argc && argv[at][0] == '-'; ++at) {
    const std::string flag = argv[at];
    if (flag == "--existing") {
      options.joins = true;
    } else if (flag == "--token" && at + 1 < argc) {
      options.initial_cluster_token = argv[++at];
    } else if (flag == "--max-learners" && at + 1 < argc) {
      options.learner_count_max = std::strtoul(argv[++at], nullptr, 10);
    } else {
      at = argc;
    }
  }
  if (argc - at != 3) {
    std::fprintf(stderr, "usage: cairn_bootstrap [--existing] [--token T] [--max-learners N] NAME DIR CLUSTER\n");
    return 64;
  }
  options.name = argv[at];
  options.data_dir = argv[at + 1];
  const auto cluster = cairn::cluster::parse_initial_cluster(argv[at + 2]);
  if (!cluster) return say(cluster.error());
  options.initial_cluster = *cluster;
  cairn::cmd::HttpPeerProbe probe(kDialTimeoutNs, nullptr);
  options.probe = &probe;
  const auto opened = cairn::member::bootstrap(cairn::env::posix_fs(), options);
  if (!opened) return say(opened.error());
  const auto& state = opened->state;
  std::printf(
      "{\"id\":%llu,\"cluster\":%llu,\"applied\":%llu,\"last\":%llu,\"schema\":%d,\"version\":\"%s\",\"conf\":%s,"
      "\"remotes\":%zu,\"members\":%s}\n",
      static_cast<unsigned long long>(opened->member_id), static_cast<unsigned long long>(opened->cluster_id),
      static_cast<unsigned long long>(state.applied.value),
      static_cast<unsigned long long>(opened->log->last_index().value), static_cast<int>(state.schema),
      state.members.version.c_str(), cairn::cluster::conf_state_json(state.conf).c_str(), opened->remotes.size(),
      cairn::cluster::members_json(state.members).c_str());
  return 0;
}
