// GOFAIL_HTTP=ADDRESS gofail NAME...: gofail's own runtime with these fault points, behind its own pages.
// tests/integration/failpoints_test.py compares it with Cairn's.
//
// Each line of standard input reaches a point: "NAME TIMES". The answer is a line for each time: what the point gets, as
// "type value", or "-" for nothing. A last line "." ends the answer, behind what the terms printed.
package main

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"

	gofail "go.etcd.io/gofail/runtime"
)

func main() {
	points := map[string]*gofail.Failpoint{}
	for _, name := range os.Args[1:] {
		points[name] = gofail.NewFailpoint(name)
	}
	fmt.Println("ready")
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		words := strings.Fields(in.Text())
		times, _ := strconv.Atoi(words[1])
		for i := 0; i < times; i++ {
			value, err := points[words[0]].Acquire()
			if err != nil {
				fmt.Println("-")
				continue
			}
			fmt.Printf("%T %v\n", value, value)
		}
		fmt.Println(".")
	}
}
