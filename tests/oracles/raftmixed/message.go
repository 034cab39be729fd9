package main

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Numbers of raftpb.MessageType that the world looks at.
const (
	messageAppend       = 3
	messageAppendReply  = 4
	messageVote         = 5
	messageVoteReply    = 6
	messageSnapshot     = 7
	messageHeartbeat    = 8
	messageHeartbeatAck = 9
	messageTimeoutNow   = 14
	messageReadIndex    = 15
	messageReadReply    = 16
)

// Numbers of raftpb.EntryType and of raftpb.ConfChangeType.
const (
	entryNormal     = 0
	entryConfChange = 1

	changeAddNode    = 0
	changeRemoveNode = 1
	changeAddLearner = 3
)

// Message is a raftpb.Message, the same for every version of the library. Fields have the library's names: convert.go.
type Message struct {
	Type                                               int
	To, From, Term, LogTerm, Index, Commit, RejectHint uint64
	Reject                                             bool
	Context                                            string
	Entries                                            []Entry
	Snapshot                                           *Snapshot
}

type Entry struct {
	Term, Index uint64
	Type        int
	Data        string
}

type Snapshot struct {
	Data     string
	Metadata SnapshotMetadata
}

type SnapshotMetadata struct {
	Index, Term uint64
	ConfState   Conf
}

type HardState struct {
	Term, Vote, Commit uint64
}

type ConfChange struct {
	Type   int
	NodeID uint64
}

// Conf is a raftpb.ConfState.
type Conf struct {
	Voters, Learners, VotersOutgoing, LearnersNext []uint64
	AutoLeave                                      bool
}

func (c Conf) has(id uint64) bool {
	return slices.Contains(c.Voters, id) || slices.Contains(c.Learners, id) ||
		slices.Contains(c.VotersOutgoing, id) || slices.Contains(c.LearnersNext, id)
}

// leavesTooFew is the world's rule, which Cairn's members follow as well: two voters stay, since etcd's raft answers
// reads by itself once there is one.
func (c Conf) leavesTooFew(change ConfChange) bool {
	return (change.Type == changeRemoveNode || change.Type == changeAddLearner) && len(c.Voters) <= 2 &&
		slices.Contains(c.Voters, change.NodeID)
}

// ---- As words of a line: tests/raftmixed/text.h.

func bytesText(bytes string) string {
	if bytes == "" {
		return "-"
	}
	return hex.EncodeToString([]byte(bytes))
}

func idsText(ids []uint64) string {
	if len(ids) == 0 {
		return "-"
	}
	words := []string{}
	for _, id := range slices.Sorted(slices.Values(ids)) {
		words = append(words, strconv.FormatUint(id, 10))
	}
	return strings.Join(words, ",")
}

func flag01(value bool) int {
	if value {
		return 1
	}
	return 0
}

func (c Conf) String() string {
	return fmt.Sprintf("%s %s %s %s %d", idsText(c.Voters), idsText(c.Learners), idsText(c.VotersOutgoing),
		idsText(c.LearnersNext), flag01(c.AutoLeave))
}

func (e Entry) String() string {
	return fmt.Sprintf("%d %d %d %s", e.Term, e.Index, e.Type, bytesText(e.Data))
}

func (m Message) String() string {
	var text strings.Builder
	fmt.Fprintf(&text, "%d %d %d %d %d %d %d %d %d %s %d", m.Type, m.To, m.From, m.Term, m.LogTerm, m.Index, m.Commit,
		m.RejectHint, flag01(m.Reject), bytesText(m.Context), len(m.Entries))
	for _, entry := range m.Entries {
		fmt.Fprintf(&text, " %s", entry)
	}
	if m.Snapshot == nil {
		return text.String() + " 0"
	}
	s := m.Snapshot.Metadata
	fmt.Fprintf(&text, " 1 %d %d %s", s.Index, s.Term, s.ConfState)
	return text.String()
}

// words are those of a line that are still to be read. What cannot be read is a bug of the node program.
type words struct {
	rest []string
}

func (w *words) next() string {
	word := w.rest[0]
	w.rest = w.rest[1:]
	return word
}

func (w *words) number() uint64 {
	number, err := strconv.ParseUint(w.next(), 10, 64)
	if err != nil {
		panic(err)
	}
	return number
}

func (w *words) bytes() string {
	word := w.next()
	if word == "-" {
		return ""
	}
	bytes, err := hex.DecodeString(word)
	if err != nil {
		panic(err)
	}
	return string(bytes)
}

func (w *words) ids() []uint64 {
	var ids []uint64
	word := w.next()
	if word == "-" {
		return nil
	}
	for part := range strings.SplitSeq(word, ",") {
		ids = append(ids, (&words{[]string{part}}).number())
	}
	return ids
}

func (w *words) conf() Conf {
	return Conf{w.ids(), w.ids(), w.ids(), w.ids(), w.number() == 1}
}

func (w *words) entry() Entry {
	return Entry{w.number(), w.number(), int(w.number()), w.bytes()}
}

func (w *words) message() Message {
	m := Message{Type: int(w.number()), To: w.number(), From: w.number(), Term: w.number(), LogTerm: w.number(),
		Index: w.number(), Commit: w.number(), RejectHint: w.number(), Reject: w.number() == 1, Context: w.bytes()}
	for left := w.number(); left > 0; left-- {
		m.Entries = append(m.Entries, w.entry())
	}
	if w.number() == 1 {
		m.Snapshot = &Snapshot{Metadata: SnapshotMetadata{w.number(), w.number(), w.conf()}}
	}
	return m
}
