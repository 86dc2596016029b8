// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package message

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMessageProperties(t *testing.T) {
	t.Parallel()
	var m Message
	require.Empty(t, m.Tags())
	require.Nil(t, m.Keys())
	require.Empty(t, m.UniqKey())

	m.SetTags("TagA")
	m.SetKeys("k1", "k2")
	m.Properties.Set(PropertyUniqKey, "u")
	require.Equal(t, "TagA", m.Tags())
	require.Equal(t, []string{"k1", "k2"}, m.Keys())
	require.Equal(t, "u", m.UniqKey())
	require.Equal(t, "TAGS\x01TagA\x02KEYS\x01k1 k2\x02UNIQ_KEY\x01u\x02", string(m.Properties.Encoded()))

	m.SetTags("")
	m.SetKeys()
	require.Equal(t, "UNIQ_KEY\x01u\x02", string(m.Properties.Encoded()))
	require.NoError(t, m.Properties.Err())

	m.Properties = NewProperties(PropertyKeys, "  a  b ")
	require.Equal(t, []string{"a", "b"}, m.Keys())

	for _, bad := range [][]string{{"a b"}, {"a", ""}, {""}} {
		m.Properties = Properties{}
		m.SetKeys(bad...)
		require.ErrorIs(t, m.Properties.Err(), ErrBadProperty)
	}
}

func TestWaitStored(t *testing.T) {
	t.Parallel()
	require.True(t, new(Message).WaitStored())
	for value, want := range map[string]bool{
		"true": true, "TRUE": true, "True": true, "false": false, "yes": false, "1": false, " true": false,
	} {
		m := Message{Properties: NewProperties(PropertyWait, value)}
		require.Equal(t, want, m.WaitStored(), value)
	}
	empty := Message{Properties: PropertiesFromEncoded([]byte("WAIT\x01\x02"))}
	require.True(t, empty.WaitStored(), "a pair without a value is not there")
}

func TestQueueStep(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		flags SysFlag
		num   string
		want  QueueOffset
	}{
		{"ordinary", 0, "", 1},
		{"commit", TransactionCommit, "", 1},
		{"prepared", TransactionPrepared, "", 0},
		{"rollback", TransactionRollback, "", 0},
		{"number without the flag", 0, "5", 1},
		{"inner batch", InnerBatch, "5", 5},
		{"inner batch of none", InnerBatch, "0", 1},
		{"inner batch of less", InnerBatch, "-5", 1},
		{"inner batch without a number", InnerBatch, "", 1},
		{"inner batch with a bad number", InnerBatch, "40000", 1},
	} {
		m := Message{SysFlag: c.flags}
		if c.num != "" {
			m.Properties.Set(PropertyInnerNum, c.num)
		}
		require.Equal(t, c.want, m.QueueStep(), c.name)
	}
}

func TestCloneOutlivesItsSource(t *testing.T) {
	t.Parallel()
	b := goldenRecords[0].bytes(t)
	var m Message
	require.NoError(t, new(Decoder).Decode(b, &m))
	c := m.Clone()
	require.Equal(t, m, *c)
	clear(b)
	require.Equal(t, "hello", string(c.Body))
	require.Equal(t, "TagA", c.Tags())
	require.Equal(t, "TopicTest", c.Topic)
}

func TestSysFlagCompression(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		flags SysFlag
		want  Compression
	}{
		{0, CompressionNone},
		{1 << 8, CompressionNone},
		{Compressed, CompressionZLIB},
		{Compressed | 1<<8, CompressionLZ4},
		{Compressed | 2<<8, CompressionZSTD},
		{Compressed | 3<<8, CompressionZLIB},
		{Compressed | 7<<8, Compression(7)},
	} {
		require.Equal(t, c.want, c.flags.Compression(), "%#x", int32(c.flags))
	}
	require.Equal(t, SysFlag(0x301), SysFlag(0x701).WithCompression(CompressionZLIB))
	require.Equal(t, MultiTags, (MultiTags | 0x201).WithCompression(CompressionNone))
	require.Equal(t, TransactionCommit, (TransactionCommit | BornHostV6).Transaction())
}
