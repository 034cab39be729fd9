package main

// Trouble that comes by chance, and plots: trouble of a few steps that is aimed at the moments on which raft's rules
// turn. Chance alone hardly ever takes those steps in that order.

const electionTicks = 10

// messageBytes: so much of entries goes into one append.
const messageBytes = 150

func (w *World) loses(m Message) bool {
	return w.oneIn(w.lossOneIn) || (m.Type == w.lostType && !w.oneIn(4))
}

func (w *World) trouble() {
	if w.oneIn(300) {
		w.partition()
	}
	if !w.plots {
		return
	}
	if w.oneIn(150) {
		types := []int{0, 0, messageAppend, messageVote, messageVoteReply, messageHeartbeat, messageHeartbeatAck,
			messageTimeoutNow, messageReadIndex, messageReadReply}
		w.lostType = types[w.random.Intn(len(types))]
	}
	if w.oneIn(110) {
		plots := []func(){w.depose, w.depose, w.depose, w.duel, w.duel, w.leaveBehind, w.forgetLog, w.handOver}
		w.due = append(w.due, plots[w.random.Intn(len(plots))])
	}
}

func (w *World) partition() {
	clear(w.cut)
	sides, oneWay := w.random.Intn(1<<len(w.ids)), w.oneIn(3)
	for i, from := range w.ids {
		for j, to := range w.ids {
			left, right := sides>>i&1, sides>>j&1
			if left != right && (left == 1 || !oneWay) {
				w.cut[link{from, to}] = true
			}
		}
	}
}

// isolate makes one member the only one that is cut off.
func (w *World) isolate(id uint64) {
	clear(w.cut)
	for _, other := range w.ids {
		if other != id {
			w.cut[link{id, other}], w.cut[link{other, id}] = true, true
		}
	}
}

// ---- Plots.

// depose cuts the leader off, gives it entries that nobody else has, and has another member campaign: often the one
// that was deposed before and has such entries from then.
func (w *World) depose() {
	leader := w.leader()
	if leader == nil {
		return
	}
	w.met.hit("a leader is cut off with entries of its own")
	w.isolate(leader.ID())
	for range w.random.Intn(5) {
		w.propose(leader, messageBytes)
	}
	if w.oneIn(2) {
		w.proposeChange(leader)
	}
	next := w.members[w.deposed]
	w.deposed = leader.ID()
	if next == nil || !next.Up() || next == leader || w.oneIn(2) {
		next = w.voterBut(leader)
	}
	w.endLease(leader)
	if next != nil {
		next.Forget()
	}
}

// duel has two members campaign at once, while the leader is down and comes back as one who may vote for either.
func (w *World) duel() {
	if leader := w.leader(); leader != nil {
		w.restart(leader.ID())
	}
	clear(w.cut)
	one := w.voterBut(nil)
	if one == nil {
		return
	}
	two := w.voterBut(one)
	w.endLease(nil)
	one.Forget()
	if two != nil && two.Up() {
		two.Forget()
	}
}

// leaveBehind cuts off a follower while entries come; forgetLog makes that a case for a snapshot.
func (w *World) leaveBehind() {
	leader := w.leader()
	if leader == nil {
		return
	}
	if follower := w.voterBut(leader); follower != nil {
		w.isolate(follower.ID())
		for range 6 {
			w.propose(leader, 40)
		}
		w.proposeChange(leader)
	}
}

func (w *World) forgetLog() {
	for _, id := range w.ids {
		if m := w.members[id]; m.Up() {
			m.Settle()
			m.Compact(0)
		}
	}
	clear(w.cut)
}

// handOver has the leader hand over while a change of the configuration is under way.
func (w *World) handOver() {
	leader := w.leader()
	if leader == nil {
		return
	}
	w.proposeChange(leader)
	if next := w.voterBut(leader); next != nil {
		leader.Transfer(next.ID())
	}
}

// plotAgainst may end what the message begins: the voter that gives its vote comes back and is asked again, the leader
// that has just been elected is cut off before anybody hears of it.
func (w *World) plotAgainst(m Message) {
	if !w.plots {
		return
	}
	switch {
	case m.Type == messageVoteReply && !m.Reject && w.oneIn(3):
		w.due = append(w.due, func() { w.restart(m.From) })
	case m.Type == messageAppend && m.Term == w.newestTerm && !w.met.knows(m.Term) && w.oneIn(4):
		w.due = append(w.due, w.depose)
	}
}

// plotBehind may end a leader as a member holds entries of earlier terms from it and none of its own: if they are on a
// majority, they are not committed.
func (w *World) plotBehind(m Message) {
	if !w.plots || m.Type != messageAppendReply || m.Reject || m.Term != w.newestTerm {
		return
	}
	if w.met.holdsOld(m.Index, m.Term) {
		w.due = append(w.due, w.depose)
	}
}

func (w *World) plotAtCommit() {
	if w.plots && w.oneIn(25) {
		w.due = append(w.due, w.depose)
	}
}

func (w *World) restart(id uint64) {
	if m := w.members[id]; m.Up() {
		w.crash(m)
		w.start(m)
	}
}

// voterBut is some voter that is up, but not this one; nil: none.
func (w *World) voterBut(m Member) Member {
	var all []Member
	for _, id := range w.newestConf.Voters {
		if one := w.members[id]; one.Up() && one != m {
			all = append(all, one)
		}
	}
	if len(all) == 0 {
		return nil
	}
	return all[w.random.Intn(len(all))]
}

// endLease: nobody but the leader has heard of it lately. Each may campaign and vote.
func (w *World) endLease(leader Member) {
	for _, id := range w.ids {
		if m := w.members[id]; m != leader && m.Up() && w.newestConf.has(id) {
			m.Tick(electionTicks)
		}
	}
}
