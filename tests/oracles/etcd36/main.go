// etcd36 is etcd 3.6 as a library, started as its own binary would be: it opens what was downgraded to 3.6. It has a
// go.mod of its own, since two versions of etcd do not fit into one program.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() { etcdmain.Main(os.Args) }
