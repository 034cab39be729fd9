package main

import (
	"bytes"
	"fmt"
	"sort"

	"google.golang.org/protobuf/proto"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

// settle takes out of two answers to one request what no answer promises:
//
//   - the order of keys whose sort keys are equal. etcd's sort is not stable, so that ties come in any order, and
//     where a limit cuts through a tie, which of its keys come at all;
//   - the rest of a RangeStream without an order and with a target other than the key, when it is more than one chunk:
//     etcd sorts each chunk by itself and goes on behind the key that stands last in it, so that keys come twice or
//     never, and the count is wrong;
//   - the hash at a revision that was compacted at: etcd keeps the hashes that its last ten compactions computed on
//     their way, if they have come to their end, and tells those, with the compacted revision of before, even when
//     the revision has been compacted since.
//
// `request` is nil for all other requests.
func (g *gen) settle(request proto.Message, isStream bool, a, b *outcome) {
	if hash, ok := request.(*pb.HashKVRequest); ok && g.compactions[hash.GetRevision()] {
		for _, o := range []*outcome{a, b} {
			*o = outcome{broken: o.broken}
		}
		return
	}
	if len(a.messages) != 1 || len(b.messages) != 1 {
		return
	}
	switch request := request.(type) {
	case *pb.RangeRequest:
		x, y := rangeAnswer(a.messages[0]), rangeAnswer(b.messages[0])
		if x == nil || y == nil {
			return
		}
		if isStream && isChunkSorted(request) && (x.More || len(x.Kvs) > 10 || len(y.Kvs) > 10) {
			for _, r := range []*pb.RangeResponse{x, y} {
				r.Kvs, r.Count, r.More = nil, 0, false
			}
		}
		settleRange(request, x, y)
	case *pb.TxnRequest:
		x, _ := a.messages[0].(*pb.TxnResponse)
		y, _ := b.messages[0].(*pb.TxnResponse)
		settleTxn(request, x, y)
	}
}

func rangeAnswer(message proto.Message) *pb.RangeResponse {
	switch message := message.(type) {
	case *pb.RangeResponse:
		return message
	case *pb.RangeStreamResponse:
		return message.GetRangeResponse()
	}
	return nil
}

func isChunkSorted(r *pb.RangeRequest) bool {
	return r.SortOrder == pb.RangeRequest_NONE && r.SortTarget != pb.RangeRequest_KEY && !r.CountOnly
}

func settleTxn(request *pb.TxnRequest, a, b *pb.TxnResponse) {
	if a == nil || b == nil || a.Succeeded != b.Succeeded {
		return
	}
	ops := request.Failure
	if a.Succeeded {
		ops = request.Success
	}
	for i, op := range ops {
		if i >= len(a.Responses) || i >= len(b.Responses) {
			return
		}
		x, y := a.Responses[i], b.Responses[i]
		switch {
		case op.GetRequestRange() != nil:
			settleRange(op.GetRequestRange(), x.GetResponseRange(), y.GetResponseRange())
		case op.GetRequestTxn() != nil:
			settleTxn(op.GetRequestTxn(), x.GetResponseTxn(), y.GetResponseTxn())
		}
	}
}

func settleRange(request *pb.RangeRequest, a, b *pb.RangeResponse) {
	if request.SortTarget == pb.RangeRequest_KEY || a == nil || b == nil || len(a.Kvs) != len(b.Kvs) {
		return
	}
	isHidden := request.KeysOnly && request.SortTarget == pb.RangeRequest_VALUE // sorted by what is not sent
	sortKey := func(kv *mvccpb.KeyValue) string {
		switch {
		case isHidden:
			return ""
		case request.SortTarget == pb.RangeRequest_VALUE:
			return string(kv.Value)
		case request.SortTarget == pb.RangeRequest_CREATE:
			return fmt.Sprint(kv.CreateRevision)
		case request.SortTarget == pb.RangeRequest_MOD:
			return fmt.Sprint(kv.ModRevision)
		}
		return fmt.Sprint(kv.Version)
	}
	for i := range a.Kvs { // another order of the sort keys themselves stays a difference
		if sortKey(a.Kvs[i]) != sortKey(b.Kvs[i]) {
			return
		}
	}
	for begin := 0; begin < len(a.Kvs); {
		end := begin + 1
		for end < len(a.Kvs) && sortKey(a.Kvs[end]) == sortKey(a.Kvs[begin]) {
			end++
		}
		isCut := a.More && b.More && end == len(a.Kvs)
		for _, kvs := range [][]*mvccpb.KeyValue{a.Kvs[begin:end], b.Kvs[begin:end]} {
			if isCut {
				for i := range kvs {
					kvs[i] = &mvccpb.KeyValue{Key: []byte("one of those with " + sortKey(kvs[i]))}
				}
				continue
			}
			sort.Slice(kvs, func(i, j int) bool { return bytes.Compare(kvs[i].Key, kvs[j].Key) < 0 })
		}
		begin = end
	}
}
