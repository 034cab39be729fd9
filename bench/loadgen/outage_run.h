// loadgen/outage_run.h: puts at fixed times at each of several members, whatever becomes of them.
//
// Open loop: a put is due every 1/--rate seconds at each endpoint, whether or not earlier ones are answered. One that
// is due while its member has no connection is not sent; the connection is tried again every few milliseconds. Every
// put is a line on stdout, in the order of their ends, with times of CLOCK_MONOTONIC in microseconds:
//
//     <due> <ended> <endpoint, from 0> <status> <raft term of the answer>
//
// The status is gRPC's, or one of the negative ones below. SIGINT ends the run; open puts are waited for.
#pragma once

#include "base/error.h"
#include "loadgen/options.h"

namespace cairn::bench {

inline constexpr int kLostStatus = -1;        // the connection ended first: applied or not
inline constexpr int kNotSentStatus = -2;     // there was no connection, or it was ending
inline constexpr int kUnansweredStatus = -3;  // still open --timeout after the end of the run

//   errors: kInvalidArgument without --endpoints or --rate
Status run_outage(const LoadOptions& options);

// Of the header of an answer to a put; 0: there is none.
[[nodiscard]] uint64_t raft_term_of(std::string_view answer);

}  // namespace cairn::bench
