// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package message

import (
	"bytes"
	"encoding/json"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
)

const (
	nameEnd  = 0x01 // between a name and its value
	valueEnd = 0x02 // after a value; the last one may be missing
)

// Properties are the names and values of a message in their order. They hold the encoded
// form of the record (name 0x01 value 0x02 ...), so that decoding copies nothing and a
// block that another program wrote survives byte for byte.
//
// The zero value is empty and ready to use. Properties are a value: every change makes a
// new block and leaves the old bytes alone, so a copy never sees a change of the original
// and no byte of a mapped file is ever written. Readers may share one value; a change
// needs its owner alone.
//
// Reading follows MessageDecoder.java: a pair counts when its name and its value are not
// empty, the first 0x01 ends the name, and the last of several equal names wins.
type Properties struct {
	block []byte
	err   error
}

// NewProperties returns the properties in pairs of name and value. It takes one
// allocation where a row of Set calls takes one each. A bad pair, or a name without a
// value, is what Err returns.
func NewProperties(pairs ...string) Properties {
	var p Properties
	n := 0
	for _, s := range pairs {
		n += len(s) + 1
	}
	block := make([]byte, 0, n)
	for i := 0; i < len(pairs); i += 2 {
		value := ""
		if i+1 < len(pairs) {
			value = pairs[i+1]
		}
		if err := checkPair(pairs[i], value); err != nil {
			p.fail(err)
			continue
		}
		block = appendPair(block, pairs[i], value)
	}
	p.block = block
	return p
}

// PropertiesFromEncoded wraps an encoded block, which it borrows: block must not change
// while the result is in use. Any bytes are accepted; what is not a pair is kept and
// skipped by readers.
func PropertiesFromEncoded(block []byte) Properties {
	return Properties{block: slices.Clip(block)}
}

// Get returns the value of name as a copy, and whether it is there.
func (p *Properties) Get(name string) (string, bool) {
	v, ok := p.Lookup(name)
	return string(v), ok
}

// Lookup is Get without a copy: the value belongs to the block, must not be changed, and
// is valid as long as the block is.
func (p *Properties) Lookup(name string) (value []byte, ok bool) {
	if name == "" || strings.IndexByte(name, nameEnd) >= 0 {
		return nil, false
	}
	for rest := p.block; len(rest) > 0; {
		var s []byte
		s, rest = cutSegment(rest)
		if v, is := valueOf(s, name); is {
			value, ok = v, true
		}
	}
	return value, ok
}

// Indexed returns the values of TAGS, UNIQ_KEY and KEYS, by which messages are found, each
// nil when it is not there: three Lookups in one pass, and on the same terms.
func (p *Properties) Indexed() (tags, uniq, keys []byte) {
	for rest := p.block; len(rest) > 0; {
		var s []byte
		if s, rest = cutSegment(rest); len(s) == 0 {
			continue
		}
		switch s[0] {
		case PropertyTags[0]:
			if v, ok := valueOf(s, PropertyTags); ok {
				tags = v
			}
		case PropertyKeys[0]:
			if v, ok := valueOf(s, PropertyKeys); ok {
				keys = v
			}
		case PropertyUniqKey[0]:
			if v, ok := valueOf(s, PropertyUniqKey); ok {
				uniq = v
			}
		}
	}
	return tags, uniq, keys
}

// Set gives name a value: in the place of the first pair of that name, or at the end. A
// name that is empty or holds 0x01 or 0x02, and a value that is empty or holds 0x02,
// cannot be stored: the block stays as it is, and Err and every encoder report it.
func (p *Properties) Set(name, value string) {
	if err := checkPair(name, value); err != nil {
		p.fail(err)
		return
	}
	p.replace(name, value)
}

// Delete removes every pair of that name.
func (p *Properties) Delete(name string) {
	if _, ok := p.Lookup(name); ok {
		p.replace(name, "")
	}
}

// Len returns the length of the encoded form in bytes.
func (p *Properties) Len() int { return len(p.block) }

// IsZero reports whether there are neither bytes nor an error. It serves omitzero.
func (p Properties) IsZero() bool { return len(p.block) == 0 && p.err == nil }

// Encoded returns the block itself: it must not be changed.
func (p *Properties) Encoded() []byte { return p.block }

// Err returns the first bad pair that Set was given, wrapping ErrBadProperty, or nil.
func (p *Properties) Err() error { return p.err }

// Clone returns a copy with a block of its own.
func (p *Properties) Clone() Properties {
	return Properties{block: bytes.Clone(p.block), err: p.err}
}

// All yields each pair in stored order, as copies. A name that is stored twice comes
// twice; maps.Collect keeps the last, as Get does.
func (p *Properties) All() iter.Seq2[string, string] {
	block := p.block
	return func(yield func(string, string) bool) {
		for rest := block; len(rest) > 0; {
			var s []byte
			s, rest = cutSegment(rest)
			if name, value, ok := cutPair(s); ok && !yield(string(name), string(value)) {
				return
			}
		}
	}
}

// MarshalJSON writes one object, its names sorted.
func (p Properties) MarshalJSON() ([]byte, error) {
	if p.err != nil {
		return nil, p.err
	}
	return json.Marshal(maps.Collect(p.All()))
}

// UnmarshalJSON reads an object of strings. The pairs are sorted by name.
func (p *Properties) UnmarshalJSON(data []byte) error {
	var pairs map[string]string
	if err := json.Unmarshal(data, &pairs); err != nil {
		return err
	}
	list := make([]string, 0, 2*len(pairs))
	for _, name := range slices.Sorted(maps.Keys(pairs)) {
		list = append(list, name, pairs[name])
	}
	read := NewProperties(list...)
	if read.err != nil {
		return read.err
	}
	*p = read
	return nil
}

// replace rebuilds the block with the pairs of name replaced by one, or by none when
// value is empty. Bytes that are not a pair stay where they are.
func (p *Properties) replace(name, value string) {
	block := make([]byte, 0, len(p.block)+len(name)+len(value)+3)
	written := value == ""
	for rest := p.block; len(rest) > 0; {
		before := rest
		var s []byte
		s, rest = cutSegment(rest)
		if n, _, ok := cutPair(s); !ok || string(n) != name {
			block = append(block, before[:len(before)-len(rest)]...)
			continue
		}
		if !written {
			block = appendPair(block, name, value)
			written = true
		}
	}
	if !written {
		if len(block) > 0 && block[len(block)-1] != valueEnd {
			block = append(block, valueEnd)
		}
		block = appendPair(block, name, value)
	}
	p.block = block
}

func (p *Properties) fail(err error) {
	if p.err == nil {
		p.err = err
	}
}

func checkPair(name, value string) error {
	switch {
	case name == "":
		return fmt.Errorf("%w: empty name", ErrBadProperty)
	case strings.ContainsAny(name, "\x01\x02"):
		return fmt.Errorf("%w: name %q holds 0x01 or 0x02", ErrBadProperty, name)
	case value == "":
		return fmt.Errorf("%w: %s: empty value", ErrBadProperty, name)
	case strings.IndexByte(value, valueEnd) >= 0:
		return fmt.Errorf("%w: %s: value %q holds 0x02", ErrBadProperty, name, value)
	}
	return nil
}

func appendPair(b []byte, name, value string) []byte {
	b = append(b, name...)
	b = append(b, nameEnd)
	b = append(b, value...)
	return append(b, valueEnd)
}

// cutSegment splits block, which is not empty, after its first 0x02.
func cutSegment(block []byte) (segment, rest []byte) {
	i := bytes.IndexByte(block, valueEnd)
	if i < 0 {
		return block, nil
	}
	return block[:i], block[i+1:]
}

// valueOf returns the value of a segment that is a pair of that name.
func valueOf(segment []byte, name string) (value []byte, ok bool) {
	if len(segment) > len(name)+1 && segment[len(name)] == nameEnd && string(segment[:len(name)]) == name {
		return segment[len(name)+1:], true
	}
	return nil, false
}

// cutPair splits a segment at its first 0x01; ok is false when a side is empty.
func cutPair(segment []byte) (name, value []byte, ok bool) {
	i := bytes.IndexByte(segment, nameEnd)
	if i <= 0 || i == len(segment)-1 {
		return nil, nil, false
	}
	return segment[:i], segment[i+1:], true
}
