// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"math"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/mappedfile"
)

func TestDiagnoses(t *testing.T) {
	t.Parallel()
	const gib = int64(1) << 30
	one := func(r Diagnosis) []Diagnosis { return []Diagnosis{r} }
	for name, c := range map[string]struct {
		got    []Diagnosis
		levels string
		says   string // in what was found or advised
	}{
		"an empty disk":              {one(diagnoseSpace(mappedfile.Usage{Used: gib, Free: 99 * gib}, gib)), "ok", "1 % of the disk"},
		"a broker cleans":            {one(diagnoseSpace(mappedfile.Usage{Used: 80 * gib, Free: 20 * gib}, gib)), "note", "removes old files"},
		"a broker refuses":           {one(diagnoseSpace(mappedfile.Usage{Used: 91 * gib, Free: 9 * gib}, gib)), "problem", "from 90 % on"},
		"no room for the next files": {one(diagnoseSpace(mappedfile.Usage{Used: gib, Free: 2*gib - 1}, gib)), "problem", "no room for two more files of 1.0 GiB"},
		"a disk that does not tell":  {one(diagnoseSpace(mappedfile.Usage{}, 0)), "ok", "0 %"},
		"all blocks":                 {one(diagnoseReserved(0, 0, gib)), "ok", "every byte"},
		"holes, and room":            {one(diagnoseReserved(2, gib, gib)), "note", "2 files of the log have holes: 1.0 GiB"},
		"holes, and no room":         {one(diagnoseReserved(1, gib, gib-1)), "problem", "SIGBUS"},
		"few files":                  {one(diagnoseMaps(100, 65530)), "ok", "100 files"},
		"room for twice as many":     {one(diagnoseMaps(30265, 65530)), "ok", ""},
		"many files":                 {one(diagnoseMaps(30266, 65530)), "note", "sysctl -w vm.max_map_count=655360,"},
		"too many files":             {one(diagnoseMaps(60531, 65530)), "problem", "655360"},
		"very many files":            {one(diagnoseMaps(1e6, 65530)), "problem", "=4000000,"},
		"limits that suffice":        {diagnoseLimits(limits{files: 655350, locked: 2 * gib}, "of process 7", 1000, gib), "ok ok", "of process 7"},
		"no limits":                  {diagnoseLimits(limits{files: unlimited, locked: unlimited}, "", math.MaxInt32, gib), "ok ok", "unlimited"},
		"low limits":                 {diagnoseLimits(limits{files: 1024, locked: 8 << 20}, "of this shell", 1000, gib), "note note", "8.0 MiB may be locked"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var levels, text []string
			for _, r := range c.got {
				levels = append(levels, string(r.Level))
				text = append(text, r.Found, r.Advice)
				require.Equal(t, r.Level == LevelOK, r.Advice == "", "advice for what is not ok, and only for that: %v", r)
				require.NotEmpty(t, r.Check)
			}
			require.Equal(t, c.levels, strings.Join(levels, " "))
			require.Contains(t, strings.Join(text, "\n"), c.says)
		})
	}
}

func TestParseLimits(t *testing.T) {
	t.Parallel()
	const head = "Limit                     Soft Limit           Hard Limit           Units     \n"
	for name, c := range map[string]struct {
		text string
		want limits
		ok   bool
	}{
		"both":      {head + "Max open files            1024                 524288               files     \nMax locked memory         8388608              8388608              bytes     \n", limits{1024, 8 << 20}, true},
		"unlimited": {head + "Max open files            unlimited            unlimited            files     \nMax locked memory         unlimited            unlimited            bytes     \n", limits{unlimited, unlimited}, true},
		"one":       {head + "Max open files            1024                 524288               files     \n", limits{}, false},
		"no number": {head + "Max open files            many                 524288               files     \nMax locked memory         1 1 bytes\n", limits{}, false},
		"no limit":  {"Max open files ", limits{}, false},
		"nothing":   {"", limits{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, ok := parseLimits([]byte(c.text))
			require.Equal(t, c.ok, ok)
			if ok {
				require.Equal(t, c.want, got)
			}
		})
	}
	_, ok := limitsOf(os.Getpid())
	require.True(t, ok)
	_, ok = limitsOf(math.MaxInt32)
	require.False(t, ok)
	n, ok := maxMapCount()
	require.True(t, ok)
	require.Positive(t, n)
}
