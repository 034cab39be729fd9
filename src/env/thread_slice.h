// env/thread_slice.h: how long a thread runs before the kernel looks who else waits.
//
// A request passes through several threads that sleep and are woken. Where others compute (a compiler, a neighbour, a
// member that catches up) each of them waits for the end of somebody's slice, milliseconds. A thread that asks for a
// short slice of its own runs at once when it wakes, and gets no more of the processor in all.
//
// Source: sched_setattr(2); Linux 6.12 and later take sched_runtime for it. Older ones ignore it.
#pragma once

#include <cstdint>

namespace cairn::env {

enum class Slice : uint8_t { kUsual, kShort };

// Of the calling thread, and of those that it begins. Where the kernel does not allow it nothing changes.
void set_slice(Slice slice);

// The calling thread's, in nanoseconds; 0: not known.
[[nodiscard]] uint64_t slice_ns();

}  // namespace cairn::env
