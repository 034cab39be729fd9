package main

import (
	"context"
	"fmt"
	"math/rand"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// One thing that is done to both targets.
type step struct {
	rpc string // as reported and counted: "KV/Range"
	do  func(context.Context, *target) *outcome
	say func() string // the request, for the report
	// How many requests a conversation is; 0: it is one.
	requests int
	request  proto.Message // what is sent, where the comparison needs it: see settle
	// Called with both outcomes before they are normalised, to learn from them.
	after func(a, b *outcome)
}

type run struct {
	settings *settings
	targets  [2]*target
	known    []*knownDifference
	unserved *unserved
	gen      *gen
	profiles []profile
	coverage coverage

	count     int // steps made
	sent      int // requests that went out
	profile   string
	byProfile map[string]int // of those that went out
	hashes    int            // ends of episodes with the same hash, and with the same users and roles
	different int
	knownOnly int
	spent     map[string]time.Duration // by rpc
	gone      bool                     // a server ended
}

// An episode of a run: steps of one kind, between a beginning and an end that tidies up.
type profile struct {
	name   string
	weight int
	length int
	begin  func(*gen) []step
	next   func(*gen) step
	end    func(*gen) []step
}

func newRun(s *settings, targets [2]*target, known []*knownDifference, unserved *unserved) (*run, error) {
	r := &run{settings: s, targets: targets, known: known, unserved: unserved, coverage: coverage{}, spent: map[string]time.Duration{},
		byProfile: map[string]int{}}
	r.gen = &gen{random: rand.New(rand.NewSource(s.seed)), revision: 1, targets: targets, compactions: map[int64]bool{}, renewals: map[int64]bool{}, granted: map[string][]permission{}}
	wanted := map[string]bool{}
	for _, name := range strings.Split(s.profiles, ",") {
		if name != "" {
			wanted[name] = true
		}
	}
	everything := len(wanted) == 0
	for _, p := range allProfiles {
		if everything || wanted[p.name] {
			r.profiles = append(r.profiles, p)
			delete(wanted, p.name)
		}
	}
	for name := range wanted {
		return nil, fmt.Errorf("no profile %q", name)
	}
	if s.auth { // those that turn it on and off themselves are not meant
		r.profiles = slices.DeleteFunc(r.profiles, func(p profile) bool { return strings.HasPrefix(p.name, "auth-") })
	}
	if len(r.profiles) == 0 {
		return nil, fmt.Errorf("no profile is left")
	}
	return r, nil
}

func profileNames() (out []string) {
	for _, p := range allProfiles {
		out = append(out, p.name)
	}
	return out
}

func (r *run) all(ctx context.Context) {
	first := true
	for r.going(ctx) {
		p := r.pick(first)
		first = false
		r.profile = p.name
		if r.settings.auth {
			r.sequence(ctx, r.gen.authBegin(r.gen.everyone))
			r.gen.everyone, r.gen.user = "root", "root"
		}
		if p.begin != nil {
			r.sequence(ctx, p.begin(r.gen))
		}
		if p.next != nil {
			// A short run has short episodes: it sees some of each kind.
			for range min(p.length, max(100, r.settings.requests/20), r.settings.requests-r.count) {
				if !r.going(ctx) {
					break
				}
				// Broken bytes may be a range that ends before it begins, see keyRange.
				if r.settings.auth && p.name != "raw" {
					r.gen.user = r.gen.someUser()
				}
				r.step(ctx, p.next(r.gen))
			}
			r.gen.user = r.gen.everyone
		}
		if p.end != nil {
			r.sequence(ctx, p.end(r.gen))
		}
		r.sequence(ctx, []step{r.hash(), r.gen.authTables()})
	}
}

// What an episode has left is the same on both sides, byte for byte.
func (r *run) hash() step {
	s := r.gen.rpc(maintenance+"HashKV", &pb.HashKVRequest{}, &pb.HashKVResponse{})
	s.after = func(a, b *outcome) {
		if a.code == 0 && b.code == 0 && a.messages[0].(*pb.HashKVResponse).Hash == b.messages[0].(*pb.HashKVResponse).Hash {
			r.hashes++
		}
	}
	return s
}

func (r *run) going(ctx context.Context) bool {
	return ctx.Err() == nil && !r.gone && r.count < r.settings.requests && r.different < r.settings.maxDiffs
}

// The first episode is always one that fills the store.
func (r *run) pick(first bool) profile {
	if first {
		return r.profiles[0]
	}
	total := 0
	for _, p := range r.profiles {
		total += p.weight
	}
	at := r.gen.random.Intn(total)
	for _, p := range r.profiles {
		if at -= p.weight; at < 0 {
			return p
		}
	}
	panic("unreachable")
}

func (r *run) sequence(ctx context.Context, steps []step) {
	for _, s := range steps {
		if ctx.Err() != nil || r.gone || r.different >= r.settings.maxDiffs {
			return
		}
		r.step(ctx, s)
	}
}

func (r *run) step(ctx context.Context, s step) {
	r.count++
	if r.unserved.has(s.rpc) {
		r.unserved.held[s.rpc]++
		return
	}
	if slices.Contains(strings.Split(r.settings.skip, ","), s.rpc) {
		return
	}
	r.sent += max(1, s.requests)
	r.byProfile[r.profile] += max(1, s.requests)
	if r.settings.verbose {
		fmt.Printf("#%d %s %s\n", r.count, s.rpc, s.say())
	}
	var outcomes [2]*outcome
	begin := time.Now()
	defer func() { r.spent[s.rpc] += time.Since(begin) }()
	var group sync.WaitGroup
	group.Go(func() { outcomes[1] = s.do(ctx, r.targets[1]) })
	outcomes[0] = s.do(ctx, r.targets[0])
	group.Wait()
	if ctx.Err() != nil {
		return
	}
	r.gen.learn(outcomes[0])
	r.gen.noteRenewal(s.request, outcomes[0])
	if s.after != nil {
		s.after(outcomes[0], outcomes[1])
	}
	r.coverage.add(s.rpc, outcomes[0])
	for i, o := range outcomes {
		for _, message := range o.messages {
			r.targets[i].normalise(message)
		}
		switch s.rpc {
		case "KV/RangeStream":
			o.messages = joinRangeStream(o.messages)
		case "Maintenance/Snapshot":
			o.messages = joinSnapshot(o.messages)
		}
	}
	r.gen.settle(s.request, s.rpc == "KV/RangeStream", outcomes[0], outcomes[1])
	r.report(s, differences(outcomes[0], outcomes[1]))
	for i, o := range outcomes {
		if o.code == 14 && strings.Contains(o.text, "connect: connection refused") {
			fmt.Printf("diff: %s is gone at request %d: %s %s\n", r.targets[i].name, r.count, s.rpc, s.say())
			r.different++
			r.gone = true
		}
	}
}

func (r *run) report(s step, lines []string) {
	if len(lines) == 0 {
		return
	}
	unknown := 0
	for i, line := range lines {
		lines[i] = s.rpc + " " + line
		if reason := r.accepted(lines[i]); reason == "" {
			unknown++
		}
	}
	if unknown == 0 {
		r.knownOnly++
		return
	}
	r.different++
	fmt.Printf("DIFFERENCE in request %d, revision %d: %s %s\n", r.count, r.gen.revision, s.rpc, s.say())
	const linesMax = 24
	for i, line := range lines {
		if i == linesMax {
			fmt.Printf("    and %d more\n", len(lines)-linesMax)
			break
		}
		fmt.Printf("    %s\n", line)
	}
}

func (r *run) accepted(line string) string {
	for _, k := range r.known {
		if k.pattern.MatchString(line) {
			k.seen++
			return k.reason
		}
	}
	return ""
}

// The generator, with the little it knows of the store's state: it makes requests that matter.
type gen struct {
	random    *rand.Rand
	targets   [2]*target
	revision  int64 // the newest seen in a header of A
	compacted int64
	// Revisions that were compacted at.
	compactions map[int64]bool
	// Revisions that are not compacted at, see noteRenewal.
	renewals map[int64]bool
	granted  map[string][]permission // by role: at least those that it has
	user     string                  // who sends, in episodes with auth on
	everyone string                  // who sends where nothing else is said: root in a run with auth on
}

func (g *gen) learn(o *outcome) {
	for _, message := range o.messages {
		walk(message.ProtoReflect(), func(m proto.Message) {
			if header, ok := m.(*pb.ResponseHeader); ok {
				g.revision = max(g.revision, header.Revision)
			}
		})
	}
}

func (g *gen) oneIn(n int) bool { return g.random.Intn(n) == 0 }

func pickOf[T any](g *gen, values ...T) T { return values[g.random.Intn(len(values))] }

// rpc makes a step of a request message.
func (g *gen) rpc(path string, request, answer proto.Message) step {
	return g.rpcAs(g.user, path, request, answer)
}

func (g *gen) rpcAs(user, path string, request, answer proto.Message) step {
	bytes, err := proto.MarshalOptions{Deterministic: true}.Marshal(request)
	if err != nil {
		panic(fmt.Sprintf("%s %v: %v", path, request, err))
	}
	s := g.raw(path, bytes, answer)
	s.do = func(ctx context.Context, t *target) *outcome {
		return t.unary(ctx, call{path: path, user: user, answer: answer, stream: isStream(path)}, bytes)
	}
	s.say = func() string { return short(prototext.MarshalOptions{}.Format(request)) + as(user) }
	return s
}

// rpcFor makes a step whose request depends on the target: ids differ.
func (g *gen) rpcFor(path string, request func(*target) proto.Message, answer proto.Message) step {
	user := g.user
	return step{
		rpc: shortName(path),
		do: func(ctx context.Context, t *target) *outcome {
			bytes, err := proto.Marshal(request(t))
			if err != nil {
				return &outcome{broken: err.Error()}
			}
			return t.unary(ctx, call{path: path, user: user, answer: answer, stream: isStream(path)}, bytes)
		},
		say: func() string { return short(prototext.MarshalOptions{}.Format(request(g.targets[0]))) + as(user) },
	}
}

// raw makes a step of bytes that need not be a message.
func (g *gen) raw(path string, bytes []byte, answer proto.Message) step {
	user := g.user
	return step{
		rpc: shortName(path),
		do: func(ctx context.Context, t *target) *outcome {
			return t.unary(ctx, call{path: path, user: user, answer: answer, stream: isStream(path)}, bytes)
		},
		say:     func() string { return short(fmt.Sprintf("bytes %x", bytes)) + as(user) },
		request: requestOf(path, bytes),
	}
}

// The request that settle looks at, if the bytes are one.
func requestOf(path string, bytes []byte) proto.Message {
	var request proto.Message
	switch path {
	case kv + "Range", kv + "RangeStream":
		request = &pb.RangeRequest{}
	case kv + "Txn":
		request = &pb.TxnRequest{}
	case maintenance + "HashKV":
		request = &pb.HashKVRequest{}
	default:
		return nil
	}
	if proto.Unmarshal(bytes, request) != nil {
		return nil
	}
	return request
}

func as(user string) string {
	if user == "" {
		return ""
	}
	return " as " + user
}

// Methods that take one request and answer with a stream.
func isStream(path string) bool {
	return strings.HasSuffix(path, "/RangeStream") || strings.HasSuffix(path, "/Snapshot") || strings.HasSuffix(path, "Health/Watch")
}

// "/etcdserverpb.KV/Range" is reported as "KV/Range".
func shortName(path string) string {
	path = strings.TrimPrefix(path, "/")
	if service, method, ok := strings.Cut(path, "/"); ok {
		if dot := strings.LastIndex(service, "."); dot >= 0 {
			service = service[dot+1:]
		}
		return service + "/" + method
	}
	return path
}
