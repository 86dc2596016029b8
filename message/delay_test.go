// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package message

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestParseDelayLevels(t *testing.T) {
	l, err := ParseDelayLevels(DefaultDelayLevels)
	require.NoError(t, err)
	require.Len(t, l, 18)
	require.Equal(t, time.Second, l[0])
	require.Equal(t, 2*time.Hour, l[17])
	require.Equal(t, 2*time.Hour, l.Longest())
	l, err = ParseDelayLevels("  2d 1s ")
	require.NoError(t, err)
	require.Equal(t, DelayLevels{48 * time.Hour, time.Second}, l)
	for _, bad := range []string{
		"", " ", "1", "s", "1 s", "1ms", "-1s", "0s", "1.5s", "1S", "99999999999s", "2000000000d", "+",
		strings.Repeat("1s ", maxDelayLevels+1),
	} {
		_, err := ParseDelayLevels(bad)
		require.ErrorIs(t, err, ErrBadDelay, "%.20q", bad)
	}
}

func TestDelay(t *testing.T) {
	for _, c := range []struct {
		name  string
		pairs []string
		want  DelayWish
		ok    bool
		err   error
	}{
		{"nothing", []string{"TAGS", "x", "KEYS", "y", "DUP_INFO", "1_2"}, DelayWish{}, false, nil},
		{"level", []string{"DELAY", "3"}, DelayWish{Level: 3}, true, nil},
		{"negative level", []string{"DELAY", "-3"}, DelayWish{Level: -3}, true, nil},
		{"level 0", []string{"DELAY", "0"}, DelayWish{}, false, nil},
		{"level that is no number", []string{"DELAY", "x"}, DelayWish{}, false, ErrBadProperty},
		{"level before time", []string{"TIMER_DELIVER_MS", "x", "DELAY", "1"}, DelayWish{Level: 1}, true, nil},
		{"level 0 and time", []string{"TIMER_DELIVER_MS", "5", "DELAY", "0"}, DelayWish{Timed: true, At: 5}, true, nil},
		{"time", []string{"TIMER_DELIVER_MS", "5"}, DelayWish{Timed: true, At: 5}, true, nil},
		{"milliseconds", []string{"TIMER_DELAY_MS", "5", "TIMER_DELIVER_MS", "x"}, DelayWish{Timed: true, After: true, At: 5}, true, nil},
		{"seconds", []string{"TIMER_DELAY_MS", "x", "TIMER_DELAY_SEC", "5"}, DelayWish{Timed: true, After: true, At: 5000}, true, nil},
		{"many seconds", []string{"TIMER_DELAY_SEC", "9223372036854775807"}, DelayWish{Timed: true, After: true, At: math.MaxInt64 / 1000 * 1000}, true, nil},
		{"too many seconds", []string{"TIMER_DELAY_SEC", "9223372036854775808"}, DelayWish{}, false, ErrBadProperty},
		{"time that is no number", []string{"TIMER_DELIVER_MS", "1e3"}, DelayWish{}, false, ErrBadProperty},
		{"been through it", []string{"TIMER_DELIVER_MS", "5", "TIMER_OUT_MS", "5"}, DelayWish{Timed: true, At: 5, Prepared: true}, true, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := Message{Properties: NewProperties(c.pairs...)}
			w, ok, err := m.Delay()
			require.Equal(t, c.ok, ok)
			if c.err != nil {
				require.ErrorIs(t, err, c.err)
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.want, w)
		})
	}
}

func TestSetDelay(t *testing.T) {
	var m Message
	m.SetDelayLevel(4)
	m.SetDeliverAt(time.UnixMilli(77).Add(1))
	require.Equal(t, "DELAY\x014\x02TIMER_DELIVER_MS\x0178\x02", string(m.Properties.Encoded()))
	m.SetDelayLevel(0)
	m.SetDeliverAt(time.Time{})
	require.Empty(t, m.Properties.Encoded())
	m.Properties.Set(PropertyTimerDelaySec, "5")
	m.SetDeliverAt(time.UnixMilli(77))
	require.Equal(t, "TIMER_DELIVER_MS\x0177\x02", string(m.Properties.Encoded()))
}

func FuzzDelay(f *testing.F) {
	f.Add([]byte("DELAY\x013\x02TIMER_DELAY_SEC\x015\x02"))
	f.Add([]byte("TIMER_DELIVER_MS\x01x"))
	f.Fuzz(func(t *testing.T, block []byte) {
		m := Message{Properties: PropertiesFromEncoded(block)}
		w, ok, err := m.Delay()
		require.False(t, ok && err != nil)
		if ok {
			require.NotEqual(t, w.Level != 0, w.Timed)
		}
	})
}

// What wishes nothing costs no memory.
func TestDelayAllocates(t *testing.T) {
	m := Message{Properties: NewProperties("TAGS", "x", "KEYS", "y z", "DELAYED", "x", "UNIQ_KEY", "abc")}
	require.Zero(t, testing.AllocsPerRun(100, func() { _, _, _ = m.Delay() }))
}
