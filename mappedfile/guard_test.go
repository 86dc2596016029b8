// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package mappedfile_test

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/mappedfile"
)

// TestGuard cuts a mapped file and touches what is gone.
func TestGuard(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "a dir / with a blank")
	q := openQueue(t, mappedfile.OS(), dir)
	fillQueue(t, q, 1)
	f := q.First()
	data, err := f.Bytes()
	require.NoError(t, err)
	require.NoError(t, os.Truncate(f.Path(), page))

	buf := make([]byte, 3*page)
	touches := map[string]func(){
		"copy from": func() { copy(buf, data[page/2:]) },
		"copy to":   func() { copy(data[page/2:], buf) },
		"load":      func() { buf[0] = data[page] },
		"store":     func() { data[2*page-1] = 1 },
	}
	for name, touch := range touches {
		err := mappedfile.Guard(func() error {
			touch()
			return nil
		})
		require.ErrorIs(t, err, mappedfile.ErrFault, name)
		var fault *mappedfile.FaultError
		require.ErrorAs(t, err, &fault)
		require.NotZero(t, fault.Addr)
		var cause runtime.Error
		require.ErrorAs(t, err, &cause)
		if runtime.GOOS == "linux" {
			require.Equal(t, f.Path(), fault.Path)
		}
		require.ErrorContains(t, err, "memory fault")
	}
	// What is left can be touched.
	require.NoError(t, mappedfile.Guard(func() error {
		data[0]++
		return nil
	}))
}

// TestGuardLetsThrough hands on errors, and panics that are no faults.
func TestGuardLetsThrough(t *testing.T) {
	t.Parallel()
	cause := errors.New("cause")
	require.Equal(t, cause, mappedfile.Guard(func() error { return cause }))
	require.PanicsWithValue(t, "text", func() { _ = mappedfile.Guard(func() error { panic("text") }) })
	var none *int
	require.Panics(t, func() { _ = mappedfile.Guard(func() error { *none = 1; return nil }) })
	require.Panics(t, func() { _ = mappedfile.Guard(func() error { _ = []int{}[len(os.Args)]; return nil }) })
}

// BenchmarkGuard is what a guard costs: around nothing, and around a copy of
// 1 KiB beside the same copy alone.
func BenchmarkGuard(b *testing.B) {
	from, to := make([]byte, 1024), make([]byte, 1024)
	b.Run("nothing", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_ = mappedfile.Guard(func() error { return nil })
		}
	})
	b.Run("copy/guarded", func(b *testing.B) {
		b.ReportAllocs()
		n := 0
		for b.Loop() {
			_ = mappedfile.Guard(func() error {
				n += copy(to, from)
				return nil
			})
		}
	})
	b.Run("copy/alone", func(b *testing.B) {
		n := 0
		for b.Loop() {
			n += copy(to, from)
		}
	})
}
