// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package crashdisk

import (
	"maps"
	"math/bits"
	"slices"
	"time"
)

// file is one inode. The lock of its Disk guards it, except for the bytes in
// live.
type file struct {
	modTime time.Time

	// The current content: live while a region is open, else rest.
	live    []page
	regions int
	rest    image

	// The durable content. durable.pages is written only when owned.
	durable image
	owned   bool
	// maybe holds contents that a power cut may leave instead of the durable
	// one: what a failed WriteFile was about.
	maybe []image
	// coming is what a Create or a WriteFile under way is to make durable: a
	// power cut leaves a first part of it, or the durable content.
	coming *image
	// dropped holds the pages that a failed flush lost, as they were then.
	dropped map[int64]*page

	blocks  []uint64 // a bit for each page that has a block
	deleted bool     // no current name
}

func newFile(im image, now time.Time) *file {
	return &file{modTime: now, rest: im, durable: im}
}

func (f *file) size() int64 { return f.rest.size }

// open makes the current content live.
func (f *file) open() {
	f.regions++
	if f.regions > 1 {
		return
	}
	f.live = make([]page, pagesOf(f.rest.size))
	for i, p := range f.rest.pages {
		if p != nil {
			f.live[i] = *p
		}
	}
	f.rest.pages = nil
}

// close puts the content to rest once no region is left.
func (f *file) close() {
	if f.regions > 1 {
		f.regions--
		return
	}
	f.rest = f.current()
	f.regions = 0
	for i, p := range f.rest.pages {
		if p != nil {
			for j := range f.live[i] {
				f.live[i][j] = poison
			}
		}
	}
	f.live = nil
}

// current is an image of the content as it is now.
func (f *file) current() image {
	if f.regions == 0 {
		return f.rest
	}
	im := image{size: f.rest.size}
	for i := range f.live {
		if p := snapshot(&f.live[i]); p != nil {
			if im.pages == nil {
				im.pages = make([]*page, len(f.live))
			}
			im.pages[i] = p
		}
	}
	return im
}

// dirty calls visit for each page whose current content (nil for zeros) is not
// the durable one.
func (f *file) dirty(visit func(i int64, now *page)) {
	if f.regions == 0 {
		for i := range max(int64(len(f.rest.pages)), int64(len(f.durable.pages))) {
			if now := f.rest.page(i); !equal(now, f.durable.page(i)) {
				visit(i, now)
			}
		}
		return
	}
	for i := range f.live {
		if !same(&f.live[i], f.durable.page(int64(i))) {
			visit(int64(i), snapshot(&f.live[i]))
		}
	}
}

// setDurable records the durable content of one page.
func (f *file) setDurable(i int64, p *page) {
	if p == nil && f.durable.page(i) == nil {
		return
	}
	if !f.owned || int64(len(f.durable.pages)) <= i {
		pages := make([]*page, pagesOf(f.durable.size))
		copy(pages, f.durable.pages)
		f.durable.pages, f.owned = pages, true
	}
	f.durable.pages[i] = p
}

// flush makes the pages that [off, off+n) touches durable, except for those
// that an earlier failure dropped and nobody wrote since. It tells whether that
// changed anything.
func (f *file) flush(off, n int64) (changed bool) {
	if len(f.maybe) > 0 { // what a failed WriteFile left is settled by a sync
		f.durable, f.owned, f.maybe = image{size: f.size()}, false, nil
	}
	for i := off / PageSize; i < pagesOf(off+n); i++ {
		now := &f.live[i]
		if lost, ok := f.dropped[i]; ok {
			if same(now, lost) {
				continue
			}
			delete(f.dropped, i)
		}
		if !same(now, f.durable.page(i)) {
			f.setDurable(i, snapshot(now))
			changed = true
		}
	}
	return changed
}

// drop is a flush that fails: the dirty pages count as clean from now on.
func (f *file) drop(off, n int64) {
	for i := off / PageSize; i < pagesOf(off+n); i++ {
		now := &f.live[i]
		if same(now, f.durable.page(i)) {
			continue
		}
		if f.dropped == nil {
			f.dropped = map[int64]*page{}
		}
		f.dropped[i] = snapshot(now)
	}
}

// copyForKill is the file with everything that is in memory.
func (f *file) copyForKill() *file {
	f.owned = false
	maybe := slices.Clone(f.maybe)
	if f.coming != nil {
		maybe = append(maybe, f.rest) // a WriteFile that was cut short is not synced
	}
	return &file{
		modTime: f.modTime, rest: f.current(), durable: f.durable,
		maybe: maybe, dropped: maps.Clone(f.dropped),
		blocks: slices.Clone(f.blocks), deleted: f.deleted,
	}
}

// copyAs is the file as a power cut leaves it, with the given content.
func (f *file) copyAs(im image) *file {
	c := newFile(im, f.modTime)
	c.blocks = slices.Clone(f.blocks)
	return c
}

// hasBlock tells whether page i has a block.
func (f *file) hasBlock(i int64) bool {
	w := i / 64
	return w < int64(len(f.blocks)) && f.blocks[w]&(1<<(i%64)) != 0
}

// missingBlocks counts the pages of [off, off+n) without a block.
func (f *file) missingBlocks(off, n int64) int64 {
	var missing int64
	for i := off / PageSize; i < pagesOf(off+n); i++ {
		if !f.hasBlock(i) {
			missing++
		}
	}
	return missing
}

func (f *file) addBlocks(off, n int64) {
	if f.blocks == nil {
		f.blocks = make([]uint64, (pagesOf(f.size())+63)/64)
	}
	for i := off / PageSize; i < pagesOf(off+n); i++ {
		f.blocks[i/64] |= 1 << (i % 64)
	}
}

// used is the space of the file's blocks in bytes.
func (f *file) used() int64 {
	n := 0
	for _, w := range f.blocks {
		n += bits.OnesCount64(w)
	}
	return int64(n) * PageSize
}
