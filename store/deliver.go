// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/stelelog/stele/commitlog"
	"github.com/stelelog/stele/delivery"
	"github.com/stelelog/stele/message"
)

// WriteTo is SendTo without a context: io.WriterTo.
func (b *Batch) WriteTo(w io.Writer) (int64, error) { return b.SendTo(context.Background(), w) }

// SendTo sends the encoded records of the batch to w, in order and back to back,
// as Records returns them: not checked, and each with its own length in its first
// four bytes. It returns how many bytes w took. To a plain TCP or Unix connection it
// goes the cheapest way there is, see package delivery; TLS and other writers get
// copies.
//
// A record that can't be found or read is an error before anything is sent: the
// *consumequeue.EntryError that All yields for it. Whoever means to go on without
// it takes Records. For all else that can go wrong see delivery.Sender.Send: after
// an error the peer may have got a part. The batch is as it was, and still must be
// released. While a peer does not read, the batch holds its files and no lock:
// appends, other consumers and the removal of other files go on.
func (b *Batch) SendTo(ctx context.Context, w io.Writer) (int64, error) {
	p, ok := sparePlaces.Get().(*places)
	if !ok {
		p = new(places)
	}
	defer p.spare()
	err := p.find(b)
	var n int64
	if err == nil {
		n, err = b.store.log.Sender().Send(ctx, w, p.runs, delivery.Auto)
	}
	if err != nil {
		err = fmt.Errorf("send of topic %q, queue %d: %w", b.Topic, b.QueueID, err)
	}
	return n, err
}

// places are where the records of a batch lie. Their memory is kept for the next
// SendTo.
type places struct {
	sources []delivery.Source
	runs    []delivery.Run // of sources
}

// sparePlaces are empty *places.
var sparePlaces sync.Pool

func (p *places) spare() {
	clear(p.sources)
	clear(p.runs)
	p.sources, p.runs = p.sources[:0], p.runs[:0]
	sparePlaces.Put(p)
}

func (p *places) find(b *Batch) error {
	p.sources = slices.Grow(p.sources, len(b.views)) // runs point into it: it must not grow again
	for _, v := range b.views {
		p.sources = append(p.sources, commitlog.Source(v))
	}
	p.runs = slices.Grow(p.runs, len(b.records))
	for i := range b.records {
		r := &b.records[i]
		if r.err != nil {
			return r.err
		}
		src := sourceOf(p.sources, r.offset)
		at := int64(r.offset) - src.Base
		p.runs = delivery.Append(p.runs, src, at, at+int64(len(r.data)))
	}
	return nil
}

// sourceOf returns the file that a record of the batch lies in: the batch holds
// each of them. The last one is the likeliest.
func sourceOf(sources []delivery.Source, off message.Offset) *delivery.Source {
	for i := len(sources) - 1; i > 0; i-- {
		if s := &sources[i]; int64(off) >= s.Base && int64(off) < s.Base+int64(len(s.Data)) {
			return s
		}
	}
	return &sources[0]
}

// SendRange sends the bytes [from, to) of the log to w: see commitlog.Log.SendRange.
// After Close it returns ErrClosed.
func (s *Store) SendRange(ctx context.Context, w io.Writer, from, to message.Offset) (int64, error) {
	if s.closing.Load() {
		return 0, ErrClosed
	}
	return s.log.SendRange(ctx, w, from, to)
}
