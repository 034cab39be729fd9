package main

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	epb "go.etcd.io/etcd/server/v3/etcdserver/api/v3election/v3electionpb"
	lpb "go.etcd.io/etcd/server/v3/etcdserver/api/v3lock/v3lockpb"
)

const (
	lockService     = "/v3lockpb.Lock/"
	electionService = "/v3electionpb.Election/"
)

var allProfiles = []profile{
	{name: "kv", weight: 30, length: 3000, next: (*gen).kvStep},
	{name: "lease", weight: 12, length: 1500, next: (*gen).leaseAndKvStep, end: (*gen).leaseEnd},
	{name: "watch", weight: 4, length: 60, next: (*gen).watchStep},
	{name: "auth-off", weight: 3, length: 500, next: (*gen).authStep},
	{name: "auth-on", weight: 8, length: 1500, begin: func(g *gen) []step { return g.authBegin("") }, next: (*gen).authOnStep, end: (*gen).authEnd},
	{name: "cluster", weight: 4, length: 300, next: (*gen).clusterStep},
	{name: "members", weight: 1, begin: (*gen).memberSteps},
	{name: "alarm", weight: 3, length: 200, begin: (*gen).alarmBegin, next: (*gen).alarmedStep, end: (*gen).alarmEnd},
	{name: "raw", weight: 10, length: 1000, next: (*gen).rawStep},
	{name: "http", weight: 6, length: 500, next: (*gen).httpStep},
	{name: "gateway", weight: 6, length: 500, next: (*gen).gatewayStep, end: (*gen).leaseEnd},
	{name: "grpc", weight: 3, length: 200, next: (*gen).grpcStep},
	{name: "lock", weight: 4, length: 200, begin: (*gen).lockBegin, next: (*gen).lockStep, end: (*gen).leaseEnd},
	{name: "expiry", weight: 1, begin: (*gen).expirySteps},
	{name: "downgrade", weight: 1, begin: (*gen).downgradeSteps},
}

func (g *gen) leaseAndKvStep() step {
	switch {
	case g.oneIn(2):
		return g.leaseStep()
	case g.oneIn(3):
		return g.rpc(kv+"Put", g.putRequest(), &pb.PutResponse{})
	}
	return g.kvStep()
}

// The pool is empty again: the next episode's requests find and miss leases as well.
func (g *gen) leaseEnd() []step {
	var steps []step
	for _, id := range leasePool {
		if g.oneIn(2) {
			steps = append(steps, g.rpc(leaseService+"LeaseRevoke", &pb.LeaseRevokeRequest{ID: id}, &pb.LeaseRevokeResponse{}))
		}
	}
	return append(steps, g.rpc(kv+"Range", &pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}}, &pb.RangeResponse{}))
}

func (g *gen) alarmedStep() step {
	switch g.random.Intn(6) {
	case 0:
		return g.leaseStep()
	case 1:
		return g.clusterStep()
	case 2:
		return g.authStep()
	}
	return g.kvStep()
}

func (g *gen) lockBegin() []step {
	var steps []step
	for _, id := range leasePool {
		steps = append(steps, g.rpc(leaseService+"LeaseGrant", &pb.LeaseGrantRequest{ID: id, TTL: leaseTTL(id)}, &pb.LeaseGrantResponse{}))
	}
	return steps
}

// Locks and elections, each name used by one lease only: a second one would wait for the first, and how long it had
// waited when its deadline came is a matter of time. The waiting ones are a scenario of their own.
func (g *gen) lockStep() step {
	at := g.random.Intn(len(leasePool) - 1) // the last one is negative: its candidates wait for ever
	lease := leasePool[at]
	name := fmt.Appendf(nil, "lock-%d", at)
	key := fmt.Appendf(nil, "lock-%d/%x", at, uint64(lease))
	election := fmt.Appendf(nil, "election-%d", at)
	leader := &epb.LeaderKey{Name: election, Key: fmt.Appendf(nil, "election-%d/%x", at, uint64(lease)), Lease: lease,
		Rev: g.maybeRevision(2)}
	switch g.random.Intn(9) {
	case 0, 1:
		if g.oneIn(10) {
			lease = 99 // no such lease
		}
		return g.rpc(lockService+"Lock", &lpb.LockRequest{Name: name, Lease: lease}, &lpb.LockResponse{})
	case 2:
		return g.rpc(lockService+"Unlock", &lpb.UnlockRequest{Key: key}, &lpb.UnlockResponse{})
	case 3, 4:
		if g.oneIn(10) {
			lease = 99
		}
		return g.rpc(electionService+"Campaign", &epb.CampaignRequest{Name: election, Lease: lease, Value: g.value()}, &epb.CampaignResponse{})
	case 5:
		return g.proclaim(leader)
	case 6:
		return g.rpc(electionService+"Leader", &epb.LeaderRequest{Name: election}, &epb.LeaderResponse{})
	case 7:
		request := &epb.ResignRequest{Leader: leader}
		if g.oneIn(5) {
			request.Leader = nil
		}
		return g.rpc(electionService+"Resign", request, &epb.ResignResponse{})
	}
	return g.rpc(kv+"Range", &pb.RangeRequest{Key: []byte("election"), RangeEnd: []byte("m")}, &pb.RangeResponse{})
}

func (g *gen) proclaim(leader *epb.LeaderKey) step {
	request := &epb.ProclaimRequest{Leader: leader, Value: g.value()}
	if g.oneIn(5) {
		request.Leader = nil
	}
	return g.rpc(electionService+"Proclaim", request, &epb.ProclaimResponse{})
}

// Leases that do end: their keys go in one revision. Waiting is by asking until the keys are gone.
func (g *gen) expirySteps() []step {
	grant := func(id, ttl int64) step {
		return g.rpc(leaseService+"LeaseGrant", &pb.LeaseGrantRequest{ID: id, TTL: ttl}, &pb.LeaseGrantResponse{})
	}
	put := func(key string, lease int64) step {
		return g.rpc(kv+"Put", &pb.PutRequest{Key: []byte(key), Lease: lease, Value: []byte("v")}, &pb.PutResponse{})
	}
	all := func() step {
		return g.rpc(kv+"Range", &pb.RangeRequest{Key: []byte("expiring/"), RangeEnd: []byte("expiring0")}, &pb.RangeResponse{})
	}
	return []step{
		grant(501, 1), grant(502, 0), grant(503, -1), // raised to what the election timeout asks for
		put("expiring/b", 501), put("expiring/a", 501), put("expiring/c", 501), // which of two leases ends first is a matter of time
		g.untilEmpty("expiring/", "expiring0"),
		g.rpc(leaseService+"LeaseTimeToLive", &pb.LeaseTimeToLiveRequest{ID: 501, Keys: true}, &pb.LeaseTimeToLiveResponse{}),
		g.keepAlive(501), all(),
	}
}

func (g *gen) untilEmpty(key, end string) step {
	request := &pb.RangeRequest{Key: []byte(key), RangeEnd: []byte(end)}
	bytes, err := proto.Marshal(request)
	if err != nil {
		panic(err)
	}
	c := call{path: kv + "Range", user: g.user, answer: &pb.RangeResponse{}}
	return step{
		rpc: "KV/Range",
		do: func(ctx context.Context, t *target) *outcome {
			var out *outcome
			for begin := time.Now(); time.Since(begin) < 20*time.Second && ctx.Err() == nil; time.Sleep(50 * time.Millisecond) {
				out = t.unary(ctx, c, bytes)
				if out.code != 0 || len(out.messages) == 0 || out.messages[0].(*pb.RangeResponse).Count == 0 {
					break
				}
			}
			time.Sleep(1500 * time.Millisecond) // leases without keys end too, without a trace
			return out
		},
		say: func() string { return "until the leased keys are gone" },
	}
}

func (g *gen) downgradeSteps() []step {
	request := func(action pb.DowngradeRequest_DowngradeAction, version string) step {
		return g.rpc(maintenance+"Downgrade", &pb.DowngradeRequest{Action: action, Version: version}, &pb.DowngradeResponse{})
	}
	return []step{
		request(pb.DowngradeRequest_VALIDATE, "3.6.0"),
		request(pb.DowngradeRequest_ENABLE, "3.5.0"), request(pb.DowngradeRequest_ENABLE, ""),
		request(pb.DowngradeRequest_CANCEL, ""), request(pb.DowngradeRequest_CANCEL, ""),
	}
}
