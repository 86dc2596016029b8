// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package commitlog

import (
	"context"
	"errors"

	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
)

// Starts returns the first offset of each file, in order: a record begins there,
// if the file holds one.
func (l *Log) Starts() []message.Offset {
	files := l.files.Files()
	starts := make([]message.Offset, len(files))
	for i, f := range files {
		starts[i] = message.Offset(f.Base())
	}
	return starts
}

// FirstStoredAt returns where the first record in [from, to) begins, in the order
// of the log, that was stored at ms (milliseconds since the Unix epoch) or later,
// and false when there is none. from must be where a record begins.
//
// It goes from header to header, a few nanoseconds each while they are in
// memory, and verifies the record that it returns. Where a header makes no sense
// it goes on as a Scanner does that steps over damage. The error is that of such
// a scan, or the cause of ctx.
func (l *Log) FirstStoredAt(ctx context.Context, from, to message.Offset, ms int64) (at message.Offset, ok bool, err error) {
	for from < to {
		if ctx.Err() != nil {
			return 0, false, context.Cause(ctx)
		}
		var how skimmed
		err := mappedfile.Guard(func() error {
			from, how = l.skim(from, to, ms)
			return nil
		})
		if err != nil {
			return 0, false, err
		}
		switch how {
		case skimFound:
			return from, true, nil
		case skimUnsure:
			return l.scanStored(ctx, from, to, ms)
		case skimEnd:
		}
	}
	return 0, false, nil
}

// skimmed says how the walk through the headers of a file ended.
type skimmed uint8

const (
	skimEnd    skimmed = iota // at the end of the file, or of what was asked for
	skimFound                 // at the record
	skimUnsure                // at something that is no intact record
)

// skim walks through the headers of the file that holds pos.
func (l *Log) skim(off, to message.Offset, ms int64) (message.Offset, skimmed) {
	f := l.files.Find(int64(off))
	if f == nil {
		return off, skimUnsure
	}
	v, err := f.View(int64(off)-f.Base(), f.End()-int64(off))
	if err != nil {
		return off, skimUnsure // a scan says why
	}
	defer v.Release()
	b := v.Bytes()
	for off < to {
		if len(b) < message.FillerSize {
			return message.Offset(f.End()), skimEnd
		}
		size, kind, err := message.Peek(b)
		switch {
		case err != nil || kind == message.KindEmpty || size > len(b):
			return off, skimUnsure
		case kind == message.KindFiller && size != len(b):
			return off, skimUnsure
		case kind == message.KindFiller:
			return message.Offset(f.End()), skimEnd
		}
		rec := message.Record(b[:size:size])
		if rec.PhysicalOffset() != off {
			return off, skimUnsure
		}
		if rec.StoreTimestamp() >= ms {
			return off, verifySkimmed(rec)
		}
		b = b[size:]
		off += message.Offset(size)
	}
	return off, skimEnd
}

func verifySkimmed(rec message.Record) skimmed {
	var m message.Message
	dec := message.Decoder{Check: message.CheckAll}
	if dec.Decode(rec, &m) != nil || Torn(&m) {
		return skimUnsure
	}
	return skimFound
}

// scanStored is FirstStoredAt by a scan of whole records.
func (l *Log) scanStored(ctx context.Context, from, to message.Offset, ms int64) (message.Offset, bool, error) {
	s := l.Scan(from, to, ScanOptions{Check: message.CheckAll, Resync: ResyncAlways})
	defer s.Close()
	for n := 1; s.Next(); n++ {
		if n%1024 == 0 && ctx.Err() != nil {
			return 0, false, context.Cause(ctx)
		}
		if it := s.Item(); it.Kind == ItemRecord && it.Message.StoreTimestamp >= ms {
			return it.Offset, true, nil
		}
	}
	st := s.Stop()
	if st.Kind == StopError && !errors.Is(st.Err, ErrOutOfRange) {
		return 0, false, st.Err
	}
	return 0, false, nil
}
