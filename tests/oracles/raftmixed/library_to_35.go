//go:build etcd34 || etcd35

package main

import "math/rand"

// forgetLeader: these versions cannot.
func forgetLeader(*rawNode) {}

func seedLibrary(seed int64) { globalRand.rand = rand.New(rand.NewSource(seed)) }
