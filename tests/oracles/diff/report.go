package main

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// An accepted difference: `pattern # reason`. The pattern is matched against "rpc path: A=value B=value".
type knownDifference struct {
	pattern *regexp.Regexp
	reason  string
	seen    int
}

func readKnown(path string) ([]*knownDifference, error) {
	file, err := os.Open(path)
	if os.IsNotExist(err) {
		fmt.Fprintf(os.Stderr, "diff: no %s: no difference is accepted\n", path)
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var out []*knownDifference
	lines := bufio.NewScanner(file)
	for number := 1; lines.Scan(); number++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		text, reason, found := strings.Cut(line, " # ")
		if !found || strings.TrimSpace(reason) == "" {
			return nil, fmt.Errorf("%s:%d: no reason", path, number)
		}
		pattern, err := regexp.Compile(strings.TrimSpace(text))
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", path, number, err)
		}
		out = append(out, &knownDifference{pattern: pattern, reason: reason})
	}
	return out, lines.Err()
}

// coverage counts what each rpc answered.
type coverage map[string]map[string]int

func (c coverage) add(rpc string, o *outcome) {
	answer := "ok"
	if text := o.wireAnswer(); text != "" {
		answer = text
	} else if text := o.httpAnswer(); text != "" {
		answer = text
	} else if o.code != 0 {
		answer = fmt.Sprintf("%d %s", o.code, numbers.ReplaceAllString(o.text, "N"))
	}
	if c[rpc] == nil {
		c[rpc] = map[string]int{}
	}
	c[rpc][short(answer)]++
	for _, message := range o.messages { // a watch ends without an error
		if response, ok := message.(*pb.WatchResponse); ok && response.Canceled && response.CancelReason != "" {
			c[rpc][short("cancelled: "+response.CancelReason)]++
		}
	}
}

var numbers = regexp.MustCompile(`\b\d+\b`)

func (c coverage) print(out io.Writer, spent map[string]time.Duration) {
	fmt.Fprintln(out, "coverage:")
	kinds := 0
	for _, rpc := range sortedKeys(c) {
		fmt.Fprintf(out, "  %s, %.1f s\n", rpc, spent[rpc].Seconds())
		for _, answer := range sortedKeys(c[rpc]) {
			fmt.Fprintf(out, "    %7d  %s\n", c[rpc][answer], answer)
			kinds++
		}
	}
	fmt.Fprintf(out, "coverage: %d rpcs, %d different answers of them\n", len(c), kinds)
}

func sortedKeys[Value any](from map[string]Value) []string {
	return slices.Sorted(maps.Keys(from))
}
