// compare prints what an endpoint holds, as JSON, and whether several hold the same.
//
//	compare [flags] ENDPOINT...
//
// Compared are revision, HashKV at the given revisions, every key with its revisions and lease, leases with their
// granted TTL and keys, users, roles and the auth revision; with --members also the member list. Names, sizes, raft
// terms and indexes are printed only. Exit: 0 equal (or one endpoint), 1 different or unreachable, 64 usage.
package main

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"hash"
	"os"
	"reflect"
	"sort"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

type endpointReport struct {
	Endpoint string   `json:"endpoint"`
	Status   status   `json:"status"`
	Members  []member `json:"members"`
	Content  content  `json:"content"`
}

type status struct {
	Version        string   `json:"version"`
	StorageVersion string   `json:"storage_version"`
	DBSize         int64    `json:"db_size"`
	DBSizeInUse    int64    `json:"db_size_in_use"`
	ClusterID      string   `json:"cluster_id"`
	MemberID       string   `json:"member_id"`
	Leader         string   `json:"leader"`
	RaftTerm       uint64   `json:"raft_term"`
	RaftIndex      uint64   `json:"raft_index"`
	RaftApplied    uint64   `json:"raft_applied_index"`
	IsLearner      bool     `json:"is_learner"`
	Errors         []string `json:"errors"`
}

type member struct {
	ID         string   `json:"id"`
	Name       string   `json:"name"`
	PeerURLs   []string `json:"peer_urls"`
	ClientURLs []string `json:"client_urls"`
	IsLearner  bool     `json:"is_learner"`
}

type content struct {
	Revision int64             `json:"revision"`
	HashKV   map[string]hashKV `json:"hash_kv"` // by the revision asked for; "0" is the newest
	Keys     int64             `json:"keys"`
	Digest   string            `json:"digest"`
	Leases   []lease           `json:"leases"`
	Auth     auth              `json:"auth"`
	Alarms   []string          `json:"alarms"`
}

type hashKV struct {
	Hash            uint32 `json:"hash"`
	CompactRevision int64  `json:"compact_revision"`
	HashRevision    int64  `json:"hash_revision"`
	Error           string `json:"error,omitempty"`
}

type lease struct {
	ID         string   `json:"id"`
	GrantedTTL int64    `json:"granted_ttl"`
	Keys       []string `json:"keys"`
}

type auth struct {
	Enabled  bool                `json:"enabled"`
	Revision uint64              `json:"revision"`
	Users    map[string][]string `json:"users"`
	Roles    map[string][]string `json:"roles"`
}

type options struct {
	revisions []int64
	user      string
	timeout   time.Duration
	pageKeys  int64
}

func main() {
	os.Exit(run())
}

func run() int {
	revisions := flag.String("rev", "0", "revisions to ask HashKV for, comma separated; 0: the newest")
	user := flag.String("user", "", "NAME:PASSWORD")
	members := flag.Bool("members", false, "the member lists must be equal too")
	timeout := flag.Duration("timeout", 30*time.Second, "for each endpoint")
	page := flag.Int64("page", 5000, "keys a request")
	flag.Parse()
	opts := options{user: *user, timeout: *timeout, pageKeys: *page}
	for _, text := range strings.Split(*revisions, ",") {
		revision, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			flag.Usage()
			return 64
		}
		opts.revisions = append(opts.revisions, revision)
	}
	if flag.NArg() == 0 {
		flag.Usage()
		return 64
	}

	var out struct {
		Endpoints   []*endpointReport `json:"endpoints"`
		Differences []string          `json:"differences"`
	}
	out.Differences = []string{}
	code := 0
	for _, endpoint := range flag.Args() {
		found, err := inspect(endpoint, opts)
		if err != nil {
			fmt.Fprintf(os.Stderr, "compare: %s: %v\n", endpoint, err)
			return 1
		}
		out.Endpoints = append(out.Endpoints, found)
	}
	first := out.Endpoints[0]
	for _, other := range out.Endpoints[1:] {
		out.Differences = append(out.Differences, differ(first.Endpoint, other.Endpoint, first.Content, other.Content)...)
		if *members && !reflect.DeepEqual(first.Members, other.Members) {
			out.Differences = append(out.Differences, fmt.Sprintf("members of %s and %s", first.Endpoint, other.Endpoint))
		}
	}
	if len(out.Differences) > 0 {
		code = 1
	}
	printer := json.NewEncoder(os.Stdout)
	printer.SetIndent("", "  ")
	printer.SetEscapeHTML(false)
	_ = printer.Encode(out)
	return code
}

// differ compares field by field, so that the output says what is different.
func differ(a, b string, x, y content) (out []string) {
	if x.Auth.Revision == 0 || y.Auth.Revision == 0 { // one of them is a 3.4, which cannot say
		x.Auth.Revision, y.Auth.Revision = 0, 0
		x.Auth.Enabled, y.Auth.Enabled = false, false
	}
	vx, vy := reflect.ValueOf(x), reflect.ValueOf(y)
	for i := range vx.NumField() {
		if !reflect.DeepEqual(vx.Field(i).Interface(), vy.Field(i).Interface()) {
			name := vx.Type().Field(i).Name
			out = append(out, fmt.Sprintf("%s: %s has %+v, %s has %+v", name, a, vx.Field(i), b, vy.Field(i)))
		}
	}
	return out
}

func inspect(endpoint string, opts options) (*endpointReport, error) {
	ctx, cancel := context.WithTimeout(context.Background(), opts.timeout)
	defer cancel()
	config := clientv3.Config{
		Endpoints:          []string{endpoint},
		DialTimeout:        5 * time.Second,
		Logger:             zap.NewNop(),
		MaxCallRecvMsgSize: 1 << 30,
	}
	if name, password, ok := strings.Cut(opts.user, ":"); ok {
		config.Username, config.Password = name, password
	}
	client, err := clientv3.New(config)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	r := &endpointReport{Endpoint: endpoint}
	for _, step := range []func() error{
		func() error { return r.readStatus(ctx, client) },
		func() error { return r.readMembers(ctx, client) },
		func() error { return r.readHashes(ctx, client, opts.revisions) },
		func() error { return r.readKeys(ctx, client, opts.pageKeys) },
		func() error { return r.readLeases(ctx, client) },
		func() error { return r.readAuth(ctx, client) },
		func() error { return r.readAlarms(ctx, client) },
	} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return r, nil
}

func (r *endpointReport) readStatus(ctx context.Context, client *clientv3.Client) error {
	got, err := client.Status(ctx, r.Endpoint)
	if err != nil {
		return fmt.Errorf("status: %w", err)
	}
	r.Status = status{
		Version: got.Version, StorageVersion: got.StorageVersion, DBSize: got.DbSize, DBSizeInUse: got.DbSizeInUse,
		ClusterID: hexID(got.Header.ClusterId), MemberID: hexID(got.Header.MemberId), Leader: hexID(got.Leader),
		RaftTerm: got.RaftTerm, RaftIndex: got.RaftIndex, RaftApplied: got.RaftAppliedIndex, IsLearner: got.IsLearner,
		Errors: got.Errors,
	}
	return nil
}

func (r *endpointReport) readMembers(ctx context.Context, client *clientv3.Client) error {
	got, err := client.MemberList(ctx)
	if err != nil {
		return fmt.Errorf("member list: %w", err)
	}
	for _, m := range got.Members {
		r.Members = append(r.Members, member{hexID(m.ID), m.Name, m.PeerURLs, m.ClientURLs, m.IsLearner})
	}
	sort.Slice(r.Members, func(i, j int) bool { return r.Members[i].ID < r.Members[j].ID })
	return nil
}

func (r *endpointReport) readHashes(ctx context.Context, client *clientv3.Client, revisions []int64) error {
	r.Content.HashKV = map[string]hashKV{}
	for _, revision := range revisions {
		entry := hashKV{}
		got, err := client.HashKV(ctx, r.Endpoint, revision)
		switch {
		case errors.Is(err, rpctypes.ErrCompacted), errors.Is(err, rpctypes.ErrFutureRev):
			entry.Error = err.Error()
		case err != nil:
			return fmt.Errorf("hash at %d: %w", revision, err)
		default:
			entry = hashKV{got.Hash, got.CompactRevision, got.HashRevision, ""}
			if entry.HashRevision == 0 { // before 3.6 the field is not there
				entry.HashRevision = revision
				if revision == 0 {
					entry.HashRevision = got.Header.Revision
				}
			}
		}
		r.Content.HashKV[strconv.FormatInt(revision, 10)] = entry
	}
	return nil
}

func (r *endpointReport) readKeys(ctx context.Context, client *clientv3.Client, page int64) error {
	digest := sha256.New()
	key := "\x00"
	for {
		get := []clientv3.OpOption{clientv3.WithFromKey(), clientv3.WithLimit(page)}
		if r.Content.Revision != 0 {
			get = append(get, clientv3.WithRev(r.Content.Revision))
		}
		got, err := client.Get(ctx, key, get...)
		if err != nil {
			return fmt.Errorf("range from %q: %w", key, err)
		}
		if r.Content.Revision == 0 {
			r.Content.Revision = got.Header.Revision
		}
		for _, kv := range got.Kvs {
			addBytes(digest, kv.Key)
			for _, number := range []int64{kv.CreateRevision, kv.ModRevision, kv.Version, kv.Lease} {
				addNumber(digest, uint64(number))
			}
			addBytes(digest, kv.Value)
			r.Content.Keys++
		}
		if !got.More {
			break
		}
		key = string(got.Kvs[len(got.Kvs)-1].Key) + "\x00"
	}
	r.Content.Digest = hex.EncodeToString(digest.Sum(nil))
	return nil
}

func (r *endpointReport) readLeases(ctx context.Context, client *clientv3.Client) error {
	all, err := client.Leases(ctx)
	if err != nil {
		return fmt.Errorf("leases: %w", err)
	}
	r.Content.Leases = []lease{}
	for _, one := range all.Leases {
		got, err := client.TimeToLive(ctx, one.ID, clientv3.WithAttachedKeys())
		if err != nil {
			return fmt.Errorf("lease %x: %w", one.ID, err)
		}
		entry := lease{ID: hexID(uint64(one.ID)), GrantedTTL: got.GrantedTTL, Keys: []string{}}
		for _, key := range got.Keys {
			entry.Keys = append(entry.Keys, strconv.Quote(string(key)))
		}
		sort.Strings(entry.Keys)
		r.Content.Leases = append(r.Content.Leases, entry)
	}
	sort.Slice(r.Content.Leases, func(i, j int) bool { return r.Content.Leases[i].ID < r.Content.Leases[j].ID })
	return nil
}

func (r *endpointReport) readAuth(ctx context.Context, client *clientv3.Client) error {
	own := &r.Content.Auth
	own.Users, own.Roles = map[string][]string{}, map[string][]string{}
	// 3.4 has no AuthStatus; users and roles are compared all the same.
	if got, err := client.AuthStatus(ctx); err == nil {
		own.Enabled, own.Revision = got.Enabled, got.AuthRevision
	}
	users, err := client.UserList(ctx)
	if err != nil {
		return fmt.Errorf("users: %w", err)
	}
	for _, name := range users.Users {
		got, err := client.UserGet(ctx, name)
		if err != nil {
			return fmt.Errorf("user %s: %w", name, err)
		}
		own.Users[name] = append([]string{}, got.Roles...)
		sort.Strings(own.Users[name])
	}
	roles, err := client.RoleList(ctx)
	if err != nil {
		return fmt.Errorf("roles: %w", err)
	}
	for _, name := range roles.Roles {
		got, err := client.RoleGet(ctx, name)
		if err != nil {
			return fmt.Errorf("role %s: %w", name, err)
		}
		own.Roles[name] = []string{}
		for _, perm := range got.Perm {
			own.Roles[name] = append(own.Roles[name], fmt.Sprintf("%s [%q, %q)", perm.PermType, perm.Key, perm.RangeEnd))
		}
	}
	return nil
}

func (r *endpointReport) readAlarms(ctx context.Context, client *clientv3.Client) error {
	got, err := client.AlarmList(ctx)
	if err != nil {
		return fmt.Errorf("alarms: %w", err)
	}
	r.Content.Alarms = []string{}
	for _, one := range got.Alarms {
		r.Content.Alarms = append(r.Content.Alarms, fmt.Sprintf("%s on %x", pb.AlarmType(one.Alarm), one.MemberID))
	}
	sort.Strings(r.Content.Alarms)
	return nil
}

func hexID(id uint64) string { return strconv.FormatUint(id, 16) }

func addNumber(digest hash.Hash, number uint64) {
	var bytes [8]byte
	binary.LittleEndian.PutUint64(bytes[:], number)
	digest.Write(bytes[:])
}

func addBytes(digest hash.Hash, bytes []byte) {
	addNumber(digest, uint64(len(bytes)))
	digest.Write(bytes)
}
