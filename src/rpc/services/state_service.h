// rpc/services/state_service.h: the methods of etcdserverpb.Maintenance that go through the whole state: HashKV, Hash,
// Snapshot.
//
// The background worker does their work, a slice of each call in turn, so that none holds up the others or an io
// thread. A call that has ended is not worked for any more.
#pragma once

#include <string>

#include <google/protobuf/message_lite.h>

#include "mvcc/kv/txn.h"
#include "rpc/methods.h"

namespace cairn::rpc {

Maker make_hash;
Maker make_hash_kv;
Maker make_snapshot;

// An answer: the header, and `message` without one.
[[nodiscard]] std::string with_header(const mvcc::HeaderValues& header, const google::protobuf::MessageLite& message);

}  // namespace cairn::rpc
