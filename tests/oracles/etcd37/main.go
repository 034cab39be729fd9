// etcd37 is etcd 3.7 as a library, started as its own binary would be: the yardstick of the differential tests and
// of bench/.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() { etcdmain.Main(os.Args) }
