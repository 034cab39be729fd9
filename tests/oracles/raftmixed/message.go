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
	messageAppend    = 3
	messageSnapshot  = 7
	messageHeartbeat = 8
)

// Message is a raftpb.Message, the same for every version of the library.
type Message struct {
	kind                                         int
	to, from, term, logTerm, index, commit, hint uint64
	reject                                       bool
	context                                      string
	entries                                      []Entry
	snapshot                                     *Snapshot
}

type Entry struct {
	term, index uint64
	kind        int
	data        string
}

type Snapshot struct {
	index, term uint64
	conf        Conf
}

// Conf is a raftpb.ConfState.
type Conf struct {
	voters, learners, votersOutgoing, learnersNext []uint64
	autoLeave                                      bool
}

func (c Conf) has(id uint64) bool {
	return slices.Contains(c.voters, id) || slices.Contains(c.learners, id) ||
		slices.Contains(c.votersOutgoing, id) || slices.Contains(c.learnersNext, id)
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
	return fmt.Sprintf("%s %s %s %s %d", idsText(c.voters), idsText(c.learners), idsText(c.votersOutgoing),
		idsText(c.learnersNext), flag01(c.autoLeave))
}

func (e Entry) String() string {
	return fmt.Sprintf("%d %d %d %s", e.term, e.index, e.kind, bytesText(e.data))
}

func (m Message) String() string {
	var text strings.Builder
	fmt.Fprintf(&text, "%d %d %d %d %d %d %d %d %d %s %d", m.kind, m.to, m.from, m.term, m.logTerm, m.index, m.commit,
		m.hint, flag01(m.reject), bytesText(m.context), len(m.entries))
	for _, entry := range m.entries {
		fmt.Fprintf(&text, " %s", entry)
	}
	if m.snapshot == nil {
		return text.String() + " 0"
	}
	fmt.Fprintf(&text, " 1 %d %d %s", m.snapshot.index, m.snapshot.term, m.snapshot.conf)
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
	m := Message{kind: int(w.number()), to: w.number(), from: w.number(), term: w.number(), logTerm: w.number(),
		index: w.number(), commit: w.number(), hint: w.number(), reject: w.number() == 1, context: w.bytes()}
	for left := w.number(); left > 0; left-- {
		m.entries = append(m.entries, w.entry())
	}
	if w.number() == 1 {
		m.snapshot = &Snapshot{w.number(), w.number(), w.conf()}
	}
	return m
}
