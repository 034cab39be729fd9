//go:build !etcd34 && !etcd35 && !etcd36

package main

import (
	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// From 3.7 on the library's messages are pointers, made by google.golang.org/protobuf.

const libraryName = "etcd 3.7"

type (
	rawNode       = raft.RawNode
	memoryStorage = raft.MemoryStorage
	raftConfig    = raft.Config

	pbMessage  = *pb.Message
	pbEntry    = *pb.Entry
	pbSnapshot = *pb.Snapshot
)

const (
	stateLeader     = raft.StateLeader
	snapshotFinish  = raft.SnapshotFinish
	snapshotFailure = raft.SnapshotFailure
)

var (
	newRawNode       = raft.NewRawNode
	newMemoryStorage = raft.NewMemoryStorage
	isEmptySnap      = raft.IsEmptySnap
	isEmptyHardState = raft.IsEmptyHardState
)

func forgetLeader(node *rawNode) { _ = node.ForgetLeader() }

func toMessage(m Message) pbMessage {
	made := &pb.Message{Type: pb.MessageType(m.kind).Enum(), To: &m.to, From: &m.from, Term: &m.term,
		LogTerm: &m.logTerm, Index: &m.index, Commit: &m.commit, RejectHint: &m.hint, Reject: &m.reject}
	if m.context != "" {
		made.Context = []byte(m.context)
	}
	for _, entry := range m.entries {
		one := &pb.Entry{Term: &entry.term, Index: &entry.index, Type: pb.EntryType(entry.kind).Enum()}
		if entry.data != "" {
			one.Data = []byte(entry.data)
		}
		made.Entries = append(made.Entries, one)
	}
	if m.snapshot != nil {
		made.Snapshot = toSnapshot(*m.snapshot)
	}
	return made
}

func fromMessage(m pbMessage) Message {
	made := Message{kind: int(m.GetType()), to: m.GetTo(), from: m.GetFrom(), term: m.GetTerm(), logTerm: m.GetLogTerm(),
		index: m.GetIndex(), commit: m.GetCommit(), hint: m.GetRejectHint(), reject: m.GetReject(),
		context: string(m.GetContext())}
	for _, entry := range m.GetEntries() {
		made.entries = append(made.entries, fromEntry(entry))
	}
	if s := m.GetSnapshot(); s.GetMetadata().GetIndex() != 0 {
		snapshot := fromSnapshot(s)
		made.snapshot = &snapshot
	}
	return made
}

func fromEntry(e pbEntry) Entry {
	return Entry{e.GetTerm(), e.GetIndex(), int(e.GetType()), string(e.GetData())}
}

func toSnapshot(s Snapshot) pbSnapshot {
	return &pb.Snapshot{Data: []byte("state"),
		Metadata: &pb.SnapshotMetadata{Index: &s.index, Term: &s.term, ConfState: toConf(s.conf)}}
}

func fromSnapshot(s pbSnapshot) Snapshot {
	return Snapshot{s.GetMetadata().GetIndex(), s.GetMetadata().GetTerm(), fromConf(s.GetMetadata().GetConfState())}
}

func copied(s pbSnapshot) pbSnapshot { return toSnapshot(fromSnapshot(s)) }

func toHardState(term, vote, commit uint64) *pb.HardState {
	return &pb.HardState{Term: &term, Vote: &vote, Commit: &commit}
}

func commitOf(state *pb.HardState) uint64 { return state.GetCommit() }

func toConf(c Conf) *pb.ConfState {
	return &pb.ConfState{Voters: c.voters, Learners: c.learners, VotersOutgoing: c.votersOutgoing,
		LearnersNext: c.learnersNext, AutoLeave: &c.autoLeave}
}

func fromConf(c *pb.ConfState) Conf {
	return Conf{c.GetVoters(), c.GetLearners(), c.GetVotersOutgoing(), c.GetLearnersNext(), c.GetAutoLeave()}
}

func toConfChange(kind int, id uint64) *pb.ConfChange {
	return &pb.ConfChange{Type: pb.ConfChangeType(kind).Enum(), NodeId: &id}
}

func readConfChange(data string) (kind int, id uint64) {
	var change pb.ConfChange
	must(proto.Unmarshal([]byte(data), &change))
	return int(change.GetType()), change.GetNodeId()
}
