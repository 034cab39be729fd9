package main

import (
	"bytes"
	"math"
	"strings"

	"google.golang.org/protobuf/proto"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

const kv = "/etcdserverpb.KV/"

// Few keys, so that requests meet; with bytes that sort in surprising places.
var keyPool = func() [][]byte {
	out := [][]byte{{0}, {0, 0}, {0xff}, {0xff, 0xff}, {0x80}, []byte("a\x00"), []byte("a\xff"), []byte("key with space"),
		[]byte("päth/✓"), bytes.Repeat([]byte("long"), 100)}
	for _, text := range strings.Fields("a b c d e aa ab a/ a/b a/b/c k0 k1 k2 k3 k4 k5 k6 k7 k8 k9 k10 /registry/x /registry/y") {
		out = append(out, []byte(text))
	}
	return out
}()

func (g *gen) key() []byte {
	switch {
	case g.oneIn(60):
		return nil
	case g.oneIn(20):
		return append(bytes.Clone(keyPool[g.random.Intn(len(keyPool))]), byte(g.random.Intn(256)))
	}
	return keyPool[g.random.Intn(len(keyPool))]
}

// A key and the end of its range.
// Whether a user may read a range that ends before it begins is for etcd a matter of how the tree of the permissions has
// grown: users get it the right way round.
func (g *gen) keyRange() (key, end []byte) {
	key, end = g.anyRange()
	if g.user != "" && g.user != "root" && len(end) > 0 && !bytes.Equal(end, []byte{0}) && bytes.Compare(end, key) < 0 {
		return end, key
	}
	return key, end
}

func (g *gen) anyRange() (key, end []byte) {
	key = g.key()
	switch g.random.Intn(10) {
	case 0, 1, 2, 3:
		return key, nil
	case 4:
		return key, []byte{0} // everything from the key on
	case 5:
		return []byte{0}, []byte{0}
	case 6:
		if len(key) > 0 { // the prefix
			end = bytes.Clone(key)
			end[len(end)-1]++
			return key, end
		}
	case 7:
		return key, append(bytes.Clone(key), 0)
	}
	return key, g.key() // often the wrong way round
}

func (g *gen) someRevision() int64 {
	switch g.random.Intn(14) {
	case 0, 1:
		return g.revision
	case 2:
		return g.revision - int64(g.random.Intn(10))
	case 3, 4, 5:
		if recent := g.revision - 200; recent > 0 {
			return recent + g.random.Int63n(201)
		}
		return g.random.Int63n(g.revision + 1)
	case 6:
		return g.random.Int63n(g.revision + 1)
	case 7:
		return g.revision + 1
	case 8:
		return g.revision + g.random.Int63n(1000)
	case 9:
		return g.compacted + g.random.Int63n(3) - 1
	case 10:
		return pickOf[int64](g, -1, math.MaxInt64, math.MinInt64, 1, 2)
	}
	return 0
}

// Zero mostly.
func (g *gen) maybeRevision(n int) int64 {
	if g.oneIn(n) {
		return g.someRevision()
	}
	return 0
}

func (g *gen) rangeRequest() *pb.RangeRequest {
	r := &pb.RangeRequest{Revision: g.maybeRevision(3), Serializable: g.oneIn(4), KeysOnly: g.oneIn(6), CountOnly: g.oneIn(8)}
	r.Key, r.RangeEnd = g.keyRange()
	if g.oneIn(3) {
		r.Limit = pickOf[int64](g, 1, 2, 3, 5, 10, 1000, -1, math.MaxInt64, math.MinInt64)
	}
	if g.oneIn(3) {
		r.SortOrder = pb.RangeRequest_SortOrder(g.random.Intn(3))
		r.SortTarget = pb.RangeRequest_SortTarget(g.random.Intn(5))
	}
	if g.oneIn(40) {
		r.SortOrder = pb.RangeRequest_SortOrder(pickOf(g, 3, -1, 100))
	}
	if g.oneIn(40) {
		r.SortTarget = pb.RangeRequest_SortTarget(pickOf(g, 5, -1, 100))
	}
	if g.oneIn(5) {
		r.MinModRevision, r.MaxModRevision = g.maybeRevision(2), g.maybeRevision(2)
		r.MinCreateRevision, r.MaxCreateRevision = g.maybeRevision(2), g.maybeRevision(2)
	}
	return r
}

func (g *gen) value() []byte {
	switch {
	case g.oneIn(10):
		return nil
	case g.oneIn(400):
		return bytes.Repeat([]byte{byte(g.random.Intn(256))}, g.random.Intn(100_000))
	}
	value := make([]byte, g.random.Intn(30))
	g.random.Read(value)
	return value
}

func (g *gen) putRequest() *pb.PutRequest {
	r := &pb.PutRequest{Key: g.key(), Value: g.value(), PrevKv: g.oneIn(3)}
	if g.oneIn(4) {
		r.Lease = g.leaseID()
	}
	if g.oneIn(8) {
		r.IgnoreValue = true
		if !g.oneIn(8) {
			r.Value = nil
		}
	}
	if g.oneIn(8) {
		r.IgnoreLease = true
		if !g.oneIn(8) {
			r.Lease = 0
		}
	}
	return r
}

func (g *gen) deleteRequest() *pb.DeleteRangeRequest {
	r := &pb.DeleteRangeRequest{PrevKv: g.oneIn(2)}
	if g.oneIn(4) {
		r.Key, r.RangeEnd = g.keyRange()
	} else {
		r.Key = g.key()
	}
	return r
}

func (g *gen) compare() *pb.Compare {
	c := &pb.Compare{
		Result: pb.Compare_CompareResult(g.random.Intn(4)),
		Target: pb.Compare_CompareTarget(g.random.Intn(5)),
		Key:    g.key(),
	}
	if g.oneIn(4) {
		c.Key, c.RangeEnd = g.keyRange()
	}
	if g.oneIn(60) {
		c.Result = pb.Compare_CompareResult(pickOf(g, 4, -1))
	}
	if g.oneIn(60) {
		c.Target = pb.Compare_CompareTarget(pickOf(g, 5, -1))
	}
	union := int(c.Target)
	if g.oneIn(20) {
		union = g.random.Intn(6) // not the one that the target names
	}
	number := g.someRevision()
	if g.oneIn(2) {
		number = g.random.Int63n(5)
	}
	switch union {
	case 0:
		c.TargetUnion = &pb.Compare_Version{Version: number}
	case 1:
		c.TargetUnion = &pb.Compare_CreateRevision{CreateRevision: number}
	case 2:
		c.TargetUnion = &pb.Compare_ModRevision{ModRevision: number}
	case 3:
		c.TargetUnion = &pb.Compare_Value{Value: g.value()}
	case 4:
		c.TargetUnion = &pb.Compare_Lease{Lease: g.leaseID()}
	}
	return c
}

func (g *gen) operation(depth int) *pb.RequestOp {
	switch choice := g.random.Intn(20); {
	case choice < 7:
		return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: g.rangeRequest()}}
	case choice < 14:
		return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: g.putRequest()}}
	case choice < 17:
		return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: g.deleteRequest()}}
	case choice == 19 && g.oneIn(10):
		return &pb.RequestOp{}
	case depth > 0:
		return &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: g.anyTxn(depth - 1)}}
	}
	return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: g.key()}}}
}

func (g *gen) operations(depth int) []*pb.RequestOp {
	count := g.random.Intn(4)
	if g.oneIn(200) {
		count = pickOf(g, 127, 128, 129)
	}
	var out []*pb.RequestOp
	for range count {
		out = append(out, g.operation(depth))
	}
	return out
}

// A random txn that etcd survives: it panics, for good, on a put with ignore_value or ignore_lease whose key an earlier
// operation of the same txn has deleted, since it looks for the key before the txn begins.
func (g *gen) txnRequest(depth int) *pb.TxnRequest {
	r := g.anyTxn(depth)
	deletes := false
	eachOperation(r, func(op *pb.RequestOp) { deletes = deletes || op.GetRequestDeleteRange() != nil })
	if deletes {
		eachOperation(r, func(op *pb.RequestOp) {
			if put := op.GetRequestPut(); put != nil {
				put.IgnoreValue, put.IgnoreLease = false, false
			}
		})
	}
	return r
}

func eachOperation(r *pb.TxnRequest, visit func(*pb.RequestOp)) {
	for _, ops := range [][]*pb.RequestOp{r.GetSuccess(), r.GetFailure()} {
		for _, op := range ops {
			visit(op)
			if inner := op.GetRequestTxn(); inner != nil {
				eachOperation(inner, visit)
			}
		}
	}
}

func (g *gen) anyTxn(depth int) *pb.TxnRequest {
	r := &pb.TxnRequest{}
	for range g.random.Intn(3) {
		r.Compare = append(r.Compare, g.compare())
	}
	if g.oneIn(300) {
		for range pickOf(g, 127, 128, 129) {
			r.Compare = append(r.Compare, g.compare())
		}
	}
	r.Success, r.Failure = g.operations(depth), g.operations(depth)
	return r
}

func (g *gen) compactRequest() *pb.CompactionRequest {
	r := &pb.CompactionRequest{Physical: g.oneIn(3)}
	switch {
	case g.oneIn(3):
		r.Revision = g.someRevision()
		if r.Revision == g.revision && !g.oneIn(4) { // keep some history for the others
			r.Revision -= 50
		}
	default:
		r.Revision = g.compacted + g.random.Int63n(max(1, (g.revision-g.compacted)/2)+1)
	}
	for g.renewals[r.Revision] {
		r.Revision--
	}
	return r
}

// noteRenewal remembers the revision of a txn that may have deleted a key and put it again, which goes unnoticed where
// the delete is to the last key. etcd takes the new value for superfluous when it compacts at just that revision, and
// panics at the next range over the key.
func (g *gen) noteRenewal(request proto.Message, answer *outcome) {
	txn, ok := request.(*pb.TxnRequest)
	if !ok || len(answer.messages) != 1 {
		return
	}
	deletes, puts := false, false
	eachOperation(txn, func(op *pb.RequestOp) {
		deletes = deletes || op.GetRequestDeleteRange() != nil
		puts = puts || op.GetRequestPut() != nil
	})
	if response, ok := answer.messages[0].(*pb.TxnResponse); ok && deletes && puts {
		g.renewals[response.GetHeader().GetRevision()] = true
	}
}

func (g *gen) kvStep() step {
	switch choice := g.random.Intn(100); {
	case choice < 34:
		return g.rpc(kv+"Range", g.rangeRequest(), &pb.RangeResponse{})
	case choice < 39:
		return g.rpc(kv+"RangeStream", g.rangeRequest(), &pb.RangeStreamResponse{})
	case choice < 62:
		return g.rpc(kv+"Put", g.putRequest(), &pb.PutResponse{})
	case choice < 70:
		return g.rpc(kv+"DeleteRange", g.deleteRequest(), &pb.DeleteRangeResponse{})
	case choice < 97:
		return g.rpc(kv+"Txn", g.txnRequest(2), &pb.TxnResponse{})
	case choice == 97 && g.oneIn(4):
		return g.compactStep()
	case choice == 98:
		return g.rpc("/etcdserverpb.Maintenance/HashKV", &pb.HashKVRequest{Revision: g.maybeRevision(2)}, &pb.HashKVResponse{})
	case choice == 99 && g.oneIn(20):
		return g.tooLarge()
	}
	return g.rpc(kv+"Range", &pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}}, &pb.RangeResponse{})
}

func (g *gen) compactStep() step {
	request := g.compactRequest()
	s := g.rpc(kv+"Compact", request, &pb.CompactionResponse{})
	s.after = func(a, _ *outcome) {
		if a.code == 0 {
			g.compacted = request.Revision
			g.compactions[request.Revision] = true
		}
	}
	return s
}

// Around the limit of a request, 1.5 MB, and of a message, half a megabyte more.
func (g *gen) tooLarge() step {
	size := pickOf(g, 1_572_864-100, 1_572_864-20, 1_572_864, 1_600_000, 2_097_152-20, 2_097_152, 3_000_000)
	value := bytes.Repeat([]byte{'x'}, size)
	if g.oneIn(2) {
		return g.rpc(kv+"Put", &pb.PutRequest{Key: []byte("big"), Value: value}, &pb.PutResponse{})
	}
	put := &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte("big"), Value: value}}
	return g.rpc(kv+"Txn", &pb.TxnRequest{Success: []*pb.RequestOp{{Request: put}}}, &pb.TxnResponse{})
}
