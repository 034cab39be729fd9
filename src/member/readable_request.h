// member/readable_request.h: what others propose, before it may become an entry; and what an entry will take.
//
// An entry that cannot be read ends every member that applies it, and again at each start: there is no way back. So a
// leader appends nothing of others that its own decoders would refuse later.
//
// Pure. Threads: any.
#pragma once

#include <string_view>

#include "raft/types.h"

namespace cairn::member {

// Whether apply can read an entry with these bytes; what it makes of it is another question.
[[nodiscard]] bool is_readable_request(std::string_view bytes);

// Whether applying it takes microseconds, whatever the store holds: puts, and transactions of single keys.
[[nodiscard]] bool is_quick_request(std::string_view bytes);

// Of a proposal of another member: each entry that cannot be read becomes an empty one, which changes nothing. So those
// behind it keep their places. Its client hears nothing until time is up.
// compat: etcd appends it, and panics when it is applied.
void empty_unreadable(raft::Message& message);

}  // namespace cairn::member
