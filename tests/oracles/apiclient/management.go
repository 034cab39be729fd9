package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/naming/endpoints"
	"go.etcd.io/etcd/client/v3/naming/resolver"
	"go.etcd.io/etcd/client/v3/snapshot"
)

func sorted[K cmp.Ordered, V any](all map[K]V) []K { return slices.Sorted(maps.Keys(all)) }

func cluster(client *clientv3.Client) {
	chapter("cluster")
	list, err := client.MemberList(ctx)
	check(err)
	own := list.Members[0]
	fmt.Println(len(list.Members), own.Name, len(own.PeerURLs), len(own.ClientURLs), own.IsLearner, own.ID == list.Header.MemberId)
	local, err := client.MemberList(ctx, clientv3.WithSerializable())
	check(err)
	fmt.Println(len(local.Members))
	updated, err := client.MemberUpdate(ctx, own.ID, []string{"http://127.0.0.1:1"})
	check(err)
	fmt.Println(updated.Members[0].PeerURLs)
	_, err = client.MemberUpdate(ctx, own.ID, own.PeerURLs)
	check(err)
	_, err = client.MemberUpdate(ctx, 4711, own.PeerURLs)
	fmt.Println(failure(err))
	_, err = client.MemberUpdate(ctx, own.ID, []string{"nonsense"})
	fmt.Println(failure(err))
	_, err = client.MemberRemove(ctx, 4711)
	fmt.Println(failure(err))
	_, err = client.MemberPromote(ctx, 4711)
	fmt.Println(failure(err))
	_, err = client.MemberPromote(ctx, own.ID)
	fmt.Println(failure(err))
	check(client.Sync(ctx))
	fmt.Println(slices.Equal(client.Endpoints(), own.ClientURLs))
	client.SetEndpoints("127.0.0.1:1", endpoint)
	_, err = client.Get(ctx, "a")
	fmt.Println("one endpoint of two is there", failure(err))
	client.SetEndpoints(endpoint)
	versions := newClient(func(config *clientv3.Config) { config.RejectOldCluster = true })
	check(versions.Close())
	plain, err := clientv3.NewFromURL("http://" + endpoint)
	check(err)
	_, err = plain.Get(ctx, "a")
	fmt.Println("by its URL", failure(err))
	check(plain.Close())
}

// snapshotOf reads one and checks the hash at its end.
func snapshotOf(reader io.ReadCloser) string {
	all, err := io.ReadAll(reader)
	check(err)
	check(reader.Close())
	sum := sha256.Sum256(all[:len(all)-sha256.Size])
	return fmt.Sprint(len(all)%512, bytes.Equal(sum[:], all[len(all)-sha256.Size:]))
}

func maintenance(client *clientv3.Client) {
	chapter("maintenance")
	status, err := client.Status(ctx, endpoint)
	check(err)
	fmt.Println(strings.HasPrefix(status.Version, "3."), status.DbSize > 0, status.DbSizeInUse > 0, status.Leader == status.Header.MemberId,
		status.RaftIndex > 0, status.RaftTerm > 0, status.RaftAppliedIndex > 0, status.Errors, status.IsLearner, status.StorageVersion,
		status.DbSizeQuota, status.DowngradeInfo.GetEnabled())
	one, err := client.HashKV(ctx, endpoint, 0)
	check(err)
	two, err := client.HashKV(ctx, endpoint, one.HashRevision)
	check(err)
	fmt.Println(one.Hash == two.Hash, one.Hash, one.CompactRevision, one.HashRevision)
	_, err = client.HashKV(ctx, endpoint, 1)
	fmt.Println(failure(err))
	_, err = client.Defragment(ctx, endpoint)
	fmt.Println(failure(err))
	reader, err := client.Snapshot(ctx)
	check(err)
	fmt.Println(snapshotOf(reader))
	versioned, err := client.SnapshotWithVersion(ctx)
	check(err)
	fmt.Println(snapshotOf(versioned.Snapshot), versioned.Version)
	folder, err := os.MkdirTemp("", "apiclient")
	check(err)
	defer os.RemoveAll(folder)
	version, err := snapshot.SaveWithVersion(ctx, zap.NewNop(), clientv3.Config{Endpoints: []string{endpoint}}, filepath.Join(folder, "db"))
	fmt.Println("saved", version, failure(err))
	alarms, err := client.AlarmList(ctx)
	check(err)
	fmt.Println(len(alarms.Alarms))
	_, err = client.AlarmDisarm(ctx, &clientv3.AlarmMember{})
	fmt.Println(failure(err))
	_, err = client.MoveLeader(ctx, 4711)
	fmt.Println(failure(err))
	_, err = client.MoveLeader(ctx, status.Header.MemberId)
	fmt.Println(failure(err))
	for _, wanted := range []string{"3.6.0", "3.7.0", "3.5.0", "x"} {
		answer, err := client.Downgrade(ctx, clientv3.DowngradeValidate, wanted)
		fmt.Println(wanted, answer != nil && answer.Version == "3.7.0", failure(err))
	}
	_, err = client.Downgrade(ctx, clientv3.DowngradeCancel, "3.6.0")
	fmt.Println(failure(err))
	health, err := grpc_health_v1.NewHealthClient(client.ActiveConnection()).Check(ctx, &grpc_health_v1.HealthCheckRequest{})
	check(err)
	fmt.Println(health.Status)
}

// names finds the server by a name that is kept in it.
func names(client *clientv3.Client) {
	chapter("names")
	manager, err := endpoints.NewManager(client, "stores/etcd")
	check(err)
	check(manager.Update(ctx, []*endpoints.UpdateWithOpts{
		endpoints.NewAddUpdateOpts("stores/etcd/a", endpoints.Endpoint{Addr: endpoint}),
		endpoints.NewAddUpdateOpts("stores/etcd/b", endpoints.Endpoint{Addr: endpoint, Metadata: map[string]any{"zone": 1}}),
	}))
	builder, err := resolver.NewBuilder(client)
	check(err)
	connection, err := grpc.NewClient("etcd:///stores/etcd", grpc.WithResolvers(builder), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(`{"loadBalancingPolicy":"round_robin"}`))
	check(err)
	for range 4 {
		answer, err := grpc_health_v1.NewHealthClient(connection).Check(ctx, &grpc_health_v1.HealthCheckRequest{}, grpc.WaitForReady(true))
		check(err)
		fmt.Println(answer.Status)
	}
	check(connection.Close())
	check(manager.DeleteEndpoint(ctx, "stores/etcd/a"))
	left, err := manager.List(ctx)
	check(err)
	fmt.Println(sorted(left))
	check(manager.DeleteEndpoint(ctx, "stores/etcd/b"))
	fmt.Println(failure(manager.AddEndpoint(ctx, "elsewhere/a", endpoints.Endpoint{Addr: endpoint})))
}

func users(client *clientv3.Client) {
	chapter("users")
	tell := func(name string, err error) { fmt.Println(name, failure(err)) }
	_, err := client.AuthEnable(ctx)
	tell("enable", err)
	for _, name := range []string{"root", "ann", "ann", ""} {
		_, err = client.UserAdd(ctx, name, "pw-"+name)
		tell("user "+name, err)
		_, err = client.RoleAdd(ctx, name)
		tell("role "+name, err)
		_, err = client.UserGrantRole(ctx, name, name)
		tell("grant "+name, err)
	}
	_, err = client.UserAddWithOptions(ctx, "certified", "", &clientv3.UserAddOptions{NoPassword: true})
	tell("certified", err)
	_, err = client.RoleGrantPermission(ctx, "ann", "p/", clientv3.GetPrefixRangeEnd("p/"), clientv3.PermissionType(clientv3.PermReadWrite))
	tell("permit", err)
	_, err = client.RoleGrantPermission(ctx, "none", "p/", "", clientv3.PermissionType(clientv3.PermRead))
	tell("permit", err)
	role, err := client.RoleGet(ctx, "ann")
	check(err)
	fmt.Println(role.Perm)
	listed, err := client.UserList(ctx)
	check(err)
	roles, err := client.RoleList(ctx)
	check(err)
	fmt.Println(listed.Users, roles.Roles)
	_, err = client.AuthEnable(ctx)
	tell("enable", err)

	_, err = client.Get(ctx, "p/a")
	tell("nobody", err)
	as := func(name, password string) (*clientv3.Client, error) {
		return clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, DialTimeout: patience, Logger: zap.NewNop(), Username: name, Password: password})
	}
	_, err = as("ann", "wrong")
	tell("wrong", err)
	_, err = as("certified", "")
	tell("without a password", err)
	ann, err := as("ann", "pw-ann")
	check(err)
	root, err := as("root", "pw-root")
	check(err)
	_, err = ann.Put(ctx, "p/a", "1")
	tell("put", err)
	_, err = ann.Put(ctx, "q/a", "1")
	tell("put elsewhere", err)
	_, err = ann.Get(ctx, "", clientv3.WithPrefix())
	tell("all", err)
	_, err = ann.UserList(ctx)
	tell("users", err)
	_, err = ann.MemberList(ctx)
	tell("members", err)
	_, err = ann.Compact(ctx, 1)
	tell("compact", err)
	_, err = ann.Status(ctx, endpoint)
	tell("status", err)
	until, cancel := context.WithCancel(ctx)
	seen := ann.Watch(until, "p/", clientv3.WithPrefix())
	refused, _ := receive("the refusal", ann.Watch(until, "q/", clientv3.WithPrefix()))
	tell("watch elsewhere", refused.Err())
	await("told", func() bool {
		_, err := root.Put(ctx, "p/a", "2")
		check(err)
		select {
		case response := <-seen:
			return len(response.Events) > 0
		default:
			return false
		}
	})
	cancel()
	// A change of users makes tokens old; the library asks for new ones.
	_, err = root.UserChangePassword(ctx, "ann", "new")
	tell("password", err)
	on, err := root.AuthStatus(ctx)
	check(err)
	fmt.Println(on.Enabled, on.AuthRevision > 1)
	_, err = ann.Put(ctx, "p/a", "3")
	tell("with the old password", err)
	check(ann.Close())
	ann, err = as("ann", "new")
	check(err)
	_, err = root.RoleRevokePermission(ctx, "ann", "p/", clientv3.GetPrefixRangeEnd("p/"))
	tell("revoke", err)
	_, err = ann.Put(ctx, "p/a", "4")
	tell("put", err)
	server("stop") // tokens are forgotten
	_, err = root.Get(ctx, "p/a")
	tell("a new token", err)
	_, err = ann.Get(ctx, "p/a")
	tell("a new token", err)
	check(ann.Close())
	_, err = root.UserRevokeRole(ctx, "ann", "ann")
	tell("revoke", err)
	for _, name := range []string{"ann", "root"} {
		_, err = root.UserDelete(ctx, name)
		tell("delete "+name, err)
		_, err = root.RoleDelete(ctx, name)
		tell("delete "+name, err)
	}
	_, err = root.AuthDisable(ctx)
	tell("disable", err)
	check(root.Close())
	_, err = client.Get(ctx, "p/a")
	tell("nobody", err)
}

// restarts shows what the library does by itself.
func restarts(client *clientv3.Client) {
	for _, how := range []string{"kill", "stop"} {
		chapter("the server goes and comes back: " + how)
		lease, err := client.Grant(ctx, 600)
		check(err)
		until, cancel := context.WithCancel(ctx)
		kept, err := client.KeepAlive(until, lease.ID)
		check(err)
		receive("a renewal", kept)
		watch := client.Watch(ctx, "r/", clientv3.WithPrefix())
		_, err = client.Put(ctx, "r/a", "before", clientv3.WithLease(lease.ID))
		check(err)
		response, _ := receive("the event", watch)
		fmt.Println(string(response.Events[0].Kv.Value))
		server(how)
		got, err := client.Get(ctx, "r/a") // is tried again by itself
		check(err)
		fmt.Println(string(got.Kvs[0].Value))
		_, err = client.Put(ctx, "r/a", "after")
		check(err)
		response, _ = receive("the event", watch)
		fmt.Println(string(response.Events[0].Kv.Value))
		once, err := client.KeepAliveOnce(ctx, lease.ID)
		check(err)
		fmt.Println(once.TTL)
		cancel()
		await("the renewals end", func() bool { _, open := receive("the end", kept); return !open })
		_, err = client.Revoke(ctx, lease.ID)
		check(err)
	}
}
