// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

//go:build unix

package mappedfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/edsrzf/mmap-go"
	"golang.org/x/sys/unix"
)

// OS returns the Disk of the operating system.
func OS() Disk { return osDisk{} }

type osDisk struct{}

const (
	filePerm = 0o644
	dirPerm  = 0o755
)

// bootIDPath is where Linux names the run of the kernel.
const bootIDPath = "/proc/sys/kernel/random/boot_id"

func (d osDisk) MkdirAll(dir string) error {
	if info, err := os.Stat(dir); err == nil {
		if !info.IsDir() {
			return &fs.PathError{Op: "mkdir", Path: dir, Err: syscall.ENOTDIR}
		}
		return nil
	}
	parent := filepath.Dir(dir)
	if parent != dir {
		if err := d.MkdirAll(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, dirPerm); err != nil && !errors.Is(err, fs.ErrExist) {
		return fullDisk(err)
	}
	return d.SyncDir(parent)
}

func (osDisk) List(dir string) ([]Entry, error) {
	names, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	entries := make([]Entry, 0, len(names))
	for _, n := range names {
		e := Entry{Name: n.Name()}
		info, err := os.Stat(filepath.Join(dir, n.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed since it was listed, or a dangling link
		}
		if err != nil {
			return nil, err
		}
		e.Dir, e.ModTime = info.IsDir(), info.ModTime()
		if !e.Dir {
			e.Size = info.Size()
		}
		entries = append(entries, e)
	}
	return entries, nil
}

func (osDisk) Create(path string, size int64, m Mapping) (Region, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, filePerm)
	if err != nil {
		return nil, fullDisk(err)
	}
	err = f.Truncate(size)
	if err == nil {
		// The length is metadata that a later flush of a range may not carry.
		err = f.Sync()
	}
	var r *osRegion
	if err == nil {
		r, err = mapRegion(f, size, m)
	}
	if err != nil {
		err = errors.Join(err, f.Close(), os.Remove(path))
		return nil, fullDisk(err)
	}
	return r, nil
}

func (osDisk) Open(path string, m Mapping) (Region, error) {
	flag := os.O_RDWR
	if m.ReadOnly {
		flag = os.O_RDONLY
	}
	f, err := os.OpenFile(path, flag, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && info.Size() == 0 {
		err = &FileError{Path: path, Cause: ErrFileSize}
	}
	var r *osRegion
	if err == nil {
		r, err = mapRegion(f, info.Size(), m)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return r, nil
}

// mapRegion takes over f, but only when it succeeds.
func mapRegion(f *os.File, size int64, m Mapping) (*osRegion, error) {
	if size > int64(maxInt) {
		return nil, fmt.Errorf("%s: %d bytes can't be mapped on this platform", f.Name(), size)
	}
	prot := mmap.RDWR
	if m.ReadOnly {
		prot = mmap.RDONLY
	}
	data, err := mmap.MapRegion(f, int(size), prot, 0, 0)
	if err != nil {
		return nil, fmt.Errorf("map %s (%d bytes): %w", f.Name(), size, err)
	}
	if m.Random {
		_ = unix.Madvise(data, unix.MADV_RANDOM) // what can't be advised is slower, not wrong
	}
	r := &osRegion{path: f.Name(), file: f, data: data}
	if m.Lean {
		r.file = nil
		if err := f.Close(); err != nil {
			return nil, errors.Join(err, data.Unmap())
		}
	}
	return r, nil
}

const maxInt = int(^uint(0) >> 1)

func (osDisk) Remove(path string) error { return os.Remove(path) }

func (osDisk) SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Usage is what DiskUsage asks for.
func (osDisk) Usage(dir string) (Usage, error) {
	var st unix.Statfs_t
	for {
		err := unix.Statfs(dir, &st)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return Usage{}, &fs.PathError{Op: "statfs", Path: dir, Err: err}
		}
		unit := blockUnit(&st)
		return Usage{
			Used: int64(st.Blocks-st.Bfree) * unit, //nolint:gosec // blocks of a disk
			Free: int64(st.Bavail) * unit,          //nolint:gosec // its type differs by platform
		}, nil
	}
}

func (osDisk) ReadFile(path string) ([]byte, error) { return os.ReadFile(path) }

func (d osDisk) WriteFile(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, filePerm)
	if err != nil {
		return fullDisk(err)
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fullDisk(err)
	}
	return d.SyncDir(filepath.Dir(path))
}

func (osDisk) Lock(path string) (io.Closer, error) { return lockFile(path) }

func (osDisk) BootID() (string, error) {
	b, err := os.ReadFile(bootIDPath)
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(string(b)), nil
}

// fullDisk adds ErrDiskFull to an error that says so in the system's words.
func fullDisk(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w: %w", ErrDiskFull, err)
	}
	return err
}
