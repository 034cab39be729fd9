//go:build etcd34 || etcd35 || etcd36

package main

// Up to 3.6 the library's messages are values, made by gogo/protobuf.

func toMessage(m Message) pbMessage {
	made := pbMessage{Type: pbMessageType(m.kind), To: m.to, From: m.from, Term: m.term, LogTerm: m.logTerm,
		Index: m.index, Commit: m.commit, RejectHint: m.hint, Reject: m.reject}
	if m.context != "" {
		made.Context = []byte(m.context)
	}
	for _, entry := range m.entries {
		one := pbEntry{Term: entry.term, Index: entry.index, Type: pbEntryType(entry.kind)}
		if entry.data != "" {
			one.Data = []byte(entry.data)
		}
		made.Entries = append(made.Entries, one)
	}
	if m.snapshot != nil {
		setSnapshot(&made, toSnapshot(*m.snapshot))
	}
	return made
}

func fromMessage(m pbMessage) Message {
	made := Message{kind: int(m.Type), to: m.To, from: m.From, term: m.Term, logTerm: m.LogTerm, index: m.Index,
		commit: m.Commit, hint: m.RejectHint, reject: m.Reject, context: string(m.Context)}
	for _, entry := range m.Entries {
		made.entries = append(made.entries, fromEntry(entry))
	}
	if s := snapshotOf(m); s.Metadata.Index != 0 {
		snapshot := fromSnapshot(s)
		made.snapshot = &snapshot
	}
	return made
}

func fromEntry(e pbEntry) Entry { return Entry{e.Term, e.Index, int(e.Type), string(e.Data)} }

func toSnapshot(s Snapshot) pbSnapshot {
	return pbSnapshot{Data: []byte("state"),
		Metadata: pbSnapshotMetadata{Index: s.index, Term: s.term, ConfState: *toConf(s.conf)}}
}

func fromSnapshot(s pbSnapshot) Snapshot {
	return Snapshot{s.Metadata.Index, s.Metadata.Term, fromConf(&s.Metadata.ConfState)}
}

func copied(s pbSnapshot) pbSnapshot { return toSnapshot(fromSnapshot(s)) }

func toHardState(term, vote, commit uint64) pbHardState {
	return pbHardState{Term: term, Vote: vote, Commit: commit}
}

func commitOf(state pbHardState) uint64 { return state.Commit }

func toConf(c Conf) *pbConfState {
	return &pbConfState{Voters: c.voters, Learners: c.learners, VotersOutgoing: c.votersOutgoing,
		LearnersNext: c.learnersNext, AutoLeave: c.autoLeave}
}

func fromConf(c *pbConfState) Conf {
	return Conf{c.Voters, c.Learners, c.VotersOutgoing, c.LearnersNext, c.AutoLeave}
}

func toConfChange(kind int, id uint64) pbConfChange {
	return pbConfChange{Type: pbConfChangeType(kind), NodeID: id}
}

func readConfChange(data string) (kind int, id uint64) {
	var change pbConfChange
	must(change.Unmarshal([]byte(data)))
	return int(change.Type), change.NodeID
}
