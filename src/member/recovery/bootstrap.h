// member/recovery/bootstrap.h: from a data directory, or none, to the state that the stages start with.
//
// A new directory is founded: ids, first entries, first tables, as etcd 3.7 does it. Or its member joins a cluster that
// runs: then its log is empty, and what it writes follows the version of that cluster. A found directory is opened in
// place, whoever wrote it: the newest usable .snap, the WAL behind it, the db; membership from the place where its
// version keeps it. Until a found directory is known to be usable, this alone changes in it: where there is no db, an
// empty one is made, with its folder, and a damaged .snap file gets the name .broken, as by etcd.
//
// Errors name the file and the way out; the process ends with them. kUnavailable: another process has the directory, or
// has just begun a member in it: to be tried again.
// Source: docs/architecture.md, "Start"; docs/compatibility.md.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "cluster/membership.h"
#include "cluster/urls.h"
#include "env/clock.h"
#include "env/fs.h"
#include "member/apply/applied_state.h"
#include "member/raft_log.h"
#include "member/recovery/checkpoint.h"
#include "member/recovery/image.h"
#include "member/recovery/peer_probe.h"
#include "raft/core.h"
#include "storage/bolt/engine.h"
#include "storage/engine.h"
#include "storage/metrics.h"
#include "wal/log.h"

namespace cairn::member {

struct BootstrapOptions {
  std::string name = "default";
  std::string data_dir;
  std::string wal_dir;  // empty: <data_dir>/member/wal
  // Of a new cluster: name -> peer URLs, this member among them.
  std::map<std::string, std::vector<std::string>> initial_cluster;
  std::string initial_cluster_token = "etcd-cluster";
  bool joins = false;  // a new directory's member: --initial-cluster-state existing
  // Asks the members that run. Null: this member can reach no other; it founds a cluster of its own, joins none, and
  // opens no directory of several.
  PeerProbe* probe = nullptr;
  int64_t request_timeout_ns = 7'000'000'000;  // of a question
  cluster::Resolver resolve;                   // whether two URLs mean the same place; may be empty
  // Differs at every start of any member (storage::BoltOptions); 0: the checkpoints of this start are never used.
  uint64_t opening = 0;
  uint64_t quota_bytes = 0;
  storage::Metrics* storage_metrics = nullptr;
  std::function<Status(const char* from, uint64_t bytes)> keep_in_memory;  // of BoltOptions
  bool sync = true;                                                        // false: --unsafe-no-fsync
  // Of a found directory: drops what is not committed, and removes all other members by entries of its log, as etcd
  // does. Nothing is changed before the directory is known to be usable otherwise.
  bool force_new_cluster = false;
  int64_t lease_ttl_min = 2;  // seconds
  size_t learner_count_max = 1;
  wal::Options wal;
  RaftLog::Options raft_log;
  uint64_t mapping_reserved_bytes = 0;  // for simulated disks
  uint32_t page_bytes = 4096;           // of a db that is made
  uint64_t freelist_bytes_max = 256 << 10;
  storage::SpaceLimits space;
  // The index is read on a second thread, beside the log, and a cold db is read ahead; nothing else depends on it.
  bool concurrent = false;
  bool poison_free_pages = false;  // for tests; this and the four above are BoltOptions
};

struct Bootstrapped {
  uint64_t member_id = 0;
  uint64_t cluster_id = 0;
  bool new_directory = false;
  std::unique_ptr<wal::Log> log;
  std::string snap_directory;
  std::unique_ptr<storage::Engine> engine;
  AppliedState state;
  raft::StartState start;
  RaftLog raft_log{Index{}, Term{}, {}};
  Index snapshot_index;
  // In a new directory: who the others are, until the log that is applied says so.
  std::vector<cluster::Member> remotes;
  std::string checkpoint_directory;  // for CheckpointWriter, as is the next one
  CheckpointBase checkpoint;
  OpenDb open_db;  // as `engine` was opened, under another opening number each time
};

// Whether the directory already belongs to a member: flags that found a cluster then have no effect.
[[nodiscard]] bool holds_member(env::FileSystem& fs, const BootstrapOptions& options);

[[nodiscard]] Result<Bootstrapped> bootstrap(env::FileSystem& fs, const BootstrapOptions& options);

}  // namespace cairn::member
