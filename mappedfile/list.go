// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package mappedfile

import (
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

// listFiles reads and checks o.Dir, and settles o.FileSize.
func listFiles(o *Options) ([]*File, []*FileError, error) {
	bases, sizes, problems, err := listNames(o)
	if err != nil {
		return nil, nil, err
	}
	size := o.FileSize
	if size == 0 {
		size = settleSize(bases, sizes, o.DefaultSize)
	}
	if o.Mapping.ReadOnly && !whole(bases, sizes, size) {
		// The owner may be adding files. Reading a directory is not atomic:
		// it can miss a file that was made meanwhile and yet show the one
		// after it, or show a length from before it was set. What was there
		// up to the last name of the first reading is there, in full, in the
		// second.
		upTo := bases[len(bases)-1]
		if bases, sizes, problems, err = listNames(o); err != nil {
			return nil, nil, err
		}
		n, _ := slices.BinarySearch(bases, upTo+1)
		bases, sizes = bases[:n], sizes[:n]
		if o.FileSize == 0 {
			size = settleSize(bases, sizes, o.DefaultSize)
		}
	}
	o.FileSize = size
	if o.Tolerant {
		files, more := tolerantRun(o, bases, sizes)
		return files, append(problems, more...), nil
	}
	files, err := strictRun(o, bases, sizes)
	return files, nil, err
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

// listNames reads o.Dir and removes an empty last file.
func listNames(o *Options) (bases, sizes []int64, problems []*FileError, err error) {
	entries, err := o.Disk.List(o.Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil, err
	}
	for _, e := range entries {
		if e.Dir {
			continue
		}
		base, ok := ParseFileName(e.Name)
		if !ok {
			stray := &FileError{Path: filepath.Join(o.Dir, e.Name), Cause: ErrStrayFile}
			if !o.Tolerant {
				return nil, nil, nil, stray
			}
			problems = append(problems, stray)
			continue
		}
		bases, sizes = append(bases, base), append(sizes, e.Size)
	}
	n := len(sizes)
	if n == 0 || sizes[n-1] != 0 {
		return bases, sizes, problems, nil
	}
	if !o.Mapping.ReadOnly {
		path := filepath.Join(o.Dir, FileName(bases[n-1]))
		if err := errors.Join(o.Disk.Remove(path), o.Disk.SyncDir(o.Dir)); err != nil {
			return nil, nil, nil, err
		}
	}
	return bases[:n-1], sizes[:n-1], problems, nil
}

// settleSize tells how long the files of a directory are meant to be: as most
// of them are; and where two lengths are equally common, the one that the
// distance of the names speaks for. An empty file says nothing.
func settleSize(bases, sizes []int64, fallback int64) int64 {
	count := map[int64]int{}
	for _, s := range sizes {
		if s > 0 {
			count[s]++
		}
	}
	if len(count) == 0 {
		return fallback
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
