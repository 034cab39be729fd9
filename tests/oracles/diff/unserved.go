package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"regexp"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// What B does not serve yet, by design: these requests go to neither side. The list is a file with an rpc to a line
// as diff reports it ("Lease/LeaseGrant", "POST /v3/*"; a star stands for anything). It is held to the truth: each
// gRPC method named in full is called once, and must be UNIMPLEMENTED.
type unserved struct {
	patterns []*regexp.Regexp
	methods  []string       // named in full
	held     map[string]int // requests that were not sent, by rpc
}

func readUnserved(path string) (*unserved, error) {
	out := &unserved{held: map[string]int{}}
	if path == "" {
		return out, nil
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		line, _, _ := strings.Cut(lines.Text(), "#")
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		text := strings.ReplaceAll(regexp.QuoteMeta(line), `\*`, ".*")
		out.patterns = append(out.patterns, regexp.MustCompile("^"+text+"$"))
		if !strings.ContainsAny(line, "* ") {
			out.methods = append(out.methods, line)
		}
	}
	return out, lines.Err()
}

func (u *unserved) has(rpc string) bool {
	for _, pattern := range u.patterns {
		if pattern.MatchString(rpc) {
			return true
		}
	}
	return false
}

// check calls each method; the number of those that B serves after all.
func (u *unserved) check(ctx context.Context, b *target) int {
	services := map[string]string{"Lock": "v3lockpb.Lock", "Election": "v3electionpb.Election"}
	wrong := 0
	for _, rpc := range u.methods {
		service, method, _ := strings.Cut(rpc, "/")
		full := services[service]
		if full == "" {
			full = "etcdserverpb." + service
		}
		got := b.unary(ctx, call{path: "/" + full + "/" + method, answer: &pb.StatusResponse{}}, nil)
		if got.code != 12 {
			fmt.Printf("diff: %s is listed as not served, and B answers it with code %d %s\n", rpc, got.code, got.text)
			wrong++
		}
	}
	return wrong
}

func (u *unserved) print() {
	if len(u.held) == 0 {
		return
	}
	total := 0
	services := map[string]int{}
	for rpc, count := range u.held {
		service, _, _ := strings.Cut(rpc, "/")
		services[strings.TrimSpace(service)] += count
		total += count
	}
	var texts []string
	for _, service := range sortedKeys(services) {
		texts = append(texts, fmt.Sprintf("%s %d", service, services[service]))
	}
	fmt.Printf("diff: %d requests not sent, since B does not serve them yet: %s\n", total, strings.Join(texts, ", "))
}
