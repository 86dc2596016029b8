// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package crashdisk

import (
	"fmt"
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"slices"
)

// cut decides what a power cut leaves of what was not durable.
type cut struct {
	rng   *rand.Rand
	pages float64 // the chance of a page to survive
	tear  float64 // the chance of a page to be torn
	names float64 // the chance of a name, or of its removal, to survive
}

// newCut draws how bad the power cut is, so that over many seeds both ends come
// up: nothing survives that was not durable, and all of it does.
func newCut(seed uint64) *cut {
	rng := rand.New(rand.NewPCG(seed, 0x5e_1e))
	chances := []float64{0, 0.25, 0.5, 0.75, 1}
	c := &cut{rng: rng, pages: chances[rng.IntN(len(chances))], names: chances[rng.IntN(len(chances))]}
	if c.pages > 0 && c.pages < 1 {
		c.tear = []float64{0, 0.25, 0.75}[rng.IntN(3)]
	}
	return c
}

func (c *cut) happens(chance float64) bool { return c.rng.Float64() < chance }

// page is what is left of a page that was old on disk and now in memory.
func (c *cut) page(old, now *page) *page {
	if c.happens(c.tear) {
		return c.torn(old, now)
	}
	if c.happens(c.pages) {
		return now
	}
	return old
}

// torn mixes the sectors of two pages.
func (c *cut) torn(old, now *page) *page {
	var mixed page
	for s := range sectorsPerPage {
		from := old
		if c.rng.IntN(2) == 0 {
			from = now
		}
		if from != nil {
			lo := s * sectorWords
			copy(mixed[lo:lo+sectorWords], from[lo:])
		}
	}
	return snapshot(&mixed)
}

// file is what is left of a file that still has its name.
func (c *cut) file(f *file) *file {
	if f.coming != nil {
		left := f.durable
		if c.happens(c.pages) {
			left = c.part(*f.coming)
		}
		f.owned = false
		return f.copyAs(left)
	}
	if len(f.maybe) > 0 {
		left := f.durable
		if c.happens(c.pages) {
			left = f.maybe[c.rng.IntN(len(f.maybe))]
		}
		return f.copyAs(left)
	}
	var pages []*page
	f.dirty(func(i int64, now *page) {
		if pages == nil {
			pages = make([]*page, pagesOf(f.durable.size))
			copy(pages, f.durable.pages)
		}
		pages[i] = c.page(f.durable.page(i), now)
	})
	if pages == nil {
		f.owned = false
		return f.copyAs(f.durable)
	}
	return f.copyAs(image{size: f.durable.size, pages: pages})
}

// part is as much of an image as a file has that was not synced: all of it, its
// first pages, or any number of bytes, or as many zeros, whose length came before
// their bytes.
func (c *cut) part(im image) image {
	n := im.size
	switch c.rng.IntN(3) {
	case 0:
	case 1:
		n = c.rng.Int64N(pagesOf(n)+1) * PageSize
	default:
		n = c.rng.Int64N(n + 1)
	}
	n = min(n, im.size)
	if im.pages == nil || c.rng.IntN(3) == 0 {
		return image{size: n}
	}
	return imageOf(im.bytes()[:n])
}

// dir is what is left of a directory.
func (c *cut) dir(d *dir) *dir {
	left := newDir()
	all := maps.Clone(d.synced)
	maps.Copy(all, d.names)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		now, old := d.names[name], d.synced[name]
		survivor := old
		if now != old && c.happens(c.names) {
			survivor = now
		}
		switch n := survivor.(type) {
		case *dir:
			left.names[name] = c.dir(n)
		case *file:
			if n == now {
				left.names[name] = c.file(n)
			} else {
				n.owned = false
				left.names[name] = n.copyAs(n.durable)
			}
		}
	}
	left.sync()
	return left
}

// CrashClone returns a new, independent Disk as a power cut at this moment
// could leave it: what is durable is there, and of the rest what the seed says.
// The same seed gives the same result for the same history.
//
// Pages that differ from their durable state survive, are lost, or are torn at
// 512 bytes; names that were not synced may be missing, and removed ones may be
// back with the bytes that were durable. All that is left is durable. The boot
// id differs. Locks, faults, counters and the observer stay behind; the
// capacity is kept.
func (d *Disk) CrashClone(seed uint64) *Disk { return d.powerCut(seed, newCut(seed)) }

// DurableClone is the CrashClone in which nothing survives but what is durable.
func (d *Disk) DurableClone() *Disk {
	return d.powerCut(0, &cut{rng: rand.New(rand.NewPCG(0, 0))})
}

func (d *Disk) powerCut(seed uint64, c *cut) *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.clones++
	return d.cloneWith(c.dir(d.root), bootID(d.bootID, seed, d.clones))
}

// cloneWith makes a clone of a tree. d.mu is held.
func (d *Disk) cloneWith(root *dir, boot string) *Disk {
	clone := newDisk(root, boot)
	clone.capacity = d.capacity
	root.each("", func(_ string, f *file) { clone.used += f.used() })
	return clone
}

// KillClone returns a new, independent Disk as the death of the process at this
// moment leaves it: everything in memory is there, and as durable as it was.
// The boot id is the same. Locks, faults, counters and the observer stay
// behind; the capacity is kept.
func (d *Disk) KillClone() *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	copies := map[*file]*file{}
	return d.cloneWith(killDir(d.root, copies, map[*dir]*dir{}), d.bootID)
}

// killDir copies a directory with both its tables; what both hold is copied
// once.
func killDir(d *dir, files map[*file]*file, dirs map[*dir]*dir) *dir {
	if c := dirs[d]; c != nil {
		return c
	}
	c := newDir()
	dirs[d] = c
	table := func(from, to map[string]node) {
		for name, n := range from {
			switch n := n.(type) {
			case *dir:
				to[name] = killDir(n, files, dirs)
			case *file:
				if files[n] == nil {
					files[n] = n.copyForKill()
				}
				to[name] = files[n]
			}
		}
	}
	table(d.names, c.names)
	table(d.synced, c.synced)
	return c
}

// bootID makes an id that looks like the kernel's.
func bootID(parent string, seed, n uint64) string {
	h := fnv.New128a()
	_, _ = fmt.Fprintf(h, "%s/%d/%d", parent, seed, n)
	b := h.Sum(nil)
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
