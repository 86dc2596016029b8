// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"compress/flate"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/store"
)

// TestMain is the child, too: what measures starts its own program.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == childArg {
		if err := child(os.Args[2], os.Stdout); err != nil {
			_, _ = fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// TestAdapters holds that each peer, in each mode, gives back what it was given,
// by all ways in and out, also after it was closed and opened again.
func TestAdapters(t *testing.T) {
	t.Parallel()
	const size, singles, batches, batch = 300, 40, 3, 16
	const total = singles + batches*batch
	for _, p := range peers() {
		if p.open == nil {
			continue
		}
		for m := range p.modes {
			t.Run(p.name+" "+string(m), func(t *testing.T) {
				t.Parallel()
				if p.name == stelePopulated.name && testing.Short() {
					t.Skip("has a gigabyte in memory")
				}
				dir := t.TempDir()
				e, err := p.open(dir, m)
				require.NoError(t, err)
				a, err := e.appender(0)
				require.NoError(t, err)
				sent, err := newBodies(0, 1, size)
				require.NoError(t, err)
				defer func() { require.NoError(t, sent.free()) }()
				for range singles {
					require.NoError(t, a.append(sent.one()))
				}
				for range batches {
					require.NoError(t, a.appendBatch(sent.some(batch)))
				}
				require.NoError(t, a.settle())

				_, counts := p.without[reopens]
				counts = !counts
				if counts {
					n, err := e.count()
					require.NoError(t, err)
					require.EqualValues(t, total, n)
				}
				if c, ok := e.(picker); ok {
					for _, i := range []int64{0, 1, singles - 1, singles, total - 1, 7} {
						body, err := c.pick(i)
						require.NoError(t, err)
						require.NoError(t, sent.check(i, body))
					}
				} else {
					require.Contains(t, p.without, picks, "says why")
				}
				requireAll(t, e, sent, total)
				require.NoError(t, e.close())
				if !counts {
					return
				}
				e, err = p.open(dir, m)
				require.NoError(t, err)
				n, err := e.count()
				require.NoError(t, err)
				require.EqualValues(t, total, n, "after it was opened again")
				requireAll(t, e, sent, total)
				require.NoError(t, e.close())
			})
		}
	}
}

// requireAll reads all messages of one producer.
func requireAll(t *testing.T, e engine, sent *bodies, total int) {
	t.Helper()
	read := 0
	require.NoError(t, e.(scanner).scan(func(body []byte) bool {
		require.NoError(t, sent.check(int64(read), body))
		read++
		return true
	}))
	require.Equal(t, total, read)
}

// TestProducers holds that nothing is lost or doubled when several append.
func TestProducers(t *testing.T) {
	t.Parallel()
	const each = 200
	for _, p := range peers() {
		if p.open == nil || p.name == stelePopulated.name {
			continue
		}
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			e, err := p.open(t.TempDir(), async)
			require.NoError(t, err)
			s := spec{Mode: async, Size: 100, Producers: 4, Batch: 1, Time: time.Minute, Messages: 4 * each}
			ps, err := newProducers(e, s)
			require.NoError(t, err)
			require.NoError(t, ps.together((*producer).warm))
			require.NoError(t, ps.together(func(p *producer) error { return p.run(time.Now()) }))
			require.NoError(t, ps.together(func(p *producer) error { return p.to.settle() }))
			var r result
			ps.sum(&r)
			require.EqualValues(t, 4*each, r.Messages)

			next := make([]int64, len(ps))
			visit := func(body []byte) bool {
				who, number := producerOf(body)
				require.Less(t, who, int64(len(ps)))
				require.Equal(t, next[who], number, "of producer %d", who)
				require.NoError(t, ps[who].bodies.check(number, body))
				next[who]++
				return true
			}
			if s, ok := e.(*stele); ok {
				for queue := range ps {
					require.NoError(t, s.scanQueue(int32(queue), visit))
				}
			} else {
				require.NoError(t, e.(scanner).scan(visit))
			}
			for who, n := range next {
				require.EqualValues(t, each+warmAppends, n, "of producer %d", who)
			}
			require.NoError(t, e.close())
			require.NoError(t, ps.free())
		})
	}
}

// TestKeysAndQueues holds that messages get to where their workload says.
func TestKeysAndQueues(t *testing.T) {
	t.Parallel()
	opened, err := steleDefault.open(t.TempDir(), async)
	require.NoError(t, err)
	e := opened.(*stele)
	ps, err := newProducers(e, spec{Mode: async, Size: 100, Producers: 1, Batch: 1, Queues: 5, Keys: true, Time: time.Minute, Messages: 20})
	require.NoError(t, err)
	require.NoError(t, ps[0].run(time.Now()))
	require.NoError(t, ps[0].to.settle())
	for queue := range int32(5) {
		_, hi, err := e.s.Bounds(topic, queue)
		require.NoError(t, err)
		require.EqualValues(t, 4, hi)
	}
	found, err := e.s.Query(t.Context(), topic, "k17", store.QueryOptions{})
	require.NoError(t, err)
	require.Len(t, found, 1)
	require.NoError(t, ps[0].bodies.check(17, found[0].Body))
	require.NoError(t, e.close())
	require.NoError(t, ps.free())
}

// TestRun measures with processes, reads what it said, and joins two runs.
func TestRun(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	args := []string{"--dir", dir, "--time", "20ms", "--bytes", "524288", "--read-bytes", "262144", "--reopen-bytes", "262144", "-o", "json"}
	var out, told bytes.Buffer
	run1 := slices.Concat(args, []string{"--rounds", "2", "--peers", "stele,rosedb-wal,vm-queue,raft-wal"})
	require.NoError(t, run(t.Context(), run1, &out, &told), told.String())
	var d struct {
		Verdicts []verdict
		Records  []record
	}
	require.NoError(t, json.Unmarshal(out.Bytes(), &d))
	first := map[string][]string{} // who began, by workload
	for i, r := range d.Records {
		require.Empty(t, r.Error, "%s over %s", r.Workload, r.Peer)
		require.Positive(t, r.Messages, "%s over %s", r.Workload, r.Peer)
		require.Positive(t, r.Seconds)
		require.Positive(t, r.RSSPeak)
		if i == 0 || d.Records[i-1].Workload != r.Workload {
			first[r.Workload] = append(first[r.Workload], r.Peer)
		}
		if r.Workload == "reopen" {
			require.EqualValues(t, 256, r.Acked)
			require.Equal(t, r.Acked, r.Found, "%s survives a kill", r.Peer)
		}
		require.Equal(t, r.Workload == "sync-1k-1" || r.Workload == "sync-1k-64", r.P99 > 0)
	}
	require.Equal(t, []string{"stele", "rosedb-wal"}, first["async-128-1"], "another one begins in the next round")
	require.Len(t, first, len(workloads()))
	require.NotEmpty(t, d.Verdicts)

	kept := filepath.Join(dir, "run.json")
	require.NoError(t, os.WriteFile(kept, out.Bytes(), 0o644))
	page := filepath.Join(dir, "page.html")
	out.Reset()
	require.NoError(t, run(t.Context(), []string{"--merge", kept + "," + kept, "--html", page}, &out, &told))
	require.Contains(t, out.String(), "Goals")
	require.NotContains(t, out.String(), "fewer than 3 rounds", "two runs of two")
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	require.Contains(t, string(text), "<h2>reopen after SIGKILL</h2>")

	left, err := filepath.Glob(filepath.Join(dir, "stele-peers-*"))
	require.NoError(t, err)
	require.Empty(t, left, "the directories of the measurements are gone")
}

// TestRocket measures RocketMQ a little, where that is asked for as for the tests
// of interop.
func TestRocket(t *testing.T) {
	t.Parallel()
	if os.Getenv("STELE_INTEROP") == "" {
		t.Skip("runs RocketMQ itself, by Maven and a JDK: set STELE_INTEROP=1")
	}
	var out, told bytes.Buffer
	err := run(t.Context(), []string{
		"--dir", t.TempDir(), "--time", "20ms", "--bytes", "524288", "--read-bytes", "262144", "--reopen-bytes", "262144",
		"--rounds", "1", "--peers", "rocketmq", "--workloads", "async-1k-*,sync-1k-1,scan,pick,reopen", "-o", "json",
	}, &out, &told)
	if errors.Is(err, errMissing) && os.Getenv("STELE_INTEROP") != "require" {
		t.Skip(err)
	}
	require.NoError(t, err)
	var d struct{ Records []record }
	require.NoError(t, json.Unmarshal(out.Bytes(), &d))
	require.Len(t, d.Records, 7)
	for _, r := range d.Records {
		require.Empty(t, r.Error, r.Workload)
		require.Positive(t, r.Messages, r.Workload)
		require.Equal(t, r.Acked > 0, r.Workload == "reopen")
		require.True(t, r.Acked == 0 || r.Acked == r.Found)
	}
}

func TestWrongArguments(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--peers", "nobody"}, `no "nobody"; there are stele, `},
		{[]string{"--workloads", "scan,nothing*"}, `no "nothing*"; there are async-128-1, `},
		{[]string{"-o", "xml"}, "want table or json"},
		{[]string{"--rounds", "0"}, "want 1 or more"},
		{[]string{"word"}, "no arguments are taken"},
		{[]string{"--merge", filepath.Join("no", "file")}, "no such file"},
		{[]string{childArg, "{"}, "spec: "},
		{[]string{childArg, `{"peer":"nobody"}`}, `no "nobody"`},
	} {
		require.ErrorContains(t, run(t.Context(), c.args, io.Discard, io.Discard), c.want)
	}
}

func TestBodies(t *testing.T) {
	t.Parallel()
	b, err := newBodies(3, 4, 128)
	require.NoError(t, err)
	defer func() { require.NoError(t, b.free()) }()
	first := bytes.Clone(b.one())
	require.NoError(t, b.check(0, first))
	require.Error(t, b.check(1, first), "its number is another")
	wrong := bytes.Clone(first)
	wrong[127] ^= 1
	require.Error(t, b.check(0, wrong), "its last bit is another")
	require.Error(t, b.check(0, nil))

	var packed bytes.Buffer
	w, err := flate.NewWriter(&packed, flate.BestSpeed)
	require.NoError(t, err)
	const n = 4096
	for _, body := range b.some(n) {
		_, err := w.Write(body)
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	require.Greater(t, packed.Len(), n*128*88/100, "only the 16 bytes of the stamp can be packed")
	require.NoError(t, b.check(n, b.batch[n-1]))
}

// TestGoals judges figures that are made up.
func TestGoals(t *testing.T) {
	t.Parallel()
	at := func(workload, peer string, perSecond float64) record {
		return record{Workload: workload, Peer: peer, result: result{Messages: int64(perSecond), Seconds: 1, AppendSeconds: 0.9}}
	}
	failed := at("async-128-1", "rosedb-wal", 1e9)
	failed.Error = "it broke"
	sync1, sync2 := at("sync-1k-64", "stele", 2000), at("sync-1k-64", "pebble", 1000)
	sync1.P99, sync2.P99 = 600, 1000
	f := figures{
		at("async-128-1", "stele", 300), at("async-128-1", "stele", 400), at("async-128-1", "stele", 900),
		at("async-128-1", "vm-queue", 350), at("async-128-1", "rosedb-wal", 100), failed, at("async-128-1", "bbolt", 20),
		at("async-128-4", "stele", 350),
		at("dispatch", "stele", 1), sync1, sync2,
		at("pick", "stele", 300), at("pick", "bbolt", 100), at("pick", "floor", 499), // 5 times bbolt is wanted
		at("async-1k-b64", "stele", 100), at("async-1k-b64", "bbolt", 100), at("async-1k-b64", "floor", 200), // twice
		at("async-1k-1", "stele", 100), at("async-1k-1", "rosedb-wal", 50), at("async-1k-1", "rocketmq", 9), // 2.5 times and 10 times
		at("async-1k-1", "floor", 150), at("async-1k-1", "prototype", 120),
	}
	got := map[string]verdict{}
	for _, v := range judge(f, peers()) {
		got[fmt.Sprintf("%s %s %s", v.Workload, v.Metric, v.Against)] = v
	}
	for name, want := range map[string]struct {
		rival   string
		ratio   float64
		outcome outcome
	}{
		"async-128-1 msgs/s best":                      {"vm-queue", 400.0 / 350, missed},
		"async-128-1 msgs/s best that survives a kill": {"rosedb-wal", 4, met},
		"async-128-1 msgs/s rocketmq":                  {"", 0, notMeasured},
		"async-128-4 msgs/s itself, async-128-1":       {"async-128-1", 350.0 / 400, met},
		"async-128-4 msgs/s best":                      {"", 0, notMeasured},
		"dispatch dispatched by appended -":            {"", 0.9, missed},
		"pick msgs/s bbolt":                            {"bbolt", 3, beyondFloor},
		"async-1k-b64 msgs/s best":                     {"bbolt", 1, missed},
		"async-1k-1 msgs/s best that survives a kill":  {"rosedb-wal", 2, beyondPrototype},
		"async-1k-1 msgs/s rocketmq":                   {"rocketmq", 100.0 / 9, met},
		"sync-1k-64 msgs/s pebble":                     {"pebble", 2, met},
		"sync-1k-64 p99 µs pebble":                     {"pebble", 0.6, missed},
	} {
		require.Contains(t, got, name)
		v := got[name]
		require.Equal(t, want.outcome, v.Outcome, name)
		require.Equal(t, want.rival, v.Rival, name)
		require.InDelta(t, want.ratio, v.Ratio, 1e-9, name)
	}
	for name := range got {
		require.NotContains(t, name, "scan", "nobody measured it")
	}
	require.Contains(t, fmt.Sprint(goalsOf(judge(f, peers())).Rows), "not measured")
	for _, g := range goals {
		_, ok := f.workload(g.workload)
		require.True(t, ok, "%s is a workload", g.workload)
	}
}
