package main

import (
	"bytes"
	"fmt"
	"math/rand"
	"sort"

	bolt "go.etcd.io/bbolt"
)

// The dumb twin of a file: every bucket as a map, beside a sorted list of its keys to sample regions from.
type modelBucket struct {
	path   []string
	values map[string][]byte
	keys   []string // sorted; rebuilt by sortKeys()
	stale  bool
}

type model []*modelBucket

func loadModel(tx *bolt.Tx) (model, error) {
	var all model
	var walk func(parent *bolt.Bucket, path []string) error
	walk = func(parent *bolt.Bucket, path []string) error {
		return parent.ForEachBucket(func(name []byte) error {
			bucket := parent.Bucket(name)
			own := &modelBucket{path: append(append([]string{}, path...), string(name)), values: map[string][]byte{}}
			err := bucket.ForEach(func(key, value []byte) error {
				if value != nil {
					own.values[string(key)] = bytes.Clone(value)
					own.keys = append(own.keys, string(key))
				}
				return nil
			})
			if err != nil {
				return err
			}
			if !sort.StringsAreSorted(own.keys) {
				return fmt.Errorf("bucket %q: keys are not in order", own.path)
			}
			all = append(all, own)
			return walk(bucket, own.path)
		})
	}
	return all, walk(tx.Cursor().Bucket(), nil)
}

func (m *modelBucket) in(tx *bolt.Tx) (*bolt.Bucket, error) {
	bucket := tx.Bucket([]byte(m.path[0]))
	for _, name := range m.path[1:] {
		if bucket == nil {
			break
		}
		bucket = bucket.Bucket([]byte(name))
	}
	if bucket == nil {
		return nil, fmt.Errorf("bucket %q is gone", m.path)
	}
	return bucket, nil
}

func (m *modelBucket) put(bucket *bolt.Bucket, key string, value []byte) error {
	if _, known := m.values[key]; !known {
		m.stale = true
	}
	m.values[key] = value
	return bucket.Put([]byte(key), value)
}

func (m *modelBucket) remove(bucket *bolt.Bucket, key string) error {
	if got := bucket.Get([]byte(key)); !bytes.Equal(got, m.values[key]) || (got == nil) != (m.values[key] == nil) {
		return fmt.Errorf("bucket %q: key %x reads %d bytes, not the %d written", m.path, key, len(got), len(m.values[key]))
	}
	delete(m.values, key)
	m.stale = true
	return bucket.Delete([]byte(key))
}

func (m *modelBucket) sortKeys() {
	if !m.stale {
		return
	}
	m.keys = m.keys[:0]
	for key := range m.values {
		m.keys = append(m.keys, key)
	}
	sort.Strings(m.keys)
	m.stale = false
}

// compare reads the whole bucket both ways: by walking and by seeking each key.
func (m *modelBucket) compare(tx *bolt.Tx) error {
	bucket, err := m.in(tx)
	if err != nil {
		return err
	}
	m.sortKeys()
	at := 0
	err = bucket.ForEach(func(key, value []byte) error {
		if value == nil {
			return nil
		}
		if at == len(m.keys) || m.keys[at] != string(key) {
			return fmt.Errorf("bucket %q: key %x at place %d is not in the model", m.path, key, at)
		}
		if !bytes.Equal(value, m.values[m.keys[at]]) {
			return fmt.Errorf("bucket %q: key %x holds another value", m.path, key)
		}
		if !bytes.Equal(bucket.Get(key), value) {
			return fmt.Errorf("bucket %q: key %x is met on the walk, but not found", m.path, key)
		}
		at++
		return nil
	})
	if err == nil && at != len(m.keys) {
		err = fmt.Errorf("bucket %q: %d keys of %d", m.path, at, len(m.keys))
	}
	return err
}

// A key that sorts directly behind `key`, or anywhere.
func newKey(random *rand.Rand, keys []string) string {
	switch {
	case len(keys) == 0 || random.Intn(8) == 0:
		return string(randomBytes(random, 1+random.Intn(40)))
	case random.Intn(4) == 0: // the same length, as revisions have
		key := []byte(keys[random.Intn(len(keys))])
		key[len(key)-1-random.Intn(min(len(key), 9))] ^= byte(1 + random.Intn(255))
		return string(key)
	default:
		return keys[random.Intn(len(keys))] + string(randomBytes(random, 1+random.Intn(6)))
	}
}

// Mostly small values, sometimes some pages long.
func newValue(random *rand.Rand, pageBytes int) []byte {
	switch {
	case random.Intn(20*max(1, pageBytes/4096)) == 0:
		return randomBytes(random, random.Intn(4*pageBytes))
	case random.Intn(20) == 0:
		return []byte{}
	default:
		return randomBytes(random, random.Intn(400))
	}
}

func randomBytes(random *rand.Rand, size int) []byte {
	out := make([]byte, size)
	random.Read(out)
	return out
}
