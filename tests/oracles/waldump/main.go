// waldump reads a write-ahead log and snapshot files with etcd's own decoder and prints what it found as JSON.
//
//	waldump [flags] DIR      DIR: a data directory, or the wal directory itself
//
// Nothing is changed unless --write is given: then the log is opened as a starting etcd would (locks, strict tail).
// Exit: 0 readable, 1 not, 64 usage. What could be read is printed in both cases.
package main

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"sort"
	"strings"

	"go.uber.org/zap"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/server/v3/etcdserver/api/snap"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/etcd/server/v3/storage/wal/walpb"
	"go.etcd.io/raft/v3/raftpb"
)

type report struct {
	Segments  []segment       `json:"segments"`
	Start     snapshot        `json:"start"` // where reading began
	Snapshots []snapshot      `json:"wal_snapshots"`
	Files     []snapshotFile  `json:"snap_files"`
	NodeID    string          `json:"node_id"`
	ClusterID string          `json:"cluster_id"`
	HardState json.RawMessage `json:"hard_state"`
	Verified  json.RawMessage `json:"verified_hard_state,omitempty"` // wal.Verify, which reads on its own
	Entries   entries         `json:"entries"`
	Decoded   []entry         `json:"decoded,omitempty"`
	Errors    []string        `json:"errors"`
}

type segment struct {
	Name  string `json:"name"`
	Bytes int64  `json:"bytes"`
}

type snapshot struct {
	Index     uint64          `json:"index"`
	Term      uint64          `json:"term"`
	ConfState json.RawMessage `json:"conf_state,omitempty"`
}

type snapshotFile struct {
	snapshot
	Name      string `json:"name"`
	DataBytes int    `json:"data_bytes"`
	Digest    string `json:"digest"`
}

type entries struct {
	Count      int            `json:"count"`
	FirstIndex uint64         `json:"first_index"`
	LastIndex  uint64         `json:"last_index"`
	LastTerm   uint64         `json:"last_term"`
	DataBytes  int64          `json:"data_bytes"`
	Types      map[string]int `json:"types"`  // what the entries carry
	Digest     string         `json:"digest"` // of term, index, type and data, in order
}

type entry struct {
	Index uint64          `json:"index"`
	Term  uint64          `json:"term"`
	Kind  string          `json:"kind"`
	Value json.RawMessage `json:"value,omitempty"`
}

func main() {
	os.Exit(run())
}

func run() (code int) {
	from := flag.String("from", "newest", "newest: the newest snapshot on disk that the log knows, as etcd starts | "+
		"oldest: the log's first record | INDEX:TERM")
	decode := flag.Bool("entries", false, "print every entry, decoded")
	write := flag.Bool("write", false, "open for writing, as a starting etcd does: a torn tail is an error unless --repair")
	repair := flag.Bool("repair", false, "with --write: repair a torn tail first, as etcd does")
	flag.Parse()
	if flag.NArg() != 1 {
		flag.Usage()
		return 64
	}
	dir := flag.Arg(0)
	walDir, snapDir := filepath.Join(dir, "member", "wal"), filepath.Join(dir, "member", "snap")
	if _, err := os.Stat(walDir); err != nil {
		walDir, snapDir = dir, ""
	}

	out := &report{Segments: []segment{}, Snapshots: []snapshot{}, Files: []snapshotFile{}, Errors: []string{}}
	defer func() { // etcd's decoder panics on what it takes for a bug
		if fault := recover(); fault != nil {
			out.fail("panic: %v", fault)
			fmt.Fprintf(os.Stderr, "%s", debug.Stack())
		}
		printer := json.NewEncoder(os.Stdout)
		printer.SetIndent("", "  ")
		printer.SetEscapeHTML(false)
		_ = printer.Encode(out)
		if len(out.Errors) > 0 {
			code = 1
		}
	}()
	out.listSegments(walDir)
	if *write && *repair && !wal.Repair(zap.NewNop(), walDir) {
		out.fail("wal.Repair refuses")
	}
	start, err := out.start(walDir, snapDir, *from)
	if err != nil {
		out.fail("%v", err)
		return 1
	}
	if verified, err := wal.Verify(zap.NewNop(), walDir, start); err != nil {
		out.fail("wal.Verify: %v", err)
	} else {
		out.Verified = toJSON(verified)
	}
	open := wal.OpenForRead
	if *write {
		open = wal.Open
	}
	log, err := open(zap.NewNop(), walDir, start)
	if err != nil {
		out.fail("wal.Open: %v", err)
		return 1
	}
	defer log.Close()
	metadata, state, ents, err := log.ReadAll()
	if err != nil {
		out.fail("wal.ReadAll: %v", err)
	}
	out.describe(metadata, state, ents, *decode)
	return 0
}

func (r *report) fail(format string, args ...any) {
	r.Errors = append(r.Errors, fmt.Sprintf(format, args...))
}

func (r *report) listSegments(dir string) {
	names, _ := filepath.Glob(filepath.Join(dir, "*"))
	sort.Strings(names)
	for _, name := range names {
		if stat, err := os.Stat(name); err == nil && stat.Mode().IsRegular() {
			r.Segments = append(r.Segments, segment{filepath.Base(name), stat.Size()})
		}
	}
}

// Reads the snapshot files and picks the record to begin at.
func (r *report) start(walDir, snapDir, from string) (*walpb.Snapshot, error) {
	known, err := wal.ValidSnapshotEntries(zap.NewNop(), walDir)
	if err != nil {
		r.fail("wal.ValidSnapshotEntries: %v", err)
	}
	for _, s := range known {
		r.Snapshots = append(r.Snapshots, snapshot{s.GetIndex(), s.GetTerm(), toJSON(s.GetConfState())})
	}
	if snapDir != "" {
		names, _ := filepath.Glob(filepath.Join(snapDir, "*.snap"))
		sort.Strings(names)
		for _, name := range names {
			read, err := snap.Read(zap.NewNop(), name)
			if err != nil {
				r.fail("%s: %v", filepath.Base(name), err)
				continue
			}
			meta := read.GetMetadata()
			sum := sha256.Sum256(read.Data)
			r.Files = append(r.Files, snapshotFile{
				snapshot:  snapshot{meta.GetIndex(), meta.GetTerm(), toJSON(meta.GetConfState())},
				Name:      filepath.Base(name),
				DataBytes: len(read.Data),
				Digest:    hex.EncodeToString(sum[:8]),
			})
		}
	}

	switch from {
	case "oldest":
		if len(known) > 0 {
			r.Start = snapshot{known[0].GetIndex(), known[0].GetTerm(), nil}
		}
	case "newest":
		for _, file := range r.Files {
			for _, s := range known {
				if s.GetIndex() == file.Index && s.GetTerm() == file.Term && file.Index >= r.Start.Index {
					r.Start = snapshot{file.Index, file.Term, nil}
				}
			}
		}
	default:
		if _, err := fmt.Sscanf(strings.TrimSpace(from), "%d:%d", &r.Start.Index, &r.Start.Term); err != nil {
			return nil, errors.New("--from: newest, oldest or INDEX:TERM")
		}
	}
	return &walpb.Snapshot{Index: &r.Start.Index, Term: &r.Start.Term}, nil
}

func (r *report) describe(metadata []byte, state *raftpb.HardState, ents []*raftpb.Entry, decode bool) {
	var head pb.Metadata
	if err := proto.Unmarshal(metadata, &head); err != nil {
		r.fail("metadata: %v", err)
	}
	r.NodeID, r.ClusterID = fmt.Sprintf("%x", head.GetNodeID()), fmt.Sprintf("%x", head.GetClusterID())
	r.HardState = toJSON(state)
	r.Entries.Types = map[string]int{}
	r.Entries.Count = len(ents)
	digest := sha256.New()
	for i, ent := range ents {
		if i == 0 {
			r.Entries.FirstIndex = ent.GetIndex()
		} else if ent.GetIndex() != r.Entries.LastIndex+1 || ent.GetTerm() < r.Entries.LastTerm {
			r.fail("entry %d of term %d follows entry %d of term %d", ent.GetIndex(), ent.GetTerm(), r.Entries.LastIndex,
				r.Entries.LastTerm)
		}
		r.Entries.LastIndex, r.Entries.LastTerm = ent.GetIndex(), ent.GetTerm()
		r.Entries.DataBytes += int64(len(ent.GetData()))
		for _, number := range []uint64{ent.GetTerm(), ent.GetIndex(), uint64(ent.GetType()), uint64(len(ent.GetData()))} {
			var bytes [8]byte
			binary.LittleEndian.PutUint64(bytes[:], number)
			digest.Write(bytes[:])
		}
		digest.Write(ent.GetData())
		kind, value, err := decodeEntry(ent)
		if err != nil {
			r.fail("entry %d: %v", ent.GetIndex(), err)
		}
		r.Entries.Types[kind]++
		if decode {
			r.Decoded = append(r.Decoded, entry{ent.GetIndex(), ent.GetTerm(), kind, toJSON(value)})
		}
	}
	r.Entries.Digest = hex.EncodeToString(digest.Sum(nil))
}

// What an entry asks for: the name of the field that InternalRaftRequest has set, or what else it is.
func decodeEntry(ent *raftpb.Entry) (string, proto.Message, error) {
	switch ent.GetType() {
	case raftpb.EntryConfChange:
		var change raftpb.ConfChange
		err := proto.Unmarshal(ent.GetData(), &change)
		return change.GetType().String(), &change, err
	case raftpb.EntryConfChangeV2:
		var change raftpb.ConfChangeV2
		err := proto.Unmarshal(ent.GetData(), &change)
		return "ConfChangeV2", &change, err
	}
	if len(ent.GetData()) == 0 {
		return "empty", nil, nil
	}
	var request pb.InternalRaftRequest
	if err := proto.Unmarshal(ent.GetData(), &request); err != nil {
		// Up to 3.4 a member's attributes are written as a bare v2 request: ID, "PUT", path as fields 1, 2 and 3.
		if number, kind, size := protowire.ConsumeTag(ent.GetData()); size > 0 && number == 1 && kind == protowire.VarintType {
			return "v2", nil, nil
		}
		return "undecodable", nil, err
	}
	kind := "none"
	fields := request.ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		if request.ProtoReflect().Has(field) && field.Name() != "header" && field.Name() != "ID" {
			kind = string(field.Name())
		}
	}
	if len(request.ProtoReflect().GetUnknown()) > 0 {
		kind = "v2" // field 2, which only etcd up to 3.6 knows
	}
	return kind, &request, nil
}

func toJSON(message proto.Message) json.RawMessage {
	if message == nil || !message.ProtoReflect().IsValid() {
		return nil
	}
	out, err := protojson.Marshal(message)
	if err != nil {
		return json.RawMessage(fmt.Sprintf("%q", err))
	}
	return out
}
