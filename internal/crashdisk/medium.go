// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package crashdisk

import (
	"fmt"
	"math/rand/v2"
	"syscall"
	"time"

	"github.com/stelelog/stele/mappedfile"
)

// SetCapacity limits the blocks of all files to n bytes, 0 to no limit. Only
// Reserve, WriteFile and Lock take blocks; a write to a page that has none is
// not noticed here, where a real full disk kills the process: see Unreserved.
func (d *Disk) SetCapacity(n int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.capacity = n
}

// Used is the space that blocks take, in bytes.
func (d *Disk) Used() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.used
}

// Usage is how full the Disk is: the interface that mappedfile.DiskUsage looks
// for. Without a capacity it is the zero value. It is not counted as an
// operation, and no fault makes it fail.
func (d *Disk) Usage(string) (mappedfile.Usage, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.capacity == 0 {
		return mappedfile.Usage{}, nil
	}
	return mappedfile.Usage{Used: d.used, Free: max(0, d.capacity-d.used)}, nil
}

// Unreserved lists, as "path: page n", the pages that hold bytes other than
// zero and for which no block was reserved. On a full disk each is a SIGBUS.
func (d *Disk) Unreserved() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var found []string
	d.root.each("", func(path string, f *file) {
		for i, p := range f.current().pages {
			if p != nil && !f.hasBlock(int64(i)) {
				found = append(found, fmt.Sprintf("%s: page %d", path, i))
			}
		}
	})
	return found
}

// Durable returns the durable bytes of the file at path, a copy, and whether
// its present name would surely survive a power cut.
func (d *Disk) Durable(path string) (data []byte, named bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f, err := d.root.findFile("stat", path)
	if err != nil {
		return nil, false, err
	}
	parent, name, err := d.root.place("stat", path)
	if err != nil {
		return nil, false, err
	}
	return f.durable.bytes(), parent.synced[name] == node(f), nil
}

// FlipBit flips one bit (0 to 7) of the byte at off, in memory and on disk: a
// medium that rots.
func (d *Disk) FlipBit(path string, off int64, bit uint) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	f, err := d.root.findFile("flip", path)
	if err != nil {
		return err
	}
	if off < 0 || off >= f.size() || off >= f.durable.size || bit > 7 {
		return pathError("flip", path, syscall.EINVAL)
	}
	i, mask := off/PageSize, byte(1)<<bit
	flip := func(p *page) *page {
		var c page
		if p != nil {
			c = *p
		}
		pageBytes(&c)[off%PageSize] ^= mask
		return snapshot(&c)
	}
	f.setDurable(i, flip(f.durable.page(i)))
	if f.regions > 0 {
		asBytes(f.live, f.size())[off] ^= mask
		return nil
	}
	pages := make([]*page, pagesOf(f.size()))
	copy(pages, f.rest.pages)
	pages[i] = flip(pages[i])
	f.rest.pages = pages
	return nil
}

// SetModTime sets the time of the last change of a file, as List returns it.
func (d *Disk) SetModTime(path string, t time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	f, err := d.root.findFile("chtimes", path)
	if err != nil {
		return err
	}
	f.modTime = t
	return nil
}

// Writeback does what a kernel does on its own now and then: it makes some of
// the dirty pages durable, as the seed says; names stay as they are. Between two
// of them the engine may change a page again, so that a later power cut finds
// states that no flush and no single moment had.
func (d *Disk) Writeback(seed uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	rng := rand.New(rand.NewPCG(seed, 0xb_ac_c))
	chance := rng.Float64()
	d.root.each("", func(_ string, f *file) {
		if len(f.maybe) > 0 {
			return
		}
		f.dirty(func(i int64, now *page) {
			if _, lost := f.dropped[i]; !lost && rng.Float64() < chance {
				f.setDurable(i, now)
			}
		})
	})
}
