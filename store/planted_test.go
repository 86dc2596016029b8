// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

//go:build plantedbug

package store_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/commitlog"
)

// plantedWithin is how many histories may pass before a planted bug is caught.
const plantedWithin = 2000

// TestPlantedBugsAreCaught plants one bug after the other and plays histories
// until one breaks a promise. The same history must break none without the bug.
func TestPlantedBugsAreCaught(t *testing.T) {
	for _, bug := range []struct{ name, what string }{
		{"ack", "acknowledge before the flush"},
		{"crc", "no checksums on recovery"},
		{"tail", "the tail is not zeroed"},
	} {
		t.Run(bug.name, func(t *testing.T) {
			begin := time.Now()
			for seed := *historySeed; ; seed++ {
				n := seed - *historySeed + 1
				require.LessOrEqual(t, n, uint64(plantedWithin), "not caught: %s", bug.what)
				sc := newScript(powerCuts, seed)
				t.Setenv(commitlog.PlantedBugEnv, bug.name)
				failure, _ := play(t, sc)
				if failure == "" {
					continue
				}
				t.Setenv(commitlog.PlantedBugEnv, "")
				without, _ := play(t, sc)
				require.Empty(t, without, "seed %d breaks a promise without the bug", seed)
				t.Logf("%s: caught by history %d (seed %d) after %v:\n%s", bug.what, n, seed, time.Since(begin).Round(time.Millisecond), failure)
				return
			}
		})
	}
}
