// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package transfer_test

import (
	"net/netip"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/inspect"
	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/transfer"
)

func TestParseRowReadsWhatRowWrites(t *testing.T) {
	t.Parallel()
	full := &message.Message{
		Topic: "orders", QueueID: 7, Flag: -3, SysFlag: message.TransactionCommit, BornTimestamp: 12,
		BornHost: netip.MustParseAddrPort("[2001:db8::17]:34567"), StoreHost: netip.MustParseAddrPort("10.0.0.1:1"),
		ReconsumeTimes: 3, PreparedTransactionOffset: 1 << 40, Body: []byte("two\nlines \x00\u2028"), StoreTimestamp: 99,
		Properties: message.NewProperties("z", "1", "KEYS", "a b", "TAGS", "t", "a", "\u00e9\x01"),
	}
	compressed := &message.Message{Topic: "t", Body: []byte(strings.Repeat("x", 3000))}
	require.NoError(t, compressed.CompressBody(message.CompressionLZ4))
	for name, m := range map[string]*message.Message{
		"all fields": full, "compressed": compressed, "empty": {Topic: "t"},
		"bytes":      {Topic: "t", Body: []byte{0xff, 0}},
		"twice":      {Topic: "t", Properties: message.PropertiesFromEncoded([]byte("a\x01b\x02a\x01c\x02"))},
		"no UTF-8":   {Topic: "t", Properties: message.PropertiesFromEncoded([]byte("a\x01\xff\x02"))},
		"no pair":    {Topic: "t", Properties: message.PropertiesFromEncoded([]byte("junk\x02TAGS\x01x\x02"))},
		"open ended": {Topic: "t", Properties: message.PropertiesFromEncoded([]byte("a\x01b"))},
	} {
		if !m.BornHost.IsValid() {
			m.BornHost = full.BornHost
		}
		m.StoreHost = full.StoreHost
		line := inspect.Row{Message: m, Body: inspect.BodyStored, Exact: true}.AppendJSON(nil)
		var got message.Message
		born, err := transfer.ParseRow(line, &got)
		require.NoError(t, err, name)
		require.True(t, born)
		require.NoError(t, got.Properties.Err())
		require.Equal(t, strings.TrimSuffix(string(m.Properties.Encoded()), "\x02"), strings.TrimSuffix(string(got.Properties.Encoded()), "\x02"), name)
		again := got
		again.StoreHost = m.StoreHost
		require.Equal(t, string(line), string(inspect.Row{Message: &again, Body: inspect.BodyStored, Exact: true}.AppendJSON(nil)), name)
	}
}

func TestParseRowRefuses(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]struct {
		column int
		text   string
	}{
		`{"topic":"a","queue":1}`:                            {14, `there is no field "queue"`},
		`{"topic":"a","queueId":"1"}`:                        {14, "queueId can't be a JSON string"},
		`{"topic":"a","queueId":99999999999}`:                {14, "queueId can't be a JSON number"},
		`{"topic":"a",}`:                                     {14, "invalid character '}'"},
		`{"topic":"a"`:                                       {13, "the line ends within an object"},
		`{"topic":"a"} {}`:                                   {15, "something follows the object"},
		`["topic"]`:                                          {1, "must be an object"},
		`{"queueId":1}`:                                      {0, "no topic"},
		"{\"topic\":\"\xff\"}":                               {11, "byte 0xff is not UTF-8"},
		`{"topic":"a","bornHost":"here"}`:                    {14, "bornHost"},
		`{"topic":"a","bodySize":3}`:                         {14, "there is no body"},
		`{"topic":"a","bodySize":3,"body":"ab"}`:             {14, "the body has 2 bytes"},
		`{"topic":"a","bodyCRC":"00000000","body":"ab"}`:     {14, "that of the body 9e83486d"},
		`{"topic":"a","body":"ab","bodyBase64":"YWI="}`:      {26, "both body and bodyBase64"},
		`{"topic":"a","tags":"x","properties":{"TAGS":"y"}}`: {14, `tags is "x", and properties has TAGS "y"`},
		`{"topic":"a","properties":{"x":1}}`:                 {14, `"x" must be a string`},
		`{"topic":"a","properties":{"x":"y","z":1}}`:         {14, `"z" must be a string`},
		`{"topic":"a","properties":{"x":{"y":"z"}}}`:         {14, `"x" must be a string`},
		`{"topic":"a","properties":"x"}`:                     {14, `must be an object`},
		`{"topic":"a","properties":{"x":""}}`:                {14, "empty value"},
		`{"topic":"a","properties":[]}`:                      {14, "must be an object"},
		`{"topic":"a","keys":"\u0002"}`:                      {14, ""},
	} {
		var m message.Message
		_, err := transfer.ParseRow([]byte(line), &m)
		var row *transfer.RowError
		require.ErrorAs(t, err, &row, line)
		require.ErrorIs(t, err, transfer.ErrBadRow)
		require.Contains(t, err.Error(), want.text, line)
		if want.text != "" {
			require.Equal(t, want.column, row.Column, "%s: %v", line, err)
		}
	}
}

func TestParseRowByHand(t *testing.T) {
	t.Parallel()
	var m message.Message
	born, err := transfer.ParseRow([]byte(` {"topic":"a","tags":"x","keys":"k l","body":"hi","properties":null} `), &m)
	require.NoError(t, err)
	require.False(t, born)
	require.Equal(t, "x", m.Tags())
	require.Equal(t, []string{"k", "l"}, m.Keys())
	require.Equal(t, "hi", string(m.Body))
	for text, want := range map[string]string{
		`{}`: "", `{ }`: "", ` { "a" : "b" } `: "a\x01b\x02", `{"a":"b","c":":"}`: "a\x01b\x02c\x01:\x02", `{"a":"{","b":",","c":"}"}`: "a\x01{\x02b\x01,\x02c\x01}\x02",
		`{"a":"\"","b":"\u00e4"}`: "a\x01\"\x02b\x01\u00e4\x02", `{"z":"ä","a":"1"}`: "z\x01ä\x02a\x011\x02",
	} {
		_, err := transfer.ParseRow([]byte(`{"topic":"a","properties":`+text+`}`), &m)
		require.NoError(t, err, text)
		require.Equal(t, want, string(m.Properties.Encoded()), text)
	}
}

// FuzzParseRow holds that no line panics, and that what is read is what a second
// round trip gives.
func FuzzParseRow(f *testing.F) {
	f.Add([]byte(`{"topic":"a","queueId":1,"properties":{"TAGS":"x"},"body":"b"}`))
	f.Add([]byte(`{"topic":"a","bodyBase64":"/w==","propertiesBase64":"YQFiAmEBYwI="}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		var m message.Message
		if _, err := transfer.ParseRow(line, &m); err != nil {
			require.ErrorIs(t, err, transfer.ErrBadRow)
			return
		}
		require.True(t, utf8.ValidString(m.Topic))
		m.StoreHost = netip.MustParseAddrPort("1.2.3.4:5")
		if !m.BornHost.IsValid() {
			m.BornHost = m.StoreHost
		}
		first := inspect.Row{Message: &m, Body: inspect.BodyStored, Exact: true}.AppendJSON(nil)
		var again message.Message
		_, err := transfer.ParseRow(first, &again)
		require.NoError(t, err, "%s", first)
		again.StoreHost = m.StoreHost
		require.Equal(t, string(first), string(inspect.Row{Message: &again, Body: inspect.BodyStored, Exact: true}.AppendJSON(nil)))
	})
}
