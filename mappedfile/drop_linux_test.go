// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package mappedfile_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/warmup"
)

// presentPages counts the pages of data that are in the page table of this process.
func presentPages(t *testing.T, data []byte) (n int) {
	t.Helper()
	f, err := os.Open("/proc/self/pagemap")
	require.NoError(t, err)
	defer f.Close()
	page := os.Getpagesize()
	entries := make([]byte, len(data)/page*8)
	first := int64(uintptr(unsafe.Pointer(&data[0]))) / int64(page)
	_, err = f.ReadAt(entries, first*8)
	require.NoError(t, err)
	for ; len(entries) > 0; entries = entries[8:] {
		if binary.NativeEndian.Uint64(entries)>>63 == 1 {
			n++
		}
	}
	return n
}

// onDisk reads a file past the page cache, or returns nil where that can't be.
func onDisk(t *testing.T, path string, size int) []byte {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECT, 0)
	if errors.Is(err, unix.EINVAL) {
		return nil
	}
	require.NoError(t, err)
	defer f.Close()
	buf, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	require.NoError(t, err)
	defer func() { require.NoError(t, unix.Munmap(buf)) }()
	_, err = io.ReadFull(f, buf)
	require.NoError(t, err)
	return bytes.Clone(buf)
}

// TestFlushTakesPagesOutOfTheTable: a large flush leaves none of its pages mapped,
// and loses nothing of them, neither from the file nor for who reads or writes
// them afterwards. A small one, and the page in which a flush ends, stay mapped.
func TestFlushTakesPagesOutOfTheTable(t *testing.T) {
	t.Parallel()
	const size, page = 1 << 20, 4096
	if os.Getpagesize() != page {
		t.Skip("the numbers below are for pages of 4 KiB")
	}
	for _, warm := range []bool{false, true} {
		q, err := mappedfile.OpenQueue(mappedfile.Options{Dir: t.TempDir(), FileSize: size})
		require.NoError(t, err)
		f, err := q.Add(0)
		require.NoError(t, err)
		require.NoError(t, f.ReserveAll())
		data, err := f.Bytes()
		require.NoError(t, err)
		if warm { // then a flush is an msync of the range, else fdatasync
			_, err := f.Warm(t.Context(), warmup.Plan{Mode: warmup.Touch}, 0, size)
			require.NoError(t, err)
		}
		write := func(salt int) {
			for i := range data {
				data[i] = byte(i/page + i + salt)
			}
		}
		write(1)
		require.Equal(t, size/page, presentPages(t, data))
		require.NoError(t, f.Flush(0, 128<<10))
		require.Equal(t, size/page, presentPages(t, data), "a small range")

		require.NoError(t, f.Flush(0, 512<<10+100))
		require.Equal(t, size/page-128, presentPages(t, data), "all whole pages of the range")
		for salt := 1; salt < 4; salt++ {
			want := bytes.Clone(data)
			require.NoError(t, f.Flush(0, size))
			require.Zero(t, presentPages(t, data))
			if disk := onDisk(t, f.Path(), size); disk != nil {
				require.Equal(t, want, disk)
			}
			require.Equal(t, want, data, "read through the mapping")
			write(salt * 7)
		}
		require.NoError(t, q.Close())
	}
}
