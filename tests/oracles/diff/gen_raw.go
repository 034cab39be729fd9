package main

import (
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// Methods whose requests may be anything without the two sides drifting apart in time.
var rawMethods = []struct {
	path   string
	answer proto.Message
}{
	{kv + "Range", &pb.RangeResponse{}},
	{kv + "RangeStream", &pb.RangeStreamResponse{}},
	{kv + "Put", &pb.PutResponse{}},
	{kv + "DeleteRange", &pb.DeleteRangeResponse{}},
	{kv + "Txn", &pb.TxnResponse{}},
	{leaseService + "LeaseTimeToLive", &pb.LeaseTimeToLiveResponse{}},
	{leaseService + "LeaseRevoke", &pb.LeaseRevokeResponse{}},
	{leaseService + "LeaseLeases", &pb.LeaseLeasesResponse{}},
	{maintenance + "HashKV", &pb.HashKVResponse{}},
	{maintenance + "Status", &pb.StatusResponse{}},
	{clusterService + "MemberList", &pb.MemberListResponse{}},
	{authService + "UserGet", &pb.AuthUserGetResponse{}},
	{authService + "RoleGet", &pb.AuthRoleGetResponse{}},
	{authService + "UserAdd", &pb.AuthUserAddResponse{}},
	{authService + "Authenticate", &pb.AuthenticateResponse{}},
}

func (g *gen) rawStep() step {
	switch g.random.Intn(8) {
	case 0: // nobody serves this
		path := pickOf(g, "/etcdserverpb.KV/Nothing", "/nothing.Service/Call", "/etcdserverpb.KV/", "/etcdserverpb.Nothing/Range",
			"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", "/a/b/c")
		return g.raw(path, nil, &pb.RangeResponse{})
	case 1, 2: // a good request, cut or with a byte changed
		bytes := g.goodBytes()
		if len(bytes) > 0 {
			if g.oneIn(2) {
				bytes = bytes[:g.random.Intn(len(bytes))]
			} else {
				bytes[g.random.Intn(len(bytes))] ^= byte(1 << g.random.Intn(8))
			}
		}
		method := rawMethods[g.random.Intn(5)]
		return g.raw(method.path, bytes, method.answer)
	case 3: // a good request with fields that nobody knows, or twice
		bytes := g.goodBytes()
		if g.oneIn(2) {
			bytes = append(bytes, bytes...)
		} else {
			bytes = append(bytes, g.wireFields(900, 1)...)
		}
		method := rawMethods[g.random.Intn(5)]
		return g.raw(method.path, bytes, method.answer)
	case 4: // strings that are no UTF-8
		method := rawMethods[len(rawMethods)-1-g.random.Intn(4)]
		name := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), "\xff\xfe"+strings.Repeat("x", g.random.Intn(3)))
		return g.raw(method.path, name, method.answer)
	}
	method := rawMethods[g.random.Intn(len(rawMethods))]
	return g.raw(method.path, g.wireFields(1, 2), method.answer)
}

func (g *gen) goodBytes() []byte {
	message := pickOf[proto.Message](g, g.rangeRequest(), g.putRequest(), g.deleteRequest(), g.txnRequest(1))
	bytes, err := proto.Marshal(message)
	if err != nil {
		panic(err)
	}
	return bytes
}

// Some fields of any number and type from `first` on, rarely broken.
func (g *gen) wireFields(first, depth int) []byte {
	var out []byte
	for range g.random.Intn(5) {
		number := protowire.Number(first + g.random.Intn(8))
		switch g.random.Intn(12) {
		case 0, 1, 2:
			out = protowire.AppendTag(out, number, protowire.VarintType)
			out = protowire.AppendVarint(out, pickOf(g, 0, 1, 2, uint64(g.revision), 1<<31, 1<<63, ^uint64(0), uint64(g.random.Intn(1000))))
		case 3, 4, 5, 6:
			out = protowire.AppendTag(out, number, protowire.BytesType)
			out = protowire.AppendBytes(out, g.key())
		case 7, 8:
			if depth > 0 {
				out = protowire.AppendTag(out, number, protowire.BytesType)
				out = protowire.AppendBytes(out, g.wireFields(1, depth-1))
			}
		case 9:
			out = protowire.AppendTag(out, number, protowire.Fixed32Type)
			out = protowire.AppendFixed32(out, g.random.Uint32())
		case 10:
			out = protowire.AppendTag(out, number, protowire.Fixed64Type)
			out = protowire.AppendFixed64(out, g.random.Uint64())
		case 11:
			if g.oneIn(2) {
				out = protowire.AppendTag(out, number, protowire.StartGroupType)
				out = protowire.AppendTag(out, number, protowire.EndGroupType)
			} else if g.oneIn(3) {
				out = append(out, pickOf[byte](g, 0, 7, 0x0e, 0xff, 0x0c))
			}
		}
	}
	return out
}
