// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package warmup_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/edsrzf/mmap-go"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/stelelog/stele/warmup"
)

const mib = 1 << 20

// canPopulate skips the test on a kernel before 5.14.
func canPopulate(t *testing.T) {
	t.Helper()
	if err := warmup.CanPopulate(); err != nil {
		t.Skip(err)
	}
}

func TestWarmPagesDontFault(t *testing.T) {
	canPopulate(t)
	for _, mode := range []warmup.Mode{warmup.Touch, warmup.Populate} {
		data := mapped(t, 8*mib)
		n, err := warmup.Resident(data)
		require.NoError(t, err)
		require.Zero(t, n, "a new file has no pages")

		r, err := warmup.Plan{Mode: mode}.Run(context.Background(), data[:4*mib])
		require.NoError(t, err)
		require.Equal(t, mode, r.Mode)
		require.EqualValues(t, 4*mib, r.Resident)
		require.NotZero(t, r.MinorFaults+r.MajorFaults)
		require.NotZero(t, r.Took)
		require.Empty(t, r.Refused)
		pages, err := warmup.Residency(data)
		require.NoError(t, err)
		require.Len(t, pages, 8*mib/os.Getpagesize())
		require.EqualValues(t, 1, pages[0]&1)
		require.EqualValues(t, 1, pages[len(pages)/2-1]&1)
	}
}

func TestPopulateOfAFileThatWasCut(t *testing.T) {
	canPopulate(t)
	path := filepath.Join(t.TempDir(), "f")
	require.NoError(t, os.WriteFile(path, make([]byte, mib), 0o600))
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	defer f.Close()
	data, err := mmap.MapRegion(f, mib, mmap.RDWR, 0, 0)
	require.NoError(t, err)
	defer func() { require.NoError(t, data.Unmap()) }()
	require.NoError(t, f.Truncate(mib/2))
	r, err := warmup.Plan{Mode: warmup.Populate, Slice: mib / 4}.Run(context.Background(), data)
	require.ErrorIs(t, err, warmup.ErrGone)
	require.ErrorIs(t, err, unix.EFAULT)
	require.EqualValues(t, mib/2, r.Bytes)
}

func TestAdviceIsTaken(t *testing.T) {
	data := mapped(t, mib)
	for a := warmup.NoAdvice; a <= warmup.Cold; a++ {
		require.NoError(t, warmup.Advise(data, a), a)
		require.NoError(t, warmup.Advise(nil, a), a)
	}
	data[0] = 7
	require.NoError(t, warmup.Advise(data, warmup.DontNeed))
	require.EqualValues(t, 7, data[0], "the page cache has it")
}

func TestLockAndUnlock(t *testing.T) {
	if err := warmup.CanLock(4 * mib); err != nil {
		t.Skip(err)
	}
	data := mapped(t, 4*mib)
	before := lockedKiB(t)
	r, err := warmup.Plan{Mode: warmup.Touch, Lock: true}.Run(context.Background(), data)
	require.NoError(t, err)
	require.EqualValues(t, 4*mib, r.Locked)
	require.Equal(t, before+4<<10, lockedKiB(t))
	require.NoError(t, warmup.Unlock(data[:mib]))
	require.Equal(t, before+3<<10, lockedKiB(t))
	require.NoError(t, warmup.Unlock(data))
	require.Equal(t, before, lockedKiB(t))
}

// lockedKiB is what the kernel says that this process has locked.
func lockedKiB(t *testing.T) int {
	t.Helper()
	return statusKiB(t, "VmLck:")
}

const childEnv = "STELE_WARMUP_TEST_CHILD"

// TestWithoutPrivilege locks more than the limit in a process without
// CAP_IPC_LOCK.
func TestWithoutPrivilege(t *testing.T) {
	if os.Getenv(childEnv) != "" {
		unprivileged(t)
		return
	}
	exe, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(exe, "-test.run", "^TestWithoutPrivilege$", "-test.v")
	cmd.Env = append(os.Environ(), childEnv+"=1")
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	require.NoError(t, err)
}

func unprivileged(t *testing.T) {
	const limit = 8 * mib
	// Of no file: this user may not remove one from the directory of the test.
	data, err := unix.Mmap(-1, 0, 2*limit, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS)
	require.NoError(t, err)
	if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{Cur: limit, Max: limit}); err != nil {
		t.Skipf("the limit can't be set: %v", err)
	}
	if os.Getuid() == 0 {
		// For all threads: Go sees to that.
		if err := syscall.Setuid(65534); err != nil {
			t.Skipf("the user can't be changed: %v", err)
		}
	}
	require.NoError(t, warmup.CanLock(limit))
	var refused *warmup.LimitError
	require.ErrorAs(t, warmup.CanLock(limit+4096), &refused)
	require.EqualValues(t, limit, refused.Limit)
	require.EqualValues(t, limit+4096, refused.Need)
	require.ErrorIs(t, refused, unix.ENOMEM)

	r, err := warmup.Plan{Mode: warmup.Populate, Lock: true, Slice: limit / 2}.Run(context.Background(), data)
	require.NoError(t, err, "what is refused is no failure")
	require.EqualValues(t, 2*limit, r.Bytes)
	require.EqualValues(t, limit, r.Locked)
	require.Len(t, r.Refused, 1)
	require.Equal(t, "lock", r.Refused[0].Step)
	require.ErrorAs(t, r.Refused[0], &refused)
	require.NoError(t, warmup.Unlock(data))
	require.NoError(t, unix.Munmap(data))
}

// statusKiB reads a line of /proc/self/status.
func statusKiB(t *testing.T, name string) int {
	t.Helper()
	text, err := os.ReadFile("/proc/self/status")
	require.NoError(t, err)
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			n, err := strconv.Atoi(strings.Fields(rest)[0])
			require.NoError(t, err)
			return n
		}
	}
	t.Skipf("the kernel says nothing about %s", name)
	return 0
}
