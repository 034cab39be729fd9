package main

import (
	"context"
	"fmt"
	"strings"
)

// The JSON gateway once more: requests whose JSON was changed at random, and streams of requests.

func (g *gen) gatewayStep() step {
	request := g.httpRequest()
	switch {
	case g.oneIn(8):
		request = g.renewalBody()
	case g.oneIn(4):
	default:
		// What grants no lease: how long one lives is not the same on both sides. And what compacts nothing: after a
		// compaction at revision 0 etcd takes itself for empty when it is asked for a hash.
		for !strings.HasPrefix(request.path, "/v3/kv/") || strings.Contains(request.path, "lease") ||
			strings.HasSuffix(request.path, "compaction") {
			request = g.httpRequest()
		}
		request.method = "POST"
		request.body = g.mutated(request.body)
	}
	if request.contentType == "" {
		request.contentType = "application/json"
	}
	path, _, _ := strings.Cut(request.path, "?")
	return step{
		rpc: request.method + " " + path,
		do:  func(ctx context.Context, t *target) *outcome { return t.http(ctx, request) },
		say: func() string { return fmt.Sprintf("%q", short(request.body)) },
	}
}

// Renewals of leases, in a stream that ends with the body.
func (g *gen) renewalBody() httpRequest {
	var body strings.Builder
	for range g.random.Intn(5) {
		fmt.Fprintf(&body, pickOf(g, `{"ID":"%d"}`, `{"ID":%d}`, `{ "ID" : "%d" } `, "\n{\"ID\":%d,\"x\":[{}]}\n"), g.leaseID())
	}
	body.WriteString(pickOf(g, "", "", "", " ", "x", "5", "[]", `{"ID":"x"}`, `{"ID":`, "null", `"`))
	return httpRequest{method: "POST", path: "/v3/lease/keepalive", body: body.String()}
}

// A text with something left out, put in, repeated or changed, one to three times.
func (g *gen) mutated(text string) string {
	pieces := []string{"null", "true", "1", "-0", "1e2", "0.5", `""`, `"x"`, `"x":1,`, `"key":"YQ==",`, "{}", "[]", "[[", "{", "}", "]",
		",", ":", `"`, `\`, `\u0041`, `\ud83d`, `\ud83d\ude00`, "=", "_", "+", "\n", "\x00", "\xff", "\u00e9", " "}
	out := []byte(text)
	for range 1 + g.random.Intn(3) {
		from := g.random.Intn(len(out) + 1)
		to := min(from+g.random.Intn(6), len(out))
		var middle []byte
		switch g.random.Intn(4) {
		case 0: // nothing
		case 1:
			middle = []byte(pieces[g.random.Intn(len(pieces))])
		case 2:
			middle = append(append([]byte{}, out[from:to]...), out[from:to]...)
		case 3:
			middle, to = []byte(pieces[g.random.Intn(len(pieces))]), from
		}
		out = append(append(append([]byte{}, out[:from]...), middle...), out[to:]...)
	}
	return string(out)
}
