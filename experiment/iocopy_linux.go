// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package experiment

import (
	"errors"
	"io"
	"net"
	"os"
	"runtime"
)

// goCopies finds out what io.Copy does from a file to a TCP connection: sendfile, or
// reads and writes by way of a buffer of 32 KiB. Linux counts the calls of a thread
// that read; what is copied fits in the connection's buffers, so that one sendfile
// is enough for it.
func goCopies(path string) (way string, err error) {
	const probe, most = 128 << 10, 2 // a buffer of 32 KiB takes four
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	to, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	if c, ok := to.(*net.TCPConn); ok {
		err = c.SetWriteBuffer(4 * probe)
	}
	file, openErr := os.Open(path)
	if err = errors.Join(err, openErr); err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	const here = "/proc/thread-self/io"
	before := ioCounts(here)["syscr"]
	own := ioCounts(here)["syscr"] - before // to look is to read
	before += own
	if _, err = io.CopyN(to, file, probe); err != nil {
		return "", err
	}
	if calls := ioCounts(here)["syscr"] - before - own; calls > 0 && calls <= most {
		return "sendfile", nil
	}
	return "read+write", nil
}
