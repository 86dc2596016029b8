// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package inspect_test

import (
	"encoding/json"
	"maps"
	"net/netip"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/inspect"
	"github.com/stelelog/stele/message"
)

// row is what AppendJSON writes, read back by encoding/json.
type row struct {
	Topic          string            `json:"topic"`
	QueueID        int32             `json:"queueId"`
	QueueOffset    int64             `json:"queueOffset"`
	PhysicalOffset int64             `json:"physicalOffset"`
	Size           int32             `json:"size"`
	StoreTimestamp int64             `json:"storeTimestamp"`
	BornTimestamp  int64             `json:"bornTimestamp"`
	StoreHost      string            `json:"storeHost"`
	BornHost       string            `json:"bornHost"`
	SysFlag        int32             `json:"sysFlag"`
	Flag           int32             `json:"flag"`
	ReconsumeTimes int32             `json:"reconsumeTimes"`
	MsgID          string            `json:"msgId"`
	Tags           *string           `json:"tags"`
	Keys           *string           `json:"keys"`
	Properties     map[string]string `json:"properties"`
	BodySize       int               `json:"bodySize"`
	BodyCRC        string            `json:"bodyCRC"`
	Body           *string           `json:"body"`
	BodyBase64     *[]byte           `json:"bodyBase64"`
}

func readRow(t testing.TB, b []byte) row {
	t.Helper()
	require.NotContains(t, string(b), "\n")
	dec := json.NewDecoder(strings.NewReader(string(b)))
	dec.DisallowUnknownFields()
	var r row
	require.NoError(t, dec.Decode(&r), "%s", b)
	require.False(t, dec.More())
	return r
}

func testMessage() *message.Message {
	m := &message.Message{
		Topic: "orders", QueueID: 3, Flag: -7, BornTimestamp: 1700000000001, StoreTimestamp: 1700000000002,
		BornHost:  netip.MustParseAddrPort("10.1.2.3:34567"),
		StoreHost: netip.MustParseAddrPort("[2001:db8::1]:10911"),
		Body:      []byte("say \"hello\"\r\n\x01"), ReconsumeTimes: 2, Size: 200, QueueOffset: 42, PhysicalOffset: 1 << 40,
		SysFlag: message.StoreHostV6,
	}
	m.SetTags("TagA")
	m.SetKeys("k1", "k2")
	m.Properties.Set("名", "值\\")
	return m
}

func TestRowBytes(t *testing.T) {
	t.Parallel()
	const head = `{"topic":"orders","queueId":3,"queueOffset":42,"physicalOffset":1099511627776,"size":200,` +
		`"storeTimestamp":1700000000002,"bornTimestamp":1700000000001,"storeHost":"[2001:db8::1]:10911","bornHost":"10.1.2.3:34567",` +
		`"sysFlag":32,"flag":-7,"reconsumeTimes":2,"msgId":"20010DB800000000000000000000000100002A9F0000010000000000",` +
		`"tags":"TagA","keys":"k1 k2","properties":{"TAGS":"TagA","KEYS":"k1 k2","名":"值\\"},"bodySize":14,"bodyCRC":"`
	m := testMessage()
	require.Equal(t, head+`38fea368"}`, string(inspect.Row{Message: m}.AppendJSON(nil)))
	require.Equal(t, `x`+head+`38fea368","body":"say \"hello\"\r\n\u0001"}`, string(inspect.Row{Message: m, Body: inspect.BodyStored}.AppendJSON([]byte("x"))))
	m.Body = []byte{0xFF, 0x00}
	m.Properties = message.Properties{}
	got := readRow(t, inspect.Row{Message: m, Body: inspect.BodyStored}.AppendJSON(nil))
	require.Nil(t, got.Body)
	require.Equal(t, []byte{0xFF, 0x00}, *got.BodyBase64)
	require.Nil(t, got.Tags)
	require.Nil(t, got.Keys)
	require.Empty(t, got.Properties)
}

func TestRowOfACompressedBody(t *testing.T) {
	t.Parallel()
	for _, c := range []message.Compression{message.CompressionZLIB, message.CompressionLZ4, message.CompressionZSTD} {
		m := testMessage()
		m.Body = []byte(strings.Repeat("plain ", 100))
		plain := string(m.Body)
		require.NoError(t, m.CompressBody(c))
		stored := readRow(t, inspect.Row{Message: m, Body: inspect.BodyStored}.AppendJSON(nil))
		require.Equal(t, m.Body, *stored.BodyBase64)
		require.Equal(t, len(m.Body), stored.BodySize)
		got := readRow(t, inspect.Row{Message: m, Body: inspect.BodyPlain}.AppendJSON(nil))
		require.Equal(t, plain, *got.Body)
		require.Equal(t, stored.BodyCRC, got.BodyCRC)
		m.Body = m.Body[:len(m.Body)/2]
		broken := readRow(t, inspect.Row{Message: m, Body: inspect.BodyPlain}.AppendJSON(nil))
		require.Equal(t, m.Body, *broken.BodyBase64, "what can't be decompressed comes as it is")
	}
}

// FuzzRow checks that any message becomes one JSON object that says what the
// message says.
func FuzzRow(f *testing.F) {
	f.Add("orders", []byte("KEYS\x01k1\x02TAGS\x01a\x02"), []byte("body"), true)
	f.Add("\x00\xff", []byte("a\x011\x02b\x012\x02a\x013\x02\x02\x01x\x02c\x01\x02d"), []byte{0xC3, 0x28}, false)
	f.Add("t", []byte(strings.Repeat("n\x01v\x02m\x01w\x02", 40)), []byte("\u2028<&>\u007f"), true)
	f.Fuzz(func(t *testing.T, topic string, block, body []byte, plain bool) {
		m := &message.Message{Topic: topic, Body: body, Properties: message.PropertiesFromEncoded(block)}
		form := inspect.BodyStored
		if plain {
			form = inspect.BodyPlain
		}
		got := readRow(t, inspect.Row{Message: m, Body: form}.AppendJSON(nil))
		require.Equal(t, string([]rune(topic)), got.Topic)
		want := map[string]string{}
		for name, value := range maps.Collect(m.Properties.All()) {
			if utf8.ValidString(name) && utf8.ValidString(value) {
				want[name] = value
			}
		}
		for name, value := range want {
			require.Equal(t, value, got.Properties[name])
		}
		if utf8.Valid(body) {
			require.Equal(t, string(body), *got.Body)
		} else {
			require.Equal(t, body, *got.BodyBase64)
		}
	})
}
