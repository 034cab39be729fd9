// rpc/services/watch_service.h: etcdserverpb.Watch: a stream of creates, cancels and progress requests in, of events
// out.
//
// The hub of the call's loop (rpc/watch_loop.h) decides who gets what; here are the stream's requests, etcd's answers
// to them, and progress notifications.
#pragma once

#include "rpc/methods.h"

namespace cairn::rpc {

Maker make_watch;

}  // namespace cairn::rpc
