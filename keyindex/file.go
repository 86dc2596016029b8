// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package keyindex

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
)

// File is one index file of a Set.
type File struct {
	name  string
	path  string
	sizes Sizes
	disk  mappedfile.Disk
	how   mappedfile.Mapping

	refs atomic.Int32 // the Set's one and those of readers
	data atomic.Pointer[[]byte]
	// dirty is the end of the bytes that were written since the last flush, 0
	// when none were.
	dirty atomic.Int64

	mu     sync.Mutex // guards region
	region mappedfile.Region

	room reservation // the writer's own
}

// reservation is which pages of a file are known to have blocks.
type reservation struct {
	front    []uint64 // a bit for each page of header and slots
	n        int      // how many of them are set
	allFront bool
	entries  int64 // end of the blocks for entries
}

// newFile is for a file that is written or recovered; one that is only read is
// mapped for random: readers look at a slot here and an entry there.
func newFile(o *Options, name, path string, z Sizes, random bool) *File {
	how := mappedfile.Mapping{ReadOnly: o.ReadOnly, Random: random}
	f := &File{name: name, path: path, sizes: z, disk: o.Disk, how: how}
	f.refs.Store(1)
	return f
}

// Name is the name of the file, Path its path.
func (f *File) Name() string { return f.name }

// Path is the path of the file.
func (f *File) Path() string { return f.path }

// image maps the file if need be. The caller holds a reference, or is the writer.
func (f *File) image() (Image, error) {
	if p := f.data.Load(); p != nil {
		return Image{Sizes: f.sizes, data: *p, path: f.path}, nil
	}
	r, err := f.mapped()
	if err != nil {
		return Image{}, err
	}
	return NewImage(f.path, r.Bytes(), f.sizes)
}

func (f *File) mapped() (mappedfile.Region, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.region != nil {
		return f.region, nil
	}
	r, err := f.disk.Open(f.path, f.how)
	if err != nil {
		return nil, err
	}
	if _, err := NewImage(f.path, r.Bytes(), f.sizes); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	f.adopt(r)
	return r, nil
}

// adopt takes over a region. f.mu is held, or f is not shared yet.
func (f *File) adopt(r mappedfile.Region) {
	data := r.Bytes()
	f.region = r
	f.data.Store(&data)
}

// Read runs do on the bytes of the file, guarded against faults. do must not
// keep the Image. It returns mappedfile.ErrExpired for a file that was removed,
// and what do returns.
func (f *File) Read(do func(Image) error) error {
	if !f.acquire() {
		return fmt.Errorf("%s: %w", f.path, mappedfile.ErrExpired)
	}
	defer f.release()
	return mappedfile.Guard(func() error {
		m, err := f.image()
		if err != nil {
			return err
		}
		return do(m)
	})
}

func (f *File) acquire() bool {
	for {
		n := f.refs.Load()
		if n <= 0 {
			return false
		}
		if f.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// release gives a reference back; the last one unmaps the file, and there is
// nothing to lose if that fails.
func (f *File) release() {
	if f.refs.Add(-1) != 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.data.Store(nil)
	if r := f.region; r != nil {
		f.region = nil
		_ = r.Close()
	}
}

// page is the unit of reservations.
const page = 4096

// reserve makes sure that the slot at pos and the bytes before end, where an
// entry goes, have blocks.
func (f *File) reserve(pos, end int64) error {
	if err := f.reserveFront(pos); err != nil {
		return err
	}
	if end <= f.room.entries {
		return nil
	}
	r, err := f.mapped()
	if err != nil {
		return err
	}
	// As much again as there is, so that a small index takes little space and a
	// growing one few calls.
	const least, most = page, 1 << 20
	from := max(f.room.entries, f.sizes.entriesAt()/page*page)
	ahead := min(max(from-f.sizes.entriesAt(), least), most)
	to := min((max(end, from+ahead)+page-1)/page*page, f.sizes.FileSize())
	if err := r.Reserve(from, to-from); err != nil {
		return err
	}
	f.room.entries = to
	return nil
}

// reserveFront makes sure that the page of header and slots at pos has a block.
// Slots come in no order: one page at a time is reserved until a quarter is,
// when nearly all of them are about to be used.
func (f *File) reserveFront(pos int64) error {
	if f.room.allFront {
		return nil
	}
	size := f.sizes.entriesAt()
	pages := int((size + page - 1) / page)
	if f.room.front == nil {
		f.room.front = make([]uint64, (pages+63)/64)
	}
	i := pos / page
	word, bit := &f.room.front[i/64], uint64(1)<<(i%64)
	if *word&bit != 0 {
		return nil
	}
	r, err := f.mapped()
	if err != nil {
		return err
	}
	if 4*f.room.n >= pages {
		if err := r.Reserve(0, size); err != nil {
			return err
		}
		f.room.allFront = true
		return nil
	}
	if err := r.Reserve(i*page, min(page, f.sizes.FileSize()-i*page)); err != nil {
		return err
	}
	*word |= bit
	f.room.n++
	return nil
}

// touch notes that bytes before end were written.
func (f *File) touch(end int64) {
	for {
		d := f.dirty.Load()
		if end <= d || f.dirty.CompareAndSwap(d, end) {
			return
		}
	}
}

// redirty stores what is there once more in each page that is not zero.
func (f *File) redirty() error {
	m, err := f.image()
	if err != nil {
		return err
	}
	r, err := f.mapped()
	if err != nil {
		return err
	}
	if d, ok := r.(interface{ Redirty(from, to int64) }); ok {
		d.Redirty(0, int64(len(m.data)))
	}
	for at := int64(0); at < int64(len(m.data)); at += page {
		n := min(page, int64(len(m.data))-at)
		if lastWord(m.data[at:at+n]) < 0 {
			continue
		}
		if err := r.Reserve(at, n); err != nil {
			return err
		}
		m.store32(at, m.load32(at))
	}
	return nil
}

// put appends an entry, for which there must be room. It is IndexFile.putKey,
// but for the order of the writes: the count comes last, so that whoever finds
// an entry counted finds it whole.
func (f *File) put(m Image, hash int32, off message.Offset, storeTime int64) error {
	counts := m.load64(countsAt)
	used, k := int32(counts>>32), m.next()
	slot := m.SlotOf(hash)
	if err := f.reserve(m.SlotAt(slot), m.EntryAt(k+1)); err != nil {
		return err
	}
	prev := m.Slot(slot)
	if prev <= 0 || int(prev) > k {
		prev = 0
		used++
	}
	m.putEntry(k, Entry{Hash: hash, Offset: off, Seconds: m.seconds(storeTime), Prev: prev})
	m.store32(m.SlotAt(slot), int32(k))
	if k == 1 {
		m.store64(beginTimeAt, storeTime)
		m.store64(beginOffsetAt, int64(off))
	}
	m.store64(endTimeAt, storeTime)
	m.store64(endOffsetAt, int64(off))
	m.store64(countsAt, int64(used)<<32|int64(k+1))
	f.touch(m.EntryAt(k + 1))
	return nil
}

// seconds is how far a store time is from the file's begin, as an entry has it.
func (m Image) seconds(storeTime int64) int32 {
	return Seconds(m.load64(beginTimeAt), storeTime)
}

// flush makes durable what was written before the call; with whole, all of the
// file.
func (f *File) flush(whole bool) error {
	// Taken first: what is written from here on counts for the next flush.
	end := f.dirty.Swap(0)
	if whole {
		end = f.sizes.FileSize()
	}
	if end == 0 || !f.acquire() {
		return nil
	}
	defer f.release()
	r, err := f.mapped()
	if err != nil {
		return err
	}
	return r.Flush(0, end)
}
