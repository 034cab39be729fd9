package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sort"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// The JSON gateway: the same requests as JSON, and JSON that is none.

type httpRequest struct {
	method, path, body, contentType string
}

// What two clusters cannot have in common, by the name of the field; a value that is there becomes "there".
var jsonOwn = map[string]bool{
	"cluster_id": true, "member_id": true, "raft_term": true, "raftTerm": true, "raftIndex": true, "raftAppliedIndex": true,
	"dbSize": true, "dbSizeInUse": true, "leader": true, "token": true, "ID": true, "memberID": true,
	"peerURLs": true, "clientURLs": true, "peer_urls": true, "client_urls": true,
}

func (g *gen) httpStep() step {
	request := g.httpRequest()
	if request.contentType == "" {
		request.contentType = "application/json"
	}
	path, _, _ := strings.Cut(request.path, "?")
	return step{
		rpc: request.method + " " + path,
		do:  func(ctx context.Context, t *target) *outcome { return t.http(ctx, request) },
		say: func() string { return short(request.body) },
	}
}

func (g *gen) httpRequest() httpRequest {
	post := func(path string, message proto.Message) httpRequest {
		sortByKey(message)
		body, err := protojson.MarshalOptions{UseProtoNames: g.oneIn(2), UseEnumNumbers: g.oneIn(4)}.Marshal(message)
		if err != nil {
			panic(err)
		}
		return httpRequest{method: "POST", path: path, body: string(body)}
	}
	switch choice := g.random.Intn(40); {
	case choice < 10:
		return post("/v3/kv/range", g.rangeRequest())
	case choice < 16:
		return post("/v3/kv/put", g.putRequest())
	case choice < 18:
		return post("/v3/kv/deleterange", g.deleteRequest())
	case choice < 23:
		return post("/v3/kv/txn", g.txnRequest(1))
	case choice == 23:
		return post("/v3/kv/compaction", &pb.CompactionRequest{Revision: pickOf(g, g.revision+1000, -1)})
	case choice == 24:
		id := g.leaseID()
		if id == 0 || id == 99 || id == -1 {
			id = 5
		}
		return post(pickOf(g, "/v3/lease/grant", "/v3beta/lease/grant"), &pb.LeaseGrantRequest{ID: id, TTL: leaseTTL(id)})
	case choice == 25:
		return post(pickOf(g, "/v3/lease/revoke", "/v3/kv/lease/revoke"), &pb.LeaseRevokeRequest{ID: g.leaseID()})
	case choice == 26:
		return post(pickOf(g, "/v3/lease/leases", "/v3/kv/lease/leases"), &pb.LeaseLeasesRequest{})
	case choice == 27:
		return post("/v3/maintenance/status", &pb.StatusRequest{})
	case choice == 28:
		return post("/v3/maintenance/hashkv", &pb.HashKVRequest{Revision: g.maybeRevision(2)})
	case choice == 29:
		return post("/v3/cluster/member/list", &pb.MemberListRequest{})
	case choice == 30:
		return post("/v3/auth/user/get", &pb.AuthUserGetRequest{Name: g.userName()})
	case choice == 31:
		return post("/v3/auth/role/list", &pb.AuthRoleListRequest{})
	case choice == 32:
		return post("/v3/auth/status", &pb.AuthStatusRequest{})
	case choice == 33:
		return post("/v3/auth/role/grant", &pb.AuthRoleGrantPermissionRequest{Name: "nobody's"})
	case choice == 34:
		return httpRequest{method: "GET", path: pickOf(g, "/version", "/health", "/health?serializable=true", "/livez", "/readyz",
			"/livez/serializable_read", "/readyz/nothing", "/v3/kv/range", "/", "/nothing", "/v2/keys", "/debug/vars/nothing")}
	case choice == 35:
		return httpRequest{method: pickOf(g, "PUT", "DELETE", "OPTIONS", "HEAD"), path: pickOf(g, "/v3/kv/range", "/version", "/health", "/nothing"), body: "{}"}
	case choice == 36:
		r := post("/v3/kv/range", g.rangeRequest())
		r.contentType = pickOf(g, "text/plain", "application/x-www-form-urlencoded", "application/json; charset=utf-8")
		return r
	}
	return httpRequest{method: "POST", path: pickOf(g, "/v3/kv/range", "/v3/kv/put", "/v3/kv/txn", "/v3/lease/timetolive", "/v3/nothing", "/v4/kv/range"),
		body: pickOf(g, "", "{", "[]", "null", "1", `"text"`, "{}", `{"key":1}`, `{"key":"not base64!"}`, `{"key":"YQ"}`, `{"key":"YQ==","x":1}`,
			`{"key":"YQ==","limit":"5"}`, `{"key":"YQ==","limit":5.5}`, `{"key":"YQ==","limit":"x"}`, `{"key":"YQ==","limit":1e1}`,
			`{"key":"YQ==","sort_order":"ASCEND"}`, `{"key":"YQ==","sort_order":"UP"}`, `{"key":"YQ==","sortOrder":1}`,
			`{"key":"YQ==","rangeEnd":"Yg==","count_only":true}`, `{"key":"YQ==","keys_only":"true"}`, `{"key":null}`, `{"key":"YQ=="}{"key":"YQ=="}`,
			`{"key":"YQ==","key":"Yg=="}`, `{"key":"_-8="}`, `{"key":"/+8="}`, `{"ID":"7587854"}`, `{"ID":3}`, `{"success":[{}]}`,
			`{"success":[{"requestRange":{"key":"YQ=="}}]}`, `{"compare":[{"target":"VALUE","key":"YQ==","value":"YQ=="}]}`, "\xff")}
}

// By another target the order of equal ones is not promised, and settle.go does not look into JSON.
func sortByKey(message proto.Message) {
	switch message := message.(type) {
	case *pb.RangeRequest:
		message.SortTarget = pb.RangeRequest_KEY
	case *pb.TxnRequest:
		for _, op := range append(append([]*pb.RequestOp{}, message.Success...), message.Failure...) {
			if r := op.GetRequestRange(); r != nil {
				sortByKey(r)
			} else if r := op.GetRequestTxn(); r != nil {
				sortByKey(r)
			}
		}
	}
}

func (t *target) http(ctx context.Context, r httpRequest) *outcome {
	ctx, cancel := context.WithTimeout(ctx, defaultTimeout)
	defer cancel()
	out := &outcome{extra: map[string]string{}}
	request, err := http.NewRequestWithContext(ctx, r.method, scheme()+t.endpoint+r.path, strings.NewReader(r.body))
	if err != nil {
		out.broken = err.Error()
		return out
	}
	request.Header.Set("Content-Type", r.contentType)
	response, err := httpTransport().RoundTrip(request) // redirects are not followed
	if err != nil {
		out.code, out.text = 14, err.Error()
		return out
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		out.broken = err.Error()
	}
	out.extra["status"] = fmt.Sprint(response.StatusCode)
	for name, values := range response.Header {
		if name != "Date" && name != "Content-Length" {
			out.extra["header "+name] = fmt.Sprint(values)
		}
	}
	// One value, or those of a stream.
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.UseNumber()
	var values []any
	for {
		var tree any
		if err := decoder.Decode(&tree); err == io.EOF && len(values) > 0 {
			break
		} else if err != nil {
			lines := strings.Split(string(body), "\n")
			if strings.HasPrefix(r.path, "/livez") || strings.HasPrefix(r.path, "/readyz") {
				sort.Strings(lines) // Go's map has no order
			}
			out.extra["body"] = short(fmt.Sprintf("%q", strings.Join(lines, "\n")))
			return out
		}
		values = append(values, tree)
	}
	for i, tree := range values {
		name := "body"
		if i > 0 {
			name = fmt.Sprintf("body[%d]", i)
		}
		flattenJSON(tree, name, out.extra)
	}
	return out
}

func flattenJSON(value any, path string, out map[string]string) {
	switch value := value.(type) {
	case map[string]any:
		out[path] = "{}"
		for name, inner := range value {
			if jsonOwn[name] {
				out[path+"."+name] = fmt.Sprintf("there, a %T", inner)
				continue
			}
			flattenJSON(inner, path+"."+name, out)
		}
	case []any:
		out[path+".length"] = fmt.Sprint(len(value))
		for i, inner := range value {
			flattenJSON(inner, fmt.Sprintf("%s[%d]", path, i), out)
		}
	default: // a string and a number of the same digits are not the same; Go's library picks one of two kinds of space
		out[path] = short(strings.ReplaceAll(fmt.Sprintf("%T %v", value, value), "\u00a0", " "))
	}
}

// What an HTTP answer counts as in the coverage.
func (o *outcome) httpAnswer() string {
	if o.extra == nil {
		return ""
	}
	var texts []string
	for _, name := range []string{"status", "body.message", "body.reason", "body"} {
		if text := o.extra[name]; text != "" && text != "{}" {
			texts = append(texts, text)
		}
	}
	if len(texts) == 0 { // of no HTTP request
		return ""
	}
	sort.Strings(texts[1:])
	return strings.Join(texts, " ")
}
