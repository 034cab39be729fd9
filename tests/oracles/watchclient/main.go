// watchclient watches an endpoint with etcd's own client library and prints what each watcher of a script is told.
//
//	watchclient ENDPOINT
//
// The lines are the same for every server that behaves as etcd does: run it against both and compare.
package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"go.uber.org/zap"

	clientv3 "go.etcd.io/etcd/client/v3"
)

const patience = 10 * time.Second

type script struct {
	client *clientv3.Client
	base   int64 // the revision before the script
}

func check(err error) {
	if err != nil {
		fmt.Println("FAILED:", err)
		os.Exit(1)
	}
}

func (s *script) put(key, value string) int64 {
	response, err := s.client.Put(context.Background(), key, value)
	check(err)
	return response.Header.Revision
}

// say prints responses until `events` events have come, or the watch ends. Events are told one by one, since servers
// may cut them into responses as they like.
func (s *script) say(name string, watch clientv3.WatchChan, events int) {
	fmt.Println("#", name)
	for timeout := time.After(patience); events > 0; {
		select {
		case response, open := <-watch:
			if !open {
				fmt.Println("closed")
				return
			}
			if response.Created {
				fmt.Println("created")
			}
			if response.Canceled {
				fmt.Printf("cancelled, compacted below %d: %v\n", response.CompactRevision-s.base, response.Err())
				return
			}
			if response.IsProgressNotify() {
				fmt.Println("progress", response.Header.Revision-s.base)
				events--
			}
			for _, event := range response.Events {
				events--
				before := "nothing"
				if event.PrevKv != nil {
					before = fmt.Sprintf("%q at %d", event.PrevKv.Value, event.PrevKv.ModRevision-s.base)
				}
				fmt.Printf("%v %q = %d bytes %.20q at %d, created %v, before %s\n", event.Type, event.Kv.Key,
					len(event.Kv.Value), event.Kv.Value, event.Kv.ModRevision-s.base, event.IsCreate(), before)
			}
		case <-timeout:
			fmt.Println("nothing came")
			return
		}
	}
}

func main() {
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{os.Args[1]}, DialTimeout: patience, Logger: zap.NewNop()})
	check(err)
	defer client.Close()
	s := &script{client: client}
	s.base = s.put("w/first", "1")
	ctx, cancel := context.WithCancel(context.Background())

	live := client.Watch(ctx, "w/", clientv3.WithPrefix(), clientv3.WithPrevKV(), clientv3.WithCreatedNotify())
	puts := client.Watch(ctx, "w/", clientv3.WithPrefix(), clientv3.WithFilterDelete())
	deletes := client.Watch(ctx, "w/", clientv3.WithPrefix(), clientv3.WithFilterPut(), clientv3.WithPrevKV())
	s.say("a created watcher has a header", onlyFirst(live), 1)
	second := s.put("w/first", "2")
	s.put("w/second", "1")
	_, err = client.Txn(ctx).Then(clientv3.OpPut("w/third", "1"), clientv3.OpPut("w/fourth", "1"),
		clientv3.OpDelete("w/second")).Commit()
	check(err)
	_, err = client.Delete(ctx, "w/", clientv3.WithPrefix())
	check(err)
	s.say("live, a prefix with what was before", live, 8)
	s.say("live, puts alone", puts, 4)
	s.say("live, deletes alone", deletes, 4)

	s.say("from the past", client.Watch(ctx, "w/first", clientv3.WithRev(s.base), clientv3.WithPrevKV()), 3)
	s.say("a range from the past", client.Watch(ctx, "w/f", clientv3.WithRange("w/g"), clientv3.WithRev(second)), 4)
	future := client.Watch(ctx, "w/future", clientv3.WithRev(s.base+100))
	for i := 0; i < 101; i++ {
		s.put("w/future", fmt.Sprint(i))
	}
	s.say("from the future", future, 2)

	// Fragments are put together by the client.
	big := client.Watch(ctx, "big/", clientv3.WithPrefix(), clientv3.WithFragment(), clientv3.WithPrevKV())
	for i := 0; i < 4; i++ {
		s.put(fmt.Sprintf("big/%d", i), strings.Repeat("x", 900_000))
	}
	_, err = client.Delete(ctx, "big/", clientv3.WithPrefix())
	check(err)
	s.say("fragments", big, 8)

	quiet, stop := context.WithCancel(ctx)
	progress := client.Watch(quiet, "none", clientv3.WithProgressNotify(), clientv3.WithCreatedNotify())
	s.say("created before progress", onlyFirst(progress), 1)
	s.put("other", "x")
	check(client.RequestProgress(quiet))
	s.say("progress when it is asked for", progress, 1)
	stop()
	s.say("a cancelled context", progress, 1)

	response, err := client.Get(ctx, "w/first")
	check(err)
	_, err = client.Compact(ctx, response.Header.Revision)
	check(err)
	s.say("compacted", client.Watch(ctx, "w/first", clientv3.WithRev(s.base)), 1)
	s.say("an empty range", client.Watch(ctx, "b", clientv3.WithRange("a")), 1)
	s.say("with a leader", client.Watch(clientv3.WithRequireLeader(ctx), "w/first",
		clientv3.WithRev(response.Header.Revision)), 0)
	cancel()
}

// onlyFirst is a channel with the next response of another.
func onlyFirst(watch clientv3.WatchChan) clientv3.WatchChan {
	one := make(chan clientv3.WatchResponse, 1)
	select {
	case response := <-watch:
		one <- response
	case <-time.After(patience):
	}
	close(one)
	return one
}
