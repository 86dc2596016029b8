// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package mappedfile_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/warmup"
)

// dirtyKiB is how much of a mapping the kernel says is dirty.
func dirtyKiB(t *testing.T, data []byte) int {
	t.Helper()
	f, err := os.Open("/proc/self/smaps")
	require.NoError(t, err)
	defer f.Close()
	begin := fmt.Sprintf("%x-", uintptr(unsafe.Pointer(&data[0])))
	sum, found := 0, false
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var n int
		switch name, rest, _ := strings.Cut(lines.Text(), ":"); {
		case strings.Contains(name, "-") && strings.Contains(name, " "):
			found = strings.HasPrefix(name, begin)
		case found && (name == "Shared_Dirty" || name == "Private_Dirty"):
			_, err := fmt.Sscan(rest, &n)
			require.NoError(t, err)
			sum += n
		}
	}
	return sum
}

// A flush of a range must not write, and make read-only, the pages that were
// warmed up ahead of it.
func TestFlushLeavesWarmPagesAlone(t *testing.T) {
	const size, part = 8 << 20, 1 << 20
	left := 0
	for range 5 { // a kernel that is short of memory may write them just then
		q := openQueue(t, mappedfile.OS(), t.TempDir(), func(o *mappedfile.Options) { o.FileSize = size })
		f, err := q.Add(0)
		require.NoError(t, err)
		data, err := f.Bytes()
		require.NoError(t, err)
		r, err := f.Warm(context.Background(), warmup.Plan{Mode: warmup.Touch}, 0, size)
		require.NoError(t, err)
		require.EqualValues(t, size, r.Bytes)
		before := dirtyKiB(t, data)
		fill(data[:part], 1)
		require.NoError(t, f.Flush(0, part))
		left = max(left, dirtyKiB(t, data))
		require.NoError(t, f.Unlock(0, size), "what is not locked can be unlocked")

		// It is in the file, and the rest can be flushed, too.
		fill(data[part:], 2)
		require.NoError(t, f.Flush(part, size))
		got, err := os.ReadFile(f.Path())
		require.NoError(t, err)
		require.True(t, bytes.Equal(data, got))
		if left >= (size-part)>>10 {
			return
		}
		if before == 0 {
			t.Skip("the kernel does not say what is dirty, or this file system writes at once")
		}
	}
	t.Fatalf("%d KiB of the %d that were not flushed are still dirty", left, (size-part)>>10)
}

func TestWarmChangesNoByte(t *testing.T) {
	t.Parallel()
	eachDisk(t, func(t *testing.T, d mappedfile.Disk, dir string) {
		q := openQueue(t, d, dir)
		fillQueue(t, q, 1)
		f := q.First()
		data, err := f.Bytes()
		require.NoError(t, err)
		want := bytes.Clone(data)
		r, err := f.Warm(context.Background(), warmup.Plan{Mode: warmup.Populate}, 10, page+20)
		require.NoError(t, err)
		require.EqualValues(t, page+10, r.Bytes)
		require.Equal(t, want, data)
		require.NoError(t, f.Unlock(10, page+20))
	})
}
