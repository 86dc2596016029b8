// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package commitlog_test

import (
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/commitlog"
	"github.com/stelelog/stele/internal/crashdisk"
	"github.com/stelelog/stele/message"
)

// The golden bytes are the output of RocketMQ's own encoder and append callback
// for goldenMessage at position 128 of a file that begins at 0x40000000.
const (
	goldenBase = int64(0x40000000)
	goldenTime = int64(1700000000002)

	golden = `
00000098daa320a73610a6860000000200000007000000000000002a0000000040000080000000000000018bcfe56801
0a010203000087070000018bcfe56802c0a8000900002a9f0000000311223344556677880000000568656c6c6f09546f
70696354657374002f544147530154616741024b455953016b31206b3202554e49515f4b455901304130313032303330
3030303241394602`

	goldenSealed = `
000000acdaa320a73610a6860000000200000007000000000000002a0000000040000080000000000000018bcfe56801
0a010203000087070000018bcfe56802c0a8000900002a9f0000000311223344556677880000000568656c6c6f09546f
706963546573740043544147530154616741024b455953016b31206b3202554e49515f4b455901304130313032303330
30303032413946025f5f435243333223013937333033343631303002`
)

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	require.NoError(t, err)
	return b
}

func goldenRecord(t *testing.T, crc bool) message.Record {
	t.Helper()
	rec, err := message.Encoder{PropertyCRC: crc}.Append(nil, &message.Message{
		Topic: "TopicTest", QueueID: 2, Flag: 7, BornTimestamp: 1700000000001,
		BornHost: netip.MustParseAddrPort("10.1.2.3:34567"), StoreHost: netip.MustParseAddrPort("192.168.0.9:10911"),
		ReconsumeTimes: 3, PreparedTransactionOffset: 0x1122334455667788, Body: []byte("hello"),
		Properties: message.NewProperties("TAGS", "TagA", "KEYS", "k1 k2", "UNIQ_KEY", "0A01020300002A9F"),
	})
	require.NoError(t, err)
	return rec
}

// goldenLog is a log whose first file begins at goldenBase and whose next record
// goes to position pos of it.
func goldenLog(t *testing.T, pos int64, crc bool) (*crashdisk.Disk, *commitlog.Log) {
	t.Helper()
	const size = 4096
	d := crashdisk.New()
	makeFile(t, d, goldenBase, size)
	l := openLog(t, d, 0, func(o *commitlog.Options) {
		o.PropertyCRC = crc
		o.Clock = func() time.Time { return time.UnixMilli(goldenTime) }
	})
	require.EqualValues(t, size, l.FileSize(), "the length of the files that are there")
	require.Equal(t, "00000000001073741824", l.Files().First().Path()[len(dir)+1:])
	require.NoError(t, l.Start(commitlog.StartOptions{End: message.Offset(goldenBase + pos), Flushed: message.Offset(goldenBase + pos)}))
	return d, l
}

func TestGoldenBytesInTheFile(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		crc  bool
		want string
	}{
		{"V1 with IPv4 hosts", false, golden},
		{"V1 with a property CRC", true, goldenSealed},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			want := unhex(t, c.want)
			d, l := goldenLog(t, 128, c.crc)
			got, err := l.Append(commitlog.Item{
				Record: goldenRecord(t, c.crc), Sequence: commitlog.NewSequence(42), Step: 1,
			})
			require.NoError(t, err)
			require.Equal(t, commitlog.Result{
				Offset: message.Offset(goldenBase + 128), Size: int32(len(want)), QueueOffset: 42, StoreTime: goldenTime,
			}, got)
			file := readFile(t, d, goldenBase)
			require.Equal(t, make([]byte, 128), file[:128])
			require.Equal(t, want, file[128:128+len(want)])
			require.Equal(t, make([]byte, len(file)-128-len(want)), file[128+len(want):])
		})
	}
}

// RocketMQ: remaining = length + 8 is written, length + 7 rolls.
func TestEndOfFileRule(t *testing.T) {
	t.Parallel()
	const size = 4096
	for _, c := range []struct {
		name      string
		remaining int64
		filler    string // what stands where the record would have gone
	}{
		{"length and a filler", 160, ""},
		{"a byte less", 159, "0000009fcbd43194"},
		{"a filler only", 8, "00000008cbd43194"},
		{"less than a filler, as no append leaves it", 7, "00000000000000"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			pos := size - c.remaining
			d, l := goldenLog(t, pos, false)
			r, err := l.Append(commitlog.Item{Record: goldenRecord(t, false), Sequence: commitlog.NewSequence(42), Step: 1})
			require.NoError(t, err)
			file := readFile(t, d, goldenBase)
			if c.filler == "" {
				require.EqualValues(t, goldenBase+pos, r.Offset)
				require.Equal(t, make([]byte, 8), file[size-8:])
				return
			}
			require.EqualValues(t, goldenBase+size, r.Offset)
			filler := unhex(t, c.filler)
			require.Equal(t, filler, file[pos:pos+int64(len(filler))])
			require.Equal(t, make([]byte, c.remaining-int64(len(filler))), file[pos+int64(len(filler)):])
			all, stop := scan(t, l, message.Offset(goldenBase+pos), l.Appended(), commitlog.ScanOptions{Check: message.CheckAll})
			require.Equal(t, commitlog.StopEnd, stop.Kind)
			require.Equal(t, []commitlog.ItemKind{commitlog.ItemFiller, commitlog.ItemRecord},
				[]commitlog.ItemKind{all[0].Kind, all[1].Kind})
		})
	}
}
