// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"context"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/stelelog/stele/commitlog"
	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/store"
	"github.com/stelelog/stele/warmup"
)

const mib = 1 << 20

// warmed collects what Events.Warmed says.
type warmed struct {
	mu    sync.Mutex
	infos []commitlog.WarmInfo
	done  chan commitlog.WarmInfo
}

func (w *warmed) event(i commitlog.WarmInfo) {
	w.mu.Lock()
	w.infos = append(w.infos, i)
	w.mu.Unlock()
	if i.Done {
		w.done <- i
	}
}

func (w *warmed) refusals() (steps []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, i := range w.infos {
		if !i.Done {
			for _, r := range i.Result.Refused {
				steps = append(steps, r.Step)
			}
		}
	}
	return steps
}

func openWarm(t *testing.T, o store.Options) (*store.Store, *warmed) {
	t.Helper()
	w := &warmed{done: make(chan commitlog.WarmInfo, 100)}
	o.Events.Warmed = w.event
	s, err := store.Open(t.TempDir(), o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s, w
}

func appendSome(t *testing.T, s *store.Store, body int) {
	t.Helper()
	_, err := s.Append(context.Background(), &message.Message{Topic: "t", Body: make([]byte, body)})
	require.NoError(t, err)
}

func TestAnEmptyStoreIsNotWarmedUp(t *testing.T) {
	t.Parallel()
	s, _ := openWarm(t, store.Options{})
	st := s.Stats().Warmup
	require.Equal(t, warmup.Populate, st.Mode)
	require.EqualValues(t, store.DefaultWarmupWindow, st.Window)
	require.Zero(t, st.Done.Bytes)
	require.Zero(t, s.Stats().Files, "not even the file is there")
}

// With a window as large as a file the warm-up of each is reported, the first
// too.
func TestWarmUpOfAWindow(t *testing.T) {
	t.Parallel()
	s, w := openWarm(t, store.Options{FileSize: mib})
	appendSome(t, s, 100)
	i := <-w.done
	require.EqualValues(t, 0, i.Base)
	require.LessOrEqual(t, i.Result.Bytes, int64(mib))
	require.Greater(t, i.Result.Bytes, int64(mib)/2)
	for range 3 {
		appendSome(t, s, mib/2)
	}
	for base := message.Offset(mib); base < 3*mib; base += mib {
		require.Equal(t, base, (<-w.done).Base)
	}
	require.Empty(t, w.refusals())
	require.LessOrEqual(t, s.Stats().Warmup.Done.Bytes, int64(4*mib))
}

func TestWarmUpOfWholeFiles(t *testing.T) {
	t.Parallel()
	for _, mode := range []warmup.Mode{warmup.Touch, warmup.Populate} {
		s, w := openWarm(t, store.Options{FileSize: 8 * mib, Warmup: store.WarmupOptions{Mode: mode}})
		i := <-w.done
		require.EqualValues(t, 8*mib, i.Result.Bytes, "before the first append")
		if runtime.GOOS == "linux" {
			require.EqualValues(t, 8*mib, i.Result.Resident)
		}
		require.Zero(t, s.Stats().Appended)
		appendSome(t, s, mib)
		require.EqualValues(t, 8*mib, (<-w.done).Base, "the next one, a sixteenth into the first")
		st := s.Stats().Warmup
		require.Equal(t, mode, st.Mode)
		require.Zero(t, st.Window)
		require.EqualValues(t, 16*mib, st.Done.Bytes)
		require.Empty(t, st.Done.Refused)
	}
}

// The file that a store is opened with is warmed up from its end on.
func TestWarmUpOfAnOldFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := &warmed{done: make(chan commitlog.WarmInfo, 100)}
	o := store.Options{
		FileSize: 2 * mib, Warmup: store.WarmupOptions{Mode: warmup.Touch}, Events: store.Events{Warmed: w.event},
	}
	s, err := store.Open(dir, o)
	require.NoError(t, err)
	appendSome(t, s, mib)
	require.NoError(t, s.Close())
	for len(w.done) > 0 {
		<-w.done
	}
	s, err = store.Open(dir, o)
	require.NoError(t, err)
	i := <-w.done
	require.Less(t, i.Result.Bytes, int64(mib)+1)
	require.Greater(t, i.Result.Bytes, int64(mib)-10000)
	require.NoError(t, s.Close())
}

func TestWarmUpOff(t *testing.T) {
	t.Parallel()
	s, w := openWarm(t, store.Options{FileSize: mib, Warmup: store.WarmupOptions{Mode: warmup.Off}})
	for range 3 {
		appendSome(t, s, mib/2)
	}
	require.NoError(t, s.Close())
	require.Empty(t, w.infos)
	require.Equal(t, store.WarmupStats{Mode: warmup.Off}, s.Stats().Warmup)
}

// A file that is written through its descriptor must not be warm.
func TestWarmUpIsForTheMapping(t *testing.T) {
	t.Parallel()
	for _, path := range []store.WritePath{store.WritePool, store.WriteFile} {
		o := store.Options{FileSize: mib, WritePath: path, Warmup: store.WarmupOptions{Mode: warmup.Populate}}
		s, w := openWarm(t, o)
		appendSome(t, s, 1000)
		require.NoError(t, s.Close())
		require.Empty(t, w.infos)
		require.Equal(t, store.WarmupStats{Mode: warmup.Off}, s.Stats().Warmup)
		o.Warmup.Require = true
		_, err := store.Open(t.TempDir(), o)
		require.ErrorIs(t, err, store.ErrOptions)
		require.ErrorContains(t, err, path.String())
	}
}

func TestWarmupOptions(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]store.WarmupOptions{
		"negative window":   {Window: -1},
		"unknown mode":      {Mode: 9},
		"lock without mode": {Mode: warmup.Off, Lock: true},
		"window, but off":   {Mode: warmup.Off, Window: 1},
		"the opposite":      {Advise: warmup.DontNeed},
		"unknown advice":    {Advise: 77},
	} {
		_, err := store.Open(t.TempDir(), store.Options{Warmup: o})
		require.ErrorIs(t, err, store.ErrOptions, name)
		require.ErrorContains(t, err, "Warmup.", name)
	}
}

// TestWithoutPrivilege works as a user without CAP_IPC_LOCK who may lock 8 MiB.
func TestWithoutPrivilege(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("memory is locked on Linux only")
	}
	if dir := os.Getenv(unprivilegedEnv); dir != "" {
		unprivileged(t, dir)
		return
	}
	// Not below the directory of the test, which that user may not enter.
	dir, err := os.MkdirTemp("", "stele-unprivileged") //nolint:usetesting // see above
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	require.NoError(t, os.Chmod(dir, 0o777)) //nolint:gosec // for the other user
	exe, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(exe, "-test.run", "^TestWithoutPrivilege$", "-test.v")
	cmd.Env = append(os.Environ(), unprivilegedEnv+"="+dir)
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	require.NoError(t, err)
	if strings.Contains(string(out), "--- SKIP") {
		t.Skip("see above")
	}
}

const unprivilegedEnv = "STELE_STORE_TEST_UNPRIVILEGED"

func unprivileged(t *testing.T, dir string) {
	const limit, nobody = 8 * mib, 65534
	if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{Cur: limit, Max: limit}); err != nil {
		t.Skipf("the limit can't be set: %v", err)
	}
	if os.Getuid() == 0 {
		if err := syscall.Setuid(nobody); err != nil { // of all threads: Go sees to that
			t.Skipf("the user can't be changed: %v", err)
		}
	}
	if f, err := os.Create(dir + "/probe"); err != nil {
		t.Skipf("the other user can't write there: %v", err)
	} else {
		require.NoError(t, f.Close())
	}
	w := &warmed{done: make(chan commitlog.WarmInfo, 100)}
	o := store.Options{
		FileSize: 16 * mib, Events: store.Events{Warmed: w.event},
		Warmup: store.WarmupOptions{Mode: warmup.Populate, Lock: true},
	}
	s, err := store.Open(dir+"/a", o)
	require.NoError(t, err, "a refusal is no failure")
	<-w.done
	for range 40 {
		appendSome(t, s, mib)
	}
	require.NoError(t, s.Flush(context.Background()))
	st := s.Stats().Warmup.Done
	require.Zero(t, st.Locked)
	require.GreaterOrEqual(t, st.Bytes, int64(16*mib))
	require.Len(t, st.Refused, 1)
	require.Equal(t, warmup.StepLock, st.Refused[0].Step)
	t.Logf("Stats.Warmup.Done.Refused: %v", st.Refused[0])
	require.NoError(t, s.Close())
	require.Equal(t, []string{warmup.StepLock}, w.refusals(), "reported once")

	o.Warmup.Require = true
	_, err = store.Open(dir+"/b", o)
	require.ErrorIs(t, err, store.ErrWarmup)
	var refused *warmup.LimitError
	require.ErrorAs(t, err, &refused)
	require.EqualValues(t, limit, refused.Limit)
	require.EqualValues(t, 32*mib, refused.Need)
	require.ErrorIs(t, err, unix.ENOMEM)
	t.Logf("Open: %v", err)

	// What fits in the limit can be had.
	o.Warmup.Window = 2 * mib
	s, err = store.Open(dir+"/c", o)
	require.NoError(t, err)
	for range 40 {
		appendSome(t, s, mib)
	}
	require.NoError(t, s.Close())
	require.Empty(t, s.Stats().Warmup.Done.Refused)
	require.NoError(t, os.RemoveAll(dir+"/a"))
	require.NoError(t, os.RemoveAll(dir+"/c"))
}
