package main

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"os"
	"strconv"

	bolt "go.etcd.io/bbolt"
)

// What a file holds. The digests cover names, keys and values, not where they lie: two files with the same content
// have the same digest, whoever wrote them.
type report struct {
	File      string         `json:"file"`
	SizeBytes int64          `json:"size_bytes"`
	PageBytes int            `json:"page_bytes"`
	Tx        int            `json:"tx"`
	FreePages int            `json:"free_pages"`
	Buckets   []bucketReport `json:"buckets"`
	Digest    string         `json:"digest"`
	Errors    []string       `json:"errors"`
}

type bucketReport struct {
	Name       string `json:"name"` // quoted as in Go where it is not plain text; nested ones as "outer"/"inner"
	Keys       int    `json:"keys"`
	KeyBytes   int64  `json:"key_bytes"`
	ValueBytes int64  `json:"value_bytes"`
	Sequence   uint64 `json:"sequence,omitempty"`
	Inline     bool   `json:"inline,omitempty"`
	Digest     string `json:"digest"`
}

const errorsMax = 100 // one broken page makes thousands

func checkFiles(files []string) error {
	if len(files) == 0 {
		return errUsage
	}
	damaged := 0
	for _, file := range files {
		found, err := check(file)
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		printJSON(found)
		if len(found.Errors) > 0 {
			damaged++
		}
	}
	if damaged > 0 {
		return fmt.Errorf("%d of %d files are damaged", damaged, len(files))
	}
	return nil
}

func check(file string) (*report, error) {
	db, err := bolt.Open(file, 0o600, &bolt.Options{
		ReadOnly:        true,
		PreLoadFreelist: true,
		FreelistType:    bolt.FreelistMapType,
	})
	if err != nil {
		return nil, err
	}
	defer db.Close()
	return checkOpen(db)
}

func checkOpen(db *bolt.DB) (*report, error) {
	found := &report{File: db.Path(), PageBytes: db.Info().PageSize, Errors: []string{}}
	stat, err := os.Stat(db.Path())
	if err != nil {
		return nil, err
	}
	found.SizeBytes = stat.Size()
	err = db.View(func(tx *bolt.Tx) error {
		found.Tx = tx.ID()
		for problem := range tx.Check(bolt.WithKVStringer(bolt.HexKVStringer())) {
			if len(found.Errors) < errorsMax {
				found.Errors = append(found.Errors, problem.Error())
			}
		}
		if len(found.Errors) > 0 {
			return nil // a walk over a broken tree says nothing more
		}
		total := sha256.New()
		if err := describe(tx.Cursor().Bucket(), "", total, &found.Buckets); err != nil {
			return err
		}
		found.Digest = hex.EncodeToString(total.Sum(nil))
		return nil
	})
	found.FreePages = db.Stats().FreePageN + db.Stats().PendingPageN
	return found, err
}

// Adds the buckets inside `parent` in their order, each before the ones it holds.
func describe(parent *bolt.Bucket, prefix string, total hash.Hash, out *[]bucketReport) error {
	return parent.ForEachBucket(func(name []byte) error {
		bucket := parent.Bucket(name)
		entry := bucketReport{
			Name:     prefix + quoteName(name),
			Sequence: bucket.Sequence(),
			Inline:   bucket.Root() == 0,
		}
		digest := sha256.New()
		err := bucket.ForEach(func(key, value []byte) error {
			if value == nil {
				return nil // a nested bucket
			}
			entry.Keys++
			entry.KeyBytes += int64(len(key))
			entry.ValueBytes += int64(len(value))
			addBytes(digest, key)
			addBytes(digest, value)
			// Walking and seeking use the branch pages differently: both must find the key.
			if got := bucket.Get(key); string(got) != string(value) {
				return fmt.Errorf("bucket %s: key %x is met on the walk, but not found", entry.Name, key)
			}
			return nil
		})
		if err != nil {
			return err
		}
		sum := digest.Sum(nil)
		entry.Digest = hex.EncodeToString(sum[:8])
		addBytes(total, []byte(entry.Name))
		addBytes(total, sum)
		*out = append(*out, entry)
		return describe(bucket, entry.Name+"/", total, out)
	})
}

func quoteName(name []byte) string {
	quoted := strconv.Quote(string(name))
	if quoted == `"`+string(name)+`"` {
		return string(name)
	}
	return quoted
}

func newDigest() hash.Hash { return sha256.New() }

func addBytes(digest hash.Hash, bytes []byte) {
	var length [8]byte
	binary.LittleEndian.PutUint64(length[:], uint64(len(bytes)))
	digest.Write(length[:])
	digest.Write(bytes)
}
