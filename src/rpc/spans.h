// rpc/spans.h: the spans of requests about keys: what etcd says of them in a trace.
//
// Source: etcd 3.7.1, server/etcdserver/v3_server.go, server/etcdserver/tracing.go.
#pragma once

#include "mvcc/kv/requests.h"
#include "tracing/tracer.h"

namespace cairn::rpc {

// Each begins a step of the call, which lasts until the call is answered.
void open_span(tracing::CallTrace& call, const mvcc::RangeRequest& request, bool streams);
void open_span(tracing::CallTrace& call, const mvcc::PutRequest& request);
void open_span(tracing::CallTrace& call, const mvcc::DeleteRangeRequest& request);
void open_span(tracing::CallTrace& call, const mvcc::TxnRequest& request);
void open_span(tracing::CallTrace& call, const mvcc::CompactionRequest& request);

}  // namespace cairn::rpc
