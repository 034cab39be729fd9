#include "cmd/server/peering.h"

#include <algorithm>
#include <array>
#include <optional>
#include <span>
#include <utility>

#include "base/check.h"
#include "member/recovery/image.h"
#include "storage/engine.h"

namespace cairn::cmd {
namespace {

constexpr int64_t kSecondNs = 1'000'000'000;
// etcd's, of its peer handler.
constexpr auto kAskedPaths =
    std::to_array<std::string_view>({"/members", "/members/promote/", "/members/hashkv", "/leases", "/leases/internal",
                                     "/downgrade/enabled", "/version"});

// The image of the state that a snapshot's message keeps.
class ImageBytes final : public peer::ByteSource {
 public:
  explicit ImageBytes(std::unique_ptr<storage::ImageReader> image) : image_(std::move(image)) {}

  Result<size_t> read(std::span<char> into) override { return image_->read(into.data(), into.size()); }
  [[nodiscard]] uint64_t size_bytes() const override { return image_->size(); }

 private:
  const std::unique_ptr<storage::ImageReader> image_;
};

Result<std::unique_ptr<peer::ByteSource>> open_image(const raft::Message& message) {
  CAIRN_ASSERT(message.snapshot != nullptr);
  if (message.snapshot->source == nullptr) {
    return fail(Code::kInternal, "server: the snapshot at index {} has no state", message.snapshot->index);
  }
  CAIRN_TRY(auto image, storage::open_image(std::static_pointer_cast<const storage::View>(message.snapshot->source)));
  return std::make_unique<ImageBytes>(std::move(image));
}

std::optional<member::PeerReport::Kind> kind_of(peer::Report::Kind kind) {
  using From = peer::Report::Kind;
  using To = member::PeerReport::Kind;
  switch (kind) {
    case From::kUnreachable: return To::kUnreachable;
    case From::kStreamCut: return To::kStreamCut;
    case From::kDied: return To::kDied;
    case From::kSnapshotDelivered: return To::kSnapshotDelivered;
    case From::kSnapshotFailed: return To::kSnapshotFailed;
    case From::kActive: return To::kConnected;
    default: return std::nullopt;
  }
}

}  // namespace

PeerList peer_list(NodeId self, const cluster::Membership& members, const std::vector<cluster::Member>& remotes) {
  PeerList out;
  for (const auto& [id, member] : members.members) {
    if (id != self) out.others.push_back({.id = id, .urls = member.peer_urls});
  }
  if (members.find(self) == nullptr) {
    for (const cluster::Member& remote : remotes) {
      const bool is_known = members.find(remote.id) != nullptr || members.removed.contains(remote.id);
      if (remote.id != self && !is_known) out.others.push_back({.id = remote.id, .urls = remote.peer_urls});
    }
  }
  out.removed.assign(members.removed.begin(), members.removed.end());
  return out;
}

Peering::Peering(Options options) : options_(std::move(options)) {}

Peering::~Peering() { stop(); }

Status Peering::start(Start start) {
  start_ = std::move(start);
  peer::Transport::Options options;
  options.self = start_.self;
  options.cluster_id = start_.cluster_id;
  options.self_urls = options_.urls;
  options.listen = std::move(options_.listen);
  PeerList list = list_of(*start_.members);
  options.others = std::move(list.others);
  options.removed = std::move(list.removed);
  options.tls = std::move(options_.tls);
  options.dial_timeout_ns = options_.dial_timeout_ns;
  options.local_ip = options_.local_ip;
  options.fs = &options_.fs;
  options.snap_directory = start_.snap_directory;
  options.look_at_image = [&fs = options_.fs](const std::string& path, Index index) {
    return member::look_at_image(fs, path, index);
  };
  options.open_image = open_image;
  options.registry = &options_.registry;
  options.connection_read_timeout_ns = options.limits.read_timeout_ns = options_.read_timeout_ns;
  options.connection_write_timeout_ns = options.limits.write_timeout_ns = options_.write_timeout_ns;
  options.connections_max = options_.connections_max;
  // There, too, a part of what others may have: the streams want some.
  options.calls_max = std::clamp<size_t>(options_.connections_max / 8, 8, options.calls_max);
  options.limits.heartbeat_ns = options_.read_timeout_ns / 3;
  options.probe_interval_ns = options_.read_timeout_ns - kSecondNs;
  for (const std::string_view path : kAskedPaths) options.routes.emplace_back(path, start_.answer);
  CAIRN_TRY(transport_, peer::Transport::start(std::move(options), *this));
  return {};
}

void Peering::stop() {
  if (transport_ != nullptr) transport_->stop();
}

// ---- what the node asks for

void Peering::send(std::vector<raft::Message> messages) { transport_->send(std::move(messages)); }

void Peering::redial(NodeId member) { transport_->redial(member); }

PeerList Peering::list_of(const cluster::Membership& members) {
  has_joined_ = has_joined_ || members.find(start_.self) != nullptr;
  return peer_list(start_.self, members, has_joined_ ? std::vector<cluster::Member>{} : start_.remotes);
}

void Peering::set_members(std::shared_ptr<const cluster::Membership> members) {
  PeerList list = list_of(*members);
  transport_->set_members(std::move(list.others), std::move(list.removed));
}

bool Peering::speaks_cairn(NodeId member) const { return transport_ != nullptr && transport_->speaks_cairn(member); }

// ---- what the others bring

void Peering::on_messages(std::vector<raft::Message> messages) { start_.receive(std::move(messages)); }

void Peering::on_report(NodeId peer, peer::Report::Kind kind) {
  if (const auto told = kind_of(kind)) start_.report({*told, peer});
}

// The transport has said so in the log.
void Peering::on_removed_by(NodeId peer) { start_.report({member::PeerReport::Kind::kTellsRemoval, peer}); }

}  // namespace cairn::cmd
