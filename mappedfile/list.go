// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package mappedfile

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path/filepath"
	"slices"
	"strconv"
)

// nameLen is the length of a file name: decimal digits of the base offset.
const nameLen = 20

// FileName returns the name of the file with the given base offset: 20 decimal
// digits, as UtilAll.offset2FileName writes them.
func FileName(base int64) string { return fmt.Sprintf("%020d", base) }

// ParseFileName is the inverse of FileName.
func ParseFileName(name string) (base int64, ok bool) {
	if len(name) != nameLen {
		return 0, false
	}
	base, err := strconv.ParseInt(name, 10, 64)
	return base, err == nil && base >= 0 && name[0] != '+' && name[0] != '-'
}

// listing is what a directory holds: files by base, and what is wrong with the
// rest.
type listing struct {
	bases, sizes []int64
	problems     []*FileError
	unfinished   string // the path of a last file that was left out
}

// listFiles reads and checks o.Dir, and settles o.FileSize.
func listFiles(o *Options) (files []*File, l listing, err error) {
	if l, err = listNames(o); err != nil {
		return nil, l, err
	}
	size := settleSize(o, l.bases, l.sizes)
	for again := 0; again < maxRelist && o.Mapping.ReadOnly && !whole(l.bases, l.sizes, size); again++ {
		// The owner may be adding files. Reading a directory is not atomic:
		// it can miss a file that was made meanwhile and yet show the one
		// after it, or show a length from before it was set. What was there
		// up to the last name of the first reading is there, in full, in the
		// second. Or it removes files at the front meanwhile, and one is shown
		// that is gone, before the hole that the next one left: then the front of
		// the next reading lies behind, and that may have met another one.
		upTo, front := l.bases[len(l.bases)-1], l.bases[0]
		if l, err = listNames(o); err != nil {
			return nil, l, err
		}
		n, _ := slices.BinarySearch(l.bases, upTo+1)
		l.bases, l.sizes = l.bases[:n], l.sizes[:n]
		size = settleSize(o, l.bases, l.sizes)
		if n == 0 || l.bases[0] == front {
			break
		}
	}
	o.FileSize = size
	if err := l.leaveOut(o); err != nil {
		return nil, l, err
	}
	if o.Tolerant {
		files, more := tolerantRun(o, l.bases, l.sizes)
		l.problems = append(l.problems, more...)
		return files, l, nil
	}
	files, err = strictRun(o, l.bases, l.sizes)
	return files, l, err
}

// maxRelist bounds how often a directory is read anew whose front moves on.
const maxRelist = 16

// leaveOut leaves a last file out whose making was interrupted, and removes it
// unless the queue is read-only: it is too short, and nothing was ever written to
// it. A power cut can leave it with no length or, where a file system sets
// lengths by and by, with some other. One that was cut by somebody shows what it
// held.
func (l *listing) leaveOut(o *Options) error {
	last := len(l.bases) - 1
	if last < 0 || l.sizes[last] >= o.FileSize && l.sizes[last] > 0 {
		return nil
	}
	path := filepath.Join(o.Dir, FileName(l.bases[last]))
	if blank, err := isBlank(o.Disk, path, l.sizes[last]); err != nil || !blank {
		return err
	}
	if !o.Mapping.ReadOnly {
		if err := errors.Join(o.Disk.Remove(path), o.Disk.SyncDir(o.Dir)); err != nil {
			return err
		}
	}
	l.bases, l.sizes, l.unfinished = l.bases[:last], l.sizes[:last], path
	return nil
}

// isBlank tells whether a file holds zeros only.
func isBlank(disk Disk, path string, size int64) (bool, error) {
	if size == 0 {
		return true, nil
	}
	f := newFile(0, size, path, disk, Mapping{ReadOnly: true})
	defer f.release()
	blank := true
	err := Guard(func() error {
		data, err := f.Bytes()
		for at := f.NextData(0); err == nil && blank && at < size; at = f.NextData(at) {
			end := min(at+64<<10, size)
			blank = len(bytes.TrimLeft(data[at:end], "\x00")) == 0
			at = end
		}
		return err
	})
	if errors.Is(err, ErrFileSize) || errors.Is(err, fs.ErrNotExist) {
		return false, nil // it is being made, or removed
	}
	return blank, err
}

// whole tells whether the files are of one length and without a hole.
func whole(bases, sizes []int64, size int64) bool {
	for i := range bases {
		if sizes[i] != size || bases[i]-bases[0] != int64(i)*size {
			return false
		}
	}
	return true
}

func strictRun(o *Options, bases, sizes []int64) ([]*File, error) {
	files := make([]*File, len(bases))
	for i, base := range bases {
		path := filepath.Join(o.Dir, FileName(base))
		if sizes[i] != o.FileSize || sizes[i] == 0 {
			return nil, &FileError{Path: path, Cause: ErrFileSize, Want: o.FileSize, Got: sizes[i]}
		}
		if base > math.MaxInt64-o.FileSize {
			return nil, &FileError{Path: path, Cause: ErrStrayFile}
		}
		if want := bases[0] + int64(i)*o.FileSize; base != want {
			return nil, &FileError{Path: filepath.Join(o.Dir, FileName(want)), Cause: ErrMissingFile, Want: want, Got: base}
		}
		files[i] = newFile(base, o.FileSize, path, o.Disk, o.Mapping)
	}
	return files, nil
}

// listNames reads o.Dir.
func listNames(o *Options) (l listing, err error) {
	entries, err := o.Disk.List(o.Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return l, err
	}
	for _, e := range entries {
		if e.Dir {
			continue
		}
		base, ok := ParseFileName(e.Name)
		if !ok {
			stray := &FileError{Path: filepath.Join(o.Dir, e.Name), Cause: ErrStrayFile}
			if !o.Tolerant {
				return l, stray
			}
			l.problems = append(l.problems, stray)
			continue
		}
		l.bases, l.sizes = append(l.bases, base), append(l.sizes, e.Size)
	}
	return l, nil
}

// settleSize tells how long the files of a directory are meant to be: as they
// were asked for, or as most of them are; and where two lengths are equally
// common, the one that the distance of the names speaks for. An empty file says
// nothing, nor does a single one that holds nothing and has an Unlikely length.
func settleSize(o *Options, bases, sizes []int64) int64 {
	if o.FileSize != 0 {
		return o.FileSize
	}
	count := map[int64]int{}
	for _, s := range sizes {
		if s > 0 {
			count[s]++
		}
	}
	if len(count) == 0 {
		return o.DefaultSize
	}
	if len(sizes) == 1 && sizes[0] < o.DefaultSize && o.Unlikely != nil && o.Unlikely(sizes[0]) {
		if blank, err := isBlank(o.Disk, filepath.Join(o.Dir, FileName(bases[0])), sizes[0]); err == nil && blank {
			return o.DefaultSize
		}
	}
	stride := int64(0)
	if len(bases) > 1 {
		stride = bases[1] - bases[0]
	}
	best := int64(0)
	for _, s := range sizes {
		if s > 0 && (count[s] > count[best] || count[s] == count[best] && s == stride) {
			best = s
		}
	}
	return best
}
