// rpc/ask_versions.h: asks other members which versions they run.
//
// Source: etcd 3.7.1, getMembersVersions.
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>

#include "member/stages.h"
#include "rpc/peers.h"

namespace cairn::rpc {

// Of Cairn's answers, beside etcd's: as on the connections between members (peer/protocol.h).
inline constexpr std::string_view kCairnAnswerHeader = "X-Cairn-Version";

// `then` is called once, on whichever thread, when all have answered or their time is up.
void ask_for_versions(const Peers& peers, const member::VersionQuestion& question, int64_t deadline_ns,
                      std::function<void(member::VersionReport report)> then);

}  // namespace cairn::rpc
