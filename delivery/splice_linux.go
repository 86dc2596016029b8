// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// pipeSize is what the pipe of a splice is asked to hold: the most that a process
// without privileges gets. With less it works too, in smaller steps.
const pipeSize = 1 << 20

// splice sends runs by way of a pipe of its own. What is in the pipe when the
// socket fails is in the page cache still; nothing is lost but the send.
func (o *out) splice(runs []Run) (err error) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return os.NewSyscallError("pipe2", err)
	}
	defer func() { err = errors.Join(err, unix.Close(p[0]), unix.Close(p[1])) }()
	_, _ = unix.FcntlInt(uintptr(p[1]), unix.F_SETPIPE_SZ, pipeSize)
	for _, r := range runs {
		for at := r.From; at < r.To; {
			n, err := o.fillPipe(p[1], r, at)
			if err != nil {
				return err
			}
			if n == 0 {
				return r.failed(at, ErrCut)
			}
			sent, err := o.drainPipe(p[0], n)
			at += int64(sent)
			if err != nil {
				return wrap("splice", r, at, err)
			}
		}
	}
	return nil
}

// fillPipe moves bytes of a run from position at on into an empty pipe.
func (o *out) fillPipe(pipe int, r Run, at int64) (int, error) {
	for {
		off := at
		o.call(Splice)
		n, err := unix.Splice(int(r.Source.File.Fd()), &off, pipe, nil, int(min(r.To-at, pipeSize)), unix.SPLICE_F_MOVE)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return 0, r.failed(at, os.NewSyscallError("splice", err))
		}
		return int(n), nil
	}
}

// drainPipe moves n bytes from the pipe to the socket.
func (o *out) drainPipe(pipe, n int) (done int, err error) {
	for done < n {
		k, err := o.do(Splice, func(fd int) (int, error) {
			k, err := unix.Splice(pipe, nil, fd, nil, n-done, unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
			return int(k), err
		})
		done += k
		o.sent(Splice, k)
		if err != nil {
			return done, err
		}
	}
	return done, nil
}
