// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package rebuild

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// copyStep is how much is copied between two looks at the context.
const copyStep = 4 << 20

// carry copies a directory with all below it but for the names at its top that
// skip reports.
func (j *job) carry(from, to string, skip func(name string) bool) error {
	if err := j.disk.MkdirAll(to); err != nil {
		return err
	}
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if skip(e.Name()) {
			continue
		}
		src, dst := filepath.Join(from, e.Name()), filepath.Join(to, e.Name())
		switch {
		case e.IsDir():
			err = j.carry(src, dst, func(string) bool { return false })
		case e.Type() == fs.ModeSymlink:
			var target string
			if target, err = os.Readlink(src); err == nil {
				err = os.Symlink(target, dst)
			}
		case e.Type().IsRegular():
			_, err = j.copyFile(src, dst, -1, j.Log == LogCopy)
		default:
			j.note("%s is no file or directory, and left behind", src)
		}
		if err != nil {
			return err
		}
	}
	return j.disk.SyncDir(to)
}

// copyFile makes a durable copy of a file, as a clone where the file system has
// that, else without its holes, unless plain is set. Modification time and
// permissions go along: RocketMQ expires log files by the former. With a limit
// that is not negative, only so many bytes are copied, and zeros follow.
func (j *job) copyFile(from, to string, limit int64, plain bool) (cloned bool, err error) {
	src, err := os.Open(from)
	if err != nil {
		return false, err
	}
	defer func() { _ = src.Close() }() // only read
	info, err := src.Stat()
	if err != nil {
		return false, err
	}
	dst, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, info.Mode().Perm()|0o200)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, dst.Close()) }()
	if limit < 0 && !plain {
		cloned = clone(dst, src) == nil
	}
	if !cloned {
		if limit < 0 || limit > info.Size() {
			limit = info.Size()
		}
		if err := copyData(j.ctx, dst, src, limit); err != nil {
			return false, fmt.Errorf("copy %s: %w", from, err)
		}
		if err := dst.Truncate(info.Size()); err != nil {
			return false, err
		}
	}
	if err := dst.Sync(); err != nil {
		return false, err
	}
	return cloned, os.Chtimes(to, time.Time{}, info.ModTime())
}

// copyData copies the first size bytes, and leaves holes where there are some.
func copyData(ctx context.Context, dst, src *os.File, size int64) error {
	buf := make([]byte, copyStep)
	for at := int64(0); at < size; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if at = nextData(src, at); at >= size {
			return nil
		}
		b := buf[:min(int64(len(buf)), size-at)]
		n, err := src.ReadAt(b, at)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if n == 0 {
			return nil // it became shorter: who reads the copy sees zeros there
		}
		if err := writeData(dst, b[:n], at); err != nil {
			return err
		}
		at += int64(n)
	}
	return nil
}

// block is the unit in which zeros are left out.
const block = 4096

// writeData writes what is not zeros.
func writeData(dst *os.File, b []byte, at int64) error {
	for len(b) > 0 {
		n := min(block, len(b))
		for n < len(b) && !zeros(b[n:min(n+block, len(b))]) {
			n += min(block, len(b)-n)
		}
		if !zeros(b[:n]) {
			if _, err := dst.WriteAt(b[:n], at); err != nil {
				return err
			}
		}
		b, at = b[n:], at+int64(n)
	}
	return nil
}

func zeros(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
