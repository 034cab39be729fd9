// boltcheck judges a bbolt file with bbolt itself.
//
//	boltcheck [check] FILE...           tx.Check, then what every bucket holds, as JSON
//	boltcheck mutate FILE [flags]       random changes all over the file with etcd's options, then Check again
//	boltcheck make FILE [flags]         a file of a random shape, for tests of readers
//
// Exit: 0 sound, 64 usage, anything else damaged: an error of Check, a panic, a fault in one of bbolt's own goroutines,
// a read that disagrees with the model.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime/debug"
)

func main() {
	os.Exit(run(os.Args[1:]))
}

func run(args []string) (code int) {
	// bbolt panics on many kinds of damage: that is a finding, not a crash of this program.
	debug.SetPanicOnFault(true)
	defer func() {
		if fault := recover(); fault != nil {
			fmt.Fprintf(os.Stderr, "boltcheck: panic: %v\n%s", fault, debug.Stack())
			code = 1
		}
	}()
	verb := "check"
	if len(args) > 0 {
		switch args[0] {
		case "check", "mutate", "make":
			verb, args = args[0], args[1:]
		}
	}
	var err error
	switch verb {
	case "check":
		err = checkFiles(args)
	case "mutate":
		err = mutateCommand(args)
	case "make":
		err = makeCommand(args)
	}
	if errors.Is(err, errUsage) || errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "usage: boltcheck [check] FILE... | mutate FILE [flags] | make FILE [flags]")
		return 64
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "boltcheck:", err)
		return 1
	}
	return 0
}

var errUsage = errors.New("usage")

// parse takes the flags and the file in any order: FILE --seed 1 as well as --seed 1 FILE.
func parse(flags *flag.FlagSet, args []string) (file string, err error) {
	for len(args) > 0 {
		if err := flags.Parse(args); err != nil {
			return "", err
		}
		if flags.NArg() == 0 {
			break
		}
		if file != "" {
			return "", errUsage
		}
		file, args = flags.Arg(0), flags.Args()[1:]
	}
	if file == "" {
		return "", errUsage
	}
	return file, nil
}

func printJSON(value any) {
	out := json.NewEncoder(os.Stdout)
	out.SetIndent("", "  ")
	out.SetEscapeHTML(false)
	if err := out.Encode(value); err != nil {
		panic(err)
	}
}
