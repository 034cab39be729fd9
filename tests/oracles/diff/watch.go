package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

const watchPath = "/etcdserverpb.Watch/Watch"

var bidirectional = &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}

func sayAll(messages []proto.Message) string {
	text := ""
	for _, m := range messages {
		text += "{" + prototext.MarshalOptions{}.Format(m) + "} "
	}
	return short(text)
}

// watchStep opens a stream, creates and cancels watchers while keys change, and compares what each watcher got: its
// control responses and its events, however the server cut them into responses. The stream ends with a progress
// request, which is answered when every watcher has caught up.
func (g *gen) watchStep() step {
	var script []proto.Message
	for range 1 + g.random.Intn(5) {
		script = append(script, &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: g.watchCreate()}})
	}
	for range g.random.Intn(12) {
		switch g.random.Intn(8) {
		case 0:
			script = append(script, &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: g.watchCreate()}})
		case 1:
			script = append(script, &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CancelRequest{
				CancelRequest: &pb.WatchCancelRequest{WatchId: int64(g.random.Intn(6)) - 1}}})
		case 2:
			script = append(script, g.deleteRequest())
		case 3:
			script = append(script, g.txnRequest(1))
		default:
			script = append(script, g.putRequest())
		}
	}
	// A watcher that starts in the future holds back progress until its time has come.
	future := int64(0)
	for _, message := range script {
		if request, ok := message.(*pb.WatchRequest); ok {
			if start := request.GetCreateRequest().GetStartRevision(); start > g.revision {
				future = max(future, start-g.revision) // at most 20, see watchCreate
			}
		}
	}
	for range future {
		script = append(script, &pb.PutRequest{Key: []byte("bob's"), Value: []byte("time passes")})
	}
	user := g.user
	both := &meeting{}
	return step{
		rpc:      "Watch/Watch",
		requests: len(script),
		do:       func(ctx context.Context, t *target) *outcome { return t.watch(ctx, user, script, both) },
		say:      func() string { return sayAll(script) + as(user) },
	}
}

// For what comes, however slow the machine is.
const patience = 30 * time.Second

// Where the two sides of a step wait for each other. A stream that can tell no progress says nothing when its last
// event has come; it has come when both sides have got as much. Where they never do, that is the difference.
type meeting struct {
	mutex sync.Mutex
	got   map[string]string // by the target's name: how much it has got, at the end of its script
}

// say tells what one side has got, and returns whether the other has got the same.
func (m *meeting) say(side, got string) bool {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	if m.got == nil {
		m.got = map[string]string{}
	}
	m.got[side] = got
	for _, other := range m.got {
		if other != got {
			return false
		}
	}
	return len(m.got) == 2
}

func (g *gen) watchCreate() *pb.WatchCreateRequest {
	r := &pb.WatchCreateRequest{PrevKv: g.oneIn(3), Fragment: g.oneIn(4), ProgressNotify: g.oneIn(6)}
	r.Key, r.RangeEnd = g.keyRange()
	if g.oneIn(2) {
		r.StartRevision = g.someRevision()
		if r.StartRevision > g.revision+20 {
			r.StartRevision = g.revision + 5
		}
	}
	if g.oneIn(4) {
		r.WatchId = int64(g.random.Intn(5)) - 1
		if r.WatchId < 0 && g.user != "root" {
			r.WatchId = 0 // what is denied has the id -1 as well: which of two comes first is a matter of time
		}
	}
	if g.oneIn(4) {
		r.Filters = append(r.Filters, pb.WatchCreateRequest_FilterType(g.random.Intn(3)))
	}
	return r
}

// What one watcher got.
type watched struct {
	control []*pb.WatchResponse
	events  *pb.WatchResponse
}

func (t *target) watch(ctx context.Context, user string, script []proto.Message, both *meeting) *outcome {
	ctx, cancel := t.context(ctx, call{user: user, timeout: 10 * patience})
	defer cancel()
	out := &outcome{}
	stream, err := t.conn.NewStream(ctx, bidirectional, watchPath)
	if err != nil {
		out.fail(err)
		return out
	}
	responses := make(chan *pb.WatchResponse, 1000)
	var failure error
	go func() {
		defer close(responses)
		for {
			var bytes []byte
			if failure = stream.RecvMsg(&bytes); failure != nil {
				return
			}
			response := &pb.WatchResponse{}
			if failure = proto.Unmarshal(bytes, response); failure != nil {
				return
			}
			responses <- response
		}
	}()
	w := &watching{target: t, stream: stream, responses: responses, seen: map[int64]*watched{}, live: map[int64]bool{},
		starts: map[int64]int64{}}
	for _, message := range script {
		if !w.play(ctx, user, message) {
			break
		}
	}
	if !w.settle(patience) {
		w.unary = append(w.unary, "no progress")
	}
	for begin := time.Now(); !both.say(t.name, w.count()) && !w.ended && time.Since(begin) < patience; {
		w.until(func(*pb.WatchResponse) bool { return true }, 10*time.Millisecond)
	}
	cancel()
	for range responses { // until the reader has ended
	}
	if w.ended {
		out.fail(failure)
	}
	w.result(out)
	return out
}

type watching struct {
	target    *target
	stream    grpc.ClientStream
	responses chan *pb.WatchResponse
	seen      map[int64]*watched
	order     []int64
	unary     []string // what the requests beside the watch answered
	live      map[int64]bool
	starts    map[int64]int64 // of live watchers
	start     int64           // asked for by the last create request
	revision  int64           // the newest that a header has told
	compacted bool            // a watcher's history is gone: there is no progress on this stream any more
	ended     bool
}

func (w *watching) send(message proto.Message) {
	bytes, err := proto.Marshal(message)
	if err != nil {
		panic(err)
	}
	_ = w.stream.SendMsg(&bytes)
}

func (w *watching) play(ctx context.Context, user string, message proto.Message) bool {
	path, answer := "", proto.Message(nil)
	switch m := message.(type) {
	case *pb.WatchRequest:
		// Whether a watcher that is still catching up gets events before its end is a matter of time.
		if m.GetCancelRequest() != nil && !w.settle(patience) {
			return !w.ended
		}
		if r := m.GetCreateRequest(); r != nil {
			w.start = r.StartRevision
		}
		w.send(m)
		if m.GetCreateRequest() != nil {
			return w.until(func(r *pb.WatchResponse) bool { return r.Created }, patience)
		}
		if id := m.GetCancelRequest().GetWatchId(); w.live[id] { // an unknown watcher's cancellation is not answered
			return w.until(func(r *pb.WatchResponse) bool { return r.Canceled && r.WatchId == id }, patience)
		}
		return true
	case *pb.PutRequest:
		path, answer = kv+"Put", &pb.PutResponse{}
	case *pb.DeleteRangeRequest:
		path, answer = kv+"DeleteRange", &pb.DeleteRangeResponse{}
	case *pb.TxnRequest:
		path, answer = kv+"Txn", &pb.TxnResponse{}
	}
	bytes, err := proto.Marshal(message)
	if err != nil {
		panic(err)
	}
	got := w.target.unary(ctx, call{path: path, user: user, answer: answer}, bytes)
	for _, message := range got.messages {
		if headed, ok := message.(interface{ GetHeader() *pb.ResponseHeader }); ok {
			w.revision = max(w.revision, headed.GetHeader().GetRevision())
		}
	}
	w.unary = append(w.unary, fmt.Sprintf("%d %s", got.code, got.text))
	return true
}

// settle asks for progress until it is told, which it is only when all watchers are up to date. The last progress
// comes behind all events, since they share the stream.
func (w *watching) settle(within time.Duration) bool {
	if w.compacted || len(w.starts) == 0 { // a stream without watchers is told none
		within = min(within, 100*time.Millisecond)
	}
	for _, start := range w.starts {
		if start > w.revision {
			within = min(within, 100*time.Millisecond)
		}
	}
	for begin := time.Now(); !w.ended && time.Since(begin) < within; {
		w.send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}})
		if w.until(func(r *pb.WatchResponse) bool { return isProgress(r) && r.WatchId == -1 }, 60*time.Millisecond) {
			return true
		}
	}
	return false
}

func isProgress(r *pb.WatchResponse) bool {
	return len(r.Events) == 0 && !r.Created && !r.Canceled && r.CompactRevision == 0
}

func (w *watching) until(done func(*pb.WatchResponse) bool, within time.Duration) bool {
	timeout := time.After(within)
	for {
		select {
		case r, open := <-w.responses:
			if !open {
				w.ended = true
				return false
			}
			w.take(r)
			if done(r) {
				return true
			}
		case <-timeout:
			return false
		}
	}
}

func (w *watching) take(r *pb.WatchResponse) {
	if isProgress(r) {
		return // how many come is a matter of time
	}
	one := w.seen[r.WatchId]
	if one == nil {
		one = &watched{events: &pb.WatchResponse{WatchId: r.WatchId}}
		w.seen[r.WatchId] = one
		w.order = append(w.order, r.WatchId)
	}
	if len(r.Events) > 0 {
		one.events.Events = append(one.events.Events, r.Events...)
		return
	}
	one.control = append(one.control, r)
	w.live[r.WatchId] = r.Created && !r.Canceled
	w.revision = max(w.revision, r.Header.GetRevision())
	w.compacted = w.compacted || r.CompactRevision != 0
	if delete(w.starts, r.WatchId); w.live[r.WatchId] {
		w.starts[r.WatchId] = w.start
	}
}

// count says how much has come for each watcher.
func (w *watching) count() string {
	text := fmt.Sprint(w.ended)
	for _, id := range w.order {
		text += fmt.Sprintf(" %d:%d+%d", id, len(w.seen[id].control), len(w.seen[id].events.Events))
	}
	return text
}

func (w *watching) result(out *outcome) {
	for _, id := range w.order {
		one := w.seen[id]
		for _, r := range one.control {
			out.messages = append(out.messages, r)
		}
		out.messages = append(out.messages, one.events)
	}
	for i, text := range w.unary {
		out.messages = append(out.messages, &pb.WatchResponse{WatchId: int64(i), CancelReason: "beside: " + text})
	}
}
