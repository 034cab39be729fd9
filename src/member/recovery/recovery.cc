#include "member/recovery/recovery.h"

#include <algorithm>
#include <charconv>
#include <ranges>
#include <set>

#include "base/bytes.h"
#include "base/check.h"
#include "base/log.h"
#include "base/wire.h"
#include "cluster/codec.h"
#include "cluster/v2_store.h"
#include "cluster/versions.h"
#include "member/recovery/image.h"
#include "member/recovery/takeover.h"
#include "member/requests.h"
#include "member/wal_stage.h"
#include "proto/raft_internal.pb.h"
#include "raft/conf_change.h"

namespace cairn::member {
namespace {

using storage::Table;

// The `meta` table.
struct Meta {
  Index consistent_index;
  Term term;
  std::optional<raft::ConfState> conf;
  std::string storage_version;
  std::string cluster_version;
  int64_t scheduled_compaction = 0;
  int64_t finished_compaction = 0;
  bool has_finished_compaction = false;  // of revision 0, perhaps
};

Result<Meta> read_meta(const storage::View& view) {
  Meta meta;
  CAIRN_TRY(const uint64_t index, meta_number(view, "consistent_index"));
  CAIRN_TRY(const uint64_t term, meta_number(view, "term"));
  meta.consistent_index = Index(index);
  meta.term = Term(term);
  CAIRN_TRY(const auto conf, view.get(Table::kMeta, "confState"));
  if (conf) {
    CAIRN_TRY(meta.conf, cluster::parse_conf_state(*conf));
  }
  CAIRN_TRY(const auto version, view.get(Table::kMeta, "storageVersion"));
  if (version) meta.storage_version = *version;
  CAIRN_TRY(const auto cluster, view.get(Table::kCluster, "clusterVersion"));
  if (cluster) meta.cluster_version = *cluster;
  CAIRN_TRY(meta.scheduled_compaction, meta_revision(view, "scheduledCompactRev"));
  CAIRN_TRY(meta.finished_compaction, meta_revision(view, "finishedCompactRev"));
  CAIRN_TRY(const auto finished, view.get(Table::kMeta, "finishedCompactRev"));
  meta.has_finished_compaction = finished.has_value();
  return meta;
}

// What members, from 3.5 on, say about themselves and about versions.
constexpr uint32_t kMembershipFieldFirst = 1300;
constexpr uint32_t kMembershipFieldLast = 1302;

bool concerns_members(std::string_view request) {
  wire::Reader in(request);
  while (in.next()) {
    if (in.field() >= kMembershipFieldFirst && in.field() <= kMembershipFieldLast) return true;
  }
  return !in.ok();
}

// Of the etcd that wrote the log: the cluster's version if the log sets one. Else what a member of today brings, unless
// a member has published itself in a v2 request, which ends with 3.5: then "". Who has published nothing has served
// nobody, but for a directory that a tool restored: its snapshot stands right behind the founders' entries. What a log
// has released may have told more; but an etcd that wrote so much had set a version.
Result<std::string> version_in_log(const wal::Log& log) {
  std::string version;
  bool has_v2 = false;
  bool has_attributes = false;
  Index founded;  // by the entries up to here
  const auto look = [&](const wal::Entry& entry) {
    if (entry.type != 0 && entry.index == founded + 1) founded = entry.index;
    if (entry.type != 0 || entry.data.empty()) return;
    if (cluster::payload_kind(entry.data) == cluster::PayloadKind::kV2Request) {
      has_v2 = true;
      const auto effect = cluster::decode_v2_request(entry.data);
      if (!effect) return;  // refused when applied
      if (const auto* set = std::get_if<cluster::VersionSet>(&*effect)) version = set->version;
      return;
    }
    if (!concerns_members(entry.data)) return;
    etcdserverpb::InternalRaftRequest request;
    if (!request.ParseFromArray(entry.data.data(), static_cast<int>(entry.data.size())))
      return;  // refused when applied
    if (request.has_cluster_version_set()) version = request.cluster_version_set().ver();
    if (request.has_cluster_member_attr_set()) has_attributes = true;
  };
  CAIRN_CHECK(log.index()->read(log.first_index(), log.last_index() + 1, UINT64_MAX, look));
  const Index snapshot = log.newest_snapshot_index();
  const bool is_restored = snapshot != Index{} && snapshot <= founded && !has_attributes;
  return version.empty() && !has_v2 && !is_restored ? std::string(cluster::kClusterVersion) : version;
}

Result<Schema> schema_of_version(std::string_view version) {
  if (version.starts_with("3.6.")) return Schema::k3_6;
  if (version.starts_with("3.7.")) return Schema::k3_7;
  return fail(Code::kFailedPrecondition, "server: the directory has storage version {}, which this build does not know",
              version);
}

// What a member of such a cluster writes. One without a version becomes older when that is decided.
Schema schema_of_cluster(cluster::MinorVersion version) {
  if (version == cluster::kPlaceholderVersion) return Schema::k3_7;
  if (version < cluster::MinorVersion{3, 5}) return Schema::k3_4;
  if (version < cluster::MinorVersion{3, 6}) return Schema::k3_5;
  return version < cluster::MinorVersion{3, 7} ? Schema::k3_6 : Schema::k3_7;
}

// etcd 3.6 and 3.7 write the storage version a moment after the cluster's, on a thread of its own. A directory that was
// left before then must not be taken for one of 3.5: its etcd does not read what 3.5 writes to the log.
Result<Schema> schema_of(const Meta& meta, const wal::Log& log) {
  if (!meta.storage_version.empty()) return schema_of_version(meta.storage_version);
  if (meta.term == Term{}) return Schema::k3_4;
  std::string version = meta.cluster_version;
  if (version.empty()) {
    CAIRN_TRY(version, version_in_log(log));
  }
  return cluster::at_least_3_6(version) ? schema_of_version(version) : Schema::k3_5;
}

// A leader's: its log is not here, but its cluster's version is. A cluster without one is of today: an etcd has set a
// version long before its log is so long that it sends its db.
Result<Schema> schema_of_image(const Meta& meta, const raft::Snapshot& snapshot) {
  if (!meta.storage_version.empty()) return schema_of_version(meta.storage_version);
  if (meta.term == Term{}) return Schema::k3_4;
  std::string version = meta.cluster_version;
  if (version.empty()) {
    CAIRN_TRY(const cluster::Membership members, cluster::read_v2_store(snapshot.data));
    version = members.version.empty() ? std::string(cluster::kClusterVersion) : members.version;
  }
  return cluster::at_least_3_6(version) ? schema_of_version(version) : Schema::k3_5;
}

template <class Visit>
Status for_each(const storage::View& view, Table table, const Visit& visit) {
  const auto cursor = view.cursor(table);
  CAIRN_CHECK(cursor->seek(""));
  while (cursor->valid()) {
    CAIRN_CHECK(visit(cursor->key(), cursor->value()));
    CAIRN_CHECK(cursor->next());
  }
  return {};
}

Status replay_request(std::string_view bytes, cluster::Membership& members) {
  if (!concerns_members(bytes)) return {};
  etcdserverpb::InternalRaftRequest request;
  if (!request.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    return std::unexpected(damaged_request());
  }
  if (request.has_cluster_version_set()) members.version = request.cluster_version_set().ver();
  if (request.has_cluster_member_attr_set()) {
    const auto& set = request.cluster_member_attr_set();
    const auto& urls = set.member_attributes().client_urls();
    cluster::set_attributes(members, NodeId(set.member_id()), set.member_attributes().name(),
                            {urls.begin(), urls.end()});
  }
  if (request.has_downgrade_info_set()) {
    members.downgrade.enabled = request.downgrade_info_set().enabled();
    members.downgrade.target_version = members.downgrade.enabled ? request.downgrade_info_set().ver() : "";
  }
  return {};
}

struct LearnerLimit {
  Schema schema;
  size_t configured;
};

// The membership half of an entry, which up to 3.5 has no other home than the log.
Status replay_membership(const wal::Entry& entry, const LearnerLimit& limit, cluster::Membership& members,
                         raft::ConfState& conf) {
  if (entry.type != 0) {
    const auto type = static_cast<raft::EntryType>(entry.type);
    CAIRN_TRY(const raft::ConfChange change, raft::decode_conf_change(type, entry.data));
    if (change.changes.empty()) return {};
    const auto single = change.changes.front();
    const auto decoded =
        cluster::decode_change(static_cast<cluster::ConfChangeType>(single.type), single.node, change.context);
    // A refused change stays in the log and is refused again.
    if (!decoded) return {};
    const size_t learners_max = learner_count_max(limit.schema, limit.configured, *decoded);
    if (!cluster::check_change(members, *decoded, learners_max)) return {};
    cluster::apply_change(members, *decoded);
    CAIRN_TRY(conf, raft::changed(conf, change));
    return {};
  }
  if (entry.data.empty()) return {};
  if (cluster::payload_kind(entry.data) == cluster::PayloadKind::kV2Request) {
    CAIRN_TRY(const cluster::V2Effect effect, cluster::decode_v2_request(entry.data));
    if (const auto* set = std::get_if<cluster::AttributesSet>(&effect)) {
      cluster::set_attributes(members, set->id, set->name, set->client_urls);
    } else if (const auto* version = std::get_if<cluster::VersionSet>(&effect)) {
      members.version = version->version;
    }
    return {};
  }
  return replay_request(entry.data, members);
}

// The changes of members and configuration that entries [lo, hi) make.
Status replay_memberships(const RecoveryInput& input, Schema schema, Index lo, Index hi, cluster::Membership& members,
                          raft::ConfState& conf) {
  if (lo >= hi) return {};
  const LearnerLimit learner_limit{schema, input.learner_count_max};
  Status failed;
  CAIRN_CHECK(input.log.index()->read(lo, hi, UINT64_MAX, [&](const wal::Entry& entry) {
    if (failed) failed = replay_membership(entry, learner_limit, members, conf);
  }));
  return failed;
}

// Up to 3.5: the .snap's tree, then the log up to what the db has applied.
Status recover_members_from_log(const RecoveryInput& input, const std::optional<wal::SnapshotFile>& snapshot,
                                Index applied, AppliedState& state) {
  Index from{1};
  if (snapshot) {
    CAIRN_TRY(state.members, cluster::read_v2_store(snapshot->data));
    CAIRN_TRY(state.conf, raft::decode_conf_state(snapshot->conf_state));
    from = snapshot->index + 1;
  }
  return replay_memberships(input, state.schema, from, applied + 1, state.members, state.conf);
}

std::set<NodeId> all_members(const raft::ConfState& conf) {
  std::set<NodeId> out;
  for (const auto* part : {&conf.voters, &conf.learners, &conf.voters_outgoing, &conf.learners_next}) {
    out.insert(part->begin(), part->end());
  }
  return out;
}

// From 3.6 on: the tables.
Status recover_members_from_tables(const storage::View& view, const Meta& meta, AppliedState& state) {
  CAIRN_CHECK(for_each(view, Table::kMembers, [&](std::string_view, std::string_view value) -> Status {
    CAIRN_TRY(cluster::Member member, cluster::parse_member(value));
    const NodeId id = member.id;
    state.members.members[id] = std::move(member);
    return {};
  }));
  CAIRN_CHECK(for_each(view, Table::kMembersRemoved, [&](std::string_view key, std::string_view) -> Status {
    CAIRN_TRY(const uint64_t id, parse_hex(key));
    state.members.removed.insert(NodeId(id));
    return {};
  }));
  state.members.version = meta.cluster_version;
  CAIRN_TRY(const auto downgrade, view.get(Table::kCluster, "downgrade"));
  if (downgrade) {
    CAIRN_TRY(state.members.downgrade, cluster::parse_downgrade(*downgrade));
  }
  state.conf.voters = state.members.voters();
  state.conf.learners = state.members.learners();
  if (meta.conf) {
    raft::ConfState stored = *meta.conf;
    if (all_members(stored) == all_members(state.conf)) {
      state.conf = std::move(stored);
    } else {
      // Restoring a snapshot rewrites the members and leaves the configuration of the old cluster.
      log::warn("the db's configuration is of another cluster; it is made of its members anew");
      state.replaced_members = state.members;
    }
  }
  return {};
}

bool knows(const cluster::Membership& members, NodeId id) {
  return members.find(id) != nullptr || members.removed.contains(id);
}

// Tools up to 3.5 restore a snapshot by writing a new .snap and a new log; the tables go on naming the old cluster.
bool is_restored(const RecoveryInput& input, const wal::SnapshotFile& snapshot, const cluster::Membership& tables) {
  const NodeId self = input.log.metadata().node_id;
  if (knows(tables, self)) return false;
  const auto members = cluster::read_v2_store(snapshot.data);
  return members && knows(*members, self);
}

Status replace_restored_members(const RecoveryInput& input, const std::optional<wal::SnapshotFile>& snapshot,
                                Index applied, AppliedState& state) {
  state.replaced_members = std::move(state.members);
  state.members = {};
  CAIRN_CHECK(recover_members_from_log(input, snapshot, applied, state));
  if (state.members.version.empty()) state.members.version = state.replaced_members->version;
  log::warn(
      "the tables name another cluster's members: a snapshot was restored by a tool of 3.5 or older; the members "
      "are taken from the .snap file and the log",
      {{"local-member-id", hex_id(input.log.metadata().node_id.value)},
       {"members", static_cast<uint64_t>(state.members.members.size())}});
  return {};
}

// Who joins hears of its own addition late, and what the db has applied may be from before it. Then a whole log has the
// db's members so far, and what follows a snapshot has the addition.
Result<bool> may_have_joined(const RecoveryInput& input, const AppliedState& state) {
  if (input.joined) return true;
  const Index end = input.log.last_index() + 1;
  if (input.log.first_index() != Index(1)) {
    cluster::Membership members = state.members;
    raft::ConfState conf = state.conf;
    const Index from = std::max(state.applied + 1, input.log.first_index());
    CAIRN_CHECK(replay_memberships(input, state.schema, from, end, members, conf));
    return members.find(input.log.metadata().node_id) != nullptr;
  }
  cluster::Membership members;
  raft::ConfState conf;
  CAIRN_CHECK(replay_memberships(input, state.schema, Index(1), std::min(state.applied + 1, end), members, conf));
  return std::ranges::equal(std::views::keys(members.members), std::views::keys(state.members.members));
}

// Is this member one of those it found?
Status check_self(const RecoveryInput& input, const AppliedState& state) {
  if (input.new_directory || state.members.members.empty()) return {};  // its own entry is still to be applied
  const NodeId self = input.log.metadata().node_id;
  if (state.members.removed.contains(self)) {
    // The others may not know yet, and need it until then: see member/removal.h.
    if (input.has_peers && !input.force_new_cluster) return {};
    return fail(Code::kFailedPrecondition, "{}", kRemovedText);
  }
  if (state.members.find(self) != nullptr) return {};
  CAIRN_TRY(const bool joined, may_have_joined(input, state));
  if (joined) return {};  // so far it has applied what was before it
  return fail(Code::kFailedPrecondition,
              "server: the log belongs to member {}, which is not among the {} members of the cluster in the db: log "
              "and db are of different clusters",
              hex_id(self.value), state.members.members.size());
}

// The members with what the log has still to apply: after what is known to be committed, or after the rest, whichever
// are more. A member that is alone is so at both places: else it could not decide that the rest is committed.
Result<size_t> count_members(const RecoveryInput& input, const AppliedState& state) {
  cluster::Membership members = state.members;
  raft::ConfState conf = state.conf;
  const auto count = [&conf] { return conf.voters.size() + conf.learners.size(); };
  const Index committed{input.hard_state.commit};
  const LearnerLimit learner_limit{state.schema, input.learner_count_max};
  size_t count_committed = count();
  Status failed;
  const Index from = std::max(state.applied + 1, input.log.first_index());
  if (from <= input.log.last_index()) {
    CAIRN_CHECK(input.log.index()->read(from, input.log.last_index() + 1, UINT64_MAX, [&](const wal::Entry& entry) {
      if (failed && entry.type != 0) failed = replay_membership(entry, learner_limit, members, conf);
      if (entry.index <= committed) count_committed = count();
    }));
  }
  CAIRN_CHECK(failed);
  return std::max(count(), count_committed);
}

Status check_alone(size_t member_count) {
  if (member_count <= 1) return {};
  return fail(Code::kFailedPrecondition,
              "server: the directory belongs to a cluster of {} members; this build runs a member alone", member_count);
}

// Whom --force-new-cluster removes: all others, after what is known to be committed.
Result<ForcedCluster> plan_forced_cluster(const RecoveryInput& input, const AppliedState& state) {
  const NodeId self = input.log.metadata().node_id;
  ForcedCluster out{.commit = std::max(Index{input.hard_state.commit}, state.applied), .others = {}};
  cluster::Membership members = state.members;
  raft::ConfState conf = state.conf;
  const Index from = std::max(state.applied + 1, input.log.first_index());
  CAIRN_CHECK(replay_memberships(input, state.schema, from, out.commit + 1, members, conf));
  if (!conf.voters_outgoing.empty() || std::ranges::find(conf.voters, self) == conf.voters.end()) {
    return fail(
        Code::kFailedPrecondition,
        "server: --force-new-cluster needs a voting member, and this one, {}, is a learner, was removed, or is in "
        "the middle of a change of the cluster",
        hex_id(self.value));
  }
  for (const NodeId id : all_members(conf)) {
    if (id != self) out.others.push_back(id);
  }
  // compat: etcd gives up all that is behind the last commit index on disk. Who decides alone may have acknowledged it.
  const Index behind = std::max(out.commit + 1, input.log.first_index());
  const bool is_alone = conf.voters.size() == 1 && !CAIRN_MUTANT("server.forced_start_gives_up_entries");
  if (is_alone && behind <= input.log.last_index()) {
    bool decides_alone = true;
    CAIRN_CHECK(input.log.index()->read(behind, input.log.last_index() + 1, UINT64_MAX, [&](const wal::Entry& entry) {
      decides_alone = decides_alone && entry.type == 0;
      if (decides_alone) out.commit = entry.index;
    }));
  }
  return out;
}

Status load_tables(const storage::View& view, AppliedState& state, bool is_image = false) {
  CAIRN_CHECK(for_each(view, Table::kLease,
                       [&](std::string_view key, std::string_view value) { return state.lessor.load(key, value); }));
  for (const Table table : {Table::kAuth, Table::kAuthUsers, Table::kAuthRoles}) {
    if (is_image && CAIRN_MUTANT("server.users_not_loaded_at_installation")) break;
    CAIRN_CHECK(for_each(
        view, table, [&](std::string_view key, std::string_view value) { return state.auth.load(table, key, value); }));
  }
  return for_each(view, Table::kAlarm, [&](std::string_view key, std::string_view) -> Status {
    etcdserverpb::AlarmMember alarm;
    if (!alarm.ParseFromArray(key.data(), static_cast<int>(key.size()))) {
      return fail(Code::kDataLoss, "server: damaged entry {} in table alarm", to_hex(key));
    }
    state.alarms.insert({alarm.memberid(), static_cast<uint32_t>(alarm.alarm())});
    return {};
  });
}

void attach_leases(const mvcc::IndexRoot& root, lease::Lessor& lessor) {
  if (lessor.size() == 0 || CAIRN_MUTANT("server.lease_attachment_lost")) return;
  mvcc::IndexCursor cursor(root, {});
  for (cursor.seek_first(); cursor.valid(); cursor.next()) {
    if (cursor.at().lease != 0) lessor.move_key(cursor.key(), 0, cursor.at().lease);
  }
}

void take_compaction(const Meta& meta, AppliedState& state) {
  const int64_t compacted = std::max(meta.scheduled_compaction, meta.finished_compaction);
  state.store.compact_revision = compacted > 0 || meta.has_finished_compaction ? compacted : mvcc::kNeverCompacted;
  state.unfinished_compaction = meta.scheduled_compaction > meta.finished_compaction ? meta.scheduled_compaction : 0;
}

// A log and nothing else: founded, and ended before the first commit. Whoever wrote it, the db is to be filled by us.
Result<bool> is_untouched(const storage::View& view, const Meta& meta) {
  if (meta.consistent_index != Index{} || meta.term != Term{} || !meta.storage_version.empty()) return false;
  const auto cursor = view.cursor(Table::kMembers);
  CAIRN_CHECK(cursor->seek(""));
  return !cursor->valid();
}

// Of a db that holds nothing, which is ours to fill: as the cluster's other members do.
Status choose_schema(const RecoveryInput& input, AppliedState& state) {
  CAIRN_TRY(const size_t member_count, count_members(input, state));
  state.version_is_open = input.joined || member_count > 1;
  if (input.joined) {
    state.schema = schema_of_cluster(*input.joined);
  } else if (state.version_is_open && !input.new_directory) {
    CAIRN_TRY(const std::string version, version_in_log(input.log));
    const auto parsed = cluster::parse_version(version);
    state.schema = parsed ? schema_of_cluster(*parsed) : Schema::k3_5;
  }
  return {};
}

// Do WAL, .snap and db belong together?
Status check_fit(const RecoveryInput& input, Index snapshot_index, Index consistent_index) {
  if (consistent_index < snapshot_index) {
    return fail(Code::kDataLoss,
                "failed to find database snapshot file (snap: snapshot file doesn't exist): the db has applied {} and "
                "the log begins behind {}; restore the member from a snapshot, or remove it and add it again",
                consistent_index, snapshot_index);
  }
  const Index last = std::max(input.log.last_index(), snapshot_index);
  if (consistent_index > last) {
    return fail(Code::kDataLoss,
                "server: the db has applied entry {}, but the WAL ends at {}: the WAL has lost entries; restore the "
                "member from a snapshot, or remove it and add it again",
                consistent_index, last);
  }
  return {};
}

}  // namespace

Result<Recovered> recover(const RecoveryInput& input) {
  Recovered out;
  AppliedState& state = out.state;
  const storage::View& view = *input.view;
  CAIRN_TRY(const Meta meta, read_meta(view));
  const auto valid = wal::valid_snapshot_records(input.snapshots, input.hard_state);
  CAIRN_TRY(const bool untouched, is_untouched(view, meta));
  if (input.new_directory || untouched) {
    CAIRN_CHECK(choose_schema(input, state));
  } else {
    CAIRN_TRY(state.schema, schema_of(meta, input.log));
  }
  if (untouched && !valid.empty() && valid.back().index != Index{}) {
    return fail(
        Code::kDataLoss,
        "failed to find database snapshot file (snap: snapshot file doesn't exist): the db is empty and the log "
        "begins behind {}; restore the member from a snapshot, or remove it and add it again",
        valid.back().index);
  }
  CAIRN_TRY(const auto snapshot, wal::choose_start_snapshot(input.fs, input.snap_directory, valid));
  wal::SnapshotRecord start;
  if (snapshot) start = {snapshot->index, snapshot->term, snapshot->conf_state};
  if (state.schema >= Schema::k3_6 && !valid.empty() && valid.back().index > start.index) start = valid.back();
  CAIRN_CHECK(input.log.check_start(start));
  out.snapshot_index = start.index;
  state.snapshot_index = start.index;
  // A 3.4 member that never changed a key has never written its consistent index.
  Index consistent = meta.consistent_index;
  if (state.schema == Schema::k3_4 && consistent == Index{} && start.index != Index{}) {
    log::warn("consistent index was never saved", {{"snapshot-index", start.index.value}});
    consistent = start.index;
  }
  CAIRN_CHECK(check_fit(input, start.index, consistent));
  state.applied = consistent;
  state.applied_term = meta.term;
  if (consistent == start.index) {
    state.applied_term = start.term;
  } else if (consistent != Index{}) {
    CAIRN_TRY(state.applied_term, input.log.index()->term(consistent));
  }

  state.lessor = lease::Lessor(input.lease_ttl_min);
  CAIRN_CHECK(load_tables(view, state));
  CAIRN_CHECK(check_takeover({input.log, snapshot, state.schema, consistent}));
  if (state.schema >= Schema::k3_6) {
    CAIRN_CHECK(recover_members_from_tables(view, meta, state));
    if (snapshot && is_restored(input, *snapshot, state.members)) {
      CAIRN_CHECK(replace_restored_members(input, snapshot, consistent, state));
    }
  } else {
    CAIRN_CHECK(recover_members_from_log(input, snapshot, consistent, state));
  }
  state.members.cluster_id = input.cluster_id;
  CAIRN_CHECK(check_self(input, state));
  if (input.force_new_cluster) {
    CAIRN_TRY(out.forced, plan_forced_cluster(input, state));
  } else if (!input.has_peers) {
    CAIRN_TRY(const size_t member_count, count_members(input, state));
    CAIRN_CHECK(check_alone(member_count));
  }
  state.storage_version = meta.storage_version;
  state.new_directory = input.new_directory || meta.consistent_index == Index{};

  take_compaction(meta, state);
  state.file = input.view;
  return out;
}

Result<AppliedState> recover_image(const ImageInput& input) {
  const std::shared_ptr<const storage::View> view = input.engine.view();
  const raft::Snapshot& snapshot = input.snapshot;
  CAIRN_CHECK(check_image(*view, snapshot.index));
  CAIRN_TRY(const Meta meta, read_meta(*view));
  AppliedState state;
  CAIRN_TRY(state.schema, schema_of_image(meta, snapshot));
  if (state.schema <= Schema::k3_5) CAIRN_CHECK(check_v2_store(snapshot.data));
  state.applied = state.snapshot_index = snapshot.index;
  state.applied_term = snapshot.term;
  state.lessor = lease::Lessor(input.lease_ttl_min);
  CAIRN_CHECK(load_tables(*view, state, /*is_image=*/true));
  if (state.schema >= Schema::k3_6) {
    CAIRN_CHECK(recover_members_from_tables(*view, meta, state));
  } else {
    CAIRN_TRY(state.members, cluster::read_v2_store(snapshot.data));
  }
  state.conf = snapshot.conf;
  state.replaced_members.reset();
  state.members.cluster_id = input.cluster_id;
  state.storage_version = meta.storage_version;
  take_compaction(meta, state);
  state.file = view;
  state.space = input.engine.space();
  CAIRN_TRY(RecoveredIndex index, recover_index({.fs = input.fs, .view = view, .concurrent = input.concurrent}));
  if (CAIRN_MUTANT("server.index_not_rebuilt_at_installation")) index.index = std::make_unique<mvcc::Index>();
  adopt_index(std::move(index), state);
  return state;
}

void adopt_index(RecoveredIndex recovered, AppliedState& state) {
  state.index = std::move(recovered.index);
  state.store.revision = std::max({recovered.newest, state.store.compact_revision, int64_t{1}});
  attach_leases(state.index->working(), state.lessor);
}

}  // namespace cairn::member
