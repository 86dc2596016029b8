// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"errors"
	"io/fs"

	"github.com/stelelog/stele/consumequeue"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
)

type queueKey struct {
	topic string
	id    int32
}

// rawQueue is a consume queue as its files are, whatever they hold: a damaged
// entry ends the queue for a consumer, and must not for who looks for damage.
type rawQueue struct {
	queueKey
	dir   string
	files *mappedfile.Queue
	end   int64           // behind the last entry that is not zeros
	page  mappedfile.View // of the file that was looked at last
	fresh bool            // the files were listed again

	matched int64 // entries that were found to be right, by their records
	suspect bool  // an entry was not
	run     run   // of records that it lacks
}

func (q *rawQueue) list() error {
	files, err := mappedfile.OpenQueue(mappedfile.Options{
		Dir: q.dir, DefaultSize: consumequeue.DefaultFileSize, Disk: mappedfile.OS(), Tolerant: true,
		Mapping: mappedfile.Mapping{ReadOnly: true, Lean: true, Random: true},
	})
	if err != nil {
		return err
	}
	q.files = files
	return nil
}

// findEnd finds the last entry that is not zeros, in the last file that has
// one, and returns the last one that points to a record.
func (q *rawQueue) findEnd() (last consumequeue.Entry, err error) {
	files := q.files.Files()
	for k := len(files) - 1; k >= 0; k-- {
		f := files[k]
		view, err := f.View(0, f.Size())
		if err != nil {
			return last, err
		}
		end := int64(0)
		b := view.Bytes()
		for pos := f.NextData(0); pos < f.Size(); {
			at := pos / consumequeue.EntrySize * consumequeue.EntrySize
			n := (min(at+scanStep, f.Size()) - at) / consumequeue.EntrySize
			some := b[at : at+n*consumequeue.EntrySize]
			at += n * consumequeue.EntrySize
			for found := false; len(some) > 0; {
				k := len(some) - consumequeue.EntrySize
				e := consumequeue.DecodeEntry(some[k:])
				some = some[:k]
				if e == (consumequeue.Entry{}) {
					continue
				}
				if !found {
					found, end = true, at-n*consumequeue.EntrySize+int64(k)+consumequeue.EntrySize
				}
				if e.Valid() {
					last = e
					break
				}
			}
			pos = f.NextData(max(at, pos+1))
		}
		view.Release()
		if err := f.Drop(); err != nil {
			return last, err
		}
		if end > 0 {
			q.end = (f.Base() + end) / consumequeue.EntrySize
			return last, nil
		}
	}
	return last, nil
}

// scanStep is how much of a queue file is looked at before the file system is
// asked where the next data is; a multiple of the size of an entry.
const scanStep = 4096 * consumequeue.EntrySize

// peek returns one entry of the file that was looked at last, and false where that
// does not hold it.
func (q *rawQueue) peek(at int64) (e consumequeue.Entry, there bool) {
	f := q.page.File()
	if f == nil {
		return e, false
	}
	b := q.page.Bytes()
	rel := at*consumequeue.EntrySize - f.Base()
	if rel < 0 || rel > int64(len(b))-consumequeue.EntrySize {
		return e, false
	}
	return consumequeue.DecodeEntry(b[rel:]), true
}

// found counts an entry that is right, unless it came since the queue was listed.
func (q *rawQueue) found(at message.QueueOffset) {
	if int64(at) < q.end {
		q.matched++
	}
}

// entry returns one entry, and false where no file holds it.
func (q *rawQueue) entry(at int64) (consumequeue.Entry, bool, error) {
	pos := at * consumequeue.EntrySize
	if f := q.page.File(); f == nil || pos < f.Base() || pos >= f.End() {
		q.page.Release()
		q.page = mappedfile.View{}
		f := q.files.Find(pos)
		if f == nil && pos >= q.files.End() && !q.fresh {
			// The owner may have gone on to a new file since.
			q.fresh = true
			_ = q.files.Close()
			if err := q.list(); err != nil {
				return consumequeue.Entry{}, false, err
			}
			f = q.files.Find(pos)
		}
		if f == nil {
			return consumequeue.Entry{}, false, nil
		}
		view, err := f.View(0, f.Size())
		if errors.Is(err, fs.ErrNotExist) {
			return consumequeue.Entry{}, false, nil // the owner expired it
		}
		if err != nil {
			return consumequeue.Entry{}, false, err
		}
		q.page = view
	}
	b := q.page.Bytes()
	rel := pos - q.page.File().Base()
	if rel+consumequeue.EntrySize > int64(len(b)) {
		return consumequeue.Entry{}, false, nil
	}
	return consumequeue.DecodeEntry(b[rel:]), true, nil
}

// path is the file that holds an entry, and its position there in bytes.
func (q *rawQueue) path(at int64) (string, int64) {
	pos := at * consumequeue.EntrySize
	if f := q.files.Find(pos); f != nil {
		return f.Path(), pos - f.Base()
	}
	return q.dir, -1
}
