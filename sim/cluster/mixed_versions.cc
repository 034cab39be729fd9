#include "sim/cluster/mixed_versions.h"

namespace cairn::sim {
namespace {

constexpr uint64_t kLivesForOne = 8;
constexpr size_t kFoundersMin = 3;
constexpr size_t kOlderMin = 2;  // so that each of them hears of another one
constexpr uint64_t kOldest = 4;  // 3.4

}  // namespace

void MixedVersions::choose(Random chance, size_t founders, MemberOptions& options) {
  if (!chance.one_in(kLivesForOne) || founders < kFoundersMin) return;
  chance_ = chance.fork();
  // Else below 3.6 a member forgets checkpoints when it restarts, and the others do not.
  options.core.apply.lease_checkpoint_persist = true;
  const size_t count = kOlderMin + chance_.below(founders - kOlderMin + 1);
  while (older_.size() < count) {
    const auto minor = static_cast<int64_t>(kOldest + chance_.below(cluster::kOwnVersion.minor - kOldest));
    older_.emplace(chance_.below(founders), cluster::MinorVersion{cluster::kOwnVersion.major, minor});
  }
  coverage_.hit("lives of mixed versions");
}

void MixedVersions::note_restart(size_t place) {
  if (!is_etcd(place) || !chance_.one_in(3)) return;
  older_.erase(place);
  coverage_.hit("members of an older version replaced");
}

cluster::MinorVersion MixedVersions::version_of(size_t place) const {
  const auto at = older_.find(place);
  return at == older_.end() ? cluster::kOwnVersion : at->second;
}

member::VersionReport MixedVersions::report(const member::VersionQuestion& question,
                                            const std::function<std::optional<size_t>(NodeId)>& place_of) const {
  member::VersionReport out{.term = question.term, .others = {}};
  for (const NodeId id : question.members) {
    const auto place = place_of(id);
    member::VersionReport::One one{.member = id, .server = std::nullopt, .is_cairn = place && !is_etcd(*place)};
    if (place) one.server = version_of(*place);
    out.others.push_back(one);
  }
  return out;
}

}  // namespace cairn::sim
