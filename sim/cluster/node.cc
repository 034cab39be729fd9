#include "sim/cluster/node.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "member/start_names.h"

namespace cairn::sim {
namespace {

constexpr uint64_t kMappingBytes = 64 << 20;
constexpr int64_t kWallAtStartNs = int64_t{1'700'000'000} * 1'000'000'000;

}  // namespace

ClusterNode::ClusterNode(Options options, int64_t world_ns, NodeHost& host)
    : options_(std::move(options)),
      host_(host),
      chance_(options_.seed),
      clock_(world_ns, static_cast<int64_t>(chance_.between(1, 1'000'000)) * 1'000'000, options_.drift_ppm),
      fs_({.seed = chance_.next(), .mapping_bytes_max = kMappingBytes}) {
  fs_.make_durable_directories("/data");
  fs_.options().poison_punched = true;
  schedule_.advance_to(clock_.local(world_ns));
  options_.member.disk_ns = [this](const Operation& operation) { return disk_ns(operation); };
  options_.member.arrangement = Arrangement::kWalApart;
}

ClusterNode::~ClusterNode() {
  if (member_) end_process();
}

Directories ClusterNode::directories() const {
  const std::string& data = options_.member.bootstrap.data_dir;
  return {data, data + "/member/wal"};
}

// --- the process

Status ClusterNode::start(int64_t world_ns) {
  CAIRN_ASSERT(!member_);
  arrive(world_ns);
  ++starts_;
  is_on_ = true;
  MemberOptions options = options_.member;
  options.seed = chance_.next();
  options.bootstrap.opening = options.seed;
  const member::StartNames names = member::start_names(member_id_, options.bootstrap.opening);  // as the server's
  options.core.first_request_id = names.first_request_id;
  options.core.replication.start_epoch = names.epoch;
  fs_.set_hook([this](const Operation& operation) {
    if (member_) member_->other_threads(operation);
    return fs_.crashed() ? Fault::kNone : host_.on_operation(*this, operation);
  });
  auto member = Member::start(fs_, schedule_, std::move(options), *this);
  if (!member) return std::unexpected(std::move(member).error());
  member_ = *std::move(member);
  started_ns_ = world_ns;
  if (member_->member_id() != member_id_) {
    const uint64_t other = member_->member_id();
    kill();
    return fail(Code::kInternal, "the simulator: {:x} was told to be {:x}", member_id_, other);
  }
  reader_ = member_->published().register_thread();
  return {};
}

void ClusterNode::end_process() {
  fs_.kill();
  member_->die();
  schedule_.clear();
  reader_.reset();
  member_.reset();
  paused_until_ns_ = 0;
}

void ClusterNode::kill() {
  if (member_) end_process();
  fs_.restart();
  disk_.stalled_until_ns = 0;
}

void ClusterNode::cut_power(Damage damage) {
  if (member_) end_process();
  fs_.crash(damage);
  is_on_ = false;
  disk_.stalled_until_ns = 0;
}

void ClusterNode::wipe() {
  CAIRN_ASSERT(!member_);
  CAIRN_ASSERT(fs_.remove_all(options_.member.bootstrap.data_dir) && fs_.sync_directory("/data"));
}

bool ClusterNode::has_data() { return member::holds_member(fs_, options_.member.bootstrap); }

// --- time

int64_t ClusterNode::wall_ns(int64_t world_ns) const { return kWallAtStartNs + world_ns + wall_offset_ns_; }

std::optional<int64_t> ClusterNode::next_ns() const {
  const auto next = schedule_.next_ns();
  if (!next) return std::nullopt;
  if (*next <= schedule_.now_ns()) return paused_until_ns_;
  if (*next != next_local_ns_) {
    next_local_ns_ = *next;
    next_world_ns_ = clock_.world(*next);
  }
  return std::max(next_world_ns_, paused_until_ns_);
}

void ClusterNode::step(int64_t world_ns) {
  arrive(world_ns);
  schedule_.step();
}

int64_t ClusterNode::disk_ns(const Operation& operation) {
  const int64_t mean = operation.op == Op::kSync ? disk_.sync_ns : disk_.write_ns;
  int64_t ns = mean / 2 + static_cast<int64_t>(chance_.below(static_cast<uint64_t>(mean) + 1));
  if (chance_.one_in(200)) ns *= static_cast<int64_t>(chance_.between(2, 40));
  return ns + std::max<int64_t>(0, disk_.stalled_until_ns - schedule_.now_ns());
}

// --- what comes in

void ClusterNode::receive(raft::Message message, int64_t world_ns) {
  arrive(world_ns);
  member_->receive(std::move(message));
}
void ClusterNode::report(const member::PeerReport& report, int64_t world_ns) {
  arrive(world_ns);
  member_->report(report);
}
void ClusterNode::tell_versions(member::VersionReport report, int64_t world_ns) {
  arrive(world_ns);
  member_->tell_versions(std::move(report));
}
void ClusterNode::transfer(const member::TransferRequest& request, int64_t world_ns) {
  arrive(world_ns);
  member_->transfer(request);
}
void ClusterNode::propose(member::Proposal proposal, int64_t world_ns) {
  arrive(world_ns);
  member_->propose(std::move(proposal));
}
void ClusterNode::change_members(member::Proposal change, int64_t world_ns) {
  arrive(world_ns);
  member_->change_members(std::move(change));
}
void ClusterNode::control(member::ControlRequest request, int64_t world_ns) {
  arrive(world_ns);
  member_->control(request);
}
void ClusterNode::ask(const member::LeaseRequest& request, int64_t world_ns) {
  arrive(world_ns);
  member_->ask(request);
}
void ClusterNode::stop(int64_t world_ns) {
  arrive(world_ns);
  member_->stop();
}

void ClusterNode::save_image(Index index, std::string bytes, std::function<void(const Status&)> done,
                             int64_t world_ns) {
  arrive(world_ns);
  member_->save_image(index, std::move(bytes), std::move(done));
}

size_t any_that_serves(const std::vector<std::unique_ptr<ClusterNode>>& nodes, Random& chance) {
  size_t place = chance.below(nodes.size());
  for (size_t i = 0; i < nodes.size(); ++i, place = (place + 1) % nodes.size()) {
    if (nodes[place]->standing() == ClusterNode::Standing::kServes) break;
  }
  return place;
}

ClusterNode* any_that_answers(const std::vector<std::unique_ptr<ClusterNode>>& nodes, Random& chance) {
  const size_t first = chance.below(nodes.size());
  for (size_t i = 0; i < nodes.size(); ++i) {
    ClusterNode& node = *nodes[(first + i) % nodes.size()];
    if (node.standing() == ClusterNode::Standing::kServes && node.is_running()) return &node;
  }
  return nullptr;
}

std::optional<size_t> leader_of(const std::vector<std::unique_ptr<ClusterNode>>& nodes) {
  std::optional<size_t> out;
  Term term;
  for (const auto& node : nodes) {
    if (!node->is_running() || !node->raft().is_leader() || node->raft().term() < term) continue;
    term = node->raft().term();
    out = node->place();
  }
  return out;
}

}  // namespace cairn::sim
