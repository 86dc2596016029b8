// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package commitlog_test

import (
	"bytes"
	"context"
	"net/netip"
	"path"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/stelelog/stele/commitlog"
	"github.com/stelelog/stele/internal/crashdisk"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const dir = "commitlog"

// firstTime is the store time of the first record of most tests.
const firstTime = int64(1700000000000)

func filePath(base int64) string { return path.Join(dir, mappedfile.FileName(base)) }

// clock tells firstTime, and a millisecond more each time that it is asked.
type clock struct {
	mu  sync.Mutex
	now int64
}

func newClock() *clock { return &clock{now: firstTime} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now++
	return time.UnixMilli(c.now - 1)
}

func (c *clock) Set(ms int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = ms
}

var allPaths = []commitlog.WritePath{commitlog.WriteMmap, commitlog.WritePool, commitlog.WriteFile}

// eachPath runs a test once for each write path.
func eachPath(t *testing.T, test func(t *testing.T, path commitlog.WritePath)) {
	t.Helper()
	for _, path := range allPaths {
		t.Run(path.String(), func(t *testing.T) {
			t.Parallel()
			test(t, path)
		})
	}
}

func with(path commitlog.WritePath) func(*commitlog.Options) {
	return func(o *commitlog.Options) { o.WritePath = path }
}

// openLog opens the log on d, with files of size bytes, and closes it when the
// test ends.
func openLog(t testing.TB, d mappedfile.Disk, size int64, change ...func(*commitlog.Options)) *commitlog.Log {
	t.Helper()
	o := commitlog.Options{Dir: dir, Disk: d, FileSize: size, PropertyCRC: true, Clock: newClock().Now}
	for _, c := range change {
		c(&o)
	}
	l, err := commitlog.Open(o)
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// startLog opens the log on d, recovers it from its first byte and starts it.
func startLog(t testing.TB, d mappedfile.Disk, size int64, change ...func(*commitlog.Options)) *commitlog.Log {
	t.Helper()
	l := openLog(t, d, size, change...)
	r, err := l.Recover(commitlog.RecoverOptions{From: l.Min()})
	require.NoError(t, err)
	require.NoError(t, l.Start(commitlog.StartOptions{End: r.End, Flushed: l.Min(), LastTime: r.LastTime}))
	return l
}

// makeFile puts a file of zeros where a log begins.
func makeFile(t testing.TB, d *crashdisk.Disk, base, size int64) {
	t.Helper()
	require.NoError(t, d.MkdirAll(dir))
	r, err := d.Create(filePath(base), size, mappedfile.Mapping{})
	require.NoError(t, err)
	require.NoError(t, d.SyncDir(dir))
	require.NoError(t, r.Close())
}

func readFile(t testing.TB, d mappedfile.Disk, base int64) []byte {
	t.Helper()
	b, err := d.ReadFile(filePath(base))
	require.NoError(t, err)
	return b
}

const sealedMin = message.MinRecordSize + message.PropertyCRCLen

// recordOf is a record of exactly size bytes, with a property CRC. Its body
// begins with text.
func recordOf(t testing.TB, size int, text string, change ...func(*message.Message)) message.Record {
	t.Helper()
	m := &message.Message{
		Topic: "T", BornTimestamp: firstTime,
		BornHost: netip.MustParseAddrPort("10.1.2.3:34567"), StoreHost: netip.MustParseAddrPort("192.168.0.9:10911"),
	}
	m.Body = bytes.Repeat([]byte("."), size-sealedMin)
	copy(m.Body, text)
	for _, c := range change {
		c(m)
	}
	rec, err := message.Encoder{PropertyCRC: true}.Append(nil, m)
	require.NoError(t, err)
	return rec
}

// item is a record of size bytes for queue seq.
func item(t testing.TB, seq *commitlog.Sequence, size int, text string) commitlog.Item {
	t.Helper()
	return commitlog.Item{Record: recordOf(t, size, text), Sequence: seq, Step: 1}
}

// add appends a record of size bytes.
func add(t testing.TB, l *commitlog.Log, seq *commitlog.Sequence, size int, text string) commitlog.Result {
	t.Helper()
	r, err := l.Append(item(t, seq, size, text))
	require.NoError(t, err)
	return r
}

// scanned is what a scan came upon.
type scanned struct {
	Kind   commitlog.ItemKind
	Offset message.Offset
	Size   int64
	Queue  message.QueueOffset
	Body   string
}

// committed waits until everything below end is.
func committed(t testing.TB, l *commitlog.Log, end message.Offset) {
	t.Helper()
	require.NoError(t, l.WaitCommitted(background(), end-1))
}

// scan walks the whole log.
func scan(t testing.TB, l *commitlog.Log, from, to message.Offset, o commitlog.ScanOptions) ([]scanned, commitlog.Stop) {
	t.Helper()
	if to <= l.Appended() && l.Err() == nil {
		committed(t, l, to)
	}
	s := l.Scan(from, to, o)
	defer s.Close()
	var all []scanned
	for s.Next() {
		it := s.Item()
		one := scanned{Kind: it.Kind, Offset: it.Offset, Size: it.Size}
		if it.Kind == commitlog.ItemRecord {
			require.EqualValues(t, it.Size, it.Message.Size)
			require.Len(t, it.Record, int(it.Size))
			one.Queue, one.Body = it.Message.QueueOffset, string(it.Message.Body)
		}
		all = append(all, one)
	}
	return all, s.Stop()
}

// recordsOf keeps the records of a scan.
func recordsOf(all []scanned) []scanned {
	var kept []scanned
	for _, s := range all {
		if s.Kind == commitlog.ItemRecord {
			kept = append(kept, s)
		}
	}
	return kept
}

func background() context.Context { return context.Background() }
