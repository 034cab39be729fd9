//go:build etcd35

package main

import (
	"math/rand"
	"sync"
	_ "unsafe" // for go:linkname

	"go.etcd.io/etcd/raft/v3"
	pb "go.etcd.io/etcd/raft/v3/raftpb"
)

const libraryName = "etcd 3.5"

type (
	rawNode       = raft.RawNode
	memoryStorage = raft.MemoryStorage
	raftConfig    = raft.Config

	pbMessage    = pb.Message
	pbEntry      = pb.Entry
	pbSnapshot   = pb.Snapshot
	pbHardState  = pb.HardState
	pbConfState  = pb.ConfState
	pbConfChange = pb.ConfChange
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

// globalRand is the library's, which seeds it by the time: a life could not be repeated.
//
//go:linkname globalRand go.etcd.io/etcd/raft/v3.globalRand
var globalRand *struct {
	mu   sync.Mutex
	rand *rand.Rand
}
