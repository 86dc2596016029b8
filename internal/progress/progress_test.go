// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package progress

import (
	"bytes"
	"io"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pass lets the bubble's clock go on.
func pass(d time.Duration) { <-time.After(d) }

// terminal is a Screen of a width, and what was written to it.
func terminal(width int) (*Screen, *bytes.Buffer) {
	var b bytes.Buffer
	return &Screen{w: &b, width: func() int { return width }}, &b
}

// lines are what was drawn, one after the other; "" is a line that was taken away.
func lines(b *bytes.Buffer) []string {
	return strings.Split(b.String(), clearLine)[1:]
}

func TestBar(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, b := terminal(80)
		bar := s.Start(Bytes, "verify", 100<<20)
		for range 12 { // 3 s at 4 MiB/s
			bar.Add(1 << 20)
			pass(every)
			synctest.Wait()
		}
		bar.Stop()
		bar.Stop()
		got := lines(b)
		require.Equal(t, "verify  4 %  4.0 MiB of 100.0 MiB  4.0 MiB/s  24s left", got[0], "nothing was shown in the first second")
		require.Equal(t, "verify  12 %  12.0 MiB of 100.0 MiB  4.0 MiB/s  22s left", got[len(got)-2])
		require.Empty(t, got[len(got)-1], "it is taken away")
		require.Len(t, got, 10)
	})
}

func TestBarThatIsQuickShowsNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, b := terminal(80)
		bar := s.Start(Bytes, "verify", 100)
		pass(900 * time.Millisecond)
		bar.Stop()
		require.Empty(t, b.String())
	})
}

func TestNoTerminal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var b bytes.Buffer
		s := NewScreen(&b)
		bar := s.Start(Bytes, "verify", 100)
		require.Nil(t, bar)
		bar.Add(1)
		bar.Set(2, 3)
		bar.Text("x")
		pass(5 * time.Second)
		_, err := io.WriteString(s, "words\n")
		require.NoError(t, err)
		bar.Stop()
		require.Equal(t, "words\n", b.String())
		require.Equal(t, io.Writer(&b), s.Beside(&b))
	})
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	require.NoError(t, err)
	defer func() { _ = null.Close() }()
	require.Nil(t, columns(null))
}

// TestWordsAndData mixes a bar with words on stderr and data on the same terminal.
func TestWordsAndData(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, b := terminal(40)
		data := &beside{s, b}
		bar := s.Start(Steps, "round 1: a case with a name too long to fit", 4)
		bar.Set(1, 4)
		pass(patience)
		synctest.Wait()
		require.Equal(t, []string{"round 1: a case with a name too long to"}, lines(b), "it fits")
		b.Reset()
		_, err := io.WriteString(s, "words\n")
		require.NoError(t, err)
		require.Equal(t, clearLine+"words\n", b.String())
		b.Reset()
		_, err = io.WriteString(data, "half a line")
		require.NoError(t, err)
		pass(10 * every)
		synctest.Wait()
		require.Equal(t, "half a line", b.String(), "nothing is drawn over it")
		_, err = io.WriteString(data, " and its end\n")
		require.NoError(t, err)
		b.Reset()
		bar.Text("round 2")
		bar.Set(2, 4)
		pass(every)
		synctest.Wait()
		require.Equal(t, []string{"round 2  50 %  4s left"}, lines(b))
		bar.Stop()
	})
}

func TestLine(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		want  string
		m     meter
		total int64
	}{
		{"x  0 B  0 B/s", meter{}, 0},
		{"x  5.0 KiB  1.0 KiB/s", meter{done: 5 << 10, rate: 1 << 10}, 0},
		{"x  5.0 KiB  1.0 KiB/s", meter{done: 5 << 10, rate: 1 << 10}, 100}, // more than there should be
		{"x  99 %  100 B of 100 B  10 B/s  0s left", meter{done: 100, rate: 10}, 100},
		{"x  0 %  1 B of 7168.0 TiB  1 B/s  very long left", meter{done: 1, rate: 1}, 7 << 50},
		{"x  0 %  1 B of 1.0 MiB  1 B/s  12d03h left", meter{done: 1, rate: 1}, 1 << 20},
		{"x  50 %  1.5 GiB of 3.0 GiB  128.0 KiB/s  3h24m left", meter{done: 3 << 29, rate: 1 << 17}, 3 << 30},
		{"x  25 %  1m30s left", meter{unit: Steps, done: 1, rate: 1. / 30}, 4},
	} {
		require.Equal(t, tt.want, tt.m.line("x", tt.total))
	}
}
