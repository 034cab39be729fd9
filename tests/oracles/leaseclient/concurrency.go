package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	recipe "go.etcd.io/etcd/client/v3/experimental/recipes"
)

func session(client *clientv3.Client, options ...concurrency.SessionOption) *concurrency.Session {
	made, err := concurrency.NewSession(client, options...)
	check(err)
	return made
}

// withoutLease is a key whose last part is the id of a session's lease.
func withoutLease(key string, of *concurrency.Session) string {
	return strings.ReplaceAll(key, fmt.Sprintf("%x", of.Lease()), "LEASE")
}

func sessions(client *clientv3.Client, endpoint string) {
	chapter("mutex")
	other := newClient(endpoint)
	a, b := session(client), session(other, concurrency.WithTTL(30))
	first, second := concurrency.NewMutex(a, "mutex"), concurrency.NewMutex(b, "mutex")
	check(first.Lock(ctx))
	fmt.Println(withoutLease(first.Key(), a), first.Header().Revision > 0)
	fmt.Println(second.TryLock(ctx))
	answer, err := client.Txn(ctx).If(first.IsOwner()).Then(clientv3.OpPut("owner", "a")).Commit()
	check(err)
	fmt.Println("owner", answer.Succeeded)
	locked := make(chan error, 1)
	go func() { locked <- second.Lock(ctx) }()
	await("two wait or hold", func() bool { return count(client, "mutex/") == 2 })
	check(first.Unlock(ctx))
	err, _ = receive("the lock", locked)
	fmt.Println("handed on", err)
	answer, err = client.Txn(ctx).If(first.IsOwner()).Commit()
	check(err)
	fmt.Println("owner", answer.Succeeded)
	brief, cancel := context.WithCancel(ctx)
	go func() { locked <- first.Lock(brief) }()
	await("two wait or hold", func() bool { return count(client, "mutex/") == 2 })
	cancel()
	err, _ = receive("the end of the wait", locked)
	fmt.Println(errors.Is(err, context.Canceled))
	go func() { locked <- first.Lock(ctx) }()
	await("two wait or hold", func() bool { return count(client, "mutex/") == 2 })

	chapter("the lock of a session that ends is handed on")
	check(b.Close())
	err, _ = receive("the lock", locked)
	fmt.Println(err)
	<-b.Done()
	fmt.Println(second.Unlock(ctx) == nil, first.Unlock(ctx))
	fmt.Println(first.Unlock(ctx))

	chapter("the lock of a client that is gone is handed on")
	dead := newClient(endpoint)
	c := session(dead, concurrency.WithTTL(6))
	third := concurrency.NewMutex(c, "mutex")
	check(third.Lock(ctx))
	check(dead.Close())
	check(first.Lock(ctx))
	fmt.Println("locked")
	check(first.Unlock(ctx))

	chapter("sessions")
	lease, err := client.Grant(ctx, 40)
	check(err)
	found := session(client, concurrency.WithLease(lease.ID))
	fmt.Println("of a given lease", found.Lease() == lease.ID)
	found.Orphan()
	<-found.Done()
	left, err := client.TimeToLive(ctx, lease.ID)
	check(err)
	fmt.Println("an orphan's lease lives", left.TTL > 0)
	ends := session(client, concurrency.WithTTL(20))
	_, err = other.Revoke(ctx, ends.Lease())
	check(err)
	<-ends.Done()
	fmt.Println("one whose lease is revoked is done", ends.Ctx().Err())
	_, err = client.Revoke(ctx, lease.ID)
	check(err)

	chapter("lockers")
	counter := 0
	var all sync.WaitGroup
	for i := 0; i < 6; i++ {
		all.Add(1)
		go func() {
			defer all.Done()
			mine := session(other)
			defer mine.Close()
			locker := concurrency.NewLocker(mine, "locker")
			for j := 0; j < 5; j++ {
				locker.Lock()
				counter++
				locker.Unlock()
			}
		}()
	}
	all.Wait()
	fmt.Println(counter, count(client, "locker/"))
	check(a.Close())
	check(other.Close())
}

func count(client *clientv3.Client, prefix string) int64 {
	response, err := client.Get(ctx, prefix, clientv3.WithPrefix(), clientv3.WithCountOnly())
	check(err)
	return response.Count
}

func elections(client *clientv3.Client, endpoint string) {
	chapter("election")
	other := newClient(endpoint)
	defer other.Close()
	a, b := session(client), session(other)
	first, second := concurrency.NewElection(a, "election"), concurrency.NewElection(b, "election")
	_, err := first.Leader(ctx)
	fmt.Println(err)
	observed, stop := context.WithCancel(ctx)
	observer := second.Observe(observed)
	check(first.Campaign(ctx, "one"))
	say := func() {
		response, _ := receive("a leader", observer)
		fmt.Println("observed", string(response.Kvs[0].Value))
	}
	say()
	campaign := make(chan error, 1)
	go func() { campaign <- second.Campaign(ctx, "two") }()
	await("two candidates", func() bool { return count(client, "election/") == 2 })
	check(first.Proclaim(ctx, "one, again"))
	say()
	leader, err := second.Leader(ctx)
	check(err)
	fmt.Println(string(leader.Kvs[0].Value), withoutLease(string(leader.Kvs[0].Key), a), first.Rev() == leader.Kvs[0].CreateRevision)
	check(first.Resign(ctx))
	err, _ = receive("the end of the campaign", campaign)
	fmt.Println(err)
	say()
	fmt.Println(first.Proclaim(ctx, "no leader"))
	resumed := concurrency.ResumeElection(b, "election", second.Key(), second.Rev())
	check(resumed.Proclaim(ctx, "two, resumed"))
	say()
	go func() { campaign <- first.Campaign(ctx, "three") }()
	await("two candidates", func() bool { return count(client, "election/") == 2 })
	check(b.Close())
	err, _ = receive("the end of the campaign", campaign)
	fmt.Println(err)
	stop()
	check(a.Close())
	_, err = first.Leader(ctx)
	fmt.Println(err)
}

func transactions(client *clientv3.Client) {
	chapter("stm")
	accounts := 5
	for i := 0; i < accounts; i++ {
		put(client, fmt.Sprintf("stm/%d", i), "100")
	}
	for _, isolation := range []concurrency.Isolation{concurrency.SerializableSnapshot, concurrency.Serializable,
		concurrency.RepeatableReads} {
		var all sync.WaitGroup
		for i := 0; i < 8; i++ {
			all.Add(1)
			go func() {
				defer all.Done()
				for j := 0; j < 5; j++ {
					from, to := fmt.Sprintf("stm/%d", (i+j)%accounts), fmt.Sprintf("stm/%d", (i+2*j+1)%accounts)
					_, err := concurrency.NewSTM(client, func(s concurrency.STM) error {
						if from == to {
							return nil
						}
						left, _ := strconv.Atoi(s.Get(from))
						right, _ := strconv.Atoi(s.Get(to))
						s.Put(from, strconv.Itoa(left-1))
						s.Put(to, strconv.Itoa(right+1))
						return nil
					}, concurrency.WithIsolation(isolation), concurrency.WithPrefetch(from, to))
					check(err)
				}
			}()
		}
		all.Wait()
	}
	sum := 0
	for i := 0; i < accounts; i++ {
		left, _ := strconv.Atoi(value(client, fmt.Sprintf("stm/%d", i)))
		sum += left
	}
	fmt.Println("nothing is lost", sum)
	answer, err := concurrency.NewSTM(client, func(s concurrency.STM) error {
		s.Put("stm/new", s.Get("stm/0", "stm/1")[:0]+"x")
		fmt.Println("reads its own write", s.Get("stm/new"), s.Rev("stm/none"))
		s.Del("stm/4")
		return nil
	}, concurrency.WithIsolation(concurrency.ReadCommitted))
	check(err)
	fmt.Println(answer.Succeeded, value(client, "stm/new"), value(client, "stm/4"))
	_, err = concurrency.NewSTM(client, func(concurrency.STM) error { return errors.New("given up") })
	fmt.Println(err)
	_, err = client.Delete(ctx, "stm/", clientv3.WithPrefix())
	check(err)
}

func recipes(client *clientv3.Client, endpoint string) {
	chapter("queues and barriers")
	queue, byPriority := recipe.NewQueue(client, "queue"), recipe.NewPriorityQueue(client, "priority-queue")
	for i := 0; i < 5; i++ {
		check(queue.Enqueue(fmt.Sprint("item ", i)))
		check(byPriority.Enqueue(fmt.Sprint("item ", i), uint16(9-i)))
	}
	for i := 0; i < 5; i++ {
		one, err := queue.Dequeue()
		check(err)
		two, err := byPriority.Dequeue()
		check(err)
		fmt.Println(one, two)
	}
	barrier := recipe.NewBarrier(client, "barrier")
	check(barrier.Hold())
	fmt.Println(barrier.Hold())
	released := make(chan error, 1)
	go func() { released <- recipe.NewBarrier(client, "barrier").Wait() }()
	check(barrier.Release())
	err, _ := receive("the release", released)
	fmt.Println(err)

	other := newClient(endpoint)
	defer other.Close()
	a, b := session(client), session(other)
	reader, writer := recipe.NewRWMutex(a, "rw"), recipe.NewRWMutex(b, "rw")
	check(reader.RLock())
	written := make(chan error, 1)
	go func() { written <- writer.Lock() }()
	await("a reader and a writer", func() bool { return count(client, "rw/") == 2 })
	check(reader.RUnlock())
	err, _ = receive("the writer's lock", written)
	fmt.Println(err)
	check(writer.Unlock())

	entered := make(chan error, 2)
	doubles := []*recipe.DoubleBarrier{recipe.NewDoubleBarrier(a, "double", 2), recipe.NewDoubleBarrier(b, "double", 2)}
	for _, one := range doubles {
		go func() { entered <- one.Enter() }()
	}
	for range doubles {
		err, _ = receive("both", entered)
		fmt.Println("entered", err)
	}
	for _, one := range doubles {
		go func() { entered <- one.Leave() }()
	}
	for range doubles {
		err, _ = receive("both", entered)
		fmt.Println("left", err)
	}
	_, err = client.Delete(ctx, "double", clientv3.WithPrefix())
	check(err)
	check(a.Close())
	check(b.Close())
}
