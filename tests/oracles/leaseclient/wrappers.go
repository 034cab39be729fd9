package main

import (
	"fmt"
	"slices"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"
	"go.etcd.io/etcd/client/v3/leasing"
	"go.etcd.io/etcd/client/v3/mirror"
	"go.etcd.io/etcd/client/v3/namespace"
	"go.etcd.io/etcd/client/v3/naming/endpoints"
	"go.etcd.io/etcd/client/v3/ordering"
)

// wrappers are the library's other ways to keys, watches and leases.
func wrappers(client *clientv3.Client, endpoint string) {
	namespaces(client)
	orders(client)
	mirrors(client)
	leased(client, endpoint)
	names(client)
	kubernetesClient(endpoint)
}

func say(response *clientv3.GetResponse, err error) {
	check(err)
	for _, kv := range response.Kvs {
		fmt.Printf("%s=%s ", kv.Key, kv.Value)
	}
	fmt.Println("count", response.Count)
}

func namespaces(client *clientv3.Client) {
	chapter("namespace")
	kv := namespace.NewKV(client.KV, "space/")
	lessor := namespace.NewLease(client.Lease, "space/")
	watch := namespace.NewWatcher(client.Watcher, "space/").Watch(ctx, "", clientv3.WithPrefix())
	lease, err := lessor.Grant(ctx, 60)
	check(err)
	_, err = kv.Put(ctx, "a", "1", clientv3.WithLease(lease.ID))
	check(err)
	answer, err := kv.Txn(ctx).If(clientv3.Compare(clientv3.Value("a"), "=", "1")).
		Then(clientv3.OpPut("b", "2"), clientv3.OpGet("", clientv3.WithPrefix())).Commit()
	check(err)
	fmt.Println(answer.Succeeded, string(answer.Responses[1].GetResponseRange().Kvs[1].Key))
	put(client, "outside", "x")
	say(kv.Get(ctx, "", clientv3.WithFromKey()))
	say(client.Get(ctx, "space/", clientv3.WithPrefix()))
	live, err := lessor.TimeToLive(ctx, lease.ID, clientv3.WithAttachedKeys())
	check(err)
	fmt.Printf("%s\n", live.Keys)
	_, err = lessor.Revoke(ctx, lease.ID)
	check(err)
	for seen := 0; seen < 3; {
		response, _ := receive("events", watch)
		for _, event := range response.Events {
			fmt.Printf("%v %s\n", event.Type, event.Kv.Key)
			seen++
		}
	}
	deleted, err := kv.Delete(ctx, "", clientv3.WithPrefix())
	check(err)
	fmt.Println(deleted.Deleted, value(client, "outside"))
	_, err = client.Delete(ctx, "outside")
	check(err)
}

func orders(client *clientv3.Client) {
	chapter("ordering")
	kv := ordering.NewKV(client.KV, ordering.NewOrderViolationSwitchEndpointClosure(client))
	_, err := kv.Put(ctx, "ordered", "1")
	check(err)
	for i := 0; i < 3; i++ {
		say(kv.Get(ctx, "ordered", clientv3.WithSerializable()))
	}
	answer, err := kv.Txn(ctx).Then(clientv3.OpGet("ordered"), clientv3.OpDelete("ordered")).Commit()
	check(err)
	fmt.Println(answer.Succeeded, answer.Responses[1].GetResponseDeleteRange().Deleted)
}

func mirrors(client *clientv3.Client) {
	chapter("mirror")
	for i := 0; i < 2500; i += 100 {
		var puts []clientv3.Op
		for j := i; j < i+100; j++ {
			puts = append(puts, clientv3.OpPut(fmt.Sprintf("mirrored/%04d", j), "x"))
		}
		_, err := client.Txn(ctx).Then(puts...).Commit()
		check(err)
	}
	syncer := mirror.NewSyncer(client, "mirrored/", 0)
	base, failures := syncer.SyncBase(ctx)
	pages, keys := 0, 0
	for page := range base {
		pages++
		keys += len(page.Kvs)
	}
	err, _ := receive("the end of the base", failures)
	check(err)
	fmt.Println(pages, keys)
	updates := syncer.SyncUpdates(ctx)
	put(client, "mirrored/0000", "y")
	_, err = client.Delete(ctx, "mirrored/0001")
	check(err)
	for seen := 0; seen < 2; {
		response, _ := receive("updates", updates)
		for _, event := range response.Events {
			fmt.Printf("%v %s=%s\n", event.Type, event.Kv.Key, event.Kv.Value)
			seen++
		}
	}
	_, err = client.Delete(ctx, "mirrored/", clientv3.WithPrefix())
	check(err)
}

func leased(client *clientv3.Client, endpoint string) {
	chapter("leasing")
	other := newClient(endpoint)
	defer other.Close()
	a, closeA, err := leasing.NewKV(client, "leasing/")
	check(err)
	b, closeB, err := leasing.NewKV(other, "leasing/")
	check(err)
	_, err = a.Put(ctx, "k", "1")
	check(err)
	say(a.Get(ctx, "k"))
	fmt.Println("a owns it", count(client, "leasing/"))
	say(a.Get(ctx, "k"))
	_, err = b.Put(ctx, "k", "2") // takes the key from a
	check(err)
	say(a.Get(ctx, "k"))
	say(b.Get(ctx, "k"))
	answer, err := b.Txn(ctx).If(clientv3.Compare(clientv3.Value("k"), "=", "2")).
		Then(clientv3.OpPut("k", "3"), clientv3.OpPut("l", "3")).Else(clientv3.OpGet("k")).Commit()
	check(err)
	fmt.Println(answer.Succeeded)
	say(a.Get(ctx, "k"))
	say(a.Get(ctx, "l"))
	deleted, err := a.Delete(ctx, "k")
	check(err)
	fmt.Println(deleted.Deleted)
	say(b.Get(ctx, "k"))
	_, err = b.Delete(ctx, "l")
	check(err)
	closeA()
	closeB()
	await("nobody owns a key", func() bool { return count(client, "leasing/") == 0 })
}

func names(client *clientv3.Client) {
	chapter("names")
	manager, err := endpoints.NewManager(client, "service")
	check(err)
	watch, err := manager.NewWatchChannel(ctx)
	check(err)
	lease, err := client.Grant(ctx, 60)
	check(err)
	check(manager.AddEndpoint(ctx, "service/a", endpoints.Endpoint{Addr: "10.0.0.1:1"}, clientv3.WithLease(lease.ID)))
	check(manager.AddEndpoint(ctx, "service/b", endpoints.Endpoint{Addr: "10.0.0.2:1", Metadata: "x"}))
	listed, err := manager.List(ctx)
	check(err)
	fmt.Println(len(listed), listed["service/a"].Addr, listed["service/b"].Metadata)
	_, err = client.Revoke(ctx, lease.ID)
	check(err)
	check(manager.DeleteEndpoint(ctx, "service/b"))
	for seen := 0; seen < 4; {
		updates, _ := receive("updates", watch)
		for _, update := range updates {
			fmt.Println(update.Op, update.Key, update.Endpoint.Addr)
			seen++
		}
	}
}

func kubernetesClient(endpoint string) {
	chapter("kubernetes")
	client, err := kubernetes.New(clientv3.Config{Endpoints: []string{endpoint}, DialTimeout: patience})
	check(err)
	defer client.Close()
	lease, err := client.Client.Grant(ctx, 60)
	check(err)
	describe := func(kv *mvccpb.KeyValue) string {
		if kv == nil {
			return "nothing"
		}
		return fmt.Sprintf("%s=%s version %d", kv.Key, kv.Value, kv.Version)
	}
	made, err := client.Kubernetes.OptimisticPut(ctx, "/registry/a", []byte("1"), 0, kubernetes.PutOptions{LeaseID: lease.ID})
	check(err)
	fmt.Println(made.Succeeded, describe(made.KV))
	refused, err := client.Kubernetes.OptimisticPut(ctx, "/registry/a", []byte("2"), 0, kubernetes.PutOptions{GetOnFailure: true})
	check(err)
	fmt.Println(refused.Succeeded, describe(refused.KV))
	changed, err := client.Kubernetes.OptimisticPut(ctx, "/registry/a", []byte("2"), made.Revision, kubernetes.PutOptions{LeaseID: lease.ID})
	check(err)
	for _, name := range []string{"b", "c", "d"} {
		_, err := client.Kubernetes.OptimisticPut(ctx, "/registry/"+name, []byte(name), 0, kubernetes.PutOptions{})
		check(err)
	}
	old, err := client.Kubernetes.Get(ctx, "/registry/a", kubernetes.GetOptions{Revision: made.Revision})
	check(err)
	fmt.Println(describe(old.KV))
	var found []string
	next := ""
	for {
		page, err := client.Kubernetes.List(ctx, "/registry/", kubernetes.ListOptions{Limit: 3, Continue: next})
		check(err)
		for _, kv := range page.Kvs {
			found = append(found, string(kv.Key))
		}
		fmt.Println("page of", len(page.Kvs), "left", page.Count)
		if int64(len(page.Kvs)) == page.Count {
			break
		}
		next = found[len(found)-1] + "\x00"
	}
	fmt.Println(found, slices.IsSorted(found))
	kept, err := client.Kubernetes.OptimisticDelete(ctx, "/registry/a", made.Revision, kubernetes.DeleteOptions{GetOnFailure: true})
	check(err)
	fmt.Println(kept.Succeeded, describe(kept.KV))
	deleted, err := client.Kubernetes.OptimisticDelete(ctx, "/registry/a", changed.Revision, kubernetes.DeleteOptions{})
	check(err)
	fmt.Println(deleted.Succeeded)
	left, err := client.Kubernetes.Count(ctx, "/registry/", kubernetes.CountOptions{})
	check(err)
	fmt.Println(left)
	_, err = client.Client.Revoke(ctx, lease.ID)
	check(err)
	_, err = client.Client.Delete(ctx, "/registry/", clientv3.WithPrefix())
	check(err)
}
