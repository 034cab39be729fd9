package main

import (
	"context"
	"math"

	"google.golang.org/protobuf/proto"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

const leaseService = "/etcdserverpb.Lease/"

var leasePool = []int64{1, 2, 3, 4, 5, 0x7fffffffffffffff, 0x1122334455667788, -5}

func (g *gen) leaseID() int64 {
	switch {
	case g.oneIn(10):
		return 0
	case g.oneIn(10):
		return pickOf[int64](g, 99, -1, math.MinInt64)
	}
	return leasePool[g.random.Intn(len(leasePool))]
}

// A lease's time depends on its id alone and is far from the others', so that lists, which are in the order of expiry,
// are the same on both sides, and none ends during the run.
func leaseTTL(id int64) int64 {
	for i, known := range leasePool {
		if known == id {
			return 100_000 * int64(i+1)
		}
	}
	return 50_000
}

func (g *gen) leaseStep() step {
	id := g.leaseID()
	switch g.random.Intn(8) {
	case 0, 1, 2:
		request := &pb.LeaseGrantRequest{ID: id, TTL: leaseTTL(id)}
		if g.oneIn(6) {
			request.TTL = pickOf[int64](g, 9_000_000_001, math.MaxInt64)
		}
		if id == 0 || id == 99 || id == math.MinInt64 {
			request.ID = 77 // ids that the server picks, and those that other requests take for unknown
			request.TTL = 9_000_000_001
		}
		return g.rpc(leaseService+"LeaseGrant", request, &pb.LeaseGrantResponse{})
	case 3:
		return g.rpc(leaseService+"LeaseRevoke", &pb.LeaseRevokeRequest{ID: id}, &pb.LeaseRevokeResponse{})
	case 4, 5:
		return g.rpc(leaseService+"LeaseTimeToLive", &pb.LeaseTimeToLiveRequest{ID: id, Keys: g.oneIn(2)}, &pb.LeaseTimeToLiveResponse{})
	case 6:
		return g.keepAlive(id)
	}
	return g.rpc(leaseService+"LeaseLeases", &pb.LeaseLeasesRequest{}, &pb.LeaseLeasesResponse{})
}

// A stream of its own with one or two requests.
func (g *gen) keepAlive(ids ...int64) step {
	if g.oneIn(3) {
		ids = append(ids, g.leaseID())
	}
	var requests []proto.Message
	for _, id := range ids {
		requests = append(requests, &pb.LeaseKeepAliveRequest{ID: id})
	}
	return g.conversation(leaseService+"LeaseKeepAlive", requests, &pb.LeaseKeepAliveResponse{})
}

// conversation sends each request and waits for its answer. To a method that takes one request the sending is ended with
// it: Go's server answers only then.
func (g *gen) conversation(path string, requests []proto.Message, answer proto.Message) step {
	c := call{path: path, user: g.user, answer: answer}
	return step{
		rpc: shortName(path),
		do: func(ctx context.Context, t *target) *outcome {
			ctx, cancel := t.context(ctx, c)
			defer cancel()
			out := &outcome{}
			stream, err := t.conn.NewStream(ctx, bidirectional, path)
			if err != nil {
				out.fail(err)
				return out
			}
			for _, request := range requests {
				bytes, err := proto.Marshal(request)
				if err != nil {
					out.broken = err.Error()
					return out
				}
				var got []byte
				_ = stream.SendMsg(&bytes) // its error is told by RecvMsg
				if isStream(path) {
					_ = stream.CloseSend()
				}
				if err := stream.RecvMsg(&got); err != nil {
					out.fail(err)
					return out
				}
				out.add(answer, got)
			}
			return out
		},
		say: func() string { return sayAll(requests) + as(c.user) },
	}
}
