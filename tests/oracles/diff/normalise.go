package main

import (
	"fmt"
	"maps"
	"sort"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// normalise replaces what two clusters cannot have in common. An id, a term or a size becomes 1, so that whether it is
// there is still compared; an id that is not the member's or the cluster's own becomes 2.
func (t *target) normalise(message proto.Message) {
	sortMembers(message, t.memberID)
	walk(message.ProtoReflect(), func(m proto.Message) {
		switch m := m.(type) {
		case *pb.ResponseHeader:
			m.ClusterId = t.id(m.ClusterId, t.clusterID)
			m.MemberId = t.id(m.MemberId, t.memberID)
			m.RaftTerm = present(m.RaftTerm)
		case *pb.StatusResponse:
			m.Leader = t.id(m.Leader, t.memberID)
			m.RaftTerm, m.RaftIndex, m.RaftAppliedIndex = present(m.RaftTerm), present(m.RaftIndex), present(m.RaftAppliedIndex)
			m.DbSize, m.DbSizeInUse = present(m.DbSize), present(m.DbSizeInUse)
			for i := range m.Errors { // "memberID:123  alarm:NOSPACE", with one space or two, as Go's library likes
				m.Errors[i] = strings.ReplaceAll(m.Errors[i], fmt.Sprint(t.memberID), "own")
				m.Errors[i] = strings.ReplaceAll(m.Errors[i], "  ", " ")
			}
		case *pb.Member:
			m.ID = t.id(m.ID, t.memberID)
			// Ports differ: which addresses a member has is compared by their count and scheme.
			m.PeerURLs, m.ClientURLs = schemes(m.PeerURLs), schemes(m.ClientURLs)
		case *pb.AlarmMember:
			m.MemberID = t.id(m.MemberID, t.memberID)
		case *pb.HashResponse: // over the whole file, ids and terms included
			m.Hash = present(m.Hash)
		case *pb.SnapshotResponse:
			m.RemainingBytes, m.Blob = 0, nil
		case *pb.AuthenticateResponse:
			if m.Token != "" {
				m.Token = "token"
			}
		case *pb.LeaseTimeToLiveResponse:
			if m.TTL > 0 { // the time left; what was granted is compared
				m.TTL = 1
			}
			// etcd lists the keys in the order of a Go map.
			sort.Slice(m.Keys, func(i, j int) bool { return string(m.Keys[i]) < string(m.Keys[j]) })
		}
	})
}

// Members are listed by id, and the id of an added one depends on the time: the own member goes first.
func sortMembers(message proto.Message, own uint64) {
	list, ok := message.(interface{ GetMembers() []*pb.Member })
	if !ok {
		return
	}
	members := list.GetMembers()
	sort.SliceStable(members, func(i, j int) bool { return members[i].GetID() == own && members[j].GetID() != own })
}

func (t *target) id(value, own uint64) uint64 {
	switch {
	case value == 0:
		return 0
	case value == own:
		return 1
	case value < 1000: // made up by the test
		return value
	}
	return 2
}

func present[Number int64 | uint64 | uint32](value Number) Number {
	if value == 0 {
		return 0
	}
	return 1
}

func schemes(urls []string) []string {
	var out []string
	for _, url := range urls {
		if strings.Contains(url, "127.0.0.1") {
			scheme, _, _ := strings.Cut(url, ":")
			url = scheme
		}
		out = append(out, url)
	}
	return out
}

func walk(message protoreflect.Message, visit func(proto.Message)) {
	visit(message.Interface())
	message.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		if field.Kind() != protoreflect.MessageKind || field.IsMap() {
			return true
		}
		if field.IsList() {
			for i := range value.List().Len() {
				walk(value.List().Get(i).Message(), visit)
			}
		} else {
			walk(value.Message(), visit)
		}
		return true
	})
}

// A streamed range is cut into messages as the server likes: the whole is compared.
func joinRangeStream(messages []proto.Message) []proto.Message {
	if len(messages) == 0 {
		return messages
	}
	whole := &pb.RangeResponse{}
	for _, message := range messages {
		part, ok := message.(*pb.RangeStreamResponse)
		if !ok {
			return messages
		}
		proto.Merge(whole, part.GetRangeResponse())
	}
	return []proto.Message{&pb.RangeStreamResponse{RangeResponse: whole}}
}

// Of a snapshot's chunks only that there are some, and the fields beside the bytes.
func joinSnapshot(messages []proto.Message) []proto.Message {
	if len(messages) > 1 {
		return messages[len(messages)-1:]
	}
	return messages
}

// flatten lists every field that is there as "path: value".
func flatten(message protoreflect.Message, path string, out map[string]string) {
	if path != "" {
		out[path] = "{}"
	}
	if unknown := message.GetUnknown(); len(unknown) > 0 {
		out[path+".unknown"] = fmt.Sprintf("%x", []byte(unknown))
	}
	message.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		name := string(field.Name())
		if path != "" {
			name = path + "." + name
		}
		if !field.IsList() {
			flattenValue(field, value, name, out)
			return true
		}
		out[name+".length"] = fmt.Sprint(value.List().Len())
		for i := range value.List().Len() {
			flattenValue(field, value.List().Get(i), fmt.Sprintf("%s[%d]", name, i), out)
		}
		return true
	})
}

func flattenValue(field protoreflect.FieldDescriptor, value protoreflect.Value, path string, out map[string]string) {
	switch field.Kind() {
	case protoreflect.MessageKind:
		flatten(value.Message(), path, out)
	case protoreflect.BytesKind:
		out[path] = short(fmt.Sprintf("%q", value.Bytes()))
	case protoreflect.StringKind:
		out[path] = short(fmt.Sprintf("%q", value.String()))
	case protoreflect.EnumKind:
		out[path] = fmt.Sprint(value.Enum())
	default:
		out[path] = value.String()
	}
}

func short(text string) string {
	const bytesMax = 300
	if len(text) <= bytesMax {
		return text
	}
	return fmt.Sprintf("%s... (%d bytes)", text[:bytesMax], len(text))
}

// differences lists where two outcomes differ, as "path: A=value B=value".
func differences(a, b *outcome) []string {
	if a.broken == "" && b.broken == "" && a.code == b.code && a.text == b.text && len(a.messages) == len(b.messages) {
		equal := maps.Equal(a.extra, b.extra)
		for i := range a.messages {
			equal = equal && proto.Equal(a.messages[i], b.messages[i])
		}
		if equal {
			return nil
		}
	}
	x, y := a.fields(), b.fields()
	var paths []string
	for path := range x {
		paths = append(paths, path)
	}
	for path := range y {
		if _, both := x[path]; !both {
			paths = append(paths, path)
		}
	}
	sort.Strings(paths)
	var out []string
	for _, path := range paths {
		vx, hasX := x[path]
		vy, hasY := y[path]
		if !hasX {
			vx = "absent"
		}
		if !hasY {
			vy = "absent"
		}
		if vx != vy {
			out = append(out, fmt.Sprintf("%s: A=%s B=%s", path, vx, vy))
		}
	}
	return out
}

func (o *outcome) fields() map[string]string {
	out := map[string]string{"code": fmt.Sprint(o.code)}
	if o.text != "" {
		out["text"] = fmt.Sprintf("%q", o.text)
	}
	if o.broken != "" {
		out["broken"] = o.broken
	}
	maps.Copy(out, o.extra)
	if len(o.messages) != 1 && o.extra == nil {
		out["answers"] = fmt.Sprint(len(o.messages))
	}
	for i, message := range o.messages {
		path := ""
		if len(o.messages) > 1 {
			path = fmt.Sprintf("answer[%d]", i)
		}
		flatten(message.ProtoReflect(), path, out)
	}
	return out
}
