// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package experiment

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/stretchr/testify/require"
)

func TestSpreadOf(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		values   []float64
		want     spread
		relative float64
	}{
		{"nothing", nil, spread{}, 0},
		{"one", []float64{3}, spread{3, 3, 3}, 0},
		{"odd", []float64{9, 1, 4}, spread{1, 4, 9}, 2},
		{"even", []float64{4, 1, 2, 8}, spread{1, 3, 8}, 7. / 3},
		{"zeros", []float64{0, 0}, spread{}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := spreadOf(c.values)
			require.Equal(t, c.want, s)
			require.InDelta(t, c.relative, s.relative(), 1e-9)
		})
	}
}

// histogram holds 1 to n microseconds, once each.
func histogram(n int) *hdrhistogram.Histogram {
	h := newHistogram()
	for i := 1; i <= n; i++ {
		_ = h.RecordValue(int64(i) * 1000)
	}
	return h
}

func TestDistribution(t *testing.T) {
	t.Parallel()
	d := distribution("x", 3, []*hdrhistogram.Histogram{histogram(1000), histogram(2000), histogram(3000)})
	require.Equal(t, int64(6000), d.Count)
	require.Equal(t, 3, d.Row)
	points := map[float64]Point{}
	last := 0.0
	for _, p := range d.Points {
		points[p.Percentile] = p
		require.Greater(t, p.Percentile, last)
		last = p.Percentile
	}
	// The median of the rounds, with three digits.
	require.InEpsilon(t, 1000, points[50].Value, 0.002)
	require.InEpsilon(t, 500, points[50].Low, 0.002)
	require.InEpsilon(t, 1500, points[50].High, 0.002)
	// The greatest of the rounds.
	require.InEpsilon(t, 3000, points[100].Value, 0.002)
	require.InEpsilon(t, 1000, points[100].Low, 0.002)
	// The round of 1,000 has one operation above p99.9 and none above p99.99.
	require.Contains(t, points, 99.9)
	require.NotContains(t, points, 99.95)

	require.Empty(t, distribution("nothing", 0, []*hdrhistogram.Histogram{newHistogram()}).Points)
}

func TestNoise(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		rounds int
		floors []spread
		warns  []string
	}{
		{"even", 5, []spread{{95, 100, 105}, {200, 200, 249}}, nil},
		{"one case is not", 5, []spread{{95, 100, 105}, {200, 200, 251}}, []string{"noisy machine.*26 %"}},
		{"too few", 2, []spread{{1, 1, 1}}, []string{"fewer than 3 rounds"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := &Report{Rounds: c.rounds}
			r.noise(c.floors)
			require.Len(t, r.Warnings, len(c.warns))
			for i, w := range c.warns {
				require.Regexp(t, w, r.Warnings[i])
			}
		})
	}
}

// sample is a report with everything in it, and texts that must be escaped.
func sample() *Report {
	r := &Report{
		Experiment: "append", Command: "storectl bench append --size '<b>'", Time: time.Unix(1_790_000_000, 0), Took: 1500 * time.Millisecond,
		Rounds: 3, NoiseSpread: 0.3, Environment: Environment{CPU: "A <script>", CPUs: 2, FileSystem: "ext4", Dir: "/tmp/a&b", MemlockBytes: 8 << 20},
		Columns: []Column{
			{Name: "name", Title: "NAME"}, {Name: "perSec", Title: "PER S"}, {Name: "us", Title: "µs", Decimals: 2},
			{Name: "floor", Title: "FLOOR"}, {Name: "low"}, {Name: "high"},
		},
		Rows: [][]any{
			{"first & foremost", 1234567.4, 0.3156, 2e6, 1e6, 1.4e6},
			{"second", 900.0, math.NaN(), 1000.0, 800.0, 950.0},
			{"third", int64(12), nil, nil, nil, nil},
		},
		Labels:   []string{"first & foremost", "second", "third"},
		Bars:     Bars{Value: "perSec", Low: "low", High: "high", Floor: "floor", Title: "Throughput", Unit: "messages/s"},
		Notes:    []string{"a note"},
		Warnings: []string{"a <warning>"},
	}
	for i, n := range []int{2000, 1_000_000} {
		name := []string{"first & foremost", "second"}[i]
		r.Distributions = append(r.Distributions, distribution(name, i, []*hdrhistogram.Histogram{histogram(n)}))
	}
	return r
}

func TestReportJSON(t *testing.T) {
	t.Parallel()
	text, err := json.Marshal(sample())
	require.NoError(t, err)
	var got map[string]any
	require.NoError(t, json.Unmarshal(text, &got))
	require.Equal(t, "append", got["experiment"])
	require.InEpsilon(t, 1500, got["tookMs"], 1e-9)
	require.Equal(t, true, got["noisy"])
	require.Equal(t, "ext4", got["environment"].(map[string]any)["fileSystem"])
	rows := got["rows"].([]any)
	require.Len(t, rows, 3)
	require.Nil(t, rows[1].(map[string]any)["us"], "what is no number is null")
	require.Len(t, got["distributions"], 2)

	require.Equal(t, `{"name":"third","perSec":12,"us":null,"floor":null,"low":null,"high":null}`, string(sample().AppendRow(nil, 2)))

	text, err = json.Marshal(&Report{})
	require.NoError(t, err)
	require.Contains(t, string(text), `"warnings":[],"notes":[]`)
	require.Contains(t, string(text), `"rows":[],"distributions":[]`)
}

func TestReportTable(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	require.NoError(t, sample().WriteTable(&out))
	require.Regexp(t, `(?m)^CPU: +A <script>, 2 CPUs`, out.String())
	require.Regexp(t, `(?m)^Memlock: +8 MiB$`, out.String())
	require.Regexp(t, `(?m)^ +NAME +PER S +µs +FLOOR$`, out.String())
	require.Regexp(t, `(?m)^ +first & foremost +1,234,567 +0\.32 +2,000,000$`, out.String())
	require.Regexp(t, `(?m)^ +third +12 +- +-$`, out.String())
	require.Regexp(t, `(?m)^Warning: a <warning>$`, out.String())

	broken, w := io.Pipe()
	require.NoError(t, broken.Close())
	require.ErrorIs(t, sample().WriteTable(w), io.ErrClosedPipe)
}

// TestReportHTML holds what a reader can't see: that the page is whole, needs
// nothing from elsewhere, and takes its colours from itself.
func TestReportHTML(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	require.NoError(t, sample().WriteHTML(&out))
	page := out.String()
	require.NotRegexp(t, `(?i)<script|<link|@import|\bsrc=|url\(`, page)
	for _, address := range regexp.MustCompile(`https?://[^"' ]*`).FindAllString(page, -1) {
		require.Contains(t, address, "//www.w3.org/", "the name of a format is all that looks like an address")
	}
	require.Contains(t, page, "first &amp; foremost")
	require.Contains(t, page, "A &lt;script&gt;")
	require.Contains(t, page, "a &lt;warning&gt;")
	require.NotContains(t, page, "ZgotmplZ", "html/template has refused a value")
	require.Contains(t, page, "prefers-color-scheme: dark")

	charts := regexp.MustCompile(`(?s)<svg xmlns.*?</svg>`).FindAllString(page, -1)
	require.Len(t, charts, 2, "one for wide pages and one for narrow ones")
	for _, c := range charts {
		requireXML(t, c)
		// A colour of its own would not follow the page's.
		require.NotContains(t, strings.ReplaceAll(c, `style="stroke:none;fill:none"`, ""), "style=")
		require.Equal(t, 2, strings.Count(c, `class="curve c`))
		require.Contains(t, c, ">max</text>")
		require.Contains(t, c, "percentile, %")
		require.Contains(t, c, "µs</text>")
		require.NotContains(t, c, "NaN")
	}
	require.Equal(t, 3, strings.Count(page, `class="track"`))
	require.Equal(t, 2, strings.Count(page, `class="floor"`))

	out.Reset()
	require.NoError(t, (&Report{Experiment: "nothing"}).WriteHTML(&out))
	require.NotContains(t, out.String(), "<svg")
}

func requireXML(t *testing.T, text string) {
	t.Helper()
	for d := xml.NewDecoder(strings.NewReader(text)); ; {
		_, err := d.Token()
		if errors.Is(err, io.EOF) {
			return
		}
		require.NoError(t, err)
	}
}

func TestShort(t *testing.T) {
	t.Parallel()
	for v, want := range map[float64]string{0: "0", 7: "7", 999: "999", 1000: "1 k", 231_400: "231 k", 6_424_479: "6.42 M", 3e9: "3 G"} {
		require.Equal(t, want, short(v))
	}
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", -1234567: "-1,234,567", -123: "-123"} {
		require.Equal(t, want, thousands(n))
	}
	for us, want := range map[float64]string{0.1: "100 ns", 1: "1 µs", 1000: "1 ms", 2.5e6: "2.5 s"} {
		require.Equal(t, want, formatMicros(us))
	}
	for most, want := range map[float64]float64{1: 0.2, 9: 2, 12: 5, 60e6: 20e6, 4.2: 1} {
		require.InDelta(t, want, niceStep(most), 1e-9, "%v", most)
	}
}

// TestReportOfParts is a report that has no rows of its own.
func TestReportOfParts(t *testing.T) {
	t.Parallel()
	part := sample()
	part.Title, part.Distributions = "first <part>", nil
	part.Bars.Floor = ""
	whole := &Report{Experiment: "peers", Title: "All & sundry", Rounds: 3, Parts: []*Report{part, {Title: "second part"}}}

	var table bytes.Buffer
	require.NoError(t, whole.WriteTable(&table))
	require.Regexp(t, `(?s)first <part>\n.*third +12.*\na note\n.*second part\n`, table.String())
	require.NotContains(t, table.String(), "floor varied", "there is none")

	var page bytes.Buffer
	require.NoError(t, whole.WriteHTML(&page))
	require.Contains(t, page.String(), "<h1>All &amp; sundry</h1>")
	require.Contains(t, page.String(), "<h2>first &lt;part&gt;</h2>")
	require.Equal(t, 3, strings.Count(page.String(), `class="track"`))
	require.NotContains(t, page.String(), "the floor varied")
	require.NotContains(t, page.String(), ">Figures<", "it has none of its own")

	text, err := json.Marshal(whole)
	require.NoError(t, err)
	var got struct {
		Parts []struct {
			Title string
			Rows  []map[string]any
			Notes []string
		}
	}
	require.NoError(t, json.Unmarshal(text, &got))
	require.Len(t, got.Parts, 2)
	require.Equal(t, "first <part>", got.Parts[0].Title)
	require.Equal(t, []string{"a note"}, got.Parts[0].Notes)
	require.Len(t, got.Parts[0].Rows, 3)
	require.Equal(t, "third", got.Parts[0].Rows[2]["name"])
}
