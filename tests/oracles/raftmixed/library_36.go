//go:build etcd36

package main

import (
	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
)

const libraryName = "etcd 3.6"

type (
	rawNode       = raft.RawNode
	memoryStorage = raft.MemoryStorage
	raftConfig    = raft.Config

	pbMessage          = pb.Message
	pbMessageType      = pb.MessageType
	pbEntry            = pb.Entry
	pbEntryType        = pb.EntryType
	pbSnapshot         = pb.Snapshot
	pbSnapshotMetadata = pb.SnapshotMetadata
	pbHardState        = pb.HardState
	pbConfState        = pb.ConfState
	pbConfChange       = pb.ConfChange
	pbConfChangeType   = pb.ConfChangeType
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

// From here on the snapshot of a message is a pointer.
func setSnapshot(m *pbMessage, s pbSnapshot) { m.Snapshot = &s }

func snapshotOf(m pbMessage) pbSnapshot {
	if m.Snapshot == nil {
		return pbSnapshot{}
	}
	return *m.Snapshot
}
