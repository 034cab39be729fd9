// gateway/v3/from_json.h: a JSON value as the bytes of a message, as Go's protojson reads it with DiscardUnknown.
//
// Taken are: both names of a field; numbers as texts, too; base64 of both alphabets, padded or not; names and numbers
// of enums. A null is a field that is not there. Passed over are fields and names of enums that are not known.
//
// Threads: any.
#pragma once

#include <string>
#include <string_view>

#include "base/error.h"
#include "gateway/v3/schema.h"

namespace cairn::gateway::v3 {

// The bytes have no field with the default value and no length that is longer than it must be.
//   needs:  `value` is one that JsonScan has found, without the spaces before it
//   errors: kInvalidArgument, with protojson's text. Go's library picks one of two kinds of space behind "proto:" when
//   it
//           is built; this one is always U+0020
[[nodiscard]] Result<std::string> from_json(const MessageType& type, std::string_view value);

}  // namespace cairn::gateway::v3
