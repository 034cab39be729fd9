// member/start_names.h: the numbers that tell one start of a member from every other start.
//
//     request id: | 16 bits: the lowest of the member's id | 48 bits: chance below 2^47, then counted up |
//
// etcd puts the milliseconds of the wall clock in the place of chance. A member whose clock was set back between two
// starts can then give a request the id that another one in the log has. Here nothing depends on the clock: two starts
// of one member, or of two members with the same 16 bits, with n requests each, share an id once in 2^46 / n pairs.
// Even then an entry answers only the request with the same bytes: OwnProposals::resolve().
//
// Always true: the ids of one start differ, and their 16 bits stay the member's for 2^47 requests.
// Threads:     none of its own; plain values.
// Source:      etcd's pkg/idutil.
#pragma once

#include <cstdint>

namespace cairn::member {

struct StartNames {
  uint64_t epoch = 0;  // of what is forwarded and of reads: ReplicationCore::Options
  uint64_t first_request_id = 0;
};

// `chance` differs at every start of any member: BootstrapOptions::opening, not a time.
[[nodiscard]] constexpr StartNames start_names(uint64_t member_id, uint64_t chance) {
  constexpr uint64_t kChanceMask = (uint64_t{1} << 47) - 1;
  return {.epoch = chance, .first_request_id = (member_id << 48) | ((chance ^ chance >> 17) & kChanceMask)};
}

}  // namespace cairn::member
