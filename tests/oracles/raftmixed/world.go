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
	Up() bool
	Applied() uint64
	IsLeader() bool
	String() string

	Found(conf Conf) // before the first start: begins behind a snapshot that names the founders
	Start()
	Crash() // what was not written is lost; of Cairn's writes some arrive

	// Inputs of a member that is up.
	Step(message Message)
	Tick()
	Propose(data string)
	ProposeConf(kind int, id uint64)
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

// Counts show that lives were lives.
type Counts struct {
	leaders, reads, configurations, snapshots, crashes, applied int
}

func (c *Counts) add(o Counts) {
	c.leaders += o.leaders
	c.reads += o.reads
	c.configurations += o.configurations
	c.snapshots += o.snapshots
	c.crashes += o.crashes
	c.applied += o.applied
}

type link struct{ from, to uint64 }

// World is five members over a bad network, and the one record of what happened.
type World struct {
	random  *rand.Rand
	tracing bool
	members map[uint64]Member
	ids     []uint64

	network    []Message
	cut        map[link]bool
	calm       bool
	lossOneIn  int
	crashOneIn int
	changes    bool // of the configuration

	leaders      map[uint64]uint64 // by term
	entries      map[uint64]string // applied, by index
	newestCommit uint64
	newestConf   Conf
	newestConfAt uint64
	reads        map[string]uint64 // by context: the highest commit anywhere when it was asked
	proposals    int
	counts       Counts
}

func (w *World) trace(format string, args ...any) {
	if w.tracing {
		fmt.Printf(format+"\n", args...)
	}
}

func (w *World) oneIn(n int) bool { return w.random.Intn(n) == 0 }

func (w *World) anyone() uint64 { return w.ids[w.random.Intn(len(w.ids))] }

// ---- What members tell.

func (w *World) post(m Message) {
	w.trace("   sent %s", m)
	if m.kind == messageAppend || m.kind == messageHeartbeat {
		leader, known := w.leaders[m.term]
		if known && leader != m.from {
			violate("two leaders in term %d: %d and %d", m.term, leader, m.from)
		}
		if !known {
			w.leaders[m.term] = m.from
			w.counts.leaders++
		}
	}
	if w.cut[link{m.from, m.to}] || (!w.calm && w.oneIn(w.lossOneIn)) {
		w.reportSnapshot(m, false)
		return
	}
	if !w.calm && w.oneIn(25) {
		w.network = append(w.network, m)
	}
	w.network = append(w.network, m)
}

// A transport must say what became of a snapshot.
func (w *World) reportSnapshot(m Message, ok bool) {
	if m.kind != messageSnapshot {
		return
	}
	if ok {
		w.counts.snapshots++
	}
	if sender := w.members[m.from]; sender.Up() {
		sender.SnapshotDone(m.to, ok)
	}
}

func (w *World) applied(id uint64, e Entry) {
	text := e.String()
	if other, known := w.entries[e.index]; known && other != text {
		violate("member %d applies %q, others %q", id, text, other)
	}
	if _, known := w.entries[e.index]; !known {
		w.counts.applied++
	}
	w.entries[e.index] = text
	w.committed(e.index)
}

func (w *World) committed(index uint64) { w.newestCommit = max(w.newestCommit, index) }

func (w *World) answeredRead(context string, index uint64) {
	asked, known := w.reads[context]
	if !known {
		violate("an answer to no read: %q", context)
	}
	if index < asked {
		violate("a stale read: at %d, when %d was committed", index, asked)
	}
	w.counts.reads++
}

func (w *World) configured(index uint64, conf Conf) {
	if index > w.newestConfAt {
		w.newestConfAt = index
		w.newestConf = conf
		w.counts.configurations++
	}
}

// ---- Trouble.

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
	to := w.members[m.to]
	arrives := to.Up() && !w.cut[link{m.from, m.to}]
	w.reportSnapshot(m, arrives)
	if arrives && to.Up() { // the report may have reached the same member, and ended it
		to.Step(m)
	}
}

func (w *World) partition() {
	clear(w.cut)
	sides, oneWay := w.random.Intn(1<<len(w.ids)), w.oneIn(3)
	for i, from := range w.ids {
		for j, to := range w.ids {
			left, right := sides>>i&1, sides>>j&1
			if left != right && (left == 1 || !oneWay) {
				w.cut[link{from, to}] = true
			}
		}
	}
}

func (w *World) propose(m Member) {
	w.proposals++
	m.Propose(fmt.Sprintf("p%d%s", w.proposals, strings.Repeat(".", w.random.Intn(40))))
}

func (w *World) read(m Member) {
	context := fmt.Sprintf("r%d", len(w.reads))
	w.reads[context] = w.newestCommit
	m.Read(context)
}

// step is one event.
func (w *World) step() {
	m := w.members[w.anyone()]
	if !m.Up() {
		if w.oneIn(20) {
			m.Start()
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
		m.Tick()
	case kind < 940:
		w.propose(m)
	case kind < 962:
		w.read(m)
	case kind < 972:
		if w.changes { // add, remove, learner
			m.ProposeConf([]int{0, 0, 0, 1, 1, 3}[w.random.Intn(6)], w.anyone())
		}
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
	if w.oneIn(300) {
		w.partition()
	}
	if m.Up() && w.oneIn(w.crashOneIn) {
		w.counts.crashes++
		m.Crash()
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
			return
		}
	}
	violate("no agreement after all was healed; newest configuration %s", w.newestConf)
}

func (w *World) calmRound(round int) {
	for _, id := range w.ids {
		m := w.members[id]
		if !m.Up() {
			m.Start()
		}
		if w.newestConf.has(id) {
			m.Tick()
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
		if strings.HasSuffix(w.entries[index], " "+bytesText("marker")) {
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
