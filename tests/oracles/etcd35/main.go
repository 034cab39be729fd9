// etcd35 is etcd 3.5 as a library, started as its own binary would be: a member of clusters of mixed versions. It has a
// go.mod of its own, since two versions of etcd do not fit into one program.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() { etcdmain.Main(os.Args) }
