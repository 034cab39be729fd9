// leaseclient uses leases, and what etcd's own client library builds upon them, at an endpoint and prints what it sees.
//
//	leaseclient ENDPOINT
//
// The lines are the same for every server that behaves as etcd does: run it against both and compare.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	clientv3 "go.etcd.io/etcd/client/v3"
)

const patience = 60 * time.Second // for what takes a moment on a machine that is not busy

var ctx = context.Background()

func check(err error) {
	if err != nil {
		fmt.Println("FAILED:", err)
		os.Exit(1)
	}
}

func chapter(name string) { fmt.Println("#", name) }

func newClient(endpoint string) *clientv3.Client {
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, DialTimeout: patience, Logger: zap.NewNop()})
	check(err)
	return client
}

func put(client *clientv3.Client, key, value string, options ...clientv3.OpOption) {
	_, err := client.Put(ctx, key, value, options...)
	check(err)
}

func value(client *clientv3.Client, key string) string {
	response, err := client.Get(ctx, key)
	check(err)
	if len(response.Kvs) == 0 {
		return "nothing"
	}
	return string(response.Kvs[0].Value)
}

// await waits until something is so.
func await(what string, isSo func() bool) {
	for deadline := time.Now().Add(patience); !isSo(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			fmt.Println("FAILED: waited in vain:", what)
			os.Exit(1)
		}
	}
	fmt.Println(what)
}

// receive is what a channel brings; false: it is closed.
func receive[T any](what string, channel <-chan T) (T, bool) {
	select {
	case got, open := <-channel:
		return got, open
	case <-time.After(patience):
		fmt.Println("FAILED: nothing came:", what)
		os.Exit(1)
		panic("")
	}
}

// remaining says that a time to live is near `granted` or above: a server that is slow counts fewer seconds.
func remaining(ttl, granted int64) string {
	if ttl >= 0 && ttl <= granted {
		return "within its time"
	}
	return fmt.Sprint(ttl)
}

func leases(client *clientv3.Client) {
	chapter("grant")
	for _, ttl := range []int64{0, -5, 1, 2, 600, 9_000_000_000, 9_000_000_001} {
		response, err := client.Grant(ctx, ttl)
		if err != nil {
			fmt.Println(ttl, "->", err)
			continue
		}
		fmt.Println(ttl, "->", response.TTL, response.ID > 0, response.Error)
		_, err = client.Revoke(ctx, response.ID)
		check(err)
	}

	chapter("time to live")
	lease, err := client.Grant(ctx, 600)
	check(err)
	put(client, "lease/a", "1", clientv3.WithLease(lease.ID))
	put(client, "lease/b", "1", clientv3.WithLease(lease.ID))
	put(client, "lease/c", "1", clientv3.WithLease(lease.ID))
	put(client, "lease/c", "2") // takes it from the lease
	put(client, "lease/b", "2", clientv3.WithIgnoreLease())
	for _, options := range [][]clientv3.LeaseOption{{}, {clientv3.WithAttachedKeys()}} {
		response, err := client.TimeToLive(ctx, lease.ID, options...)
		check(err)
		var keys []string
		for _, key := range response.Keys {
			keys = append(keys, string(key))
		}
		slices.Sort(keys)
		fmt.Println(response.ID == lease.ID, response.GrantedTTL, remaining(response.TTL, 600), keys)
	}
	got, err := client.Get(ctx, "lease/", clientv3.WithPrefix())
	check(err)
	for _, kv := range got.Kvs {
		fmt.Printf("%s=%s leased %v\n", kv.Key, kv.Value, clientv3.LeaseID(kv.Lease) == lease.ID)
	}
	none, err := client.TimeToLive(ctx, 4711)
	check(err)
	fmt.Println("one that is not there", none.TTL, none.GrantedTTL, none.Keys)

	chapter("list")
	second, err := client.Grant(ctx, 300)
	check(err)
	all, err := client.Leases(ctx)
	check(err)
	fmt.Println("ends first, stands first", slices.Equal(all.Leases, []clientv3.LeaseStatus{{ID: second.ID}, {ID: lease.ID}}))

	chapter("keep alive once")
	once, err := client.KeepAliveOnce(ctx, lease.ID)
	check(err)
	fmt.Println(once.TTL, once.ID == lease.ID)
	_, err = client.KeepAliveOnce(ctx, 4711)
	fmt.Println(err)

	chapter("revoke")
	_, err = client.Revoke(ctx, lease.ID)
	check(err)
	fmt.Println(value(client, "lease/a"), value(client, "lease/b"), value(client, "lease/c"))
	_, err = client.Revoke(ctx, lease.ID)
	fmt.Println(err)
	_, err = client.Revoke(ctx, clientv3.NoLease)
	fmt.Println(err)
	_, err = client.Put(ctx, "lease/d", "x", clientv3.WithLease(lease.ID))
	fmt.Println(err)
	_, err = client.Put(ctx, "lease/none", "x", clientv3.WithIgnoreLease())
	fmt.Println(err)
	_, err = client.Txn(ctx).Then(clientv3.OpPut("lease/e", "x"), clientv3.OpPut("lease/f", "x", clientv3.WithLease(lease.ID))).Commit()
	fmt.Println(err, value(client, "lease/e"))
	_, err = client.Txn(ctx).If(clientv3.Compare(clientv3.LeaseValue("lease/c"), "=", clientv3.NoLease)).
		Then(clientv3.OpPut("lease/g", "x", clientv3.WithLease(second.ID))).Commit()
	check(err)
	answer, err := client.Txn(ctx).If(clientv3.Compare(clientv3.LeaseValue("lease/g"), "=", second.ID)).Commit()
	check(err)
	fmt.Println("compared with its lease", answer.Succeeded)
	_, err = client.Revoke(ctx, second.ID)
	check(err)
}

// expiry is about leases that end by themselves or are kept from it.
func expiry(client *clientv3.Client, endpoint string) {
	chapter("a watcher sees the end")
	before := time.Now()
	short, err := client.Grant(ctx, 5)
	check(err)
	watch := client.Watch(ctx, "short/", clientv3.WithPrefix(), clientv3.WithPrevKV(), clientv3.WithFilterPut())
	_, err = client.Txn(ctx).Then(clientv3.OpPut("short/a", "1", clientv3.WithLease(short.ID)),
		clientv3.OpPut("short/b", "2", clientv3.WithLease(short.ID))).Commit()
	check(err)
	seen := 0
	for seen < 2 {
		response, _ := receive("the end", watch)
		for _, event := range response.Events {
			fmt.Printf("%v %s was %s, with the first %v\n", event.Type, event.Kv.Key, event.PrevKv.Value,
				event.Kv.ModRevision == response.Header.Revision)
			seen++
		}
	}
	fmt.Println("not early", time.Since(before) >= 5*time.Second)
	gone, err := client.TimeToLive(ctx, short.ID)
	check(err)
	fmt.Println(gone.TTL)
	_, err = client.KeepAliveOnce(ctx, short.ID)
	fmt.Println(err)

	chapter("keep alive")
	other := newClient(endpoint)
	defer other.Close()
	kept, err := client.Grant(ctx, 15)
	check(err)
	put(client, "kept", "x", clientv3.WithLease(kept.ID))
	until, cancel := context.WithCancel(ctx)
	first, err := client.KeepAlive(until, kept.ID)
	check(err)
	again, err := client.KeepAlive(ctx, kept.ID)
	check(err)
	for i := 0; i < 2; i++ {
		response, open := receive("a renewal", first)
		fmt.Println(response.TTL, open)
	}
	cancel()
	await("a cancelled channel is closed", func() bool { _, open := <-first; return !open })
	response, open := receive("a renewal", again)
	fmt.Println(response.TTL, open, value(client, "kept"))
	_, err = other.Revoke(ctx, kept.ID)
	check(err)
	await("one of a revoked lease is closed", func() bool { _, open := receive("the end", again); return !open })
	channel, err := client.KeepAlive(ctx, 4711)
	check(err)
	_, open = receive("the end", channel)
	fmt.Println("of a lease that is not there", open)

	chapter("many keep alives on one stream")
	var channels []<-chan *clientv3.LeaseKeepAliveResponse
	for i := 0; i < 200; i++ {
		lease, err := client.Grant(ctx, int64(30+i))
		check(err)
		channel, err := client.KeepAlive(ctx, lease.ID)
		check(err)
		channels = append(channels, channel)
	}
	wrong := 0
	for i, channel := range channels {
		response, open := receive("a renewal", channel)
		if !open || response.TTL != int64(30+i) {
			wrong++
		}
	}
	fmt.Println("wrong ones", wrong)
	lessor := clientv3.NewLease(other)
	lease, err := lessor.Grant(ctx, 60)
	check(err)
	channel, err = lessor.KeepAlive(ctx, lease.ID)
	check(err)
	receive("a renewal", channel)
	check(lessor.Close())
	await("closed with its lessor", func() bool { _, open := receive("the end", channel); return !open })
	var halted clientv3.ErrKeepAliveHalted
	_, err = lessor.KeepAlive(ctx, lease.ID)
	fmt.Println(errors.As(err, &halted), err)
	all, err := client.Leases(ctx)
	check(err)
	for _, one := range all.Leases {
		_, err := client.Revoke(ctx, one.ID)
		check(err)
	}
}

func main() {
	endpoint := os.Args[1]
	time.AfterFunc(4*time.Minute, func() { panic("hangs") })
	client := newClient(endpoint)
	defer client.Close()
	leases(client)
	expiry(client, endpoint)
	sessions(client, endpoint)
	elections(client, endpoint)
	transactions(client)
	recipes(client, endpoint)
	wrappers(client, endpoint)
	all, err := client.Leases(ctx)
	check(err)
	fmt.Println("leases that are left", len(all.Leases))
	keys, err := client.Get(ctx, "", clientv3.WithPrefix(), clientv3.WithKeysOnly())
	check(err)
	for _, kv := range keys.Kvs {
		if !strings.Contains(string(kv.Key), "queue") {
			fmt.Println("left:", string(kv.Key))
		}
	}
}
