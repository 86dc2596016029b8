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
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/stelelog/stele/delivery"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/store"
)

// sending is one consumer's transfer.
type sending struct {
	f    *fixture
	d    delivered
	conn *net.TCPConn
	// What it cost, beside what the system counts.
	calls int64
	path  string // what the kernel did, where that is not what the name says
	// batches are those of wayBatchAlone, in the order in which they are sent.
	batches []*store.Batch
}

// prepare does what must not count.
func (s *sending) prepare(ctx context.Context) error {
	if s.d.method != wayBatchAlone {
		return nil
	}
	return s.eachBatch(ctx, func(b *store.Batch) error {
		s.batches = append(s.batches, b)
		return nil
	})
}

// release gives back what prepare took.
func (s *sending) release() {
	for _, b := range s.batches {
		b.Release()
	}
	s.batches = nil
}

// run sends every chunk of the case.
func (s *sending) run(ctx context.Context) error {
	switch s.d.method {
	case wayBare:
		return s.bare()
	case wayIOCopy:
		return s.ioCopy()
	case wayZerocopy:
		return s.zerocopy(ctx)
	case wayRange:
		return s.sendRange(ctx)
	case wayBatch:
		return s.eachBatch(ctx, func(b *store.Batch) error {
			defer b.Release()
			return s.writeTo(b)
		})
	case wayBatchAlone:
		for _, b := range s.batches {
			if err := s.writeTo(b); err != nil {
				return err
			}
		}
		return nil
	case wayFetchCopy:
		return s.fetchCopy(ctx)
	}
	return s.sender(ctx, map[string]delivery.Method{
		wayReadWrite: delivery.ReadWrite, wayWrite: delivery.Write, wayWritev: delivery.Writev,
		waySendfile: delivery.Sendfile, waySplice: delivery.Splice, wayCopy: delivery.Copy,
	}[s.d.method])
}

// eachChunk calls send with the runs of each chunk.
func (s *sending) eachChunk(send func(runs []delivery.Run) error) error {
	n, _ := s.f.chunks(s.d)
	var runs []delivery.Run
	for i := range n {
		runs = s.f.runs(runs[:0], s.d, i)
		if err := send(runs); err != nil {
			return err
		}
	}
	return nil
}

// sender sends by one method of package delivery.
func (s *sending) sender(ctx context.Context, m delivery.Method) error {
	by := delivery.Sender{Guard: mappedfile.Guard}
	err := s.eachChunk(func(runs []delivery.Run) error {
		_, err := by.Send(ctx, s.conn, runs, m)
		return err
	})
	s.calls = by.Stats().Calls()
	return err
}

// bare is the floor: sendfile, and a wait where the socket is full.
func (s *sending) bare() error {
	raw, err := s.conn.SyscallConn()
	if err != nil {
		return err
	}
	in := int(s.f.source.File.Fd())
	return s.eachChunk(func(runs []delivery.Run) error {
		for _, r := range runs {
			at := r.From
			var errno error
			err := raw.Write(func(fd uintptr) bool {
				for at < r.To {
					s.calls++
					var n int
					n, errno = unix.Sendfile(int(fd), in, &at, int(r.To-at))
					if errors.Is(errno, unix.EAGAIN) {
						return false
					}
					if errno == nil && n == 0 {
						errno = io.ErrUnexpectedEOF
					}
					if errno != nil {
						return true
					}
				}
				return true
			})
			if err := errors.Join(err, errno); err != nil {
				return err
			}
		}
		return nil
	})
}

// ioCopy leaves it to Go; goCopies says what that does.
func (s *sending) ioCopy() error {
	file, err := os.Open(s.f.view.File().Path())
	if err != nil {
		return err
	}
	err = s.eachChunk(func(runs []delivery.Run) error {
		for _, r := range runs {
			s.calls++ // lseek
			if _, err := file.Seek(r.From, io.SeekStart); err != nil {
				return err
			}
			if _, err := io.CopyN(s.conn, file, r.Len()); err != nil {
				return err
			}
		}
		return nil
	})
	return errors.Join(err, file.Close())
}

// sendRange has the log send its bytes, a chunk at a time.
func (s *sending) sendRange(ctx context.Context) error {
	log := s.f.store.Log()
	base := message.Offset(s.f.view.File().Base())
	return s.eachChunk(func(runs []delivery.Run) error {
		for _, r := range runs {
			if _, err := log.SendRange(ctx, s.conn, base+message.Offset(r.From), base+message.Offset(r.To)); err != nil {
				return err
			}
		}
		return nil
	})
}

// eachBatch fetches a chunk at a time. The batches belong to do.
func (s *sending) eachBatch(ctx context.Context, do func(*store.Batch) error) error {
	st, perBatch := s.f.store, message.QueueOffset(int64(s.d.chunk)/s.f.record)
	n, _ := s.f.chunks(s.d)
	perQueue := n / min(int64(s.f.queues), n)
	for i := range n {
		from := message.QueueOffset(i%perQueue) * perBatch
		b, err := st.Fetch(ctx, topic, int32(i/perQueue), from, store.Limit{Messages: int(perBatch), Bytes: s.d.chunk})
		if err != nil {
			return err
		}
		if b.Bytes() != s.d.chunk {
			err = fmt.Errorf("a batch of %d bytes instead of %d", b.Bytes(), s.d.chunk)
			b.Release()
			return err
		}
		if err := do(b); err != nil {
			return err
		}
	}
	return nil
}

func (s *sending) writeTo(b *store.Batch) error {
	_, err := b.WriteTo(s.conn)
	return err
}

// fetchCopy copies the records of each batch into a buffer and writes that.
func (s *sending) fetchCopy(ctx context.Context) error {
	raw, err := s.conn.SyscallConn()
	if err != nil {
		return err
	}
	buf := make([]byte, 0, s.d.chunk)
	return s.eachBatch(ctx, func(b *store.Batch) error {
		defer b.Release()
		buf = buf[:0]
		err := mappedfile.Guard(func() error {
			for r := range b.Records() {
				buf = append(buf, r...)
			}
			return nil
		})
		if err != nil {
			return err
		}
		return s.write(raw, buf)
	})
}

// write makes the system calls for p, and counts them.
func (s *sending) write(raw syscall.RawConn, p []byte) error {
	var errno error
	err := raw.Write(func(fd uintptr) bool {
		for len(p) > 0 {
			s.calls++
			var n int
			n, errno = unix.Write(int(fd), p)
			if errors.Is(errno, unix.EAGAIN) {
				return false
			}
			if errno != nil {
				return true
			}
			p = p[n:]
		}
		return true
	})
	return errors.Join(err, errno)
}

// zerocopy has the kernel send the mapped pages, and waits until it says of each
// send that it is done with them. It also says whether it copied after all.
func (s *sending) zerocopy(ctx context.Context) error {
	raw, err := s.conn.SyscallConn()
	if err != nil {
		return err
	}
	var errno error
	err = raw.Control(func(fd uintptr) { errno = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ZEROCOPY, 1) })
	if err := errors.Join(err, errno); err != nil {
		return os.NewSyscallError("setsockopt SO_ZEROCOPY", err)
	}
	z := &zerocopied{ctx: ctx, raw: raw, s: s}
	err = s.eachChunk(func(runs []delivery.Run) error {
		for _, r := range runs {
			if err := z.send(r.Source.Data[r.From:r.To]); err != nil {
				return err
			}
		}
		return z.reap(z.sent - 64) // the kernel bounds how many may wait
	})
	err = errors.Join(err, z.reap(z.sent))
	s.path = fmt.Sprintf("copied %d of %d", z.copied, z.done)
	return err
}

type zerocopied struct {
	ctx                context.Context
	raw                syscall.RawConn
	s                  *sending
	sent, done, copied int64
}

// send hands over p. Where the kernel has no room to note one more send, those that
// are done are asked for.
func (z *zerocopied) send(p []byte) error {
	for len(p) > 0 {
		var n int
		var errno error
		err := z.raw.Write(func(fd uintptr) bool {
			z.s.calls++
			n, errno = unix.SendmsgBuffers(int(fd), [][]byte{p}, nil, nil, unix.MSG_ZEROCOPY|unix.MSG_NOSIGNAL)
			return !errors.Is(errno, unix.EAGAIN)
		})
		if err != nil {
			return err
		}
		if errors.Is(errno, unix.ENOBUFS) && z.done < z.sent {
			if err := z.reap(z.done + 1); err != nil {
				return err
			}
			continue
		}
		if errno != nil {
			return os.NewSyscallError("sendmsg MSG_ZEROCOPY", errno)
		}
		z.sent++
		p = p[n:]
	}
	return nil
}

// reap waits until so many sends are done.
func (z *zerocopied) reap(want int64) error {
	oob := make([]byte, 256)
	for z.done < want {
		var n int
		err := pollFor(z.ctx, z.raw, 0, func(fd int) (errno error) {
			z.s.calls++
			_, n, _, _, errno = unix.Recvmsg(fd, nil, oob, unix.MSG_ERRQUEUE)
			return errno
		})
		if err != nil {
			return err
		}
		messages, err := unix.ParseSocketControlMessage(oob[:n])
		if err != nil {
			return err
		}
		for _, m := range messages {
			z.completed(m.Data)
		}
	}
	return nil
}

// completed takes one struct sock_extended_err, which names a span of sends.
func (z *zerocopied) completed(e []byte) {
	const origin, code, first, last = 4, 6, 8, 12
	if len(e) < 16 || e[origin] != unix.SO_EE_ORIGIN_ZEROCOPY {
		return
	}
	n := int64(binary.NativeEndian.Uint32(e[last:])-binary.NativeEndian.Uint32(e[first:])) + 1
	z.done += n
	if e[code]&unix.SO_EE_CODE_ZEROCOPY_COPIED != 0 {
		z.copied += n
	}
}
