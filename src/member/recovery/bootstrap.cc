#include "member/recovery/bootstrap.h"

#include <algorithm>
#include <future>

#include "base/bytes.h"
#include "base/check.h"
#include "base/log.h"
#include "cluster/membership.h"
#include "member/recovery/joining.h"
#include "member/recovery/recovery.h"
#include "member/wal_stage.h"
#include "raft/conf_change.h"
#include "storage/bolt/engine.h"
#include "wal/snap_file.h"

namespace cairn::member {
namespace {

struct Paths {
  std::string member;
  std::string snap;
  std::string wal;
  std::string db;
  std::string checkpoint;  // folder of side files
  std::string joined;      // one of them: see JoinedMark
};

Paths paths_of(const BootstrapOptions& options) {
  Paths paths;
  paths.member = env::clean_path(options.data_dir) + "/member";
  paths.snap = paths.member + "/snap";
  paths.wal = options.wal_dir.empty() ? paths.member + "/wal" : env::clean_path(options.wal_dir);
  paths.db = paths.snap + "/db";
  paths.checkpoint = paths.member + "/" + std::string(kCheckpointDirectory);
  paths.joined = paths.checkpoint + "/joined";
  return paths;
}

bool has_log(env::FileSystem& fs, const std::string& directory) {
  const auto names = fs.list(directory);
  return names &&
         std::any_of(names->begin(), names->end(), [](const std::string& name) { return name.ends_with(".wal"); });
}

// What a crash in the middle of a receive or a defragmentation leaves. Something else may have such a name, a directory
// for instance.
// compat: etcd does not start with a db.tmp* that it cannot remove. We only warn, as both do about tmp*.
Status remove_leftovers(env::FileSystem& fs, const std::string& snap) {
  CAIRN_TRY(const auto names, fs.list(snap));
  for (const std::string& name : names) {
    if (!name.starts_with("tmp") && !name.starts_with("db.tmp")) continue;
    if (const Status removed = fs.remove(snap + "/" + name); !removed) {
      log::warn("failed to remove a temporary file in the snapshot directory", {{"error", removed.error().message}});
    }
  }
  return {};
}

Result<std::unique_ptr<storage::Engine>> open_engine(env::FileSystem& fs, const BootstrapOptions& options,
                                                     const std::string& path) {
  storage::BoltOptions bolt;
  bolt.opening = options.opening;
  bolt.quota_bytes = options.quota_bytes;
  bolt.metrics = options.storage_metrics;
  bolt.keep_in_memory = options.keep_in_memory;
  bolt.reserved_bytes = options.mapping_reserved_bytes;
  bolt.page_bytes = options.page_bytes;
  bolt.freelist_bytes_max = options.freelist_bytes_max;
  bolt.space = options.space;
  bolt.poison_free_pages = options.poison_free_pages;
  return storage::open_bolt(fs, path, bolt);
}

// No two openings have the same number, in this process either.
OpenDb opener(env::FileSystem& fs, const BootstrapOptions& options) {
  constexpr uint64_t kStep = 0x9e3779b97f4a7c15;  // odd: returns to the first one after 2^64
  return [&fs, next = options](const std::string& path) mutable {
    if (next.opening != 0) next.opening += kStep;
    return open_engine(fs, next, path);
  };
}

// The founders' configuration changes, the same on each of them, committed by definition.
Status write_first_entries(wal::Log& log, const cluster::Membership& founders) {
  std::vector<std::string> data;
  for (const auto& [id, member] : founders.members) {
    const cluster::MemberChange change{cluster::ChangeKind::kAdd, member};
    data.push_back(raft::encode(raft::ConfChangeV1{
        .type = raft::ConfChangeType::kAddNode, .node = id, .context = cluster::change_context(change)}));
  }
  std::vector<wal::Entry> entries;
  for (size_t i = 0; i < data.size(); ++i) {
    entries.push_back({static_cast<uint8_t>(raft::EntryType::kConfChange), Term(1), Index(i + 1), data[i]});
  }
  return log.save(entries, {Term(1), NodeId(), Index(data.size())}, true);
}

Result<cluster::Membership> founders_of(const BootstrapOptions& options, NodeId& self) {
  CAIRN_TRY(cluster::Membership founders,
            cluster::found_cluster(options.initial_cluster, options.initial_cluster_token));
  const cluster::Member* const own = founders.find_name(options.name);
  if (own == nullptr) {
    return fail(Code::kInvalidArgument, "couldn't find local name \"{}\" in the initial cluster configuration",
                options.name);
  }
  self = own->id;
  return founders;
}

// A member that has joined is nothing but a log's metadata until the leader has sent it something. The mark says so to
// a start that finds no more than that, and which version the cluster had. Later it is of no use.
Status write_joined_mark(env::FileSystem& fs, const Paths& paths, cluster::MinorVersion version) {
  CAIRN_CHECK(fs.make_directories(paths.checkpoint));
  CAIRN_CHECK(env::replace_file(fs, paths.joined, version.text() + "\n"));
  return fs.sync_directory(paths.member);
}

Result<std::optional<cluster::MinorVersion>> read_joined_mark(env::FileSystem& fs, const Paths& paths) {
  if (!fs.exists(paths.joined)) return std::optional<cluster::MinorVersion>{};
  CAIRN_TRY(const std::string text, env::read_file(fs, paths.joined));
  const auto version = cluster::parse_version(std::string_view(text).substr(0, text.find('\n')));
  if (!version) return fail(Code::kDataLoss, "server: {} does not say a version", paths.joined);
  return version;
}

// What a member without data is to become.
struct Place {
  NodeId self;
  cluster::Membership members;                  // the founders, or the members of the cluster that it joins
  std::optional<cluster::MinorVersion> joined;  // the version of that cluster
};

// Asks the others, if there are any; nothing is written.
Result<Place> find_place(const BootstrapOptions& options) {
  Place place;
  CAIRN_TRY(place.members, founders_of(options, place.self));
  if (options.probe == nullptr) {
    if (!options.joins && place.members.members.size() == 1) return place;
    return fail(Code::kFailedPrecondition,
                "server: this build runs a member alone, and the flags describe {} members{}",
                place.members.members.size(), options.joins ? " of a cluster that runs" : "");
  }
  const JoinRequest request{.name = options.name,
                            .configured = place.members,
                            .learner_count_max = options.learner_count_max,
                            .request_timeout_ns = options.request_timeout_ns,
                            .resolve = options.resolve};
  if (!options.joins) {
    CAIRN_CHECK(check_not_bootstrapped(request, *options.probe));
    return place;
  }
  CAIRN_TRY(Joined joined, find_cluster(request, *options.probe));
  return Place{.self = joined.self, .members = std::move(joined.members), .joined = joined.version};
}

// Where terms begin in [first, last]. They only rise, so each is found by bisection, and no entry is read.
Result<std::vector<RaftLog::TermStart>> term_starts(const wal::SegmentIndex& index, Index first, Index last) {
  std::vector<RaftLog::TermStart> starts;
  for (Index at = first; at <= last;) {
    CAIRN_TRY(const Term term, index.term(at));
    starts.push_back({at, term});
    Index end = last + 1;  // the first one of a later term lies in (at, end]
    while (at + 1 < end) {
      const Index middle = at + (end - at) / 2;
      CAIRN_TRY(const Term found, index.term(middle));
      (found == term ? at : end) = middle;
    }
    at = end;
  }
  return starts;
}

// The entry in front of the first one that others may be sent; 0: the log is whole. A log that does not begin at 1
// gives its first entry, since the term before the next one must be known.
//
// Tools that restore a snapshot write a log of the new members alone, and a snapshot record behind them: the db has
// what no log has, and whoever joins needs the db. A founder's own first snapshot may look the same; then nothing but a
// snapshot of little is sent.
Result<Index> begin_of_log(const wal::Log& log, std::span<const wal::SnapshotRecord> snapshots) {
  constexpr uint64_t kMembersBytesMax = 1 << 20;
  if (log.first_index() != Index(1)) return log.first_index();
  Index oldest(UINT64_MAX);
  for (const wal::SnapshotRecord& record : snapshots) {
    if (record.index != Index{}) oldest = std::min(oldest, record.index);
  }
  if (oldest > log.last_index()) return Index{};
  uint64_t changes = 0;
  CAIRN_CHECK(log.index()->read(Index(1), oldest + 1, kMembersBytesMax, [&](const wal::Entry& entry) {
    changes += entry.type == static_cast<uint8_t>(raft::EntryType::kNormal) ? 0 : 1;
  }));
  return changes == oldest.value ? oldest : Index{};
}

// The log as far back as the segments reach, so that a member that was away for a while needs no snapshot. What lies
// behind `applied` is in memory.
Result<RaftLog> load_log(const wal::Log& log, Index begin, Index applied, Term applied_term,
                         const RaftLog::Options& options) {
  std::vector<RaftLog::TermStart> terms{{applied, applied_term}};
  if (begin <= applied && applied <= log.last_index()) {
    CAIRN_TRY(terms, term_starts(*log.index(), std::max(begin, Index(1)), applied));
    if (begin == Index{}) terms.insert(terms.begin(), {Index(0), Term(0)});
  }
  RaftLog raft_log(std::move(terms), applied, options);
  for (const auto& [index, bytes] : log.index()->sizes()) {
    if (index <= applied) raft_log.note_size(index, bytes);
  }
  if (log.last_index() <= applied) return raft_log;
  std::vector<raft::Entry> entries;
  CAIRN_CHECK(log.index()->read(applied + 1, log.last_index() + 1, UINT64_MAX, [&](const wal::Entry& entry) {
    raft::PayloadPtr data;
    if (!entry.data.empty()) {
      data = std::make_shared<const raft::Payload>(raft::Payload{.bytes = std::string(entry.data)});
    }
    entries.push_back({entry.term, entry.index, static_cast<raft::EntryType>(entry.type), std::move(data)});
  }));
  raft_log.append(std::move(entries));
  return raft_log;
}

// Makes a directory whose name and parents survive a crash, whoever made them and did not get that far.
Status make_durable(env::FileSystem& fs, const std::string& path) {
  std::vector<std::string> parents{env::parent_directory(path)};
  while (!fs.exists(parents.back()) && env::parent_directory(parents.back()) != parents.back()) {
    parents.push_back(env::parent_directory(parents.back()));
  }
  CAIRN_CHECK(fs.make_directories(path));
  for (const std::string& parent : parents) {
    const Status synced = fs.sync_directory(parent);
    // What we may not even read, we have not made.
    if (!synced && synced.error().code != Code::kPermissionDenied) return synced;
  }
  return {};
}

// A db that has applied entries had a log.
Status check_no_log_lost(const storage::Engine& engine, const Paths& paths) {
  CAIRN_TRY(const auto index, engine.view()->get(storage::Table::kMeta, "consistent_index"));
  if (!index) return {};  // of a founding that was interrupted
  return fail(Code::kFailedPrecondition,
              "server: {} is of a member whose log is not in {}: say where it is (--wal-dir), or restore a snapshot "
              "into another directory",
              paths.db, paths.wal);
}

// Makes a new directory: of a founder with the first entries, of who joins with an empty log.
Result<Bootstrapped> make_new(env::FileSystem& fs, const BootstrapOptions& options, const Paths& paths) {
  Bootstrapped out;
  CAIRN_TRY(const Place place, find_place(options));
  CAIRN_CHECK(make_durable(fs, options.data_dir));
  CAIRN_CHECK(fs.make_directories(paths.snap));
  CAIRN_TRY(out.engine, open_engine(fs, options, paths.db));
  if (has_log(fs, paths.wal)) {
    return fail(Code::kUnavailable, "server: another process has begun a member in {}", options.data_dir);
  }
  CAIRN_CHECK(check_no_log_lost(*out.engine, paths));
  CAIRN_CHECK(remove_leftovers(fs, paths.snap));
  if (!options.wal_dir.empty()) CAIRN_CHECK(make_durable(fs, env::parent_directory(paths.wal)));
  CAIRN_CHECK(fs.remove_all(paths.wal + ".tmp"));  // with the db's lock: nobody is at work on it
  // Of a start that did not get as far as the log.
  if (fs.exists(paths.joined) && !place.joined) CAIRN_CHECK(fs.remove(paths.joined));
  if (place.joined) CAIRN_CHECK(write_joined_mark(fs, paths, *place.joined));
  CAIRN_CHECK(fs.sync_directory(paths.member));  // the db's own name is durable since it was opened
  CAIRN_CHECK(fs.sync_directory(options.data_dir));
  CAIRN_TRY(out.log, wal::Log::create(fs, paths.wal, {place.self, place.members.cluster_id}, options.wal));
  if (!place.joined) CAIRN_CHECK(write_first_entries(*out.log, place.members));
  out.member_id = place.self.value;
  out.cluster_id = place.members.cluster_id;
  out.new_directory = true;
  for (const auto& [id, member] : place.members.members) {
    if (id != place.self) out.remotes.push_back(member);
  }
  return out;
}

using IndexFuture = std::future<Result<RecoveredIndex>>;

// The checkpoint's folder, and the index: at once on another thread, or when it is asked for.
IndexFuture begin_index(env::FileSystem& fs, const BootstrapOptions& options, const Paths& paths, Bootstrapped& out) {
  out.checkpoint_directory = paths.checkpoint;
  IndexRecoveryInput input{.fs = fs,
                           .view = out.engine->view(),
                           .checkpoint_path = paths.checkpoint + "/" + std::string(kCheckpointName),
                           .read_ahead_path = options.concurrent ? paths.db : std::string(),
                           .concurrent = options.concurrent};
  return std::async(options.concurrent ? std::launch::async : std::launch::deferred,
                    [input = std::move(input)] { return recover_index(input); });
}

// Whose log it is, and the log itself, which is only read until take_over().
Status open_found(env::FileSystem& fs, const BootstrapOptions& options, const Paths& paths, wal::OpenedLog& opened,
                  Bootstrapped& out) {
  wal::Options wal_options = options.wal;
  wal_options.take_over = false;
  CAIRN_TRY(opened, wal::Log::open(fs, paths.wal, wal_options));
  out.log = std::move(opened.log);
  out.member_id = opened.metadata.node_id.value;
  out.cluster_id = opened.metadata.cluster_id;
  out.new_directory = out.log->last_index() == Index{} && opened.hard_state.empty() && opened.snapshots.size() <= 1;
  return {};
}

// The member ended when its log had a leader's snapshot, and its db was still the old one: the image that came with the
// snapshot takes the db's place. The log is made sure of first, so that the db is never ahead of it.
Result<bool> take_image(env::FileSystem& fs, const BootstrapOptions& options, const Paths& paths,
                        const wal::OpenedLog& opened, Bootstrapped& out) {
  const auto records = wal::valid_snapshot_records(opened.snapshots, opened.hard_state);
  CAIRN_TRY(const std::optional<Index> index, find_image(fs, paths.snap, records, *out.engine->view()));
  if (!index) return false;
  const std::string path = image_path(paths.snap, *index);
  log::info("Recovering from snapshot backend", {{"path", path}, {"snapshot-index", index->value}});
  CAIRN_TRY(auto engine, open_engine(fs, options, path));
  CAIRN_CHECK(check_image(*engine->view(), *index));
  CAIRN_CHECK(out.log->settle());
  CAIRN_CHECK(wal::sync_snapshot_files(fs, paths.snap));
  CAIRN_CHECK(rename_image(fs, paths.snap, *index));
  out.engine = std::move(engine);
  return true;
}

// What a killed process wrote shows here but may not be on the disk. Nothing is changed.
Status settle(env::FileSystem& fs, const Paths& paths, Index synced, wal::Log& log) {
  CAIRN_CHECK(log.settle(synced));
  // Segments that a .snap stands for may be released from now on.
  return wal::sync_snapshot_files(fs, paths.snap);
}

// From here on the directory is ours.
Status take_over(env::FileSystem& fs, const Paths& paths, wal::Log& log) {
  CAIRN_TRY(const auto repair, log.take_over());
  if (repair) {
    log::warn("cut an interrupted write at the end of the WAL",
              {{"path", repair->file}, {"offset", repair->offset}, {"reason", repair->reason}});
  }
  CAIRN_CHECK(fs.remove_all(paths.wal + ".tmp"));
  return remove_leftovers(fs, paths.snap);
}

// Another server's member that has joined and heard nothing yet: the cluster is asked once more.
Status join_again(env::FileSystem& fs, const BootstrapOptions& options, const Paths& paths, const Bootstrapped& found,
                  std::optional<cluster::MinorVersion>& joined) {
  CAIRN_TRY(const Place place, find_place(options));
  if (place.self.value != found.member_id || place.members.cluster_id != found.cluster_id) {
    return fail(Code::kFailedPrecondition,
                "server: {} belongs to member {} of cluster {}, but the cluster is {} and takes this for member {}",
                options.data_dir, hex_id(found.member_id), hex_id(found.cluster_id), hex_id(place.members.cluster_id),
                hex_id(place.self.value));
  }
  joined = place.joined;
  return write_joined_mark(fs, paths, *place.joined);
}

// Founded, and stopped before the first entries were on disk.
Status found_again(const BootstrapOptions& options, const Bootstrapped& found, wal::HardState& hard_state) {
  NodeId self;
  CAIRN_TRY(const cluster::Membership founders, founders_of(options, self));
  if (self.value != found.member_id || founders.cluster_id != found.cluster_id) {
    return fail(Code::kFailedPrecondition,
                "server: {} belongs to member {} of cluster {}, but the flags describe member {} of cluster {}",
                options.data_dir, hex_id(found.member_id), hex_id(found.cluster_id), hex_id(self.value),
                hex_id(founders.cluster_id));
  }
  CAIRN_CHECK(write_first_entries(*found.log, founders));
  hard_state = {Term(1), NodeId(), found.log->last_index()};
  return {};
}

// Ends the log with entries that remove the other members, or with an empty one where only uncommitted entries go. All
// of them count as committed.
Status force_new_cluster(const ForcedCluster& forced, const Bootstrapped& found, wal::HardState& hard_state) {
  const Index last = found.log->last_index();
  if (last > forced.commit) {
    log::info("discarding uncommitted WAL entries",
              {{"entry-index", forced.commit.value + 1},
               {"commit-index-from-wal", forced.commit.value},
               {"number-of-discarded-entries", last.value - forced.commit.value}});
  }
  const Term term = std::max(hard_state.term, found.state.applied_term);
  std::vector<std::string> data;
  for (const NodeId id : forced.others) {
    data.push_back(
        raft::encode(raft::ConfChangeV1{.type = raft::ConfChangeType::kRemoveNode, .node = id, .context = {}}));
  }
  std::vector<wal::Entry> entries;
  for (size_t i = 0; i < data.size(); ++i) {
    entries.push_back({static_cast<uint8_t>(raft::EntryType::kConfChange), term, forced.commit + (i + 1), data[i]});
  }
  if (entries.empty() && last > forced.commit) {
    entries.push_back({static_cast<uint8_t>(raft::EntryType::kNormal), term, forced.commit + 1, {}});
  }
  const Index old_commit{hard_state.commit};
  hard_state = {term, hard_state.vote, forced.commit + entries.size()};
  CAIRN_CHECK(found.log->save(entries, hard_state, true));
  log::info("forcing restart member", {{"cluster-id", hex_id(found.cluster_id)},
                                       {"local-member-id", hex_id(found.member_id)},
                                       {"wal-commit-index", old_commit.value},
                                       {"commit-index", forced.commit.value + entries.size()}});
  return {};
}

}  // namespace

bool holds_member(env::FileSystem& fs, const BootstrapOptions& options) { return has_log(fs, paths_of(options).wal); }

Result<Bootstrapped> bootstrap(env::FileSystem& fs, const BootstrapOptions& options) {
  const Paths paths = paths_of(options);
  if (fs.exists(options.data_dir + "/proxy")) {
    return fail(Code::kFailedPrecondition, "server: {} holds a proxy directory of an old etcd; move it away",
                options.data_dir);
  }
  Bootstrapped out;
  std::optional<cluster::MinorVersion> joined;
  wal::OpenedLog opened;
  IndexFuture index;  // goes before the engine: a thread that reads the db ends with it
  if (has_log(fs, paths.wal)) {
    CAIRN_CHECK(fs.make_directories(paths.snap));
    CAIRN_TRY(out.engine, open_engine(fs, options, paths.db));
    index = begin_index(fs, options, paths, out);
    CAIRN_CHECK(open_found(fs, options, paths, opened, out));
    CAIRN_TRY(joined, read_joined_mark(fs, paths));
    CAIRN_TRY(const bool is_replaced, take_image(fs, options, paths, opened, out));
    if (is_replaced) index = begin_index(fs, options, paths, out);
    if (out.new_directory) {
      CAIRN_CHECK(settle(fs, paths, Index{}, *out.log));
      CAIRN_CHECK(take_over(fs, paths, *out.log));
      if (!joined && options.joins && options.probe != nullptr) {
        CAIRN_CHECK(join_again(fs, options, paths, out, joined));
      } else if (!joined) {
        CAIRN_CHECK(found_again(options, out, opened.hard_state));
      }
    }
  } else {
    CAIRN_TRY(out, make_new(fs, options, paths));
    CAIRN_TRY(joined, read_joined_mark(fs, paths));
    index = begin_index(fs, options, paths, out);
    opened.hard_state = out.log->hard_state();
    opened.snapshots = {{Index{}, Term{}, std::nullopt}};
  }
  out.snap_directory = paths.snap;
  RecoveryInput input{.fs = fs,
                      .log = *out.log,
                      .hard_state = opened.hard_state,
                      .snapshots = opened.snapshots,
                      .snap_directory = paths.snap,
                      .view = out.engine->view(),
                      .cluster_id = out.cluster_id,
                      .lease_ttl_min = options.lease_ttl_min,
                      .learner_count_max = options.learner_count_max,
                      .new_directory = out.new_directory,
                      .has_peers = options.probe != nullptr,
                      .joined = joined,
                      .force_new_cluster = options.force_new_cluster && !out.new_directory};
  CAIRN_TRY(Recovered recovered, recover(input));
  out.state = std::move(recovered.state);
  out.state.space = out.engine->space();
  out.snapshot_index = recovered.snapshot_index;
  if (input.force_new_cluster) {
    CAIRN_CHECK(settle(fs, paths, out.state.applied, *out.log));
    CAIRN_CHECK(take_over(fs, paths, *out.log));
    CAIRN_CHECK(force_new_cluster(recovered.forced, out, opened.hard_state));
  }
  CAIRN_TRY(const Index begin, begin_of_log(*out.log, opened.snapshots));
  CAIRN_TRY(out.raft_log, load_log(*out.log, begin, out.state.applied, out.state.applied_term, options.raft_log));
  // The log was synced through what the db holds before the db held it. The disk is at work while the index is read.
  if (!out.log->taken_over()) CAIRN_CHECK(settle(fs, paths, out.state.applied, *out.log));
  CAIRN_TRY(RecoveredIndex recovered_index, index.get());
  out.checkpoint = recovered_index.checkpoint;
  if (out.checkpoint.usable) out.engine->remember(out.checkpoint.commit);
  adopt_index(std::move(recovered_index), out.state);
  if (!out.log->taken_over()) CAIRN_CHECK(take_over(fs, paths, *out.log));
  raft::HardState hard{opened.hard_state.term, opened.hard_state.vote, opened.hard_state.commit};
  // What the db holds was committed, whatever the last hard state on disk says.
  hard.commit = std::max(hard.commit, out.state.applied);
  hard.term = std::max(hard.term, out.state.applied_term);
  out.start = {hard, out.state.conf, out.state.applied};
  out.open_db = opener(fs, options);
  remove_old_images(fs, paths.snap, Index(UINT64_MAX));
  return out;
}

}  // namespace cairn::member
