// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package consumequeue

import (
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/internal/crashdisk"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
)

// A queue file that RocketMQ's own DefaultMessageStore wrote, and what its
// putMessage returned for four of the messages.
func TestFileOfRocketMQ(t *testing.T) {
	t.Parallel()
	for _, how := range []Trust{TrustNothing, TrustOrder} {
		s, err := OpenSet(Options{Dir: "testdata/consumequeue", ReadOnly: true})
		require.NoError(t, err)
		require.EqualValues(t, 6000, s.FileSize())
		require.Equal(t, []string{"topic-0"}, s.Topics())
		q := s.Get("topic-0", 3)
		require.NoError(t, q.Recover(math.MaxInt64, how))
		requireRange(t, q, 0, 203)
		for at, want := range map[message.QueueOffset]Entry{
			0:   {1542, 350, 2598920},
			1:   {4696, 695, 2598919},
			101: {622167, 751, 0},
			202: {1422658, 584, 2598919},
		} {
			e, err := q.EntryAt(at)
			require.NoError(t, err)
			require.Equal(t, want, e)
		}
		es := all(t, q)
		for i := 1; i < len(es); i++ {
			require.GreaterOrEqual(t, es[i].Offset, es[i-1].End())
		}
		last, at, ok, err := q.Last()
		require.NoError(t, err)
		require.True(t, ok)
		require.EqualValues(t, 202, at)
		require.NoError(t, q.Recover(last.Offset, how))
		requireRange(t, q, 0, 202)
		require.NoError(t, s.Close())
	}
}

func TestOpenSet(t *testing.T) {
	t.Parallel()
	file := func(size int64, path ...string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			p := filepath.Join(append([]string{dir}, path...)...)
			require.NoError(t, os.MkdirAll(filepath.Dir(p), 0o755))
			require.NoError(t, os.WriteFile(p, make([]byte, size), 0o644))
		}
	}
	subdir := func(path ...string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			require.NoError(t, os.MkdirAll(filepath.Join(append([]string{dir}, path...)...), 0o755))
		}
	}
	data := func(path ...string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			f, err := os.OpenFile(filepath.Join(append([]string{dir}, path...)...), os.O_WRONLY, 0)
			require.NoError(t, err)
			_, err = f.WriteAt([]byte{1}, 100)
			require.NoError(t, err)
			require.NoError(t, f.Close())
		}
	}
	type layout []func(*testing.T, string)
	const first = "00000000000000000000"
	tests := []struct {
		name   string
		layout layout
		size   int64 // asked for
		want   []string
		got    int64  // size found
		cause  error  // or this
		path   string // of the file that the error names

		unfinished []string
	}{
		{name: "no directory", got: DefaultFileSize},
		{name: "size is rounded up", size: 6001, got: 6020},
		{name: "sorted by topic and number",
			layout: layout{subdir("b", "10"), subdir("b", "9"), subdir("a", "0")},
			want:   []string{"a/0", "b/9", "b/10"}, got: DefaultFileSize},
		{name: "size is taken from the files",
			layout: layout{subdir("a", "0"), file(2000, "b", "0", first)},
			want:   []string{"a/0", "b/0"}, got: 2000},
		{name: "what is no queue is left alone",
			layout: layout{file(9, "README"), file(9, "t", "7"), subdir("t", "x"), subdir("t", "-1"), subdir("t", "01"),
				subdir("t", "+1"), subdir("t", "2147483648"), subdir("t", "2147483647"), subdir("empty")},
			want: []string{"t/2147483647"}, got: DefaultFileSize},
		{name: "a file of length 0 is an interrupted creation",
			layout: layout{file(2000, "t", "0", first), file(0, "t", "0", "00000000000000002000"), file(0, "t", "1", first)},
			want:   []string{"t/0", "t/1"}, got: 2000, unfinished: []string{"t/0/00000000000000002000", "t/1/" + first}},
		{name: "queues of two sizes",
			layout: layout{file(4000, "a", "0", first), file(2000, "b", "0", first), file(2000, "b", "1", first)},
			cause:  mappedfile.ErrFileSize, path: "a/0/" + first},
		{name: "a short file of zeros is an interrupted creation",
			layout: layout{file(2000, "a", "0", first), file(2000, "a", "1", first), file(1000, "b", "0", first), file(777, "b", "1", first),
				file(2000, "c", "0", first), file(4, "c", "0", "00000000000000002000")},
			want: []string{"a/0", "a/1", "b/0", "b/1", "c/0"}, got: 2000, unfinished: []string{"b/0/" + first, "b/1/" + first, "c/0/00000000000000002000"}},
		{name: "a short file with something in it is not",
			layout: layout{file(2000, "a", "0", first), file(2000, "a", "1", first), file(1000, "b", "0", first), data("b", "0", first)},
			cause:  mappedfile.ErrFileSize, path: "b/0/" + first},
		{name: "another size than asked for",
			layout: layout{file(4000, "a", "0", first)}, size: 2000,
			cause: mappedfile.ErrFileSize, path: "a/0/" + first},
		{name: "half an entry too long",
			layout: layout{file(2010, "a", "0", first), data("a", "0", first)},
			cause:  mappedfile.ErrFileSize, path: "a/0/" + first},
		{name: "only files of length 0",
			layout: layout{file(0, "a", "0", first), file(0, "a", "0", "00000000000000000020")},
			cause:  mappedfile.ErrFileSize, path: "a/0/" + first},
		{name: "begins within an entry",
			layout: layout{file(2000, "a", "0", "00000000000000000030")},
			cause:  mappedfile.ErrStrayFile, path: "a/0/00000000000000000030"},
		{name: "ends at no position",
			layout: layout{file(2000, "a", "0", "09223372036854775800")},
			cause:  mappedfile.ErrStrayFile, path: "a/0/09223372036854775800"},
		{name: "stray file in a queue",
			layout: layout{file(2000, "a", "0", "notes.txt")},
			cause:  mappedfile.ErrStrayFile, path: "a/0/notes.txt"},
		{name: "hole in the run",
			layout: layout{file(2000, "a", "0", first), file(2000, "a", "0", "00000000000000004000")},
			cause:  mappedfile.ErrMissingFile, path: "a/0/00000000000000002000"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "consumequeue")
			for _, make := range tt.layout {
				make(t, dir)
			}
			s, err := OpenSet(Options{Dir: dir, FileSize: tt.size})
			if tt.cause != nil {
				require.ErrorIs(t, err, tt.cause)
				var fe *mappedfile.FileError
				require.ErrorAs(t, err, &fe)
				require.Equal(t, filepath.Join(dir, filepath.FromSlash(tt.path)), fe.Path)
				return
			}
			require.NoError(t, err)
			require.Equal(t, tt.got, s.FileSize())
			var got []string
			for _, q := range s.Queues() {
				got = append(got, q.Topic()+"/"+itoa(q.ID()))
				require.Same(t, q, s.Get(q.Topic(), q.ID()))
				require.Equal(t, s.FileSize(), q.files.FileSize())
			}
			require.Equal(t, tt.want, got)
			var unfinished []string
			for _, path := range s.Unfinished() {
				require.NoFileExists(t, path)
				short, err := filepath.Rel(dir, path)
				require.NoError(t, err)
				unfinished = append(unfinished, filepath.ToSlash(short))
			}
			require.ElementsMatch(t, tt.unfinished, unfinished)
			require.NoError(t, s.Close())
		})
	}
	_, err := OpenSet(Options{Dir: t.TempDir(), FileSize: -1})
	require.Error(t, err)
}

func TestGetOrCreate(t *testing.T) {
	t.Parallel()
	s := openSet(t, crashdisk.New())
	require.Nil(t, s.Get("a", 0))
	q, err := s.GetOrCreate("%RETRY%a", 0)
	require.NoError(t, err)
	require.Same(t, q, s.Get("%RETRY%a", 0))
	again, err := s.GetOrCreate("%RETRY%a", 0)
	require.NoError(t, err)
	require.Same(t, q, again)
	for _, k := range []key{{"", 0}, {".", 0}, {"..", 0}, {"a/b", 0}, {"../x", 0}, {"a\x00", 0}, {"a", -1}} {
		_, err := s.GetOrCreate(k.topic, k.id)
		require.ErrorIs(t, err, ErrBadName, "%q %d", k.topic, k.id)
	}
	require.Len(t, s.Queues(), 1)
}

func TestQueueMustBeRecovered(t *testing.T) {
	t.Parallel()
	d := crashdisk.New()
	layFiles(t, d, queueDir(0), fileSize, 0, reals(0, 5))
	q := openSet(t, d).Get(topic, 0)
	_, err := q.Put(0, entry(9))
	require.ErrorIs(t, err, ErrNotRecovered)
	require.ErrorIs(t, q.Fill(3), ErrNotRecovered)
	require.ErrorIs(t, q.Trim(TrustNothing), ErrNotRecovered)
	require.NoError(t, q.Recover(math.MaxInt64, TrustOrder))
	require.Equal(t, entries(0, 5), all(t, q))
}

func TestRemove(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		remove func(*Set) error
		left   []string // directories of queues
		topics []string // directories of topics
	}{
		{"a queue", func(s *Set) error { return s.Remove("a", 1) }, []string{"a/0", "b/0"}, []string{"a", "b"}},
		{"the only queue of a topic", func(s *Set) error { return s.Remove("b", 0) }, []string{"a/0", "a/1"}, []string{"a"}},
		{"a topic", func(s *Set) error { return s.RemoveTopic("a") }, []string{"b/0"}, []string{"b"}},
		{"everything", (*Set).Reset, nil, []string{}},
		{"nothing there", func(s *Set) error { return s.Remove("c", 0) }, []string{"a/0", "a/1", "b/0"}, []string{"a", "b"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := crashdisk.New()
			s := openSet(t, d)
			views := map[*Queue]Entries{}
			for _, k := range []key{{"a", 0}, {"a", 1}, {"b", 0}} {
				q, err := s.GetOrCreate(k.topic, k.id)
				require.NoError(t, err)
				put(t, q, 0, 25)
				views[q], err = q.Read(3, 4)
				require.NoError(t, err)
			}
			require.NoError(t, tt.remove(s))
			require.NoError(t, s.Flush())
			var left []string
			for _, q := range s.Queues() {
				left = append(left, q.Topic()+"/"+itoa(q.ID()))
			}
			require.Equal(t, tt.left, left)
			require.Equal(t, tt.topics, names(t, d, root))
			for q, v := range views {
				require.Equal(t, entry(6), v.At(3), "what was borrowed stays")
				v.Release()
				if s.Get(q.Topic(), q.ID()) == q {
					continue
				}
				_, err := q.Read(3, 4)
				require.ErrorIs(t, err, ErrRemoved)
				_, err = q.Put(25, entry(25))
				require.ErrorIs(t, err, ErrRemoved)
				require.ErrorIs(t, q.Wait(t.Context(), 25), ErrRemoved)
			}
			// Removed for good, and made anew from nothing.
			after := openSet(t, d.DurableClone())
			require.Len(t, after.Queues(), len(tt.left))
			q, err := s.GetOrCreate("b", 0)
			require.NoError(t, err)
			put(t, q, int64(q.Max()), 30)
		})
	}
}

func TestRemoveLeavesStrangersAlone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(dir, topic, "0", "theirs"), 0o755))
	s, err := OpenSet(Options{Dir: dir, FileSize: fileSize})
	require.NoError(t, err)
	put(t, s.Get(topic, 0), 0, 25)
	require.NoError(t, s.Reset())
	require.Empty(t, s.Queues())
	left, err := os.ReadDir(filepath.Join(dir, topic, "0"))
	require.NoError(t, err)
	require.Len(t, left, 1)
	require.NoError(t, s.Close())
}

func TestClose(t *testing.T) {
	t.Parallel()
	d := crashdisk.New()
	s := openSet(t, d)
	q := create(t, s, 0)
	put(t, q, 0, 5)
	es, err := q.Read(0, 5)
	require.NoError(t, err)
	require.NoError(t, s.Close())
	require.NoError(t, s.Close())

	require.Equal(t, entry(4), es.At(4), "what was borrowed stays")
	es.Release()
	es.Release()
	_, err = q.Read(0, 5)
	require.ErrorIs(t, err, mappedfile.ErrClosed)
	_, err = q.Put(5, entry(5))
	require.ErrorIs(t, err, mappedfile.ErrClosed)
	require.ErrorIs(t, q.Wait(t.Context(), 5), mappedfile.ErrClosed)
	require.NoError(t, q.Wait(t.Context(), 4), "what was reached stays reached")
	require.ErrorIs(t, s.Flush(), mappedfile.ErrClosed)
	_, err = s.GetOrCreate("new", 0)
	require.ErrorIs(t, err, mappedfile.ErrClosed)
}

func TestFlush(t *testing.T) {
	t.Parallel()
	d := crashdisk.New()
	s := openSet(t, d)
	a, b := create(t, s, 0), create(t, s, 1)
	put(t, a, 13, 25)
	put(t, b, 0, 5)
	require.NoError(t, s.Flush())
	after := openSet(t, d.DurableClone())
	require.NoError(t, after.Recover(math.MaxInt64, TrustNothing, 2))
	require.Equal(t, entries(13, 25), all(t, after.Get(topic, 0)))
	require.Equal(t, entries(0, 5), all(t, after.Get(topic, 1)))

	flushes := d.Total(crashdisk.OpFlush, crashdisk.AnyKind)
	require.NoError(t, s.Flush())
	require.Equal(t, flushes, d.Total(crashdisk.OpFlush, crashdisk.AnyKind), "nothing changed")
	put(t, b, 5, 6)
	require.NoError(t, s.Flush())
	require.Equal(t, flushes+1, d.Total(crashdisk.OpFlush, crashdisk.AnyKind), "one page of one queue changed")
}

func TestFlushOfManyQueues(t *testing.T) {
	t.Parallel()
	const n = 500
	d := crashdisk.New()
	s := openSet(t, d)
	for id := range int32(n) {
		put(t, create(t, s, id), int64(id), int64(id)+3)
	}
	require.NoError(t, s.Flush())
	after := openSet(t, d.DurableClone())
	require.NoError(t, after.Recover(math.MaxInt64, TrustNothing, 4))
	for id := range int32(n) {
		require.Equal(t, entries(int64(id), int64(id)+3), all(t, after.Get(topic, id)))
	}

	for id := range int32(n) {
		put(t, s.Get(topic, id), int64(id)+3, int64(id)+4)
	}
	d.Inject(crashdisk.Fault{Op: crashdisk.OpFlush, After: 300})
	err := s.Flush()
	require.Error(t, err)
	require.Equal(t, err, s.Flush())
}

func TestFailedFlushIsFinal(t *testing.T) {
	t.Parallel()
	d := crashdisk.New()
	s := openSet(t, d)
	put(t, create(t, s, 0), 0, 5)
	d.Inject(crashdisk.Fault{Op: crashdisk.OpFlush})
	err := s.Flush()
	require.Error(t, err)
	require.ErrorContains(t, err, "orders/0")
	require.Equal(t, err, s.Flush(), "the pages may be lost, and a second flush would not say so")
}

func TestFlushAll(t *testing.T) {
	t.Parallel()
	d := crashdisk.New()
	layFiles(t, d, queueDir(0), fileSize, 0, reals(0, 15))
	r, err := d.Open(filepath.Join(queueDir(0), mappedfile.FileName(0)), mappedfile.Mapping{})
	require.NoError(t, err)
	entry(0).Encode(r.Bytes())
	r.Bytes()[EntrySize-1] = 77 // somebody else's, in the page cache only
	s := openSet(t, d)
	require.NoError(t, s.Recover(math.MaxInt64, TrustOrder, 1))
	put(t, s.Get(topic, 0), 15, 22) // into a new file
	require.NoError(t, s.FlushAll())
	require.NoError(t, r.Close())

	after := openSet(t, d.DurableClone())
	require.NoError(t, after.Recover(math.MaxInt64, TrustNothing, 1))
	got := all(t, after.Get(topic, 0))
	require.Len(t, got, 22)
	require.EqualValues(t, 77, got[0].TagsCode)
	require.Equal(t, entries(1, 22), got[1:])

	d.Inject(crashdisk.Fault{Op: crashdisk.OpFlush})
	err = s.FlushAll()
	require.ErrorContains(t, err, "orders/0")
	require.Equal(t, err, s.FlushAll())
	require.Equal(t, err, s.Flush())
}
