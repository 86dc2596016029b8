// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package tidy

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
)

// small is a house of four packages that keeps all rules.
var small = house{
	floors:      map[string]int{"low": 0, "high": 1, "peer": 1, "sim": 1},
	testOnly:    map[string]bool{"sim": true},
	never:       map[string][]string{"peer": {"low"}},
	outside:     map[string][]string{"high": {"example.org/db/v2"}},
	testOutside: map[string][]string{"high": {"example.org/script"}},
	allTests:    []string{"example.org/assert"},
	panics:      map[string]bool{"high.mayPanic": true},
}

// sound is its files; a name and a text.
func sound() map[string]string {
	return map[string]string{
		"go.mod":         "module " + modulePath + "\n\ngo " + newestGo + "\n",
		"README.md":      "[a](docs/page.md#there) [b](https://example.org) [c](#here) [d](low)\n",
		"docs/page.md":   "[back](../README.md)\n",
		"low/doc.go":     header + "// Package low is low. See docs/page.md.\npackage low\n",
		"peer/doc.go":    header + "// Package peer is a peer.\npackage peer\n",
		"sim/doc.go":     header + "// Package sim simulates.\npackage sim\n\nimport _ \"" + modulePath + "/low\"\n",
		"high/doc.go":    header + "// Package high is high.\npackage high\n",
		"high/high.go":   header + "package high\n\nimport (\n\t_ \"example.org/db/v2/vfs\"\n\t_ \"" + modulePath + "/low\"\n\t\"time\"\n)\n\nfunc mayPanic() { panic(time.Now()) }\n",
		"low/a_test.go":  header + "package low_test\n\nimport (\n\t_ \"example.org/assert/require\"\n\t_ \"" + modulePath + "/low\"\n\t_ \"" + modulePath + "/sim\"\n)\n",
		"high/a_test.go": header + "package high\n\nimport (\n\t_ \"example.org/script\"\n\t_ \"" + modulePath + "/peer\"\n)\n\nfunc boom() { panic(1) }\n",

		"docs/decisions/0001-first.md": "# 1\n\n" + strings.Join(decisionParts, "\n\n") + "\n",
		"low/testdata/x.go":            "not Go at all",
		".cache/x.go":                  "not Go at all",

		// A module of its own imports what it likes, from a floor that it has not.
		"other/go.mod": "module " + modulePath + "/other\n\ngo 1.0\n\nreplace " + modulePath + " => ..\n",
		"other/doc.go": header + "// Command other is another module.\npackage main\n\nimport (\n\t_ \"example.net/any\"\n\t_ \"" + modulePath + "/high\"\n)\n",
	}
}

func read(t *testing.T, files map[string]string) *tree {
	t.Helper()
	m := fstest.MapFS{}
	for name, text := range files {
		m[name] = &fstest.MapFile{Data: []byte(text)}
	}
	tr, err := readTree(m)
	require.NoError(t, err)
	return tr
}

func TestSoundHouse(t *testing.T) {
	t.Parallel()
	tr := read(t, sound())
	for name, check := range rules {
		require.Empty(t, check(tr, &small), name)
	}
}

// TestPlanted puts one violation at a time into the sound house.
func TestPlanted(t *testing.T) {
	t.Parallel()
	ours := func(dir string) string { return "import _ \"" + modulePath + "/" + dir + "\"\n" }
	code := func(pkg, body string) string { return header + "package " + pkg + "\n\n" + body }
	tests := []struct {
		name string
		rule string
		file string
		text string
		want string // in what is found, which is one thing
	}{
		{"up", "floors", "low/x.go", code("low", ours("high")), "low/x.go: imports high: floor 0 stands on floor 1"},
		{"up, under a build tag", "floors", "low/x_darwin.go", code("low", ours("high")), "imports high"},
		{"up, in a test", "floors", "low/x_test.go", code("low", ours("high")), "imports high"},
		{"sideways", "floors", "high/x.go", code("high", ours("peer")), "floor 1 stands on floor 1"},
		{"test disk outside a test", "floors", "high/x.go", code("high", ours("sim")), "only tests may"},
		{"forbidden below", "floors", "peer/x.go", code("peer", ours("low")), "imports low: never"},
		{"no floor", "floors", "new/x.go", code("new", ""), "new: the package has no floor"},

		{"outside module", "outside modules", "low/x.go", code("low", "import _ \"example.org/db/v2\"\n"), "imports example.org/db/v2"},
		{"outside module with the same start", "outside modules", "high/x.go", code("high", "import _ \"example.org/db/v20\"\n"), "v20"},
		{"test module outside a test", "outside modules", "high/x.go", code("high", "import _ \"example.org/assert\"\n"), "assert"},
		{"another's test module", "outside modules", "low/x_test.go", code("low", "import _ \"example.org/script\"\n"), "script"},

		{"vague name", "package names", "low/common/x.go", code("common", ""), "common"},
		{"vague name of a test package", "package names", "low/x_test.go", code("util_test", ""), "util"},
		{"vague directory", "package names", "low/base/x.go", code("ground", ""), "low/base/x.go"},

		{"no package comment", "package comments", "high/sub/x.go", code("sub", ""), "high/sub"},
		{"comment in a test only", "package comments", "high/sub/x_test.go", header + "// Package sub is.\npackage sub\n", "high/sub"},

		{"no header", "licence header", "low/x.go", "package low\n", "low/x.go"},
		{"header of others", "licence header", "low/x.go", "// Copyright 2020 Others.\n" + header + "package low\n", "low/x.go"},
		{"header as the package comment", "licence header", "low/x.go", strings.TrimSuffix(header, "\n") + "package low\n", "low/x.go"},

		{"long file", "length", "low/x.go", code("low", strings.Repeat("// x\n", maxFileLines)), "at most 400"},
		{"long function", "length", "low/x.go", code("low", "func f() {\n"+strings.Repeat("\n", maxFunctionLines)+"}\n"), "low/x.go:6: f"},

		{"sleep", "no sleep", "low/x.go", code("low", "import \"time\"\n\nfunc f() { time.Sleep(1) }\n"), "low/x.go:8"},
		{"sleep in a test", "no sleep", "low/x_test.go", code("low", "import \"time\"\n\nfunc f() { time.Sleep(1) }\n"), "low/x_test.go:8"},
		{"sleep in another module", "no sleep", "other/x.go", code("main", "import \"time\"\n\nfunc f() { time.Sleep(1) }\n"), "other/x.go:8"},
		{"sleep by another name", "no sleep", "low/x.go", code("low", "import clock \"time\"\n\nvar f = clock.Sleep\n"), "low/x.go:8"},

		{"panic", "no panic", "high/x.go", code("high", "func f() { panic(1) }\n"), "high/x.go:6"},
		{"panic in a variable", "no panic", "high/x.go", code("high", "var f = func() { panic(1) }\n"), "high/x.go:6"},
		{"panic in a function that may elsewhere", "no panic", "low/x.go", code("low", "func mayPanic() { panic(1) }\n"), "low/x.go:6"},

		{"init", "no init", "low/x.go", code("low", "func init() {}\n"), "low/x.go:6"},
		{"leftover", "no leftovers", "low/x.go", code("low", "// TO"+"DO: later\n"), "low/x.go:6"},
		{"leftover in a test", "no leftovers", "low/x_test.go", code("low", "var x int // FIX"+"ME\n"), "low/x_test.go:6"},

		{"dead link", "links", "docs/page.md", "[x](gone.md)", "gone.md"},
		{"dead link to a file beside the root", "links", "docs/page.md", "[x](README.md)", "docs/page.md"},
		{"dead page in a comment", "links", "low/x.go", code("low", "// See docs/format/gone.md.\n"), "docs/format/gone.md"},

		{"newer Go", "go version", "go.mod", "module x\n\ngo 1.99\n", "1.99"},
		{"toolchain", "go version", "go.mod", "module x\n\ngo " + newestGo + "\n\ntoolchain go1.99\n", "toolchain"},
		{"replace", "go version", "go.mod", "module x\n\ngo " + newestGo + "\n\nreplace a => ../a\n", "replace"},

		{"two decisions with one number", "decisions", "docs/decisions/0001-second.md", "# 1\n\n" + strings.Join(decisionParts, "\n\n") + "\n", "number 0001 is taken"},
		{"decision without a price", "decisions", "docs/decisions/0002-x.md", "# 2\n\n## Context\n\n## Choice\n\n## What would change our mind\n", "Price"},
		{"decision without a number", "decisions", "docs/decisions/x.md", "", "want NNNN-title.md"},
	}
	used := map[string]bool{}
	for _, tt := range tests {
		used[tt.rule] = true
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			files := sound()
			files[tt.file] = tt.text
			broken := rules[tt.rule](read(t, files), &small)
			require.Len(t, broken, 1)
			require.Contains(t, broken[0], tt.want)
		})
	}
	for name := range rules {
		require.True(t, used[name], "nothing is planted for the rule %q", name)
	}
}

func TestPlantedFloorOfNothing(t *testing.T) {
	t.Parallel()
	files := sound()
	delete(files, "peer/doc.go")
	delete(files, "high/a_test.go")
	require.Equal(t, []string{"peer: the table of floors names a package that is not there"}, floors(read(t, files), &small))
}

func TestUnreadableFile(t *testing.T) {
	t.Parallel()
	_, err := readTree(fstest.MapFS{"low/x.go": {Data: []byte("package")}})
	require.ErrorContains(t, err, "low/x.go")
}
