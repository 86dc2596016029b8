// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package rebuild

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/stelelog/stele/commitlog"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
)

// LogMode says how the files of the log get into a new directory.
type LogMode int

const (
	// LogAuto links the files that the log has gone past, and clones or copies
	// the others; where links are impossible, and of a store that is open, it
	// clones or copies all.
	LogAuto LogMode = iota
	// LogLink is LogAuto, but fails where links are impossible.
	LogLink
	// LogReflink has all files share their blocks with the old ones until one is
	// written (FICLONE), and fails where the file system has no such thing.
	LogReflink
	// LogCopy copies all files. Holes stay holes.
	LogCopy
)

// LogModes are the names of the modes, by their number.
var LogModes = []string{"auto", "link", "reflink", "copy"}

// String names the mode.
func (m LogMode) String() string {
	if m < 0 || int(m) >= len(LogModes) {
		return fmt.Sprintf("LogMode(%d)", int(m))
	}
	return LogModes[m]
}

// logFile is a file of the log as it is brought over.
type logFile struct {
	name, path string
	base, size int64
	past       bool  // the log goes on in a later file
	limit      int64 // how much of it is copied; -1 is all
}

// bringLog makes the log of the new directory.
func (j *job) bringLog(to string) error {
	files, err := j.logFiles()
	if err != nil {
		return err
	}
	if err := j.disk.MkdirAll(to); err != nil {
		return err
	}
	for _, f := range files {
		if err := j.bring(f, filepath.Join(to, f.name)); err != nil {
			return err
		}
	}
	return j.disk.SyncDir(to)
}

func (j *job) bring(f logFile, to string) error {
	if f.past && !j.src.live && (j.Log == LogAuto || j.Log == LogLink) {
		err := os.Link(f.path, to)
		if err == nil {
			j.res.Linked++
			return nil
		}
		if j.Log == LogLink {
			return err
		}
	}
	cloned, err := j.copyFile(f.path, to, f.limit, j.Log == LogCopy)
	switch {
	case err != nil:
		return err
	case cloned:
		j.res.Cloned++
	case j.Log == LogReflink:
		return fmt.Errorf("reflink %s: %w", f.path, errors.ErrUnsupported)
	default:
		j.res.Copied++
	}
	return nil
}

// logFiles lists the files of the log, and tells which of them the log has gone
// past: those before a file that begins with something.
func (j *job) logFiles() ([]logFile, error) {
	entries, err := j.disk.List(j.CommitLog)
	if err != nil {
		return nil, err
	}
	var files []logFile
	for _, e := range entries {
		path := filepath.Join(j.CommitLog, e.Name)
		base, ok := mappedfile.ParseFileName(e.Name)
		if !ok || e.Dir {
			j.note("%s is no file of the log, and left behind", path)
			continue
		}
		files = append(files, logFile{name: e.Name, path: path, base: base, size: e.Size, limit: -1})
	}
	last := len(files) - 1
	for ; last > 0; last-- {
		begun, err := begins(files[last].path)
		if err != nil {
			return nil, err
		}
		if begun {
			break
		}
	}
	for i := range files[:last] {
		files[i].past = true
	}
	if !j.src.live {
		return files, nil
	}
	// What is appended while the last file is copied must not come into one part
	// of it and be missing in another.
	end, err := j.endOf(files[last])
	if err != nil {
		return nil, err
	}
	for i := range files[last:] {
		f := &files[last+i]
		f.limit = min(max(end-f.base, 0), f.size)
	}
	return files, nil
}

// begins reports whether a file begins with something other than zeros.
func begins(path string) (bool, error) {
	f, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer func() { _ = f.Close() }() // only read
	b := make([]byte, block)
	n, err := f.ReadAt(b, 0)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return !zeros(b[:n]), err
}

// endOf returns where in the file that the log ends in it ends now.
func (j *job) endOf(f logFile) (int64, error) {
	log, err := commitlog.Open(commitlog.Options{Dir: j.CommitLog, ReadOnly: true, Tolerant: true})
	if err != nil {
		return 0, err
	}
	defer func() { _ = log.Close() }() // read-only: nothing can be lost
	sc := log.Scan(message.Offset(f.base), message.Offset(f.base+f.size), commitlog.ScanOptions{Resync: commitlog.ResyncAlways})
	defer sc.Close()
	for sc.Next() { // only the end counts
		if j.ctx.Err() != nil {
			return 0, context.Cause(j.ctx)
		}
	}
	if st := sc.Stop(); st.Kind == commitlog.StopError {
		return 0, st.Err
	}
	return int64(sc.Offset()), nil
}
