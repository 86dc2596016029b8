// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/stelelog/stele/internal/fusefs"
	"github.com/stelelog/stele/store"
)

// smallDisks are file systems of a few MiB, or say why there is none.
var smallDisks = map[string]func(t *testing.T, mib int) string{"tmpfs": mountTmpfs, "ext4": mountExt4}

func mountTmpfs(t *testing.T, mib int) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dm", mib)); err != nil {
		t.Skipf("a full disk is not tested here: no tmpfs can be mounted: %v", err)
	}
	t.Cleanup(func() { require.NoError(t, unix.Unmount(dir, unix.MNT_DETACH)) })
	return dir
}

func mountExt4(t *testing.T, mib int) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("a full disk is not tested here: mounting an ext4 image needs root")
	}
	image, dir := filepath.Join(t.TempDir(), "image"), t.TempDir()
	require.NoError(t, os.WriteFile(image, nil, 0o600))
	require.NoError(t, os.Truncate(image, int64(mib)<<20))
	for _, args := range [][]string{{"mkfs.ext4", "-q", "-F", "-m", "0", image}, {"mount", "-o", "loop", image, dir}} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil { //nolint:gosec // as written above
			t.Skipf("a full disk is not tested here: %s: %v %s", args[0], err, out)
		}
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", "-l", dir).CombinedOutput(); err != nil { //nolint:gosec // our own
			t.Errorf("umount: %v %s", err, out)
		}
	})
	return dir
}

// fullRig drives a store in another process on a disk that is filled up.
type fullRig struct {
	t      *testing.T
	rng    *rand.Rand
	mount  string
	dir    string
	pledge *pledges

	child *exec.Cmd
	in    io.WriteCloser
	out   *bufio.Reader
	read  int // messages that the last "read" saw
}

// do has the child do something and returns what came of it. A child that died,
// as of a SIGBUS, fails the test.
func (r *fullRig) do(format string, args ...any) string {
	r.t.Helper()
	_, err := fmt.Fprintf(r.in, format+"\n", args...)
	require.NoError(r.t, err)
	for {
		line, err := r.out.ReadString('\n')
		if err != nil {
			r.t.Fatalf("%s: the process died: %v", fmt.Sprintf(format, args...), r.child.Wait())
		}
		require.NoError(r.t, r.pledge.readAck(line))
		if _, err := fmt.Sscanf(line, "read %d", &r.read); err == nil {
			continue
		}
		if result, ok := strings.CutPrefix(line, "= "); ok {
			return strings.TrimSpace(result)
		}
	}
}

func (r *fullRig) start() {
	r.t.Helper()
	r.child, r.in, r.out = startChild(r.t, jobDrive, r.dir)
}

func (r *fullRig) stop() {
	r.t.Helper()
	require.NoError(r.t, r.in.Close())
	require.NoError(r.t, r.child.Wait())
}

// fill leaves no more than so many bytes of the disk.
func (r *fullRig) fill(leave int) {
	r.t.Helper()
	f, err := os.OpenFile(filepath.Join(r.mount, "ballast"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	require.NoError(r.t, err)
	buf, size := make([]byte, 64<<10), int64(0)
	for len(buf) > 0 {
		n, err := f.Write(buf)
		size += int64(n)
		if err != nil {
			require.ErrorIs(r.t, err, syscall.ENOSPC)
			buf = buf[:len(buf)/2]
		}
	}
	info, err := f.Stat()
	require.NoError(r.t, err)
	require.NoError(r.t, f.Truncate(max(0, info.Size()-int64(leave))))
	require.NoError(r.t, f.Sync())
	require.NoError(r.t, f.Close())
}

func (r *fullRig) free() {
	r.t.Helper()
	if err := os.Remove(filepath.Join(r.mount, "ballast")); !errors.Is(err, os.ErrNotExist) {
		require.NoError(r.t, err)
	}
}

func (r *fullRig) requireFull(what, result string) {
	r.t.Helper()
	if strings.HasPrefix(result, "full") || strings.HasPrefix(result, "enospc") {
		return
	}
	require.Failf(r.t, "no honest error", "%s on a full disk: %s", what, result)
}

// TestFullDisk fills a disk under a store, again and again, with what it does
// next: append, roll, make queues, write metadata, close, open.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	rounds := 5
	if testing.Short() {
		rounds = 2
	}
	for name, mount := range smallDisks {
		for _, mode := range []string{"async 1", "sync 1", "async 2", "sync 2", "async 3", "sync 3"} {
			t.Run(name+", "+mode, func(t *testing.T) {
				t.Parallel()
				seed := uint64(time.Now().UnixNano())
				t.Logf("seed %d", seed)
				r := &fullRig{t: t, rng: rand.New(rand.NewPCG(seed, 0)), mount: mount(t, 24), pledge: newPledges()}
				r.dir = filepath.Join(r.mount, "store")
				r.start()
				require.Equal(t, "ok", r.do("open %s", mode))
				require.Equal(t, "ok", r.do("append small 20"))
				refused := map[string]int{}
				for range rounds {
					r.round(mode, refused)
				}
				r.closeOnFullDisk(mode)
				r.verify()
				t.Logf("%d rounds, %d messages, refused: %v", rounds, len(r.pledge.promises), refused)
			})
		}
	}
}

// round fills the disk, runs into it, and goes on once there is room.
func (r *fullRig) round(mode string, refused map[string]int) {
	t := r.t
	r.fill([]int{0, 0, 4 << 10, 20 << 10, 100 << 10}[r.rng.IntN(5)])
	for range 2 + r.rng.IntN(4) {
		call := []string{"append small 50", "append large 10", "queues - 40", "commit - 50", "flush - 0"}[r.rng.IntN(5)]
		if result := r.do("%s", call); result != "ok" {
			r.requireFull(call, result)
			refused[strings.Fields(call)[0]]++
		}
	}
	// It can't go on like that for long.
	result := "ok"
	for range 100 {
		if result = r.do("append large 20"); result != "ok" {
			break
		}
	}
	r.requireFull("append", result)
	refused["append"]++
	require.Equal(t, "ok", r.do("read - 0"), "reads go on")
	// Killed on a full disk. What waits in the pool is not to be had again.
	if r.rng.IntN(4) == 0 && (mode != "async 2" || r.do("flush - 0") == "ok") {
		require.NoError(t, r.child.Process.Kill())
		require.Error(t, r.child.Wait())
		r.start()
		if result := r.do("open %s", mode); result != "ok" {
			r.requireFull("open", result)
			refused["open"]++
			r.free()
			require.Equal(t, "ok", r.do("open %s", mode))
		}
		require.Equal(t, "ok", r.do("read - 0"))
	}
	r.free()
	require.Equal(t, "ok", r.do("resume - 10"), "there is room again")
}

// closeOnFullDisk closes the store when there is no room, and opens it so.
func (r *fullRig) closeOnFullDisk(mode string) {
	t := r.t
	r.fill(0)
	_ = r.do("queues - 5")
	if result := r.do("close - 0"); result != "ok" {
		r.requireFull("close", result)
	}
	r.stop()
	r.start()
	if result := r.do("open %s", mode); result == "ok" {
		require.Equal(t, "ok", r.do("read - 0"))
		if result = r.do("close - 0"); result != "ok" {
			r.requireFull("close", result)
		}
	} else {
		r.requireFull("open", result)
	}
	r.stop()
}

// verify opens the store once there is room: everything that was answered is in
// it.
func (r *fullRig) verify() {
	t := r.t
	r.free()
	s, err := store.Open(r.dir, osOptions())
	require.NoError(t, err)
	r.pledge.check(t, s, fusefs.Now(), 0)
	require.NoError(t, s.Close())
}
