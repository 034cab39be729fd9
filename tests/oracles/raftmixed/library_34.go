//go:build etcd34

package main

import (
	"go.etcd.io/etcd/raft"
	pb "go.etcd.io/etcd/raft/raftpb"
)

const libraryName = "etcd 3.4"

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

// forgetLeader: this version cannot.
func forgetLeader(*rawNode) {}

func setSnapshot(m *pbMessage, s pbSnapshot) { m.Snapshot = s }

func snapshotOf(m pbMessage) pbSnapshot { return m.Snapshot }
