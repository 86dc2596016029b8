// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package message

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// stored is one line of testdata/broker.ndjson: what putMessage of RocketMQ 5.3 returned
// for the record at the same place in testdata/broker.log, which that store wrote with
// enabledAppendPropCRC.
type stored struct {
	Topic          string
	QueueID        int32
	QueueOffset    QueueOffset
	PhysicalOffset Offset
	Size           int32
	StoreTimestamp int64
	MsgID          string
	Tags, Keys     *string
	BodySize       int
	BodyCRC        string // eight hex digits of the 32-bit CRC; a record stores 31 of them
}

func brokerLog(t testing.TB) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/broker.log")
	require.NoError(t, err)
	return b
}

func brokerLines(t testing.TB) []stored {
	t.Helper()
	f, err := os.Open("testdata/broker.ndjson")
	require.NoError(t, err)
	defer f.Close()
	var lines []stored
	for s := bufio.NewScanner(f); s.Scan(); {
		var l stored
		require.NoError(t, json.Unmarshal(s.Bytes(), &l))
		lines = append(lines, l)
	}
	return lines
}

func TestRecordsOfARealBroker(t *testing.T) {
	t.Parallel()
	log, lines := brokerLog(t), brokerLines(t)
	require.Len(t, lines, 20)
	d := Decoder{Check: CheckAll}
	v6 := 0
	for i, want := range lines {
		var m Message
		require.NoError(t, d.Decode(log, &m), "record %d", i)

		got := stored{
			Topic: m.Topic, QueueID: m.QueueID, QueueOffset: m.QueueOffset, PhysicalOffset: m.PhysicalOffset,
			Size: m.Size, StoreTimestamp: m.StoreTimestamp, MsgID: m.ID(), BodySize: len(m.Body),
			BodyCRC: want.BodyCRC,
		}
		if tags, ok := m.Properties.Get(PropertyTags); ok {
			got.Tags = &tags
			require.Equal(t, tags, m.Tags())
		}
		if keys, ok := m.Properties.Get(PropertyKeys); ok {
			got.Keys = &keys
			require.Equal(t, keys, strings.Join(m.Keys(), " "))
		}
		require.Equal(t, want, got)
		var crc uint32
		_, err := fmt.Sscanf(want.BodyCRC, "%08x", &crc)
		require.NoError(t, err)
		require.Equal(t, crc&crcMask, m.BodyCRC)
		_, sealed := m.Properties.Get(PropertyCRC32)
		require.True(t, sealed)
		if m.StoreHost.Addr().Is6() {
			v6++
		}

		record := encode(t, Encoder{PropertyCRC: true}, &m)
		require.True(t, bytes.Equal(log[:m.Size], record), "record %d is not encoded as the broker does", i)
		log = log[m.Size:]
	}
	require.Empty(t, log)
	require.NotZero(t, v6, "the sample must have IPv6 hosts")
}

// encode returns the finished record of m.
func encode(t testing.TB, e Encoder, m *Message) Record {
	t.Helper()
	b, err := e.Append(nil, m)
	require.NoError(t, err)
	r := Record(b)
	r.Patch(m.PhysicalOffset, m.QueueOffset, m.StoreTimestamp)
	r.Seal()
	return r
}
