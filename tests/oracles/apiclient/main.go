// apiclient goes through etcd's client library for Go at an endpoint and prints what it sees: operations with each option,
// the cluster, maintenance, users, names, and what the library does by itself when a server goes and comes back.
//
//	apiclient ENDPOINT
//
// The lines are the same for every server that behaves as etcd does: run it against both and compare. A line "@kill" or
// "@stop" asks whoever runs the program to kill or to stop the server, to start it again, and to write a line when it serves.
// Leases and what is built upon the library have a program of their own, leaseclient.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc/status"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const patience = 60 * time.Second // for what takes a moment on a machine that is not busy

var (
	ctx      = context.Background()
	endpoint string
	input    = bufio.NewReader(os.Stdin)
)

func check(err error) {
	if err != nil {
		fmt.Println("FAILED:", err)
		os.Exit(1)
	}
}

func chapter(name string) { fmt.Println("#", name) }

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

func newClient(change func(*clientv3.Config)) *clientv3.Client {
	config := clientv3.Config{Endpoints: []string{endpoint}, DialTimeout: patience, Logger: zap.NewNop()}
	if change != nil {
		change(&config)
	}
	client, err := clientv3.New(config)
	check(err)
	return client
}

func show(kv *mvccpb.KeyValue) string {
	return fmt.Sprintf("%s=%.20s(%d,%d,%d)", kv.Key, kv.Value, kv.CreateRevision, kv.ModRevision, kv.Version)
}

func say(name string, got *clientv3.GetResponse, err error) {
	if err != nil {
		fmt.Println(name, failure(err))
		return
	}
	var keys []string
	for _, kv := range got.Kvs {
		keys = append(keys, show(kv))
	}
	fmt.Println(name, keys, got.Count, got.More)
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

// server asks for the server to be killed or stopped, and started again.
func server(how string) {
	fmt.Println("@" + how)
	_, err := input.ReadString('\n')
	check(err)
}

func main() {
	endpoint = os.Args[1]
	time.AfterFunc(4*time.Minute, func() { panic("hangs") })
	client := newClient(nil)
	defer client.Close()
	operations(client)
	streams(client)
	transactions(client)
	watches(client)
	cluster(client)
	maintenance(client)
	names(client)
	users(client)
	restarts(client)
	fmt.Println("# the end")
}
