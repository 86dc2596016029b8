// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package rebuild

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/mappedfile"
)

// TestTrade: both ways to have directories change places do the same, and where one
// of the two is missing the other takes its place.
func TestTrade(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		old, fresh, slow bool
	}{
		"both": {true, true, false}, "both, in steps": {true, true, true},
		"only the new one": {false, true, false}, "only the old one": {true, false, false}, "none": {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			p := part{work: filepath.Join(dir, "work", "queues"), place: filepath.Join(dir, "queues")}
			require.NoError(t, os.Mkdir(filepath.Dir(p.work), 0o755))
			if c.old {
				require.NoError(t, os.Mkdir(p.place, 0o755))
				require.NoError(t, os.WriteFile(filepath.Join(p.place, "old"), nil, 0o600))
			}
			if c.fresh {
				require.NoError(t, os.Mkdir(p.work, 0o755))
				require.NoError(t, os.WriteFile(filepath.Join(p.work, "new"), nil, 0o600))
			}
			j := &job{disk: mappedfile.OS()}
			if c.slow {
				require.NoError(t, j.tradeSlowly(p))
			} else {
				require.NoError(t, j.trade(p))
			}
			isFile := func(path string) bool {
				info, err := os.Stat(path)
				return err == nil && info.Mode().IsRegular()
			}
			require.Equal(t, c.fresh, isFile(filepath.Join(p.place, "new")))
			require.Equal(t, c.old, isFile(filepath.Join(p.work, "old")))
			require.NoDirExists(t, p.work+oldSuffix)
		})
	}
}
