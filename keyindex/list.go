// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package keyindex

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"time"

	"github.com/stelelog/stele/mappedfile"
)

// nameLayout is yyyyMMddHHmmss; three digits of milliseconds follow.
const (
	nameLayout = "20060102150405"
	nameLen    = len(nameLayout) + 3
)

// FileName is the name of a file that is made at a time, in that time's zone.
func FileName(t time.Time) string {
	return t.Format(nameLayout) + fmt.Sprintf("%03d", t.Nanosecond()/1e6)
}

// IsFileName reports whether a name is that of an index file.
func IsFileName(name string) bool {
	_, ok := parseName(name)
	return ok
}

// parseName reads a name as if it were in UTC, where no hour is missing or comes
// twice.
func parseName(name string) (time.Time, bool) {
	if len(name) != nameLen {
		return time.Time{}, false
	}
	t, err := time.Parse(nameLayout+".000", name[:len(nameLayout)]+"."+name[len(nameLayout):])
	return t, err == nil
}

// list returns the index files of the directory, oldest first. A last one that
// holds nothing is left out, and removed unless the Set is read-only: its making
// was interrupted, before it had its length or after.
func (s *Set) list() ([]mappedfile.Entry, error) {
	entries, err := s.o.Disk.List(s.o.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	entries = slices.DeleteFunc(entries, func(e mappedfile.Entry) bool { return e.Dir || !IsFileName(e.Name) })
	if len(entries) == 0 {
		return nil, nil
	}
	last := len(entries) - 1
	path := filepath.Join(s.o.Dir, entries[last].Name)
	if blank, err := s.isBlank(path, entries[last].Size); err != nil || !blank {
		return entries, err
	}
	s.unfinished = path
	if !s.o.ReadOnly {
		if err := errors.Join(s.o.Disk.Remove(path), s.o.Disk.SyncDir(s.o.Dir)); err != nil {
			return nil, err
		}
	}
	return entries[:last], nil
}

// isBlank reports whether a file holds zeros only.
func (s *Set) isBlank(path string, size int64) (blank bool, err error) {
	if size == 0 {
		return true, nil
	}
	r, err := s.o.Disk.Open(path, mappedfile.Mapping{ReadOnly: true, Lean: true})
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, mappedfile.ErrFileSize) {
		return true, nil // it is being made, or removed
	}
	if err != nil {
		return false, err
	}
	err = mappedfile.Guard(func() error {
		data := r.Bytes()
		next, _ := r.(interface{ NextData(int64) int64 })
		for at := 0; at < len(data); at += page {
			if next != nil { // holes need no look
				at = max(at, int(min(next.NextData(int64(at)), int64(len(data)))))
			}
			if len(bytes.TrimLeft(data[at:min(at+page, len(data))], "\x00")) > 0 {
				return nil
			}
		}
		blank = true
		return nil
	})
	return blank, errors.Join(err, r.Close())
}

// Unfinished is the path of a file that list left out, "" where there was none.
func (s *Set) Unfinished() string { return s.unfinished }
