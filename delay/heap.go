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

// bitmap has a bit for each queue offset from base on.
type bitmap struct {
	base  message.QueueOffset // a multiple of 64
	words []uint64
}

func (b *bitmap) begin(at message.QueueOffset) {
	b.base, b.words = at&^63, nil
	for i := b.base; i < at; i++ {
		b.set(i)
	}
}

// end is the offset behind the last bit that there is room for.
func (b *bitmap) end() message.QueueOffset { return b.base + message.QueueOffset(len(b.words))*64 }

func (b *bitmap) has(at message.QueueOffset) bool {
	i := int64(at - b.base)
	return i < 0 || i>>6 < int64(len(b.words)) && b.words[i>>6]&(1<<(i&63)) != 0
}

// set sets a bit that does not lie below base.
func (b *bitmap) set(at message.QueueOffset) {
	i := int64(at - b.base)
	if more := int(i>>6) + 1 - len(b.words); more > 0 {
		b.words = append(b.words, make([]uint64, more)...)
	}
	b.words[i>>6] |= 1 << (i & 63)
}

// trim forgets the words at the start that are full, and returns the offset of
// the first bit that is not set, at most end.
func (b *bitmap) trim(end message.QueueOffset) message.QueueOffset {
	n := 0
	for n < len(b.words) && b.words[n] == ^uint64(0) {
		n++
	}
	b.base += message.QueueOffset(n) * 64
	// Moved to the front of memory of its own when most of it is behind.
	if b.words = b.words[n:]; n > 0 && cap(b.words) > 64 && len(b.words) < cap(b.words)/4 {
		b.words = slices.Clone(b.words)
	}
	low := b.base
	if len(b.words) > 0 {
		low += message.QueueOffset(bits.TrailingZeros64(^b.words[0]))
	}
	return min(low, end)
}
