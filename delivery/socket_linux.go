// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"context"
	"errors"
	"io"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// native says that system calls are made here, and not by w.Write.
const native = true

// atOnce bounds a system call in bytes: between two of them the deadline is
// looked at, and a peer that reads as fast as it is sent to must not put that off
// for ever.
const atOnce = 4 << 20

// maxGather is how many pieces a system call takes: IOV_MAX.
const maxGather = 1024

// socket is a socket of the kernel's, for system calls.
type socket struct {
	raw syscall.RawConn
	// try is out.try, and sendPages out.sendPages: made once, not for each call.
	try       func(fd uintptr) bool
	sendPages func(fd int) (int, error)
	// What is to be called, what that is counted as, and what it did.
	call   func(fd int) (int, error)
	method Method
	n      int
	err    error
	// What sendPages sends.
	run Run
}

func (o *out) init() { o.sock.try, o.sock.sendPages = o.try, o.sendPages }

func (o *out) forget() {
	o.sock.raw, o.sock.call, o.sock.err, o.sock.run = nil, nil, nil, Run{}
}

func (o *out) open() error {
	c, ok := o.w.(syscall.Conn)
	if !ok {
		return nil // KindOf knows only such
	}
	raw, err := c.SyscallConn()
	o.sock.raw = raw
	return err
}

// do makes a system call that may find the socket full: then it waits and makes it
// again. It returns what the call did.
func (o *out) do(m Method, call func(fd int) (int, error)) (n int, err error) {
	if o.ctx.Err() != nil {
		return 0, context.Cause(o.ctx)
	}
	k := &o.sock
	k.method, k.call = m, call
	if err := k.raw.Write(k.try); err != nil {
		return 0, o.deadline(err)
	}
	return max(k.n, 0), k.err
}

// try makes the call once, and says whether that need not wait.
func (o *out) try(fd uintptr) bool {
	k := &o.sock
	for {
		o.call(k.method)
		k.n, k.err = k.call(int(fd))
		switch {
		case errors.Is(k.err, unix.EAGAIN):
			o.watch()
			return false
		case !errors.Is(k.err, unix.EINTR):
			return true
		}
	}
}

// deadline tells a deadline that the end of the context caused from another.
func (o *out) deadline(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) && o.ctx.Err() != nil {
		return context.Cause(o.ctx)
	}
	return err
}

func (o *out) sendfile(r Run) error {
	for r.From < r.To {
		o.sock.run = r
		n, err := o.do(Sendfile, o.sock.sendPages)
		r.From += int64(n)
		o.sent(Sendfile, n)
		switch {
		case err != nil:
			return wrap("sendfile", r, r.From, err)
		case n == 0:
			return r.failed(r.From, ErrCut)
		}
	}
	return nil
}

func (o *out) sendPages(fd int) (int, error) {
	r := &o.sock.run
	at := r.From // the kernel moves it, even when it fails
	return unix.Sendfile(fd, int(r.Source.File.Fd()), &at, int(min(r.Len(), atOnce)))
}

// callError says which call failed, unless the error says more.
func callError(call string, err error) error {
	if _, ok := err.(syscall.Errno); ok { //nolint:errorlint // what a call returned itself
		return os.NewSyscallError(call, err)
	}
	return err
}

// wrap is callError that says whether that is the file's fault: the kernel
// can't read what is mapped behind the end of a file, nor what a disk can't.
func wrap(call string, r Run, at int64, err error) error {
	err = callError(call, err)
	if errors.Is(err, unix.EFAULT) {
		return r.failed(at, errors.Join(ErrCut, err))
	}
	if errors.Is(err, unix.EIO) {
		return r.failed(at, err)
	}
	return err
}

// writeAll hands all of p to the socket, and returns how much of it that took.
func (o *out) writeAll(m Method, p []byte) (int, error) {
	for at := 0; at < len(p); {
		n, err := o.do(m, func(fd int) (int, error) {
			return unix.Write(fd, p[at:min(len(p), at+atOnce)])
		})
		at += n
		o.sent(m, n)
		if err != nil {
			return at, err
		}
		if n == 0 {
			return at, io.ErrUnexpectedEOF
		}
	}
	return len(p), nil
}

func (o *out) writeRun(r Run) error {
	n, err := o.writeAll(Write, r.bytes())
	if err != nil {
		return wrap("write", r, r.From+int64(n), err)
	}
	return nil
}

// writev gathers runs by sendmsg, which to a socket is what writev is to a file,
// and which x/sys has.
func (o *out) writev(runs []Run) error {
	gathered := make([][]byte, 0, min(len(runs), maxGather))
	done := int64(0) // of runs[0]
	for len(runs) > 0 {
		gathered = gathered[:0]
		length := int64(0)
		for i, r := range runs {
			if i == maxGather || length >= atOnce {
				break
			}
			if i == 0 {
				r.From += done
			}
			r.To = min(r.To, r.From+atOnce-length)
			gathered = append(gathered, r.bytes())
			length += r.Len()
		}
		n, err := o.do(Writev, func(fd int) (int, error) {
			return unix.SendmsgBuffers(fd, gathered, nil, nil, unix.MSG_NOSIGNAL)
		})
		o.sent(Writev, n)
		done += int64(n)
		for len(runs) > 0 && done >= runs[0].Len() {
			done -= runs[0].Len()
			runs = runs[1:]
		}
		if err != nil {
			if len(runs) == 0 {
				return os.NewSyscallError("sendmsg", err)
			}
			return wrap("sendmsg", runs[0], runs[0].From+done, err)
		}
	}
	return nil
}
