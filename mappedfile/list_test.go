// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package mappedfile_test

import (
	"fmt"
	"io/fs"
	"math"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/mappedfile"
)

type named struct {
	name string
	size int64
}

func at(base, size int64) named { return named{mappedfile.FileName(base), size} }

// openCases are directories and what OpenQueue makes of them.
var openCases = []struct {
	name     string
	files    []named
	dirs     []string
	fileSize int64 // 0: to be found out
	fallback int64

	want     error
	culprit  string // the file that the error names
	min, end int64
	size     int64
	left     []string // names that remain; nil: all
}{
	{name: "no directory", fallback: 2 * page, size: 2 * page},
	{name: "empty directory", dirs: []string{"."}, fileSize: page, size: page},
	{name: "one file", files: []named{at(0, page)}, fileSize: page, size: page, end: page},
	{name: "three files", files: []named{at(0, page), at(page, page), at(2*page, page)}, fileSize: page, size: page, end: 3 * page},
	{name: "the run begins late", files: []named{at(3*page, page), at(4*page, page)}, fileSize: page, size: page, min: 3 * page, end: 5 * page},
	{name: "the run begins beside the grid", files: []named{at(100, page), at(100+page, page)}, fileSize: page, size: page, min: 100, end: 100 + 2*page},
	{name: "directories are ignored", files: []named{at(0, page)}, dirs: []string{"x", mappedfile.FileName(page)}, fileSize: page, size: page, end: page},

	{name: "stray: text", files: []named{at(0, page), {"notes.txt", 3}}, fileSize: page, want: mappedfile.ErrStrayFile, culprit: "notes.txt"},
	{name: "stray: 19 digits", files: []named{{"0000000000000000000", page}}, want: mappedfile.ErrStrayFile, culprit: "0000000000000000000"},
	{name: "stray: a sign", files: []named{{"+0000000000000000000", page}}, want: mappedfile.ErrStrayFile, culprit: "+0000000000000000000"},
	{name: "stray: more than an int64", files: []named{{"99999999999999999999", page}}, want: mappedfile.ErrStrayFile, culprit: "99999999999999999999"},
	{name: "stray: its end is more than an int64", files: []named{at(math.MaxInt64-10, page)}, want: mappedfile.ErrStrayFile, culprit: mappedfile.FileName(math.MaxInt64 - 10)},
	{name: "stray: an empty one", files: []named{at(0, page), {"x", 0}}, fileSize: page, want: mappedfile.ErrStrayFile, culprit: "x"},

	{name: "first file too short", files: []named{at(0, 100), at(page, page)}, fileSize: page, want: mappedfile.ErrFileSize, culprit: mappedfile.FileName(0)},
	{name: "middle file too long", files: []named{at(0, page), at(page, page+1), at(2*page, page)}, fileSize: page, want: mappedfile.ErrFileSize, culprit: mappedfile.FileName(page)},
	{name: "last file too long", files: []named{at(0, page), at(page, page+1)}, fileSize: page, want: mappedfile.ErrFileSize, culprit: mappedfile.FileName(page)},
	{name: "all of another size", files: []named{at(0, 2*page)}, fileSize: page, want: mappedfile.ErrFileSize, culprit: mappedfile.FileName(0)},
	{name: "two short files at the end", files: []named{at(0, page), at(page, 1), at(2*page, 1)}, fileSize: page, want: mappedfile.ErrFileSize, culprit: mappedfile.FileName(page)},
	{name: "empty middle file", files: []named{at(0, page), at(page, 0), at(2*page, page)}, fileSize: page, want: mappedfile.ErrFileSize, culprit: mappedfile.FileName(page)},
	{name: "two empty files", files: []named{at(0, 0), at(page, 0)}, fileSize: page, want: mappedfile.ErrFileSize, culprit: mappedfile.FileName(0)},
	{name: "two empty files, size to be found out", files: []named{at(0, 0), at(page, 0)}, fallback: page, want: mappedfile.ErrFileSize, culprit: mappedfile.FileName(0)},
	{name: "two empty files, no size at all", files: []named{at(0, 0), at(page, 0)}, want: mappedfile.ErrFileSize, culprit: mappedfile.FileName(0)},
	{name: "missing middle", files: []named{at(0, page), at(2*page, page)}, fileSize: page, want: mappedfile.ErrMissingFile, culprit: mappedfile.FileName(page)},
	{name: "two missing", files: []named{at(0, page), at(page, page), at(4*page, page)}, fileSize: page, want: mappedfile.ErrMissingFile, culprit: mappedfile.FileName(2 * page)},
	{name: "files overlap", files: []named{at(0, page), at(100, page)}, fileSize: page, want: mappedfile.ErrMissingFile, culprit: mappedfile.FileName(page)},

	{name: "empty last file", files: []named{at(0, page), at(page, 0)}, fileSize: page, size: page, end: page, left: []string{mappedfile.FileName(0)}},
	{name: "empty only file", files: []named{at(page, 0)}, fallback: page, size: page, left: []string{}},

	{name: "size of the only file", files: []named{at(0, 3*page)}, fallback: page, size: 3 * page, end: 3 * page},
	{name: "size of most files", files: []named{at(0, page), at(page, page), at(2*page, 7)}, size: page, end: 2 * page, left: []string{mappedfile.FileName(0), mappedfile.FileName(page)}},
	{name: "size that the names speak for", files: []named{at(0, 7), at(page, page)}, want: mappedfile.ErrFileSize, culprit: mappedfile.FileName(0)},
	{name: "size that the names speak for, short last", files: []named{at(0, page), at(page, 7)}, size: page, end: page, left: []string{mappedfile.FileName(0)}},
	{name: "size where no size fits the names", files: []named{at(0, 7), at(page, 8)}, want: mappedfile.ErrFileSize, culprit: mappedfile.FileName(page)},
	{name: "short last file of zeros", files: []named{at(0, page), at(page, page-1)}, fileSize: page, size: page, end: page, left: []string{mappedfile.FileName(0)}},
	{name: "short only file of zeros", files: []named{at(page, page)}, fileSize: 2 * page, size: 2 * page, left: []string{}},
	{name: "short only file of zeros, size to be found out", files: []named{at(0, 17*page+1)}, fallback: 100 * page, size: 100 * page, left: []string{}},
	{name: "only file of zeros, of a likely size", files: []named{at(0, 17*page)}, fallback: 100 * page, size: 17 * page, end: 17 * page},
	{name: "size beside an empty last file", files: []named{at(0, page), at(page, 0)}, fallback: 7, size: page, end: page, left: []string{mappedfile.FileName(0)}},
}

func TestOpenQueue(t *testing.T) {
	t.Parallel()
	eachDisk(t, func(t *testing.T, d mappedfile.Disk, parent string) {
		for i, tc := range openCases {
			dir := filepath.Join(parent, strconv.Itoa(i))
			for _, sub := range tc.dirs {
				require.NoError(t, d.MkdirAll(filepath.Join(dir, sub)))
			}
			for _, f := range tc.files {
				put(t, d, dir, f.name, f.size)
			}
			for _, readOnly := range []bool{true, false} { // the one that changes something comes last
				t.Run(fmt.Sprintf("%s, read-only %t", tc.name, readOnly), func(t *testing.T) {
					before, errBefore := d.List(dir)
					q, err := mappedfile.OpenQueue(mappedfile.Options{
						Dir: dir, Disk: d, FileSize: tc.fileSize, DefaultSize: tc.fallback,
						Unlikely: func(size int64) bool { return size%page != 0 },
						Mapping:  mappedfile.Mapping{ReadOnly: readOnly},
					})
					after, errAfter := d.List(dir)
					if readOnly {
						require.Equal(t, before, after, "read-only changes nothing")
						require.Equal(t, errBefore, errAfter)
					}
					if tc.want != nil {
						require.ErrorIs(t, err, tc.want)
						var fe *mappedfile.FileError
						require.ErrorAs(t, err, &fe)
						require.Equal(t, filepath.Join(dir, tc.culprit), fe.Path)
						require.Contains(t, err.Error(), fe.Path)
						return
					}
					require.NoError(t, err)
					require.Equal(t, tc.min, q.Min())
					require.Equal(t, tc.end, q.End())
					require.Equal(t, tc.size, q.FileSize())
					require.Equal(t, int((tc.end-tc.min)/tc.size), q.Len())
					if tc.left != nil && !readOnly {
						require.ElementsMatch(t, tc.left, names(t, d, dir))
					}
					require.NoError(t, q.Close())
				})
			}
		}
	})
}

// TestShortLastFile: only one that was never written to may go.
func TestShortLastFile(t *testing.T) {
	t.Parallel()
	const size = 40 * page
	for name, c := range map[string]struct {
		length int64
		data   []int64 // places of bytes that are not zero
		only   bool    // there is no file before it
		gone   bool
	}{
		"zeros":                      {length: 20 * page, gone: true},
		"zeros, one byte short":      {length: size - 1, gone: true},
		"one byte":                   {length: 1, gone: true},
		"the first byte is data":     {length: 20 * page, data: []int64{0}},
		"the last byte is data":      {length: 20 * page, data: []int64{20*page - 1}},
		"one of 64 KiB + 1 is data":  {length: 64<<10 + 1, data: []int64{64 << 10}},
		"an only file of zeros":      {length: 20 * page, only: true, gone: true},
		"an only file that has data": {length: 20 * page, data: []int64{17 * page}, only: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			eachDisk(t, func(t *testing.T, d mappedfile.Disk, dir string) {
				base, want := int64(size), 1
				if c.only {
					base, want = 0, 0
				} else {
					put(t, d, dir, mappedfile.FileName(0), size)
				}
				path := filepath.Join(dir, mappedfile.FileName(base))
				require.NoError(t, d.MkdirAll(dir))
				r, err := d.Create(path, c.length, mappedfile.Mapping{})
				require.NoError(t, err)
				for _, at := range c.data {
					r.Bytes()[at] = 1
				}
				require.NoError(t, r.Close())
				for _, o := range []mappedfile.Options{
					{Mapping: mappedfile.Mapping{ReadOnly: true}},
					{Mapping: mappedfile.Mapping{ReadOnly: true}, Tolerant: true},
					{},
				} {
					o.Dir, o.Disk, o.FileSize = dir, d, size
					q, err := mappedfile.OpenQueue(o)
					if !c.gone && !o.Tolerant {
						require.ErrorIs(t, err, mappedfile.ErrFileSize)
						require.ErrorContains(t, err, path)
						continue
					}
					require.NoError(t, err)
					if c.gone {
						require.Equal(t, want, q.Len())
						require.Equal(t, path, q.Unfinished())
						require.Empty(t, q.Problems())
					} else {
						require.Equal(t, want+1, q.Len())
						require.Empty(t, q.Unfinished())
						require.Len(t, q.Problems(), 1)
					}
					require.NoError(t, q.Close())
				}
				left := want
				if !c.gone {
					left++
				}
				require.Len(t, names(t, d, dir), left)
			})
		})
	}
}

func TestOpenQueueNeedsASizeToWrite(t *testing.T) {
	t.Parallel()
	eachDisk(t, func(t *testing.T, d mappedfile.Disk, dir string) {
		_, err := mappedfile.OpenQueue(mappedfile.Options{Dir: dir, Disk: d})
		require.ErrorIs(t, err, mappedfile.ErrFileSize)
		_, err = mappedfile.OpenQueue(mappedfile.Options{Dir: dir, Disk: d, FileSize: -1})
		require.ErrorIs(t, err, mappedfile.ErrFileSize)
		_, err = mappedfile.OpenQueue(mappedfile.Options{Dir: dir, Disk: d, Mapping: mappedfile.Mapping{ReadOnly: true}})
		require.NoError(t, err)
		_, err = d.List(dir)
		require.ErrorIs(t, err, fs.ErrNotExist)
	})
}

func TestFileName(t *testing.T) {
	t.Parallel()
	for base, name := range map[int64]string{
		0:             "00000000000000000000",
		1 << 30:       "00000000001073741824",
		math.MaxInt64: "09223372036854775807",
	} {
		require.Equal(t, name, mappedfile.FileName(base))
		got, ok := mappedfile.ParseFileName(name)
		require.True(t, ok)
		require.Equal(t, base, got)
	}
	for _, name := range []string{"", "0", "0000000000000000000", "000000000000000000000", "-0000000000000000001", "0000000000000000000x", "09223372036854775808", "0000_000000000000001"} {
		_, ok := mappedfile.ParseFileName(name)
		require.False(t, ok, name)
	}
}

func FuzzParseFileName(f *testing.F) {
	for _, s := range []string{"00000000000000000000", "00000000001073741824", "09223372036854775808", "+0000000000000000001", "0x000000000000000001", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		base, ok := mappedfile.ParseFileName(name)
		if !ok {
			if len(name) == 20 && onlyDigits(name) && name <= mappedfile.FileName(math.MaxInt64) {
				t.Fatalf("%q is a name", name)
			}
			return
		}
		if got := mappedfile.FileName(base); got != name || base < 0 {
			t.Fatalf("%q parses as %d, which is %q", name, base, got)
		}
	})
}

func onlyDigits(s string) bool {
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

// growing is a directory whose owner adds files while it is read for the first
// time.
type growing struct {
	mappedfile.Disk
	first []mappedfile.Entry
	grow  func()
	reads int
}

func (g *growing) List(dir string) ([]mappedfile.Entry, error) {
	g.reads++
	if g.reads == 1 {
		return g.first, nil
	}
	g.grow()
	return g.Disk.List(dir)
}

// TestListBesideAnOwnerWhoAddsFiles: reading a directory is not atomic.
func TestListBesideAnOwnerWhoAddsFiles(t *testing.T) {
	t.Parallel()
	entry := func(base, size int64) mappedfile.Entry {
		return mappedfile.Entry{Name: mappedfile.FileName(base), Size: size}
	}
	for name, first := range map[string][]mappedfile.Entry{
		"a name was missed":            {entry(0, page), entry(2*page, page)},
		"two names were missed":        {entry(0, page), entry(3*page, page)},
		"a length was not set yet":     {entry(0, page), entry(page, 0), entry(2*page, page)},
		"a length that was half a lie": {entry(0, page), entry(page, 1), entry(2*page, page), entry(3*page, page)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, made := t.TempDir(), int64(0)
			g := &growing{Disk: mappedfile.OS(), first: first}
			g.grow = func() {
				for ; made < 6; made++ { // beyond what the first reading saw, with a hole of its own
					if made != 4 {
						put(t, g.Disk, dir, mappedfile.FileName(made*page), page)
					}
				}
			}
			q, err := mappedfile.OpenQueue(mappedfile.Options{
				Dir: dir, Disk: g, Tolerant: true, Mapping: mappedfile.Mapping{ReadOnly: true},
			})
			require.NoError(t, err)
			require.Empty(t, q.Problems())
			last, err := strconv.ParseInt(first[len(first)-1].Name, 10, 64)
			require.NoError(t, err)
			require.Equal(t, last+page, q.End())
			require.Equal(t, 2, g.reads)
			require.NoError(t, q.Close())
		})
	}
}

// shrinking is a directory whose owner removes files from the front while it is
// read: each reading still shows a file that is gone, before a hole.
type shrinking struct {
	mappedfile.Disk
	readings [][]mappedfile.Entry
	reads    int
}

func (s *shrinking) List(string) ([]mappedfile.Entry, error) {
	s.reads++
	return s.readings[min(s.reads, len(s.readings))-1], nil
}

func TestListBesideAnOwnerWhoRemovesFiles(t *testing.T) {
	t.Parallel()
	files := func(bases ...int64) (all []mappedfile.Entry) {
		for _, b := range bases {
			all = append(all, mappedfile.Entry{Name: mappedfile.FileName(b * page), Size: page})
		}
		return all
	}
	for name, c := range map[string]struct {
		readings [][]mappedfile.Entry
		min, end int64
		problems int
	}{
		"once":            {readings: [][]mappedfile.Entry{files(0, 2, 3, 4), files(3, 4)}, min: 3, end: 5},
		"again and again": {readings: [][]mappedfile.Entry{files(0, 2, 3, 4), files(2, 4), files(3, 4, 5)}, min: 3, end: 5},
		"all of them":     {readings: [][]mappedfile.Entry{files(0, 2), files(5, 6)}},
		"a hole":          {readings: [][]mappedfile.Entry{files(0, 2), files(0, 2)}, min: 0, end: 3, problems: 1},
		"a hole behind":   {readings: [][]mappedfile.Entry{files(0, 2, 3, 5), files(2, 3, 5)}, min: 2, end: 6, problems: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			q, err := mappedfile.OpenQueue(mappedfile.Options{
				Dir: "/q", Disk: &shrinking{Disk: mappedfile.OS(), readings: c.readings}, Tolerant: true, DefaultSize: page,
				Mapping: mappedfile.Mapping{ReadOnly: true},
			})
			require.NoError(t, err)
			require.Len(t, q.Problems(), c.problems)
			require.Equal(t, []int64{c.min * page, c.end * page}, []int64{q.Min(), q.End()})
		})
	}
}

// A file that went since it was listed has expired for who only reads; for its
// owner it is lost.
func TestFileThatWentSinceItWasListed(t *testing.T) {
	t.Parallel()
	eachDisk(t, func(t *testing.T, d mappedfile.Disk, dir string) {
		fillQueue(t, openQueue(t, d, dir), 3)
		owner, reader := openQueue(t, d, dir), openQueue(t, d, dir, readOnly)
		require.NoError(t, d.Remove(owner.First().Path()))
		_, err := reader.View(0, 1)
		require.ErrorIs(t, err, mappedfile.ErrExpired)
		require.ErrorIs(t, err, fs.ErrNotExist)
		_, err = owner.View(0, 1)
		require.ErrorIs(t, err, fs.ErrNotExist)
		require.NotErrorIs(t, err, mappedfile.ErrExpired)
	})
}
