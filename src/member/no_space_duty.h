// member/no_space_duty.h: this member withdraws its own NOSPACE alarm once there has been room again for a while; the
// leader also those of members that were removed.
//
// An operator who deletes, compacts or enlarges the disk need not disarm the alarm. Room is: less than 90 % of the
// quota is in use, the disk is not low, and the last commit found space. Nobody
// records who raised an alarm, so one that a client raised in this member's name goes as well. Alarms of other
// members of the cluster, and CORRUPT, stay.
//
// compat: in etcd the alarm stays until somebody disarms it.
// No clock here: each step brings its time. Threads: the core thread's; part of MemberCore.
#pragma once

#include <cstdint>
#include <optional>

namespace cairn::member {

struct NoSpaceOptions {
  bool clears = true;
  int64_t after_ns = 10'000'000'000;  // of room without a break, and between two requests
};

class NoSpaceDuty {
 public:
  struct Scene {
    bool is_raised = false;  // one that this member may withdraw is in force
    bool disk_is_low = false;
    uint64_t in_use_bytes = 0;
    uint64_t quota_bytes = 0;  // 0: none
    int64_t now_ns = 0;
  };

  explicit NoSpaceDuty(const NoSpaceOptions& options) : options_(options) {}

  // True: the alarm is to be withdrawn now.
  bool act(const Scene& scene);
  // When act() will be true if nothing changes; nullopt: never.
  [[nodiscard]] std::optional<int64_t> next_ns() const;

 private:
  [[nodiscard]] static bool has_room(const Scene& scene);

  const NoSpaceOptions options_;
  std::optional<int64_t> waits_since_ns_;  // there is room, and the alarm is in force
};

}  // namespace cairn::member
