// gateway/cpu_profile.h: where the process spends its processor time, in the format that `go tool pprof` reads.
//
// A timer of processor time (ITIMER_PROF) interrupts whichever thread runs, 100 times for each second that the process
// uses. The handler notes the frames of that thread: it follows frame pointers, and reads them with process_vm_readv,
// so that a wrong one (of a library built without) ends the walk and not the process. Names come from the symbol tables
// of the program and of its libraries afterwards.
//
// Threads: one profile at a time, begun and ended on any.
// Source:  https://github.com/google/pprof/blob/main/proto/profile.proto
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"

namespace cairn::gateway {

class CpuProfile {
 public:
  static constexpr int64_t kSamplesPerSecond = 100;

  // Begins to take samples.
  //   errors: kFailedPrecondition: one is being taken already
  static Result<std::unique_ptr<CpuProfile>> begin();
  ~CpuProfile();
  CpuProfile(const CpuProfile&) = delete;
  CpuProfile& operator=(const CpuProfile&) = delete;

  // Ends it. The profile, not compressed. `began_wall_ns` and `took_ns` are told to the reader.
  [[nodiscard]] std::string end(int64_t began_wall_ns, int64_t took_ns);

 private:
  CpuProfile() = default;
};

// One stack, innermost first, and how often it was seen.
struct ProfiledStack {
  std::vector<uint64_t> addresses;
  uint64_t times = 0;
};
// The functions at addresses of this process; one without a name has "". Reads the program's file, once for all.
[[nodiscard]] std::vector<std::string> symbol_names(std::span<const uint64_t> addresses);
// As a Profile message.
[[nodiscard]] std::string encode_profile(const std::vector<ProfiledStack>& stacks, int64_t began_wall_ns,
                                         int64_t took_ns);

}  // namespace cairn::gateway
