// rafthttppeer is a member of a cluster as far as etcd's transport goes: it runs etcd's rafthttp with a Raft that sends
// each message back to whom it came from, and tells on its output what it sees.
//
//	rafthttppeer -id HEX -cluster HEX -listen URL -snapdir DIR [-peer HEX=URL] [-removed HEX] [-cert F -key F -ca F]
//
// Without -peer the other member is one that it does not know: it is answered over POST. A snapshot is sent back as one
// whose index is higher by 1, with the image that came.
package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/etcd/server/v3/etcdserver/api/rafthttp"
	"go.etcd.io/etcd/server/v3/etcdserver/api/snap"
	stats "go.etcd.io/etcd/server/v3/etcdserver/api/v2stats"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

func check(err error) {
	if err != nil {
		fmt.Println("FAILED:", err)
		os.Exit(1)
	}
}

func id(text string) types.ID {
	value, err := types.IDFromString(text)
	check(err)
	return value
}

var output sync.Mutex

func say(format string, values ...any) {
	output.Lock()
	defer output.Unlock()
	fmt.Printf(format+"\n", values...)
}

// echo is the Raft that sends everything back.
type echo struct {
	self      types.ID
	removed   types.ID
	snapdir   string
	transport *rafthttp.Transport
}

func (e *echo) Process(_ context.Context, m *raftpb.Message) error {
	if m.GetTo() != uint64(e.self) {
		return errors.New("not for this member")
	}
	back := proto.Clone(m).(*raftpb.Message)
	back.From, back.To = proto.Uint64(uint64(e.self)), proto.Uint64(m.GetFrom())
	if m.GetType() == raftpb.MsgSnap {
		return e.snapshot(back)
	}
	e.transport.Send([]*raftpb.Message{back})
	return nil
}

func (e *echo) snapshot(back *raftpb.Message) error {
	index := back.Snapshot.Metadata.GetIndex()
	path := filepath.Join(e.snapdir, fmt.Sprintf("%016x.snap.db", index))
	image, err := os.Open(path)
	if err != nil {
		return err
	}
	hash := sha256.New()
	size, err := io.Copy(hash, image)
	if err != nil {
		return err
	}
	say("snapshot %d %d %x", index, size, hash.Sum(nil))
	if _, err = image.Seek(0, io.SeekStart); err != nil {
		return err
	}
	back.Snapshot.Metadata.Index = proto.Uint64(index + 1)
	e.transport.SendSnapshot(snap.NewMessage(back, image, size))
	return nil
}

func (e *echo) IsIDRemoved(id uint64) bool  { return id != 0 && types.ID(id) == e.removed }
func (e *echo) ReportUnreachable(id uint64) { say("unreachable %s", types.ID(id)) }
func (e *echo) ReportSnapshot(id uint64, status raft.SnapshotStatus) {
	say("snapshot-status %s %d", types.ID(id), status)
}

func main() {
	self := flag.String("id", "", "")
	cluster := flag.String("cluster", "", "")
	listen := flag.String("listen", "", "")
	snapdir := flag.String("snapdir", "", "")
	peer := flag.String("peer", "", "")
	removed := flag.String("removed", "0", "")
	info := transport.TLSInfo{}
	flag.StringVar(&info.CertFile, "cert", "", "")
	flag.StringVar(&info.KeyFile, "key", "", "")
	flag.StringVar(&info.TrustedCAFile, "ca", "", "")
	flag.Parse()

	urls, err := types.NewURLs([]string{*listen})
	check(err)
	info.Logger = zap.NewNop()
	listener, err := rafthttp.NewListener(urls[0], &info)
	check(err)

	member := &echo{self: id(*self), removed: id(*removed), snapdir: *snapdir}
	failed := make(chan error, 1)
	member.transport = &rafthttp.Transport{
		Logger:      zap.NewNop(),
		DialTimeout: 2 * time.Second,
		TLSInfo:     info,
		ID:          member.self,
		URLs:        urls,
		ClusterID:   id(*cluster),
		Raft:        member,
		Snapshotter: snap.New(zap.NewNop(), *snapdir),
		ServerStats: stats.NewServerStats("", ""),
		LeaderStats: stats.NewLeaderStats(zap.NewNop(), *self),
		ErrorC:      failed,
	}
	check(member.transport.Start())
	go func() { check(http.Serve(listener, member.transport.Handler())) }()
	if name, url, isThere := strings.Cut(*peer, "="); isThere {
		member.transport.AddPeer(id(name), []string{url})
	}
	say("ready")
	go func() {
		for err := range failed {
			say("error %v", err)
		}
	}()
	// Until whoever started it has gone.
	for input := bufio.NewScanner(os.Stdin); input.Scan(); {
	}
}
