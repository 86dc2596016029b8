// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package rebuild_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/stelelog/stele/inspect"
	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/rebuild"
	"github.com/stelelog/stele/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The stores that a real RocketMQ wrote; their README tells about them.
const (
	samples = "../inspect/testdata"
	closed  = "append-prop-crc"
	killed  = "default-sizes-killed"
)

// sample unpacks one and leaves out the zeros.
func sample(t testing.TB, name string) string {
	t.Helper()
	dir := t.TempDir()
	f, err := os.Open(filepath.Join(samples, name+".tar.gz"))
	require.NoError(t, err)
	defer func() { require.NoError(t, f.Close()) }()
	z, err := gzip.NewReader(f)
	require.NoError(t, err)
	for r := tar.NewReader(z); ; {
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
		out, err := os.Create(path)
		require.NoError(t, err)
		require.NoError(t, out.Truncate(h.Size))
		buf, zeros := make([]byte, 1<<20), make([]byte, 1<<20)
		for off := int64(0); off < h.Size; off += int64(len(buf)) {
			n, err := io.ReadFull(r, buf[:min(h.Size-off, int64(len(buf)))])
			require.NoError(t, err)
			if !bytes.Equal(buf[:n], zeros[:n]) {
				_, err = out.WriteAt(buf[:n], off)
				require.NoError(t, err)
			}
		}
		require.NoError(t, out.Close())
	}
}

// tree is the content of all files below dir, by path; of a large one, the first
// megabytes, which hold all that a sample has.
func tree(t testing.TB, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		b, err := io.ReadAll(io.LimitReader(f, 8<<20))
		rel, _ := filepath.Rel(dir, path)
		files[rel] = string(b)
		return errors.Join(err, f.Close())
	})
	require.NoError(t, err)
	return files
}

// stamps are names, lengths and times of all that is below dir.
func stamps(t testing.TB, dir string) []string {
	t.Helper()
	var all []string
	require.NoError(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		all = append(all, fmt.Sprint(path, info.Mode(), info.Size(), info.ModTime().UnixNano()))
		return err
	}))
	return all
}

// sameTree compares directories file by file, and says which file differs without
// printing megabytes.
func sameTree(t testing.TB, want, got string) {
	t.Helper()
	a, b := tree(t, want), tree(t, got)
	for name := range a {
		_, there := b[name]
		require.True(t, there, "%s lacks %s", got, name)
		if a[name] != b[name] { // megabytes, which nobody wants to see
			t.Fatalf("%s differs in %s", got, name)
		}
	}
	require.Len(t, b, len(a))
}

// sameIndex compares index files in the order of their names, which are times.
func sameIndex(t testing.TB, want, got string) {
	t.Helper()
	a, err := filepath.Glob(filepath.Join(want, "*"))
	require.NoError(t, err)
	b, err := filepath.Glob(filepath.Join(got, "*"))
	require.NoError(t, err)
	require.Len(t, b, len(a))
	for i := range a {
		x, err := os.ReadFile(a[i])
		require.NoError(t, err)
		y, err := os.ReadFile(b[i])
		require.NoError(t, err)
		require.True(t, bytes.Equal(x, y), "%s and %s differ", a[i], b[i])
	}
}

// verify returns what is wrong with a store.
func verify(t testing.TB, dir string) (findings []inspect.Finding, sum inspect.Verified) {
	t.Helper()
	d, err := inspect.Open(dir, inspect.Options{})
	require.NoError(t, err)
	sum, err = d.Verify(context.Background(), func(f *inspect.Finding) error {
		if !f.Note {
			findings = append(findings, *f)
		}
		return nil
	})
	require.NoError(t, err)
	return findings, sum
}

// run rebuilds and returns what was reported.
func run(t testing.TB, dir string, o rebuild.Options) (rebuild.Result, []rebuild.Notice) {
	t.Helper()
	var notices []rebuild.Notice
	o.Report = func(n rebuild.Notice) { notices = append(notices, n) }
	res, err := rebuild.Run(context.Background(), dir, o)
	require.NoError(t, err)
	return res, notices
}

// openStore opens a directory that was rebuilt, has it take a message, and closes
// it.
func openStore(t testing.TB, dir string, topic string, queue int32, at message.QueueOffset) store.Recovery {
	t.Helper()
	s, err := store.Open(dir, store.Options{MustExist: true})
	require.NoError(t, err)
	res, err := s.Append(context.Background(), &message.Message{Topic: topic, QueueID: queue, Body: []byte("new")})
	require.NoError(t, err)
	require.Equal(t, at, res.QueueOffset)
	rec := s.Stats().Recovery
	require.NoError(t, s.Close())
	return rec
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
