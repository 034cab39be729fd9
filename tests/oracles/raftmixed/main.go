// raftmixed: one faulty world in which etcd's raft library and Cairn's raft core are members of one cluster.
//
//	raftmixed --node build/release/tests/cairn_raft_node --first 1 --lives 1000
//
// Loss, duplication, reordering, crashes with some writes done, partitions (one-way ones too), configuration changes,
// compaction, snapshots, transfers, reads; then all is healed. Checked: one leader a term, everybody applies the same
// entries, no read is stale, no answer to no read, and agreement in the end. A life is a seed: --first N --lives 1
// --trace repeats it and says what happens.
//
// It is built once for each version of etcd's raft (etcd34.mod, ..., etcd37 is go.mod; tests/oracles/build does it).
// Cairn's members are in a program of their own, tests/raftmixed.
package main

import (
	"flag"
	"fmt"
	"math/rand"
	"os"
	"time"
)

const founders, everybody = 3, 5

type options struct {
	kinds string
	steps int
	trace bool
}

// live returns "" when the life of this seed is sound.
func live(p *program, seed int64, o options) (counts Counts, broken string) {
	w := &World{random: rand.New(rand.NewSource(seed)), tracing: o.trace, members: map[uint64]Member{},
		cut: map[link]bool{}, leaders: map[uint64]uint64{}, entries: map[uint64]string{}, reads: map[string]uint64{},
		newestCommit: 1, newestConf: Conf{voters: []uint64{1, 2, 3}}, lossOneIn: 15, crashOneIn: 300,
		changes: seed%3 != 0}
	if seed%7 == 0 {
		w.lossOneIn = 4
	}
	if seed%2 == 0 {
		w.crashOneIn = 1500
	}
	defer func() {
		if cause := recover(); cause != nil {
			text, expected := cause.(violation)
			if !expected {
				panic(cause)
			}
			counts, broken = w.counts, string(text)+"\n"+w.describe()
		}
	}()
	p.call("life")
	preVote := seed%4 != 3
	for id := uint64(1); id <= everybody; id++ {
		w.ids = append(w.ids, id)
		if o.kinds == "cairn" || (o.kinds == "mix" && w.oneIn(2)) {
			w.members[id] = newCairn(w, p, id, preVote)
		} else {
			w.members[id] = newEtcd(w, id, preVote)
		}
		if id <= founders {
			w.members[id].Found(w.newestConf)
		}
	}
	for _, id := range w.ids {
		w.members[id].Start()
	}
	for range o.steps {
		w.step()
	}
	w.healAndConverge()
	return w.counts, ""
}

func main() {
	const brokenMax = 5
	var o options
	node := flag.String("node", "", "path of cairn_raft_node")
	first := flag.Int64("first", 1, "seed of the first life")
	lives := flag.Int64("lives", 100, "number of lives")
	flag.StringVar(&o.kinds, "kinds", "mix", "members: mix, cairn, etcd")
	flag.IntVar(&o.steps, "steps", 3000, "events of a life before it is healed")
	flag.BoolVar(&o.trace, "trace", false, "print all that happens")
	flag.Parse()

	began := time.Now()
	var sum Counts
	broken := 0
	for seed := *first; seed < *first+*lives && broken < brokenMax; seed++ {
		p, err := startProgram(*node)
		if err != nil {
			fmt.Fprintln(os.Stderr, "raftmixed:", err)
			os.Exit(2)
		}
		counts, text := live(p, seed, o)
		p.stop()
		sum.add(counts)
		if text != "" {
			broken++
			fmt.Printf("seed %d: %s\n", seed, text)
		}
	}
	fmt.Printf("%s: %d lives, %d broken; %d leaders, %d entries, %d reads, %d configurations, %d snapshots, %d crashes; %s\n",
		libraryName, *lives, broken, sum.leaders, sum.applied, sum.reads, sum.configurations, sum.snapshots, sum.crashes,
		time.Since(began).Round(time.Second))
	if broken > 0 {
		os.Exit(1)
	}
	// The lives were lives.
	for _, count := range []int{sum.leaders, sum.applied, sum.reads, sum.snapshots, sum.crashes} {
		if int64(count) < *lives {
			fmt.Println("raftmixed: too little happened")
			os.Exit(1)
		}
	}
}
