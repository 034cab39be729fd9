// member/apply/applied_state.h: what ApplyCore begins with, and how it is set up.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "auth/store.h"
#include "auth/tokens.h"
#include "cluster/membership.h"
#include "lease/lessor.h"
#include "member/published.h"
#include "mvcc/kv/store.h"
#include "raft/types.h"
#include "storage/engine.h"

namespace cairn::member {

// What a directory's tables look like; it decides what we write into it (docs/compatibility.md).
enum class Schema : uint8_t { k3_4, k3_5, k3_6, k3_7 };
// How many learners there may be with the one that `change` adds. Up to 3.5 it is 1 whatever the flags say: what was
// refused then is refused again. Later it is what the proposer says, and for an etcd that says nothing, our flag.
[[nodiscard]] constexpr size_t learner_count_max(Schema schema, size_t configured,
                                                 const cluster::MemberChange& change) {
  return schema < Schema::k3_6 ? 1 : change.learner_count_max.value_or(configured);
}

// The replicated state at `applied`, as found at start.
struct AppliedState {
  std::unique_ptr<mvcc::Index> index;
  std::shared_ptr<const storage::View> file;
  mvcc::Store::Options store;
  lease::Lessor lessor{2};
  auth::Store auth;
  std::set<Alarm> alarms;
  cluster::Membership members;
  std::optional<cluster::Membership> replaced_members;  // what the tables hold instead of `members`: to be rewritten
  raft::ConfState conf;
  std::string storage_version;
  Schema schema = Schema::k3_7;
  // Nothing is in the tables, and the cluster has other members: what version it has, its log will say.
  bool version_is_open = false;
  Index applied;
  Term applied_term;
  Index snapshot_index;  // of the .snap file that the log follows
  storage::Space space;
  int64_t unfinished_compaction = 0;  // scheduled, not known to be finished; 0: none
  bool new_directory = false;         // auth and meta tables get their first entries
};

struct ApplyOptions {
  uint64_t member_id = 0;
  uint64_t buffer_bytes_max = 16 << 20;
  uint64_t buffer_entries_max = 50'000;
  uint64_t wal_bytes_max = 64 << 20;
  int64_t commit_interval_ns = 1'000'000'000;
  int64_t reclaim_interval_ns = 20'000'000;  // between commits that only carry on a compaction
  // Of a compaction's pass, in place of our own rules, if they are given: how many records a part looks at; how long
  // the next part waits, whatever else is committed meanwhile.
  uint64_t compaction_batch_limit = 0;  // 0: not given
  std::optional<int64_t> compaction_sleep_ns;
  int64_t snapshot_interval_ns = 1'000'000'000;
  uint64_t snapshot_entries = 10'000;
  size_t learner_count_max = 1;
  bool lease_checkpoint_persist = false;     // also before 3.6, from which on it is always done
  uint64_t quota_bytes = uint64_t{2} << 30;  // 0: no quota
  bool hash_compactions = false;             // as CompactionHashes does: somebody carries its orders out
  uint64_t bootstrap_defrag_bytes = 0;       // so much is free in the db at the start: it is defragmented; 0: never
  std::shared_ptr<auth::Tokens> tokens = std::make_shared<auth::NoTokens>();
};

}  // namespace cairn::member
