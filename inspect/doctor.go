// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/stelelog/stele/internal/layout"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/timeindex"
)

// Level says how bad it is what a Diagnosis found.
type Level string

// The levels.
const (
	LevelOK      Level = "ok"
	LevelNote    Level = "note"    // may matter, some day or for some use
	LevelProblem Level = "problem" // is wrong, or goes wrong next
)

// Diagnosis is one thing that Doctor looked at.
type Diagnosis struct {
	Level  Level
	Check  string // a word that stays the same
	Found  string // what is so, with figures
	Advice string // what to do about it; "" for LevelOK
}

// AppendJSON appends the diagnosis as an object to dst: level, check, found and
// advice, all of them strings.
func (x Diagnosis) AppendJSON(dst []byte) []byte {
	dst = appendText(append(dst, `{"level":`...), string(x.Level))
	dst = appendText(append(dst, `,"check":`...), x.Check)
	dst = appendText(append(dst, `,"found":`...), x.Found)
	dst = appendText(append(dst, `,"advice":`...), x.Advice)
	return append(dst, '}')
}

// Doctor looks at the machine and the files around a store: the file system, the
// limits of the kernel and of whoever has the store open, room on the disk,
// blocks that are not reserved, files that should be there or should not be, and
// the clock. It hands on what it finds, sound things too, as it comes.
//
// It reads the first record of each file of the log and the last file in full,
// so it takes about as long on any store; what is inside the others is Verify's
// business. now is the time that store times are held against.
//
// The error is the first one of report, that of ctx, or what the file system said.
func (d *Dir) Doctor(ctx context.Context, now time.Time, report func(Diagnosis) error) error {
	x := &doctor{d: d, ctx: ctx, now: now, report: report, disk: d.log}
	if there, err := exists(d.log); err == nil && !there {
		x.disk = d.path // a store without a message has no log yet
	}
	o, err := d.Overview(ctx)
	if err != nil {
		return err
	}
	x.o = o
	for _, look := range []func() error{
		x.owner, x.fileSystems, x.space, x.reserved, x.maps, x.limits, x.files, x.strangers, x.clock,
	} {
		if err := look(); err != nil {
			return err
		}
	}
	return nil
}

// doctor is one run of Doctor.
type doctor struct {
	d      *Dir
	ctx    context.Context
	now    time.Time
	report func(Diagnosis) error
	o      *Overview
	disk   string // a directory on the disk of the log
}

func (x *doctor) say(level Level, check, advice, found string, args ...any) error {
	return x.report(Diagnosis{Level: level, Check: check, Found: fmt.Sprintf(found, args...), Advice: advice})
}

// owner tells who has the store open.
func (x *doctor) owner() error {
	const check = "owner"
	switch a := x.o.Abort; {
	case a == nil:
		return x.say(LevelOK, check, "", "the store was closed in order")
	case a.Alive:
		return x.say(LevelOK, check, "", "process %d may have it open", a.PID)
	default:
		return x.say(LevelNote, check, "nothing: whoever opens it next recovers it; 'storectl verify' shows what there is",
			"abort is there and process %d does not run here: it was not closed in order", a.PID)
	}
}

// fileSystems looks at those that the log and the rest of the store are on.
func (x *doctor) fileSystems() error {
	known := map[string]bool{}
	for _, dir := range []string{x.disk, x.d.path} {
		kind := fileSystemOf(dir)
		if known[kind.name] {
			continue
		}
		known[kind.name] = true
		if err := x.say(kind.level, "file-system", kind.advice, "%s is on %s%s", dir, kind.name, kind.why); err != nil {
			return err
		}
	}
	return nil
}

// The use of a disk at which something happens, in percent: RocketMQ removes
// files of the log from diskMaxUsedSpaceRatio on, and takes no message above
// diskSpaceWarningLevelRatio, which is what Stele refuses appends at as well.
const (
	cleaned = 75
	refused = 90
)

// space looks at what is left on the disk.
func (x *doctor) space() error {
	u, err := mappedfile.DiskUsage(mappedfile.OS(), x.disk)
	if err != nil {
		return err
	}
	return x.report(diagnoseSpace(u, x.o.CommitLog.FileSize))
}

func diagnoseSpace(u mappedfile.Usage, fileSize int64) Diagnosis {
	percent := int64(0)
	if u.Used+u.Free > 0 {
		percent = int64(float64(u.Used) / float64(u.Used+u.Free) * 100)
	}
	r := Diagnosis{Level: LevelOK, Check: "space", Found: fmt.Sprintf("%d %% of the disk of the log are used, %s are free", percent, bytesText(u.Free))}
	switch {
	case u.Free < 2*fileSize:
		r.Level = LevelProblem
		r.Found += fmt.Sprintf(": no room for two more files of %s", bytesText(fileSize))
		r.Advice = "make room: when the next file of the log can't be made, nothing is stored any more ('storectl retention' shows what could go)"
	case percent >= refused:
		r.Level = LevelProblem
		r.Advice = fmt.Sprintf("make room: a broker takes no messages from %d %% on", refused)
	case percent >= cleaned:
		r.Level = LevelNote
		r.Advice = fmt.Sprintf("expect that a broker with default settings removes old files of the log from %d %% on, whatever their age", cleaned)
	}
	return r
}

// reserved compares the blocks that files of the log have with their length.
func (x *doctor) reserved() error {
	log, err := x.d.openLog()
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }() // read-only: nothing can be lost
	files, missing := 0, int64(0)
	for _, f := range log.Files().Files() {
		blocks, err := allocated(f.Path())
		if errors.Is(err, fs.ErrNotExist) {
			continue // expired meanwhile
		}
		if err != nil {
			return err
		}
		if blocks < f.Size() {
			files, missing = files+1, missing+f.Size()-blocks
		}
	}
	u, err := mappedfile.DiskUsage(mappedfile.OS(), x.disk)
	if err != nil {
		return err
	}
	return x.report(diagnoseReserved(files, missing, u.Free))
}

func diagnoseReserved(files int, missing, free int64) Diagnosis {
	r := Diagnosis{Level: LevelOK, Check: "reserved", Found: "every byte of the log's files has a block on the disk"}
	if files == 0 {
		return r
	}
	r.Level = LevelNote
	r.Found = fmt.Sprintf("%d files of the log have holes: %s without a block on the disk, %s are free", files, bytesText(missing), bytesText(free))
	r.Advice = "count them as used: a broker that writes there on a full disk ends with SIGBUS. Files that were copied or compressed have such holes, too"
	if missing > free {
		r.Level = LevelProblem
		r.Advice = "make room: the disk is full before these files are. A process that writes there through a mapping ends with SIGBUS"
	}
	return r
}

// mappedParts are the directories whose files a broker, or Stele, maps.
func (x *doctor) mappedParts() []string {
	return []string{x.d.log, x.d.queues(), filepath.Join(x.d.path, layout.Index), x.d.timesDir()}
}

// maps compares how many mappings a process may have with how many files there
// are to map.
func (x *doctor) maps() error {
	files, err := x.count()
	if err != nil {
		return err
	}
	limit, ok := maxMapCount()
	if !ok {
		return x.say(LevelNote, "maps", "", "%d files may be mapped; how many a process can map is not told here", files)
	}
	return x.report(diagnoseMaps(files, limit))
}

// otherMaps is what a process maps besides: libraries, stacks, heaps. A JVM has
// some hundreds of them, and the part of it that collects garbage more.
const otherMaps = 5000

func diagnoseMaps(files, limit int64) Diagnosis {
	r := Diagnosis{Level: LevelOK, Check: "maps", Found: fmt.Sprintf("%d files may be mapped, a process can have %d mappings (vm.max_map_count)", files, limit)}
	switch {
	case files+otherMaps > limit:
		r.Level = LevelProblem
	case 2*files+otherMaps > limit:
		r.Level = LevelNote
	default:
		return r
	}
	r.Advice = fmt.Sprintf("sysctl -w vm.max_map_count=%d, and the same in /etc/sysctl.d: above it no file can be mapped, and a broker ends with out of memory", max(655360, 4*files))
	return r
}

// limits looks at the limits of the process that has the store open, or of this
// one, which are often those of the shell that starts it.
func (x *doctor) limits() error {
	files, err := x.count()
	if err != nil {
		return err
	}
	pid, whose := os.Getpid(), "of this shell"
	if a := x.o.Abort; a != nil && a.Alive {
		pid, whose = a.PID, fmt.Sprintf("of process %d", a.PID)
	}
	l, ok := limitsOf(pid)
	if !ok {
		return x.say(LevelNote, "limits", "", "the limits %s can't be read", whose)
	}
	for _, r := range diagnoseLimits(l, whose, files, x.o.CommitLog.FileSize) {
		if err := x.report(r); err != nil {
			return err
		}
	}
	return nil
}

// unlimited stands for a limit that there is not.
const unlimited = -1

// limits are soft limits of a process.
type limits struct {
	files  int64
	locked int64 // bytes
}

func diagnoseLimits(l limits, whose string, files, fileSize int64) []Diagnosis {
	open := Diagnosis{Level: LevelOK, Check: "open-files", Found: fmt.Sprintf("%s open files is the limit %s", limitText(l.files, false), whose)}
	if l.files != unlimited && files+otherMaps > l.files {
		open.Level = LevelNote
		open.Found += fmt.Sprintf(", there are %d", files)
		open.Advice = fmt.Sprintf("raise it to %d for a broker, which keeps each file open (ulimit -n, or LimitNOFILE= of a service); Stele keeps few", max(655350, 2*files))
	}
	lock := Diagnosis{Level: LevelOK, Check: "memlock", Found: fmt.Sprintf("%s may be locked in memory, %s", limitText(l.locked, true), whose)}
	if l.locked != unlimited && l.locked < 2*fileSize {
		lock.Level = LevelNote
		lock.Found += fmt.Sprintf(": less than two files of %s", bytesText(fileSize))
		lock.Advice = "raise it (ulimit -l, or LimitMEMLOCK= of a service) if files are warmed up and locked, or a transient store pool is used; else nothing"
	}
	return []Diagnosis{open, lock}
}

func limitText(n int64, bytes bool) string {
	switch {
	case n == unlimited:
		return "unlimited"
	case bytes:
		return bytesText(n)
	default:
		return fmt.Sprint(n)
	}
}

// count counts the files that are there to be mapped.
func (x *doctor) count() (n int64, err error) {
	for _, dir := range x.mappedParts() {
		// The last element lets a link to a directory be followed.
		err := filepath.WalkDir(dir+string(filepath.Separator)+".", func(_ string, e fs.DirEntry, err error) error {
			if x.ctx.Err() != nil {
				return context.Cause(x.ctx)
			}
			if errors.Is(err, fs.ErrNotExist) {
				return nil // it never was, or was removed meanwhile
			}
			if err == nil && e.Type().IsRegular() {
				n++
			}
			return err
		})
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// clockAhead is how much newer than now a message may be before somebody's clock
// is wrong.
const clockAhead = time.Minute

// clock looks for store times that go backwards, and for ones to come.
func (x *doctor) clock() error {
	back, at, err := x.setBack()
	if err != nil {
		return err
	}
	const check = "clock"
	switch ahead := time.UnixMilli(x.o.CommitLog.LastStoreTime).Sub(x.now); {
	case back > timeindex.SetBack:
		err = x.say(LevelProblem, check, "search by offset and not by time around there, and let NTP slew the clock instead of setting it",
			"it was set back by %v, before the record at offset %d was stored", back, at)
	case back > 0:
		err = x.say(LevelNote, check, "nothing: searches by time allow for it", "it was set back by %v, before the record at offset %d was stored", back, at)
	case ahead > clockAhead:
		err = x.say(LevelProblem, check, "set the clock of the machine that is wrong: messages from the future expire late, and delayed ones are delivered at the wrong time",
			"the newest message is of %s, %v from now", x.now.Add(ahead).UTC().Format(time.RFC3339), ahead.Round(time.Second))
	default:
		err = x.say(LevelOK, check, "", "store times grow from file to file and within the last file")
	}
	return err
}
