// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// Sender sends runs and counts what it does. The zero value is usable. It is safe
// for concurrent use, and must not be copied.
type Sender struct {
	// Guard runs a function that touches mapped bytes and turns a memory fault in
	// it into an error; nil takes the bytes to be safe. It is set before the first
	// Send.
	Guard func(do func() error) error

	counters counters
	present  residency
	buffers  sync.Pool // of *[bufferSize]byte
}

// bufferSize is what Copy and ReadWrite hand to the connection at once: a batch
// of the usual size is one call.
const bufferSize = 256 << 10

// Send sends runs to w, in order, and returns how many bytes w took. With Auto it
// chooses a method, and a long run between short ones goes by one of its own;
// another method takes all of them, or the error is ErrUnsupported.
//
// An error wraps a *SourceError when bytes could not be read, the cause of ctx when
// that ended, os.ErrDeadlineExceeded after w's own write deadline, and else what w
// or the system said: syscall.EPIPE or syscall.ECONNRESET when the peer is gone.
// After an error the peer may have got a part of a record: nothing but closing the
// connection is of use. When ctx ends in the middle, w's write deadline is moved
// into the past to end what waits, and stays there. A writer that has no deadlines
// is left at the next call.
func (s *Sender) Send(ctx context.Context, w io.Writer, runs []Run, m Method) (int64, error) {
	s.counters.sends.Add(1)
	s.counters.runs.Add(int64(len(runs)))
	n, err := s.send(ctx, w, runs, m)
	if err != nil {
		s.counters.failed.Add(1)
		err = fmt.Errorf("%d of %d bytes sent: %w", n, Len(runs), err)
	}
	return n, err
}

func (s *Sender) send(ctx context.Context, w io.Writer, runs []Run, m Method) (n int64, err error) {
	if len(runs) == 0 {
		return 0, nil
	}
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	o := &out{s: s, ctx: ctx, w: w, kind: KindOf(w)}
	if o.kind != Other {
		if err := o.open(); err != nil {
			return 0, err
		}
	}
	done := watch(ctx, w)
	if m == Auto {
		err = o.auto(runs)
	} else {
		err = o.by(m, runs)
	}
	if ended := done(); ended != nil {
		err = ended
	}
	return o.n, err
}

// KindOf says what w is. Only the kernel's own sockets count, not what wraps or
// embeds one: that may do something with the bytes.
func KindOf(w io.Writer) Kind {
	switch c := w.(type) {
	case *net.TCPConn:
		return TCP
	case *net.UnixConn:
		if a := c.LocalAddr(); a != nil && a.Network() == "unix" {
			return Unix
		}
	}
	return Other
}

// watch has the deadline of w end whatever waits when ctx ends. The function that
// it returns ends the watch, and returns the cause if ctx ended before.
func watch(ctx context.Context, w io.Writer) (done func() error) {
	c, ok := w.(interface{ SetWriteDeadline(t time.Time) error })
	if !ok || ctx.Done() == nil {
		return func() error { return nil }
	}
	told := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(told)
		_ = c.SetWriteDeadline(time.Unix(1, 0)) // it fails when the connection is closed, which ends a write too
	})
	return func() error {
		if stop() {
			return nil
		}
		<-told
		return context.Cause(ctx)
	}
}

// out is one Send.
type out struct {
	s    *Sender
	ctx  context.Context
	w    io.Writer
	kind Kind
	sock socket
	n    int64 // that w took
}

// auto sends each long run alone, and what lies between them in groups.
func (o *out) auto(runs []Run) error {
	for len(runs) > 0 {
		k := 1
		if !o.long(runs[0]) {
			for k < len(runs) && !o.long(runs[k]) {
				k++
			}
		}
		if err := o.by(o.choose(runs[:k]), runs[:k]); err != nil {
			return err
		}
		runs = runs[k:]
	}
	return nil
}

func (o *out) long(r Run) bool { return r.Len() >= SendfileAmongFrom }

// choose looks at a group, and has what is cold of it read.
func (o *out) choose(runs []Run) Method {
	shape := Shape{Bytes: Len(runs), Runs: len(runs), Kind: o.kind, Descriptor: native}
	for _, r := range runs {
		shape.Descriptor = shape.Descriptor && r.Source.File != nil
	}
	m := Choose(shape)
	if m == Sendfile {
		return m
	}
	if shape.Cold = o.s.present.cold(runs, time.Since(began)); shape.Cold {
		o.s.counters.cold.Add(1)
		willNeed(runs)
		m = Choose(shape)
	}
	if !native && m != Copy {
		return Copy
	}
	return m
}

// by sends runs by one method.
func (o *out) by(m Method, runs []Run) error {
	switch m {
	case Copy, ReadWrite:
		return o.buffered(m, runs)
	case Sendfile, Splice, Write, Writev:
		if o.kind == Other || !native {
			return fmt.Errorf("%w: %v to a writer of kind %v", ErrUnsupported, m, o.kind)
		}
	default:
		return fmt.Errorf("%w: %v", ErrUnsupported, m)
	}
	if m == Sendfile || m == Splice {
		for _, r := range runs {
			if r.Source.File == nil {
				return fmt.Errorf("%w: %v from %s, which has no descriptor", ErrUnsupported, m, r.Source.Path)
			}
		}
	}
	switch m {
	case Sendfile:
		return o.each(runs, o.sendfile)
	case Splice:
		return o.splice(runs)
	case Write:
		return o.each(runs, o.writeRun)
	default:
		return o.writev(runs)
	}
}

func (o *out) each(runs []Run, send func(Run) error) error {
	for _, r := range runs {
		if err := send(r); err != nil {
			return err
		}
	}
	return nil
}

// buffered sends runs by way of a buffer.
func (o *out) buffered(m Method, runs []Run) error {
	pooled, ok := o.s.buffers.Get().(*[bufferSize]byte)
	if !ok {
		pooled = new([bufferSize]byte)
	}
	defer o.s.buffers.Put(pooled)
	buf := pooled[:0]
	for _, r := range runs {
		for at := r.From; at < r.To; {
			part := Run{r.Source, at, min(r.To, at+int64(cap(buf)-len(buf)))}
			var err error
			if buf, err = o.fill(m, buf, part); err != nil {
				// What was collected is sent, so that the count says how far the
				// bytes could be read.
				return errors.Join(o.write(m, buf), err)
			}
			at = part.To
			if len(buf) == cap(buf) {
				if err := o.write(m, buf); err != nil {
					return err
				}
				buf = buf[:0]
			}
		}
	}
	return o.write(m, buf)
}

// fill appends the bytes of a run to buf, which has room for them.
func (o *out) fill(m Method, buf []byte, r Run) ([]byte, error) {
	to := buf[len(buf) : len(buf)+int(r.Len())]
	if m == ReadWrite {
		return o.read(buf, to, r)
	}
	do := func() error {
		copy(to, r.bytes())
		return nil
	}
	guard := o.s.Guard
	if guard == nil {
		guard = func(do func() error) error { return do() }
	}
	if err := guard(do); err != nil {
		return buf, r.failed(r.From, err)
	}
	return buf[:len(buf)+len(to)], nil
}

func (o *out) read(buf, to []byte, r Run) ([]byte, error) {
	if r.Source.File == nil {
		return buf, fmt.Errorf("%w: %v from %s, which has no descriptor", ErrUnsupported, ReadWrite, r.Source.Path)
	}
	o.call(ReadWrite)
	n, err := r.Source.File.ReadAt(to, r.From)
	buf = buf[:len(buf)+n]
	switch {
	case n == len(to):
		return buf, nil
	case errors.Is(err, io.EOF):
		err = ErrCut
	}
	return buf, r.failed(r.From+int64(n), err)
}

// write hands bytes of the process to w.
func (o *out) write(m Method, p []byte) error {
	if len(p) == 0 {
		return nil
	}
	if o.kind != Other && native {
		_, err := o.writeAll(m, p)
		return callError("write", err)
	}
	if o.ctx.Err() != nil {
		return context.Cause(o.ctx)
	}
	o.call(m)
	n, err := o.w.Write(p)
	o.sent(m, n)
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	return err
}

func (o *out) sent(m Method, n int) {
	if n > 0 {
		o.n += int64(n)
		o.s.counters.paths[m].bytes.Add(int64(n))
	}
}

func (o *out) call(m Method) { o.s.counters.paths[m].calls.Add(1) }
