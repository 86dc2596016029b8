// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package brokerconfig

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"unicode/utf8"
)

// writer appends text in the shape of fastjson's pretty format.
type writer struct {
	b      []byte
	indent int
}

func (w *writer) line() {
	w.b = append(w.b, '\n')
	for range w.indent {
		w.b = append(w.b, '\t')
	}
}

// property is one member of an object: its name and what writes the value.
type property struct {
	name  string
	value func(*writer)
}

// object writes the properties in the given order, one to a line.
func (w *writer) object(properties []property) {
	w.b = append(w.b, '{')
	w.indent++
	for i, p := range properties {
		if i > 0 {
			w.b = append(w.b, ',')
		}
		w.line()
		w.b = append(appendString(w.b, p.name), ':')
		p.value(w)
	}
	w.indent--
	if len(properties) > 0 {
		w.line()
	}
	w.b = append(w.b, '}')
}

// bean writes properties sorted by name, with the fields that a decoder did not
// know among them. A known name wins over an unknown field of the same name.
func (w *writer) bean(properties []property, extra map[string]json.RawMessage) {
	known := make(map[string]bool, len(properties))
	for _, p := range properties {
		known[p.name] = true
	}
	for name, text := range extra {
		if !known[name] && json.Valid(text) {
			properties = append(properties, property{name, func(w *writer) { w.b = append(w.b, text...) }})
		}
	}
	slices.SortFunc(properties, func(a, b property) int { return compare(a.name, b.name) })
	w.object(properties)
}

func compare(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func (w *writer) int(v int64) { w.b = strconv.AppendInt(w.b, v, 10) }

func number(name string, v int64) property {
	return property{name, func(w *writer) { w.int(v) }}
}

func text(name, v string) property {
	return property{name, func(w *writer) { w.b = appendString(w.b, v) }}
}

func boolean(name string, v bool) property {
	return property{name, func(w *writer) { w.b = strconv.AppendBool(w.b, v) }}
}

// int64s writes a map with integer keys as fastjson does: keys without quotes,
// all entries on the line of the brace that opens, the other brace on its own.
func (w *writer) int64s(m map[int32]int64) {
	w.b = append(w.b, '{')
	for i, k := range slices.Sorted(maps.Keys(m)) {
		if i > 0 {
			w.b = append(w.b, ',')
		}
		w.int(int64(k))
		w.b = append(w.b, ':')
		w.int(m[k])
	}
	if len(m) > 0 {
		w.line()
	}
	w.b = append(w.b, '}')
}

// strings writes a collection, which fastjson keeps on one line.
func (w *writer) strings(list []string) {
	w.b = append(w.b, '[')
	for i, s := range list {
		if i > 0 {
			w.b = append(w.b, ',')
		}
		w.b = appendString(w.b, s)
	}
	w.b = append(w.b, ']')
}

// appendString appends s in quotes. Bytes that are not UTF-8 become U+FFFD,
// which is what Java would read in their place.
func appendString(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	for _, c := range s {
		switch {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', byte(c))
		case c == '\n':
			dst = append(dst, '\\', 'n')
		case c == '\r':
			dst = append(dst, '\\', 'r')
		case c == '\t':
			dst = append(dst, '\\', 't')
		case c < 0x20:
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		default:
			dst = utf8.AppendRune(dst, c)
		}
	}
	return append(dst, '"')
}
