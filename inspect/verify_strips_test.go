// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package inspect_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/inspect"
)

// TestVerifyStrips damages a store in ways that it draws and verifies it, reading
// the log in strips of several lengths. What is found must be the same each time, and
// of the log what Messages meets, who knows nothing of strips.
func TestVerifyStrips(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	rounds := 40
	if testing.Short() {
		rounds = 8
	}
	small := filepath.Join(t.TempDir(), "small")
	withQueues(t, small, 300)
	large := sample(t, closed)
	for range rounds {
		from := small
		if rng.IntN(2) == 0 {
			from = large
		}
		dir := filepath.Join(t.TempDir(), "store")
		require.NoError(t, os.CopyFS(dir, os.DirFS(from)))
		var done []string
		for range rng.IntN(4) {
			done = append(done, wreck(t, rng, dir))
		}
		msgs, errs := collect(t, open(t, dir), inspect.Filter{})
		var first []inspect.Finding
		for i, size := range []int64{1 << 20, 64 << 10, 4096, 100 + rng.Int64N(5000)} {
			var all []inspect.Finding
			sum, err := open(t, dir).VerifyInStrips(context.Background(), size, func(f *inspect.Finding) error {
				all = append(all, *f)
				return nil
			})
			require.NoError(t, err)
			require.Equal(t, int64(len(msgs)), sum.Records, "%s, strips of %d", done, size)
			var damage []error
			for _, f := range all {
				if f.Kind == inspect.KindRecord && !f.Note {
					damage = append(damage, errors.New(f.Detail))
				}
			}
			n := 0
			for _, err := range errs {
				var d *inspect.DamageError
				if !errors.As(err, &d) {
					continue
				}
				require.Less(t, n, len(damage), "%s, strips of %d: %v", done, size, err)
				require.ErrorContains(t, damage[n], d.Corrupt.Cause.Error(), "%s, strips of %d", done, size)
				n++
			}
			require.Len(t, damage, n, "%s, strips of %d", done, size)
			if i == 0 {
				first = all
			}
			require.Equal(t, first, all, "%s, strips of %d", done, size)
		}
	}
}

// wreck damages a file of a store and says how.
func wreck(t testing.TB, rng *rand.Rand, dir string) string {
	t.Helper()
	var files []string
	for _, pattern := range []string{"commitlog/*", "commitlog/*", "consumequeue/*/*/*", "index/*"} {
		some, err := filepath.Glob(filepath.Join(dir, pattern))
		require.NoError(t, err)
		if len(some) > 0 {
			files = append(files, some[rng.IntN(len(some))])
		}
	}
	path := files[rng.IntN(len(files))]
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	if len(b) == 0 {
		return "nothing"
	}
	used := max(len(bytes.TrimRight(b, "\x00")), 1)
	at := rng.IntN(used)
	n := min(1+rng.IntN(6000), len(b)-at)
	var how string
	switch rng.IntN(7) {
	case 0, 1:
		how = "a bit"
		b[at] ^= 1 << rng.IntN(8)
	case 2:
		how = "zeros"
		clear(b[at : at+n])
	case 3:
		how = "noise"
		for i := range n {
			b[at+i] = byte(rng.Uint32())
		}
	case 4:
		how = "what stands elsewhere"
		copy(b[at:at+n], b[rng.IntN(used):])
	case 5:
		how = "magic numbers"
		for ; n >= 8; n, at = n-8, at+8 {
			binary.BigEndian.PutUint64(b[at:], 0x00000080DAA320A7)
		}
	default:
		if strings.Contains(path, "index") {
			return "nothing"
		}
		require.NoError(t, os.Remove(path))
		return "no " + path
	}
	require.NoError(t, os.WriteFile(path, b, 0o600))
	return how + " at " + path
}
