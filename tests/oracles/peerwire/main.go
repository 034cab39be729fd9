// peerwire records what members of a real etcd cluster send to each other: the streams msgapp and message, the posted
// messages, and the message in front of a snapshot. Cairn's tests decode the recordings (src/peer/testdata).
//
//	peerwire --etcd build/oracles/etcd36 --out src/peer/testdata/etcd-3.6.5
//
// Two members are founded and a third one joins late, behind a compacted log, so that it needs a snapshot. Each member is
// known to the others by the address of a proxy of this program. The files of --out:
//
//	msgapp-<n>-<writer>-<reader>   body of a stream as it came, its first 8 KiB
//	message-<n>-<writer>-<reader>
//	posts                          bodies of POST /raft, each behind its length: 8 bytes, big-endian
//	snapshot                       the first bytes of POST /raft/snapshot: length and message, without the database
package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

const (
	streamBytesMax = 8 << 10
	postsBytesMax  = 16 << 10
	// etcd keeps 5000 entries behind a snapshot for slow followers.
	entriesToCompact = 5300
)

type recorder struct {
	mu       sync.Mutex
	out      string
	streams  int
	posts    bytes.Buffer
	snapshot bytes.Buffer
}

func (r *recorder) write(name string, data []byte) {
	if err := os.WriteFile(filepath.Join(r.out, name), data, 0o644); err != nil {
		log.Fatal(err)
	}
}

func (r *recorder) post(body []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.posts.Len()+len(body) > postsBytesMax {
		return
	}
	_ = binary.Write(&r.posts, binary.BigEndian, uint64(len(body)))
	r.posts.Write(body)
	r.write("posts", r.posts.Bytes())
}

// tee passes a body on and keeps its beginning.
type tee struct {
	io.ReadCloser
	seen func([]byte)
}

func (t *tee) Read(p []byte) (int, error) {
	n, err := t.ReadCloser.Read(p)
	t.seen(p[:n])
	return n, err
}

func (r *recorder) stream(resp *http.Response) {
	parts := strings.Split(resp.Request.URL.Path, "/") // "", raft, stream, kind, reader
	r.mu.Lock()
	r.streams++
	name := fmt.Sprintf("%s-%d-%s-%s", parts[3], r.streams, resp.Request.Header.Get("X-Raft-To"), parts[4])
	r.mu.Unlock()
	var kept bytes.Buffer
	resp.Body = &tee{resp.Body, func(p []byte) {
		if kept.Len() >= streamBytesMax || len(p) == 0 {
			return
		}
		kept.Write(p[:min(len(p), streamBytesMax-kept.Len())])
		r.write(name, kept.Bytes())
	}}
}

func (r *recorder) snapshotBody(p []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	wanted := 8
	if r.snapshot.Len() >= 8 {
		wanted = 8 + int(binary.BigEndian.Uint64(r.snapshot.Bytes()))
	}
	for r.snapshot.Len() < wanted && len(p) > 0 {
		n := min(len(p), wanted-r.snapshot.Len())
		r.snapshot.Write(p[:n])
		p = p[n:]
		if wanted == 8 && r.snapshot.Len() == 8 {
			wanted = 8 + int(binary.BigEndian.Uint64(r.snapshot.Bytes()))
		}
	}
	if r.snapshot.Len() == wanted {
		r.write("snapshot", r.snapshot.Bytes())
	}
}

// proxy listens for the peers of the member behind `target` and returns its own address.
func (r *recorder) proxy(target string) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	to := &url.URL{Scheme: "http", Host: target}
	forward := &httputil.ReverseProxy{
		Rewrite:       func(p *httputil.ProxyRequest) { p.SetURL(to) },
		FlushInterval: -1,
		Transport:     &http.Transport{DisableCompression: true},
		ErrorLog:      log.New(io.Discard, "", 0),
		ModifyResponse: func(resp *http.Response) error {
			if strings.HasPrefix(resp.Request.URL.Path, "/raft/stream/") && resp.StatusCode == http.StatusOK {
				r.stream(resp)
			}
			return nil
		},
	}
	handler := http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		switch req.URL.Path {
		case "/raft":
			body, err := io.ReadAll(req.Body)
			if err != nil {
				return
			}
			r.post(body)
			req.Body = io.NopCloser(bytes.NewReader(body))
		case "/raft/snapshot":
			req.Body = &tee{req.Body, r.snapshotBody}
		}
		forward.ServeHTTP(w, req)
	})
	go func() { _ = http.Serve(listener, handler) }()
	return "http://" + listener.Addr().String()
}

func freeAddress() string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

type member struct {
	name, client, peer, proxy string
	command                   *exec.Cmd
}

func (m *member) start(etcd, dir, state string, all []*member) {
	var cluster []string
	for _, other := range all {
		cluster = append(cluster, other.name+"="+other.proxy)
	}
	m.command = exec.Command(etcd, "--name", m.name, "--data-dir", filepath.Join(dir, m.name),
		"--listen-client-urls", "http://"+m.client, "--advertise-client-urls", "http://"+m.client,
		"--listen-peer-urls", "http://"+m.peer, "--initial-advertise-peer-urls", m.proxy,
		"--initial-cluster", strings.Join(cluster, ","), "--initial-cluster-state", state,
		"--snapshot-count", "100", "--log-level", "error")
	m.command.Stderr = os.Stderr
	if err := m.command.Start(); err != nil {
		log.Fatal(err)
	}
}

func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return value
}

func main() {
	etcd := flag.String("etcd", "etcd", "the server")
	out := flag.String("out", "", "folder of the recordings")
	flag.Parse()
	if *out == "" {
		log.Fatal("peerwire: --out is missing")
	}
	if err := os.MkdirAll(*out, 0o755); err != nil {
		log.Fatal(err)
	}
	dir := must(os.MkdirTemp("", "peerwire"))
	defer os.RemoveAll(dir)
	r := &recorder{out: *out}
	var members []*member
	for at := range 3 {
		m := &member{name: fmt.Sprintf("n%d", at+1), client: freeAddress(), peer: freeAddress()}
		m.proxy = r.proxy(m.peer)
		members = append(members, m)
	}
	defer func() {
		for _, m := range members {
			if m.command != nil {
				_ = m.command.Process.Kill()
				_ = m.command.Wait()
			}
		}
	}()
	for _, m := range members[:2] {
		m.start(*etcd, dir, "new", members[:2])
	}
	if err := exercise(*etcd, dir, members); err != nil {
		log.Print("peerwire: ", err)
	}
}

func client(m *member) *clientv3.Client {
	return must(clientv3.New(clientv3.Config{Endpoints: []string{m.client}, DialTimeout: time.Minute, Logger: zap.NewNop()}))
}

func exercise(etcd, dir string, members []*member) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	clients := []*clientv3.Client{client(members[0]), client(members[1])}
	// Through both: the follower forwards proposals and asks for read indexes.
	for at, c := range clients {
		for number := range 3 {
			if _, err := c.Put(ctx, fmt.Sprintf("key-%d-%d", at, number), strings.Repeat("v", 10+700*number)); err != nil {
				return err
			}
			if _, err := c.Get(ctx, "key-0-0"); err != nil {
				return err
			}
		}
	}
	status, err := clients[0].Status(ctx, members[0].client)
	if err != nil {
		return err
	}
	leader := 0
	if status.Leader != status.Header.MemberId {
		leader = 1
	}
	other, err := clients[1-leader].Status(ctx, members[1-leader].client)
	if err != nil {
		return err
	}
	if _, err := clients[leader].MoveLeader(ctx, other.Header.MemberId); err != nil {
		return err
	}
	if _, err := clients[leader].Put(ctx, "moved", "x"); err != nil {
		return err
	}
	var writers sync.WaitGroup
	for worker := range 100 {
		writers.Add(1)
		go func() {
			defer writers.Done()
			for number := range entriesToCompact / 100 {
				_, _ = clients[worker%2].Put(ctx, fmt.Sprintf("bulk-%d-%d", worker, number), "b")
			}
		}()
	}
	writers.Wait()
	for { // refused until both have been connected for some seconds
		if _, err := clients[0].MemberAddAsLearner(ctx, []string{members[2].proxy}); err == nil {
			break
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		time.Sleep(500 * time.Millisecond)
	}
	members[2].start(etcd, dir, "existing", members)
	third := client(members[2])
	for { // until it has taken the snapshot in
		if status, err := third.Status(ctx, members[2].client); err == nil && status.RaftAppliedIndex > entriesToCompact {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		time.Sleep(100 * time.Millisecond)
	}
}
