// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package commitlog_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/commitlog"
	"github.com/stelelog/stele/internal/crashdisk"
)

// An append that needs a file waits for the disk, and a batch like one.
func TestWaitsForAFile(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := crashdisk.New()
		const disk = 7 * time.Millisecond
		d.Observe(func(op crashdisk.Op, _ string) {
			if op == crashdisk.OpCreate {
				<-time.After(disk)
			}
		})
		l := startLog(t, d, 4096)
		var w commitlog.Waits
		it := item(t, commitlog.NewSequence(0), 200, "x")
		it.Waits = &w
		_, err := l.Append(it)
		require.NoError(t, err)
		require.Equal(t, commitlog.Waits{Roll: disk}, w)

		w = commitlog.Waits{}
		add(t, l, it.Sequence, 200, "asks for the next file")
		batch := []commitlog.Item{item(t, it.Sequence, 1900, "y"), item(t, it.Sequence, 1900, "z")}
		batch[0].Waits = &w
		require.NoError(t, l.AppendBatch(batch, make([]commitlog.Result, 2)))
		require.Equal(t, commitlog.Waits{Roll: disk}, w, "which has no time to be made")
	})
}

// What is written through the descriptor is timed, too.
func TestWaitsForTheWrite(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := crashdisk.New()
		const disk = 3 * time.Millisecond
		l := startLog(t, d, 4096, func(o *commitlog.Options) { o.WritePath = commitlog.WriteFile })
		seq := commitlog.NewSequence(0)
		add(t, l, seq, 100+sealedMin, "makes the file")
		d.Observe(func(op crashdisk.Op, _ string) {
			if op == crashdisk.OpWrite {
				<-time.After(disk)
			}
		})
		var w commitlog.Waits
		it := item(t, seq, 200, "x")
		it.Waits = &w
		_, err := l.Append(it)
		require.NoError(t, err)
		require.Equal(t, commitlog.Waits{Commit: disk}, w)
	})
}
