// Package suite names etcd's own end-to-end tests, so that go.mod keeps their module. tests/suite/build makes programs of
// them.
package suite

import _ "go.etcd.io/etcd/tests/v3/framework/e2e"
