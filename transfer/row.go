// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package transfer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/stelelog/stele/message"
)

// ErrBadRow marks a line that is no message.
var ErrBadRow = errors.New("not a message")

// RowError says what is wrong with a line.
type RowError struct {
	Column int // in bytes, from 1; 0 when it is not known
	Cause  error
}

// Error implements error.
func (e *RowError) Error() string { return e.Cause.Error() }

// Unwrap returns the cause.
func (e *RowError) Unwrap() error { return e.Cause }

func badRow(column int, format string, args ...any) error {
	return &RowError{column, fmt.Errorf("%w: "+format, append([]any{ErrBadRow}, args...)...)}
}

// anything is a field that is the store's to fill in: read over.
type anything struct{}

func (*anything) UnmarshalJSON([]byte) error { return nil }

// row is inspect.Row as it is read.
type row struct {
	Topic                     *string         `json:"topic"`
	QueueID                   int32           `json:"queueId"`
	QueueOffset               anything        `json:"queueOffset"`
	PhysicalOffset            anything        `json:"physicalOffset"`
	Size                      anything        `json:"size"`
	StoreTimestamp            int64           `json:"storeTimestamp"`
	BornTimestamp             *int64          `json:"bornTimestamp"`
	StoreHost                 anything        `json:"storeHost"`
	BornHost                  *string         `json:"bornHost"`
	SysFlag                   int32           `json:"sysFlag"`
	Flag                      int32           `json:"flag"`
	ReconsumeTimes            int32           `json:"reconsumeTimes"`
	MsgID                     anything        `json:"msgId"`
	Tags                      *string         `json:"tags"`
	Keys                      *string         `json:"keys"`
	Properties                json.RawMessage `json:"properties"`
	BodySize                  *int64          `json:"bodySize"`
	BodyCRC                   *string         `json:"bodyCRC"`
	Body                      *string         `json:"body"`
	BodyBase64                *[]byte         `json:"bodyBase64"`
	PreparedTransactionOffset int64           `json:"preparedTransactionOffset"`
	PropertiesBase64          *[]byte         `json:"propertiesBase64"`
}

// ParseRow reads a line of ndjson, an inspect.Row with its body, into m. Only the
// topic must be there; a bornTimestamp that is not is left 0, and born reports
// whether it was. Fields that a store gives anew are read over, but for
// storeTimestamp. tags and keys may stand in for the properties TAGS and KEYS, and
// must agree with them; bodySize and bodyCRC must fit the body.
//
// The error is a *RowError that wraps ErrBadRow. m owns all it holds.
func ParseRow(line []byte, m *message.Message) (born bool, err error) {
	if at := invalidUTF8(line); at >= 0 {
		return false, badRow(at+1, "byte %#x is not UTF-8", line[at])
	}
	var r row
	if err := decodeRow(line, &r); err != nil {
		return false, err
	}
	if r.Topic == nil {
		return false, badRow(0, "no topic")
	}
	*m = message.Message{
		Topic: *r.Topic, QueueID: r.QueueID, Flag: r.Flag, SysFlag: message.SysFlag(r.SysFlag), ReconsumeTimes: r.ReconsumeTimes,
		StoreTimestamp: r.StoreTimestamp, PreparedTransactionOffset: message.Offset(r.PreparedTransactionOffset),
	}
	if r.BornTimestamp != nil {
		m.BornTimestamp = *r.BornTimestamp
	}
	if r.BornHost != nil {
		if m.BornHost, err = netip.ParseAddrPort(*r.BornHost); err != nil {
			return false, badRow(columnOf(line, "bornHost"), "bornHost: %v", err)
		}
	}
	if err := r.properties(line, m); err != nil {
		return false, err
	}
	return r.BornTimestamp != nil, r.body(line, m)
}

func invalidUTF8(line []byte) int {
	if utf8.Valid(line) {
		return -1
	}
	for i := 0; ; {
		r, n := utf8.DecodeRune(line[i:])
		if r == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
}

func decodeRow(line []byte, r *row) error {
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	err := d.Decode(r)
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return badRow(int(syntax.Offset), "%v", syntax)
	case errors.As(err, &kind) && kind.Field == "":
		return badRow(1, "it is a JSON %s, must be an object", kind.Value)
	case errors.As(err, &kind):
		return badRow(columnOf(line, kind.Field), "%s can't be a JSON %s", kind.Field, kind.Value)
	case errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF):
		return badRow(len(line)+1, "the line ends within an object")
	case err != nil:
		name, _ := strings.CutPrefix(err.Error(), "json: unknown field ")
		if text, unquoted := strconv.Unquote(name); unquoted == nil {
			return badRow(columnOf(line, text), "there is no field %s", name)
		}
		return badRow(0, "%v", err)
	}
	if rest := bytes.TrimLeft(line[d.InputOffset():], " \t\r"); len(rest) > 0 {
		return badRow(len(line)-len(rest)+1, "something follows the object")
	}
	return nil
}

// columnOf is where a field of that name begins, or 0.
func columnOf(line []byte, name string) int {
	return bytes.Index(line, strconv.AppendQuote(nil, name)) + 1
}

// properties puts together what the line says about them.
func (r *row) properties(line []byte, m *message.Message) error {
	if r.PropertiesBase64 != nil {
		m.Properties = message.PropertiesFromEncoded(*r.PropertiesBase64)
		return nil // the object, tags and keys are what could be shown of it
	}
	var err error
	if m.Properties, err = parsePairs(r.Properties); err != nil {
		return badRow(columnOf(line, "properties"), "properties: %v", err)
	}
	for _, f := range []struct {
		field, name string
		value       *string
	}{{"tags", message.PropertyTags, r.Tags}, {"keys", message.PropertyKeys, r.Keys}} {
		if f.value == nil {
			continue
		}
		if have, ok := m.Properties.Get(f.name); ok && have != *f.value {
			return badRow(columnOf(line, f.field), "%s is %q, and properties has %s %q", f.field, *f.value, f.name, have)
		} else if !ok && *f.value != "" {
			m.Properties.Set(f.name, *f.value)
		}
	}
	if err := m.Properties.Err(); err != nil {
		return badRow(columnOf(line, "properties"), "%v", err)
	}
	return nil
}

// parsePairs reads an object of strings in its order.
func parsePairs(object []byte) (p message.Properties, err error) {
	if len(object) == 0 || string(object) == "null" {
		return p, nil
	}
	if pairs, ok := simplePairs(object); ok {
		p = message.NewProperties(pairs...)
		return p, p.Err()
	}
	d := json.NewDecoder(bytes.NewReader(object))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return p, errors.New("must be an object")
	}
	var pairs []string
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return p, err
		}
		value, err := d.Token()
		if err != nil {
			return p, err
		}
		key, _ := name.(string) // what stands before a colon always is one
		text, ok := value.(string)
		if !ok {
			return p, fmt.Errorf("%q must be a string", key)
		}
		pairs = append(pairs, key, text)
	}
	p = message.NewProperties(pairs...)
	return p, p.Err()
}

// simplePairs is parsePairs for what most lines have, strings without escapes: it needs
// no decoder. The object was found to be sound JSON.
func simplePairs(object []byte) (pairs []string, ok bool) {
	if bytes.IndexByte(object, '\\') >= 0 {
		return nil, false
	}
	parts := strings.Split(string(object), `"`) // a string is every second one
	for i := 0; i < len(parts); i += 2 {
		want := ","
		switch {
		case i == 0:
			want = "{"
		case i == len(parts)-1:
			want = "}"
		case i%4 == 2:
			want = ":"
		}
		if strings.TrimSpace(parts[i]) != want {
			return nil, false
		}
		if i > 0 {
			pairs = append(pairs, parts[i-1])
		}
	}
	return pairs, len(pairs)%2 == 0
}

// body takes the body and holds it against what the line says about it.
func (r *row) body(line []byte, m *message.Message) error {
	switch {
	case r.Body != nil && r.BodyBase64 != nil:
		return badRow(columnOf(line, "bodyBase64"), "both body and bodyBase64")
	case r.Body != nil:
		m.Body = []byte(*r.Body)
	case r.BodyBase64 != nil:
		m.Body = *r.BodyBase64
	case r.BodySize != nil && *r.BodySize > 0:
		return badRow(columnOf(line, "bodySize"), "bodySize is %d, and there is no body: list messages with --body", *r.BodySize)
	}
	if r.BodySize != nil && *r.BodySize != int64(len(m.Body)) {
		return badRow(columnOf(line, "bodySize"), "bodySize is %d, the body has %d bytes (leave out bodySize and bodyCRC if it was changed)", *r.BodySize, len(m.Body))
	}
	if r.BodyCRC != nil {
		if sum := fmt.Sprintf("%08x", crc32.ChecksumIEEE(m.Body)); *r.BodyCRC != sum {
			return badRow(columnOf(line, "bodyCRC"), "bodyCRC is %q, that of the body %s (leave out bodySize and bodyCRC if it was changed)", *r.BodyCRC, sum)
		}
	}
	return nil
}
