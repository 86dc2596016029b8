// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package tidy

// modulePath is ours, as go.mod has it.
const modulePath = "github.com/stelelog/stele"

// newestGo is the newest Go that go.mod may ask for.
const newestGo = "1.26.0"

// Limits that keep a file fit to be read in a sitting. Tests are exempt: a table
// is as long as it is.
const (
	maxFileLines     = 400
	maxFunctionLines = 70
)

// house is what the rules go by.
type house struct {
	// floors has every package, by its directory.
	floors map[string]int
	// testOnly are packages that only tests may import, from any floor.
	testOnly map[string]bool
	// never are imports that the floors would allow.
	never map[string][]string
	// outside are the import paths of other modules that a package may use,
	// with everything below them. testOutside adds to it for its tests, and
	// allTests for everybody's.
	outside     map[string][]string
	testOutside map[string][]string
	allTests    []string
	// panics are the functions that may panic, as directory.Function.
	panics map[string]bool
}

var ours = house{
	floors: map[string]int{
		"message":               0,
		"internal/watermark":    0,
		"internal/wallclock":    0,
		"internal/brokerconfig": 0,
		"retention":             0,
		"internal/fusefs":       0,
		"warmup":                0,
		"internal/latency":      0,
		"internal/progress":     0,

		"mappedfile":          1,
		"delivery":            1,
		"internal/checkpoint": 1,

		"commitlog":          2,
		"consumequeue":       2,
		"keyindex":           2,
		"timeindex":          2,
		"topicmeta":          2,
		"delay":              2,
		"internal/layout":    2,
		"internal/marks":     2,
		"internal/crashdisk": 2,

		"store":   3,
		"inspect": 3,

		"experiment": 4,
		"transfer":   4,
		"rebuild":    4,
		"interop":    4,

		"cmd/storectl":   5,
		"examples/serve": 5,

		// Imports nothing of ours and nobody imports it.
		"internal/tidy": 5,
	},
	testOnly: map[string]bool{"internal/crashdisk": true, "internal/fusefs": true},
	never: map[string][]string{
		// A tool that opens any directory read-only must not bring a database
		// along that could write to it.
		"inspect": {"topicmeta"},
	},
	outside: map[string][]string{
		"message":          {"github.com/klauspost/compress/zstd", "github.com/pierrec/lz4/v4"},
		"warmup":           {"golang.org/x/sys/unix"},
		"internal/latency": {"github.com/HdrHistogram/hdrhistogram-go"},
		"mappedfile":       {"github.com/edsrzf/mmap-go", "golang.org/x/sys/unix"},
		"delivery":         {"golang.org/x/sys/unix"},
		"topicmeta":        {"github.com/cockroachdb/pebble/v2"},
		"store":            {"github.com/cockroachdb/pebble/v2/vfs"}, // the seam of topicmeta
		"inspect":          {"golang.org/x/sys/unix"},
		"rebuild":          {"golang.org/x/sys/unix"},
		// The chart library draws SVG; nobody but storectl brings it along.
		"experiment":   {"github.com/HdrHistogram/hdrhistogram-go", "github.com/go-analyze/charts/chartdraw", "golang.org/x/sys/unix"},
		"cmd/storectl": {"github.com/spf13/cobra", "github.com/spf13/pflag"},
		// It asks the terminal.
		"internal/progress": {"golang.org/x/sys/unix"},
		// Only tests import it, so nobody who uses Stele compiles what it needs.
		"internal/fusefs": {"github.com/hanwen/go-fuse/v2/fuse", "golang.org/x/sys/unix"},
	},
	testOutside: map[string][]string{
		"warmup":       {"github.com/edsrzf/mmap-go"},
		"commitlog":    {"golang.org/x/sys/unix"},
		"store":        {"golang.org/x/sys/unix"},
		"cmd/storectl": {"github.com/rogpeppe/go-internal/testscript", "golang.org/x/sys/unix"},
		"interop":      {"github.com/cockroachdb/pebble/v2/vfs"},
	},
	allTests: []string{"github.com/stretchr/testify", "go.uber.org/goleak"},
	panics: map[string]bool{
		// They pass on what is not the fault that they are there for.
		"inspect.guard":      true,
		"mappedfile.asFault": true,
	},
}
