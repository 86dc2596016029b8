// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package mappedfile

// zeros are written ahead of commits that are flushed one by one. A block that is
// reserved has never been written, and the file system notes that in the file's
// extents: the first flush of each block has to change and write those, too, which
// takes as long as the data (docs/performance.md, "Synchronous flush"). Blocks that
// were written by one flush all together cost that once.
//
// Nobody can tell the difference by reading: zeros stand where zeros stood.
type zeros struct {
	ahead int64 // bytes; 0 writes none
	end   int64 // below it all is written: by the commits, or with zeros
}

const (
	// zeroBlock is no less than a block of most file systems.
	zeroBlock = 4 << 10
	// longCommit is where zeros no longer pay: a commit of so many blocks shares the
	// metadata among them, and to write all twice takes bandwidth.
	longCommit = 128 << 10
	// zeroStep is how much is written at once. The kernel makes pages as large as
	// the writes, and a short write into a large one takes longer.
	zeroStep = 16 << 10
)

var noBytes [zeroStep]byte

// follow writes zeros, if it is time to, ahead of a commit of [from, to) of f. They
// are no promise to anybody, but a disk that can't take them will not take what
// comes in their place.
func (z *zeros) follow(f *File, from, to int64) error {
	if z.ahead == 0 || to <= z.end || to-from > longCommit {
		return nil
	}
	at := (to + zeroBlock - 1) / zeroBlock * zeroBlock
	end := min(at+z.ahead, f.size)
	for at < end {
		n := min(zeroStep, end-at)
		if err := f.Write(at, noBytes[:n]); err != nil {
			return err
		}
		at += n
	}
	z.end = end
	f.zeroed.Store(end)
	return nil
}

// overwrites reports whether a block that was written is written again in place.
func (f *File) overwrites() bool {
	r, err := f.mapped()
	if err != nil {
		return false
	}
	o, ok := r.(interface{ Overwrites() bool })
	return ok && o.Overwrites()
}
