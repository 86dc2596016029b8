// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package keyindex_test

import (
	"encoding/hex"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/internal/crashdisk"
	"github.com/stelelog/stele/keyindex"
	"github.com/stelelog/stele/message"
)

// TestHash has what String.hashCode of OpenJDK and IndexFile.indexKeyHashMethod
// returned.
func TestHash(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		topic, key string
		want       int32
	}{
		{"TopicTest", "k1", 2746024},
		{"TopicTest", "k2", 2746025},
		{"TopicTest", "0A01020300002A9F", 1460219669},
	} {
		require.Equal(t, c.want, keyindex.Hash(c.topic, c.key), c.key)
	}
	// The whole text is what is hashed, UTF-16 units of it, and one hash has no
	// positive counterpart.
	require.EqualValues(t, -2147483648, message.HashString("polygenelubricants"))
	require.EqualValues(t, 646394, message.HashString("中文"))
	require.Equal(t, message.HashString("中#文"), keyindex.Hash("中", "文"))
}

// TestGoldenFile has the bytes that RocketMQ's IndexFile wrote for these puts,
// with 100 slots and 20 entries.
func TestGoldenFile(t *testing.T) {
	t.Parallel()
	z := keyindex.Sizes{Slots: 100, Entries: 20}
	b := &books{}
	o := b.options(crashdisk.New())
	o.Sizes = z
	s, err := keyindex.OpenSet(o)
	require.NoError(t, err)
	defer s.Close()
	_, err = s.Recover(0, keyindex.TrustAll, "")
	require.NoError(t, err)
	for _, p := range []struct {
		key  string
		off  message.Offset
		time int64
	}{
		{"k1", 1000, 1700000000000},
		{"k2", 2000, 1700000005999},
		{"k1", 3000, 1700000007000},
	} {
		m := &message.Message{Topic: "TopicTest", PhysicalOffset: p.off, StoreTimestamp: p.time}
		m.SetKeys(p.key)
		require.NoError(t, s.Put(m))
	}
	// The fourth text has no # in it, so it is no key of a topic.
	require.NoError(t, s.PutHash(0, 4000, 1699999990000))

	want := make([]byte, z.FileSize())
	put := func(at int, text string) {
		part, err := hex.DecodeString(text)
		require.NoError(t, err)
		copy(want[at:], part)
	}
	put(0, "0000018bcfe568000000018bcfe540f000000000000003e80000000000000fa00000000300000005")
	put(40+4*24, "00000003")
	put(40+4*25, "00000002")
	put(40, "00000004")
	put(440+20, "0029e6a800000000000003e80000000000000000")
	put(440+40, "0029e6a900000000000007d00000000500000000")
	put(440+60, "0029e6a80000000000000bb80000000700000001")
	put(440+80, "000000000000000000000fa00000000000000000")
	require.Equal(t, hex.EncodeToString(want), hex.EncodeToString(images(t, s)[0]))

	got, ok := keyindex.Infer(want)
	require.True(t, ok)
	require.Equal(t, z, got)

	// Nineteen entries have room; RocketMQ's new file begins where the last ends.
	for i := range 16 {
		m := &message.Message{Topic: "TopicTest", PhysicalOffset: message.Offset(5000 + i), StoreTimestamp: 1700000009000 + int64(i)}
		m.SetKeys("more")
		require.Len(t, s.Files(), 1)
		require.NoError(t, s.Put(m))
	}
	require.Len(t, s.Files(), 2)
	require.NoError(t, s.Files()[1].Read(func(m keyindex.Image) error {
		require.Equal(t, keyindex.Header{
			BeginTime: 1700000009015, EndTime: 1700000009015, BeginOffset: 5015, EndOffset: 5015, SlotsUsed: 1, Count: 2,
		}, m.Header())
		return nil
	}))
	require.Less(t, s.Files()[0].Name(), s.Files()[1].Name(), "made in one millisecond")
}
