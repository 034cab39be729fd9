package main

// An etcd member: etcd's RawNode and MemoryStorage, with what etcd's server does around them. The same for every version
// of the library; types and conversions are in library_*.go.

import (
	"fmt"
	"slices"
)

// confs are configurations by the entry that made them.
type confs map[uint64]Conf

func (c confs) at(index uint64) Conf {
	var best uint64
	var conf Conf
	for made, one := range c {
		if made <= index && made >= best {
			best, conf = made, one
		}
	}
	return conf
}

func (c confs) forgetAbove(index uint64) {
	for made := range c {
		if made > index {
			delete(c, made)
		}
	}
}

// leavesTooFew is the world's rule, which Cairn's members follow as well: two voters stay, since etcd's raft answers
// reads by itself once there is one.
func (c Conf) leavesTooFew(kind int, id uint64) bool {
	const removeNode, addLearner = 1, 3
	return (kind == removeNode || kind == addLearner) && len(c.voters) <= 2 && slices.Contains(c.voters, id)
}

// etcd is one of etcd's members. A Ready is written whole or, in a crash of a leader that has sent already, not at all.
type etcd struct {
	world   *World
	id      uint64
	preVote bool
	storage *memoryStorage
	confs   confs
	stored  uint64   // the state on disk is that after this entry
	node    *rawNode // nil: down
	applied uint64
}

func newEtcd(w *World, id uint64, preVote bool) *etcd {
	return &etcd{world: w, id: id, preVote: preVote, storage: newMemoryStorage(), confs: confs{}}
}

func (e *etcd) ID() uint64      { return e.id }
func (e *etcd) Up() bool        { return e.node != nil }
func (e *etcd) Applied() uint64 { return e.applied }
func (e *etcd) IsLeader() bool  { return e.Up() && e.node.BasicStatus().RaftState == stateLeader }
func (e *etcd) FinishWrite()    {}
func (e *etcd) Apply()          {}
func (e *etcd) Settle()         {}

func (e *etcd) String() string {
	if !e.Up() {
		return fmt.Sprintf("%d %s down", e.id, libraryName)
	}
	last, _ := e.storage.LastIndex()
	return fmt.Sprintf("%d %s last=%d applied=%d conf=%s %v", e.id, libraryName, last, e.applied, e.confs.at(e.applied),
		e.node.Status())
}

func (e *etcd) Found(conf Conf) {
	e.install(toSnapshot(Snapshot{1, 1, conf}))
	must(e.storage.SetHardState(toHardState(1, 0, 1)))
}

func (e *etcd) install(s pbSnapshot) {
	must(e.storage.ApplySnapshot(s))
	snapshot := fromSnapshot(s)
	e.stored, e.applied = snapshot.index, snapshot.index
	e.confs = confs{snapshot.index: snapshot.conf}
}

func (e *etcd) Start() {
	e.applied = e.stored
	node, err := newRawNode(&raftConfig{ID: e.id, ElectionTick: 10, HeartbeatTick: 2, Storage: e.storage,
		Applied: e.stored, MaxSizePerMsg: 150, MaxInflightMsgs: 4, CheckQuorum: true, PreVote: e.preVote, Logger: quiet{}})
	must(err)
	e.node = node
	e.takeReadys()
}

func (e *etcd) Crash() {
	e.node = nil
	e.confs.forgetAbove(e.stored)
}

// do runs an input. Its error is for a client that the world does not have.
func (e *etcd) do(input func() error) {
	_ = input()
	e.takeReadys()
}

func (e *etcd) Tick()               { e.do(func() error { e.node.Tick(); return nil }) }
func (e *etcd) Propose(data string) { e.do(func() error { return e.node.Propose([]byte(data)) }) }
func (e *etcd) ProposeConf(kind int, id uint64) {
	e.do(func() error { return e.node.ProposeConfChange(toConfChange(kind, id)) })
}
func (e *etcd) Read(context string) {
	e.do(func() error { e.node.ReadIndex([]byte(context)); return nil })
}
func (e *etcd) Transfer(to uint64) { e.do(func() error { e.node.TransferLeader(to); return nil }) }
func (e *etcd) Forget() {
	e.do(func() error { forgetLeader(e.node); return e.node.Campaign() })
}
func (e *etcd) Unreachable(peer uint64) {
	e.do(func() error { e.node.ReportUnreachable(peer); return nil })
}
func (e *etcd) SnapshotDone(to uint64, ok bool) {
	status := snapshotFinish
	if !ok {
		status = snapshotFailure
	}
	e.do(func() error { e.node.ReportSnapshot(to, status); return nil })
}

func (e *etcd) Step(m Message) {
	if m.kind == messageSnapshot && m.snapshot == nil {
		return
	}
	e.do(func() error { return e.node.Step(toMessage(m)) })
}

// Compact stores the applied state, and drops the log below it but for `kept` entries.
func (e *etcd) Compact(kept uint64) {
	hard, _, err := e.storage.InitialState()
	must(err)
	limit := min(e.applied, commitOf(hard))
	if limit <= e.stored {
		return
	}
	conf := toConf(e.confs.at(limit))
	_, err = e.storage.CreateSnapshot(limit, conf, []byte("state"))
	must(err)
	e.stored = limit
	first, err := e.storage.FirstIndex()
	must(err)
	if limit > kept && limit-kept > first-1 {
		must(e.storage.Compact(limit - kept))
	}
}

func (e *etcd) takeReadys() {
	const readysMax = 300
	for turn := 0; e.Up() && e.node.HasReady(); turn++ {
		if turn == readysMax {
			violate("etcd %d always has something ready", e.id)
		}
		ready := e.node.Ready()
		leads := e.IsLeader()
		for _, read := range ready.ReadStates {
			e.world.answeredRead(string(read.RequestCtx), read.Index)
		}
		// A leader sends before it writes, as etcd's server does.
		if leads {
			e.send(ready.Messages)
			if !e.world.calm && e.world.oneIn(600) {
				e.world.counts.crashes++
				e.Crash()
				return
			}
		}
		if !isEmptySnap(ready.Snapshot) {
			e.install(copied(ready.Snapshot))
		}
		if !isEmptyHardState(ready.HardState) {
			must(e.storage.SetHardState(ready.HardState))
		}
		must(e.storage.Append(ready.Entries))
		for _, entry := range ready.CommittedEntries {
			e.apply(entry)
		}
		if !leads {
			e.send(ready.Messages)
		}
		if e.Up() {
			e.node.Advance(ready)
		}
	}
	if e.Up() {
		e.world.committed(commitOf(e.node.BasicStatus().HardState))
	}
}

func (e *etcd) send(messages []pbMessage) {
	for _, m := range messages {
		e.world.post(fromMessage(m))
	}
}

func (e *etcd) apply(made pbEntry) {
	const normal, confChange = 0, 1
	entry := fromEntry(made)
	e.applied = entry.index
	e.world.applied(e.id, entry)
	if entry.kind == normal {
		return
	}
	if entry.kind != confChange {
		violate("an entry of type %d, which nobody proposed", entry.kind)
	}
	kind, id := readConfChange(entry.data)
	if e.confs.at(entry.index).leavesTooFew(kind, id) {
		kind, id = 0, 0 // how etcd's server refuses a change
	}
	conf := fromConf(e.node.ApplyConfChange(toConfChange(kind, id)))
	e.confs[entry.index] = conf
	e.world.configured(entry.index, conf)
}

// must: the storage is memory, and the member keeps its rules.
func must(err error) {
	if err != nil {
		violate("etcd's storage: %v", err)
	}
}

// quiet is a raft.Logger. What would end an etcd ends the life.
type quiet struct{}

func (quiet) Debug(...any)              {}
func (quiet) Debugf(string, ...any)     {}
func (quiet) Error(...any)              {}
func (quiet) Errorf(string, ...any)     {}
func (quiet) Info(...any)               {}
func (quiet) Infof(string, ...any)      {}
func (quiet) Warning(...any)            {}
func (quiet) Warningf(string, ...any)   {}
func (quiet) Fatal(v ...any)            { violate("etcd: %v", v) }
func (quiet) Fatalf(f string, v ...any) { violate("etcd: "+f, v...) }
func (quiet) Panic(v ...any)            { violate("etcd: %v", v) }
func (quiet) Panicf(f string, v ...any) { violate("etcd: "+f, v...) }
