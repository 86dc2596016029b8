// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package message

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseTagFilter(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		expression string
		tags       []string
	}{
		{"", nil},
		{"*", nil},
		{" * ", nil},
		{"A", []string{"A"}},
		{"  A\t", []string{"A"}},
		{"A || B", []string{"A", "B"}},
		{"B||A||B", []string{"A", "B"}},
		{"A ||", []string{"A"}},
		{"|| A", []string{"A"}},
		{"A || || B", []string{"A", "B"}},
		{"two words || x", []string{"two words", "x"}},
		{"A*", []string{"A*"}},
		{"标签 || \U0001F600", []string{"标签", "\U0001F600"}},
	} {
		f, err := ParseTagFilter(tt.expression)
		require.NoError(t, err, "%q", tt.expression)
		require.Equal(t, tt.tags, f.Tags(), "%q", tt.expression)
		require.Equal(t, len(tt.tags) == 0, f.All(), "%q", tt.expression)
		again, err := ParseTagFilter(f.String())
		require.NoError(t, err)
		require.Equal(t, f, again)
	}
	for expression, says := range map[string]string{
		"||":            "no tag",
		"|| ||":         "no tag",
		" ":             "no tag",
		"A | B":         "single |",
		"A ||| B":       "single |",
		"A || *":        "part 2 is a *",
		"* || A":        "part 1 is a *",
		"A || B\x02C":   "0x02",
		"A || B | C":    `"B | C"`,
		"||||||||||| *": "single |",
	} {
		_, err := ParseTagFilter(expression)
		require.ErrorIs(t, err, ErrTagExpression, "%q", expression)
		require.ErrorContains(t, err, says, "%q", expression)
	}
}

func TestTagFilterMatches(t *testing.T) { // not parallel: it counts allocations
	tagged := func(tag string) *Message {
		m := &Message{Topic: "T"}
		if tag != "" {
			m.SetTags(tag)
		}
		return m
	}
	f, err := ParseTagFilter("Aa || TagA")
	require.NoError(t, err)
	require.EqualValues(t, 2598919, HashString("TagA"), "the vector of the format")
	require.Equal(t, HashString("Aa"), HashString("BB"), "a collision")
	for tag, want := range map[string]bool{
		"Aa": true, "TagA": true, "BB": false, "": false, "aa": false, "Aa || TagA": false, "Aa ": false,
	} {
		require.Equal(t, want, f.Match(tagged(tag)), "%q", tag)
	}
	require.True(t, f.MayMatch(2598919))
	require.True(t, f.MayMatch(TagsCode([]byte("BB"))), "the tag itself decides")
	require.False(t, f.MayMatch(0))
	require.False(t, f.MayMatch(2598920))
	require.True(t, f.MayMatch(1_700_000_000_000), "a time of delivery")
	require.True(t, f.MayMatch(math.MinInt32-1), "an address in the consume queue extension")

	var all TagFilter
	require.True(t, all.Match(tagged("")))
	require.True(t, all.Match(tagged("x")))
	require.True(t, all.MayMatch(0))
	bars := FilterTags("a|b")
	require.True(t, bars.Match(tagged("a|b")), "what no expression can say")
	require.False(t, FilterTags("").Match(tagged("")))
	negative := FilterTags("polygenelubricants") // its hash is the smallest number
	require.True(t, negative.MayMatch(math.MinInt32))

	require.Zero(t, testing.AllocsPerRun(100, func() {
		if !f.MayMatch(2598919) || f.Match(&Message{}) {
			t.Fatal()
		}
	}))
}

// FuzzParseTagFilter holds an expression that parses against what Java's split and trim
// make of it.
func FuzzParseTagFilter(f *testing.F) {
	for _, s := range []string{"", "*", "A || B", "||", "A | B", " a||b || ", "|||", "\x01||\x02"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := ParseTagFilter(s)
		if err != nil {
			require.ErrorIs(t, err, ErrTagExpression)
			require.True(t, got.All())
			return
		}
		var want []string
		for part := range strings.SplitSeq(s, "||") {
			if part = strings.TrimFunc(part, func(r rune) bool { return r <= ' ' }); part != "" && part != "*" {
				want = append(want, part)
			}
		}
		slices.Sort(want)
		require.Equal(t, slices.Compact(want), got.Tags())
		for _, tag := range got.Tags() {
			require.True(t, got.MayMatch(TagsCode([]byte(tag))))
		}
	})
}
