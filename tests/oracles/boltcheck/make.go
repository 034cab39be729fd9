package main

import (
	"errors"
	"flag"
	"fmt"
	"math/rand"
	"os"

	bolt "go.etcd.io/bbolt"
)

// Makes a file that a reader of the format must cope with. Whatever is not given by a flag is chosen by the seed.
func makeCommand(args []string) error {
	flags := flag.NewFlagSet("boltcheck make", flag.ContinueOnError)
	seed := flags.Int64("seed", 1, "of the random choices")
	pageBytes := flags.Int("page-size", 0, "1024 to 65536, a power of two; 0: random")
	freelist := flags.String("freelist", "", "synced | unsynced; empty: random")
	shape := flags.String("buckets", "mixed", "plain: none so small that it lies inline | inline | nested | mixed | etcd")
	keys := flags.Int("keys", 0, "in all; 0: random up to 20000")
	file, err := parse(flags, args)
	if err != nil {
		return err
	}
	if _, err := os.Stat(file); err == nil {
		return fmt.Errorf("%s exists", file)
	}
	random := rand.New(rand.NewSource(*seed))
	if chosen := 1 << (10 + random.Intn(7)); *pageBytes == 0 {
		*pageBytes = chosen
	}
	if chosen := random.Intn(20001); *keys == 0 {
		*keys = chosen
	}
	unsynced := random.Intn(2) == 0
	switch *freelist {
	case "synced":
		unsynced = false
	case "unsynced":
		unsynced = true
	case "":
	default:
		return errUsage
	}
	kind := bolt.FreelistMapType
	if random.Intn(2) == 0 {
		kind = bolt.FreelistArrayType
	}
	db, err := bolt.Open(file, 0o600, &bolt.Options{
		PageSize: *pageBytes, NoFreelistSync: unsynced, FreelistType: kind, NoSync: true, NoGrowSync: true,
	})
	if err != nil {
		return err
	}
	maker := &maker{db: db, random: random, pageBytes: *pageBytes}
	err = maker.fill(*shape, *keys)
	if err == nil {
		err = db.Sync()
	}
	if closeErr := db.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	found, err := check(file)
	if err != nil {
		return err
	}
	printJSON(found)
	if len(found.Errors) > 0 {
		return errors.New("the file made is damaged")
	}
	return nil
}

type maker struct {
	db        *bolt.DB
	random    *rand.Rand
	pageBytes int
}

type wanted struct {
	path []string
	keys int
}

func (m *maker) fill(shape string, keys int) error {
	plan, err := m.plan(shape, keys)
	if err != nil {
		return err
	}
	var existing = make([][]string, len(plan))
	for round := range 4 { // deletions and further insertions leave free pages and half-empty ones behind
		for i, bucket := range plan {
			if err := m.fillBucket(bucket, &existing[i], shape == "etcd", round); err != nil {
				return err
			}
		}
	}
	return nil
}

func (m *maker) plan(shape string, keys int) ([]wanted, error) {
	name := func(i int) string { return fmt.Sprintf("bucket-%02d", i) }
	var plan []wanted
	switch shape {
	case "plain":
		for i := range 1 + m.random.Intn(4) {
			plan = append(plan, wanted{[]string{name(i)}, max(keys, m.pageBytes)})
		}
	case "inline":
		for i := range 1 + m.random.Intn(30) {
			plan = append(plan, wanted{[]string{name(i)}, m.random.Intn(3)})
		}
	case "nested":
		for i := range 1 + m.random.Intn(4) {
			plan = append(plan, wanted{[]string{name(i)}, m.random.Intn(1 + keys/4)})
			plan = append(plan, wanted{[]string{name(i), "inner"}, m.random.Intn(1 + keys/4)})
			plan = append(plan, wanted{[]string{name(i), "inner", "innermost"}, m.random.Intn(4)})
		}
	case "mixed":
		for i := range 1 + m.random.Intn(12) {
			size := m.random.Intn(3)
			if m.random.Intn(2) == 0 {
				size = m.random.Intn(1 + keys/4)
			}
			plan = append(plan, wanted{[]string{name(i)}, size})
		}
	case "etcd":
		for _, bucket := range []string{"alarm", "auth", "authRoles", "authUsers", "cluster", "lease", "members",
			"members_removed", "meta"} {
			plan = append(plan, wanted{[]string{bucket}, m.random.Intn(4)})
		}
		plan = append(plan, wanted{[]string{"key"}, keys})
	default:
		return nil, errUsage
	}
	return plan, nil
}

func (m *maker) fillBucket(want wanted, existing *[]string, revisions bool, round int) error {
	left := want.keys
	if round%2 == 1 { // taking away
		left /= 2
	}
	for first := true; first || left > 0; first = false {
		batch := min(left, 1+m.random.Intn(3000))
		left -= batch
		err := m.db.Update(func(tx *bolt.Tx) error {
			bucket, err := tx.CreateBucketIfNotExists([]byte(want.path[0]))
			for _, name := range want.path[1:] {
				if err != nil {
					return err
				}
				bucket, err = bucket.CreateBucketIfNotExists([]byte(name))
			}
			if err != nil {
				return err
			}
			bucket.FillPercent = []float64{0.3, 0.5, 0.9, 1.0}[m.random.Intn(4)]
			if round == 0 && first && m.random.Intn(3) == 0 {
				if err := bucket.SetSequence(uint64(m.random.Intn(1000))); err != nil {
					return err
				}
			}
			for range batch {
				if round%2 == 1 && len(*existing) > 0 {
					last := len(*existing) - 1
					at := m.random.Intn(last + 1)
					if err := bucket.Delete([]byte((*existing)[at])); err != nil {
						return err
					}
					(*existing)[at] = (*existing)[last]
					*existing = (*existing)[:last]
					continue
				}
				key := newKey(m.random, *existing)
				if revisions && want.path[0] == "key" {
					key = fmt.Sprintf("%08d_%08d", m.random.Intn(1<<26), 0)
				}
				if bucket.Get([]byte(key)) == nil {
					*existing = append(*existing, key)
				}
				if err := bucket.Put([]byte(key), newValue(m.random, m.pageBytes)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
