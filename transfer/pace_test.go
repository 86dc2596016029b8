// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package transfer

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestParseSpeed(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Speed{
		"max": {}, "1x": {Times: 1}, "10x": {Times: 10}, "0.5x": {Times: 0.5}, "200/s": {PerSecond: 200}, "0.1/s": {PerSecond: 0.1},
	} {
		got, err := ParseSpeed(text)
		require.NoError(t, err)
		require.Equal(t, want, got)
		require.Equal(t, text, got.String())
	}
	for _, text := range []string{"", "x", "/s", "0x", "-1x", "1", "NaNx", "Infx", "fast", "1e10/s", "1e-9x"} {
		_, err := ParseSpeed(text)
		require.Error(t, err, text)
	}
}

func TestPacer(t *testing.T) {
	t.Parallel()
	begin := time.Unix(1000, 0)
	type step struct {
		after  time.Duration // since the beginning
		stored int64
		want   time.Duration
	}
	for name, tt := range map[string]struct {
		speed Speed
		steps []step
	}{
		"max":         {Speed{}, []step{{0, 5, 0}, {0, 1e9, 0}}},
		"1x":          {Speed{Times: 1}, []step{{0, 5000, 0}, {0, 6000, time.Second}, {time.Second, 6500, 500 * time.Millisecond}}},
		"10x":         {Speed{Times: 10}, []step{{0, 5000, 0}, {0, 6000, 100 * time.Millisecond}}},
		"late":        {Speed{Times: 1}, []step{{0, 5000, 0}, {5 * time.Second, 6000, -4 * time.Second}}},
		"set back":    {Speed{Times: 1}, []step{{0, 5000, 0}, {0, 6000, time.Second}, {0, 1000, time.Second}, {0, 6001, 1001 * time.Millisecond}}},
		"begins back": {Speed{Times: 1}, []step{{0, 5000, 0}, {0, 1000, 0}, {0, 5001, time.Millisecond}}},
		"rate":        {Speed{PerSecond: 4}, []step{{0, 5, 0}, {0, 5, 250 * time.Millisecond}, {0, 9e9, 500 * time.Millisecond}}},
		"for ever":    {Speed{Times: 1e-6}, []step{{0, 1, 0}, {0, 1 << 60, 1<<62 - 1}}},
	} {
		p := pacer{speed: tt.speed}
		for i, s := range tt.steps {
			got := p.wait(begin.Add(s.after), s.stored)
			require.InDelta(t, s.want.Seconds(), got.Seconds(), 2, "%s, step %d", name, i)
			if s.want < time.Hour {
				require.Equal(t, s.want, got, "%s, step %d", name, i)
			}
		}
	}
}
