// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package interop_test

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/store"
)

// TestRefused has RocketMQ write the layouts that Stele does not know. Stele
// refuses each by name, and leaves it as it is.
func TestRefused(t *testing.T) {
	j := sharedJVM(t)
	t.Parallel()
	for name, change := range map[string]func(dir string, config map[string]any){
		"queues in RocksDB": func(_ string, config map[string]any) { config["rocksDB"] = true },
		"log in several directories": func(dir string, config map[string]any) {
			config["commitLog"] = filepath.Join(dir, "commitlog") + "," + filepath.Join(dir, "commitlog2")
		},
		"batch queues": func(_ string, config map[string]any) { config["batchTopic"] = topics[0] },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			config := small.rocket()
			change(dir, config)
			r := j.rocketWith(t, dir, config)
			var specs []spec
			m := newMaker(t, 11, small)
			for range 400 { // two files of the log, one for each directory
				specs = append(specs, m.plain())
			}
			r.put(specs)
			r.close()
			before := snapshot(t, dir)
			_, err := store.Open(dir, small.stele(&clock{}))
			require.ErrorIs(t, err, store.ErrUnsupportedLayout)
			t.Log(err)
			requireUnchanged(t, before, dir)
		})
	}
}
