// rpc/services/election_service.h: v3electionpb.Election: Campaign, Proclaim, Leader, Observe, Resign.
#pragma once

#include "rpc/methods.h"

namespace cairn::rpc {

Maker make_campaign;
Maker make_proclaim;
Maker make_leader;
Maker make_observe;
Maker make_resign;

}  // namespace cairn::rpc
