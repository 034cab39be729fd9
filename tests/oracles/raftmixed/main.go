// raftmixed: one faulty world in which etcd's raft library and Cairn's raft core are members of one cluster.
//
//	raftmixed --node build/release/tests/cairn_raft_node --first 1 --lives 1000
//
// Loss, duplication, reordering, crashes with some writes done, partitions (one-way ones too), configuration changes,
// compaction, snapshots, transfers, reads, and plots (trouble.go); then all is healed. Checked: one leader a term,
// everybody applies the same entries and has the same configuration behind each, no read is stale, no answer to no read,
// and agreement in the end. A life is a seed: --first N --lives 1 --trace repeats it and says what happens.
//
//	raftmixed --node build/dev/tests/cairn_raft_node_mutants --hunt --lives 1000
//
// switches on one deliberate bug of Cairn's core after the other; each must be found.
//
// It is built once for each version of etcd's raft (etcd34.mod, ..., etcd37 is go.mod; tests/oracles/build does it).
// Cairn's members are in a program of their own, tests/raftmixed.
package main

import (
	"flag"
	"fmt"
	"os"
	"time"
)

const founders, everybody = 3, 5

const kindsMixed = "mix"

// Of the lives of a run; fewer need not meet everything.
const livesToMeetAll = 100

type options struct {
	node   string
	mutant string
	kinds  string
	steps  int
	trace  bool
}

// life is what came of one.
type life struct {
	met    Situations
	broken string // "": sound
	end    string // the state of all members
	course string // the same whenever the seed is
}

func live(seed int64, o options) (l life) {
	p, err := startProgram(o.node, o.mutant)
	if err != nil {
		fmt.Fprintln(os.Stderr, "raftmixed:", err)
		os.Exit(2)
	}
	defer p.stop()
	w := newWorld(seed, o.trace)
	defer func() {
		if cause := recover(); cause != nil {
			text, expected := cause.(violation)
			if !expected {
				panic(cause)
			}
			l = life{w.met, string(text), w.describe(), w.course()}
		}
	}()
	preVote := seed%4 != 3
	for id := uint64(1); id <= everybody; id++ {
		w.ids = append(w.ids, id)
		if o.kinds == "cairn" || (o.kinds == kindsMixed && w.oneIn(2)) {
			w.members[id] = newCairn(w, p, id, preVote)
		} else {
			w.members[id] = newEtcd(w, id, preVote)
		}
		if id <= founders {
			w.members[id].Found(w.newestConf)
		}
	}
	for _, id := range w.ids {
		w.start(w.members[id])
	}
	for range o.steps {
		w.step()
	}
	w.healAndConverge()
	return life{w.met, "", w.describe(), w.course()}
}

// hunt looks for a life that ends by the mutant's bug.
func hunt(first, lives int64, o options) bool {
	began := time.Now()
	for seed := first; seed < first+lives; seed++ {
		if l := live(seed, o); l.broken != "" {
			fmt.Printf("%-34s found in life %d, %s: %s\n", o.mutant, seed, time.Since(began).Round(time.Second/10), l.broken)
			return true
		}
	}
	fmt.Printf("%-34s NOT FOUND in %d lives, %s\n", o.mutant, lives, time.Since(began).Round(time.Second))
	return false
}

func huntAll(first, lives int64, o options) bool {
	mutants := []string{o.mutant}
	if o.mutant == "" {
		mutants = []string{"raft.commit_older_term_by_count", "raft.conf_change_counted_early",
			"raft.read_without_quorum", "raft.vote_forgotten_on_restart"}
	}
	found := true
	for _, o.mutant = range mutants {
		found = hunt(first, lives, o) && found
	}
	return found
}

// liveAll is whether all lives were sound, and lives.
func liveAll(first, lives int64, o options) bool {
	const brokenMax = 5
	began := time.Now()
	sum := newSituations()
	broken, lived := 0, int64(0)
	for ; lived < lives && broken < brokenMax; lived++ {
		l := live(first+lived, o)
		sum.add(l.met)
		if l.broken != "" {
			broken++
			fmt.Printf("seed %d: %s\n%s", first+lived, l.broken, l.end)
		}
		if lived == 0 && live(first, o).course != l.course {
			broken++
			fmt.Printf("seed %d: two lives differ\n", first)
		}
	}
	metAll := sum.print(o.kinds)
	fmt.Printf("%s: %d lives, %d broken, %s\n", libraryName, lived, broken, time.Since(began).Round(time.Second))
	if lives >= livesToMeetAll && !metAll {
		fmt.Println("raftmixed: something was never met")
		return false
	}
	return broken == 0
}

func main() {
	var o options
	flag.StringVar(&o.node, "node", "", "path of cairn_raft_node")
	first := flag.Int64("first", 1, "seed of the first life")
	lives := flag.Int64("lives", 100, "number of lives")
	hunts := flag.Bool("hunt", false, "look for the mutant, or for each; the node is cairn_raft_node_mutants")
	flag.StringVar(&o.mutant, "mutant", "", "switch this one on; the node is cairn_raft_node_mutants")
	flag.StringVar(&o.kinds, "kinds", kindsMixed, "members: mix, cairn, etcd")
	flag.IntVar(&o.steps, "steps", 3000, "events of a life before it is healed")
	flag.BoolVar(&o.trace, "trace", false, "print all that happens")
	flag.Parse()

	lived := liveAll
	if *hunts {
		lived = huntAll
	}
	if !lived(*first, *lives, o) {
		os.Exit(1)
	}
}
