// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package brokerconfig

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"unicode/utf8"
)

// maxDepth bounds the nesting of values that are only kept as text, so that a
// hostile file cannot exhaust the stack. The files that a broker writes have
// at most four levels.
const maxDepth = 128

// reader walks a text once, from front to back. It accepts JSON, and integer
// keys without quotes. Methods leave pos behind what they read.
type reader struct {
	b   []byte
	pos int
}

func (r *reader) fail(at int, format string, args ...any) error {
	at = min(at, len(r.b))
	return &Error{
		Offset: int64(at),
		Line:   1 + bytes.Count(r.b[:at], []byte{'\n'}),
		Err:    fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...)),
	}
}

// found describes the byte at pos for an error message.
func (r *reader) found() string {
	if r.pos >= len(r.b) {
		return "the end of the text"
	}
	c, n := utf8.DecodeRune(r.b[r.pos:])
	if c == utf8.RuneError && n <= 1 {
		return fmt.Sprintf("byte 0x%02x", r.b[r.pos])
	}
	return strconv.QuoteRune(c)
}

// peek skips white space and returns the next byte, 0 at the end. (A zero byte
// in the text is no token either, so the two need no telling apart.)
func (r *reader) peek() byte {
	for r.pos < len(r.b) {
		switch c := r.b[r.pos]; c {
		case ' ', '\t', '\n', '\r':
			r.pos++
		default:
			return c
		}
	}
	return 0
}

func (r *reader) expect(c byte) error {
	if r.peek() != c {
		return r.fail(r.pos, "expected %q, found %s", c, r.found())
	}
	r.pos++
	return nil
}

// end checks that nothing but white space is left.
func (r *reader) end() error {
	r.peek()
	if r.pos < len(r.b) {
		return r.fail(r.pos, "expected the end of the text, found %s", r.found())
	}
	return nil
}

// word consumes w if it is next.
func (r *reader) word(w string) bool {
	r.peek()
	if !bytes.HasPrefix(r.b[r.pos:], []byte(w)) {
		return false
	}
	r.pos += len(w)
	return true
}

func (r *reader) null() bool { return r.word("null") }

// object calls member for each key with the reader standing before the value;
// member must consume the value. at is the offset of the key.
func (r *reader) object(member func(key string, at int) error) error {
	return r.list('{', '}', func() error {
		r.peek()
		at := r.pos
		key, err := r.key()
		if err != nil {
			return err
		}
		if err := r.expect(':'); err != nil {
			return err
		}
		return member(key, at)
	})
}

// list reads elements between brackets, separated by commas.
func (r *reader) list(open, end byte, element func() error) error {
	if err := r.expect(open); err != nil {
		return err
	}
	if r.peek() == end {
		r.pos++
		return nil
	}
	for {
		if err := element(); err != nil {
			return err
		}
		switch r.peek() {
		case ',':
			r.pos++
		case end:
			r.pos++
			return nil
		default:
			return r.fail(r.pos, "expected ',' or %q, found %s", end, r.found())
		}
	}
}

// key reads a quoted key, or an integer without quotes.
func (r *reader) key() (string, error) {
	switch c := r.peek(); {
	case c == '"':
		return r.str()
	case c == '-' || (c >= '0' && c <= '9'):
		text, err := r.number()
		if err != nil {
			return "", err
		}
		return string(text), nil
	default:
		return "", r.fail(r.pos, "expected a key, found %s", r.found())
	}
}

// rawString returns the bytes of a string with its quotes, and whether it has
// escapes.
func (r *reader) rawString() (raw []byte, escaped bool, err error) {
	if r.peek() != '"' {
		return nil, false, r.fail(r.pos, "expected a string, found %s", r.found())
	}
	start := r.pos
	for i := start + 1; i < len(r.b); i++ {
		switch c := r.b[i]; {
		case c == '\\':
			escaped = true
			i++
		case c < 0x20:
			return nil, false, r.fail(i, "control character 0x%02x in a string", c)
		case c == '"':
			raw = r.b[start : i+1]
			if !utf8.Valid(raw) {
				return nil, false, r.fail(start, "string is not UTF-8")
			}
			r.pos = i + 1
			return raw, escaped, nil
		}
	}
	return nil, false, r.fail(start, "string without an end")
}

func (r *reader) str() (string, error) {
	raw, escaped, err := r.rawString()
	if err != nil {
		return "", err
	}
	if !escaped {
		return string(raw[1 : len(raw)-1]), nil
	}
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		return "", r.fail(r.pos-len(raw), "string %s: %v", raw, err)
	}
	return s, nil
}

// number reads an integer in JSON's grammar. The files have no other numbers;
// fractions and exponents are allowed only in text that is kept (see keep).
func (r *reader) number() ([]byte, error) {
	r.peek()
	start := r.pos
	i := start
	if i < len(r.b) && r.b[i] == '-' {
		i++
	}
	digits := i
	for i < len(r.b) && r.b[i] >= '0' && r.b[i] <= '9' {
		i++
	}
	switch {
	case i == digits:
		return nil, r.fail(start, "expected an integer, found %s", r.found())
	case i-digits > 1 && r.b[digits] == '0':
		return nil, r.fail(start, "integer with a leading zero")
	}
	r.pos = i
	return r.b[start:i], nil
}

// integer reads an integer that fits into so many bits.
func (r *reader) integer(bits int) (int64, error) {
	text, err := r.number()
	if err != nil {
		return 0, err
	}
	v, err := strconv.ParseInt(string(text), 10, bits)
	if err != nil {
		return 0, r.fail(r.pos-len(text), "integer %s does not fit into %d bits", text, bits)
	}
	return v, nil
}

func (r *reader) boolean() (bool, error) {
	switch {
	case r.word("true"):
		return true, nil
	case r.word("false"):
		return false, nil
	}
	return false, r.fail(r.pos, "expected true or false, found %s", r.found())
}

// intKey turns a key into a map's integer key.
func (r *reader) intKey(key string, at int) (int32, error) {
	v, err := strconv.ParseInt(key, 10, 32)
	if err != nil {
		return 0, r.fail(at, "key %q is not a 32-bit integer", key)
	}
	return int32(v), nil
}

// int64s reads a map of integer keys to integers.
func (r *reader) int64s() (map[int32]int64, error) {
	m := make(map[int32]int64)
	err := r.object(func(key string, at int) error {
		k, err := r.intKey(key, at)
		if err != nil {
			return err
		}
		m[k], err = r.integer(64)
		return err
	})
	if err != nil {
		return nil, err
	}
	return m, nil
}

// keep reads any value and returns its text as valid, compact JSON: keys are
// quoted, white space is gone, numbers and strings are as they were.
func (r *reader) keep() (json.RawMessage, error) {
	text, err := r.appendValue(nil, 0)
	return json.RawMessage(text), err
}

func (r *reader) appendValue(dst []byte, depth int) ([]byte, error) {
	if depth > maxDepth {
		return nil, r.fail(r.pos, "nested deeper than %d levels", maxDepth)
	}
	var err error
	switch c := r.peek(); {
	case c == '{':
		first := true
		dst = append(dst, '{')
		err = r.object(func(key string, _ int) error {
			if !first {
				dst = append(dst, ',')
			}
			first = false
			dst = append(appendString(dst, key), ':')
			dst, err = r.appendValue(dst, depth+1)
			return err
		})
		return append(dst, '}'), err
	case c == '[':
		first := true
		dst = append(dst, '[')
		err = r.list('[', ']', func() error {
			if !first {
				dst = append(dst, ',')
			}
			first = false
			dst, err = r.appendValue(dst, depth+1)
			return err
		})
		return append(dst, ']'), err
	case c == '"':
		s, err := r.str()
		return appendString(dst, s), err
	case c == '-' || (c >= '0' && c <= '9'):
		return r.appendNumber(dst)
	}
	for _, w := range []string{"null", "true", "false"} {
		if r.word(w) {
			return append(dst, w...), nil
		}
	}
	return nil, r.fail(r.pos, "expected a value, found %s", r.found())
}

// appendNumber keeps a number of any kind, fractions included.
func (r *reader) appendNumber(dst []byte) ([]byte, error) {
	start := r.pos
	for r.pos < len(r.b) && bytes.IndexByte([]byte("+-.eE0123456789"), r.b[r.pos]) >= 0 {
		r.pos++
	}
	if text := r.b[start:r.pos]; json.Valid(text) {
		return append(dst, text...), nil
	}
	return nil, r.fail(start, "not a number: %q", r.b[start:r.pos])
}
