// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package fusefs

import "math/rand/v2"

const (
	pageSize   = 4096
	sectorSize = 512
)

type page [pageSize]byte

// content is what a file holds. A page that is not there is a hole.
type content struct {
	size  int64
	pages map[int64]*page
}

func newContent() content { return content{pages: map[int64]*page{}} }

// read fills buf from off and returns how much of it lies in the file.
func (c *content) read(buf []byte, off int64) int {
	n := int(max(0, min(int64(len(buf)), c.size-off)))
	for done := 0; done < n; {
		at := off + int64(done)
		in := at % pageSize
		k := min(n-done, int(pageSize-in))
		if p := c.pages[at/pageSize]; p != nil {
			copy(buf[done:done+k], p[in:])
		} else {
			clear(buf[done : done+k])
		}
		done += k
	}
	return n
}

// file is a file's content, and what of it is on disk.
type file struct {
	live, safe content
	dirty      map[int64]bool // pages of live that may differ from safe
	lengths    []length       // that live has had since the last sync
}

// length is one that a file was given: at once, or by a write, which may have
// come through in part.
type length struct {
	size    int64
	written bool
}

// writable returns a page of live that is not safe's as well.
func (f *file) writable(i int64) *page {
	p := f.live.pages[i]
	switch p {
	case nil:
		p = new(page)
	case f.safe.pages[i]:
		clone := *p
		p = &clone
	}
	f.live.pages[i] = p
	f.dirty[i] = true
	return p
}

func (f *file) write(data []byte, off int64) {
	for done := 0; done < len(data); {
		at := off + int64(done)
		done += copy(f.writable(at / pageSize)[at%pageSize:], data[done:])
	}
	f.grow(off+int64(len(data)), true)
}

// zero makes [off, end) read as zeros. Whole pages become holes.
func (f *file) zero(off, end int64) {
	for at := off; at < end; {
		i, in := at/pageSize, at%pageSize
		k := min(end-at, pageSize-in)
		switch {
		case f.live.pages[i] == nil:
		case k == pageSize:
			delete(f.live.pages, i)
			f.dirty[i] = true
		default:
			clear(f.writable(i)[in : in+k])
		}
		at += k
	}
}

func (f *file) truncate(size int64) {
	if size < f.live.size {
		f.zero(size, (f.live.size+pageSize-1)/pageSize*pageSize)
	}
	f.live.size = size
	f.lengths = append(f.lengths, length{size: size})
}

// grow makes the file at least so long.
func (f *file) grow(size int64, written bool) {
	if size > f.live.size {
		f.live.size = size
		f.lengths = append(f.lengths, length{size, written})
	}
}

// sync makes live safe.
func (f *file) sync() {
	for i := range f.dirty {
		if p := f.live.pages[i]; p != nil {
			f.safe.pages[i] = p
		} else {
			delete(f.safe.pages, i)
		}
	}
	clear(f.dirty)
	f.lengths = f.lengths[:0]
	f.safe.size = f.live.size
}

// crash returns what a power cut leaves of the file. luck is how likely it is
// that a change that was not synced is there all the same.
func (f *file) crash(rng *rand.Rand, luck float64) *file {
	left := content{size: f.safe.size, pages: map[int64]*page{}}
	for i, p := range f.safe.pages {
		clone := *p
		left.pages[i] = &clone
	}
	for _, l := range f.lengths {
		if rng.Float64() >= luck {
			break
		}
		if d := l.size - left.size; l.written && d > 0 && rng.IntN(2) == 0 {
			left.size += rng.Int64N(d)
			break
		}
		left.size = l.size
	}
	for i := range f.dirty {
		if rng.Float64() < luck {
			left.pages[i] = merge(f.live.pages[i], f.safe.pages[i], rng)
		}
	}
	for i, p := range left.pages {
		if i*pageSize >= left.size {
			delete(left.pages, i)
		} else if end := left.size - i*pageSize; end < pageSize {
			clear(p[end:])
		}
	}
	return &file{live: left, safe: left.copy(), dirty: map[int64]bool{}}
}

// merge is a page on its way from old to now: all of it, or each sector for
// itself.
func merge(now, old *page, rng *rand.Rand) *page {
	var p page
	if now != nil {
		p = *now
	}
	if rng.IntN(4) > 0 {
		return &p
	}
	if old == nil {
		old = new(page)
	}
	for at := 0; at < pageSize; at += sectorSize {
		if rng.IntN(2) == 0 {
			copy(p[at:at+sectorSize], old[at:])
		}
	}
	return &p
}

// copy shares the pages: writable clones them before a change.
func (c *content) copy() content {
	other := content{size: c.size, pages: make(map[int64]*page, len(c.pages))}
	for i, p := range c.pages {
		other.pages[i] = p
	}
	return other
}
