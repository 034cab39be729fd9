package main

import (
	"fmt"
	"math/rand"
	"slices"
	"strings"
)

// Member is a raft core with what a disk holds of it and an applier, of either kind. Whatever comes of a call is told
// to the world before the call returns.
type Member interface {
	ID() uint64
	Kind() string
	Up() bool
	Applied() uint64
	IsLeader() bool
	String() string

	Found(conf Conf) // before the first start: begins behind a snapshot that names the founders
	Start()
	Crash() // what was not written is lost; of Cairn's writes some arrive

	// Inputs of a member that is up.
	Step(message Message)
	Tick(times int)
	Propose(data string)
	ProposeConf(change ConfChange)
	Read(context string)
	Transfer(to uint64)
	Forget() // the leader is known to be dead
	Compact(kept uint64)
	SnapshotDone(to uint64, ok bool)
	Unreachable(peer uint64)

	// What etcd's members do at once: one write, one entry, all of both.
	FinishWrite()
	Apply()
	Settle()
}

// violation is a broken promise: it ends the life.
type violation string

func violate(format string, args ...any) { panic(violation(fmt.Sprintf(format, args...))) }

type link struct{ from, to uint64 }

// World is five members over a bad network, and the one record of what happened. What is done to them: trouble.go.
type World struct {
	random  *rand.Rand
	tracing bool
	members map[uint64]Member
	ids     []uint64

	network    []Message
	cut        map[link]bool
	calm       bool
	lostType   int // of messages that hardly get through now; 0: none
	lossOneIn  int
	crashOneIn int
	changes    bool // of the configuration
	plots      bool
	due        []func() // behind the event that is under way
	deposed    uint64   // the leader that a plot ended last

	leaders      map[uint64]uint64 // by term
	newestTerm   uint64            // that has a leader
	entries      map[uint64]Entry  // applied, by index
	confs        map[uint64]string // by the entry that made them
	newestCommit uint64
	newestConf   Conf
	newestConfAt uint64
	reads        map[string]*read
	proposals    int
	met          Situations
}

type read struct {
	newestCommit uint64 // anywhere, when it was asked
	answered     bool
}

func newWorld(seed int64, tracing bool) *World {
	seedLibrary(seed)
	founded := Conf{Voters: []uint64{1, 2, 3}}
	w := &World{random: rand.New(rand.NewSource(seed)), tracing: tracing, members: map[uint64]Member{},
		cut: map[link]bool{}, leaders: map[uint64]uint64{}, entries: map[uint64]Entry{}, confs: map[uint64]string{},
		reads: map[string]*read{}, newestCommit: 1, newestConf: founded, lossOneIn: 15, crashOneIn: 300,
		changes: seed%3 != 0, plots: seed%5 != 0, met: newSituations()}
	if seed%7 == 0 {
		w.lossOneIn = 4
	}
	if seed%2 == 0 {
		w.crashOneIn = 1500
	}
	return w
}

func (w *World) trace(format string, args ...any) {
	if w.tracing {
		fmt.Printf(format+"\n", args...)
	}
}

func (w *World) oneIn(n int) bool { return w.random.Intn(n) == 0 }

func (w *World) anyone() uint64 { return w.ids[w.random.Intn(len(w.ids))] }

// leader is the newest one, if it is up and leads still; else nil.
func (w *World) leader() Member {
	if m := w.members[w.leaders[w.newestTerm]]; m != nil && m.Up() && m.IsLeader() {
		return m
	}
	return nil
}

// ---- What members tell.

func (w *World) post(m Message) {
	w.trace("   sent %s", m)
	if m.Type == messageAppend || m.Type == messageHeartbeat {
		w.leads(m.From, m.Term)
	}
	if !w.calm {
		w.plotAgainst(m)
	}
	w.met.sent(m)
	if w.cut[link{m.From, m.To}] || (!w.calm && w.loses(m)) {
		w.reportSnapshot(m, false)
		return
	}
	if !w.calm && w.oneIn(25) {
		w.network = append(w.network, m)
	}
	w.network = append(w.network, m)
}

func (w *World) leads(id, term uint64) {
	leader, known := w.leaders[term]
	if known && leader != id {
		violate("two leaders in term %d: %d and %d", term, leader, id)
	}
	if known {
		return
	}
	w.leaders[term] = id
	w.newestTerm = max(w.newestTerm, term)
	w.met.hit("a leader is elected")
	w.met.hit("a leader of " + w.members[id].Kind())
}

// A transport must say what became of a snapshot.
func (w *World) reportSnapshot(m Message, ok bool) {
	if m.Type != messageSnapshot {
		return
	}
	if sender := w.members[m.From]; sender.Up() {
		sender.SnapshotDone(m.To, ok)
	}
}

func (w *World) applied(id uint64, e Entry) {
	other, known := w.entries[e.Index]
	if known && other != e {
		violate("member %d applies %q, others %q", id, e, other)
	}
	if !known {
		w.entries[e.Index] = e
		w.met.applied(e)
	}
	w.committed(e.Index)
}

func (w *World) committed(index uint64) {
	if index > w.newestCommit && !w.calm {
		w.plotAtCommit()
	}
	w.newestCommit = max(w.newestCommit, index)
}

func (w *World) answeredRead(context string, index uint64) {
	asked, known := w.reads[context]
	if !known {
		violate("an answer to no read: %q", context)
	}
	if index < asked.newestCommit {
		violate("a stale read: at %d, when %d was committed", index, asked.newestCommit)
	}
	asked.answered = true
	w.met.hit("a read is answered")
}

// configured: this is the configuration of the member behind the entry.
func (w *World) configured(id, index uint64, conf Conf) {
	text := conf.String()
	if other, known := w.confs[index]; known && other != text {
		violate("member %d has the configuration %s behind entry %d, others %s", id, text, index, other)
	}
	w.confs[index] = text
	if index > w.newestConfAt {
		w.newestConfAt = index
		w.newestConf = conf
		w.met.hit("a configuration changes")
		if leader := w.leader(); leader != nil && !conf.has(leader.ID()) {
			w.met.hit("a leader is removed")
		}
	}
}

// ---- Events.

func (w *World) start(m Member) {
	w.met.started(m.ID())
	m.Start()
}

func (w *World) crash(m Member) {
	w.met.hit("a member crashes")
	m.Crash()
}

func (w *World) deliver() {
	if len(w.network) == 0 {
		return
	}
	at := 0 // mostly in order, sometimes any
	if !w.calm && w.oneIn(4) {
		at = w.random.Intn(len(w.network))
	}
	m := w.network[at]
	w.network = slices.Delete(w.network, at, at+1)
	to := w.members[m.To]
	arrives := to.Up() && !w.cut[link{m.From, m.To}]
	w.reportSnapshot(m, arrives)
	if arrives && to.Up() { // the report may have reached the same member, and ended it
		w.met.delivered(m, w.members[m.From].Kind(), to.Kind())
		to.Step(m)
		if !w.calm {
			w.plotBehind(m)
		}
	}
}

func (w *World) propose(m Member, bytesMax int) {
	w.proposals++
	m.Propose(fmt.Sprintf("p%d%s", w.proposals, strings.Repeat(".", w.random.Intn(bytesMax))))
}

func (w *World) proposeChange(m Member) {
	if !w.changes {
		return
	}
	kinds := []int{changeAddNode, changeAddNode, changeAddNode, changeRemoveNode, changeRemoveNode, changeAddLearner}
	m.ProposeConf(ConfChange{kinds[w.random.Intn(len(kinds))], w.anyone()})
}

func (w *World) read(m Member) {
	context := fmt.Sprintf("r%d", len(w.reads))
	w.reads[context] = &read{newestCommit: w.newestCommit}
	if m.IsLeader() && m.ID() != w.leaders[w.newestTerm] {
		w.met.hit("a read is asked of a leader that has a successor")
	}
	m.Read(context)
}

// step is one event, and what it brings with it.
func (w *World) step() {
	w.event()
	for len(w.due) > 0 {
		next := w.due[0]
		w.due = w.due[1:]
		next()
	}
}

func (w *World) event() {
	m := w.members[w.anyone()]
	if !m.Up() {
		if w.oneIn(20) {
			w.start(m)
		}
		return
	}
	switch kind := w.random.Intn(1000); {
	case kind < 480:
		w.deliver()
	case kind < 620:
		m.FinishWrite()
	case kind < 740:
		m.Apply()
	case kind < 900:
		m.Tick(1)
	case kind < 940:
		w.propose(m, 40)
	case kind < 962:
		w.read(m)
	case kind < 972:
		w.proposeChange(m)
	case kind < 975:
		m.Transfer(w.anyone())
	case kind < 977:
		m.Forget()
	case kind < 988:
		m.Compact(uint64(w.random.Intn(6)))
	case kind < 992:
		m.Unreachable(w.anyone())
	case kind < 995:
		clear(w.cut)
	}
	w.trouble()
	if m.Up() && w.oneIn(w.crashOneIn) {
		w.crash(m)
	}
}

// ---- Afterwards.

// healAndConverge ends all trouble, then gives the members time. They must agree on a new entry.
func (w *World) healAndConverge() {
	const rounds, roundsBefore, roundsBetween = 700, 60, 150
	w.calm = true
	clear(w.cut)
	var before uint64 // what was committed before the marker
	proposed := false
	for round := range rounds {
		w.calmRound(round)
		if round < roundsBefore {
			continue // time for what was under way
		}
		if !proposed || round%roundsBetween == 0 { // it may have been lost with a term
			for _, id := range w.ids {
				if m := w.members[id]; m.IsLeader() && w.newestConf.has(id) {
					before, proposed = w.newestCommit, true
					m.Propose("marker")
				}
			}
			continue
		}
		if w.allApplied(before) {
			w.countLostReads()
			return
		}
	}
	violate("no agreement after all was healed; newest configuration %s", w.newestConf)
}

func (w *World) countLostReads() {
	for _, one := range w.reads {
		if !one.answered {
			w.met.hit("a read is lost")
		}
	}
}

func (w *World) calmRound(round int) {
	for _, id := range w.ids {
		m := w.members[id]
		if !m.Up() {
			w.start(m)
		}
		if w.newestConf.has(id) {
			m.Tick(1)
		}
		m.Settle()
		if round%40 == 0 {
			m.Compact(3)
		}
	}
	for left := len(w.network); left > 0 && len(w.network) > 0; left-- {
		w.deliver()
	}
}

// allApplied: every member of the newest configuration has a marker that came after `before`.
func (w *World) allApplied(before uint64) bool {
	var marker uint64
	for index := before + 1; index <= w.newestCommit; index++ {
		if w.entries[index].Data == "marker" {
			marker = index
		}
	}
	if marker == 0 {
		return false
	}
	return !slices.ContainsFunc(w.ids, func(id uint64) bool {
		return w.newestConf.has(id) && w.members[id].Applied() < marker
	})
}

func (w *World) describe() string {
	text := ""
	for _, id := range w.ids {
		text += w.members[id].String() + "\n"
	}
	return text
}

// course says what was applied and met. (A description of etcd's members holds maps in any order.)
func (w *World) course() string { return fmt.Sprint(w.entries, w.met.counts) }
