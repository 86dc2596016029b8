// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package crashdisk

import "unsafe"

const (
	// PageSize is the unit in which bytes become durable.
	PageSize = 4096
	// SectorSize is the unit that a power cut writes wholly or not at all.
	SectorSize = 512

	wordSize       = 8
	pageWords      = PageSize / wordSize
	sectorWords    = SectorSize / wordSize
	sectorsPerPage = PageSize / SectorSize
)

// page is one page of a file. It is made of words so that a copy taken beside
// a writer has no more tears than a machine word.
type page [pageWords]uint64

// poison fills the pages of a file that nobody has mapped any more.
const poison = 0xDBDBDBDBDBDBDBDB

func pagesOf(size int64) int64 { return (size + PageSize - 1) / PageSize }

// asBytes is the memory of pages as one slice of size bytes.
func asBytes(pages []page, size int64) []byte {
	if size == 0 {
		return []byte{}
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(&pages[0])), size)
}

// pageBytes is the memory of one page.
func pageBytes(p *page) []byte { return unsafe.Slice((*byte)(unsafe.Pointer(p)), PageSize) }

// same tells whether p holds what q holds. A nil q is a page of zeros.
//
//go:norace
func same(p, q *page) bool {
	if q == nil {
		for i := range p {
			if p[i] != 0 {
				return false
			}
		}
		return true
	}
	for i := range p {
		if p[i] != q[i] {
			return false
		}
	}
	return true
}

// snapshot copies p, or returns nil when it holds zeros only.
//
//go:norace
func snapshot(p *page) *page {
	i := 0
	for i < pageWords && p[i] == 0 {
		i++
	}
	if i == pageWords {
		return nil
	}
	c := new(page)
	for ; i < pageWords; i++ {
		c[i] = p[i]
	}
	return c
}

// equal compares two snapshots.
func equal(p, q *page) bool {
	if p == nil {
		p, q = q, p
	}
	return p == q || same(p, q)
}

// image is the content of a file at one time. A page that is nil, or lies
// beyond the slice, holds zeros. The pages are never written; the slice is
// written only by a file that does not share it.
type image struct {
	size  int64
	pages []*page
}

func imageOf(data []byte) image {
	im := image{size: int64(len(data))}
	im.pages = make([]*page, pagesOf(im.size))
	for i := range im.pages {
		var p page
		copy(pageBytes(&p), data[i*PageSize:])
		im.pages[i] = snapshot(&p)
	}
	return im
}

func (im image) page(i int64) *page {
	if i < int64(len(im.pages)) {
		return im.pages[i]
	}
	return nil
}

// bytes is a copy of the content.
func (im image) bytes() []byte {
	data := make([]byte, pagesOf(im.size)*PageSize)
	for i, p := range im.pages {
		if p != nil {
			copy(data[i*PageSize:], pageBytes(p))
		}
	}
	return data[:im.size:im.size]
}
