// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package mappedfile

import (
	"math"
	"path/filepath"
	"sort"
)

// tolerantRun makes a run of the files that can be read, and says what is wrong
// with it. A file that is too short is read as far as it goes, of one that is
// too long the beginning.
func tolerantRun(o *Options, bases, sizes []int64) (files []*File, problems []*FileError) {
	for i, base := range bases {
		path := filepath.Join(o.Dir, FileName(base))
		if base > math.MaxInt64-o.FileSize || base%o.FileSize != bases[0]%o.FileSize {
			problems = append(problems, &FileError{Path: path, Cause: ErrStrayFile})
			continue
		}
		if sizes[i] != o.FileSize {
			problems = append(problems, &FileError{Path: path, Cause: ErrFileSize, Want: o.FileSize, Got: sizes[i]})
		}
		if n := len(files); n > 0 && base > files[n-1].base+o.FileSize {
			want := files[n-1].base + o.FileSize
			problems = append(problems, &FileError{
				Path: filepath.Join(o.Dir, FileName(want)), Cause: ErrMissingFile, Want: want, Got: base,
			})
		}
		if size := min(sizes[i], o.FileSize); size > 0 {
			f := newFile(base, size, path, o.Disk, o.Mapping)
			f.lax = true
			files = append(files, f)
		}
	}
	return files, problems
}

// Problems returns what is wrong with the files of a queue that was opened
// Tolerant.
func (q *Queue) Problems() []*FileError { return q.problems }

// Next returns the file that holds off or, in a hole of a Tolerant queue, the
// one behind the hole; nil when there is none.
func (q *Queue) Next(off int64) *File {
	files := q.Files()
	i := sort.Search(len(files), func(i int) bool { return files[i].End() > off })
	if i == len(files) {
		return nil
	}
	return files[i]
}

// hole says which file lacks the byte at off, which lies between Min and End.
func (q *Queue) hole(off int64) error {
	base := off - (off-q.Min())%q.o.FileSize
	path := filepath.Join(q.o.Dir, FileName(base))
	for _, p := range q.problems {
		if p.Path == path {
			return p
		}
	}
	return &FileError{Path: path, Cause: ErrMissingFile, Want: base, Got: q.Next(off).base}
}
