// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package message

import (
	"encoding/binary"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSplitBatch(t *testing.T) {
	t.Parallel()
	m := goldenMessage()
	m.Body = unhex(t, goldenBatch)
	m.SysFlag = MultiTags | NeedUnwrap | InnerBatch
	m.Properties = NewProperties(PropertyCluster, "c")
	parts, err := SplitBatch(m)
	require.NoError(t, err)

	want := goldenMessage()
	want.SysFlag = MultiTags
	want.PreparedTransactionOffset = 0
	first, second := *want, *want
	first.Flag, first.Body = 5, []byte("b0")
	first.Properties = NewProperties("KEYS", "k9", "WAIT", "true", "TAGS", "TagA")
	second.Flag, second.Body = 0, []byte("b1x")
	second.Properties = NewProperties("WAIT", "true")
	require.Equal(t, []*Message{&first, &second}, parts)

	for _, part := range parts {
		var got Message
		require.NoError(t, (&Decoder{Check: CheckAll}).Decode(encode(t, Encoder{PropertyCRC: true}, part), &got))
		require.Equal(t, part.Flag, got.Flag)
		require.Equal(t, part.Body, got.Body)
		_, ok := got.Properties.Get(PropertyCluster)
		require.False(t, ok, "the batch's own properties go to none")
	}
}

func TestSplitBatchRefuses(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(m *Message){
		"empty":                func(m *Message) { m.Body = nil },
		"cut off":              func(m *Message) { m.Body = m.Body[:len(m.Body)-1] },
		"compressed":           func(m *Message) { m.SysFlag = Compressed },
		"prepared":             func(m *Message) { m.SysFlag = TransactionPrepared },
		"commit":               func(m *Message) { m.SysFlag = TransactionCommit },
		"delayed":              func(m *Message) { m.Properties.Set(PropertyDelayLevel, "1") },
		"delayed by no number": func(m *Message) { m.Properties.Set(PropertyDelayLevel, "x") },
	} {
		m := goldenMessage()
		m.Body = unhex(t, goldenBatch)
		change(m)
		_, err := SplitBatch(m)
		require.ErrorIs(t, err, ErrBadBatch, name)
	}
	m := goldenMessage()
	m.Body = unhex(t, goldenBatch)
	m.Properties.Set(PropertyDelayLevel, "0")
	_, err := SplitBatch(m)
	require.NoError(t, err, "level 0 is no delay")
}

func TestEncodeBatchRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		change func(m *Message) // of the second message
		err    error
	}{
		{"nothing wrong", func(m *Message) {}, nil},
		{"other topic", func(m *Message) { m.Topic = "other" }, ErrBadBatch},
		{"other queue", func(m *Message) { m.QueueID++ }, ErrBadBatch},
		{"other flags", func(m *Message) { m.SysFlag = MultiTags }, ErrBadBatch},
		{"delayed", func(m *Message) { m.Properties.Set(PropertyDelayLevel, "3") }, ErrBadBatch},
		{"bad property", func(m *Message) { m.Properties.Set("", "") }, ErrBadProperty},
		{"large properties", func(m *Message) { m.Properties.Set("a", strings.Repeat("x", MaxPropertiesLen)) }, ErrPropertiesTooLarge},
	} {
		second := goldenMessage()
		c.change(second)
		b, err := EncodeBatch([]*Message{goldenMessage(), second})
		require.ErrorIs(t, err, c.err, c.name)
		if c.err != nil {
			require.ErrorContains(t, err, "message 1", c.name)
			require.Nil(t, b, c.name)
		}
	}
	_, err := EncodeBatch(nil)
	require.ErrorIs(t, err, ErrBadBatch)
	compressed := goldenMessage()
	compressed.SysFlag = Compressed
	_, err = EncodeBatch([]*Message{compressed})
	require.ErrorIs(t, err, ErrBadBatch)
}

func TestAppendBatchElementLeavesDst(t *testing.T) {
	t.Parallel()
	b, err := AppendBatchElement([]byte("dst"), 1, []byte("body"), NewProperties("a", strings.Repeat("x", MaxPropertiesLen)))
	require.ErrorIs(t, err, ErrPropertiesTooLarge)
	require.Equal(t, "dst", string(b))
}

func TestDecodeBatchDamage(t *testing.T) {
	t.Parallel()
	put32 := func(at int, v int32) func([]byte) {
		return func(b []byte) { binary.BigEndian.PutUint32(b[at:], uint32(v)) }
	}
	const second = 52 // where the second element starts
	for _, c := range []struct {
		name   string
		damage func(b []byte)
		kind   error
		good   int // elements before the error
	}{
		{"size zero", put32(0, 0), ErrLength, 0},
		{"size negative", put32(0, math.MinInt32), ErrLength, 0},
		{"size past the end", put32(second, 36), ErrShort, 1},
		{"size one short", put32(second, 34), ErrLength, 1},
		{"13 bytes left over", func(b []byte) { clear(b[second:]); b[second+3] = batchFixed }, ErrShort, 2},
		{"body negative", put32(16, -1), ErrLength, 0},
		{"body past the element", put32(16, 31), ErrLength, 0},
		{"properties longer", func(b []byte) { b[23]++ }, ErrLength, 0},
		{"properties shorter", func(b []byte) { b[second+24]-- }, ErrLength, 1},
		{"properties negative", func(b []byte) { b[22] = 0x80 }, ErrLength, 0},
	} {
		b := unhex(t, goldenBatch)
		c.damage(b)
		good := 0
		var got error
		for _, err := range DecodeBatch(b) {
			require.NoError(t, got, "%s: nothing may follow an error", c.name)
			if got = err; err == nil {
				good++
			}
		}
		require.ErrorIs(t, got, ErrBadBatch, c.name)
		require.ErrorIs(t, got, c.kind, c.name)
		require.Equal(t, c.good, good, c.name)
	}
	for range DecodeBatch(unhex(t, goldenBatch)) {
		break // a consumer may stop
	}
}

// A broker reads neither magic nor CRC of an element.
func TestDecodeBatchIgnoresMagicAndCRC(t *testing.T) {
	t.Parallel()
	b := unhex(t, goldenBatch)
	copy(b[4:12], "whatever")
	n := 0
	for _, err := range DecodeBatch(b) {
		require.NoError(t, err)
		n++
	}
	require.Equal(t, 2, n)
}
