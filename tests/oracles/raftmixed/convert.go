package main

import (
	"reflect"
	"strings"
)

// convert makes a T of a message, entry, snapshot, ... of ours or of the library: whatever fields both have by name.
//
// The versions of the library differ in how they hold a field: as a value, by a pointer, with a type of its own. Text
// here is bytes there.
func convert[T any](from any) T {
	var made T
	assign(reflect.ValueOf(&made).Elem(), reflect.ValueOf(from))
	return made
}

func assign(to, from reflect.Value) {
	switch {
	case from.Kind() == reflect.Pointer:
		if !from.IsNil() {
			assign(to, from.Elem())
		}
	case to.Kind() == reflect.Pointer:
		to.Set(reflect.New(to.Type().Elem()))
		assign(to.Elem(), from)
	case from.Kind() == reflect.Struct:
		for i := range from.NumField() {
			if name := from.Type().Field(i); name.IsExported() {
				if field := fieldOf(to, name.Name); field.IsValid() {
					assign(field, from.Field(i))
				}
			}
		}
	case from.Kind() == reflect.String:
		if from.Len() > 0 { // no bytes are nil there
			to.SetBytes([]byte(from.String()))
		}
	case to.Kind() == reflect.String:
		to.SetString(string(from.Bytes()))
	case from.Kind() == reflect.Slice:
		for i := range from.Len() {
			element := reflect.New(to.Type().Elem()).Elem()
			assign(element, from.Index(i))
			to.Set(reflect.Append(to, element))
		}
	default: // a number or a bool
		to.Set(from.Convert(to.Type()))
	}
}

// fieldOf: gogo/protobuf writes NodeID, google.golang.org/protobuf writes NodeId.
func fieldOf(made reflect.Value, name string) reflect.Value {
	if field := made.FieldByName(name); field.IsValid() {
		return field
	}
	return made.FieldByNameFunc(func(other string) bool { return strings.EqualFold(other, name) })
}

// fromMessage: up to 3.5 a message without a snapshot holds an empty one.
func fromMessage(m pbMessage) Message {
	made := convert[Message](m)
	if made.Snapshot != nil && made.Snapshot.Metadata.Index == 0 {
		made.Snapshot = nil
	}
	return made
}
