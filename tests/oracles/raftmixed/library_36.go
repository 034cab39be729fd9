//go:build etcd36

package main

import (
	crypto "crypto/rand"
	"math/rand"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
)

const libraryName = "etcd 3.6"

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

func forgetLeader(node *rawNode) { _ = node.ForgetLeader() }

// seedLibrary: the library draws its election timeouts from there, and a life could not be repeated.
func seedLibrary(seed int64) { crypto.Reader = rand.New(rand.NewSource(seed)) }
