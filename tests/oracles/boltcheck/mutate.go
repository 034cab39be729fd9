package main

import (
	"errors"
	"flag"
	"fmt"
	"math/rand"
	"os"
	"syscall"

	bolt "go.etcd.io/bbolt"
)

// The flags that etcd 3.7 opens its backend with. The 10 GB of mapping keep a growing file from being mapped anew;
// --mmap 0 tests that as well.
func etcdOptions(mmapBytes int, noSync bool) *bolt.Options {
	return &bolt.Options{
		MmapFlags:       syscall.MAP_POPULATE,
		NoFreelistSync:  true,
		FreelistType:    bolt.FreelistMapType,
		InitialMmapSize: mmapBytes,
		NoSync:          noSync,
		NoGrowSync:      noSync,
	}
}

// Every transaction changes every bucket. The first third sweeps over the existing keys, so that each leaf is written
// to at least once; the rest picks regions at random. Damage that Check does not see (a branch key left behind, a page
// that two trees share) shows here as a read that disagrees, a failed commit or a panic.
func mutateCommand(args []string) error {
	flags := flag.NewFlagSet("boltcheck mutate", flag.ContinueOnError)
	seed := flags.Int64("seed", 1, "of the random choices")
	transactions := flags.Int("transactions", 1000, "how many to commit")
	mmapBytes := flags.Int("mmap", 10<<30, "bytes to map from the start; 0: grow as needed")
	syncFile := flags.Bool("sync", false, "fdatasync every commit")
	checks := flags.Int("checks", 4, "how many times to check in between")
	file, err := parse(flags, args)
	if err != nil {
		return err
	}
	if _, err := os.Stat(file); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "boltcheck: mutate %s --seed %d --transactions %d\n", file, *seed, *transactions)

	db, err := bolt.Open(file, 0o600, etcdOptions(*mmapBytes, !*syncFile))
	if err != nil {
		return err
	}
	m := &mutator{db: db, random: rand.New(rand.NewSource(*seed)), transactions: *transactions}
	err = m.run(*checks)
	if closeErr := db.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("after %d transactions: %w", m.committed, err)
	}

	// And once more as the next process would see it.
	found, err := check(file)
	if err != nil {
		return err
	}
	printJSON(found)
	if len(found.Errors) > 0 {
		return errors.New("damaged at the end")
	}
	return nil
}

type mutator struct {
	db           *bolt.DB
	random       *rand.Rand
	transactions int
	committed    int
	data         model
	sweeps       []sweep // beside data

	reader     *bolt.Tx // an old view that is held for a while
	readerSeen string
}

// The keys of a bucket as found at the start, to be touched in order.
type sweep struct {
	keys []string
	at   int
}

// A leaf of 4 KB with etcd's revisions and small values holds some 20 keys: each 4th key meets each leaf.
const sweepStride = 4

func (m *mutator) run(checks int) error {
	err := m.db.View(func(tx *bolt.Tx) (err error) {
		if err = firstError(tx); err != nil {
			return err
		}
		m.data, err = loadModel(tx)
		return err
	})
	if err != nil {
		return err
	}
	for _, bucket := range m.data {
		s := sweep{}
		for i := m.random.Intn(sweepStride); i < len(bucket.keys); i += sweepStride {
			s.keys = append(s.keys, bucket.keys[i])
		}
		m.sweeps = append(m.sweeps, s)
	}
	defer m.closeReader()
	for m.committed < m.transactions {
		if err := m.transaction(); err != nil {
			return err
		}
		m.committed++
		if checks > 0 && m.committed%((m.transactions+checks-1)/checks) == 0 {
			if err := m.checkNow(); err != nil {
				return err
			}
		}
	}
	return m.checkNow()
}

func (m *mutator) checkNow() error {
	return m.db.View(func(tx *bolt.Tx) error {
		if err := firstError(tx); err != nil {
			return err
		}
		for _, bucket := range m.data {
			if err := bucket.compare(tx); err != nil {
				return err
			}
		}
		return nil
	})
}

func firstError(tx *bolt.Tx) error {
	var first error
	for problem := range tx.Check(bolt.WithKVStringer(bolt.HexKVStringer())) { // read to its end: a goroutine feeds it
		if first == nil {
			first = problem
		}
	}
	return first
}

func (m *mutator) transaction() error {
	if err := m.moveReader(); err != nil {
		return err
	}
	if m.random.Intn(16) == 0 {
		if err := m.abandoned(); err != nil {
			return err
		}
	}
	return m.db.Update(func(tx *bolt.Tx) error {
		for i, own := range m.data {
			bucket, err := own.in(tx)
			if err != nil {
				return err
			}
			bucket.FillPercent = []float64{0.1, 0.5, 0.9, 1.0}[m.random.Intn(4)]
			if err := m.sweep(&m.sweeps[i], own, bucket); err != nil {
				return err
			}
			if err := m.region(own, bucket); err != nil {
				return err
			}
		}
		return nil
	})
}

// A transaction that changes and rolls back must leave nothing, in the file and in the freelist.
func (m *mutator) abandoned() error {
	rolledBack := errors.New("rolled back")
	err := m.db.Update(func(tx *bolt.Tx) error {
		for _, own := range m.data {
			bucket, err := own.in(tx)
			if err != nil {
				return err
			}
			own.sortKeys()
			for i := 0; i < 20 && i < len(own.keys); i++ {
				if err := bucket.Delete([]byte(own.keys[m.random.Intn(len(own.keys))])); err != nil {
					return err
				}
				if err := bucket.Put([]byte(newKey(m.random, own.keys)), newValue(m.random, m.db.Info().PageSize)); err != nil {
					return err
				}
			}
		}
		return rolledBack
	})
	if err != rolledBack {
		return err
	}
	return nil
}

func (m *mutator) sweep(s *sweep, own *modelBucket, bucket *bolt.Bucket) error {
	upTo := len(s.keys) * 3 * (m.committed + 1) / m.transactions
	for ; s.at < min(upTo, len(s.keys)); s.at++ {
		key := s.keys[s.at]
		old, known := own.values[key]
		if !known {
			continue
		}
		if m.random.Intn(3) == 0 {
			if err := own.remove(bucket, key); err != nil {
				return err
			}
		} else if err := own.put(bucket, key, randomBytes(m.random, len(old))); err != nil {
			return err
		}
	}
	return nil
}

// Changes a run of neighbouring keys: overwrites, deletes or fills the gaps between them. A bucket with thousands of
// keys is kept at about its size, a tiny one grows until it is no longer inline.
func (m *mutator) region(own *modelBucket, bucket *bolt.Bucket) error {
	own.sortKeys()
	if len(own.keys) == 0 || m.random.Intn(64) == 0 {
		for range 1 + m.random.Intn(50) {
			if err := own.put(bucket, newKey(m.random, own.keys), newValue(m.random, m.db.Info().PageSize)); err != nil {
				return err
			}
		}
		return nil
	}
	first := m.random.Intn(len(own.keys))
	switch m.random.Intn(8) {
	case 0:
		first = 0
	case 1:
		first = len(own.keys) - 1
	}
	count := 1 + m.random.Intn(30)
	if m.random.Intn(10) == 0 {
		count = 1 + m.random.Intn(2000)
	}
	if m.random.Intn(500) == 0 && len(own.keys) < 5000 {
		first, count = 0, len(own.keys) // the whole tree
	}
	run := own.keys[first:min(first+count, len(own.keys))]
	action := m.random.Intn(3)
	for _, key := range run {
		var err error
		switch {
		case action == 0:
			err = own.remove(bucket, key)
		case action == 1 && len(run) <= 100:
			err = own.put(bucket, key+string(randomBytes(m.random, 1+m.random.Intn(3))), newValue(m.random, m.db.Info().PageSize))
		default:
			err = own.put(bucket, key, randomBytes(m.random, m.random.Intn(300)))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Holds an old view over some transactions. What it reads must not change, though the writer frees its pages.
func (m *mutator) moveReader() error {
	if m.reader != nil && m.random.Intn(20) != 0 {
		return nil
	}
	if m.reader != nil {
		now, err := m.readerDigest()
		if err != nil {
			return err
		}
		if now != m.readerSeen {
			return errors.New("an open view changed under its reader")
		}
		m.closeReader()
		return nil
	}
	if m.random.Intn(20) != 0 {
		return nil
	}
	tx, err := m.db.Begin(false)
	if err != nil {
		return err
	}
	m.reader = tx
	m.readerSeen, err = m.readerDigest()
	return err
}

func (m *mutator) readerDigest() (string, error) {
	small := newDigest()
	for _, own := range m.data {
		bucket, err := own.in(m.reader)
		if err != nil {
			return "", err
		}
		cursor := bucket.Cursor()
		steps := 0
		for key, value := cursor.First(); key != nil && steps < 5000; key, value = cursor.Next() {
			addBytes(small, key)
			addBytes(small, value)
			steps++
		}
	}
	return string(small.Sum(nil)), nil
}

func (m *mutator) closeReader() {
	if m.reader != nil {
		_ = m.reader.Rollback()
		m.reader = nil
	}
}
