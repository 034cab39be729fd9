package main

import (
	"fmt"
	"maps"
	"slices"
)

// reached are the situations that many lives together must meet, or their soundness proves little.
var reached = []string{
	"a candidate asks again after the voter came back in that term",
	"a change of the configuration is lost with its leader",
	"a configuration changes",
	"a leader is cut off with entries of its own",
	"a leader is elected",
	"a leader is removed",
	"a leader leads again after another",
	"a member crashes",
	"a read is answered",
	"a read is asked of a leader that has a successor",
	"a read is lost",
	"a voter comes back in the term of its vote",
	"an entry is applied",
	"an entry is lost with its leader",
	"old entries are sent without one of the leader's term",
	"two candidates in a term",
}

// reachedByPair are those of messages from one kind of member to the other.
var reachedByPair = map[int]string{
	messageAppend: "append", messageVote: "vote request", messageSnapshot: "snapshot",
	messageTimeoutNow: "request to take over", messageReadIndex: "read", messageReadReply: "answer to a read",
}

// Situations counts what a life has met, and knows what that takes.
type Situations struct {
	counts     map[string]int
	candidates map[uint64]uint64 // by term: the first one
	votes      map[uint64]vote   // by member: the last one given
	appends    map[uint64]bool   // terms in which one was sent
	lastLeader uint64
	led        map[uint64]bool             // members that led before the last leader
	written    map[uint64]map[uint64]Entry // by index, term: as sent
}

type vote struct {
	term, candidate uint64
	isFound         bool // on disk, by a member that came back
}

func newSituations() Situations {
	return Situations{counts: map[string]int{}, candidates: map[uint64]uint64{}, votes: map[uint64]vote{},
		appends: map[uint64]bool{}, led: map[uint64]bool{}, written: map[uint64]map[uint64]Entry{}}
}

func (s *Situations) hit(what string) { s.counts[what]++ }

func (s *Situations) add(o Situations) {
	for what, times := range o.counts {
		s.counts[what] += times
	}
}

// knows: the leader of that term has sent an append.
func (s *Situations) knows(term uint64) bool { return s.appends[term] }

// holdsOld: the entry was sent, but not as one of that term.
func (s *Situations) holdsOld(index, term uint64) bool {
	_, isOwn := s.written[index][term]
	return !isOwn && len(s.written[index]) > 0
}

func (s *Situations) sent(m Message) {
	switch m.Type {
	case messageVote:
		first, known := s.candidates[m.Term]
		if known && first != m.From {
			s.hit("two candidates in a term")
		} else {
			s.candidates[m.Term] = m.From
		}
	case messageVoteReply:
		if !m.Reject {
			s.votes[m.From] = vote{term: m.Term, candidate: m.To}
		}
	case messageAppend:
		s.sentAppend(m)
	}
}

func (s *Situations) sentAppend(m Message) {
	if s.lastLeader != m.From && !s.appends[m.Term] {
		if s.led[m.From] {
			s.hit("a leader leads again after another")
		}
		s.led[s.lastLeader] = true
		s.lastLeader = m.From
	}
	s.appends[m.Term] = true
	for _, e := range m.Entries {
		if s.written[e.Index] == nil {
			s.written[e.Index] = map[uint64]Entry{}
		}
		s.written[e.Index][e.Term] = e
	}
}

func (s *Situations) delivered(m Message, from, to string) {
	if what, counted := reachedByPair[m.Type]; counted && from != to {
		s.hit(what + ": " + from + " to " + to)
	}
	switch m.Type {
	case messageVote:
		if v := s.votes[m.To]; v.isFound && v.term == m.Term && v.candidate != m.From {
			s.hit("a candidate asks again after the voter came back in that term")
		}
	case messageAppend:
		if count := len(m.Entries); count > 0 && m.Entries[count-1].Term < m.Term {
			s.hit("old entries are sent without one of the leader's term")
		}
	}
}

func (s *Situations) started(id uint64) {
	if v, known := s.votes[id]; known {
		v.isFound = true
		s.votes[id] = v
		s.hit("a voter comes back in the term of its vote")
	}
}

func (s *Situations) applied(e Entry) {
	s.hit("an entry is applied")
	for term, other := range s.written[e.Index] {
		if term == e.Term {
			continue
		}
		s.hit("an entry is lost with its leader")
		if other.Type == entryConfChange {
			s.hit("a change of the configuration is lost with its leader")
		}
	}
}

// print says how often each was met. False: one never was.
func (s *Situations) print(kinds string) bool {
	wanted := slices.Clone(reached)
	if kinds == kindsMixed {
		wanted = append(wanted, "a leader of cairn", "a leader of etcd")
		for _, what := range reachedByPair {
			wanted = append(wanted, what+": cairn to etcd", what+": etcd to cairn")
		}
	}
	missing := 0
	for _, what := range wanted {
		if s.counts[what] == 0 {
			missing++
			s.counts[what] = 0
		}
	}
	for _, what := range slices.Sorted(maps.Keys(s.counts)) {
		fmt.Printf("%10d  %s\n", s.counts[what], what)
	}
	return missing == 0
}
