package main

import (
	"bufio"
	"context"
	"fmt"
	"hash/fnv"
	"os"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"
)

// A watchCache follows one resource as kube-apiserver's cacher does.
type watchCache struct {
	session *session
	prefix  string
	told    clientv3.WatchChan
	seen    int64 // the newest revision of events and of progress
}

// follow lists a resource and watches it from there. All watchers with one context share a stream.
func (s *session) follow(ctx context.Context, prefix string) *watchCache {
	listed, err := s.client.Kubernetes.List(s.ctx, prefix, kubernetes.ListOptions{Limit: 10_000})
	check(err)
	return s.watchFrom(ctx, prefix, listed.Revision)
}

func (s *session) watchFrom(ctx context.Context, prefix string, revision int64) *watchCache {
	told := s.client.Watch(clientv3.WithRequireLeader(ctx), prefix, clientv3.WithRev(revision+1), clientv3.WithPrevKV(),
		clientv3.WithPrefix(), clientv3.WithProgressNotify())
	return &watchCache{session: s, prefix: prefix, told: told, seen: revision}
}

// kind is what users of Kubernetes see of an event.
func kind(event *clientv3.Event) string {
	switch {
	case event.Type == mvccpb.DELETE:
		return "DELETED"
	case event.IsCreate():
		return "ADDED"
	default:
		return "MODIFIED"
	}
}

// Of many events a sum is printed, and only the first ones in full.
const printedMax = 12

// take prints events until there were `count`, or the watch ends. Progress is noted.
func (w *watchCache) take(count int) {
	s := w.session
	fmt.Println("#", w.prefix)
	taken := 0
	all := fnv.New64a()
	defer func() { fmt.Printf("%d events, sum %x\n", taken, all.Sum64()) }()
	for timeout := time.After(patience); count > 0; {
		select {
		case response, open := <-w.told:
			if !open {
				fmt.Println("closed")
				return
			}
			if err := response.Err(); err != nil {
				fmt.Printf("error, compacted below %d: %s\n", s.since(response.CompactRevision), failure(err))
				continue
			}
			w.seen = max(w.seen, response.Header.Revision)
			for _, event := range response.Events {
				line := fmt.Sprintf("%s %s, before: %s\n", kind(event), s.show(event.Kv), s.show(event.PrevKv))
				fmt.Fprint(all, line)
				if taken++; taken <= printedMax {
					fmt.Print(line)
				}
				count--
			}
		case <-timeout:
			fmt.Println("nothing came")
			return
		}
	}
}

// fresh waits until the watch is known to be at a revision, as a consistent read from the cache does: it asks for
// progress until that is told.
func (w *watchCache) fresh(ctx context.Context, revision int64) {
	timeout := time.After(patience)
	for w.seen < revision {
		check(w.session.client.RequestProgress(clientv3.WithRequireLeader(ctx)))
		select {
		case response := <-w.told:
			if response.Err() != nil || len(response.Events) > 0 {
				fmt.Println("FAILED: events instead of progress", response.Err(), response.Events)
			}
			w.seen = max(w.seen, response.Header.Revision)
		case <-time.After(100 * time.Millisecond):
		case <-timeout:
			fmt.Println("no progress came")
			return
		}
	}
	fmt.Println("fresh at", w.session.since(w.seen))
}

func watches(s *session) {
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	tell := kubernetes.PutOptions{GetOnFailure: true}
	pods, nodes := s.follow(ctx, "/registry/pods/watched/"), s.follow(ctx, "/registry/minions/")
	from := s.revision()
	created := s.put("/registry/pods/watched/a", "one", 0, tell)
	s.put("/registry/minions/n1", "node", 0, tell)
	changed := s.put("/registry/pods/watched/a", "two", created, tell)
	s.put("/registry/pods/watched/a", "refused", created, tell)
	s.put("/registry/pods/watched/b", "one", 0, tell)
	s.remove("/registry/pods/watched/a", changed, kubernetes.DeleteOptions{GetOnFailure: true})
	pods.take(4)
	nodes.take(1)
	nodes.fresh(ctx, s.revision())
	pods.fresh(ctx, s.revision())
	s.create("/registry/leases/other", "not watched")
	nodes.fresh(ctx, s.revision())

	// A client that comes later, and one that comes again from where it was.
	s.watchFrom(ctx, "/registry/pods/watched/", from).take(4)
	s.watchFrom(ctx, "/registry/pods/watched/", changed).take(2)
	late := s.watchFrom(ctx, "/registry/pods/watched/", s.revision())
	s.create("/registry/leases/another", "not watched")
	late.fresh(ctx, s.revision())

	// One watch for each of many resources, and a namespace that goes.
	var many []*watchCache
	for i := range 40 {
		many = append(many, s.follow(ctx, fmt.Sprintf("/registry/resource%02d/", i)))
	}
	for i := range 40 {
		s.create(fmt.Sprintf("/registry/resource%02d/default/object", i), fmt.Sprint(i))
	}
	_, err := s.client.Delete(s.ctx, "/registry/resource", clientv3.WithPrefix())
	check(err)
	for _, one := range many {
		one.take(2)
	}
	many[39].fresh(ctx, s.revision())
	stopped, stop := context.WithCancel(ctx)
	gone := s.follow(stopped, "/registry/pods/watched/")
	stop()
	gone.take(1)
}

// restarts has the server end while it is watched and while a list is read in pages. Watches go on by themselves.
func restarts(s *session) {
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	const prefix = "/registry/restarted/"
	tell := kubernetes.PutOptions{GetOnFailure: true}
	granted, err := s.client.Grant(s.ctx, 3600)
	check(err)
	revision := s.put(prefix+"a", "before", 0, tell)
	s.put(prefix+"b", "before", 0, kubernetes.PutOptions{GetOnFailure: true, LeaseID: granted.ID})
	s.put(prefix+"c", "before", 0, tell)
	first := s.list(prefix, kubernetes.ListOptions{Limit: 1})
	follower := s.follow(ctx, prefix)
	input := bufio.NewReader(os.Stdin)
	for _, how := range []string{"@kill", "@stop"} {
		fmt.Println(how)
		_, err := input.ReadString('\n')
		check(err)
		for _, err = s.client.KV.Get(s.ctx, prefix); err != nil; _, err = s.client.KV.Get(s.ctx, prefix) {
			check(s.ctx.Err())
		}
		s.list(prefix, kubernetes.ListOptions{Limit: 1, Revision: first.Revision, Continue: prefix + "a\x00"})
		s.attached("long", granted.ID)
		s.put(prefix+"a", "stale", revision-1, tell)
		revision = s.put(prefix+"a", "after "+how, revision, tell)
		s.create(prefix+how, "x")
		follower.take(2)
		follower.fresh(ctx, s.revision())
	}
	_, err = s.client.Revoke(s.ctx, granted.ID)
	check(err)
	follower.take(1)
}
