// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package inspect_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/commitlog"
	"github.com/stelelog/stele/inspect"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
)

// TestMessagesOfABroker compares each line with what RocketMQ's putMessage said
// when it stored the message.
func TestMessagesOfABroker(t *testing.T) {
	t.Parallel()
	for _, name := range []string{closed, killed} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := open(t, sample(t, name))
			var row []byte
			want := bufio.NewScanner(gunzip(t, filepath.Join("testdata", name+".ndjson.gz")))
			n := 0
			for r, err := range d.Messages(context.Background(), inspect.Filter{}) {
				require.NoError(t, err)
				require.True(t, want.Scan(), "the broker knows of no message %d", n)
				var got, fields map[string]any
				row = inspect.Row{Message: r.Message, Body: inspect.BodyStored}.AppendJSON(row[:0])
				require.NoError(t, json.Unmarshal(row, &got), "%s", row)
				require.NoError(t, json.Unmarshal(want.Bytes(), &fields))
				require.NotEmpty(t, fields)
				for k, v := range fields {
					require.Contains(t, got, k)
					require.Equal(t, v, got[k], "message %d, %s", n, k)
				}
				n++
			}
			require.False(t, want.Scan(), "message %d is missing", n)
			require.NoError(t, want.Err())
			require.Positive(t, n)
		})
	}
}

func TestFilterByUniqueKey(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := newWriter(t, dir, 64<<10)
	for i := range 5 {
		m := &message.Message{Topic: "t", Body: []byte("tea")}
		m.Properties.Set(message.PropertyUniqKey, fmt.Sprintf("7F0001-%d", i))
		m.Properties.Set(message.PropertyKeys, "7F0001-2")
		_, err := w.append(m)
		require.NoError(t, err)
	}
	require.NoError(t, w.log.Close())
	for want, keys := range map[int][]string{0: {"7F0001"}, 1: {"7F0001-2"}, 2: {"7F0001-3", "7F0001-4", "none"}} {
		got, errs := collect(t, open(t, dir), inspect.Filter{UniqKeys: keys})
		require.Empty(t, errs)
		require.Len(t, got, want)
	}
}

func patterns(exprs ...string) (all []*regexp.Regexp) {
	for _, e := range exprs {
		all = append(all, regexp.MustCompile(e))
	}
	return all
}

func bodyHas(m *message.Message, expr string) bool {
	body, err := m.PlainBody(0)
	return regexp.MustCompile(expr).Match(body) && err == nil
}

func propsHave(m *message.Message, expr string) bool {
	for _, v := range m.Properties.All() {
		if regexp.MustCompile(expr).MatchString(v) {
			return true
		}
	}
	return false
}

func TestFilter(t *testing.T) {
	t.Parallel()
	d := open(t, sample(t, closed))
	all, errs := collect(t, d, inspect.Filter{})
	require.Empty(t, errs)
	require.Len(t, all, 800)
	at := func(i int) message.Offset { return all[i].PhysicalOffset }
	key := func(m *message.Message, k string) bool {
		for _, have := range m.Keys() {
			if have == k {
				return true
			}
		}
		return false
	}
	noon := all[400].StoreTimestamp
	tests := map[string]struct {
		filter inspect.Filter
		want   func(m *message.Message) bool
	}{
		"topic":               {inspect.Filter{Topics: []string{"topic-1"}}, func(m *message.Message) bool { return m.Topic == "topic-1" }},
		"topic pattern":       {inspect.Filter{Topics: []string{"*-[12]"}}, func(m *message.Message) bool { return m.Topic != "topic-0" }},
		"several topics":      {inspect.Filter{Topics: []string{"x*", "topic-0", "topic-2"}}, func(m *message.Message) bool { return m.Topic != "topic-1" }},
		"queues":              {inspect.Filter{Queues: []int32{1, 3}}, func(m *message.Message) bool { return m.QueueID%2 == 1 }},
		"tag":                 {inspect.Filter{Tags: []string{"TagB"}}, func(m *message.Message) bool { return m.Tags() == "TagB" }},
		"no prefix of a tag":  {inspect.Filter{Tags: []string{"Tag"}}, func(*message.Message) bool { return false }},
		"first key":           {inspect.Filter{Keys: []string{"order-1"}}, func(m *message.Message) bool { return key(m, "order-1") }},
		"second key":          {inspect.Filter{Keys: []string{"user-13"}}, func(m *message.Message) bool { return key(m, "user-13") }},
		"either key":          {inspect.Filter{Keys: []string{"user-13", "order-2"}}, func(m *message.Message) bool { return key(m, "user-13") || key(m, "order-2") }},
		"from a record":       {inspect.Filter{From: at(500)}, func(m *message.Message) bool { return m.PhysicalOffset >= at(500) }},
		"from inside one":     {inspect.Filter{From: at(500) + 1}, func(m *message.Message) bool { return m.PhysicalOffset > at(500) }},
		"from the very first": {inspect.Filter{From: 1}, func(m *message.Message) bool { return m.PhysicalOffset > 0 }},
		"from behind the end": {inspect.Filter{From: 1 << 40}, func(*message.Message) bool { return false }},
		"to":                  {inspect.Filter{To: at(3)}, func(m *message.Message) bool { return m.PhysicalOffset < at(3) }},
		"to inside one":       {inspect.Filter{To: at(3) + 1}, func(m *message.Message) bool { return m.PhysicalOffset <= at(3) }},
		"from and to":         {inspect.Filter{From: at(3), To: at(9)}, func(m *message.Message) bool { return m.PhysicalOffset >= at(3) && m.PhysicalOffset < at(9) }},
		"since":               {inspect.Filter{Since: noon}, func(m *message.Message) bool { return m.StoreTimestamp >= noon }},
		"until":               {inspect.Filter{Until: noon}, func(m *message.Message) bool { return m.StoreTimestamp < noon }},
		"before all":          {inspect.Filter{Until: 1}, func(*message.Message) bool { return false }},
		"after all":           {inspect.Filter{Since: noon * 2}, func(*message.Message) bool { return false }},
		"no unique key":       {inspect.Filter{UniqKeys: []string{""}}, func(*message.Message) bool { return false }},
		"grep a topic":        {inspect.Filter{Grep: patterns("^topic-[12]$")}, func(m *message.Message) bool { return m.Topic != "topic-0" }},
		"grep a property":     {inspect.Filter{Grep: patterns("^TagB$", "^TagC$")}, func(m *message.Message) bool { return m.Tags() == "TagB" || m.Tags() == "TagC" }},
		"grep a body":         {inspect.Filter{Grep: patterns("[a-c]{3}")}, func(m *message.Message) bool { return bodyHas(m, "[a-c]{3}") || propsHave(m, "[a-c]{3}") }},
		"body grep":           {inspect.Filter{BodyGrep: patterns("[a-c]{3}")}, func(m *message.Message) bool { return bodyHas(m, "[a-c]{3}") }},
		"both greps":          {inspect.Filter{Grep: patterns("^TagB$"), BodyGrep: patterns("[a-c]{3}")}, func(m *message.Message) bool { return m.Tags() == "TagB" && bodyHas(m, "[a-c]{3}") }},
		"no tag in a body":    {inspect.Filter{BodyGrep: patterns("^TagB$")}, func(*message.Message) bool { return false }},
		"all of them": {
			inspect.Filter{Topics: []string{"topic-0"}, Queues: []int32{2}, Tags: []string{"TagA"}, Since: noon},
			func(m *message.Message) bool {
				return m.Topic == "topic-0" && m.QueueID == 2 && m.Tags() == "TagA" && m.StoreTimestamp >= noon
			},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var want []int64
			for _, m := range all {
				if tt.want(m) {
					want = append(want, int64(m.PhysicalOffset))
				}
			}
			got, errs := collect(t, d, tt.filter)
			require.Empty(t, errs)
			require.Len(t, got, len(want))
			if len(want) > 0 {
				require.Equal(t, want, offsets(got))
			}
			back := tt.filter
			back.Reverse = true
			got, errs = collect(t, d, back)
			require.Empty(t, errs)
			slices.Reverse(want)
			require.Equal(t, append([]int64{}, want...), offsets(got))
		})
	}
	t.Run("limit", func(t *testing.T) {
		t.Parallel()
		got, errs := collect(t, d, inspect.Filter{Queues: []int32{1}, Limit: 7})
		require.Empty(t, errs)
		require.Len(t, got, 7)
	})
	t.Run("a consumer that leaves", func(t *testing.T) {
		t.Parallel()
		n := 0
		for range d.Messages(context.Background(), inspect.Filter{}) {
			if n++; n == 3 {
				break
			}
		}
		require.Equal(t, 3, n)
	})
}

func TestBadFilter(t *testing.T) {
	t.Parallel()
	d := open(t, sample(t, closed))
	for text, f := range map[string]inspect.Filter{
		"syntax error in pattern": {Topics: []string{"a["}},
		"to 5 lies before":        {From: 10, To: 5},
		"negative offset":         {From: -1},
		"until lies before since": {Since: 10, Until: 5},
		"negative limit":          {Limit: -1},
	} {
		msgs, errs := collect(t, d, f)
		require.Empty(t, msgs)
		require.Len(t, errs, 1)
		require.ErrorContains(t, errs[0], text)
	}
}

// TestDamage damages a broker's log in one place each. Every other message must
// be there, and the damage told: where it begins and how many bytes it takes.
func TestDamage(t *testing.T) {
	t.Parallel()
	pristine, _ := collect(t, open(t, sample(t, closed)), inspect.Filter{})
	const fileSize = 262144
	rec := func(i int) (off, size int64) { return int64(pristine[i].PhysicalOffset), int64(pristine[i].Size) }
	firstOf2nd := 0
	for firstOf2nd < len(pristine) && pristine[firstOf2nd].PhysicalOffset < fileSize {
		firstOf2nd++
	}
	last := len(pristine) - 1
	end := int64(pristine[last].PhysicalOffset) + int64(pristine[last].Size)
	tests := map[string]struct {
		damage func(t *testing.T, dir string)
		gone   []int // messages
		at     int64
		bytes  int64
		cause  error
	}{
		"body": {
			damage: func(t *testing.T, dir string) { off, size := rec(10); flip(t, logFile(dir, 0), off+size/2) },
			gone:   []int{10}, cause: message.ErrBodyCRC,
		},
		"topic": {
			damage: func(t *testing.T, dir string) {
				off, _ := rec(10)
				flip(t, logFile(dir, 0), off+88+int64(len(pristine[10].Body))+3)
			},
			gone: []int{10}, cause: message.ErrPropertyCRC,
		},
		"magic":           {damage: func(t *testing.T, dir string) { off, _ := rec(10); flip(t, logFile(dir, 0), off+4) }, gone: []int{10}, cause: message.ErrMagic},
		"size too small":  {damage: func(t *testing.T, dir string) { off, _ := rec(10); patch(t, logFile(dir, 0), off, []byte{0, 0, 0, 1}) }, gone: []int{10}, cause: message.ErrLength},
		"size too large":  {damage: func(t *testing.T, dir string) { off, _ := rec(10); patch(t, logFile(dir, 0), off, []byte{0x7F}) }, gone: []int{10}, cause: message.ErrShort},
		"physical offset": {damage: func(t *testing.T, dir string) { off, _ := rec(10); flip(t, logFile(dir, 0), off+35) }, gone: []int{10}, cause: message.ErrPropertyCRC},
		"zeros": {
			damage: func(t *testing.T, dir string) {
				off, size := rec(10)
				patch(t, logFile(dir, 0), off, make([]byte, size))
			},
			gone: []int{10}, cause: commitlog.ErrEmpty,
		},
		"zeros over three records": {
			damage: func(t *testing.T, dir string) {
				off, size := rec(10)
				_, next := rec(11)
				patch(t, logFile(dir, 0), off+4, make([]byte, size+next))
			},
			gone: []int{10, 11, 12}, cause: nil,
		},
		"the first record": {damage: func(t *testing.T, dir string) { flip(t, logFile(dir, 0), 5) }, gone: []int{0}, cause: message.ErrMagic},
		"the first of the second file": {
			damage: func(t *testing.T, dir string) { flip(t, logFile(dir, fileSize), 5) },
			gone:   []int{firstOf2nd}, cause: message.ErrMagic,
		},
		"the last record": {
			damage: func(t *testing.T, dir string) { flip(t, logFile(dir, fileSize), end-fileSize-30) },
			gone:   []int{last}, bytes: 0, at: int64(pristine[last].PhysicalOffset), cause: message.ErrPropertyCRC,
		},
		"filler": {
			damage: func(t *testing.T, dir string) {
				off, size := rec(firstOf2nd - 1)
				flip(t, logFile(dir, 0), off+size+4)
			},
			at: int64(pristine[firstOf2nd-1].PhysicalOffset) + int64(pristine[firstOf2nd-1].Size), cause: message.ErrMagic,
		},
		"something behind the end": {
			damage: func(t *testing.T, dir string) { patch(t, logFile(dir, fileSize), end-fileSize, []byte("garbage")) },
			at:     end, cause: nil,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := sample(t, closed)
			tt.damage(t, dir)
			want := make([]int64, 0, len(pristine))
			for i, m := range pristine {
				if len(tt.gone) == 0 || i < tt.gone[0] || i > tt.gone[len(tt.gone)-1] {
					want = append(want, int64(m.PhysicalOffset))
				}
			}
			at, size := tt.at, tt.bytes
			if at == 0 && len(tt.gone) > 0 {
				at, _ = rec(tt.gone[0])
				next, _ := rec(tt.gone[len(tt.gone)-1] + 1)
				size = next - at
			}
			if name == "filler" {
				size = fileSize - at
			}
			got, errs := collect(t, open(t, dir), inspect.Filter{})
			require.Equal(t, want, offsets(got))
			require.Len(t, errs, 1)
			var damage *inspect.DamageError
			require.ErrorAs(t, errs[0], &damage)
			require.Equal(t, size, damage.Skipped)
			require.Equal(t, message.Offset(at), damage.Corrupt.Offset)
			require.Equal(t, logFile(dir, at/fileSize*fileSize), damage.Corrupt.Path)
			require.ErrorContains(t, errs[0], fmt.Sprintf("at offset %d: ", at))
			if tt.cause != nil {
				require.ErrorIs(t, errs[0], tt.cause)
			}
			// A filter on messages hides no damage, a bound on offsets does.
			got, errs = collect(t, open(t, dir), inspect.Filter{Topics: []string{"none"}})
			require.Empty(t, got)
			require.Len(t, errs, 1)
			if at > 0 {
				_, errs = collect(t, open(t, dir), inspect.Filter{To: message.Offset(at)})
				require.Empty(t, errs)
			}
		})
	}
}

// TestTimeBoundsOverManyFiles checks that skipping files skips no message.
func TestTimeBoundsOverManyFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := newWriter(t, dir, 4096)
	for i := range 200 {
		_, err := w.append(&message.Message{Topic: "t", Body: fmt.Appendf(nil, "%0200d", i)})
		require.NoError(t, err)
	}
	require.NoError(t, w.log.Close())
	d := open(t, dir)
	all, errs := collect(t, d, inspect.Filter{})
	require.Empty(t, errs)
	require.Len(t, all, 200)
	for _, since := range []int{0, 1, 11, 12, 13, 99, 199, 200} {
		for _, until := range []int{1, 12, 13, 14, 100, 200, 201} {
			f := inspect.Filter{Since: firstTime + int64(since)*1000, Until: firstTime + int64(until)*1000}
			if f.Until < f.Since {
				continue
			}
			got, errs := collect(t, d, f)
			require.Empty(t, errs)
			require.Len(t, got, max(0, min(until, 200)-since), "[%d, %d)", since, until)
			if len(got) > 0 {
				require.Equal(t, all[since].PhysicalOffset, got[0].PhysicalOffset)
			}
		}
	}
}

// TestFileExpiredMeanwhile removes a file that the iteration has listed and not
// reached.
func TestFileExpiredMeanwhile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := newWriter(t, dir, 4096)
	for i := range 100 {
		_, err := w.append(&message.Message{Topic: "t", Body: fmt.Appendf(nil, "%0200d", i)})
		require.NoError(t, err)
	}
	require.NoError(t, w.log.Close())
	var got []*message.Message
	for r, err := range open(t, dir).Messages(context.Background(), inspect.Filter{}) {
		require.NoError(t, err)
		if len(got) == 0 {
			require.NoError(t, os.Remove(logFile(dir, 4096)))
			require.NoError(t, os.Remove(logFile(dir, 8192)))
		}
		got = append(got, r.Clone())
	}
	for _, m := range got {
		require.False(t, m.PhysicalOffset >= 4096 && m.PhysicalOffset < 12288, "offset %d", m.PhysicalOffset)
	}
	require.Equal(t, message.QueueOffset(99), got[len(got)-1].QueueOffset)
	require.Less(t, len(got), 90)
}

// TestFileCutShort takes pages away from under the mapping, as a failing disk
// does: an error, not the end of the process.
func TestFileCutShort(t *testing.T) {
	t.Parallel()
	dir := sample(t, closed)
	n := 0
	var last error
	for _, err := range open(t, dir).Messages(context.Background(), inspect.Filter{}) {
		if n == 0 {
			require.NoError(t, os.Truncate(logFile(dir, 0), 64<<10))
		}
		n++
		last = err
	}
	require.Greater(t, n, 10)
	require.ErrorIs(t, last, inspect.ErrUnreadable)
}

func TestMessagesStopWithTheContext(t *testing.T) {
	t.Parallel()
	d := open(t, sample(t, closed))
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	n := 0
	var last error
	for _, err := range d.Messages(ctx, inspect.Filter{}) {
		cancel()
		n++
		last = err
	}
	require.ErrorIs(t, last, context.Canceled)
	require.Less(t, n, 300)
}

func TestLogThatIsNotInOrder(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		spoil func(t *testing.T, dir string)
		want  error
		left  int // messages that can still be read
	}{
		"stray file": {func(t *testing.T, dir string) {
			require.NoError(t, os.WriteFile(filepath.Join(dir, "commitlog", "x.tmp"), nil, 0o600))
		}, mappedfile.ErrStrayFile, 800},
		"wrong length": {func(t *testing.T, dir string) { require.NoError(t, os.Truncate(logFile(dir, 262144), 1000)) }, mappedfile.ErrFileSize, 580},
		"missing file": {func(t *testing.T, dir string) {
			require.NoError(t, os.Rename(logFile(dir, 262144), logFile(dir, 524288)))
		}, mappedfile.ErrMissingFile, 579},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := sample(t, closed)
			tt.spoil(t, dir)
			msgs, errs := collect(t, open(t, dir), inspect.Filter{})
			require.Len(t, msgs, tt.left)
			require.NotEmpty(t, errs)
			require.ErrorIs(t, errs[0], tt.want)
			require.ErrorAs(t, errs[0], new(*mappedfile.FileError))
		})
	}
}

// TestLogElsewhere reads a store whose log was moved.
func TestLogElsewhere(t *testing.T) {
	t.Parallel()
	dir := sample(t, closed)
	elsewhere := filepath.Join(t.TempDir(), "log")
	require.NoError(t, os.Rename(filepath.Join(dir, "commitlog"), elsewhere))
	d, err := inspect.Open(dir, inspect.Options{CommitLog: elsewhere})
	require.NoError(t, err)
	msgs, errs := collect(t, d, inspect.Filter{})
	require.Empty(t, errs)
	require.Len(t, msgs, 800)
}
