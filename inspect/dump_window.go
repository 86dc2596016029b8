// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// window reads a file through a buffer that follows the reader.
type window struct {
	file *os.File
	size int64
	at   int64 // where buf lies in the file
	buf  []byte
}

// windowSize is how much is read at a time, in bytes.
const windowSize = 1 << 20

// bytes returns n bytes from a position on, less at the end of the file. They are
// valid until the next call.
func (w *window) bytes(at, n int64) ([]byte, error) {
	n = max(min(n, w.size-at), 0)
	if at < w.at || at+n > w.at+int64(len(w.buf)) {
		if err := w.fill(at, max(n, windowSize)); err != nil {
			return nil, err
		}
	}
	from := min(at-w.at, int64(len(w.buf)))
	return w.buf[from:min(from+n, int64(len(w.buf)))], nil
}

func (w *window) fill(at, n int64) error {
	n = max(min(n, w.size-at), 0)
	if int64(cap(w.buf)) < n {
		w.buf = make([]byte, n)
	}
	got, err := w.file.ReadAt(w.buf[:n], at)
	if errors.Is(err, io.EOF) {
		w.size, err = at+int64(got), nil // it was cut meanwhile
	}
	w.at, w.buf = at, w.buf[:got]
	return err
}

// zeros returns where the first byte from at on lies that is not zero, to when
// there is none before it.
func (w *window) zeros(ctx context.Context, at, to int64) (int64, error) {
	for at < to {
		if ctx.Err() != nil {
			return at, context.Cause(ctx)
		}
		b, err := w.bytes(at, min(windowSize, to-at))
		if err != nil || len(b) == 0 {
			return at, err
		}
		if rest := bytes.TrimLeft(b, "\x00"); len(rest) > 0 {
			return at + int64(len(b)-len(rest)), nil
		}
		at += int64(len(b))
	}
	return at, nil
}

func be64(b []byte) int64 { return int64(binary.BigEndian.Uint64(b)) }
func be32(b []byte) int32 { return int32(binary.BigEndian.Uint32(b)) }

// timeText is a time in milliseconds since the Unix epoch as a number, and as
// people read it.
func timeText(ms int64) string {
	if ms <= 0 || ms > 1<<47 {
		return fmt.Sprint(ms)
	}
	return fmt.Sprintf("%d  %s", ms, time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z"))
}
