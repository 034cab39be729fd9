package main

import (
	"context"
	"fmt"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/clientv3util"
)

func operations(client *clientv3.Client) {
	chapter("puts")
	for i := range 6 {
		_, err := client.Put(ctx, fmt.Sprintf("o/%d", i), fmt.Sprint(9-i))
		check(err)
	}
	for _, key := range []string{"o/1", "o/1", "o/3"} {
		put, err := client.Put(ctx, key, "again", clientv3.WithPrevKV())
		check(err)
		fmt.Println(show(put.PrevKv))
	}
	_, err := client.Put(ctx, "o/1", "", clientv3.WithIgnoreValue())
	fmt.Println(failure(err))
	_, err = client.Put(ctx, "o/none", "", clientv3.WithIgnoreValue())
	fmt.Println(failure(err))
	_, err = client.Put(ctx, "", "x")
	fmt.Println(failure(err))
	_, err = client.Put(ctx, "o/large", strings.Repeat("x", 2<<20))
	fmt.Println(failure(err))

	chapter("gets")
	prefix := clientv3.WithPrefix()
	gets := []struct {
		name    string
		options []clientv3.OpOption
	}{
		{"prefix", nil},
		{"limit", []clientv3.OpOption{clientv3.WithLimit(2)}},
		{"old", []clientv3.OpOption{clientv3.WithRev(5)}},
		{"of the future", []clientv3.OpOption{clientv3.WithRev(1_000_000)}},
		{"serializable", []clientv3.OpOption{clientv3.WithSerializable()}},
		{"keys", []clientv3.OpOption{clientv3.WithKeysOnly()}},
		{"count", []clientv3.OpOption{clientv3.WithCountOnly()}},
		{"modified from", []clientv3.OpOption{clientv3.WithMinModRev(6)}},
		{"modified until", []clientv3.OpOption{clientv3.WithMaxModRev(6)}},
		{"created from", []clientv3.OpOption{clientv3.WithMinCreateRev(6), clientv3.WithLimit(1)}},
		{"created until", []clientv3.OpOption{clientv3.WithMaxCreateRev(6)}},
		{"first created", clientv3.WithFirstCreate()},
		{"last created", clientv3.WithLastCreate()},
		{"first key", clientv3.WithFirstKey()},
		{"last key", clientv3.WithLastKey()},
		{"first modified", clientv3.WithFirstRev()},
		{"last modified", clientv3.WithLastRev()},
	}
	for _, get := range gets {
		got, err := client.Get(ctx, "o/", append(get.options, prefix)...)
		say(get.name, got, err)
	}
	for _, target := range []clientv3.SortTarget{clientv3.SortByKey, clientv3.SortByCreateRevision, clientv3.SortByModRevision} {
		for _, order := range []clientv3.SortOrder{clientv3.SortNone, clientv3.SortAscend, clientv3.SortDescend} {
			got, err := client.Get(ctx, "o/", prefix, clientv3.WithSort(target, order), clientv3.WithKeysOnly())
			say(fmt.Sprint("sorted ", target, order), got, err)
		}
	}
	got, err := client.Get(ctx, "o/2", clientv3.WithRange("o/4"))
	say("range", got, err)
	got, err = client.Get(ctx, "o/4", clientv3.WithFromKey())
	say("from", got, err)
	got, err = client.Get(ctx, "")
	say("nothing", got, err)

	chapter("deletes")
	deleted, err := client.Delete(ctx, "o/0", clientv3.WithPrevKV())
	check(err)
	fmt.Println(deleted.Deleted, show(deleted.PrevKvs[0]))
	deleted, err = client.Delete(ctx, "o/4", clientv3.WithFromKey())
	check(err)
	fmt.Println(deleted.Deleted, len(deleted.PrevKvs))
	did, err := client.Do(ctx, clientv3.OpDelete("o/", prefix))
	check(err)
	fmt.Println(did.Del().Deleted)

	chapter("compaction")
	_, err = client.Compact(ctx, 5, clientv3.WithCompactPhysical())
	fmt.Println(failure(err))
	_, err = client.Compact(ctx, 5)
	fmt.Println(failure(err))
	_, err = client.Compact(ctx, 1_000_000)
	fmt.Println(failure(err))
	got, err = client.Get(ctx, "o/1", clientv3.WithRev(4))
	say("compacted", got, err)

	chapter("contexts")
	ended, cancel := context.WithCancel(ctx)
	cancel()
	_, err = client.Get(ended, "o/1")
	fmt.Println(failure(err))
	_, err = client.Get(clientv3.WithRequireLeader(ctx), "o/1")
	fmt.Println(failure(err))
}

func streams(client *clientv3.Client) {
	chapter("streamed gets")
	for i := range 30 {
		_, err := client.Put(ctx, fmt.Sprintf("s/%02d", i), strings.Repeat("x", 1000*i))
		check(err)
	}
	for _, options := range [][]clientv3.OpOption{nil, {clientv3.WithLimit(10)}, {clientv3.WithLimit(12)}, {clientv3.WithKeysOnly()},
		{clientv3.WithCountOnly()}, {clientv3.WithRev(1_000_000)}} {
		stream, err := client.GetStream(ctx, "s/", append(options, clientv3.WithPrefix())...)
		if err != nil {
			fmt.Println("at once", failure(err))
			continue
		}
		keys, bytes := 0, 0
		for {
			part, open := receive("a part", stream)
			if !open {
				break
			}
			if err := part.Err(); err != nil {
				fmt.Println(failure(err))
				break
			}
			for _, kv := range part.RangeResponse.Kvs {
				keys++
				bytes += len(kv.Value)
			}
			if part.RangeResponse.Header != nil {
				fmt.Println("last", part.RangeResponse.Count, part.RangeResponse.More, len(part.RangeResponse.Kvs) > 0)
			}
		}
		fmt.Println(keys, bytes)
	}
	_, err := client.Delete(ctx, "s/", clientv3.WithPrefix())
	check(err)
}

func transactions(client *clientv3.Client) {
	chapter("transactions")
	_, err := client.Put(ctx, "t/a", "1")
	check(err)
	compares := map[string]clientv3.Cmp{
		"is there":       clientv3util.KeyExists("t/a"),
		"is not there":   clientv3util.KeyMissing("t/a"),
		"value":          clientv3.Compare(clientv3.Value("t/a"), "=", "1"),
		"value above":    clientv3.Compare(clientv3.Value("t/a"), ">", "1"),
		"value not":      clientv3.Compare(clientv3.Value("t/a"), "!=", "1"),
		"version":        clientv3.Compare(clientv3.Version("t/a"), "<", 2),
		"created":        clientv3.Compare(clientv3.CreateRevision("t/a"), ">", 1),
		"modified":       clientv3.Compare(clientv3.ModRevision("t/a"), "=", 1),
		"leased":         clientv3.Compare(clientv3.LeaseValue("t/a"), "=", clientv3.NoLease),
		"all of a range": clientv3.Compare(clientv3.Version("t/"), "=", 1).WithPrefix(),
		"until":          clientv3.Compare(clientv3.Version("t/"), ">", 1).WithRange("u"),
	}
	for _, name := range sorted(compares) {
		answer, err := client.Txn(ctx).If(compares[name]).Then(clientv3.OpGet("t/a")).Else(clientv3.OpGet("t/none")).Commit()
		check(err)
		fmt.Println(name, answer.Succeeded, answer.Responses[0].GetResponseRange().Count)
	}
	inner := clientv3.OpTxn([]clientv3.Cmp{clientv3util.KeyMissing("t/b")}, []clientv3.Op{clientv3.OpPut("t/b", "2")},
		[]clientv3.Op{clientv3.OpDelete("t/b", clientv3.WithPrevKV())})
	for range 2 {
		answer, err := client.Txn(ctx).If(clientv3util.KeyExists("t/a")).Then(inner, clientv3.OpGet("t/", clientv3.WithPrefix())).Commit()
		check(err)
		fmt.Println("nested", answer.Responses[0].GetResponseTxn().Succeeded, len(answer.Responses[1].GetResponseRange().Kvs))
	}
	did, err := client.Do(ctx, inner)
	check(err)
	fmt.Println("done", did.Txn().Succeeded)
	_, err = client.Txn(ctx).Then(clientv3.OpPut("t/x", "1"), clientv3.OpPut("t/x", "2")).Commit()
	fmt.Println(failure(err))
	_, err = client.Txn(ctx).Then(clientv3.OpPut("t/x", "1"), clientv3.OpDelete("t/", clientv3.WithPrefix())).Commit()
	fmt.Println(failure(err))
	many := make([]clientv3.Op, 129)
	for i := range many {
		many[i] = clientv3.OpGet("t/a")
	}
	_, err = client.Txn(ctx).Then(many...).Commit()
	fmt.Println(failure(err))
	_, err = client.Txn(ctx).Then(many[1:]...).Commit()
	fmt.Println(failure(err))
	_, err = client.Delete(ctx, "t/", clientv3.WithPrefix())
	check(err)
}

func watches(client *clientv3.Client) {
	chapter("watches")
	put, err := client.Put(ctx, "w/a", "1")
	check(err)
	first := put.Header.Revision
	until, cancel := context.WithCancel(ctx)
	all := map[string]clientv3.WatchChan{
		"key":     client.Watch(until, "w/a", clientv3.WithRev(first)),
		"prefix":  client.Watch(until, "w/", clientv3.WithPrefix(), clientv3.WithRev(first), clientv3.WithPrevKV(), clientv3.WithFragment()),
		"puts":    client.Watch(until, "w/", clientv3.WithPrefix(), clientv3.WithRev(first), clientv3.WithFilterDelete()),
		"deletes": client.Watch(until, "w/", clientv3.WithPrefix(), clientv3.WithRev(first), clientv3.WithFilterPut()),
		"range":   client.Watch(until, "w/a", clientv3.WithRange("w/c"), clientv3.WithRev(first), clientv3.WithProgressNotify()),
	}
	_, err = client.Txn(ctx).Then(clientv3.OpPut("w/a", "2"), clientv3.OpPut("w/b", "2"), clientv3.OpPut("w/c", "2")).Commit()
	check(err)
	_, err = client.Delete(ctx, "w/", clientv3.WithPrefix())
	check(err)
	counts := map[string]int{"key": 3, "prefix": 7, "puts": 4, "deletes": 3, "range": 5}
	for _, name := range sorted(all) {
		for seen := 0; seen < counts[name]; {
			response, _ := receive("events", all[name])
			for _, event := range response.Events {
				before := "nothing"
				if event.PrevKv != nil {
					before = show(event.PrevKv)
				}
				fmt.Println(name, event.Type, show(event.Kv), "before", before)
				seen++
			}
		}
	}
	cancel()
	for _, name := range sorted(all) {
		_, open := receive("the end", all[name])
		fmt.Println(name, open)
	}
	_, err = client.Compact(ctx, first+1)
	check(err)
	response, _ := receive("the refusal", client.Watch(ctx, "w/a", clientv3.WithRev(first)))
	fmt.Println(response.Canceled, response.CompactRevision == first+1, failure(response.Err()))
	created, _ := receive("its creation", client.Watch(ctx, "w/a", clientv3.WithCreatedNotify()))
	fmt.Println(created.Created, failure(client.RequestProgress(ctx)))
}
