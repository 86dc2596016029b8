// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package experiment

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// A sender announces each transfer with a byte, what to do with what comes (d to
// discard it), and eight, how many bytes. The reader answers with a byte when it has
// all of them.
const transferHead = 9

// receiveBuffer is what a reader reads at a time, at most.
const receiveBuffer = 1 << 20

// Receive is the consumers of Deliver: it opens so many connections to address and
// reads what comes until they end. It returns when all have.
func Receive(ctx context.Context, address string, consumers int) error {
	var all sync.WaitGroup
	errs := make([]error, consumers)
	for i := range consumers {
		c, err := new(net.Dialer).DialContext(ctx, "tcp", address)
		if err != nil {
			errs[i] = err
			break
		}
		all.Go(func() {
			stop := context.AfterFunc(ctx, func() { _ = c.Close() }) // ends the read
			defer stop()
			errs[i] = errors.Join(receiveAll(c), c.Close())
			if ctx.Err() != nil {
				errs[i] = context.Cause(ctx)
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

func receiveAll(c net.Conn) error {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return fmt.Errorf("%T is no TCP connection", c)
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return err
	}
	buf := make([]byte, receiveBuffer)
	for {
		var head [transferHead]byte
		if _, err := io.ReadFull(c, head[:]); err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, unix.ECONNRESET) {
				return nil // between two transfers: all is done
			}
			return err
		}
		flags := 0
		if head[0] == 'd' {
			flags = unix.MSG_TRUNC
		}
		for left := int64(binary.BigEndian.Uint64(head[1:])); left > 0; {
			var n int
			var errno error
			err := raw.Read(func(fd uintptr) bool {
				n, _, errno = unix.Recvfrom(int(fd), buf[:min(left, receiveBuffer)], flags)
				return !errors.Is(errno, unix.EAGAIN) && !errors.Is(errno, unix.EINTR)
			})
			if err = errors.Join(err, errno); err != nil {
				return err
			}
			if n == 0 {
				return io.ErrUnexpectedEOF
			}
			left -= int64(n)
		}
		if _, err := c.Write([]byte{1}); err != nil {
			return err
		}
	}
}

// consumers are the sending ends of connections whose readers wait for transfers.
type consumers struct {
	conns      []*net.TCPConn
	congestion string // that the connections use
	wait       func() error
}

// connect starts the readers and waits until all are there.
func connect(ctx context.Context, c DeliverConfig, n int) (cs *consumers, err error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = l.Close() }) // ends Accept
	defer stop()
	defer func() { err = errors.Join(err, ignore(l.Close(), net.ErrClosed)) }()
	wait, err := startReaders(ctx, c, l.Addr().String(), n)
	if err != nil {
		return nil, err
	}
	cs = &consumers{wait: wait}
	ended := make(chan error, 1)
	cs.wait = func() error { return <-ended }
	go func() {
		err := wait()
		_ = l.Close() // nobody will come any more
		ended <- err
	}()
	for range n {
		conn, err := l.Accept()
		if err != nil {
			return nil, errors.Join(err, cs.close())
		}
		tcp, ok := conn.(*net.TCPConn)
		if !ok {
			return nil, errors.Join(fmt.Errorf("%T is no TCP connection", conn), conn.Close(), cs.close())
		}
		cs.conns = append(cs.conns, tcp)
		if cs.congestion, err = setCongestion(tcp, "cubic"); err != nil {
			return nil, errors.Join(err, cs.close())
		}
	}
	return cs, nil
}

func ignore(err, what error) error {
	if errors.Is(err, what) {
		return nil
	}
	return err
}

// startReaders starts the child, or goroutines, and returns what waits for them.
func startReaders(ctx context.Context, c DeliverConfig, address string, n int) (func() error, error) {
	if c.Child == nil {
		done := make(chan error, 1)
		go func() { done <- Receive(ctx, address, n) }()
		return func() error { return <-done }, nil
	}
	child, err := c.Child(ctx, address, n)
	if err != nil {
		return nil, err
	}
	if err := child.Start(); err != nil {
		return nil, err
	}
	return func() error {
		err := child.Wait()
		if exit := new(exec.ExitError); errors.As(err, &exit) {
			err = fmt.Errorf("the reading process: %w", err)
		}
		return err
	}, nil
}

// close ends the connections, and with them the readers.
func (cs *consumers) close() error {
	var errs []error
	for _, c := range cs.conns {
		errs = append(errs, c.Close())
	}
	return errors.Join(append(errs, cs.wait())...)
}

// setCongestion asks for a congestion control and returns the one that is used:
// a system without the wanted one keeps its own.
func setCongestion(c *net.TCPConn, name string) (used string, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return "", err
	}
	err = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION, name) // what it is now tells
		used, _ = unix.GetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION)
	})
	return used, err
}

// announce begins a transfer, and confirmed waits for its end.
func announce(c net.Conn, reader string, n int64) error {
	var head [transferHead]byte
	head[0] = reader[0]
	binary.BigEndian.PutUint64(head[1:], uint64(n))
	_, err := c.Write(head[:])
	return err
}

func confirmed(ctx context.Context, c *net.TCPConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var b [1]byte
	n := 0
	err = pollFor(ctx, raw, unix.POLLIN, func(fd int) (errno error) {
		n, errno = unix.Read(fd, b[:])
		return errno
	})
	if err == nil && n == 0 {
		err = fmt.Errorf("the reader has gone: %w", os.ErrClosed)
	}
	return err
}

// pollFor calls do until it finds something, and waits for events in between. Go's
// own poller gives up on a connection that has nothing but errors to tell, which is
// how the end of a send with MSG_ZEROCOPY is told.
func pollFor(ctx context.Context, raw syscall.RawConn, events int16, do func(fd int) error) error {
	const look = 100 // ms, between two looks at the context
	for {
		var errno error
		err := raw.Control(func(fd uintptr) {
			if errno = do(int(fd)); errors.Is(errno, unix.EAGAIN) {
				_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: events}}, look) // do tells what came of it
			}
		})
		switch {
		case err != nil:
			return err
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(errno, unix.EAGAIN), errors.Is(errno, unix.EINTR):
		default:
			return errno
		}
	}
}
