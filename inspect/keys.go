// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"path/filepath"
	"strings"

	"github.com/stelelog/stele/commitlog"
	"github.com/stelelog/stele/internal/layout"
	"github.com/stelelog/stele/keyindex"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
)

// KeyQuery says which messages Query looks for.
type KeyQuery struct {
	Topic, Key string
	// Unique asks for messages whose UNIQ_KEY is the key; otherwise a word of
	// KEYS will do as well.
	Unique bool
	// Begin and End are store times in milliseconds, both within; 0 is no bound.
	Begin, End int64
	// Max bounds how many messages are yielded; 0 is no bound.
	Max int64
	// Sizes are those of the index files, for a directory that does not tell them
	// (keyindex.ErrSizes). Of one that is given the other follows.
	Sizes keyindex.Sizes
}

// openIndex lists the index files as they are now.
func (d *Dir) openIndex(z keyindex.Sizes) (*keyindex.Set, error) { return d.openIndexOf(z, false) }

// openIndexOf is openIndex, for files that may be damaged as well.
func (d *Dir) openIndexOf(z keyindex.Sizes, damaged bool) (*keyindex.Set, error) {
	disk := mappedfile.OS()
	text, err := disk.ReadFile(filepath.Join(d.path, layout.Stele, layout.IndexNote))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	note, _ := keyindex.ParseNote(text)
	return keyindex.OpenSet(keyindex.Options{
		Dir: filepath.Join(d.path, layout.Index), Disk: disk, ReadOnly: true, Damaged: damaged, Sizes: z, Hint: note.Sizes,
	})
}

// Query yields the messages that have a key, newest first, by the index files as
// they are. Each message is valid until the next step.
//
// A *keyindex.DamageError, a *mappedfile.FileError for an index file that is
// passed over, and a *commitlog.CorruptError for a record that might have the
// key are yielded in between, and the search goes on. Any other error is the
// last thing: it wraps keyindex.ErrSizes when KeyQuery.Sizes are needed.
func (d *Dir) Query(ctx context.Context, q KeyQuery) iter.Seq2[*message.Message, error] {
	return func(yield func(*message.Message, error) bool) {
		set, err := d.openIndex(q.Sizes)
		if err != nil {
			yield(nil, err)
			return
		}
		defer func() { _ = set.Close() }() // read-only: nothing can be lost
		// Listed after the index, so that it has what that names.
		log, err := d.openLog()
		if err != nil {
			yield(nil, err)
			return
		}
		defer func() { _ = log.Close() }()
		w := &keyWalk{ctx: ctx, q: q, records: newReader(log), yield: yield}
		defer w.records.close()
		for _, p := range set.Problems() {
			if !yield(nil, p) {
				return
			}
		}
		err = set.Find(q.Topic, q.Key, keyindex.Range{Begin: q.Begin, End: q.End}, w.visit)
		if w.stopped {
			return
		}
		if err == nil && ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		for _, e := range split(err) {
			if !yield(nil, unreadable(e)) {
				return
			}
		}
	}
}

// split takes a joined error apart.
func split(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	if err == nil {
		return nil
	}
	return []error{err}
}

// keyWalk is one iteration over what an index names.
type keyWalk struct {
	ctx     context.Context
	q       KeyQuery
	records *reader
	msg     message.Message
	seen    map[message.Offset]bool // a record may have its key twice
	found   int64
	stopped bool // by who asks
	yield   func(*message.Message, error) bool
}

func (w *keyWalk) visit(off message.Offset) bool {
	if w.ctx.Err() != nil {
		return false
	}
	if w.seen[off] {
		return true
	}
	if w.seen == nil {
		w.seen = map[message.Offset]bool{}
	}
	w.seen[off] = true
	err := w.records.readAt(off, &w.msg)
	if errors.Is(err, commitlog.ErrExpired) {
		return true
	}
	m := &w.msg
	if err == nil && (m.Topic != w.q.Topic || !keyindex.HasKey(m, w.q.Key, w.q.Unique) ||
		m.StoreTimestamp < w.q.Begin || w.q.End > 0 && m.StoreTimestamp > w.q.End) {
		return true
	}
	if err != nil {
		m = nil
	} else {
		w.found++
	}
	w.stopped = !w.yield(m, err) || w.found == w.q.Max
	return !w.stopped
}

// readAt decodes the record at an offset into m, in the terms of read.
func (r *reader) readAt(off message.Offset, m *message.Message) error {
	r.close()
	return guard(func() error {
		v, err := r.log.ViewRecord(off)
		if err != nil {
			return err
		}
		r.view = v
		err = r.dec.Decode(v.Bytes(), m)
		if err == nil && commitlog.Torn(m) {
			err = commitlog.ErrTorn
		}
		if err != nil {
			return &commitlog.CorruptError{Path: v.File().Path(), Offset: off, Cause: err}
		}
		return nil
	})
}

// ByID returns the message of an id (RocketMQ's offsetMsgId: 32 hex digits, 56
// for an IPv6 host), as a copy. The error wraps message.ErrBadID for text that is
// no id, ErrWrongID for one of another store or of no message, and is a
// *commitlog.CorruptError for a record that is damaged.
func (d *Dir) ByID(id string) (*message.Message, error) {
	_, off, err := message.ParseID(id)
	if err != nil {
		return nil, err
	}
	log, err := d.openLog()
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()
	r := newReader(log)
	defer r.close()
	var m message.Message
	err = r.readAt(off, &m)
	var corrupt *commitlog.CorruptError
	switch {
	case errors.Is(err, commitlog.ErrOutOfRange), errors.Is(err, commitlog.ErrExpired):
		return nil, fmt.Errorf("%w: %s: %w", ErrWrongID, id, err)
	case errors.As(err, &corrupt) && r.view.File() == nil:
		return nil, fmt.Errorf("%w: %s: no message begins at offset %d", ErrWrongID, id, off)
	case err != nil:
		return nil, err
	case m.ID() != strings.ToUpper(id):
		return nil, fmt.Errorf("%w: %s: the message at offset %d has %s", ErrWrongID, id, off, m.ID())
	}
	c := &message.Message{}
	err = guard(func() error {
		c = m.Clone()
		return nil
	})
	return c, err
}
