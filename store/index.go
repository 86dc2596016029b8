// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync"

	"github.com/stelelog/stele/commitlog"
	"github.com/stelelog/stele/internal/layout"
	"github.com/stelelog/stele/keyindex"
	"github.com/stelelog/stele/message"
)

// IndexOptions says how the key index is made.
type IndexOptions struct {
	// Slots and Entries are the size of each index file: RocketMQ's
	// maxHashSlotNum and maxIndexNum. A broker that is to read the directory must
	// have the same. 0 takes them from the files that are there, and RocketMQ's
	// defaults for a new index: its files are 420 MB long, of which only what is
	// used takes space. Files of another size are ErrFileSize; where the sizes
	// can't be told, Open returns keyindex.ErrSizes.
	Slots, Entries int
	// Off keeps no index: Query returns ErrIndexOff, files that are there stay as
	// they are. Opened without Off again, the store makes up for it from the log.
	Off bool
}

func (o IndexOptions) sizes() keyindex.Sizes {
	return keyindex.Sizes{Slots: o.Slots, Entries: o.Entries}
}

func (o IndexOptions) check() error {
	z := o.sizes()
	if z.Slots == 0 {
		z.Slots = 1
	}
	if z.Entries == 0 {
		z.Entries = 2
	}
	return z.Check()
}

// keyFeed is the key index, fed from the log.
type keyFeed struct {
	s      *Store
	set    *keyindex.Set
	newest string // the dispatcher's: the newest file when it put last

	mu sync.Mutex // guards what follows, and the writing of the note
	// note is what stele/index says, if noted.
	note  keyindex.Note
	noted bool
}

// openIndex opens the key index, which only looks at names and lengths.
func (s *Store) openIndex(readOnly bool) error {
	if s.o.Index.Off {
		return nil
	}
	k := &keyFeed{s: s}
	text, err := s.o.Disk.ReadFile(k.notePath())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	k.note, k.noted = keyindex.ParseNote(text)
	k.set, err = keyindex.OpenSet(keyindex.Options{
		Dir: s.path(layout.Index), Sizes: s.o.Index.sizes(), Hint: k.note.Sizes,
		Disk: s.o.Disk, Clock: s.o.Clock, Record: s.indexedRecord, ReadOnly: readOnly,
	})
	if errors.Is(err, keyindex.ErrSizes) {
		err = fmt.Errorf("%w: give them as Options.Index.Slots and Entries", err)
	}
	if err != nil {
		return err
	}
	if path := k.set.Unfinished(); path != "" {
		s.recovery.Unfinished = append(s.recovery.Unfinished, path)
	}
	s.index = k
	s.derived = append(s.derived, k)
	return nil
}

// endIndex says on disk that the index is not kept up any more.
func (s *Store) endIndex() error {
	if !s.o.Index.Off {
		return nil
	}
	return (&keyFeed{s: s}).unnote()
}

func (k *keyFeed) notePath() string {
	return filepath.Join(k.s.path(layout.Stele), layout.IndexNote)
}

// unnote takes the note away, durably: from here on the index has a hole.
func (k *keyFeed) unnote() error {
	k.noted = false
	err := k.s.o.Disk.Remove(k.notePath())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return k.s.o.Disk.SyncDir(k.s.path(layout.Stele))
}

// recover implements derived. The note counts only together with the marks: it
// says that the index is whole below the place that they name.
func (k *keyFeed) recover(from message.Offset) (message.Offset, error) {
	noted := k.noted && k.s.marked
	newest := ""
	if noted {
		newest = k.note.Newest
	}
	at, err := k.set.Recover(from, k.trust(), newest)
	if err != nil {
		return 0, err
	}
	if k.s.marks.Failed() {
		if err := k.set.Redirty(); err != nil {
			return 0, err
		}
	}
	k.newest = k.set.Newest()
	if !noted || k.newest < newest {
		// Files that are there are trusted; behind the last record that has an
		// entry nothing tells whether others had a key.
		at = min(at, k.set.End())
	}
	if at < from || !noted || k.newest < newest {
		return at, k.unnote() // the next flush writes another
	}
	return at, nil
}

func (k *keyFeed) trust() keyindex.Trust {
	switch k.s.recovery.Kind {
	case CleanClose:
		return keyindex.TrustAll
	case PowerCut, ForeignCrash:
		return keyindex.TrustNothing
	default: // a broker that closed may not have flushed, but wrote in order
		return keyindex.TrustOrder
	}
}

// put implements derived. A new file is noted at once: a killed process leaves
// what it put, so the file must not be missed only from the next flush on.
func (k *keyFeed) put(m *message.Message) error {
	if err := k.set.Put(m); err != nil {
		return err
	}
	name := k.set.Newest()
	if name == k.newest {
		return nil
	}
	noted, err := k.write(name, false)
	if noted {
		k.newest = name
	}
	return err
}

// flush implements derived.
func (k *keyFeed) flush() error {
	if err := k.set.Flush(); err != nil {
		return err
	}
	_, err := k.write(k.set.Newest(), true)
	return err
}

// write writes the note, if it says something else, and reports whether there is
// one. Where there was none it is for a flush to say that the index is whole. A
// file that is named may not be durable: without it, the next opening goes by
// what is left.
func (k *keyFeed) write(newest string, whole bool) (noted bool, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	note := keyindex.Note{Sizes: k.set.Sizes(), Newest: newest}
	if k.noted && note.Sizes == k.note.Sizes && note.Newest <= k.note.Newest || !k.noted && !whole {
		return k.noted, nil
	}
	err = k.s.o.Disk.WriteFile(k.notePath(), note.Format())
	k.note, k.noted = note, err == nil
	if errors.Is(err, ErrDiskFull) {
		// Without the note the next opening looks for what is missing. The
		// checkpoint after this one tries again.
		k.s.o.Logger.Warn("no space to note that the index is whole", "error", err)
		return false, k.unnote() // half of it is worth nothing
	}
	return k.noted, err
}

// expire implements derived.
func (k *keyFeed) expire(min message.Offset) error {
	_, err := k.set.Expire(min)
	return err
}

// close implements derived.
func (k *keyFeed) close() error { return k.set.Close() }

// indexedRecord is keyindex.Options.Record.
func (s *Store) indexedRecord(off message.Offset) (*message.Message, error) {
	v, err := s.log.ViewRecord(off)
	if errors.Is(err, commitlog.ErrExpired) {
		return nil, nil
	}
	var m *message.Message
	if err == nil {
		defer v.Release()
		m, err = decodeCopy(v, off)
	}
	var corrupt *commitlog.CorruptError
	if errors.As(err, &corrupt) || errors.Is(err, commitlog.ErrOutOfRange) {
		err = fmt.Errorf("%w: %w", keyindex.ErrNoRecord, err)
	}
	return m, err
}
