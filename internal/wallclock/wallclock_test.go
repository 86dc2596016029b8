// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package wallclock

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestFollowsTheSystem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(nil)
		for _, passed := range []time.Duration{
			0, time.Millisecond, 999 * time.Microsecond, Renewal - time.Nanosecond, Renewal, 10 * Renewal, time.Hour, 1,
		} {
			<-time.After(passed)
			require.Equal(t, time.Now().UnixMilli(), c.UnixMilli(), passed)
		}
	})
}

// TestNoticesAStep has the time of day jump, which no test can do to the system's:
// the last look is changed instead, as if it had been taken before the step.
func TestNoticesAStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(nil)
		l := *c.last.Load()
		l.wall -= int64(time.Hour)
		c.last.Store(&l)
		require.Equal(t, time.Now().Add(-time.Hour).UnixMilli(), c.UnixMilli())
		<-time.After(Renewal)
		require.Equal(t, time.Now().UnixMilli(), c.UnixMilli())
	})
}

func TestGiven(t *testing.T) {
	at := time.UnixMilli(1_700_000_000_123)
	c := New(func() time.Time { return at })
	require.EqualValues(t, 1_700_000_000_123, c.UnixMilli())
	at = at.Add(-time.Second)
	require.EqualValues(t, 1_699_999_999_123, c.UnixMilli())
	require.NotNil(t, c.Given())
	require.Nil(t, New(nil).Given())
}

func BenchmarkUnixMilli(b *testing.B) {
	b.Run("wallclock", func(b *testing.B) {
		c := New(nil)
		b.ReportAllocs()
		for b.Loop() {
			_ = c.UnixMilli()
		}
	})
	b.Run("time.Now", func(b *testing.B) {
		for b.Loop() {
			_ = time.Now().UnixMilli()
		}
	})
}
