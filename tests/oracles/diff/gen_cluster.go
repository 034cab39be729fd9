package main

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

const (
	clusterService = "/etcdserverpb.Cluster/"
	maintenance    = "/etcdserverpb.Maintenance/"
)

// Requests that leave membership as it is.
func (g *gen) clusterStep() step {
	switch g.random.Intn(18) {
	case 0, 1:
		return g.rpc(clusterService+"MemberList", &pb.MemberListRequest{Linearizable: g.oneIn(2)}, &pb.MemberListResponse{})
	case 2:
		urls := [][]string{nil, {"not a url"}, {"127.0.0.1:1"}, {"ftp://127.0.0.1:1"}, {"http://127.0.0.1:1/path"}, {"http://127.0.0.1"}, {""}}
		return g.rpc(clusterService+"MemberAdd", &pb.MemberAddRequest{PeerURLs: pickOf(g, urls...), IsLearner: g.oneIn(2)}, &pb.MemberAddResponse{})
	case 3:
		return g.rpc(clusterService+"MemberRemove", &pb.MemberRemoveRequest{ID: uint64(g.random.Intn(3))}, &pb.MemberRemoveResponse{})
	case 4:
		return g.rpc(clusterService+"MemberUpdate", &pb.MemberUpdateRequest{ID: 7, PeerURLs: []string{pickOf(g, "http://127.0.0.1:7", "no url")}}, &pb.MemberUpdateResponse{})
	case 5:
		return g.rpc(clusterService+"MemberPromote", &pb.MemberPromoteRequest{ID: 7}, &pb.MemberPromoteResponse{})
	case 6:
		return g.rpcFor(clusterService+"MemberPromote", func(t *target) proto.Message {
			return &pb.MemberPromoteRequest{ID: t.memberID} // not a learner
		}, &pb.MemberPromoteResponse{})
	case 7:
		return g.rpc(maintenance+"Status", &pb.StatusRequest{}, &pb.StatusResponse{})
	case 8:
		return g.rpc(maintenance+"Hash", &pb.HashRequest{}, &pb.HashResponse{})
	case 9, 10:
		return g.rpc(maintenance+"HashKV", &pb.HashKVRequest{Revision: g.maybeRevision(2)}, &pb.HashKVResponse{})
	case 11:
		if g.oneIn(10) {
			return g.rpc(maintenance+"Snapshot", &pb.SnapshotRequest{}, &pb.SnapshotResponse{})
		}
		// No action but the three: on any other etcd ends with a nil pointer.
		return g.rpc(maintenance+"Alarm", &pb.AlarmRequest{Action: pb.AlarmRequest_GET, MemberID: uint64(g.random.Intn(3)),
			Alarm: pb.AlarmType(g.random.Intn(4))}, &pb.AlarmResponse{})
	case 12:
		id := pickOf[uint64](g, 0, 1, 77)
		return g.rpc(maintenance+"MoveLeader", &pb.MoveLeaderRequest{TargetID: id}, &pb.MoveLeaderResponse{})
	case 13:
		return g.rpcFor(maintenance+"MoveLeader", func(t *target) proto.Message {
			return &pb.MoveLeaderRequest{TargetID: t.memberID}
		}, &pb.MoveLeaderResponse{})
	case 14:
		if g.oneIn(8) {
			return g.rpc(maintenance+"Defragment", &pb.DefragmentRequest{}, &pb.DefragmentResponse{})
		}
		version := pickOf(g, "", "3", "3.5", "3.5.0", "3.6", "3.6.0", "3.6.1", "3.7", "3.7.1", "3.8.0", "4.0", "v3.6.0", "x.y", "3.6.0-alpha")
		return g.rpc(maintenance+"Downgrade", &pb.DowngradeRequest{Action: pb.DowngradeRequest_VALIDATE, Version: version}, &pb.DowngradeResponse{})
	case 15:
		action := pickOf(g, pb.DowngradeRequest_CANCEL, pb.DowngradeRequest_DowngradeAction(3), pb.DowngradeRequest_DowngradeAction(-1))
		return g.rpc(maintenance+"Downgrade", &pb.DowngradeRequest{Action: action, Version: pickOf(g, "", "3.6.0")}, &pb.DowngradeResponse{})
	case 16:
		service := pickOf(g, "", "", "etcdserverpb.KV", "nothing")
		switch g.random.Intn(4) {
		case 0:
			return g.rpc("/grpc.health.v1.Health/List", &healthpb.HealthListRequest{}, &healthpb.HealthListResponse{})
		case 1: // the first answer: the stream stays open
			return g.conversation("/grpc.health.v1.Health/Watch",
				[]proto.Message{&healthpb.HealthCheckRequest{Service: service}}, &healthpb.HealthCheckResponse{})
		}
		return g.rpc("/grpc.health.v1.Health/Check", &healthpb.HealthCheckRequest{Service: service}, &healthpb.HealthCheckResponse{})
	}
	return g.rpc(authService+"AuthStatus", &pb.AuthStatusRequest{}, &pb.AuthStatusResponse{})
}

// Alarms stop writes, or everything.
func (g *gen) alarm(action pb.AlarmRequest_AlarmAction, kind pb.AlarmType) step {
	return g.rpcFor(maintenance+"Alarm", func(t *target) proto.Message {
		return &pb.AlarmRequest{Action: action, MemberID: t.memberID, Alarm: kind}
	}, &pb.AlarmResponse{})
}

func (g *gen) alarmBegin() []step {
	kind := pickOf(g, pb.AlarmType_NOSPACE, pb.AlarmType_NOSPACE, pb.AlarmType_CORRUPT)
	return []step{g.alarm(pb.AlarmRequest_ACTIVATE, kind), g.alarm(pb.AlarmRequest_ACTIVATE, kind), g.alarm(pb.AlarmRequest_GET, 0)}
}

func (g *gen) alarmEnd() []step {
	return []step{
		g.alarm(pb.AlarmRequest_DEACTIVATE, pb.AlarmType_NOSPACE),
		g.alarm(pb.AlarmRequest_DEACTIVATE, pb.AlarmType_CORRUPT),
		g.alarm(pb.AlarmRequest_DEACTIVATE, pb.AlarmType_CORRUPT),
		g.alarm(pb.AlarmRequest_GET, pb.AlarmType_NONE),
	}
}

// Members that never start, as learners: a voter more would take the quorum away.
func (g *gen) memberSteps() []step {
	// An id comes from the URL and the second: the same URL again within one would have the same id.
	port := 10_000 + 3*g.random.Intn(10_000)
	add := func(name string, port int) step {
		url := fmt.Sprintf("http://127.0.0.1:%d", port)
		s := g.rpc(clusterService+"MemberAdd", &pb.MemberAddRequest{PeerURLs: []string{url}, IsLearner: true}, &pb.MemberAddResponse{})
		s.after = func(a, b *outcome) {
			for i, o := range []*outcome{a, b} {
				if len(o.messages) == 1 {
					g.targets[i].members[name] = o.messages[0].(*pb.MemberAddResponse).GetMember().GetID()
				}
			}
		}
		return s
	}
	list := func() step {
		return g.rpc(clusterService+"MemberList", &pb.MemberListRequest{}, &pb.MemberListResponse{})
	}
	remove := func(name string) step {
		return g.rpcFor(clusterService+"MemberRemove", func(t *target) proto.Message {
			return &pb.MemberRemoveRequest{ID: t.members[name]}
		}, &pb.MemberRemoveResponse{})
	}
	return []step{
		add("learner", port), list(),
		add("twice", port),    // the URL is taken
		add("second", port+1), // one learner at a time
		g.rpcFor(clusterService+"MemberPromote", func(t *target) proto.Message {
			return &pb.MemberPromoteRequest{ID: t.members["learner"]} // not in sync
		}, &pb.MemberPromoteResponse{}),
		g.rpcFor(clusterService+"MemberUpdate", func(t *target) proto.Message {
			return &pb.MemberUpdateRequest{ID: t.members["learner"], PeerURLs: []string{fmt.Sprintf("http://127.0.0.1:%d", port+2)}}
		}, &pb.MemberUpdateResponse{}),
		g.rpcFor(maintenance+"MoveLeader", func(t *target) proto.Message {
			return &pb.MoveLeaderRequest{TargetID: t.members["learner"]}
		}, &pb.MoveLeaderResponse{}),
		list(), remove("learner"), remove("learner"), list(),
	}
}
