// diff sends the same seeded random requests to two endpoints and compares the answers field by field.
//
//	diff [flags] --a HOST:PORT --b HOST:PORT              two members that run, both empty
//	diff [flags] --a-binary PATH --b-binary PATH          starts both on fresh directories and stops them again
//
// Requests are sent as bytes over gRPC, so that input which no client library would send is possible. Nothing is
// normalised but what two clusters cannot have in common: ids, terms, sizes, tokens, ports and remaining times
// (normalise.go), and what no answer promises (settle.go). What B does not serve yet stands in tests/compat/unserved
// and is sent to neither. Differences that are accepted stand in tests/compat/known_differences, a regular expression and
// a reason to a line. At its end it prints the coverage: each rpc with each error text seen, and how often.
//
// Exit: 0 no differences, 1 differences or an unreachable endpoint, 64 usage. The same seed gives the same requests.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

type settings struct {
	requests       int
	seed           int64
	maxDiffs       int
	known          string
	unserved       string
	profiles, skip string
	auth           bool
	coverage       bool
	verbose        bool
	a, b           string
	aBin, bBin     string
	aArgs          string
	bArgs          string
}

func main() {
	os.Exit(command())
}

func command() int {
	var s settings
	flag.IntVar(&s.requests, "requests", 10000, "how many to send")
	flag.Int64Var(&s.seed, "seed", 1, "of the random requests")
	flag.IntVar(&s.maxDiffs, "max-differences", 20, "stop after so many requests with differences")
	flag.StringVar(&s.known, "known", "tests/compat/known_differences", "the accepted differences")
	flag.StringVar(&s.unserved, "unserved", "tests/compat/unserved", "the rpcs that B does not serve yet; empty: none")
	flag.StringVar(&s.profiles, "profiles", "", "comma separated, of: "+strings.Join(profileNames(), ", ")+"; empty: all")
	flag.StringVar(&s.skip, "skip", "", "comma separated rpcs that are not sent: KV/RangeStream,Watch/Watch")
	flag.BoolVar(&s.auth, "auth", false, "auth is on from the beginning to the end: all profiles but those of auth itself")
	flag.BoolVar(&s.coverage, "coverage", true, "print what was seen")
	flag.BoolVar(&s.verbose, "v", false, "print every request")
	flag.StringVar(&s.a, "a", "", "endpoint of the first, HOST:PORT")
	flag.StringVar(&s.b, "b", "", "endpoint of the second")
	flag.StringVar(&s.aBin, "a-binary", "", "start this as the first")
	flag.StringVar(&s.bBin, "b-binary", "", "start this as the second")
	flag.StringVar(&s.aArgs, "a-args", "", "further arguments of the first, space separated")
	flag.StringVar(&s.bArgs, "b-args", "", "further arguments of the second")
	flag.BoolVar(&overTLS, "tls", false, "over TLS; servers that are started here make their own certificates; all profiles are then all but grpc")
	flag.Parse()
	if overTLS && s.profiles == "" {
		s.profiles = strings.Join(slices.DeleteFunc(profileNames(), func(name string) bool { return name == "grpc" }), ",")
	}
	if flag.NArg() != 0 || (s.a == "") == (s.aBin == "") || (s.b == "") == (s.bBin == "") {
		flag.Usage()
		return 64
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	code, err := s.compare(ctx)
	if err != nil {
		fmt.Fprintln(os.Stderr, "diff:", err)
		return 1
	}
	return code
}

func (s *settings) compare(ctx context.Context) (int, error) {
	known, err := readKnown(s.known)
	if err != nil {
		return 1, err
	}
	var targets [2]*target
	for i, side := range []struct{ endpoint, binary, args string }{{s.a, s.aBin, s.aArgs}, {s.b, s.bBin, s.bArgs}} {
		name := string(rune('A' + i))
		endpoint := side.endpoint
		if side.binary != "" {
			server, err := startServer(name, side.binary, strings.Fields(side.args))
			if err != nil {
				return 1, err
			}
			defer server.stop()
			endpoint = server.endpoint
		}
		targets[i], err = connect(ctx, name, endpoint)
		if err != nil {
			return 1, err
		}
		defer targets[i].close()
	}

	fmt.Printf("diff: --seed %d --requests %d, A is %s, B is %s\n", s.seed, s.requests, targets[0].version,
		targets[1].version)
	unserved, err := readUnserved(s.unserved)
	if err != nil {
		return 64, err
	}
	run, err := newRun(s, targets, known, unserved)
	if err != nil {
		return 64, err
	}
	wrong := unserved.check(ctx, targets[1])
	begin := time.Now()
	run.all(ctx)
	took := time.Since(begin)
	if s.coverage {
		run.coverage.print(os.Stdout, run.spent)
	}
	unserved.print()
	for _, name := range sortedKeys(run.byProfile) {
		fmt.Printf("diff: %7d of profile %s\n", run.byProfile[name], name)
	}
	fmt.Printf("diff: HashKV was the same at the end of %d episodes, and so were users and roles unless said above\n", run.hashes)
	fmt.Printf("diff: %d requests in %.1f s (%.0f/s): %d with differences, %d with known differences only\n", run.sent,
		took.Seconds(), float64(run.sent)/took.Seconds(), run.different, run.knownOnly)
	if ctx.Err() != nil {
		return 1, ctx.Err()
	}
	if run.sent == 0 || run.different > 0 || wrong > 0 {
		return 1, nil
	}
	return 0, nil
}
