#include "sim/life.h"

#include <algorithm>

#include "base/bytes.h"
#include "base/check.h"

namespace cairn::sim {
namespace {

constexpr const char* kDataDir = "/data/m0.etcd";
constexpr uint64_t kRequestsMin = 500;
constexpr int kCrashes = 5;
constexpr int kOtherEnds = 3;
constexpr uint64_t kMappingBytes = 64 << 20;
constexpr int64_t kRoundNsMax = int64_t{24} * 3600 * 1'000'000'000;  // virtual; a round that takes longer hangs
constexpr uint64_t kEventsMax = 400'000;
constexpr uint64_t kDiesAtPoints = 8;  // one life in so many

std::string_view end_name(int end) {
  constexpr std::string_view kNames[] = {"power cut", "death of the process", "disk error", "log full", "stop"};
  return kNames[end];
}

}  // namespace

std::string replay_command(uint64_t seed) { return fmt::format("./dev sim --seed {:#x}", seed); }

Life::Life(const Options& options)
    : options_(options),
      chance_(options.seed),
      point_chance_(~options.seed),
      fs_({.seed = chance_.next(), .mapping_bytes_max = kMappingBytes}) {}

// What the log does with its files.
void Life::watch_disk() {
  fs_.set_observer([this](const Operation& operation) {
    if (operation.op == Op::kPunch) coverage_.hit("free pages punched");
    if (operation.op == Op::kTruncate && operation.path.ends_with("/db")) coverage_.hit("ends of the db cut");
    const bool old = operation.path.ends_with(".wal");
    const bool spare = operation.path.ends_with("/0.tmp") || operation.path.ends_with("/1.tmp");
    if (operation.op == Op::kRename && operation.target.ends_with(".wal")) {
      coverage_.hit("segments cut");
      if (spare) coverage_.hit("spare segments taken");
    }
    if (spare && operation.op == Op::kRemove) coverage_.hit("spare segments given back");
    if (old && (operation.op == Op::kRename || operation.op == Op::kRemove)) coverage_.hit("segments released");
  });
}

Life::~Life() {
  for (auto& one : fault::armed) one = false;
  fault::set_handler(nullptr);
  if (reads_) reads_->detach();
  if (watches_) watches_->detach();
  schedule_.clear();
}

void Life::violation(std::string text) {
  if (!violation_.empty()) return;
  violation_ = fmt::format("round {} ({}), at {} us: {}", round_, end_name(static_cast<int>(plan_.end)),
                           schedule_.now_ns() / 1000, text);
}

void Life::note(const std::string& text) const {
  if (options_.verbose) fmt::print("{:>12} us  {}\n", schedule_.now_ns() / 1000, text);
}

// --- what kind of life

void Life::choose_options() {
  watch_disk();
  fs_.make_durable_directories("/data");
  fs_.options().can_allocate = !chance_.one_in(6);
  fs_.options().can_punch = !chance_.one_in(6);
  fs_.options().poison_punched = true;
  directories_ = {kDataDir, std::string(kDataDir) + "/member/wal"};

  calls_raise_alarms_ = options_.seed % 50 == 49;

  member::BootstrapOptions& bootstrap = member_options_.bootstrap;
  bootstrap.name = "m0";
  bootstrap.data_dir = kDataDir;
  bootstrap.initial_cluster = {{"m0", {"http://127.0.0.1:2380"}}};
  if (chance_.one_in(4)) {
    fs_.make_durable_directories("/log");
    fs_.options().second_device = "/log";
    directories_.log = bootstrap.wal_dir = "/log/m0";
    coverage_.hit("lives with the log on another device");
  }
  bootstrap.page_bytes = chance_.one_in(3) ? uint32_t{1024} << chance_.below(7) : 4096;
  if (chance_.one_in(4)) bootstrap.freelist_bytes_max = chance_.below(400);
  // A small mapping is outgrown soon.
  bootstrap.mapping_reserved_bytes = chance_.one_in(3) ? uint64_t{bootstrap.page_bytes} * 16 : kMappingBytes;
  bootstrap.poison_free_pages = true;
  bootstrap.space = {.move_above_bytes = chance_.below(256 << 10),
                     .move_bytes_max = uint64_t{4096} << chance_.below(8),
                     .punch_bytes_min = uint64_t{4096} << chance_.below(5),
                     .solid_bytes_kept = chance_.one_in(2) ? 0 : chance_.below(256 << 10)};
  bootstrap.wal.segment_bytes = uint64_t{16384} << chance_.below(5);
  bootstrap.wal.zero_ahead_bytes = uint64_t{4096} << chance_.below(5);

  member::ApplyOptions& apply = member_options_.core.apply;
  apply.buffer_bytes_max = uint64_t{2048} << chance_.below(6);
  apply.buffer_entries_max = chance_.between(3, 200);
  apply.wal_bytes_max = uint64_t{8192} << chance_.below(6);
  apply.commit_interval_ns = int64_t{1'000'000} << chance_.below(11);
  apply.reclaim_interval_ns = chance_.one_in(3) ? 0 : 20'000'000;
  apply.snapshot_entries = chance_.between(5, 80);
  apply.snapshot_interval_ns = chance_.one_in(2) ? 0 : 50'000'000;
  if (chance_.one_in(4)) {
    member_options_.core.auto_compaction = {member::AutoCompaction::Mode::kPeriodic,
                                            static_cast<int64_t>(chance_.between(100, 5000)) * 1'000'000};
  } else if (chance_.one_in(6)) {
    member_options_.core.auto_compaction = {member::AutoCompaction::Mode::kRevision,
                                            static_cast<int64_t>(chance_.between(1, 100))};
  }
  if (chance_.one_in(8)) apply.bootstrap_defrag_bytes = chance_.between(1, 100'000);
  // Of their own chance, so that other lives are what they were.
  Random own_chance(options_.seed ^ 0x6e6f737061636521);
  member_options_.core.no_space = {.clears = !own_chance.one_in(4),
                                   .after_ns = static_cast<int64_t>(own_chance.between(1'000'000, 3'000'000'000))};
  fs_.options().tells_holes = !own_chance.one_in(4);
  if (own_chance.one_in(6)) bootstrap.wal.segments_kept = own_chance.one_in(3) ? UINT64_MAX : own_chance.between(1, 6);
  if (own_chance.one_in(6)) apply.compaction_batch_limit = own_chance.between(1, 50);
  if (own_chance.one_in(6)) apply.compaction_sleep_ns = static_cast<int64_t>(own_chance.between(0, 50'000'000));
  apply.quota_bytes = chance_.one_in(5) ? chance_.between(150'000, 600'000) : 0;
  bootstrap.quota_bytes = apply.quota_bytes;

  member::CheckpointOptions& checkpoint = member_options_.checkpoint;
  checkpoint.changes_min = chance_.between(1, 60);
  checkpoint.changes_min_at_stop = chance_.between(1, 30);
  checkpoint.keys_per_step = chance_.between(1, 20);

  member_options_.arrangement = static_cast<Arrangement>(chance_.below(2));
  choose_limits();
  choose_leases();
  constexpr int64_t kDelays[] = {0, 10'000, 200'000, 3'000'000};
  member_options_.delay_mean_ns = kDelays[chance_.below(4)];
  constexpr uint64_t kOverlaps[] = {0, 1, 3, 10};
  member_options_.overlap_one_in = kOverlaps[chance_.below(4)];
  concurrency_ = chance_.one_in(3) ? 1 : chance_.between(2, 40);
  think_mean_ns_ = member_options_.delay_mean_ns * static_cast<int64_t>(chance_.below(4)) + 1000;
  reads_ = std::make_unique<Reads>(schedule_, chance_.fork(), think_mean_ns_ * 3, model_, coverage_,
                                   [this](std::string text) { violation(std::move(text)); });
  watches_ = std::make_unique<Watches>(schedule_, chance_.fork(), member_options_.delay_mean_ns, model_, coverage_,
                                       [this](std::string text) { violation(std::move(text)); });
}

// Where proposals wait, and where they are refused; small, so that both happen.
void Life::choose_limits() {
  member::MemberOptions& core = member_options_.core;
  core.announcement = {.name = "m0", .client_urls = {"http://127.0.0.1:2379"}};
  core.segment_bytes = member_options_.bootstrap.wal.segment_bytes;
  if (chance_.one_in(2)) {
    core.rest_after_ns = int64_t{1'000'000} << chance_.below(6);
    core.tail_after_ns = core.rest_after_ns / 4;
  }
  core.spare_mark_bytes = member_options_.bootstrap.wal.segment_bytes / 8;
  if (chance_.one_in(2)) {
    member_options_.bootstrap.raft_log.memory_bytes_max = uint64_t{512} << chance_.below(4);
    core.unapplied_bytes_max = 2 * member_options_.bootstrap.raft_log.memory_bytes_max;
    core.feed_bytes_max = uint64_t{256} << chance_.below(5);
  }
  if (chance_.one_in(4)) core.waiting_bytes_max = uint64_t{1024} << chance_.below(4);
  if (chance_.one_in(4)) {
    core.behind_entries_max = chance_.between(1, 20);
    core.behind_ns_max = chance_.one_in(2) ? 0 : 50'000'000;
  }
  may_be_refused_ = core.waiting_bytes_max < (1 << 20) || core.behind_entries_max < 100;
  member_options_.disk = {.reserve_bytes = 16 << 10, .low_bytes = 64 << 10, .log_low_bytes = 16 << 10};
}

void Life::choose_leases() {
  member::LeaseOptions& leases = member_options_.core.leases;
  leases.checkpoints = chance_.one_in(2);
  leases.checkpoint_interval_ns = static_cast<int64_t>(chance_.between(1, 5)) * 1'000'000'000;
  leases.revokes_per_second = chance_.one_in(2) ? chance_.between(2, 10) : 1000;
  leases.revoked_keys_max = chance_.between(1, 20);
  leases.revokes_under_way_max = chance_.between(1, 10);
  leases.answer_keys_max = chance_.below(6);
  leases.listed_max = chance_.between(1, 10);
  leases.slots_per_step = chance_.between(1, 8);
  leases_ = std::make_unique<Leases>(chance_.fork(), model_, coverage_,
                                     [this](std::string text) { violation(std::move(text)); });
  constexpr int64_t kSlackNs = 10'000'000'000;  // leases are spread at a start, and revoked one after the other
  leases_->set_times(leases.extension_ns, kSlackNs);
}

void Life::plan_rounds() {
  std::vector<End> ends(kCrashes, End::kPowerCut);
  for (int i = 0; i < kOtherEnds; ++i) ends.push_back(static_cast<End>(chance_.between(1, 4)));
  for (size_t i = ends.size() - 1; i > 0; --i) std::swap(ends[i], ends[chance_.below(i + 1)]);
  ends.push_back(End::kStop);
  for (const End end : ends) rounds_.push_back(plan_round(end));
  plan_founding();
  if (options_.seed % kDiesAtPoints != 3) return;
  for (Plan& plan : rounds_) choose_point(plan);
}

void Life::plan_founding() {
  if (!chance_.one_in(4)) return;
  // A member that dies while it is founded: names and files that only the kernel knows of.
  Plan& first = rounds_.front();
  first = plan_round(chance_.one_in(3) ? End::kPowerCut : End::kDeath);
  first.op.reset();
  first.at_mutation = chance_.between(1, 30);
}

// Instead of the place on the disk that was chosen for the end.
void Life::choose_point(Plan& plan) {
  const bool ends_by_death = plan.end == End::kPowerCut || plan.end == End::kDeath;
  if (!ends_by_death || point_chance_.one_in(4)) return;
  plan.at_mutation = 0;
  plan.op.reset();
  plan.point = point_chance_.below(fault::kPointCount);
  plan.nth = point_chance_.between(1, point_chance_.one_in(2) ? 3 : 30);
}

Life::Plan Life::plan_round(End end) {
  Plan plan{.end = end, .requests = chance_.between(30, 90)};
  plan.small_disk = chance_.one_in(12);
  plan.stops_under_load = chance_.one_in(2);
  if (chance_.one_in(4)) plan.second_start_after = chance_.between(1, plan.requests);
  plan.other_program = chance_.one_in(8);
  if (chance_.one_in(4)) {
    plan.passing_op = chance_.one_in(2) ? Op::kAllocate : Op::kWrite;
    plan.passing = Fault::kNoSpace;
    if (chance_.one_in(6)) {
      plan.passing_op = chance_.one_in(2) ? Op::kPunch : Op::kTruncate;
      plan.passing = Fault::kIo;
    }
    plan.passing_one_in = chance_.between(2, 12);
  }
  const auto choose = [&](std::initializer_list<std::pair<Op, const char*>> from, uint64_t nth_max) {
    const auto& [op, path] = *(from.begin() + chance_.below(from.size()));
    plan.op = op;
    plan.path = path;
    plan.nth = chance_.between(1, nth_max);
  };
  switch (end) {
    case End::kPowerCut:
    case End::kDeath:
      plan.fault = Fault::kCrash;
      if (end == End::kDeath && chance_.one_in(3)) {
        // Of the db every other one is of a meta page: the next start finds one that is not synced. Of the log it finds
        // a segment whose name is not.
        choose({{Op::kSync, "/db"}, {Op::kSync, "/db"}, {Op::kSyncDirectory, "/wal"}}, 6);
        if (plan.op == Op::kSyncDirectory) plan.nth = (plan.nth + 2) / 3;
      } else if (chance_.one_in(3)) {
        plan.at_mutation = chance_.between(1, chance_.one_in(2) ? 40 : 400);
      } else if (!chance_.one_in(4)) {
        choose({{Op::kWrite, "/db"},    {Op::kSync, "/db"},      {Op::kAllocate, "/db"}, {Op::kTruncate, "/db"},
                {Op::kTruncate, "/db"}, {Op::kPunch, "/db"},     {Op::kPunch, "/db"},    {Op::kWrite, ".wal"},
                {Op::kSync, ".wal"},    {Op::kTruncate, ".wal"}, {Op::kRename, ""},      {Op::kSyncDirectory, ""},
                {Op::kCreate, ""},      {Op::kRemove, ""},       {Op::kWrite, ".tmp"},   {Op::kSync, ".tmp"},
                {Op::kWrite, "snap"},   {Op::kSync, "snap"},     {Op::kAllocate, ""},    {Op::kTruncate, ""}},
               chance_.one_in(2) ? 3 : 12);
        plan.meta_page = plan.path == "/db" && *plan.op == Op::kWrite && chance_.one_in(2);
        if (plan.meta_page) plan.nth = chance_.between(1, 5);
      }
      break;
    case End::kDiskError:
      plan.fault = Fault::kIo;
      choose({{Op::kWrite, "/db"},     {Op::kSync, "/db"},    {Op::kWrite, ".wal"},         {Op::kSync, ".wal"},
              {Op::kTruncate, ".wal"}, {Op::kRename, "wal"},  {Op::kSyncDirectory, "wal"},  {Op::kSync, "snap"},
              {Op::kWrite, "snap"},    {Op::kRename, "snap"}, {Op::kSyncDirectory, "snap"}, {Op::kCreate, "snap"},
              {Op::kSync, ".tmp"},     {Op::kWrite, ".tmp"},  {Op::kRead, ".wal"},          {Op::kRead, "/db"},
              {Op::kOpen, "/db"},      {Op::kMap, "/db"},     {Op::kOpen, ".wal"},          {Op::kOpen, ".snap"},
              {Op::kRead, ".snap"},    {Op::kList, "/wal"},   {Op::kList, "/snap"}},
             chance_.one_in(2) ? 3 : 10);
      break;
    case End::kLogFull:
      plan.fault = Fault::kNoSpace;
      choose({{Op::kWrite, ".wal"},
              {Op::kAllocate, "wal"},
              {Op::kCreate, "wal"},
              {Op::kWrite, ".tmp"},
              {Op::kCreate, "snap"},
              {Op::kWrite, "snap"}},
             10);
      break;
    case End::kStop: break;
  }
  return plan;
}

// --- faults

void Life::arm() {
  first_mutation_ = fs_.mutations();
  fs_.set_hook([this](const Operation& operation) { return on_operation(operation); });
  fs_.options().capacity_bytes = plan_.small_disk ? fs_.used_bytes() + chance_.below(256) * 1024 : uint64_t{1} << 40;
}

Fault Life::on_operation(const Operation& operation) {
  if (aside_) return Fault::kNone;
  if (member_) member_->other_threads(operation);
  if (fs_.crashed()) return Fault::kNone;
  const uint64_t metas_end = 2 * uint64_t{member_options_.bootstrap.page_bytes};
  const auto of = [&](Op op, const std::string& path) {
    return operation.op == op && operation.path.find(path) != std::string_view::npos;
  };
  const bool in_file = operation.path.ends_with("/db");
  if (in_file && operation.op == Op::kWrite) check_reserved(operation);
  const bool by_number = plan_.at_mutation > 0 && operation.number == first_mutation_ + plan_.at_mutation;
  const bool is_of_kind = plan_.op && plan_.nth > 0 && of(*plan_.op, plan_.path) &&
                          (!plan_.meta_page || operation.offset < metas_end) && !ending_;
  if (is_of_kind) --plan_.nth;
  const bool by_kind = is_of_kind && plan_.nth == 0;
  if (by_number || by_kind) {
    const std::string what = fmt::format("{} of {}", op_name(operation.op), operation.path);
    if (plan_.end == End::kDeath) {
      note("the process dies before " + what);
      coverage_.hit("death before a " + std::string(op_name(operation.op)));
      fs_.kill();
      return Fault::kNone;
    }
    if (plan_.fault == Fault::kCrash) {
      note("the power goes in " + what);
      coverage_.hit("power cut in a " + std::string(op_name(operation.op)));
    } else {
      note("the disk refuses " + what);
      coverage_.hit((plan_.fault == Fault::kIo ? "disk error in a " : "disk full in a ") +
                    std::string(op_name(operation.op)));
      fault_fired_ = true;
      if (operation.op == Op::kSync) coverage_.hit("sync that failed");
    }
    return plan_.fault;
  }
  if (plan_.passing != Fault::kNone && in_file && operation.op == plan_.passing_op && operation.offset >= metas_end &&
      member_ && member_->committing() && chance_.one_in(plan_.passing_one_in)) {
    coverage_.hit("passing fault in a " + std::string(op_name(operation.op)));
    return plan_.passing;
  }
  return Fault::kNone;
}

void Life::on_fault_point(fault::Point point) {
  if (aside_ || fs_.crashed()) return;
  ++points_reached_[point];
  if (plan_.point != point || ending_ || --plan_.nth > 0) return;
  plan_.point.reset();
  note(fmt::format("the process dies at {}", fault::kPoints[point].name));
  coverage_.hit("death at a fault point");
  fs_.kill();
}

// A commit reserves before it writes.
void Life::check_reserved(const Operation& operation) {
  if (!member_ || !member_->committing() || !fs_.options().can_allocate) return;
  if (fs_.missing_bytes(std::string(operation.path), operation.offset, operation.size) == 0) return;
  violation(
      fmt::format("the commit writes {} bytes at {} without having reserved them", operation.size, operation.offset));
}

void Life::on_commit_without_space(const Error& error) {
  coverage_.hit("commit tried again for want of space");
  note("no space for a commit: " + error.message);
  if (++space_refusals_ > 2) fs_.options().capacity_bytes = uint64_t{1} << 40;
  if (space_refusals_ > 5) plan_.passing = Fault::kNone;
}

void Life::on_checkpoint() {
  coverage_.hit("index checkpoints");
  note("an index checkpoint");
}

void Life::on_compaction_hash(const member::HashOrder& order, uint32_t hash) {
  coverage_.hit("hashes of compactions");
  const uint32_t expected = model_.hash(order.revision, order.compacted, /*of_compaction=*/true);
  if (hash == expected) return;
  violation(fmt::format("the hash of the compaction at {} after the one at {} is {} and should be {}", order.revision,
                        order.compacted, hash, expected));
}

// --- a life

const std::string& Life::run() {
  choose_options();
  plan_rounds();
  fault::set_handler([this](fault::Point point) {
    on_fault_point(point);
    return std::optional<std::string>();
  });
  for (auto& one : fault::armed) one = true;
  while (violation_.empty() && !rounds_.empty()) {
    plan_ = rounds_.front();
    rounds_.pop_front();
    ++round_;
    if (rounds_.empty() && requests_sent_ + plan_.requests < kRequestsMin)
      plan_.requests = kRequestsMin - requests_sent_;
    run_round();
  }
  if (violation_.empty()) coverage_.hit("lives");
  kinds_.add_to(coverage_);
  for (fault::Point point = 0; point < fault::kPointCount; ++point) {
    if (points_reached_[point] == 0) continue;
    coverage_.hit(fmt::format("fault point {}", fault::kPoints[point].name), points_reached_[point]);
  }
  coverage_.hit("requests", requests_sent_);
  return violation_;
}

void Life::run_round() {
  note(fmt::format("round {}: {}", round_, end_name(static_cast<int>(plan_.end))));
  round_requests_ = 0;
  waiting_ = 0;
  controls_.clear();
  in_use_.clear();
  fault_fired_ = ending_ = stop_asked_ = false;
  space_refusals_ = 0;
  no_space_since_ns_.reset();
  no_space_gone_ns_ = -1;
  leases_may_be_late_ = false;
  member_options_.seed = chance_.next();
  member_options_.bootstrap.opening = member_options_.seed;
  member_options_.core.first_request_id = (round_ << 40) + 1;  // what the member proposes is not what clients propose
  // Of a member that is alone the flag takes nothing away.
  member_options_.bootstrap.force_new_cluster = member_options_.seed % 5 == 0;
  if (member_options_.bootstrap.force_new_cluster) coverage_.hit("starts with --force-new-cluster");
  if (plan_.other_program) {
    coverage_.hit("another program wrote to the db");
    if (chance_.one_in(2)) {
      for (uint64_t commits = chance_.between(1, 3); commits > 0; --commits) {
        whole_from_ = std::max(whole_from_, commit_as_bbolt(fs_, kDataDir, /*keeps_list=*/chance_.one_in(2)));
      }
      note("another program has written to the db");
      const auto state = check_directory(fs_, directories_, model_);
      if (!state) return violation("the directory that another program left: " + state.error().message);
      in_use_bytes_ = state->in_use_bytes;  // with the list, if there is one
    } else {
      spoiled_.spoil(fs_, kDataDir, chance_);
    }
  }
  arm();
  aside_ = false;
  if (start_member()) {
    for (uint64_t i = 0; i < 1 + concurrency_ / 8; ++i) client_turn();
    serve();
  }
  aside_ = true;
  end_round();
}

bool Life::start_member() {
  coverage_.hit("starts");
  auto member = Member::start(fs_, schedule_, member_options_, *this);
  if (!member) {
    note("start failed: " + member.error().message);
    const bool allowed = fs_.crashed() || fault_fired_ || plan_.small_disk;
    if (!allowed) violation("the start failed: " + member.error().message);
    coverage_.hit(fs_.crashed() ? "crash during the start" : "start refused by a fault");
    return false;
  }
  member_ = *std::move(member);
  if (member_id_ == 0) {
    member_id_ = member_->member_id();
    model_.begin({.member_id = member_id_,
                  .cluster_id = member_->cluster_id(),
                  .has_quota = member_options_.core.apply.quota_bytes != 0});
    requests_ = std::make_unique<Requests>(chance_.fork(), member_id_);
  }
  if (member_->member_id() != member_id_) violation("the member has another id than before");
  if (member_->log().last_index() < model_.last()) {
    violation(
        fmt::format("the log ends at {}, and entry {} was committed", member_->log().last_index(), model_.last()));
  }
  check_state("after the start");
  check_space();
  in_use_.push_back({member_->apply().applied(), member_->engine().space().in_use_bytes});
  check_durable();
  leases_->begin_round(member_options_.core.first_request_id, schedule_.now_ns());
  reads_->attach(*member_);
  watches_->attach(*member_);
  return violation_.empty();
}

// In use is what the tree reaches, from the start: with a quota everything depends on it.
void Life::check_space() {
  const storage::Space space = member_->engine().space();
  if (in_use_bytes_ > 0 && space.in_use_bytes != in_use_bytes_) {
    violation(fmt::format("after the start {} of {} bytes are in use, and the tree reaches {}", space.in_use_bytes,
                          space.total_bytes, in_use_bytes_));
  }
}

// Once a member has started, nothing that it goes on from may be in the kernel's memory alone.
void Life::check_durable() {
  if (!violation_.empty() || fs_.crashed() || chance_.one_in(4)) return;
  const bool was_aside = std::exchange(aside_, true);
  const auto copy = fs_.clone(chance_.next());
  copy->crash(chance_.one_in(2) ? Damage::kLoseUnsynced : Damage::kMixed);
  spoiled_.mend(*copy, kDataDir);
  const auto state = check_directory(*copy, directories_, model_, {}, whole_from_);
  const auto found = member_->engine().view()->get(storage::Table::kMeta, "consistent_index");
  aside_ = was_aside;
  if (!state) return violation("a power cut after the start would leave: " + state.error().message);
  if (!state->founded) return violation("a power cut after the start would leave no log");
  if (!found) return violation("the db cannot be read: " + found.error().message);
  // Unless there was no space to write a meta page again.
  if (fault_fired_ || plan_.passing != Fault::kNone || plan_.small_disk) return;
  const Index goes_on_from(*found ? load_be64((*found)->data()) : 0);
  if (state->consistent < goes_on_from) {
    violation(fmt::format("the db is at {}, and a power cut after the start would leave it at {}", goes_on_from,
                          state->consistent));
  }
}

void Life::start_another() {
  coverage_.hit("another start on the directory");
  aside_ = true;
  const auto other = member::bootstrap(fs_, member_options_.bootstrap);
  aside_ = false;
  if (other) return violation("another process starts on the directory");
  if (other.error().code != Code::kUnavailable) violation("another start is refused with: " + other.error().message);
}

void Life::serve() {
  const int64_t began_ns = schedule_.now_ns();
  uint64_t events = 0;
  while (violation_.empty()) {
    if (fs_.crashed() || member_->failure() || member_->stopped()) return;
    if (plan_.second_start_after > 0 && round_requests_ >= plan_.second_start_after) {
      plan_.second_start_after = 0;
      start_another();
    }
    if (!ending_ && round_requests_ >= plan_.requests) {
      // A round that ends in peace answers everything first.
      if (plan_.end != End::kStop && plan_.end != End::kDiskError && plan_.end != End::kLogFull) {
        ending_ = true;
        note("the end, between two operations");
        if (plan_.end == End::kPowerCut) coverage_.hit("power cut between operations");
        return fs_.kill();
      }
      if (plan_.end == End::kStop && plan_.stops_under_load) {
        ending_ = true;
        if (!all_answered()) coverage_.hit("stops under load");
      } else if (all_answered()) {
        ending_ = true;
        check_state("at the end of a round");
      }
    }
    if (ending_ && !stop_asked_ && reads_->active() == 0 && watches_->settle()) {
      stop_asked_ = true;
      member_->stop();
    }
    const bool moved = schedule_.step();
    if (!moved || ++events > kEventsMax || schedule_.now_ns() - began_ns > kRoundNsMax) {
      std::string unanswered;
      for (const Sent& sent : sent_) {
        if (sent.round == round_ && sent.awaited && !sent.answered && !sent.refused)
          unanswered = fmt::format("{}", sent.index);
      }
      return violation(fmt::format("the member hangs after {} events: {} requests wait, entry {}; stop asked {}; {}",
                                   events, waiting_, unanswered, stop_asked_, member_->describe()));
    }
  }
}

void Life::end_round() {
  const bool stopped = member_ && member_->stopped() && !member_->failure();
  const bool saved = stopped && member_->ending() == member::Ending::kSaved;
  if (member_ && member_->failure() && !fs_.crashed()) violation("a failed member goes on");
  if (member_ && member_->failure() && !fault_fired_ && violation_.empty()) {
    const std::string& text = member_->failure()->message;
    const bool by_power = text.find("sim_fs: crashed") != std::string::npos;
    if (!by_power && !plan_.small_disk) violation("the member gave up: " + text);
  }
  if (fault_fired_ && member_ && member_->failure()) coverage_.hit("fail-stop after a disk error");
  reads_->detach();
  watches_->detach();
  schedule_.clear();
  member_.reset();
  if (!violation_.empty()) return;
  if (stopped) coverage_.hit(saved ? "clean stops" : "stops without room for the db");
  if (saved) check_stop_left_nobody_waiting();

  // The process is gone; what of the machine? After a sync that failed, its memory may have bytes that the disk does
  // not have and that no later sync writes.
  const bool power_cut = plan_.end == End::kPowerCut || chance_.one_in(3);
  if (power_cut) {
    cut_power();
  } else {
    fs_.restart();
    coverage_.hit("restart of the process alone");
  }
  check_left_over();
  if (violation_.empty() && saved && model_.last() != Index{}) {
    const auto state = check_directory(fs_, directories_, model_, {}, whole_from_);
    if (state && state->consistent != model_.last()) {
      violation(fmt::format("after a clean stop the file is at {} of {}", state->consistent, model_.last()));
    }
  }
}

void Life::cut_power() {
  coverage_.hit("crashes");
  if (fs_.volatile_changes() > 0) coverage_.hit("crashes with something unsynced");
  fs_.crash(chance_.one_in(6) ? Damage::kLoseUnsynced : Damage::kMixed);
}

void Life::check_left_over() {
  fs_.options().capacity_bytes = uint64_t{1} << 40;
  spoiled_.mend(fs_, kDataDir);
  spoiled_ = {};
  const auto state = check_directory(fs_, directories_, model_, {}, whole_from_);
  if (!state) return violation("the directory that was left: " + state.error().message);
  if (!state->founded) {
    if (model_.last() != Index{}) violation("the log is gone");
    return;
  }
  if (state->consistent < in_file_) {
    violation(fmt::format("entry {} was said to be in the file, which is at {}", in_file_, state->consistent));
  }
  in_use_bytes_ = state->in_use_bytes;
  coverage_.hit("log entries behind the file", state->last_entry - state->consistent);
  if (state->snapshot > Index{}) coverage_.hit("starts with a snapshot");
  note(fmt::format("left: log to {}, file at {} and {}, snapshot {}", state->last_entry, state->consistent,
                   state->older.value_or(Index{}), state->snapshot));
}

}  // namespace cairn::sim
