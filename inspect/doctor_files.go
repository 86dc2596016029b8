// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/stelelog/stele/internal/layout"
	"github.com/stelelog/stele/keyindex"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
)

// files passes on what is wrong with the files and small ones of the store.
func (x *doctor) files() error {
	found := slices.Clone(x.o.Problems)
	stray, err := strayIndexFiles(filepath.Join(x.d.path, layout.Index))
	if err != nil {
		return err
	}
	for _, e := range stray {
		found = append(found, Problem{e})
	}
	set, err := x.d.openIndexOf(x.d.index, true)
	switch {
	case err == nil:
		for _, p := range set.Problems() {
			found = append(found, Problem{p})
		}
		_ = set.Close() // read-only
	case errors.Is(err, fs.ErrNotExist): // there is none
	case errors.Is(err, keyindex.ErrSizes):
		found = append(found, Problem{err})
	default:
		return err
	}
	for _, p := range found {
		if err := x.say(LevelProblem, "files", fileAdvice(p.Err), "%s", p.Error()); err != nil {
			return err
		}
	}
	if len(found) > 0 {
		return nil
	}
	return x.say(LevelOK, "files", "", "no file of the log, the queues or the index is missing, of a wrong length or one too many")
}

// fileAdvice says what to do about a file.
func fileAdvice(err error) string {
	switch {
	case errors.Is(err, mappedfile.ErrStrayFile):
		return "move it out of the directory: a broker and Stele do not open a store with it"
	case errors.Is(err, mappedfile.ErrMissingFile):
		return "bring it back from a backup; of a queue, 'storectl rebuild' makes a new one from the log"
	case errors.Is(err, mappedfile.ErrFileSize):
		return "find out who cut or copied it; the last file of a log that is empty can be removed, queues can be made again from the log"
	case errors.Is(err, keyindex.ErrSizes):
		return "give 'storectl verify' the broker's maxHashSlotNum and maxIndexNum as --index-slots and --index-entries; 'storectl rebuild' makes the index from the log"
	default:
		return "run 'storectl verify' for all of it"
	}
}

// known are the names that a broker, or Stele, makes in a store's directory.
var known = []string{
	layout.CommitLog, layout.ConsumeQueue, layout.BatchConsumeQueue, layout.Index, layout.Checkpoint, layout.Abort, layout.Lock, layout.Config, layout.Stele,
	"consumequeue_ext", "timerlog", "timerwheel", "timercheck", "compaction", "kvStore", "rocksdbstore", "transaction", "lost+found",
}

// strangers looks for what nobody put there who writes a store.
func (x *doctor) strangers() error {
	entries, err := os.ReadDir(x.d.path)
	if err != nil {
		return err
	}
	var names []string
	for _, e := range entries {
		name := strings.TrimSuffix(strings.TrimSuffix(e.Name(), ".bak"), ".tmp")
		if !slices.Contains(known, name) {
			names = append(names, e.Name())
		}
	}
	if len(names) == 0 {
		return x.say(LevelOK, "strangers", "", "nothing else lies in the store's directory")
	}
	const shown = 5
	more := ""
	if len(names) > shown {
		more = fmt.Sprintf(" and %d more", len(names)-shown)
	}
	return x.say(LevelNote, "strangers", "nothing, if you know what it is: neither a broker nor Stele touches it",
		"in the store's directory lies what is no part of a store: %s%s", strings.Join(names[:min(shown, len(names))], ", "), more)
}

// setBack returns by how much the clock went backwards at most, as far as the
// first records of all files and the records of the last one tell, and where.
func (x *doctor) setBack() (worst time.Duration, at message.Offset, err error) {
	log, err := x.d.openLog()
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = log.Close() }() // read-only: nothing can be lost
	files, err := x.d.retentionFiles(x.ctx, log)
	if err != nil || len(files) == 0 {
		return 0, 0, err
	}
	newest := int64(0)
	see := func(ms int64, off message.Offset) {
		if back := time.Duration(newest-ms) * time.Millisecond; ms > 0 && back > worst {
			worst, at = back, off
		}
		newest = max(newest, ms)
	}
	for _, f := range files {
		see(f.First, message.Offset(f.Base))
	}
	for r, err := range x.d.Messages(x.ctx, Filter{From: message.Offset(files[len(files)-1].Base)}) {
		var damage *DamageError
		var file *mappedfile.FileError
		switch {
		case errors.As(err, &damage) || errors.As(err, &file):
			// Overview has met it as well.
		case err != nil:
			return 0, 0, err
		default:
			see(r.StoreTimestamp, r.PhysicalOffset)
		}
	}
	return worst, at, nil
}

// allocated is how many bytes of a file have blocks on the disk.
func allocated(path string) (int64, error) {
	info, err := os.Stat(filepath.Clean(path))
	if err != nil {
		return 0, err
	}
	const block = 512 // what st_blocks counts, whatever the file system
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Blocks * block, nil
	}
	return info.Size(), nil
}

// bytesText writes a number of bytes in words.
func bytesText(n int64) string {
	for _, u := range []struct {
		name  string
		bytes int64
	}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if n >= u.bytes {
			return fmt.Sprintf("%.1f %s", float64(n)/float64(u.bytes), u.name)
		}
	}
	return fmt.Sprintf("%d B", n)
}

// fileSystem is what is known about a kind of file system.
type fileSystem struct {
	name   string
	level  Level
	why    string // behind the name
	advice string
}
