// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package delivery_test

import (
	"bytes"
	"fmt"
	"os"
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/stelelog/stele/delivery"
)

// guard is mappedfile.Guard, which lies on another floor.
func guard(do func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("fault: %v", r)
		}
	}()
	return do()
}

// TestCutFile cuts the file below the mapping. Each way has an error that names the
// file and the offset, and says how much went out; what went out is right.
func TestCutFile(t *testing.T) {
	t.Parallel()
	const size, left = 400 * kib, 120 * kib // whole pages
	for _, name := range []string{"tcp", "unix"} {
		for m := delivery.Auto; m < delivery.Methods; m++ {
			t.Run(name+"/"+m.String(), func(t *testing.T) {
				t.Parallel()
				src := mapFile(t, size, 1<<30)
				want := bytes.Clone(src.Data[5:left])
				require.NoError(t, os.Truncate(src.Path, left))
				s := delivery.Sender{Guard: guard}
				here, there := listen(name)(t)
				got := readAll(there)
				n, err := s.Send(t.Context(), here, delivery.Append(nil, src, 5, size), m)
				var source *delivery.SourceError
				require.ErrorAs(t, err, &source)
				require.Equal(t, src.Path, source.Path)
				require.ErrorContains(t, err, src.Path)
				require.ErrorContains(t, err, fmt.Sprintf("%d of %d bytes sent", n, size-5))
				if m != delivery.Copy {
					require.ErrorIs(t, err, delivery.ErrCut)
				}
				// From mapped bytes the kernel sends whole buffers.
				if m != delivery.Copy && m != delivery.Write && m != delivery.Writev {
					require.EqualValues(t, left-5, n, "all that is left")
					require.EqualValues(t, 1<<30+left, source.Offset)
				}
				require.LessOrEqual(t, n, int64(left-5))
				require.NoError(t, here.Close())
				require.True(t, bytes.Equal(want[:n], <-got), "other bytes came")

				// The next one is not harmed.
				here, there = listen(name)(t)
				got = readAll(there)
				_, err = s.Send(t.Context(), here, delivery.Append(nil, src, 5, left), m)
				require.NoError(t, err)
				require.NoError(t, here.Close())
				require.True(t, bytes.Equal(want, <-got), "other bytes came")
			})
		}
	}
}

// evict has the file's pages leave memory, or skips the test where they don't.
func evict(t testing.TB, src *delivery.Source) {
	t.Helper()
	require.NoError(t, src.File.Sync())
	require.NoError(t, unix.Madvise(src.Data, unix.MADV_DONTNEED))
	require.NoError(t, unix.Fadvise(int(src.File.Fd()), 0, 0, unix.FADV_DONTNEED))
	if delivery.Resident(src.Data) {
		t.Skip("this file system keeps its pages in memory")
	}
}

// TestCold sends pages that are not in memory: they are read in system calls, not
// in page faults, but for long runs, which sendfile reads.
func TestCold(t *testing.T) {
	t.Parallel()
	records := func(src *delivery.Source) (runs []delivery.Run) {
		for i := range int64(32) {
			runs = delivery.Append(runs, src, i*100*kib, i*100*kib+1000)
		}
		return runs
	}
	whole := func(src *delivery.Source) []delivery.Run { return delivery.Append(nil, src, 0, int64(len(src.Data))) }
	for _, c := range []struct {
		name string
		dial network
		runs func(*delivery.Source) []delivery.Run
		cold int64
		want delivery.Method
	}{
		{"records to tcp", listen("tcp"), records, 1, delivery.ReadWrite},
		{"records to a wrapper", wrapped, records, 1, delivery.ReadWrite},
		{"a long run to tcp", listen("tcp"), whole, 0, delivery.Sendfile},
		{"a long run to a wrapper", wrapped, whole, 1, delivery.ReadWrite},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			src := mapFile(t, 3300*kib, 0)
			runs := c.runs(src)
			want := bytesOf(runs)
			evict(t, src)
			s := delivery.Sender{Guard: guard}
			here, there := c.dial(t)
			got := readAll(there)
			_, err := s.Send(t.Context(), here, runs, delivery.Auto)
			require.NoError(t, err)
			require.NoError(t, here.Close())
			require.True(t, bytes.Equal(want, <-got), "other bytes came")
			require.Equal(t, c.cold, s.Stats().Cold)
			require.EqualValues(t, len(want), s.Stats().Of(c.want).Bytes)
		})
	}
}

// TestKnownBlocks: what was in memory a moment ago is not asked about again, and
// that a block of another file stands in the same place confuses nothing.
func TestKnownBlocks(t *testing.T) {
	t.Parallel()
	warm, cold := mapFile(t, 1000*kib, 0), mapFile(t, 1000*kib, 1000*kib)
	evict(t, cold)
	var s delivery.Sender
	var sink bytes.Buffer
	for range 3 {
		guardCold := s.Stats().Cold
		_, err := s.Send(t.Context(), &sink, delivery.Append(nil, warm, 0, 1000*kib), delivery.Auto)
		require.NoError(t, err)
		if s.Stats().Cold != guardCold {
			t.Skip("the machine is short of memory")
		}
	}
	_, err := s.Send(t.Context(), &sink, delivery.Append(nil, cold, 0, 1000*kib), delivery.Auto)
	require.NoError(t, err)
	require.Equal(t, int64(1), s.Stats().Cold)
}

// TestFailedRead has a descriptor that can't be read from.
func TestFailedRead(t *testing.T) {
	t.Parallel()
	src := mapFile(t, 100*kib, 0)
	writeOnly, err := os.OpenFile(src.Path, os.O_WRONLY, 0)
	require.NoError(t, err)
	defer func() { require.NoError(t, writeOnly.Close()) }()
	bad := *src
	bad.File = writeOnly
	for _, m := range []delivery.Method{delivery.Sendfile, delivery.Splice, delivery.ReadWrite} {
		var s delivery.Sender
		here, _ := listen("tcp")(t)
		n, err := s.Send(t.Context(), here, delivery.Append(nil, &bad, 0, 100*kib), m)
		require.Error(t, err, m.String())
		require.Zero(t, n)
		require.ErrorIs(t, err, unix.EBADF, m.String())
	}
}
