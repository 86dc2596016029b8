// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package retention_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/retention"
)

// now is five past four in the morning, in a place that is not Greenwich.
var now = time.Date(2026, 11, 22, 4, 5, 0, 0, time.FixedZone("", 2*3600))

func hoursAgo(h int) int64 { return now.Add(-time.Duration(h) * time.Hour).UnixMilli() }

// log is a run of files of 100 bytes, whose last messages are so many hours old;
// the active file follows.
func log(hours ...int) []retention.File {
	files := make([]retention.File, 0, len(hours)+1)
	for i, h := range hours {
		files = append(files, retention.File{Base: int64(1000 + 100*i), Size: 100, Until: hoursAgo(h), ModTime: now})
	}
	return append(files, retention.File{Base: int64(1000 + 100*len(hours)), Size: 100, ModTime: now})
}

// disk is one of 1000 bytes.
func disk(used int64) retention.Disk { return retention.Disk{Used: used, Free: 1000 - used} }

const (
	active    = retention.Active
	unlimited = retention.Unlimited
	hour      = retention.Hour
	needed    = retention.Needed
	behind    = retention.Behind
	pass      = retention.Pass
	byAge     = retention.ByAge
	bySize    = retention.BySize
	byDisk    = retention.ByDisk
)

var planCases = []struct {
	name   string
	policy retention.Policy
	in     retention.Input
	want   []retention.Rule
	more   bool
	refuse bool
	reason string // of the first file
}{
	{name: "no files", policy: retention.RocketMQ(), in: retention.Input{Files: nil}},
	{
		name: "the zero value keeps everything", in: retention.Input{Files: log(9999, 9999)},
		want: []retention.Rule{unlimited, unlimited, active}, reason: "no rule asks for it",
	},
	{
		name: "the zero value keeps everything, on a full disk too, and refuses",
		in:   retention.Input{Files: log(9999), Disk: disk(1000)},
		want: []retention.Rule{unlimited, active}, refuse: true,
	},
	{
		name: "by age", policy: retention.Policy{MaxAge: 72 * time.Hour}, in: retention.Input{Files: log(80, 73, 71, 1)},
		want:   []retention.Rule{byAge, byAge, unlimited, unlimited, active},
		reason: "last stored 2026-11-18T18:05:00.000Z, more than 72h ago",
	},
	{
		name: "just old enough", policy: retention.Policy{MaxAge: 72 * time.Hour}, in: retention.Input{Files: log(72)},
		want: []retention.Rule{byAge, active},
	},
	{
		name: "too young", policy: retention.Policy{MaxAge: 72 * time.Hour}, in: retention.Input{Files: log(71)},
		want: []retention.Rule{unlimited, active}, reason: "last stored 2026-11-19T03:05:00.000Z, not yet 72h ago",
	},
	{
		name: "an active file alone stays, however old", policy: retention.Policy{MaxAge: time.Hour},
		in:   retention.Input{Files: []retention.File{{Size: 100, Until: hoursAgo(1000)}}},
		want: []retention.Rule{active}, reason: "the active file",
	},
	{
		name: "a young file keeps an older one behind it", policy: retention.Policy{MaxAge: 72 * time.Hour},
		in: retention.Input{Files: log(71, 100)}, want: []retention.Rule{unlimited, behind, active},
	},
	{
		name: "by the time of the file where no message tells", policy: retention.Policy{MaxAge: time.Hour},
		in: retention.Input{Files: []retention.File{
			{Base: 0, Size: 100, ModTime: now.Add(-2 * time.Hour)}, {Base: 100, Size: 100, ModTime: now}, {Base: 200, Size: 100},
		}},
		want: []retention.Rule{byAge, unlimited, active}, reason: "last changed 2026-11-22T00:05:00.000Z, more than 1h ago",
	},
	{
		name: "a copied file is as old as its messages", policy: retention.Policy{MaxAge: time.Hour},
		in:   retention.Input{Files: log(2)},
		want: []retention.Rule{byAge, active},
	},
	{
		name: "a message from the future is young", policy: retention.Policy{MaxAge: time.Hour},
		in: retention.Input{Files: log(-100, 5)}, want: []retention.Rule{unlimited, behind, active},
	},
	{
		name: "its hour", policy: retention.Policy{MaxAge: time.Hour, Hours: []int{4}}, in: retention.Input{Files: log(2)},
		want: []retention.Rule{byAge, active},
	},
	{
		name: "another hour", policy: retention.Policy{MaxAge: time.Hour, Hours: []int{2, 5}}, in: retention.Input{Files: log(2, 0)},
		want:   []retention.Rule{hour, unlimited, active},
		reason: "last stored 2026-11-22T00:05:00.000Z, more than 1h ago, but it is not 2 or 5 o'clock",
	},
	{
		name: "any hour when asked for", policy: retention.Policy{MaxAge: time.Hour, Hours: []int{5}},
		in: retention.Input{Files: log(2), AnyHour: true}, want: []retention.Rule{byAge, active},
	},
	{
		name: "any hour on a disk above normal", policy: retention.Policy{MaxAge: time.Hour, Hours: []int{5}},
		in: retention.Input{Files: log(2, 0), Disk: disk(751)}, want: []retention.Rule{byAge, unlimited, active},
		reason: "last stored 2026-11-22T00:05:00.000Z, more than 1h ago; at any hour, as 75.1 % of the disk are used, more than 75 %",
	},
	{
		name: "not on a disk at normal", policy: retention.Policy{MaxAge: time.Hour, Hours: []int{5}},
		in: retention.Input{Files: log(2), Disk: disk(750)}, want: []retention.Rule{hour, active},
	},
	{
		name: "once the disk is at normal the hour counts again", policy: retention.Policy{MaxAge: time.Hour, Hours: []int{5}},
		in: retention.Input{Files: log(2, 2, 2), Disk: disk(751)}, want: []retention.Rule{byAge, hour, hour, active},
	},
	{
		name: "by size, at any hour", policy: retention.Policy{MaxSize: 250, Hours: []int{5}}, in: retention.Input{Files: log(1, 1, 1)},
		want: []retention.Rule{bySize, bySize, unlimited, active}, reason: "the log has 400 bytes, more than 250",
	},
	{
		name: "just the size", policy: retention.Policy{MaxSize: 400}, in: retention.Input{Files: log(1, 1, 1)},
		want: []retention.Rule{unlimited, unlimited, unlimited, active},
	},
	{
		name: "a size that not even the active file has", policy: retention.Policy{MaxSize: 1}, in: retention.Input{Files: log(1)},
		want: []retention.Rule{bySize, active},
	},
	{
		name: "age first, then size", policy: retention.Policy{MaxSize: 250, MaxAge: time.Hour}, in: retention.Input{Files: log(2, 0, 0)},
		want: []retention.Rule{byAge, bySize, unlimited, active},
	},
	{
		name: "by disk, down to force", policy: retention.Policy{WhenFull: true}, in: retention.Input{Files: log(0, 0, 0), Disk: disk(960)},
		want: []retention.Rule{byDisk, byDisk, unlimited, active}, refuse: true, reason: "96.0 % of the disk are used, more than 85 %",
	},
	{
		name: "not at force", policy: retention.Policy{WhenFull: true}, in: retention.Input{Files: log(0, 0), Disk: disk(850)},
		want: []retention.Rule{unlimited, unlimited, active},
	},
	{
		name: "a full disk takes nothing unless it is told to", policy: retention.Policy{MaxAge: 72 * time.Hour},
		in: retention.Input{Files: log(1), Disk: disk(990)}, want: []retention.Rule{unlimited, active}, refuse: true,
	},
	{
		name: "what readers still hold will be free", policy: retention.Policy{WhenFull: true},
		in:   retention.Input{Files: log(0, 0), Disk: disk(960), Held: 200},
		want: []retention.Rule{unlimited, unlimited, active}, refuse: true,
	},
	{
		name: "more is held than is used", policy: retention.Policy{WhenFull: true},
		in: retention.Input{Files: log(0), Disk: disk(960), Held: 2000}, want: []retention.Rule{unlimited, active}, refuse: true,
	},
	{
		name: "no refusal at the limit", in: retention.Input{Files: log(0), Disk: disk(900)}, want: []retention.Rule{unlimited, active},
	},
	{
		name: "other ratios", policy: retention.Policy{WhenFull: true, ForceAt: 20, NormalAt: 10, RefuseAt: 30},
		in: retention.Input{Files: log(0, 0), Disk: disk(301)}, want: []retention.Rule{byDisk, byDisk, active}, refuse: true,
	},
	{
		name: "ratios that never count", policy: retention.Policy{WhenFull: true, MaxAge: time.Hour, Hours: []int{1}, NormalAt: -1, ForceAt: -1, RefuseAt: -1},
		in: retention.Input{Files: log(2), Disk: disk(1000)}, want: []retention.Rule{hour, active},
	},
	{
		name: "enough is free, whatever the ratio", policy: retention.Policy{WhenFull: true, MaxAge: time.Hour, Hours: []int{1}, EnoughFree: 40},
		in: retention.Input{Files: log(2), Disk: disk(960)}, want: []retention.Rule{hour, active},
	},
	{
		name: "not enough is free", policy: retention.Policy{WhenFull: true, EnoughFree: 41}, in: retention.Input{Files: log(2, 2), Disk: disk(960)},
		want: []retention.Rule{byDisk, unlimited, active}, refuse: true,
	},
	{
		name: "a few at a time", policy: retention.Policy{MaxAge: time.Hour, FilesPerPass: 2}, in: retention.Input{Files: log(5, 4, 3, 2, 0)},
		want: []retention.Rule{byAge, byAge, pass, behind, unlimited, active}, more: true,
	},
	{
		name: "ten at a time", policy: retention.Policy{MaxAge: time.Hour}, in: retention.Input{Files: log(5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5)},
		want: []retention.Rule{byAge, byAge, byAge, byAge, byAge, byAge, byAge, byAge, byAge, byAge, pass, active}, more: true,
	},
	{
		name: "any number at a time", policy: retention.Policy{MaxAge: time.Hour, FilesPerPass: -1}, in: retention.Input{Files: log(5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5)},
		want: []retention.Rule{byAge, byAge, byAge, byAge, byAge, byAge, byAge, byAge, byAge, byAge, byAge, active},
	},
	{
		name: "needed", policy: retention.Policy{MaxAge: time.Hour, MaxSize: 1, WhenFull: true},
		in: retention.Input{
			Files: log(2, 2, 2), Disk: disk(1000),
			Bounds: []retention.Bound{{Offset: 1250, Why: "group g"}, {Offset: 1100, Why: "group h"}},
		},
		want: []retention.Rule{byAge, needed, needed, active}, refuse: true,
	},
	{
		name: "needed from the first byte on", policy: retention.Policy{MaxAge: time.Hour},
		in:     retention.Input{Files: log(2, 2), Bounds: []retention.Bound{{Offset: 1000, Why: "group g"}, {Offset: 1000, Why: "h"}}},
		want:   []retention.Rule{needed, needed, active},
		reason: "needed by group g (from offset 1000 on), h (from offset 1000 on)",
	},
	{
		name: "a need in the active file holds nothing", policy: retention.Policy{MaxAge: time.Hour},
		in:   retention.Input{Files: log(2, 2), Bounds: []retention.Bound{{Offset: 1200, Why: "group g"}}},
		want: []retention.Rule{byAge, byAge, active},
	},
	{
		name: "a need that yields holds against age and size", policy: retention.Policy{MaxAge: time.Hour, MaxSize: 1},
		in:   retention.Input{Files: log(2), Bounds: []retention.Bound{{Offset: 1099, Why: "group g", Hold: retention.Yielding}}},
		want: []retention.Rule{needed, active},
	},
	{
		name: "a need that yields", policy: retention.Policy{MaxAge: time.Hour, WhenFull: true},
		in: retention.Input{
			Files: log(2, 2), Disk: disk(920),
			Bounds: []retention.Bound{{Offset: 1099, Why: "group g", Hold: retention.Yielding}},
		},
		want: []retention.Rule{byDisk, needed, active}, refuse: true,
		reason: "92.0 % of the disk are used, more than 85 %; though needed by group g (from offset 1099 on)",
	},
	{
		name: "a need that is only told", policy: retention.Policy{MaxAge: time.Hour},
		in:   retention.Input{Files: log(2, 0), Bounds: []retention.Bound{{Offset: 1010, Why: "a delayed message", Hold: retention.Told}}},
		want: []retention.Rule{byAge, unlimited, active}, reason: "last stored 2026-11-22T00:05:00.000Z, more than 1h ago; though needed by a delayed message (from offset 1010 on)",
	},
	{
		name: "a need that holds, and one that does not", policy: retention.Policy{MaxAge: time.Hour},
		in:   retention.Input{Files: log(2), Bounds: []retention.Bound{{Offset: 1010, Why: "d", Hold: retention.Told}, {Offset: 1020, Why: "g"}}},
		want: []retention.Rule{needed, active}, reason: "needed by g (from offset 1020 on)",
	},
	{
		name: "one need yields, the other does not", policy: retention.Policy{WhenFull: true},
		in: retention.Input{
			Files: log(2), Disk: disk(900),
			Bounds: []retention.Bound{{Offset: 1000, Why: "g", Hold: retention.Yielding}, {Offset: 1050, Why: "h"}},
		},
		want: []retention.Rule{needed, active},
	},
}

func TestPlan(t *testing.T) {
	t.Parallel()
	for _, c := range planCases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			require.NoError(t, c.policy.Validate())
			c.in.Now = now
			plan := c.policy.Plan(c.in)
			var got []retention.Rule
			deletes, bytes := 0, int64(0)
			for i, d := range plan.Files {
				got = append(got, d.Rule)
				require.Equal(t, c.in.Files[i], d.File)
				require.Equal(t, d.Rule >= retention.ByAge, d.Delete)
				require.NotEmpty(t, d.Reason)
				if d.Delete {
					deletes++
					bytes += d.Size
				}
			}
			require.Equal(t, c.want, got)
			require.Equal(t, deletes, plan.Deletes)
			require.Equal(t, bytes, plan.Bytes)
			require.Equal(t, c.more, plan.More)
			require.Equal(t, c.refuse, plan.Refuse != "", plan.Refuse)
			if c.reason != "" {
				require.Equal(t, c.reason, plan.Files[0].Reason)
			}
		})
	}
}

// TestPlanProperties draws inputs and policies: whatever they are, some things
// hold.
func TestPlanProperties(t *testing.T) {
	t.Parallel()
	const rounds = 5000
	deleted, yielded := 0, 0
	for seed := range uint64(rounds) {
		p, in := draw(rand.New(rand.NewPCG(seed, 0)))
		require.NoError(t, p.Validate(), "seed %d", seed)
		plan := p.Plan(in)
		require.Len(t, plan.Files, len(in.Files), "seed %d", seed)
		require.LessOrEqual(t, plan.Deletes, max(0, len(in.Files)-1), "seed %d: the active file", seed)
		if p.FilesPerPass > 0 {
			require.LessOrEqual(t, plan.Deletes, p.FilesPerPass, "seed %d", seed)
		}
		if !p.Deletes() {
			require.Zero(t, plan.Deletes, "seed %d", seed)
		}
		for i, d := range plan.Files {
			require.Equal(t, i < plan.Deletes, d.Delete, "seed %d: not a beginning of the log", seed)
			if !d.Delete {
				require.Empty(t, d.Lost, "seed %d", seed)
				continue
			}
			deleted++
			lost := 0
			for _, b := range in.Bounds {
				if b.Offset >= d.End() {
					continue
				}
				require.NotEqual(t, retention.Firm, b.Hold, "seed %d: file %d goes, that somebody needs", seed, i)
				if b.Hold == retention.Yielding {
					require.Equal(t, retention.ByDisk, d.Rule, "seed %d", seed)
				}
				require.Contains(t, d.Lost, b, "seed %d", seed)
				lost++
				yielded++
			}
			require.Len(t, d.Lost, lost, "seed %d", seed)
			if d.Rule == retention.ByAge && d.Until > 0 {
				require.LessOrEqual(t, d.Until, in.Now.Add(-p.MaxAge).UnixMilli(), "seed %d: too young", seed)
			}
			if d.Rule == retention.ByDisk {
				require.True(t, p.WhenFull, "seed %d", seed)
			}
		}
	}
	require.Greater(t, deleted, rounds/10)
	require.Greater(t, yielded, 100)
}

func draw(rng *rand.Rand) (retention.Policy, retention.Input) {
	maybe := func(n int64) int64 { return n * int64(rng.IntN(2)) }
	p := retention.Policy{
		MaxAge: time.Duration(maybe(1+rng.Int64N(100))) * time.Hour, MaxSize: maybe(1 + rng.Int64N(2000)),
		WhenFull: rng.IntN(2) == 0, FilesPerPass: rng.IntN(6) - 1, EnoughFree: maybe(rng.Int64N(300)),
	}
	for range rng.IntN(3) {
		p.Hours = append(p.Hours, rng.IntN(24))
	}
	in := retention.Input{
		Disk: retention.Disk{Used: rng.Int64N(1001), Free: rng.Int64N(200)}, Held: maybe(rng.Int64N(300)),
		Now: now, AnyHour: rng.IntN(4) == 0,
	}
	base, size := rng.Int64N(1000), int64(100)
	for range rng.IntN(12) {
		f := retention.File{Base: base, Size: size, ModTime: now.Add(-time.Duration(rng.IntN(200)) * time.Hour)}
		if rng.IntN(3) > 0 {
			f.Until = hoursAgo(rng.IntN(200) - 20)
		}
		in.Files = append(in.Files, f)
		base += size
	}
	for range rng.IntN(3) {
		in.Bounds = append(in.Bounds, retention.Bound{Offset: rng.Int64N(base + 1), Why: "g", Hold: retention.Hold(rng.IntN(3))})
	}
	return p, in
}

func TestValidate(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		policy retention.Policy
		says   []string
	}{
		"zero":            {},
		"RocketMQ's":      {policy: retention.RocketMQ()},
		"all off":         {policy: retention.Policy{NormalAt: -1, ForceAt: -1, RefuseAt: -1, FilesPerPass: -1}},
		"the same":        {policy: retention.Policy{NormalAt: 90, ForceAt: 90}},
		"one off":         {policy: retention.Policy{NormalAt: 90, ForceAt: -1}},
		"negative age":    {policy: retention.Policy{MaxAge: -1}, says: []string{"MaxAge -1ns"}},
		"negative sizes":  {policy: retention.Policy{MaxSize: -1, EnoughFree: -2}, says: []string{"MaxSize -1"}},
		"hours":           {policy: retention.Policy{Hours: []int{-1, 0, 23, 24}}, says: []string{"hour -1", "hour 24"}},
		"above 100":       {policy: retention.Policy{RefuseAt: 101}, says: []string{"RefuseAt 101"}},
		"force too low":   {policy: retention.Policy{ForceAt: 50}, says: []string{"ForceAt 50 is below NormalAt 75"}},
		"refuse too low":  {policy: retention.Policy{RefuseAt: 80}, says: []string{"RefuseAt 80 is below ForceAt 85"}},
		"refuse, one off": {policy: retention.Policy{ForceAt: -1, RefuseAt: 60}, says: []string{"RefuseAt 60 is below NormalAt 75"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := c.policy.Validate()
			if len(c.says) == 0 {
				require.NoError(t, err)
				return
			}
			require.ErrorIs(t, err, retention.ErrPolicy)
			for _, s := range c.says {
				require.ErrorContains(t, err, s)
			}
		})
	}
}

func TestWords(t *testing.T) {
	t.Parallel()
	require.Equal(t, "disk", byDisk.String())
	require.Equal(t, "Rule(77)", retention.Rule(77).String())
	require.Equal(t, "91.0 % of the disk are used, appends are refused above 90 %", retention.Policy{}.Refuse(disk(910)))
	require.Empty(t, retention.Policy{}.Refuse(retention.Disk{}), "nothing is known of it")
	for want, d := range map[string]time.Duration{"72h": 72 * time.Hour, "90m": 90 * time.Minute, "1h0m1s": time.Hour + time.Second, "1.5s": 1500 * time.Millisecond, "30s": 30 * time.Second, "10m": 10 * time.Minute} {
		if want == "90m" {
			want = "1h30m"
		}
		require.Equal(t, want, retention.Age(d))
	}
}
