// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package mappedfile_test

import (
	"bytes"
	"math/rand/v2"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/internal/crashdisk"
	"github.com/stelelog/stele/mappedfile"
)

const writerFile = 96 << 10

// writers makes each kind of Writer on a file, from a position on.
var writers = map[string]func(t *testing.T, d mappedfile.Disk, f *mappedfile.File, from int64) mappedfile.Writer{
	"mapping": func(t *testing.T, _ mappedfile.Disk, f *mappedfile.File, _ int64) mappedfile.Writer {
		t.Helper()
		w, err := mappedfile.NewMapWriter(f)
		require.NoError(t, err)
		return w
	},
	"pool": func(t *testing.T, d mappedfile.Disk, f *mappedfile.File, from int64) mappedfile.Writer {
		t.Helper()
		p, err := mappedfile.NewPool(d, writerFile, 1, nil)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, p.Close()) })
		// The buffer held another file's bytes before.
		used := p.Writer(f, 0)
		require.NoError(t, used.Put(0, bytes.Repeat([]byte("#"), writerFile)))
		used.Close()
		return p.Writer(f, from)
	},
	"file": func(_ *testing.T, _ mappedfile.Disk, f *mappedfile.File, from int64) mappedfile.Writer {
		return mappedfile.NewFileWriter(f, make([]byte, 5000), from, 0)
	},
	"file with zeros ahead": func(_ *testing.T, _ mappedfile.Disk, f *mappedfile.File, from int64) mappedfile.Writer {
		return mappedfile.NewFileWriter(f, make([]byte, 5000), from, 10000)
	},
}

func newFile(t *testing.T, d mappedfile.Disk, dir string) *mappedfile.File {
	t.Helper()
	q, err := mappedfile.OpenQueue(mappedfile.Options{Dir: dir, FileSize: writerFile, Disk: d, ReserveWhole: true})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, q.Close()) })
	f, err := q.Add(0)
	require.NoError(t, err)
	return f
}

// What is Put and committed is what the mapping shows and what the file holds, on
// a real file system and on crashdisk, while another goroutine commits.
func TestWriters(t *testing.T) {
	t.Parallel()
	for name, newWriter := range writers {
		for on, d := range map[string]mappedfile.Disk{"os": mappedfile.OS(), "crashdisk": crashdisk.New()} {
			t.Run(name+" on "+on, func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				require.NoError(t, d.MkdirAll(dir))
				f := newFile(t, d, dir)
				const from = 4097
				w := newWriter(t, d, f, from)
				rng := rand.New(rand.NewPCG(7, 7))
				want := make([]byte, writerFile)
				ends := newEnds()
				var commits sync.WaitGroup
				commits.Go(func() {
					for to := range ends.all {
						if err := w.Commit(to); err != nil {
							t.Error(err)
						}
					}
				})
				pos := int64(from)
				for pos < writerFile-100 {
					b := want[pos:min(pos+int64(8+rng.IntN(9000)), writerFile-100)]
					for i := range b {
						b[i] = byte(rng.Uint32())
					}
					require.NoError(t, w.Put(pos, b))
					pos += int64(len(b))
					ends.offer(pos)
				}
				close(ends.all)
				commits.Wait()
				require.NoError(t, w.Commit(pos))
				require.NoError(t, w.Commit(pos), "again")
				data, err := f.Bytes()
				require.NoError(t, err)
				require.True(t, bytes.Equal(want, data))
				require.NoError(t, f.Flush(0, writerFile))
				w.Close()
				read, err := d.ReadFile(f.Path())
				require.NoError(t, err)
				require.True(t, bytes.Equal(want, read), "nothing of what the buffer held before")
			})
		}
	}
}

// ends hands the newest position to a committer, and older ones only if it is
// quick.
type ends struct{ all chan int64 }

func newEnds() ends { return ends{make(chan int64, 1)} }

func (e ends) offer(pos int64) {
	select {
	case e.all <- pos:
	default:
	}
}

func TestWritersRefuseWhatIsOutOfOrder(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"pool", "file"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := crashdisk.New()
			require.NoError(t, d.MkdirAll("d"))
			f := newFile(t, d, "d")
			w := writers[name](t, d, f, 100)
			defer w.Close()
			require.ErrorIs(t, w.Put(99, []byte("12345678")), mappedfile.ErrOutOfRange)
			require.NoError(t, w.Put(100, []byte("12345678")))
			require.ErrorIs(t, w.Put(100, []byte("12345678")), mappedfile.ErrOutOfRange)
		})
	}
}

// After a write that failed the Writer still has the bytes.
func TestCommitCanBeTriedAgain(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"pool", "file"} {
		for _, op := range []crashdisk.Op{crashdisk.OpWrite, crashdisk.OpWriteRest} {
			t.Run(name+", "+op.String(), func(t *testing.T) {
				t.Parallel()
				d := crashdisk.New()
				require.NoError(t, d.MkdirAll("d"))
				f := newFile(t, d, "d")
				w := writers[name](t, d, f, 0)
				defer w.Close()
				b := bytes.Repeat([]byte("x"), 4900)
				require.NoError(t, w.Put(0, b))
				d.Inject(crashdisk.Fault{Op: op, Err: syscall.ENOSPC})
				err := w.Commit(4900)
				require.ErrorIs(t, err, mappedfile.ErrDiskFull)
				require.ErrorContains(t, err, f.Path())
				if name == "pool" {
					data, err := f.Bytes()
					require.NoError(t, err)
					require.Equal(t, make([]byte, 8), data[:8], "the head goes last")
				}
				require.NoError(t, w.Commit(4900))
				data, err := f.Bytes()
				require.NoError(t, err)
				require.True(t, bytes.Equal(b, data[:4900]))
			})
		}
	}
}

func TestWriteToAReadOnlyFile(t *testing.T) {
	t.Parallel()
	d := crashdisk.New()
	require.NoError(t, d.MkdirAll("d"))
	newFile(t, d, "d")
	q, err := mappedfile.OpenQueue(mappedfile.Options{Dir: "d", Disk: d, Mapping: mappedfile.Mapping{ReadOnly: true}})
	require.NoError(t, err)
	defer func() { require.NoError(t, q.Close()) }()
	require.ErrorIs(t, q.First().Write(0, []byte("x")), mappedfile.ErrReadOnly)
}

func TestPool(t *testing.T) {
	t.Parallel()
	d := mappedfile.OS()
	dir := t.TempDir()
	f := newFile(t, d, dir)
	p, err := mappedfile.NewPool(d, writerFile, 2, nil)
	require.NoError(t, err)
	a, b := p.Writer(f, 0), p.Writer(f, 0)
	require.NotNil(t, a)
	require.NotNil(t, b)
	require.Nil(t, p.Writer(f, 0))
	st := p.Stats()
	require.Equal(t, 2, st.Buffers)
	require.Zero(t, st.Free)
	require.EqualValues(t, 1, st.Empty)
	b.Close()
	require.Equal(t, 1, p.Stats().Free)
	require.NoError(t, p.Close())
	require.NoError(t, p.Close(), "twice")
	st = p.Stats()
	if st.Refused == nil {
		require.LessOrEqual(t, st.LockedBytes, int64(2*writerFile))
	}
	require.NoError(t, a.Put(0, []byte("still there until it is given back")))
	a.Close()
}

// TestLockedMemory is about what the kernel allows: a process may lock 8 MiB here
// or there, or none at all.
func TestLockedMemory(t *testing.T) {
	t.Parallel()
	m, err := mappedfile.OS().Memory(1 << 20)
	require.NoError(t, err)
	b := m.Bytes()
	require.Len(t, b, 1<<20)
	require.True(t, bytes.Equal(b, make([]byte, 1<<20)))
	b[5] = 5
	if err := m.Lock(0, 1<<20); err != nil {
		require.ErrorContains(t, err, "lock 1048576 bytes")
	}
	require.EqualValues(t, 5, b[5], "what is locked does not change")
	require.NoError(t, m.Free())
	require.Error(t, m.Free())
	_, err = mappedfile.OS().Memory(0)
	require.ErrorIs(t, err, syscall.EINVAL)
}
