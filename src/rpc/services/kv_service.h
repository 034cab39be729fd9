// rpc/services/kv_service.h: etcdserverpb.KV: Range, RangeStream, Put, DeleteRange, Txn, Compact.
#pragma once

#include "mvcc/kv/txn.h"
#include "rpc/context.h"
#include "rpc/methods.h"

namespace cairn::rpc {

Maker make_range;
Maker make_range_stream;
Maker make_put;
Maker make_delete_range;
Maker make_txn;
Maker make_compact;

// The header of an answer at `revision`.
[[nodiscard]] mvcc::HeaderValues response_header(const member::Published& state, const member::Node& node,
                                                 int64_t revision);
// Whether a write of this cost may go to the log; else the alarm is raised and the call refused.
[[nodiscard]] bool within_quota(net::Call& call, Context& context, uint64_t cost);

}  // namespace cairn::rpc
