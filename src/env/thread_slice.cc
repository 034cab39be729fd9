#include "env/thread_slice.h"

#include <optional>

#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace cairn::env {
namespace {

constexpr uint64_t kShortNs = 100'000;  // the shortest that the kernel takes

// The kernel's struct sched_attr in its first version, which the C library does not have.
struct SchedulingAttributes {
  uint32_t size = sizeof(SchedulingAttributes);
  uint32_t policy = 0;
  uint64_t flags = 0;
  int32_t nice = 0;
  uint32_t priority = 0;
  uint64_t runtime_ns = 0;
  uint64_t deadline_ns = 0;
  uint64_t period_ns = 0;
};

// Nothing of a thread with another policy, which an operator has chosen.
std::optional<SchedulingAttributes> attributes_of_this_thread() {
  SchedulingAttributes out;
  const bool is_usual =
      ::syscall(SYS_sched_getattr, 0, &out, sizeof out, 0) == 0 && out.policy == static_cast<uint32_t>(SCHED_OTHER);
  return is_usual ? std::optional(out) : std::nullopt;
}

}  // namespace

void set_slice(Slice slice) {
  auto attributes = attributes_of_this_thread();
  if (!attributes) return;
  attributes->runtime_ns = slice == Slice::kShort ? kShortNs : 0;
  static_cast<void>(::syscall(SYS_sched_setattr, 0, &*attributes, 0));
}

uint64_t slice_ns() {
  const auto attributes = attributes_of_this_thread();
  return attributes ? attributes->runtime_ns : 0;
}

}  // namespace cairn::env
