#include "sim/member.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "base/check.h"
#include "base/errors.h"
#include "member/log_service.h"

namespace cairn::sim {
namespace {

constexpr uint64_t kIdleStepsMax = 200;
constexpr uint64_t kSlicesAtStopMax = 1000;

}  // namespace

Result<std::unique_ptr<Member>> Member::start(SimFileSystem& fs, Schedule& schedule, MemberOptions options,
                                              MemberClient& client) {
  CAIRN_TRY(member::Bootstrapped state, member::bootstrap(fs, options.bootstrap));
  return std::unique_ptr<Member>(new Member(fs, schedule, std::move(options), client, std::move(state)));
}

Member::Member(SimFileSystem& fs, Schedule& schedule, MemberOptions options, MemberClient& client,
               member::Bootstrapped state)
    : fs_(fs),
      schedule_(schedule),
      options_(std::move(options)),
      client_(client),
      chance_(options_.seed),
      member_id_(state.member_id),
      cluster_id_(state.cluster_id),
      wal_stage_(std::make_unique<member::WalStage>(fs, std::move(state.log), state.snap_directory)),
      client_to_core_(schedule, chance_.fork(), options_.delay_mean_ns),
      core_to_wal_(schedule, chance_.fork(), options_.delay_mean_ns),
      wal_to_core_(schedule, chance_.fork(), options_.delay_mean_ns),
      core_to_commit_(schedule, chance_.fork(), options_.delay_mean_ns),
      commit_to_core_(schedule, chance_.fork(), options_.delay_mean_ns),
      core_to_client_(schedule, chance_.fork(), options_.delay_mean_ns),
      core_to_house_(schedule, chance_.fork(), options_.delay_mean_ns * 4),
      house_to_core_(schedule, chance_.fork(), options_.delay_mean_ns),
      log_readers_(schedule, Random(options_.seed ^ 0x10c), options_.delay_mean_ns * 4),
      hash_lane_(schedule, chance_.fork(), options_.delay_mean_ns * 4) {
  options_.core.replication.raft.id = NodeId(member_id_);
  options_.core.replication.raft.seed = chance_.next();
  const uint64_t start_epoch = chance_.next();
  if (options_.core.replication.start_epoch == 0) options_.core.replication.start_epoch = start_epoch;
  options_.core.apply.member_id = member_id_;
  options_.core.apply.hash_compactions = true;
  member_core_ = std::make_unique<member::MemberCore>(options_.core, std::move(state.raft_log), state.start,
                                                      std::move(state.state), schedule_.now_ns(), &client_);
  commit_reader_ = published().register_thread();
  hash_reader_ = published().register_thread();
  commit_stage_ = std::make_unique<member::CommitStage>(std::move(state.engine), *commit_reader_);
  installer_ = std::make_unique<member::Installer>(
      fs, member::Installer::Options{.snap_directory = state.snap_directory,
                                     .checkpoint_directory = state.checkpoint_directory,
                                     .open = std::move(state.open_db),
                                     .cluster_id = state.cluster_id,
                                     .lease_ttl_min = options_.bootstrap.lease_ttl_min});
  options_.checkpoint.directory = state.checkpoint_directory;
  options_.disk.directory = state.checkpoint_directory;
  options_.disk.log_directory = log().directory();
  housekeeper_reader_ = published().register_thread();
  housekeeper_ = std::make_unique<member::Housekeeper>(
      fs,
      member::Housekeeper::Options{.disk = options_.disk,
                                   .checkpoint = options_.checkpoint,
                                   .snap_directory = state.snap_directory,
                                   .segment_bytes = options_.bootstrap.wal.segment_bytes},
      wal_stage_->spares(), state.checkpoint, *housekeeper_reader_);
  if (options_.disk_ns) {
    for (Worker* worker : {&wal_, &committer_, &house_, &receiver_}) worker->use_fiber();
  }
  schedule_.after(0, [this] {
    core_.run([this] { step(); });
    house_.run([this] { keep_house(); });
  });
}

Member::~Member() = default;

void Member::fail_stop(Error error) {
  if (failure_) return;
  failure_ = std::move(error);
  // The process is gone, so work under way elsewhere stops.
  fs_.kill();
  for (Worker* worker : {&core_, &wal_, &committer_, &house_, &receiver_}) worker->forget();
}

std::string Member::describe() const {
  return fmt::format("{}, log to {}, durable commit {}, busy {}{}{}{}", member_core_->describe(), log().last_index(),
                     log().hard_state().commit, core_.idle() ? "" : "r", wal_.idle() ? "" : "w",
                     committer_.idle() ? "" : "c", house_.idle() ? "" : "h");
}

// --- events

template <class Put>
void Member::tell_core(Lane& lane, Put put) {
  lane.send([this, put = std::move(put)]() mutable {
    put(arrived_);
    core_.run([this] {
      if (arrived_.empty()) return;
      idle_steps_ = 0;
      step();
    });
  });
}

void Member::propose(member::Proposal proposal) {
  if (!member_core_->admit(proposal->bytes.size())) {
    core_to_client_.send([this, tag = proposal->tag] {
      if (!failure_) client_.on_refused(tag, errors::request_too_many_requests());
    });
    return;
  }
  proposals_.push_back(std::move(proposal));
  if (proposals_.size() > 1) return;
  tell_core(client_to_core_, [this](member::Events& events) {
    events.proposals.insert(events.proposals.end(), std::make_move_iterator(proposals_.begin()),
                            std::make_move_iterator(proposals_.end()));
    proposals_.clear();
  });
}

void Member::change_members(member::Proposal change) {
  tell_core(client_to_core_, [change = std::move(change)](member::Events& events) mutable {
    events.conf_changes.push_back(std::move(change));
  });
}

void Member::control(member::ControlRequest request) {
  tell_core(client_to_core_, [request](member::Events& events) { events.controls.push_back(request); });
}

void Member::raise_alarm(uint32_t type) {
  tell_core(client_to_core_, [type](member::Events& events) { events.alarms.push_back(type); });
}

void Member::ask(const member::LeaseRequest& request) {
  tell_core(client_to_core_, [request](member::Events& events) { events.leases.push_back(request); });
}

// As in the driver's mailbox, a step that comes before takes what has come.
void Member::wake_core() {
  schedule_.after(0, [this] {
    core_.run([this] {
      if (arrived_.empty()) return;
      idle_steps_ = 0;
      step();
    });
  });
}

void Member::receive(raft::Message message) {
  if (arrived_.messages.empty()) wake_core();
  arrived_.messages.push_back(std::move(message));
}

void Member::report(const member::PeerReport& report) {
  arrived_.peer_reports.push_back(report);
  wake_core();
}

void Member::tell_versions(member::VersionReport report) {
  arrived_.versions = std::move(report);
  wake_core();
}

void Member::transfer(const member::TransferRequest& request) {
  arrived_.transfers.push_back(request);
  wake_core();
}

void Member::die() {
  fail_stop(Error{Code::kUnavailable, "killed"});
  fs_.kill();
  for (Worker* worker : {&wal_, &committer_, &house_, &receiver_}) worker->run_out();
}

void Member::stop() {
  tell_core(client_to_core_, [](member::Events& events) { events.stop = true; });
}

// --- the core

void Member::step() {
  if (failure_ || ending_ != member::Ending::kNone) return;
  std::swap(events_, arrived_);
  do {
    client_.on_events(events_);
    carry_out(member_core_->step(events_, schedule_.now_ns()));
  } while (!failure_ && ending_ == member::Ending::kNone && !events_.empty());
}

void Member::carry_out(member::Effects& effects) {
  client_.on_effects(effects);
  if (effects.has_news) client_.on_news();
  if (!effects.messages.empty()) client_.on_messages(effects.messages);
  if (!effects.redial.empty()) client_.on_redial(effects.redial);
  if (effects.ask_versions) client_.on_question(*effects.ask_versions);
  answer(effects);
  if (effects.failed) return fail_stop(*effects.failed);
  client_.on_step();
  if (effects.is_ready) client_.on_ready();
  if (effects.commit) {
    core_to_commit_.send(
        [this, job = *std::move(effects.commit)] { committer_.run([this, job] { run_commit(job); }); });
  }
  if (effects.install) {
    core_to_commit_.send([this, order = *effects.install] { committer_.run([this, order] { run_install(order); }); });
  }
  for (const member::LogRead& read : effects.log_reads) log_readers_.send([this, read] { read_log(read); });
  if (effects.hash) hash_lane_.send([this, order = *effects.hash] { begin_hash(order); });
  const member::Housekeeper::Orders orders = member::Housekeeper::Orders::of(effects);
  if (!orders.empty()) {
    core_to_house_.send([this, orders] {
      orders_.add(orders);
      house_.run([this] { keep_house(); });
    });
  }
  plan_step(effects.wake_at_ns);
  ending_ = effects.ending;
  if (ending_ != member::Ending::kNone) return house_.run([this] { finish_stop(); });
  write(effects.wal);
}

void Member::answer(member::Effects& effects) {
  effects.answers.hand_out([this](unsigned, member::AnswerBatch batch) {
    core_to_client_.send([this, batch = std::move(batch)] {
      if (failure_) return;
      for (const member::Answer& one : batch.answers) client_.on_answer(one.tag, one.code, batch.text(one));
    });
  });
  for (member::Refused& refused : effects.refused) {
    core_to_client_.send([this, refused = std::move(refused)] {
      if (!failure_ && refused.tag != 0) client_.on_refused(refused.tag, refused.error);  // else it is the member's own
    });
  }
}

// The next step: when it is due, and no event comes before.
void Member::plan_step(std::optional<int64_t> wake_at_ns) {
  if (!wake_at_ns) return;
  const int64_t when = std::max(*wake_at_ns, schedule_.now_ns() + 1000);  // a thread needs a moment to wake up
  if (planned_step_ns_ && *planned_step_ns_ <= when) return;
  planned_step_ns_ = when;
  schedule_.at(when, [this, when] {
    if (planned_step_ns_ != when) return;  // an earlier one took its place
    planned_step_ns_.reset();
    core_.run([this] {
      const int64_t now_ns = schedule_.now_ns();
      idle_steps_ = now_ns - last_idle_step_ns_ < 100'000 ? idle_steps_ + 1 : 0;
      last_idle_step_ns_ = now_ns;
      CAIRN_ASSERT(idle_steps_ < kIdleStepsMax);  // else the thread spins without doing anything
      step();
    });
  });
}

// --- the log

void Member::write(std::vector<member::WalWrite>& writes) {
  if (options_.arrangement == Arrangement::kWalInLine) {
    // While the disk works, others go on, but the core does not step.
    if (writes.empty()) return;
    auto done = run_wal(std::move(writes));
    if (!done) return;
    events_.wal = *std::move(done);
    events_.is_interim = true;
    return;
  }
  for (member::WalWrite& one : writes) {
    core_to_wal_.send([this, one = std::move(one)]() mutable {
      writes_.push_back(std::move(one));
      wal_.run([this] { write_arrived(); });
    });
  }
}

// What has come while the log was written is written together.
void Member::write_arrived() {
  if (failure_ || writes_.empty()) return;
  auto done = run_wal(std::exchange(writes_, {}));
  if (!done) return;
  for (member::WalDone& one : *done) {
    if (auto messages = std::exchange(one.messages, {}); !messages.empty()) client_.on_messages(messages);
  }
  tell_core(wal_to_core_, [done = *std::move(done)](member::Events& events) mutable {
    for (member::WalDone& one : done) events.wal.push_back(std::move(one));
  });
}

// nullopt: the process is gone.
std::optional<std::vector<member::WalDone>> Member::run_wal(std::vector<member::WalWrite> writes) {
  if (failure_) return std::nullopt;
  wal_busy_ = true;
  auto done = wal_stage_->run(std::move(writes));
  wal_busy_ = false;
  if (failure_) return std::nullopt;
  if (done) return *std::move(done);
  fail_stop(std::move(done).error());
  return std::nullopt;
}

// --- the db

void Member::run_commit(const member::CommitJob& job) {
  if (failure_) return;
  committing_ = true;
  member::CommitDone done = commit_stage_->run(job);
  committing_ = false;
  if (failure_) return;
  if (done.status) {
    client_.on_commit_done(job);
  } else if (done.status.error().code == Code::kResourceExhausted) {
    client_.on_commit_without_space(done.status.error());
  }
  tell_core(commit_to_core_,
            [done = std::move(done)](member::Events& events) mutable { events.commit = std::move(done); });
}

// --- for other members, and from them

void Member::run_install(const member::InstallOrder& order) {
  if (failure_) return;
  committing_ = true;
  auto done = std::make_shared<member::InstallDone>(installer_->run(order, *commit_stage_));
  committing_ = false;
  if (failure_) return;
  tell_core(commit_to_core_, [done](member::Events& events) { events.installed = std::move(*done); });
}

// The disk takes its time before anything is found, and so does the way back.
void Member::read_log(const member::LogRead& read) {
  const int64_t ns = options_.disk_ns ? options_.disk_ns({.op = Op::kRead, .path = {}}) : 0;
  if (ns <= 0) return find_in_log(read);
  schedule_.after(ns, [this, read] { find_in_log(read); });
}

void Member::find_in_log(const member::LogRead& read) {
  if (failure_) return;
  auto done = std::make_shared<member::LogReadDone>(member::read_log(*log().index(), read));
  tell_core(log_readers_, [done](member::Events& events) { events.log_reads.push_back(std::move(*done)); });
}

// Complete and synced before it has its name. One that is there already is the same.
Status Member::write_image(Index index, std::string_view bytes) {
  constexpr size_t kPieceBytes = 16 << 10;
  const std::string directory = options_.bootstrap.data_dir + "/member/snap";
  const std::string temporary = fmt::format("{}/tmp{}", directory, ++images_);
  const std::string target = member::image_path(directory, index);
  {
    CAIRN_TRY(const auto file, fs_.open(temporary, env::OpenMode::kCreateEmpty));
    for (size_t at = 0; at < bytes.size(); at += kPieceBytes) {
      CAIRN_CHECK(file->pwrite(bytes.substr(at, kPieceBytes), at));
    }
    CAIRN_CHECK(file->fdatasync());
  }
  CAIRN_CHECK(fs_.exists(target) ? fs_.remove(temporary) : fs_.rename(temporary, target));
  return fs_.sync_directory(directory);
}

void Member::save_image(Index index, std::string bytes, std::function<void(const Status&)> done) {
  receiver_.run([this, index, bytes = std::move(bytes), done = std::move(done)] {
    if (failure_) return;
    const Status written = write_image(index, bytes);
    if (!failure_) done(written);
  });
}

// --- hashes of compactions

void Member::begin_hash(const member::HashOrder& order) {
  if (failure_ || ending_ != member::Ending::kNone) return;
  hasher_ = std::make_unique<member::CompactionHasher>(order, *hash_reader_);
  go_on_with_hash(order);
}

void Member::go_on_with_hash(const member::HashOrder& order) {
  if (failure_ || ending_ != member::Ending::kNone) return hasher_.reset();
  const auto done = hasher_->step(chance_.between(1, 200));
  if (done && !*done) return hash_lane_.send([this, order] { go_on_with_hash(order); });
  const member::HashDone result = done ? hasher_->result() : member::HashDone{order.revision, std::nullopt};
  hasher_.reset();
  if (result.hash) client_.on_compaction_hash(order, *result.hash);
  tell_core(hash_lane_, [result](member::Events& events) { events.hash = result; });
}

// --- housekeeping

void Member::keep_house() {
  if (failure_ || ending_ != member::Ending::kNone) return;
  const member::Housekeeper::Orders orders = std::exchange(orders_, {});
  const member::Housekeeper::Slice slice = housekeeper_->step(orders, schedule_.now_ns());
  if (failure_) return;
  if (housekeeper_->checkpoints_written() > std::exchange(checkpoints_seen_, housekeeper_->checkpoints_written())) {
    client_.on_checkpoint();
  }
  if (slice.disk_is_low) {
    tell_core(house_to_core_, [low = slice.disk_is_low](member::Events& events) { events.disk_is_low = low; });
  }
  const int64_t when = std::max(slice.again_at_ns, schedule_.now_ns() + 1000);
  if (planned_slice_ns_ && *planned_slice_ns_ <= when && *planned_slice_ns_ > schedule_.now_ns()) return;
  planned_slice_ns_ = when;
  schedule_.at(when, [this, when] {
    if (planned_slice_ns_ != when) return;
    planned_slice_ns_.reset();
    house_.run([this] { keep_house(); });
  });
}

// --- others

void Member::other_threads(const Operation& operation) {
  if (options_.disk_ns) return take_time(operation);
  if (failure_ || options_.overlap_one_in == 0 || depth_ >= 2 || !(committing_ || wal_busy_)) return;
  const bool of_a_writer = operation.op == Op::kWrite || operation.op == Op::kSync || operation.op == Op::kPunch ||
                           operation.op == Op::kTruncate || operation.op == Op::kAllocate;
  if (!of_a_writer || !(operation.path.ends_with("/db") || operation.path.ends_with(".wal"))) return;
  if (!chance_.one_in(options_.overlap_one_in)) return;
  ++depth_;
  for (uint64_t left = chance_.between(1, 12); left > 0 && !failure_ && !fs_.crashed(); --left) {
    if (!schedule_.step()) break;
  }
  --depth_;
}

// Operations on names and opens take none: a hook may not be interrupted there (sim/disk/sim_fs.h).
void Member::take_time(const Operation& operation) {
  const bool may_wait = operation.op == Op::kWrite || operation.op == Op::kSync || operation.op == Op::kPunch ||
                        operation.op == Op::kTruncate || operation.op == Op::kAllocate;
  Fiber* const fiber = Fiber::current();
  if (!may_wait || fiber == nullptr || failure_) return;
  const int64_t ns = options_.disk_ns(operation);
  if (ns <= 0) return;
  schedule_.after(ns, [fiber] { fiber->resume(); });
  Fiber::wait();
}

// All threads have ended.
void Member::finish_stop() {
  is_closed_ = ending_ != member::Ending::kSaved;
  if (is_closed_) return;
  uint64_t slices = 0;
  housekeeper_->save_at_stop([&] { return ++slices > kSlicesAtStopMax; });
  if (housekeeper_->checkpoints_written() > checkpoints_seen_) client_.on_checkpoint();
  if (auto status = commit_stage_->close(); !status) return fail_stop(std::move(status).error());
  is_closed_ = true;
}

}  // namespace cairn::sim
