package main

// An etcd member: etcd's RawNode and MemoryStorage, with what etcd's server does around them. The same for every version
// of the library; library_*.go name its types, convert.go fills them.

import (
	"fmt"
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
func (e *etcd) Kind() string    { return "etcd" }
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
	e.install(Snapshot{Metadata: SnapshotMetadata{Index: 1, Term: 1, ConfState: conf}})
	must(e.storage.SetHardState(convert[pbHardState](HardState{Term: 1, Commit: 1})))
}

func (e *etcd) install(snapshot Snapshot) {
	must(e.storage.ApplySnapshot(convert[pbSnapshot](snapshot)))
	at := snapshot.Metadata
	e.stored, e.applied = at.Index, at.Index
	e.confs = confs{at.Index: at.ConfState}
	e.world.configured(e.id, at.Index, at.ConfState)
}

func (e *etcd) Start() {
	e.applied = e.stored
	node, err := newRawNode(&raftConfig{ID: e.id, ElectionTick: electionTicks, HeartbeatTick: 2, Storage: e.storage,
		Applied: e.stored, MaxSizePerMsg: messageBytes, MaxInflightMsgs: 4, CheckQuorum: true, PreVote: e.preVote, Logger: quiet{}})
	must(err)
	e.node = node
	e.takeReadys()
}

func (e *etcd) Crash() {
	e.node = nil
	e.confs.forgetAbove(e.stored)
}

// do runs an input. Its error is for a client that the world does not have. A member that is down, as one may be behind
// its own last input, takes none.
func (e *etcd) do(input func() error) {
	if !e.Up() {
		return
	}
	_ = input()
	e.takeReadys()
}

func (e *etcd) Tick(times int) {
	for range times {
		e.do(func() error { e.node.Tick(); return nil })
	}
}
func (e *etcd) Propose(data string) { e.do(func() error { return e.node.Propose([]byte(data)) }) }
func (e *etcd) ProposeConf(change ConfChange) {
	e.do(func() error { return e.node.ProposeConfChange(convert[pbConfChange](change)) })
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
	if m.Type == messageSnapshot && m.Snapshot == nil {
		return
	}
	e.do(func() error { return e.node.Step(convert[pbMessage](m)) })
}

// Compact stores the applied state, and drops the log below it but for `kept` entries.
func (e *etcd) Compact(kept uint64) {
	hard, _, err := e.storage.InitialState()
	must(err)
	limit := min(e.applied, convert[HardState](hard).Commit)
	if limit <= e.stored {
		return
	}
	conf := convert[*pbConfState](e.confs.at(limit))
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
				e.world.crash(e)
				return
			}
		}
		if !isEmptySnap(ready.Snapshot) {
			e.install(convert[Snapshot](ready.Snapshot))
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
		e.world.committed(convert[HardState](e.node.BasicStatus().HardState).Commit)
	}
}

func (e *etcd) send(messages []pbMessage) {
	for _, m := range messages {
		e.world.post(fromMessage(m))
	}
}

func (e *etcd) apply(made pbEntry) {
	entry := convert[Entry](made)
	e.applied = entry.Index
	e.world.applied(e.id, entry)
	if entry.Type == entryNormal {
		return
	}
	if entry.Type != entryConfChange {
		violate("an entry of type %d, which nobody proposed", entry.Type)
	}
	read, err := unmarshalConfChange([]byte(entry.Data))
	must(err)
	change := convert[ConfChange](read)
	if e.confs.at(entry.Index).leavesTooFew(change) {
		change = ConfChange{} // how etcd's server refuses a change
	}
	conf := convert[Conf](e.node.ApplyConfChange(convert[pbConfChange](change)))
	e.confs[entry.Index] = conf
	e.world.configured(e.id, entry.Index, conf)
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
