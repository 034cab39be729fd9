// kubeclient speaks to an endpoint as kube-apiserver's storage (k8s.io/apiserver/pkg/storage/etcd3) and Patroni do, and
// prints what it is told.
//
//	kubeclient ENDPOINT PART...
//
// Puts, deletes and lists go through etcd's client for Kubernetes, which kube-apiserver uses. The lines are the same for
// every server that behaves as etcd does: run it against both and compare. Revisions are counted from the start of a
// part. Ids and terms differ between servers, so they are not printed. A line "@kill" or "@stop" asks whoever runs the
// program to kill or to stop the server, to start it again, and to write a line when it serves.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"
)

const patience = 60 * time.Second

type session struct {
	ctx    context.Context
	client *kubernetes.Client
	base   int64 // the revision before the part
}

var parts = map[string]func(*session){
	"start":      start,
	"objects":    objects,
	"pages":      pages,
	"watches":    watches,
	"compaction": compaction,
	"alarm":      alarm,
	"leases":     leases,
	"patroni":    patroni,
	"restarts":   restarts,
}

func check(err error) {
	if err != nil {
		fmt.Println("FAILED:", err)
		os.Exit(1)
	}
}

// failure is an error as clients tell errors apart: by code and text.
func failure(err error) string {
	if err == nil {
		return "no error"
	}
	code := status.Code(err)
	if told := (rpctypes.EtcdError{}); errors.As(err, &told) {
		code = told.Code()
	}
	return fmt.Sprintf("%v: %v", code, err)
}

func (s *session) since(revision int64) int64 {
	if revision == 0 {
		return 0
	}
	return revision - s.base
}

func (s *session) show(kv *mvccpb.KeyValue) string {
	if kv == nil {
		return "nothing"
	}
	return fmt.Sprintf("%s = %.24q (%d bytes), created %d, modified %d, version %d, leased %v", kv.Key, kv.Value,
		len(kv.Value), s.since(kv.CreateRevision), s.since(kv.ModRevision), kv.Version, kv.Lease != 0)
}

func (s *session) revision() int64 {
	got, err := s.client.Kubernetes.Get(s.ctx, "/registry/health", kubernetes.GetOptions{})
	check(err)
	return got.Revision
}

// create makes an object that must not exist yet, and returns its revision.
func (s *session) create(key, value string) int64 {
	put, err := s.client.Kubernetes.OptimisticPut(s.ctx, key, []byte(value), 0, kubernetes.PutOptions{})
	check(err)
	if !put.Succeeded {
		fmt.Println("FAILED:", key, "exists")
		os.Exit(1)
	}
	return put.Revision
}

func main() {
	client, err := kubernetes.New(clientv3.Config{
		Endpoints:            []string{os.Args[1]},
		DialTimeout:          20 * time.Second,
		DialKeepAliveTime:    30 * time.Second,
		DialKeepAliveTimeout: 10 * time.Second,
		DialOptions:          []grpc.DialOption{grpc.WithBlock()}, //nolint:staticcheck // as kube-apiserver does
		Logger:               zap.NewNop(),
	})
	check(err)
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 5*patience)
	defer cancel()
	for _, name := range os.Args[2:] {
		part, known := parts[name]
		if !known {
			fmt.Println("FAILED: there is no part", name)
			os.Exit(2)
		}
		fmt.Println("##", name)
		s := &session{ctx: ctx, client: client}
		s.base = s.revision()
		part(s)
		fmt.Println("revisions used:", s.since(s.revision()))
	}
}
