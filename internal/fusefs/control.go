// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package fusefs

import (
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Op is an operation that the kernel asks for.
type Op string

// The operations that are counted and can be made to fail.
const (
	OpOpen     Op = "open"
	OpRead     Op = "read"
	OpWrite    Op = "write"    // of bytes, a mapping's dirty pages too
	OpTruncate Op = "truncate" // any change of a length
	OpReserve  Op = "reserve"  // fallocate, all modes
	OpSync     Op = "sync"     // fsync, fdatasync, msync of a file
	OpSyncDir  Op = "syncdir"
	OpCreate   Op = "create" // of a file or directory
	OpRemove   Op = "remove"
	OpRename   Op = "rename"
	OpSeek     Op = "seek"  // for data or a hole
	OpFault    Op = "fault" // counted only: faults that struck
)

// Fault makes an operation fail.
type Fault struct {
	Op    Op
	Path  string        // what the path from the mount point contains
	After int           // how many such operations succeed first
	Err   syscall.Errno // what the kernel is told
	Stays bool          // all later ones fail too
}

// Mode says how the kernel is to treat a mount.
type Mode struct {
	// WritebackCache lets write(2) leave its bytes in the page cache, as a local
	// file system does. Without it they go to the server at once; what is
	// written through a mapping stays in the page cache in either case.
	WritebackCache bool
	// KeepCache keeps the cached pages of a file when it is opened again.
	KeepCache bool
	// Bare refuses fallocate and lseek, as many a FUSE file system does.
	Bare bool
	// DirectIO goes past the page cache. Shared mappings are refused then.
	DirectIO bool
}

// String names what is set.
func (m Mode) String() string {
	s := "plain"
	for _, x := range []struct {
		on   bool
		name string
	}{{m.WritebackCache, "writeback"}, {m.KeepCache, "keep"}, {m.Bare, "bare"}, {m.DirectIO, "direct"}} {
		if x.on {
			s += "+" + x.name
		}
	}
	return s
}

type request struct {
	Call    string
	Disk    int
	Dir     string
	Mode    Mode
	Seed    uint64
	N       int
	Fault   Fault
	Timeout time.Duration
}

type response struct {
	Err  string
	Disk int
	At   int64
	OK   bool
	Ops  map[Op]int64
}

// Client talks to a server. It is safe for concurrent use.
type Client struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	mu     sync.Mutex
	enc    *gob.Encoder
	dec    *gob.Decoder
	mounts map[string]bool
}

// serverEnv makes a process a server: see Main.
const serverEnv = "STELE_FUSEFS_SERVER"

// Main turns the process into the server if Start began it, and then does not
// return. It is the first thing that TestMain calls.
func Main() {
	if os.Getenv(serverEnv) == "" {
		return
	}
	if err := serve(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "fusefs:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// Start runs the test binary again as a server. It ends after timeout, whatever
// it is doing. The caller must Close the Client.
func Start(timeout time.Duration) (*Client, error) {
	if os.Getenv(serverEnv) != "" {
		return nil, errors.New("fusefs: a server's TestMain did not call Main")
	}
	// Without Main it would be a test like this one: it must find none to run.
	cmd := exec.Command(os.Args[0], "-test.run=^$") //nolint:gosec,noctx // itself, and it has a timeout of its own
	// The race detector lets a process that ends wait for a second.
	cmd.Env = append(os.Environ(), serverEnv+"=1", "GORACE=atexit_sleep_ms=0")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	c := &Client{cmd: cmd, in: in, enc: gob.NewEncoder(in), dec: gob.NewDecoder(out), mounts: map[string]bool{}}
	if _, err := c.call(request{Call: "timeout", Timeout: timeout}); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

func (c *Client) call(r request) (response, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var resp response
	err := c.enc.Encode(r)
	if err == nil {
		err = c.dec.Decode(&resp)
	}
	if err != nil {
		return resp, fmt.Errorf("fusefs: %s: the server is gone: %w", r.Call, err)
	}
	if resp.Err != "" {
		return resp, fmt.Errorf("fusefs: %s: %s", r.Call, resp.Err)
	}
	switch r.Call {
	case "mount":
		c.mounts[r.Dir] = true
	case "unmount":
		delete(c.mounts, r.Dir)
	}
	return resp, nil
}

// NewDisk makes an empty disk and returns its number.
func (c *Client) NewDisk() (int, error) {
	r, err := c.call(request{Call: "disk"})
	return r.Disk, err
}

// Mount mounts a disk on an empty directory.
func (c *Client) Mount(disk int, dir string, m Mode) error {
	_, err := c.call(request{Call: "mount", Disk: disk, Dir: dir, Mode: m})
	return err
}

// Unmount takes the mount at dir away. Nothing may use it any more.
func (c *Client) Unmount(dir string) error {
	_, err := c.call(request{Call: "unmount", Dir: dir})
	return err
}

// Cut returns the disk that a power cut now would leave, and when that was: what
// was durable before is on it.
func (c *Client) Cut(disk int, seed uint64) (left int, at int64, err error) {
	r, err := c.call(request{Call: "cut", Disk: disk, Seed: seed})
	return r.Disk, r.At, err
}

// Trap has the power cut at the nth operation from now that changes something,
// before it takes effect. The disk itself goes on.
func (c *Client) Trap(disk, n int, seed uint64) error {
	_, err := c.call(request{Call: "trap", Disk: disk, N: n, Seed: seed})
	return err
}

// Trapped is Cut for the power cut of Trap, which it calls off if it did not
// come yet; then ok is false.
func (c *Client) Trapped(disk int) (left int, at int64, ok bool, err error) {
	r, err := c.call(request{Call: "trapped", Disk: disk})
	return r.Disk, r.At, r.OK, err
}

// Inject makes an operation fail.
func (c *Client) Inject(disk int, f Fault) error {
	_, err := c.call(request{Call: "fault", Disk: disk, Fault: f})
	return err
}

// ClearFaults calls off all faults of a disk.
func (c *Client) ClearFaults(disk int) error {
	_, err := c.call(request{Call: "clear", Disk: disk})
	return err
}

// Ops returns how many operations a disk has seen.
func (c *Client) Ops(disk int) (map[Op]int64, error) {
	r, err := c.call(request{Call: "ops", Disk: disk})
	return r.Ops, err
}

// Drop forgets a disk that is not mounted.
func (c *Client) Drop(disk int) error {
	_, err := c.call(request{Call: "drop", Disk: disk})
	return err
}

// Kill ends the server at once, as a bug in it might: what waits for it gets an
// error, and a mapping of one of its files faults. Close it all the same.
func (c *Client) Kill() error { return c.cmd.Process.Kill() }

// Close ends the server, which takes its mounts away, and detaches what it left.
func (c *Client) Close() error {
	err := c.in.Close()
	if werr := c.cmd.Wait(); werr != nil {
		err = errors.Join(err, fmt.Errorf("fusefs: server: %w", werr))
	}
	for dir := range c.mounts {
		// The server did it, unless it was killed.
		_ = detach(dir)
	}
	return err
}

// detach takes a mount away that may be in use or dead.
func detach(dir string) error {
	err := unix.Unmount(dir, unix.MNT_DETACH)
	if errors.Is(err, unix.EINVAL) {
		return nil // nothing is mounted there
	}
	if errors.Is(err, unix.EPERM) {
		return exec.Command("fusermount3", "-u", "-z", dir).Run() //nolint:gosec,noctx // our own directory, and it ends at once
	}
	return err
}

// Available says why nothing can be mounted here, or nil.
func Available() error {
	f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		if _, err := exec.LookPath("fusermount3"); err != nil {
			return err
		}
	}
	return nil
}
