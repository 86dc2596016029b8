// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package consumequeue

import (
	"bytes"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/internal/crashdisk"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
)

const (
	root     = "/store/consumequeue"
	topic    = "orders"
	perFile  = 10 // entries in a file of most tests
	fileSize = perFile * EntrySize
	recSize  = 100 // bytes of every record in most tests
)

// entry is the entry of message i, whose record lies at i·recSize.
func entry(i int64) Entry {
	return Entry{Offset: message.Offset(i * recSize), Size: recSize, TagsCode: -i}
}

// The bytes of a unit in a hand-made file.
func unit(i int64) []byte { b := make([]byte, EntrySize); entry(i).Encode(b); return b }

func blankUnit() []byte { b := make([]byte, EntrySize); blank.Encode(b); return b }

func zeroUnit() []byte { return make([]byte, EntrySize) }

// tornUnit is an entry of which only the first eleven bytes arrived: its size
// is not there, or not whole.
func tornUnit(i int64) []byte { b := unit(i); clear(b[11:]); return b }

func junkUnit() []byte { return bytes.Repeat([]byte{0xA5}, EntrySize) }

// reals are the entries of messages [from, to), zeros n zero units, and so on.
func reals(from, to int64) (us [][]byte) {
	for i := from; i < to; i++ {
		us = append(us, unit(i))
	}
	return us
}

func repeat(unit []byte, n int) [][]byte { return slices.Repeat([][]byte{unit}, n) }

func zeros(n int) [][]byte  { return repeat(zeroUnit(), n) }
func blanks(n int) [][]byte { return repeat(blankUnit(), n) }

func join(parts ...[][]byte) [][]byte { return slices.Concat(parts...) }

// layFiles makes the files of a queue, the first at entry number first: units
// in order, the last file filled up with zeros.
func layFiles(t testing.TB, d mappedfile.Disk, dir string, size int64, first int64, us [][]byte) {
	t.Helper()
	require.NoError(t, d.MkdirAll(dir))
	all := slices.Concat(us...)
	for base := first * EntrySize; len(all) > 0; base += size {
		r, err := d.Create(filepath.Join(dir, mappedfile.FileName(base)), size, mappedfile.Mapping{})
		require.NoError(t, err)
		require.NoError(t, r.Reserve(0, size))
		all = all[copy(r.Bytes(), all):]
		require.NoError(t, r.Flush(0, size))
		require.NoError(t, r.Close())
	}
	require.NoError(t, d.SyncDir(dir))
}

func queueDir(id int32) string { return filepath.Join(root, topic, strconv.Itoa(int(id))) }

func openSet(t testing.TB, d mappedfile.Disk, change ...func(*Options)) *Set {
	t.Helper()
	o := Options{Dir: root, Disk: d, FileSize: fileSize}
	for _, c := range change {
		c(&o)
	}
	s, err := OpenSet(o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

func readOnly(o *Options) { o.ReadOnly = true }

// newQueue is queue 0 of a new set on a disk in memory.
func newQueue(t testing.TB, change ...func(*Options)) (*Queue, *crashdisk.Disk) {
	t.Helper()
	d := crashdisk.New()
	return create(t, openSet(t, d, change...), 0), d
}

func create(t testing.TB, s *Set, id int32) *Queue {
	t.Helper()
	q, err := s.GetOrCreate(topic, id)
	require.NoError(t, err)
	return q
}

// put appends the entries of messages [from, to) at their own offsets.
func put(t testing.TB, q *Queue, from, to int64) {
	t.Helper()
	for i := from; i < to; i++ {
		r, err := q.Put(message.QueueOffset(i), entry(i))
		require.NoError(t, err)
		require.Equal(t, Appended, r, "entry %d", i)
	}
}

// all reads every entry from Min to Max.
func all(t testing.TB, q *Queue) []Entry {
	t.Helper()
	got := []Entry{}
	for at := q.Min(); at < q.Max(); {
		es, err := q.Read(at, 1<<20)
		require.NoError(t, err)
		require.Equal(t, at, es.First())
		require.Positive(t, es.Len())
		for i := range es.Len() {
			got = append(got, es.At(i))
		}
		at += message.QueueOffset(es.Len())
		es.Release()
	}
	return got
}

// entries are those of messages [from, to).
func entries(from, to int64) []Entry {
	es := []Entry{}
	for i := from; i < to; i++ {
		es = append(es, entry(i))
	}
	return es
}

func requireRange(t testing.TB, q *Queue, lo, hi int64) {
	t.Helper()
	require.Equal(t, []message.QueueOffset{message.QueueOffset(lo), message.QueueOffset(hi)},
		[]message.QueueOffset{q.Min(), q.Max()}, "min and max of %s/%d", q.Topic(), q.ID())
}

// names lists a directory.
func names(t testing.TB, d mappedfile.Disk, dir string) []string {
	t.Helper()
	list, err := d.List(dir)
	require.NoError(t, err)
	got := []string{}
	for _, e := range list {
		got = append(got, e.Name)
	}
	return got
}

// content is the bytes of the file at entry number first.
func content(t testing.TB, d mappedfile.Disk, first int64) []byte {
	t.Helper()
	b, err := d.ReadFile(filepath.Join(queueDir(0), mappedfile.FileName(first*EntrySize)))
	require.NoError(t, err)
	return b
}
