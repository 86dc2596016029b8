// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package inspect_test

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/commitlog"
	"github.com/stelelog/stele/inspect"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
)

// The stores in testdata.
const (
	closed = "append-prop-crc"
	killed = "default-sizes-killed"
)

// sample unpacks a store that a real RocketMQ wrote and returns its directory.
func sample(t testing.TB, name string) string {
	t.Helper()
	dir := t.TempDir()
	r := tar.NewReader(gunzip(t, filepath.Join("testdata", name+".tar.gz")))
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return filepath.Join(dir, name)
		}
		require.NoError(t, err)
		path := filepath.Join(dir, h.Name)
		if strings.HasSuffix(h.Name, "/") {
			require.NoError(t, os.MkdirAll(path, 0o755))
			continue
		}
		writeSparse(t, path, h.Size, r)
	}
}

// writeSparse copies a file and leaves out the zeros.
func writeSparse(t testing.TB, path string, size int64, r io.Reader) {
	t.Helper()
	f, err := os.Create(path)
	require.NoError(t, err)
	require.NoError(t, f.Truncate(size))
	buf, zeros := make([]byte, 1<<20), make([]byte, 1<<20)
	for off := int64(0); off < size; off += int64(len(buf)) {
		n, err := io.ReadFull(r, buf[:min(size-off, int64(len(buf)))])
		require.NoError(t, err)
		if !bytes.Equal(buf[:n], zeros[:n]) {
			_, err = f.WriteAt(buf[:n], off)
			require.NoError(t, err)
		}
	}
	require.NoError(t, f.Close())
}

func gunzip(t testing.TB, path string) io.Reader {
	t.Helper()
	f, err := os.Open(path)
	require.NoError(t, err)
	t.Cleanup(func() { _ = f.Close() })
	z, err := gzip.NewReader(bufio.NewReader(f))
	require.NoError(t, err)
	return z
}

// patch overwrites bytes of a file.
func patch(t testing.TB, path string, off int64, b []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = f.WriteAt(b, off)
	require.NoError(t, err)
	require.NoError(t, f.Close())
}

// flip inverts one bit of a file.
func flip(t testing.TB, path string, off int64) {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	patch(t, path, off, []byte{b[off] ^ 0x10})
}

func open(t testing.TB, dir string) *inspect.Dir {
	t.Helper()
	d, err := inspect.Open(dir, inspect.Options{})
	require.NoError(t, err)
	return d
}

// collect runs an iteration and keeps copies of all that it yields.
func collect(t testing.TB, d *inspect.Dir, f inspect.Filter) (msgs []*message.Message, errs []error) {
	t.Helper()
	for r, err := range d.Messages(context.Background(), f) {
		if err != nil {
			errs = append(errs, err)
			continue
		}
		msgs = append(msgs, r.Clone())
	}
	return msgs, errs
}

// offsets are the physical offsets of messages.
func offsets(msgs []*message.Message) []int64 {
	offs := make([]int64, len(msgs))
	for i, m := range msgs {
		offs[i] = int64(m.PhysicalOffset)
	}
	return offs
}

// firstTime is the store time of the first message that a writer appends. Each
// of the following is a second later.
const firstTime = int64(1700000000000)

// writer appends to the commit log of a store in dir.
type writer struct {
	log  *commitlog.Log
	seqs map[int32]*commitlog.Sequence
	now  int64
}

func newWriter(t testing.TB, dir string, fileSize int64) *writer {
	t.Helper()
	w := &writer{seqs: map[int32]*commitlog.Sequence{}, now: firstTime}
	var err error
	w.log, err = commitlog.Open(commitlog.Options{
		Dir: filepath.Join(dir, "commitlog"), FileSize: fileSize, PropertyCRC: true,
		Clock: func() time.Time { return time.UnixMilli(w.now) },
	})
	require.NoError(t, err)
	require.NoError(t, w.log.Start(commitlog.StartOptions{Clean: true}))
	return w
}

func (w *writer) append(m *message.Message) (commitlog.Result, error) {
	if w.seqs[m.QueueID] == nil {
		w.seqs[m.QueueID] = commitlog.NewSequence(0)
	}
	rec, err := message.Encoder{PropertyCRC: true}.Append(nil, m)
	if err != nil {
		return commitlog.Result{}, err
	}
	res, err := w.log.Append(commitlog.Item{Record: rec, Sequence: w.seqs[m.QueueID], Step: 1})
	w.now += 1000
	return res, err
}

// logFile is the path of a commit log file.
func logFile(dir string, base int64) string {
	return filepath.Join(dir, "commitlog", mappedfile.FileName(base))
}
