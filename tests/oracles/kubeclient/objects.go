package main

import (
	"fmt"
	"strconv"
	"strings"
	"sync"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"
)

// start is what kube-apiserver asks before it serves: the version decides whether watch progress may be requested.
func start(s *session) {
	got, err := s.client.KV.Get(s.ctx, "/registry/health")
	fmt.Println("health:", len(got.Kvs), failure(err))
	told, err := s.client.Status(s.ctx, s.client.Endpoints()[0])
	check(err)
	var major, minor, patch int
	_, err = fmt.Sscanf(told.Version, "%d.%d.%d", &major, &minor, &patch)
	fmt.Println("progress may be requested:", major == 3 && minor >= 6, failure(err))
	fmt.Println("db has a size:", told.DbSize > 0, "in use:", told.DbSizeInUse > 0, "learner:", told.IsLearner,
		"errors:", told.Errors)
	alarms, err := s.client.AlarmList(s.ctx)
	check(err)
	fmt.Println("alarms:", len(alarms.Alarms))
}

func (s *session) put(key, value string, revision int64, options kubernetes.PutOptions) int64 {
	put, err := s.client.Kubernetes.OptimisticPut(s.ctx, key, []byte(value), revision, options)
	fmt.Printf("put %s at %d: %v, now %d, there is %s; %s\n", key, s.since(revision), put.Succeeded,
		s.since(put.Revision), s.show(put.KV), failure(err))
	return put.Revision
}

func (s *session) remove(key string, revision int64, options kubernetes.DeleteOptions) {
	deleted, err := s.client.Kubernetes.OptimisticDelete(s.ctx, key, revision, options)
	fmt.Printf("delete %s at %d: %v, now %d, there is %s; %s\n", key, s.since(revision), deleted.Succeeded,
		s.since(deleted.Revision), s.show(deleted.KV), failure(err))
}

func (s *session) get(key string, revision int64) {
	got, err := s.client.Kubernetes.Get(s.ctx, key, kubernetes.GetOptions{Revision: revision})
	fmt.Printf("get %s: %s; %s\n", key, s.show(got.KV), failure(err))
}

// objects creates, updates and deletes single objects, each in a transaction that compares the revision.
func objects(s *session) {
	const key = "/registry/pods/default/a"
	tell := kubernetes.PutOptions{GetOnFailure: true}
	s.get(key, 0)
	created := s.put(key, "one", 0, tell)
	s.put(key, "again", 0, tell)
	s.put(key, "again", 0, kubernetes.PutOptions{})
	s.put(key, "stale", created-1, tell)
	s.put(key, "ahead", created+1000, tell)
	changed := s.put(key, "two", created, tell)
	s.get(key, 0)
	s.get(key, created)
	s.get(key, changed+1000)
	s.remove(key, created, kubernetes.DeleteOptions{GetOnFailure: true})
	s.remove(key, created, kubernetes.DeleteOptions{})
	s.remove(key, changed, kubernetes.DeleteOptions{GetOnFailure: true})
	s.remove(key, changed, kubernetes.DeleteOptions{GetOnFailure: true})
	s.put(key, "after", changed, tell)
	s.put(key, "new", 0, tell)
	s.put("/registry/pods/default/with lease", "x", 0, kubernetes.PutOptions{LeaseID: 12345, GetOnFailure: true})
	s.put("", "no key", 0, tell)

	// Secrets and config maps come near to the limit of a request.
	s.put("/registry/secrets/large", strings.Repeat("s", 1_500_000), 0, tell)
	s.put("/registry/secrets/too large", strings.Repeat("s", 1_600_000), 0, tell)
	s.put("/registry/secrets/far too large", strings.Repeat("s", 2_200_000), 0, tell)

	// Writers that meet: each reads, adds one, and tries again from what the refusal told.
	counter := "/registry/configmaps/kube-system/counter"
	s.create(counter, "0")
	var writers sync.WaitGroup
	for range 4 {
		writers.Add(1)
		go func() {
			defer writers.Done()
			for range 25 {
				s.addOne(counter)
			}
		}()
	}
	writers.Wait()
	s.get(counter, 0)
}

func (s *session) addOne(key string) {
	got, err := s.client.Kubernetes.Get(s.ctx, key, kubernetes.GetOptions{})
	check(err)
	for kv := got.KV; ; {
		count, err := strconv.Atoi(string(kv.Value))
		check(err)
		put, err := s.client.Kubernetes.OptimisticPut(s.ctx, key, []byte(strconv.Itoa(count+1)), kv.ModRevision,
			kubernetes.PutOptions{GetOnFailure: true})
		check(err)
		if put.Succeeded {
			return
		}
		kv = put.KV
	}
}

func (s *session) list(prefix string, options kubernetes.ListOptions) kubernetes.ListResponse {
	got, err := s.client.Kubernetes.List(s.ctx, prefix, options)
	fmt.Printf("list %s limit %d: %d of %d, now %d; %s\n", prefix, options.Limit, len(got.Kvs), got.Count,
		s.since(got.Revision), failure(err))
	for i, kv := range got.Kvs {
		if i < 5 {
			fmt.Println(" ", s.show(kv))
		}
	}
	return got
}

// pages reads lists page by page at the revision of the first page, while objects change.
func pages(s *session) {
	const prefix = "/registry/pods/"
	before := s.revision()
	for i := range 12 {
		s.create(fmt.Sprintf("%slist-%02d/pod", prefix, i), fmt.Sprint("pod ", i))
	}
	s.create("/registry/podsecurity/x", "not a pod")
	first := s.list(prefix+"list-", kubernetes.ListOptions{Limit: 5})
	for page := first; len(page.Kvs) > 0 && page.Count > int64(len(page.Kvs)); {
		last := string(page.Kvs[len(page.Kvs)-1].Key)
		_, err := s.client.Delete(s.ctx, last)
		check(err)
		s.create(last+"-new", "made while it is listed")
		page = s.list(prefix+"list-", kubernetes.ListOptions{Limit: 5, Revision: first.Revision, Continue: last + "\x00"})
	}
	s.list(prefix+"list-", kubernetes.ListOptions{})
	s.list(prefix+"list-", kubernetes.ListOptions{Limit: 500})
	s.list(prefix+"list-", kubernetes.ListOptions{Revision: before})
	s.list(prefix+"list-", kubernetes.ListOptions{Revision: before + 4, Limit: 2})
	s.list(prefix+"list-", kubernetes.ListOptions{Revision: first.Revision + 1_000_000})
	s.list("/registry/none/", kubernetes.ListOptions{Limit: 500})
	count, err := s.client.Kubernetes.Count(s.ctx, prefix, kubernetes.CountOptions{})
	fmt.Println("count:", count, failure(err))
	keys, err := s.client.KV.Get(s.ctx, prefix, clientv3.WithPrefix(), clientv3.WithKeysOnly())
	check(err)
	fmt.Println("keys alone:", len(keys.Kvs), s.show(keys.Kvs[0]))

	// A list of 6 MB in one answer, and in pages of 500.
	const large = "/registry/configmaps/large/"
	value := strings.Repeat("v", 10_000)
	for i := range 600 {
		s.create(fmt.Sprintf("%s%03d", large, i), value)
	}
	s.list(large, kubernetes.ListOptions{})
	page := s.list(large, kubernetes.ListOptions{Limit: 500})
	s.list(large, kubernetes.ListOptions{Limit: 500, Revision: page.Revision, Continue: string(page.Kvs[499].Key) + "\x00"})
}
