// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/stelelog/stele/consumequeue"
	"github.com/stelelog/stele/internal/checkpoint"
	"github.com/stelelog/stele/internal/layout"
	"github.com/stelelog/stele/keyindex"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
)

// FileKind is what a file of a store holds.
type FileKind string

// The kinds that Dump knows.
const (
	FileLog        FileKind = "commitlog"
	FileQueue      FileKind = "consumequeue"
	FileIndex      FileKind = "index"
	FileCheckpoint FileKind = "checkpoint"
)

// FileKinds are all of them.
var FileKinds = []FileKind{FileLog, FileQueue, FileIndex, FileCheckpoint}

// ErrFileKind is returned for a file of which nothing tells what it holds.
var ErrFileKind = errors.New("what the file holds can't be told from its path, name or content")

// DumpOptions say what of a file to dump.
type DumpOptions struct {
	// Kind is found out when it is empty.
	Kind FileKind
	// From is the position in the file at which to begin, in bytes. What it lies in
	// the middle of is left out, but for a queue, where its entry is shown whole.
	From int64
	// Limit ends the dump after so many records or entries; 0 means none. What
	// stands around them, a filler, a header or slots, does not count.
	Limit int64
	// Sizes are those of an index file, as KeyQuery.Sizes.
	Sizes keyindex.Sizes
}

// Field is a stretch of a file and what it means. Fields come in the order of the
// file, without a gap from the first one on.
type Field struct {
	// Item says what begins with this field: "record", "entry 17". It is empty for
	// the other fields of the same.
	Item string
	Name string
	At   int64 // position in the file
	Size int64 // bytes
	// Bytes are the field's, at most the first MaxFieldBytes of them. They are
	// valid until the function that got the field returns.
	Bytes []byte
	Value string // what they mean; empty when they speak for themselves
	// Damage is what is wrong with it, or nil.
	Damage error
}

// MaxFieldBytes is how many bytes of a field are given at most: a body has
// megabytes.
const MaxFieldBytes = 256

// KindOfFile finds out what a file holds: by the directory that it is in, else by
// its name, else by its first bytes.
func KindOfFile(path string) (FileKind, error) {
	full, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	name, dir := filepath.Base(full), filepath.Dir(full)
	_, numbered := mappedfile.ParseFileName(name)
	switch {
	case name == layout.Checkpoint:
		return FileCheckpoint, nil
	case numbered && filepath.Base(dir) == layout.CommitLog:
		return FileLog, nil
	case numbered && filepath.Base(filepath.Dir(filepath.Dir(dir))) == layout.ConsumeQueue:
		return FileQueue, nil
	case keyindex.IsFileName(name):
		return FileIndex, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }() // only read
	b := make([]byte, 2*consumequeue.EntrySize)
	n, err := io.ReadFull(f, b)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return "", err
	}
	b = b[:n]
	if _, kind, _ := message.Peek(b); kind == message.KindMessage || kind == message.KindFiller {
		return FileLog, nil
	}
	if n == 2*consumequeue.EntrySize && numbered {
		first, second := consumequeue.DecodeEntry(b), consumequeue.DecodeEntry(b[consumequeue.EntrySize:])
		if (first.Valid() || first.IsBlank()) && (second.Valid() || second.IsBlank() || second == (consumequeue.Entry{})) {
			return FileQueue, nil
		}
	}
	return "", fmt.Errorf("%s: %w", path, ErrFileKind)
}

// Dumped sums up a dump.
type Dumped struct {
	Kind   FileKind
	Items  int64 // records or entries
	Damage int64 // fields with Damage
}

// errDumped ends a dump at its limit.
var errDumped = errors.New("limit")

// Dump goes through one file, field by field. It needs nothing but the file: one
// of a broken store will do, or a copy. Damage is in its place, and the dump goes
// on behind it. The file is read, not mapped, so nothing happens when it is cut
// meanwhile. Memory does not grow with the file, but with the longest record.
//
// The error is the first one of emit, that of ctx, one that wraps ErrFileKind or
// keyindex.ErrSizes, or what the file system said.
func Dump(ctx context.Context, path string, o DumpOptions, emit func(*Field) error) (Dumped, error) {
	if o.Kind == "" {
		kind, err := KindOfFile(path)
		if err != nil {
			return Dumped{}, err
		}
		o.Kind = kind
	}
	f, err := os.Open(path)
	if err != nil {
		return Dumped{}, err
	}
	defer func() { _ = f.Close() }() // only read
	info, err := f.Stat()
	if err != nil {
		return Dumped{}, err
	}
	if !info.Mode().IsRegular() {
		return Dumped{}, fmt.Errorf("%s: %w: it is no regular file", path, ErrFileKind)
	}
	d := &dumper{ctx: ctx, path: path, o: o, emit: emit, file: window{file: f, size: info.Size()}, sum: Dumped{Kind: o.Kind}, base: -1}
	if base, ok := mappedfile.ParseFileName(filepath.Base(path)); ok {
		d.base = base
	}
	switch o.Kind {
	case FileLog:
		err = d.log()
	case FileQueue:
		err = d.queue()
	case FileIndex:
		err = d.index()
	case FileCheckpoint:
		err = d.checkpoint()
	default:
		err = fmt.Errorf("%w: %q", ErrFileKind, o.Kind)
	}
	if errors.Is(err, errDumped) {
		err = nil
	}
	return d.sum, err
}

// dumper is one run of Dump.
type dumper struct {
	ctx   context.Context
	path  string
	o     DumpOptions
	emit  func(*Field) error
	file  window
	base  int64 // what the name says, -1 when it says nothing
	sum   Dumped
	field Field
}

// item counts a record or an entry and ends the dump when there were enough.
func (d *dumper) item() error {
	if d.ctx.Err() != nil {
		return context.Cause(d.ctx)
	}
	if d.o.Limit > 0 && d.sum.Items == d.o.Limit {
		return errDumped
	}
	d.sum.Items++
	return nil
}

// put hands on one field.
func (d *dumper) put(item, name string, at, size int64, value string, damage error) error {
	b, err := d.file.bytes(at, min(size, MaxFieldBytes))
	if err != nil {
		return err
	}
	if damage != nil {
		d.sum.Damage++
	}
	d.field = Field{Item: item, Name: name, At: at, Size: size, Bytes: b, Value: value, Damage: damage}
	return d.emit(&d.field)
}

// checkpoint dumps StoreCheckpoint.java's five values.
func (d *dumper) checkpoint() error {
	names := []string{"log flushed up to (physicMsgTimestamp)", "queues flushed up to (logicsMsgTimestamp)",
		"index flushed up to (indexMsgTimestamp)", "master flushed (masterFlushedOffset)", "confirmed (confirmPhyOffset)"}
	at := int64(0)
	for i, name := range names {
		b, err := d.file.bytes(at, 8)
		if err != nil {
			return err
		}
		if len(b) < 8 {
			return d.put("", name, at, int64(len(b)), "", fmt.Errorf("the file ends here: it has %d bytes, want %d", d.file.size, checkpoint.Size))
		}
		value := fmt.Sprint(be64(b))
		if i < 3 {
			value = timeText(be64(b))
		}
		if at >= d.o.From {
			if err := d.item(); err != nil {
				return err
			}
			if err := d.put("", name, at, 8, value, nil); err != nil {
				return err
			}
		}
		at += 8
	}
	if d.o.Limit > 0 {
		return nil
	}
	return d.rest(at, "unused")
}

// rest dumps what is behind the last thing that means something: zeros.
func (d *dumper) rest(at int64, name string) error {
	if at >= d.file.size {
		return nil
	}
	end, err := d.file.zeros(d.ctx, at, d.file.size)
	if err != nil {
		return err
	}
	if end > at {
		if err := d.put("zeros", name, at, end-at, "zeros", nil); err != nil {
			return err
		}
	}
	if end == d.file.size {
		return nil
	}
	return d.put("bytes", name, end, d.file.size-end, "", errors.New("not zero, where nothing should stand"))
}
