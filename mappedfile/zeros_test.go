// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package mappedfile_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/internal/crashdisk"
	"github.com/stelelog/stele/mappedfile"
)

// span is [from, to) of a file.
type span struct{ from, to int64 }

// watched is a Disk that takes down what is written and flushed.
type watched struct {
	mappedfile.Disk
	overwrites bool
	fail       error // of a write at or behind failFrom
	failFrom   int64
	wrote      []span
	flushed    []span
}

func (d *watched) Create(path string, size int64, m mappedfile.Mapping) (mappedfile.Region, error) {
	r, err := d.Disk.Create(path, size, m)
	return &watchedRegion{r, d}, err
}

type watchedRegion struct {
	mappedfile.Region
	d *watched
}

func (r *watchedRegion) Overwrites() bool { return r.d.overwrites }

func (r *watchedRegion) Write(p []byte, off int64) error {
	r.d.wrote = append(r.d.wrote, span{off, off + int64(len(p))})
	if r.d.fail != nil && off >= r.d.failFrom {
		return r.d.fail
	}
	return r.Region.Write(p, off)
}

func (r *watchedRegion) Flush(off, n int64) error {
	r.d.flushed = append(r.d.flushed, span{off, off + n})
	return r.Region.Flush(off, n)
}

// Zeros are written in front of short commits, and the flush of the commit takes
// them along; whoever has not come to their end pays nothing.
func TestZerosAhead(t *testing.T) {
	t.Parallel()
	const long, step = 128 << 10, 16 << 10
	for _, c := range []struct {
		name    string
		ahead   int64
		from    int64
		commits []int64 // ends
		change  func(*watched)
		wrote   []span
		flushed []span
	}{
		{
			name: "a short commit", ahead: 2 * page, commits: []int64{100},
			wrote: []span{{0, 100}, {page, 3 * page}}, flushed: []span{{0, 3 * page}},
		},
		{
			name: "more of them come to the end of the zeros", ahead: 2 * page, commits: []int64{100, 200, 3 * page, 3*page + 1},
			wrote:   []span{{0, 100}, {page, 3 * page}, {100, 200}, {200, 3 * page}, {3 * page, 3*page + 1}, {4 * page, 6 * page}},
			flushed: []span{{0, 3 * page}, {100, 200}, {200, 3 * page}, {3 * page, 6 * page}},
		},
		{
			name: "a commit that ends with a block", ahead: page, commits: []int64{page},
			wrote: []span{{0, page}, {page, 2 * page}}, flushed: []span{{0, 2 * page}},
		},
		{
			name: "in steps", ahead: step + page, commits: []int64{1},
			wrote: []span{{0, 1}, {page, page + step}, {page + step, 2*page + step}}, flushed: []span{{0, 2*page + step}},
		},
		{
			name: "from the middle of a file", ahead: page, from: 5000, commits: []int64{5100},
			wrote: []span{{5000, 5100}, {2 * page, 3 * page}}, flushed: []span{{5000, 3 * page}},
		},
		{
			name: "none behind the end of the file", ahead: 1 << 20, from: zerosFile - 2*page, commits: []int64{zerosFile - page - 1, zerosFile},
			wrote:   []span{{zerosFile - 2*page, zerosFile - page - 1}, {zerosFile - page, zerosFile}, {zerosFile - page - 1, zerosFile}},
			flushed: []span{{zerosFile - 2*page, zerosFile}, {zerosFile - page - 1, zerosFile}},
		},
		{
			name: "none for a long commit", ahead: page, commits: []int64{long + 1, long + 2},
			wrote:   []span{{0, long + 1}, {long + 1, long + 2}, {long + page, long + 2*page}},
			flushed: []span{{0, long + 1}, {long + 1, long + 2*page}},
		},
		{name: "none unless asked for", commits: []int64{100}, wrote: []span{{0, 100}}, flushed: []span{{0, 100}}},
		{
			name: "none where blocks are not overwritten", ahead: page, commits: []int64{100},
			change: func(d *watched) { d.overwrites = false },
			wrote:  []span{{0, 100}}, flushed: []span{{0, 100}},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d := &watched{Disk: crashdisk.New(), overwrites: true}
			require.NoError(t, d.MkdirAll("d"))
			q, err := mappedfile.OpenQueue(mappedfile.Options{Dir: "d", FileSize: zerosFile, Disk: d, ReserveWhole: true})
			require.NoError(t, err)
			defer func() { require.NoError(t, q.Close()) }()
			f, err := q.Add(0)
			require.NoError(t, err)
			if c.change != nil {
				c.change(d)
			}
			w := mappedfile.NewFileWriter(f, make([]byte, zerosFile), c.from, c.ahead)
			defer w.Close()
			at := c.from
			for _, end := range c.commits {
				require.NoError(t, w.Put(at, make([]byte, end-at)))
				require.NoError(t, w.Commit(end))
				require.NoError(t, f.Flush(at, end))
				at = end
			}
			require.Equal(t, c.wrote, d.wrote)
			require.Equal(t, c.flushed, d.flushed)
		})
	}
}

// Zeros that can't be written fail the commit, which can be tried again.
func TestZerosFail(t *testing.T) {
	t.Parallel()
	d := &watched{Disk: crashdisk.New(), overwrites: true, failFrom: page}
	require.NoError(t, d.MkdirAll("d"))
	q, err := mappedfile.OpenQueue(mappedfile.Options{Dir: "d", FileSize: zerosFile, Disk: d, ReserveWhole: true})
	require.NoError(t, err)
	defer func() { require.NoError(t, q.Close()) }()
	f, err := q.Add(0)
	require.NoError(t, err)
	w := mappedfile.NewFileWriter(f, make([]byte, zerosFile), 0, page)
	defer w.Close()
	require.NoError(t, w.Put(0, make([]byte, 100)))
	d.fail = errors.New("no")
	require.ErrorIs(t, w.Commit(100), d.fail)
	require.ErrorIs(t, w.Commit(100), d.fail)
	d.fail = nil
	require.NoError(t, w.Commit(100))
	require.Equal(t, []span{{0, 100}, {page, 2 * page}, {page, 2 * page}, {page, 2 * page}}, d.wrote)
	require.NoError(t, f.Flush(0, 100))
	require.Equal(t, []span{{0, 2 * page}}, d.flushed)
}

const zerosFile = 256 << 10
