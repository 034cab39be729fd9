package main

import (
	"bytes"
	"context"
	"fmt"
	"os"

	bolt "go.etcd.io/bbolt"
	"google.golang.org/protobuf/proto"

	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// authTables makes a step that compares what both sides have stored about users and roles, byte for byte: no hash covers
// it. Hashes of passwords have a random salt, and of them it is compared only whether they are there.
func (g *gen) authTables() step {
	user := g.user
	return step{
		rpc: "auth tables",
		do: func(ctx context.Context, t *target) *outcome {
			out := t.serverStream(ctx, call{path: maintenance + "Snapshot", user: user, answer: &pb.SnapshotResponse{}}, nil)
			if out.code != 0 || out.broken != "" || len(out.messages) == 0 {
				return out
			}
			tables, err := readAuthTables(out.messages)
			if err != nil {
				return &outcome{broken: err.Error()}
			}
			return &outcome{extra: tables}
		},
		say: func() string { return "of a snapshot" + as(user) },
	}
}

func readAuthTables(messages []proto.Message) (map[string]string, error) {
	file, err := os.CreateTemp("", "cairn-diff-tables-")
	if err != nil {
		return nil, err
	}
	defer os.Remove(file.Name())
	defer file.Close()
	for _, message := range messages[:len(messages)-1] { // the last one is the checksum
		if _, err := file.Write(message.(*pb.SnapshotResponse).Blob); err != nil {
			return nil, err
		}
	}
	db, err := bolt.Open(file.Name(), 0o600, &bolt.Options{ReadOnly: true})
	if err != nil {
		return nil, err
	}
	defer db.Close()
	tables := map[string]string{}
	err = db.View(func(tx *bolt.Tx) error {
		for _, name := range []string{"auth", "authUsers", "authRoles"} {
			bucket := tx.Bucket([]byte(name))
			if bucket == nil {
				return fmt.Errorf("no bucket %s", name)
			}
			err := bucket.ForEach(func(key, value []byte) error {
				if name == "authUsers" {
					value = withoutHash(value)
				}
				tables[fmt.Sprintf("%s %q", name, key)] = fmt.Sprintf("%x", value)
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	return tables, err
}

// The stored user with zeros for bcrypt's text, which is 60 bytes long, and without the fields that are not known: etcd
// stores those of the request, too.
func withoutHash(stored []byte) []byte {
	var whole, user authpb.User
	if proto.Unmarshal(stored, &whole) != nil || (proto.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(stored, &user) != nil {
		return stored
	}
	if proto.Size(&user) != proto.Size(&whole) {
		stored, _ = proto.Marshal(&user)
	}
	if len(user.Password) != 60 || !bytes.HasPrefix(user.Password, []byte("$2a$")) {
		return stored
	}
	return bytes.Replace(stored, user.Password, make([]byte, len(user.Password)), 1)
}
