//go:build !etcd34 && !etcd35 && !etcd36

package main

import (
	crypto "crypto/rand"
	"math/rand"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

const libraryName = "etcd 3.7"

type (
	rawNode       = raft.RawNode
	memoryStorage = raft.MemoryStorage
	raftConfig    = raft.Config

	pbMessage    = *pb.Message
	pbEntry      = *pb.Entry
	pbSnapshot   = *pb.Snapshot
	pbHardState  = *pb.HardState
	pbConfState  = pb.ConfState
	pbConfChange = *pb.ConfChange
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

func unmarshalConfChange(data []byte) (*pb.ConfChange, error) {
	change := &pb.ConfChange{}
	return change, proto.Unmarshal(data, change)
}

// seedLibrary: the library draws its election timeouts from there, and a life could not be repeated.
func seedLibrary(seed int64) { crypto.Reader = rand.New(rand.NewSource(seed)) }
