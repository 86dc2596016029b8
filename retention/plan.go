// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package retention

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// File is one file of the log.
type File struct {
	Base int64 // offset of its first byte
	Size int64 // bytes
	// First is the store time of its first message, and Until one that none of
	// its messages was stored after, in milliseconds since the Unix epoch. 0 is
	// not known; then ModTime stands for Until.
	First, Until int64
	ModTime      time.Time
}

// End is the offset behind the file's last byte.
func (f File) End() int64 { return f.Base + f.Size }

// last is when the last message was stored, or later.
func (f File) last() (t time.Time, by string) {
	if f.Until > 0 {
		return time.UnixMilli(f.Until), "last stored"
	}
	return f.ModTime, "last changed"
}

// Disk is the use of a file system in bytes. What only the superuser may use
// counts as neither. The zero value is a disk that nothing is known of: none of
// the percentages counts then.
type Disk struct {
	Used, Free int64
}

// Percent is how much of the disk is used.
func (d Disk) Percent() float64 {
	if d.Used+d.Free <= 0 {
		return 0
	}
	return 100 * float64(d.Used) / float64(d.Used+d.Free)
}

// Bound keeps files for somebody who still needs them.
type Bound struct {
	// Offset is the first byte that is needed.
	Offset int64
	// Why says by whom, in words that can follow "needed by".
	Why  string
	Hold Hold
}

// Hold says against what a Bound holds.
type Hold uint8

const (
	// Firm holds against every rule.
	Firm Hold = iota
	// Yielding holds against age and size, and not against the disk rule.
	Yielding
	// Told holds against nothing: the Decision says that it was not heeded.
	Told
)

// Input is what a plan is made from.
type Input struct {
	// Files is all of the log, in order; the last one is the active file.
	Files []File
	Disk  Disk
	// Held is how many bytes of Disk.Used belong to files that are removed
	// already and free their space once their last reader is done. No file goes
	// in place of those.
	Held int64
	Now  time.Time
	// AnyHour sets Policy.Hours aside, as somebody asks for it.
	AnyHour bool
	Bounds  []Bound
}

// Rule is what decided about a file.
type Rule uint8

// The rules that keep a file, and from ByAge on those that let it go.
const (
	Active    Rule = iota // it is the last one
	Unlimited             // no rule asks for it
	Hour                  // it is old enough, at another hour
	Needed                // a Bound
	Behind                // a file before it stays
	Pass                  // FilesPerPass
	ByAge
	BySize
	ByDisk
)

var ruleNames = [...]string{"active", "unlimited", "hour", "needed", "behind", "pass", "age", "size", "disk"}

// String is the rule in one word.
func (r Rule) String() string {
	if int(r) < len(ruleNames) {
		return ruleNames[r]
	}
	return fmt.Sprintf("Rule(%d)", uint8(r))
}

// Decision is what becomes of one file.
type Decision struct {
	File
	Delete bool
	Rule   Rule
	// Reason is the rule in words, with its numbers.
	Reason string
	// Lost are the bounds that were not heeded: what they say is needed goes.
	Lost []Bound
}

// Plan is what a Policy says about an Input.
type Plan struct {
	// Files has a decision for each file, in order: those that go, then those
	// that stay.
	Files []Decision
	// Deletes is how many of them go, and Bytes how large they are together.
	Deletes int
	Bytes   int64
	// More says that others would go but for FilesPerPass.
	More bool
	// Refuse says why appends are to be refused, "" that they are not.
	Refuse string
}

// Plan decides about each file. The policy must be valid.
func (p Policy) Plan(in Input) Plan {
	w := planner{Policy: p.withDefaults(), in: in, disk: in.Disk}
	w.disk.release(in.Held)
	for _, f := range in.Files {
		w.total += f.Size
	}
	plan := Plan{Files: make([]Decision, len(in.Files)), Refuse: p.Refuse(in.Disk)}
	var stays bool
	for i, f := range in.Files {
		d := w.decide(f, i == len(in.Files)-1)
		switch {
		case d.Delete && stays:
			d = Decision{File: f, Rule: Behind, Reason: "a file before it stays"}
		case d.Delete && w.FilesPerPass >= 0 && plan.Deletes >= w.FilesPerPass:
			plan.More = true
			d = Decision{File: f, Rule: Pass, Reason: fmt.Sprintf("%d files go at a time; the next pass takes it: %s", w.FilesPerPass, d.Reason)}
		}
		if d.Delete {
			plan.Deletes++
			plan.Bytes += f.Size
			w.total -= f.Size
			w.disk.release(f.Size)
		}
		stays = stays || !d.Delete
		plan.Files[i] = d
	}
	return plan
}

// Refuse says why appends are to be refused on a disk, or "".
func (p Policy) Refuse(d Disk) string {
	p = p.withDefaults()
	if !p.above(d, p.RefuseAt) {
		return ""
	}
	return fmt.Sprintf("%.1f %% of the disk are used, appends are refused above %d %%", d.Percent(), p.RefuseAt)
}

// above reports whether so many percent of a disk are used, and it has not enough
// free space all the same.
func (p Policy) above(d Disk, percent int) bool {
	if percent < 0 || d.Used+d.Free <= 0 || p.EnoughFree > 0 && d.Free >= p.EnoughFree {
		return false
	}
	return d.Percent() > float64(percent)
}

// release makes n used bytes free ones.
func (d *Disk) release(n int64) {
	n = min(n, d.Used)
	d.Used -= n
	d.Free += n
}

// planner is Plan at work: total and disk are as if what was decided so far were
// done.
type planner struct {
	Policy
	in    Input
	disk  Disk
	total int64
}

// wish is a rule that asks for a file.
type wish struct {
	rule   Rule
	reason string
}

func (w *planner) decide(f File, active bool) Decision {
	d := Decision{File: f}
	if active {
		d.Rule, d.Reason = Active, "the active file"
		return d
	}
	wishes, later := w.wishes(f)
	if len(wishes) == 0 {
		d.Rule, d.Reason = Unlimited, w.young(f)
		if later != "" {
			d.Rule, d.Reason = Hour, later
		}
		return d
	}
	var held []Bound
	for _, b := range w.in.Bounds {
		if b.Offset < f.End() {
			held = append(held, b)
		}
	}
	for _, wish := range wishes {
		if slices.ContainsFunc(held, func(b Bound) bool { return b.Hold == Firm || b.Hold == Yielding && wish.rule != ByDisk }) {
			continue
		}
		d.Delete, d.Rule, d.Reason, d.Lost = true, wish.rule, wish.reason, held
		if len(held) > 0 {
			d.Reason += "; though needed by " + words(held)
		}
		return d
	}
	held = slices.DeleteFunc(held, func(b Bound) bool { return b.Hold == Told })
	d.Rule, d.Reason = Needed, "needed by "+words(held)
	return d
}

// wishes are the rules that ask for a file; later is why age does not yet, though
// the file is old enough.
func (w *planner) wishes(f File) (all []wish, later string) {
	last, by := f.last()
	if w.MaxAge > 0 && !last.Add(w.MaxAge).After(w.in.Now) {
		old := fmt.Sprintf("%s %s, more than %s ago", by, stamp(last), Age(w.MaxAge))
		switch {
		case w.in.AnyHour || len(w.Hours) == 0 || slices.Contains(w.Hours, w.in.Now.Hour()):
			all = append(all, wish{ByAge, old})
		case w.above(w.disk, w.NormalAt):
			all = append(all, wish{ByAge, fmt.Sprintf("%s; at any hour, as %.1f %% of the disk are used, more than %d %%", old, w.disk.Percent(), w.NormalAt)})
		default:
			later = fmt.Sprintf("%s, but it is not %s o'clock", old, hours(w.Hours))
		}
	}
	if w.MaxSize > 0 && w.total > w.MaxSize {
		all = append(all, wish{BySize, fmt.Sprintf("the log has %d bytes, more than %d", w.total, w.MaxSize)})
	}
	if w.WhenFull && w.above(w.disk, w.ForceAt) {
		all = append(all, wish{ByDisk, fmt.Sprintf("%.1f %% of the disk are used, more than %d %%", w.disk.Percent(), w.ForceAt)})
	}
	return all, later
}

// young says why no rule asks for a file.
func (w *planner) young(f File) string {
	if w.MaxAge <= 0 {
		return "no rule asks for it"
	}
	last, by := f.last()
	return fmt.Sprintf("%s %s, not yet %s ago", by, stamp(last), Age(w.MaxAge))
}

func words(held []Bound) string {
	all := make([]string, len(held))
	for i, b := range held {
		all[i] = fmt.Sprintf("%s (from offset %d on)", b.Why, b.Offset)
	}
	return strings.Join(all, ", ")
}

func hours(hs []int) string {
	all := make([]string, len(hs))
	for i, h := range hs {
		all[i] = fmt.Sprint(h)
	}
	return strings.Join(all, " or ")
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// Age writes a duration without the units that are 0: 72h, 90m, 1.5s.
func Age(d time.Duration) string {
	s := d.String()
	if d >= time.Minute && strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if d >= time.Hour && strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
