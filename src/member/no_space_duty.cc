#include "member/no_space_duty.h"

#include "base/check.h"

namespace cairn::member {
namespace {

constexpr uint64_t kRoomPercent = 90;

}  // namespace

bool NoSpaceDuty::has_room(const Scene& scene) {
  if (CAIRN_MUTANT("server.no_space_cleared_without_room")) return true;
  if (scene.disk_is_low) return false;
  return scene.quota_bytes == 0 || scene.in_use_bytes < scene.quota_bytes / 100 * kRoomPercent;
}

bool NoSpaceDuty::act(const Scene& scene) {
  if (!options_.clears || !scene.is_raised || !has_room(scene)) {
    waits_since_ns_.reset();
    return false;
  }
  if (!waits_since_ns_) waits_since_ns_ = scene.now_ns;
  if (scene.now_ns - *waits_since_ns_ < options_.after_ns) return false;
  // A request may be lost with a leader. Then there is another one after the same time.
  waits_since_ns_ = scene.now_ns;
  return true;
}

std::optional<int64_t> NoSpaceDuty::next_ns() const {
  if (!waits_since_ns_) return std::nullopt;
  return *waits_since_ns_ + options_.after_ns;
}

}  // namespace cairn::member
