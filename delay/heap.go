// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package delay

import (
	"math/bits"
	"slices"

	"github.com/stelelog/stele/message"
)

// heap is a binary heap of timers, the first to be delivered on top. It has no
// interface between: 16 bytes a timer, and no allocation but for growing.
type heap struct{ all []Timer }

func (h *heap) len() int { return len(h.all) }

func (h *heap) top() Timer { return h.all[0] }

func (h *heap) push(t Timer) {
	h.all = append(h.all, t)
	for i := len(h.all) - 1; i > 0; {
		up := (i - 1) / 2
		if !h.all[i].before(h.all[up]) {
			return
		}
		h.all[i], h.all[up] = h.all[up], h.all[i]
		i = up
	}
}

func (h *heap) pop() {
	n := len(h.all) - 1
	h.all[0] = h.all[n]
	h.all = h.all[:n]
	for i := 0; ; {
		least := 2*i + 1
		if least >= n {
			break
		}
		if right := least + 1; right < n && h.all[right].before(h.all[least]) {
			least = right
		}
		if !h.all[least].before(h.all[i]) {
			break
		}
		h.all[i], h.all[least] = h.all[least], h.all[i]
		i = least
	}
	// A burst that is over does not hold its memory for ever.
	if cap(h.all) > keepTimers && len(h.all) < cap(h.all)/4 {
		h.all = slices.Clip(slices.Clone(h.all))
	}
}

// keepTimers is how many timers the heap has room for at all times.
const keepTimers = 4096

// bitmap has a bit for each queue offset, in parts: all bits before the first part
// and between two parts are set, and none behind the last. A stretch of the queue
// that holds nothing takes no memory so, however long it is.
type bitmap struct{ parts []part }

type part struct {
	base  message.QueueOffset // a multiple of 64
	words []uint64
}

// end is the offset behind the last bit that there is room for.
func (p *part) end() message.QueueOffset { return p.base + message.QueueOffset(len(p.words))*64 }

// room makes it have bits for all offsets below end.
func (p *part) room(end message.QueueOffset) {
	if more := int((end-p.base+63)>>6) - len(p.words); more > 0 {
		p.words = append(p.words, make([]uint64, more)...)
	}
}

func (p *part) set(at message.QueueOffset) {
	p.room(at + 1)
	i := int64(at - p.base)
	p.words[i>>6] |= 1 << (i & 63)
}

// begin sets all bits below an offset, and no other.
func (b *bitmap) begin(at message.QueueOffset) {
	p := part{base: at &^ 63}
	for i := p.base; i < at; i++ {
		p.set(i)
	}
	b.parts = []part{p}
}

// skip sets all bits from one offset, behind which none is set, to another that is
// further on than a word.
func (b *bitmap) skip(from, to message.QueueOffset) {
	p := &b.parts[len(b.parts)-1]
	p.room(from)
	for ; from&63 != 0; from++ {
		p.set(from)
	}
	var next bitmap
	next.begin(to)
	b.parts = append(b.parts, next.parts...)
}

// in returns the part that begins last of those that don't begin behind an
// offset, nil where it lies before all.
func (b *bitmap) in(at message.QueueOffset) (p *part, last bool) {
	for i := len(b.parts) - 1; i >= 0; i-- {
		if b.parts[i].base <= at {
			return &b.parts[i], i == len(b.parts)-1
		}
	}
	return nil, false
}

func (b *bitmap) has(at message.QueueOffset) bool {
	p, last := b.in(at)
	if p == nil {
		return true
	}
	if at >= p.end() {
		return !last
	}
	i := int64(at - p.base)
	return p.words[i>>6]&(1<<(i&63)) != 0
}

// set sets a bit that is not set.
func (b *bitmap) set(at message.QueueOffset) {
	p, _ := b.in(at)
	p.set(at)
}

// trim forgets the words at the start that are full, and returns the offset of
// the first bit that is not set, at most end.
func (b *bitmap) trim(end message.QueueOffset) message.QueueOffset {
	for {
		p := &b.parts[0]
		n := 0
		for n < len(p.words) && p.words[n] == ^uint64(0) {
			n++
		}
		p.base += message.QueueOffset(n) * 64
		// Moved to the front of memory of its own when most of it is behind.
		if p.words = p.words[n:]; n > 0 && cap(p.words) > 64 && len(p.words) < cap(p.words)/4 {
			p.words = slices.Clone(p.words)
		}
		if len(p.words) > 0 {
			return min(p.base+message.QueueOffset(bits.TrailingZeros64(^p.words[0])), end)
		}
		if len(b.parts) == 1 {
			return min(p.base, end)
		}
		b.parts = slices.Delete(b.parts, 0, 1)
	}
}
