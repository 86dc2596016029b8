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
	outs     sync.Pool // of *out
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
// connection is of use. When ctx ends while w waits, w's write deadline is moved
// into the past to end that, and stays there; else, and with a writer that has no
// deadlines, it is left at the next call.
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
	o := s.out(ctx, w)
	defer s.put(o)
	if o.kind == Other || !native {
		o.watch() // any of its writes may wait
	} else if err := o.open(); err != nil {
		return 0, err
	}
	if m == Auto {
		err = o.auto(runs)
	} else {
		err = o.by(m, runs)
	}
	if ended := o.unwatch(); ended != nil {
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

// out is one Send. It is kept for the next one: to make what a system call needs
// anew each time costs a tenth of what sending 64 KiB does.
type out struct {
	s    *Sender
	ctx  context.Context
	w    io.Writer
	kind Kind
	sock socket
	collected
	n int64 // that w took
	// stop ends the watch of ctx, told is closed when that has done its work;
	// nil while nothing is watched.
	stop func() bool
	told chan struct{}
}

func (s *Sender) out(ctx context.Context, w io.Writer) *out {
	o, ok := s.outs.Get().(*out)
	if !ok {
		o = &out{s: s}
		o.copyAll = o.copyRuns
		o.init()
	}
	o.ctx, o.w, o.kind = ctx, w, KindOf(w)
	return o
}

// put gives o back. It keeps nothing of the caller's.
func (s *Sender) put(o *out) {
	o.ctx, o.w, o.n, o.stop, o.told = nil, nil, 0, nil, nil
	o.buf, o.runs, o.done = nil, nil, 0
	o.forget()
	s.outs.Put(o)
}

// watch has the deadline of w end whatever waits when ctx ends. It is begun only
// where something may wait: mostly nothing does.
func (o *out) watch() {
	c, ok := o.w.(interface{ SetWriteDeadline(t time.Time) error })
	if !ok || o.stop != nil || o.ctx.Done() == nil {
		return
	}
	told := make(chan struct{})
	o.told = told
	o.stop = context.AfterFunc(o.ctx, func() {
		defer close(told)
		_ = c.SetWriteDeadline(time.Unix(1, 0)) // it fails when the connection is closed, which ends a write too
	})
}

// unwatch ends the watch, and returns the cause if ctx ended before.
func (o *out) unwatch() error {
	if o.stop == nil || o.stop() {
		return nil
	}
	<-o.told
	return context.Cause(o.ctx)
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
	c := &o.collected
	c.runs, c.done = runs, 0
	for c.runs != nil {
		c.buf = pooled[:0]
		if err := o.collect(m); err != nil {
			// What was collected is sent, so that the count says how far the
			// bytes could be read.
			return errors.Join(o.write(m, c.buf), err)
		}
		if err := o.write(m, c.buf); err != nil {
			return err
		}
	}
	return nil
}

// collected is what goes by way of a buffer.
type collected struct {
	buf  []byte
	runs []Run // whose bytes are not in the buffer; nil when there are none
	done int64 // of the first of them
	// copyAll is copyRuns, made once.
	copyAll func() error
}

// rest is what is still to be collected of the first run.
func (c *collected) rest() Run {
	r := c.runs[0]
	r.From += c.done
	return r
}

// full reports whether nothing is left to be collected, or no room for it.
func (c *collected) full() bool { return c.runs == nil || len(c.buf) == cap(c.buf) }

// took says that n bytes of the rest were put behind those of the buffer.
func (c *collected) took(n int) {
	c.buf = c.buf[:len(c.buf)+n]
	c.done += int64(n)
	if c.done == c.runs[0].Len() {
		c.runs, c.done = c.runs[1:], 0
		if len(c.runs) == 0 {
			c.runs = nil
		}
	}
}

// collect fills the buffer, as far as there are bytes. What can't be read is an
// error, and what was read before it is in the buffer.
func (o *out) collect(m Method) error {
	if m == ReadWrite {
		return o.readRuns()
	}
	c := &o.collected
	var err error
	if o.s.Guard == nil {
		err = c.copyRuns()
	} else {
		err = o.s.Guard(c.copyAll)
	}
	if err != nil {
		r := c.rest()
		err = r.failed(r.From, err)
	}
	return err
}

// copyRuns touches mapped bytes.
func (c *collected) copyRuns() error {
	for !c.full() {
		c.took(copy(c.buf[len(c.buf):cap(c.buf)], c.rest().bytes()))
	}
	return nil
}

func (o *out) readRuns() error {
	for c := &o.collected; !c.full(); {
		r := c.rest()
		if r.Source.File == nil {
			return fmt.Errorf("%w: %v from %s, which has no descriptor", ErrUnsupported, ReadWrite, r.Source.Path)
		}
		to := c.buf[len(c.buf):min(cap(c.buf), len(c.buf)+int(r.Len()))]
		o.call(ReadWrite)
		n, err := r.Source.File.ReadAt(to, r.From)
		c.took(n)
		switch {
		case n == len(to):
		case errors.Is(err, io.EOF):
			return r.failed(r.From+int64(n), ErrCut)
		default:
			return r.failed(r.From+int64(n), err)
		}
	}
	return nil
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
