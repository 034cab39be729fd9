// raft/describe.h: values of the core as one line of text, for transcripts, traces and failing tests.
#pragma once

#include <string>

#include "raft/core.h"
#include "raft/types.h"

namespace cairn::raft {

// "1->2 App term=3 prev=7/2 commit=6 entries=[8/3 9/3:conf]"; index/term pairs, zero and empty fields left out.
[[nodiscard]] std::string describe(const Message& message);
[[nodiscard]] std::string describe(const Entry& entry);     // "8/3 normal \"bytes\""
[[nodiscard]] std::string describe(const ConfState& conf);  // "(1 2 3)&&(1 2) learners=(4)"
[[nodiscard]] std::string describe(const PeerStatus& peer);
[[nodiscard]] std::string_view name_of(ProposeOutcome outcome);

}  // namespace cairn::raft
