//go:build etcd34 || etcd35 || etcd36

package main

func unmarshalConfChange(data []byte) (change pbConfChange, err error) {
	err = change.Unmarshal(data)
	return change, err
}
