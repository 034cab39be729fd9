package main

import (
	"context"
	"fmt"
	"strconv"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"
)

// A compactor is one kube-apiserver's part in compaction: of all of them, the one that finds the key in the version it
// knows compacts to the revision that it had seen a round before.
type compactor struct {
	version, revision int64
}

func (c *compactor) round(s *session, name string) {
	const key = "compact_rev_key"
	told, err := s.client.KV.Txn(s.ctx).If(clientv3.Compare(clientv3.Version(key), "=", c.version)).
		Then(clientv3.OpPut(key, strconv.FormatInt(c.revision, 10))).Else(clientv3.OpGet(key)).Commit()
	check(err)
	before := c.revision
	c.revision = told.Header.Revision
	if !told.Succeeded {
		kv := told.Responses[0].GetResponseRange().Kvs[0]
		c.version = kv.Version
		compacted, err := strconv.ParseInt(string(kv.Value), 10, 64)
		check(err)
		fmt.Printf("%s: version %d, others compacted (%v)\n", name, c.version, compacted != 0)
		return
	}
	c.version++
	if before == 0 {
		fmt.Printf("%s: version %d, first round\n", name, c.version)
		return
	}
	_, err = s.client.Compact(s.ctx, before)
	fmt.Printf("%s: version %d, compacted to %d; %s\n", name, c.version, s.since(before), failure(err))
}

func compaction(s *session) {
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	const prefix = "/registry/compacted/"
	s.create(prefix+"a", "one")
	s.create(prefix+"b", "one")
	listed := s.list(prefix, kubernetes.ListOptions{Limit: 1})
	follower := s.follow(ctx, prefix)
	var one, two compactor
	for range 3 {
		s.addObject(prefix)
		one.round(s, "one")
		two.round(s, "two")
	}
	two.round(s, "two")
	one.round(s, "one")
	follower.take(3)
	s.list(prefix, kubernetes.ListOptions{Limit: 1, Revision: listed.Revision, Continue: string(listed.Kvs[0].Key) + "\x00"})
	s.list(prefix, kubernetes.ListOptions{Revision: two.revision})
	s.get(prefix+"a", listed.Revision)
	s.get(prefix+"a", 0)
	s.watchFrom(ctx, prefix, listed.Revision).take(1)
	s.watchFrom(ctx, prefix, two.revision).fresh(ctx, s.revision())
	_, err := s.client.Compact(s.ctx, listed.Revision)
	fmt.Println("compacted again:", failure(err))
	_, err = s.client.Compact(s.ctx, s.revision()+1000)
	fmt.Println("compacted ahead:", failure(err))
}

func (s *session) addObject(prefix string) {
	got, err := s.client.Kubernetes.Count(s.ctx, prefix, kubernetes.CountOptions{})
	check(err)
	s.create(fmt.Sprintf("%sobject-%d", prefix, got), "x")
}

func (s *session) raiseNoSpace() {
	maintenance := pb.NewMaintenanceClient(s.client.ActiveConnection())
	raised, err := maintenance.Alarm(s.ctx, &pb.AlarmRequest{Action: pb.AlarmRequest_ACTIVATE, Alarm: pb.AlarmType_NOSPACE})
	check(err)
	fmt.Println("raised:", len(raised.Alarms))
}

func (s *session) disarm() {
	_, err := s.client.AlarmDisarm(s.ctx, &clientv3.AlarmMember{})
	fmt.Println("disarmed:", failure(err))
}

// alarm is what happens to kube-apiserver when the db is full.
func alarm(s *session) {
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	const prefix = "/registry/full/"
	tell := kubernetes.PutOptions{GetOnFailure: true}
	created := s.put(prefix+"a", "one", 0, tell)
	s.put(prefix+"b", "one", 0, tell)
	follower := s.follow(ctx, prefix)
	s.raiseNoSpace()
	s.put(prefix+"a", "two", created, tell)
	s.put(prefix+"c", "new", 0, tell)
	s.list(prefix, kubernetes.ListOptions{Limit: 500})
	told, err := s.client.Status(s.ctx, s.client.Endpoints()[0])
	check(err)
	fmt.Println("errors in the status:", len(told.Errors))
	listed, err := s.client.AlarmList(s.ctx)
	check(err)
	for _, one := range listed.Alarms {
		fmt.Println("alarm:", one.Alarm)
	}
	s.remove(prefix+"a", created, kubernetes.DeleteOptions{GetOnFailure: true})
	deleted, err := s.client.KV.Delete(s.ctx, prefix+"b")
	fmt.Println("deleted:", err == nil && deleted.Deleted == 1, failure(err))
	follower.take(2)
	s.disarm()
	s.put(prefix+"c", "new", 0, tell)
	follower.take(1)
}

// leases is how events of Kubernetes come to their end: many share a lease that lives a little longer than they should.
func leases(s *session) {
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	const prefix = "/registry/events/default/"
	granted, err := s.client.Grant(s.ctx, 3600+60)
	check(err)
	fmt.Println("granted for", granted.TTL)
	tell := kubernetes.PutOptions{GetOnFailure: true, LeaseID: granted.ID}
	first := s.put(prefix+"pod.1", "started", 0, tell)
	s.put(prefix+"pod.2", "pulled", 0, tell)
	for i := range 200 {
		put, err := s.client.Kubernetes.OptimisticPut(s.ctx, fmt.Sprintf("%sbulk.%03d", prefix, i), []byte("x"), 0, tell)
		check(err)
		if !put.Succeeded {
			fmt.Println("FAILED: an event was there")
		}
	}
	s.attached("long", granted.ID)
	events := s.follow(ctx, prefix)

	// An event that comes again takes the lease of now, and leaves that of before.
	short, err := s.client.Grant(s.ctx, 8)
	check(err)
	fmt.Println("granted for", short.TTL)
	again := s.put(prefix+"pod.1", "started, twice", first, kubernetes.PutOptions{GetOnFailure: true, LeaseID: short.ID})
	s.put(prefix+"short", "x", 0, kubernetes.PutOptions{GetOnFailure: true, LeaseID: short.ID})
	events.take(2)
	s.attached("long", granted.ID)
	events.take(2) // both end with their lease, at one revision
	s.get(prefix+"pod.1", 0)
	s.put(prefix+"pod.1", "late", again, tell)
	s.put(prefix+"late", "x", 0, kubernetes.PutOptions{GetOnFailure: true, LeaseID: short.ID})
	left, err := s.client.TimeToLive(s.ctx, short.ID, clientv3.WithAttachedKeys())
	check(err)
	fmt.Println("after its end:", left.TTL, left.GrantedTTL, len(left.Keys))

	// An object that is written without a lease is held no longer.
	got, err := s.client.Kubernetes.Get(s.ctx, prefix+"pod.2", kubernetes.GetOptions{})
	check(err)
	s.put(prefix+"pod.2", "kept", got.KV.ModRevision, kubernetes.PutOptions{GetOnFailure: true})
	s.attached("long", granted.ID)
	_, err = s.client.Revoke(s.ctx, granted.ID)
	fmt.Println("revoked:", failure(err))
	events.take(1 + 200)
	_, err = s.client.Revoke(s.ctx, granted.ID)
	fmt.Println("revoked again:", failure(err))
	s.list(prefix, kubernetes.ListOptions{Limit: 500})
	_, err = s.client.Grant(s.ctx, 0)
	fmt.Println("no time:", failure(err))
	_, err = s.client.Grant(s.ctx, 9_000_000_001)
	fmt.Println("too much time:", failure(err))
	s.raiseNoSpace()
	_, err = s.client.Grant(s.ctx, 60)
	fmt.Println("no space:", failure(err))
	s.disarm()
}

func (s *session) attached(name string, lease clientv3.LeaseID) {
	left, err := s.client.TimeToLive(s.ctx, lease, clientv3.WithAttachedKeys())
	check(err)
	inTime := left.TTL > 0 && left.TTL <= left.GrantedTTL
	fmt.Printf("lease %s: granted %d, in time %v, %d keys\n", name, left.GrantedTTL, inTime, len(left.Keys))
}

// patroni is what Patroni's members do: each keeps a lease alive, the leader's key is made by who finds none, and it
// ends with its lease.
func patroni(s *session) {
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	const scope, leader = "/service/batman/", "/service/batman/leader"
	told := s.client.Watch(ctx, scope, clientv3.WithPrefix(), clientv3.WithRev(s.base+1))
	cluster := &watchCache{session: s, prefix: scope, told: told, seen: s.base}
	members := map[string]clientv3.LeaseID{}
	for _, name := range []string{"pg0", "pg1"} {
		lease, err := s.client.Grant(s.ctx, 30)
		check(err)
		members[name] = lease.ID
		_, err = s.client.Put(s.ctx, scope+"members/"+name, `{"role":"replica"}`, clientv3.WithLease(lease.ID))
		check(err)
	}
	acquire := func(name string) {
		won, err := s.client.Txn(s.ctx).If(clientv3.Compare(clientv3.CreateRevision(leader), "=", 0)).
			Then(clientv3.OpPut(leader, name, clientv3.WithLease(members[name]))).Commit()
		fmt.Println(name, "acquires:", err == nil && won.Succeeded, failure(err))
	}
	initialize, err := s.client.Txn(s.ctx).If(clientv3.Compare(clientv3.CreateRevision(scope+"initialize"), "=", 0)).
		Then(clientv3.OpPut(scope+"initialize", "7001")).Commit()
	check(err)
	fmt.Println("initialized:", initialize.Succeeded)
	acquire("pg0")
	acquire("pg1")
	for name, lease := range members {
		kept, err := s.client.KeepAliveOnce(s.ctx, lease)
		check(err)
		if kept.TTL != 30 {
			fmt.Println("FAILED: the lease of", name, "has", kept.TTL)
		}
	}
	// The leader's loop: it touches its member key only if something changed, and holds the leader's key by its lease.
	holds, err := s.client.Txn(s.ctx).If(clientv3.Compare(clientv3.Value(leader), "=", "pg0"),
		clientv3.Compare(clientv3.LeaseValue(leader), "=", members["pg0"])).
		Then(clientv3.OpPut(scope+"status", `{"optime":67197376}`)).Commit()
	check(err)
	fmt.Println("pg0 holds:", holds.Succeeded)
	read, err := s.client.KV.Get(s.ctx, scope, clientv3.WithPrefix(), clientv3.WithSerializable())
	check(err)
	for _, kv := range read.Kvs {
		fmt.Println(" ", s.show(kv))
	}
	// A switch-over: the leader gives its key back, if it is still the one it made.
	handed, err := s.client.Txn(s.ctx).If(clientv3.Compare(clientv3.Value(leader), "=", "pg0")).
		Then(clientv3.OpDelete(leader)).Commit()
	check(err)
	fmt.Println("pg0 gives back:", handed.Succeeded)
	acquire("pg1")

	// A member that dies takes the leader's key with it. The next one holds it for longer than its lease would last.
	_, err = s.client.Revoke(s.ctx, members["pg1"])
	check(err)
	short, err := s.client.Grant(s.ctx, 8)
	check(err)
	members["pg0"] = short.ID
	acquire("pg0")
	for held := time.Now(); time.Since(held) < 10*time.Second; time.Sleep(time.Second) {
		kept, err := s.client.KeepAliveOnce(s.ctx, short.ID)
		check(err)
		if kept.TTL != short.TTL {
			fmt.Println("FAILED: a renewed lease has", kept.TTL)
		}
	}
	s.get(leader, 0)
	_, err = s.client.Revoke(s.ctx, short.ID)
	check(err)
	cluster.take(11)
	_, err = s.client.KeepAliveOnce(s.ctx, short.ID)
	fmt.Println("kept after its end:", failure(err))
}
