// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"errors"
	"fmt"
	"math"

	"github.com/stelelog/stele/commitlog"
	"github.com/stelelog/stele/consumequeue"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
)

// reader reads single records of the log by what the queues say of them. It is
// not safe for concurrent use.
type reader struct {
	log  *commitlog.Log
	dec  message.Decoder
	view mappedfile.View // of the last record read
}

func newReader(log *commitlog.Log) *reader {
	return &reader{log: log, dec: message.Decoder{Check: message.CheckAll}}
}

// read decodes the record that an entry names into m, which borrows from the
// file until the next read or close.
func (r *reader) read(e consumequeue.Entry, m *message.Message) error {
	r.close()
	return guard(func() error {
		v, err := r.log.View(e.Offset, e.Size)
		if err != nil {
			return err
		}
		r.view = v
		err = r.dec.Decode(v.Bytes(), m)
		switch {
		case err != nil:
		case commitlog.Torn(m):
			err = commitlog.ErrTorn
		case m.PhysicalOffset != e.Offset:
			err = fmt.Errorf("%w: it says %d", commitlog.ErrPosition, m.PhysicalOffset)
		case m.Size != e.Size:
			err = fmt.Errorf("%w: the record has %d bytes, its entry says %d", ErrEntry, m.Size, e.Size)
		default:
			return nil
		}
		return &commitlog.CorruptError{Path: v.File().Path(), Offset: e.Offset, Cause: err}
	})
}

// storeTime is the store time of the record that an entry names, 0 when it
// can't be read.
func (r *reader) storeTime(e consumequeue.Entry) int64 {
	var m message.Message
	if r.read(e, &m) != nil {
		return 0
	}
	return m.StoreTimestamp
}

// stored is the store time of a record for a search by time, which passes over
// what has expired and fails on what can't be read.
func (r *reader) stored(off message.Offset, size int32) (int64, error) {
	var m message.Message
	err := r.read(consumequeue.Entry{Offset: off, Size: size}, &m)
	if errors.Is(err, commitlog.ErrExpired) {
		err = fmt.Errorf("%w: %w", mappedfile.ErrExpired, err)
	}
	return m.StoreTimestamp, err
}

func (r *reader) close() { r.view.Release() }

// openQueues lists the consume queues as they are now and finds where each of
// them begins and ends.
func (d *Dir) openQueues() (*consumequeue.Set, error) {
	set, err := consumequeue.OpenSet(consumequeue.Options{Dir: d.queues(), ReadOnly: true, Tolerant: true})
	if err != nil {
		return nil, err
	}
	for _, q := range set.Queues() {
		if err := recoverQueue(q); err != nil {
			return nil, errors.Join(err, set.Close())
		}
	}
	return set, nil
}

func recoverQueue(q *consumequeue.Queue) error {
	return guard(func() error { return q.Recover(math.MaxInt64, consumequeue.TrustNothing) })
}
