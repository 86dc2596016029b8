// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package commitlog

import (
	"context"
	"fmt"
	"io"

	"github.com/stelelog/stele/delivery"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
)

// SendRange sends the bytes [from, to) of the log to w as they are: records, and
// the fillers between files. It returns how many w took. It is for whoever copies a
// log; Flushed is what a copy that must not run ahead of the disk ends at. To a
// plain TCP or Unix connection the kernel sends the pages itself.
//
// Nothing goes out, and the error wraps ErrOutOfRange, when the range is none or
// ends beyond Committed. ErrExpired is for a range whose beginning was removed, or
// whose next file was while others were sent: only the file that is being sent is
// held. What else can go wrong is what delivery.Sender.Send says. The log is read
// and not locked, so a peer that does not read holds up nobody; its deadline, or
// ctx, is what ends the wait.
func (l *Log) SendRange(ctx context.Context, w io.Writer, from, to message.Offset) (int64, error) {
	if end := l.Committed(); from < 0 || to < from || to > end {
		return 0, fmt.Errorf("%s: send: %w: [%d, %d), committed is %d", l.o.Dir, ErrOutOfRange, from, to, end)
	}
	var sent int64
	for at := from; at < to; {
		n, next, err := l.sendFile(ctx, w, at, to)
		sent += n
		if err != nil {
			return sent, fmt.Errorf("%s: send [%d, %d), %d bytes went out: %w", l.o.Dir, from, to, sent, err)
		}
		at = next
	}
	return sent, nil
}

// sendFile sends what one file has of [at, to), and returns where it ended.
func (l *Log) sendFile(ctx context.Context, w io.Writer, at, to message.Offset) (int64, message.Offset, error) {
	v, err := l.viewFile(at)
	if err != nil {
		return 0, at, l.noBytes(err)
	}
	defer v.Release()
	src := Source(v)
	end := min(int64(to), v.File().End())
	runs := delivery.Append(nil, &src, int64(at)-src.Base, end-src.Base)
	n, err := l.sender.Send(ctx, w, runs, delivery.Auto)
	return n, message.Offset(end), err
}

// viewFile holds the whole file that off lies in.
func (l *Log) viewFile(off message.Offset) (mappedfile.View, error) {
	f := l.files.Find(int64(off))
	if f == nil {
		return l.files.View(int64(off), 0) // has the error
	}
	return f.View(0, f.Size())
}

// Source is what a view of a whole file is to a delivery.Sender. It is valid until
// the view is released.
func Source(v mappedfile.View) delivery.Source {
	f := v.File()
	return delivery.Source{Data: v.Bytes(), File: f.Descriptor(), Base: f.Base(), Path: f.Path()}
}

// Sender sends pieces of the log's files, and counts what it sends. It belongs to
// the Log.
func (l *Log) Sender() *delivery.Sender { return &l.sender }
