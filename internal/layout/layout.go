// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

// Package layout knows what lies where in a store's directory, and tells a
// store that can be read from one that can't and from what is no store at all.
//
// RocketMQ has several ways to keep its data (StorePathConfigHelper.java,
// DLedgerConfig.java). One of them is read here: one directory of commit log
// files, and consume queues as files. The others are refused by name, because a
// half-read store looks like one that lost data.
package layout

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
)

// The names in a store's directory.
const (
	CommitLog         = "commitlog"
	ConsumeQueue      = "consumequeue"
	BatchConsumeQueue = "batchconsumequeue"
	Index             = "index"
	Checkpoint        = "checkpoint"
	Abort             = "abort"
	Lock              = "lock"
	Config            = "config"
	Stele             = "stele" // what Stele adds
	Meta              = "meta"  // in Stele: the Pebble metadata
	IndexNote         = "index" // in Stele: that the key index is whole
)

var (
	// ErrNotStore marks a directory that is missing, or holds something else.
	ErrNotStore = errors.New("not a store")
	// ErrEmpty marks a directory that holds nothing; it comes inside an
	// ErrNotStore.
	ErrEmpty = errors.New("empty directory")
	// ErrUnsupported marks a store in a layout that is not read; a LayoutError
	// around it names the layout.
	ErrUnsupported = errors.New("unsupported layout")
)

// The layouts that are refused.
const (
	RocksDB   = "RocksDB consume queues"
	DLedger   = "DLedger commit log"
	MultiPath = "commit log in several directories"
	BatchCQ   = "batch consume queues"
)

// Error names a layout that is not read.
type Error struct {
	Layout   string // RocksDB, DLedger, MultiPath or BatchCQ
	Path     string // where it shows
	Evidence string // how
}

// Error implements error.
func (e *Error) Error() string {
	return fmt.Sprintf("%s: %v: %s (%s)", e.Path, ErrUnsupported, e.Layout, e.Evidence)
}

// Unwrap returns ErrUnsupported.
func (e *Error) Unwrap() error { return ErrUnsupported }

// parts are the names of which one at least makes a directory a store. `lock`
// alone does not: other programs have a file of that name.
var parts = []string{CommitLog, ConsumeQueue, BatchConsumeQueue, Index, Checkpoint, Abort, Stele}

// harmless are names that an empty directory may hold all the same: the root of
// a file system, and what an interrupted first opening left.
var harmless = []string{"lost+found", Lock}

// dledgerPrefix begins the directory of a DLedger node, its id follows.
const dledgerPrefix = "dledger-"

// Check returns nil when dir is a store in the layout that is read. It only
// looks. log is the directory of the commit log files when they are not in
// dir, else "".
func Check(disk mappedfile.Disk, dir, log string) error {
	entries, err := disk.List(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		return fmt.Errorf("%w: %w", ErrNotStore, err)
	case err != nil:
		return err
	}
	if err := refuse(disk, dir, entries); err != nil {
		return err
	}
	if !slices.ContainsFunc(entries, func(e mappedfile.Entry) bool { return slices.Contains(parts, e.Name) }) {
		return notStore(dir, entries)
	}
	if log == "" {
		log = filepath.Join(dir, CommitLog)
	}
	return checkLog(disk, log)
}

// notStore says why a directory without any part of a store is none.
func notStore(dir string, entries []mappedfile.Entry) error {
	var first *mappedfile.Entry
	for i, e := range entries {
		if _, ok := mappedfile.ParseFileName(e.Name); ok && !e.Dir {
			return fmt.Errorf("%w: %s holds files of a log or a queue; the store is a directory above it", ErrNotStore, dir)
		}
		if first == nil && !slices.Contains(harmless, e.Name) {
			first = &entries[i]
		}
	}
	if first == nil {
		return fmt.Errorf("%w: %s: %w", ErrNotStore, dir, ErrEmpty)
	}
	return fmt.Errorf("%w: nothing in %s belongs to a store (it holds %q)", ErrNotStore, dir, first.Name)
}

// refuse looks for layouts that the names in the directory give away.
func refuse(disk mappedfile.Disk, dir string, entries []mappedfile.Entry) error {
	for _, e := range entries {
		path := filepath.Join(dir, e.Name)
		if !e.Dir {
			continue
		}
		switch {
		case strings.HasPrefix(e.Name, dledgerPrefix):
			return &Error{Layout: DLedger, Path: path, Evidence: "the directory of a DLedger node"}
		case e.Name == ConsumeQueue:
			// CURRENT names the manifest and is in every RocksDB.
			if has, err := holdsFile(disk, path, "CURRENT"); err != nil {
				return err
			} else if has {
				return &Error{Layout: RocksDB, Path: path, Evidence: "it holds a RocksDB, which has a file CURRENT"}
			}
		case e.Name != CommitLog && strings.HasPrefix(e.Name, CommitLog):
			if files, err := listFiles(disk, path); err != nil {
				return err
			} else if len(files) > 0 {
				return &Error{Layout: MultiPath, Path: path, Evidence: "a second directory of commit log files"}
			}
		}
	}
	return nil
}

// CheckBatchQueues refuses a store that has batch consume queues. They can be
// left alone by a reader, but not by a writer.
func CheckBatchQueues(disk mappedfile.Disk, dir string) error {
	path := filepath.Join(dir, BatchConsumeQueue)
	topics, err := disk.List(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, t := range topics {
		if t.Dir {
			return &Error{Layout: BatchCQ, Path: path, Evidence: fmt.Sprintf("topic %q has some", t.Name)}
		}
	}
	return nil
}

func holdsFile(disk mappedfile.Disk, dir, name string) (bool, error) {
	entries, err := disk.List(dir)
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(entries, func(e mappedfile.Entry) bool { return e.Name == name && !e.Dir }), nil
}

// checkLog looks at the bases of the log's files and at the first bytes.
func checkLog(disk mappedfile.Disk, log string) error {
	entries, err := listFiles(disk, log)
	if err != nil || len(entries) == 0 {
		return err
	}
	path := filepath.Join(log, entries[0].Name)
	if wrapped, err := dledgerEntryAt(disk, path); err != nil {
		return err
	} else if wrapped {
		return &Error{Layout: DLedger, Path: path, Evidence: "its first record is wrapped in a DLedger entry"}
	}
	if n := stride(entries); n > 1 {
		return &Error{Layout: MultiPath, Path: log, Evidence: fmt.Sprintf("of every %d files one is here", n)}
	}
	return nil
}

// stride returns how many files' lengths lie between each two neighbours when
// the same number does everywhere, and 0 otherwise. One hole alone proves
// nothing: it is a missing file.
func stride(files []mappedfile.Entry) int64 {
	if len(files) < 3 || files[0].Size <= 0 {
		return 0
	}
	base := func(i int) int64 { b, _ := mappedfile.ParseFileName(files[i].Name); return b }
	step := base(1) - base(0)
	for i := 2; i < len(files); i++ {
		if base(i)-base(i-1) != step {
			return 0
		}
	}
	if step%files[0].Size != 0 {
		return 0
	}
	return step / files[0].Size
}

func listFiles(disk mappedfile.Disk, dir string) ([]mappedfile.Entry, error) {
	entries, err := disk.List(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(entries, func(e mappedfile.Entry) bool {
		_, ok := mappedfile.ParseFileName(e.Name)
		return e.Dir || !ok
	}), nil
}

// A DLedger entry: magic (1), size, index, term, pos, channel, chain CRC, body
// CRC, body size, body (DLedgerEntry.java). The body is a record.
const (
	dledgerMagic      = 1
	dledgerBodyOffset = 48
)

// dledgerEntryAt reports whether the file begins with a DLedger entry.
func dledgerEntryAt(disk mappedfile.Disk, path string) (bool, error) {
	r, err := disk.Open(path, mappedfile.Mapping{ReadOnly: true})
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, mappedfile.ErrFileSize) {
		return false, nil // expired since it was listed, or empty
	}
	if err != nil {
		return false, err
	}
	b := r.Bytes()
	wrapped := false
	if len(b) >= dledgerBodyOffset+8 && binary.BigEndian.Uint32(b) == dledgerMagic {
		magic := binary.BigEndian.Uint32(b[dledgerBodyOffset+4:])
		wrapped = magic == message.MagicV1 || magic == message.MagicV2
	}
	return wrapped, r.Close()
}
