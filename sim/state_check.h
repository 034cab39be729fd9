// sim/state_check.h: what a member holds in memory, against the model.
#pragma once

#include <string>

#include "sim/coverage.h"
#include "sim/member.h"
#include "sim/model.h"

namespace cairn::sim {

// Every key with its revisions and lease, leases with their keys, alarms, members, the version, users and roles. "":
// all is as it should be; else what is not.
[[nodiscard]] std::string check_state(Member& member, const Model& model, Coverage& coverage);

}  // namespace cairn::sim
