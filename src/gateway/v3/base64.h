// gateway/v3/base64.h: base64 as protobuf's JSON has it.
//
// Threads: any.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace cairn::gateway::v3 {

// The standard alphabet, padded.
void append_base64(std::string& out, std::string_view bytes);

// As Go's protojson decodes: the other alphabet where it has '-' or '_', without padding where the length asks for
// none, and line ends count for nothing. nullopt: it is none.
[[nodiscard]] std::optional<std::string> from_base64(std::string_view text);

}  // namespace cairn::gateway::v3
