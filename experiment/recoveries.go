// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package experiment

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/stelelog/stele/store"
)

// recoveries is the experiment of Recover.
type recoveries struct {
	config  RecoverConfig
	results []recovered // of each size, one for each ending
}

// recovered is what the rounds of one case came to.
type recovered struct{ opens []opening }

// opening is one Open.
type opening struct {
	took, floor time.Duration
	recovery    store.Recovery
	files       int
	bytes       int64
}

// ending is how the last owner of a store came to its end.
type ending struct {
	name    string
	prepare func(dir string) error
	is      func(store.Recovery) bool
}

// endings follow each other in one directory: the first is what the child leaves
// behind, and each Open is followed by a Close.
var endings = []ending{
	{"kill", func(string) error { return nil }, func(r store.Recovery) bool { return r.Kind == store.ProcessKilled }},
	{"clean close", func(string) error { return nil }, func(r store.Recovery) bool { return r.Kind == store.CleanClose && !r.Rebuilt }},
	{
		"queues lost",
		func(dir string) error { return os.RemoveAll(filepath.Join(dir, "consumequeue")) },
		func(r store.Recovery) bool { return r.Rebuilt },
	},
}

func timeOpen(ctx context.Context, dir string) (opening, error) {
	if ctx.Err() != nil {
		return opening{}, context.Cause(ctx)
	}
	start := time.Now()
	s, err := store.Open(dir, store.Options{MustExist: true})
	took := time.Since(start)
	if err != nil {
		return opening{}, err
	}
	st := s.Stats()
	return opening{took: took, recovery: st.Recovery, files: st.Files, bytes: int64(st.Appended - st.Min)}, s.Close()
}

// openEmpty is how long it takes to open a store that holds nothing.
func openEmpty(ctx context.Context, dir string) (time.Duration, error) {
	s, err := store.Open(dir, store.Options{})
	if err == nil {
		err = s.Close()
	}
	if err != nil {
		return 0, err
	}
	o, err := timeOpen(ctx, dir)
	return o.took, errors.Join(err, os.RemoveAll(dir))
}

// readLog is how long it takes to read the bytes of the log from one offset to
// another, and to compute their checksum.
func readLog(ctx context.Context, dir string, fileSize, from, to int64) (time.Duration, error) {
	start := time.Now()
	buf := make([]byte, 1<<20)
	for from < to {
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		base := from / fileSize * fileSize
		end := min(to, base+fileSize)
		if err := checksum(filepath.Join(dir, "commitlog", fmt.Sprintf("%020d", base)), from-base, end-from, buf); err != nil {
			return 0, err
		}
		from = end
	}
	return time.Since(start), nil
}

func checksum(path string, off, n int64, buf []byte) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	// A section has no WriteTo, so the copy uses buf.
	_, err = io.CopyBuffer(struct{ io.Writer }{crc32.NewIEEE()}, io.NewSectionReader(f, off, n), buf)
	return errors.Join(err, f.Close())
}

var recoverColumns = []Column{
	{Name: "experiment"},
	{Name: "after", Title: "AFTER"},
	{Name: "logBytes", Title: "LOG BYTES"},
	{Name: "files", Title: "FILES"},
	{Name: "size", Title: "SIZE"},
	{Name: "openMs", Title: "OPEN ms", Decimals: 2},
	{Name: "openMsMin", Title: "MIN", Decimals: 2},
	{Name: "openMsMax", Title: "MAX", Decimals: 2},
	{Name: "readBytes", Title: "READ BYTES"},
	{Name: "readRecords", Title: "RECORDS"},
	{Name: "floorMs", Title: "FLOOR ms", Decimals: 2},
	{Name: "ratioToFloor", Title: "RATIO", Decimals: 3},
	{Name: "rounds"},
}

// fill turns the results into the report's rows.
func (e *recoveries) fill(r *Report) {
	r.Columns = recoverColumns
	var floors []spread
	for i := range e.results {
		res, end, n := &e.results[i], endings[i%len(endings)], e.config.Bytes[i/len(endings)]
		label := end.name
		if len(e.config.Bytes) > 1 {
			label = formatBytes(n) + ", " + label
		}
		floor := res.each(func(o opening) float64 { return milliseconds(o.floor) })
		floors = append(floors, floor)
		r.Rows = append(r.Rows, res.row(end.name, e.config.Size, floor))
		r.Labels = append(r.Labels, label)
	}
	r.Bars = Bars{Value: "openMs", Low: "openMsMin", High: "openMsMax", Floor: "floorMs", Title: "Time of Open", Unit: "ms"}
	r.Notes = []string{
		fmt.Sprintf("Each figure is the median of %s. The page cache was warm.", plural(r.Rounds, "round")),
		"READ BYTES is what Open read of the log, record by record; what lies before it was known to be good.",
		"FLOOR is to open an empty store, and to read and checksum READ BYTES. RATIO is FLOOR by OPEN: 1 is best.",
	}
	r.noise(floors)
}

func milliseconds(d time.Duration) float64 { return d.Seconds() * 1e3 }

// each is one figure of all rounds.
func (r *recovered) each(figure func(opening) float64) spread {
	values := make([]float64, len(r.opens))
	for i, o := range r.opens {
		values[i] = figure(o)
	}
	return spreadOf(values)
}

func (r *recovered) row(after string, size int, floor spread) []any {
	open := r.each(func(o opening) float64 { return milliseconds(o.took) })
	whole := func(figure func(opening) float64) int64 { return int64(r.each(figure).median) }
	return []any{
		"recover", after,
		whole(func(o opening) float64 { return float64(o.bytes) }), whole(func(o opening) float64 { return float64(o.files) }), int64(size),
		rounded(open.median, 3), rounded(open.low, 3), rounded(open.high, 3),
		whole(func(o opening) float64 { return float64(o.recovery.End - o.recovery.From) }),
		whole(func(o opening) float64 { return float64(o.recovery.Records) }),
		rounded(floor.median, 3), rounded(floor.median/open.median, 4), int64(len(r.opens)),
	}
}
