// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package delivery_test

import (
	"errors"
	"io"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/stelelog/stele/delivery"
)

// BenchmarkSend sends a page of a file through a socket and reads it again, all on
// one goroutine, so that nobody is woken up: by a bare sendfile, and by a Sender
// with a context that can end. What that takes longer is what it adds to a system
// call.
func BenchmarkSend(b *testing.B) {
	const page = 4 * kib
	src := mapFile(b, page, 0)
	runs := delivery.Append(nil, src, 0, page)
	here, there := listen("unix")(b)
	require.NoError(b, here.(interface{ SetWriteBuffer(n int) error }).SetWriteBuffer(64*kib))
	raw, err := here.(syscall.Conn).SyscallConn()
	require.NoError(b, err)
	var s delivery.Sender
	in, buf := int(src.File.Fd()), make([]byte, page)
	for _, c := range []struct {
		name string
		send func() error
	}{
		{"bare", func() error {
			at, errno := int64(0), error(nil)
			return errors.Join(raw.Write(func(fd uintptr) bool {
				_, errno = unix.Sendfile(int(fd), in, &at, page)
				return true
			}), errno)
		}},
		{"Sender", func() error {
			_, err := s.Send(b.Context(), here, runs, delivery.Sendfile)
			return err
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := c.send(); err != nil {
					b.Fatal(err)
				}
				if _, err := io.ReadFull(there, buf); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
