// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"fmt"
	"path/filepath"

	"github.com/stelelog/stele/internal/layout"
	"github.com/stelelog/stele/keyindex"
	"github.com/stelelog/stele/message"
)

// chain puts the entry at hand into the chain of its slot and goes on to the
// next one.
func (x *keyCheck) chain(e keyindex.Entry, hash int32) error {
	var prev int32
	if hash >= 0 {
		head := &x.heads[int(hash)%len(x.heads)]
		prev, *head = *head, int32(x.k)
		if prev == 0 {
			x.used++
		}
	}
	var err error
	if hash < 0 || e.Prev != prev {
		err = x.unchained(e, hash, prev)
	}
	x.k++
	x.own = notAsked
	return err
}

// unchained reports the entry at hand, which does not name the one before it.
func (x *keyCheck) unchained(e keyindex.Entry, hash, prev int32) error {
	switch {
	case hash < 0:
		return x.entry(KindIndexHash, nil, fmt.Sprintf("hash %#x is negative", uint32(hash)))
	case int(e.Prev) >= x.k || e.Prev < 0:
		return x.entry(KindIndexChain, nil, fmt.Sprintf("entry %d is said to be before it in its chain, which never ends so; %d is", e.Prev, prev))
	}
	return x.entry(KindIndexChain, nil, fmt.Sprintf("entry %d is said to be before it in its chain, %d is", e.Prev, prev))
}

// entry reports something about the entry at hand. m is its record or nil.
func (x *keyCheck) entry(kind Kind, m *message.Message, detail string) error {
	s := x.files[x.cur]
	f := Finding{Kind: kind, File: s.Path(), Offset: s.sizes.EntryAt(x.k), Detail: fmt.Sprintf("entry %d: %s", x.k, detail)}
	f.of(m)
	return x.report(s, &f)
}

// of sets the place of a message.
func (f *Finding) of(m *message.Message) {
	if m != nil {
		f.Queued, f.Topic, f.QueueID, f.QueueOffset = true, m.Topic, m.QueueID, m.QueueOffset
	}
}

// header reports something about the header of a file.
func (x *keyCheck) header(s *keyFile, note bool, detail string) error {
	return x.report(s, &Finding{Kind: KindIndexHeader, Note: note, File: s.Path(), Offset: 0, Detail: "header: " + detail})
}

// report hands a finding on, unless its file has too many.
func (x *keyCheck) report(s *keyFile, f *Finding) error {
	if s.findings++; s.findings > maxKeyFindings {
		return nil
	}
	return x.v.finding(f)
}

// finish compares header and slots of the file at hand, whose entries were all
// met.
func (x *keyCheck) finish(s *keyFile) error {
	if s.gone {
		return nil
	}
	// The newest file of a store that is open, or was killed.
	open := x.v.abort != nil && x.cur == len(x.files)-1
	if err := x.ends(s, open); err != nil {
		return err
	}
	var wrong []Finding
	err := s.Read(func(m keyindex.Image) error {
		for i := m.NextDifferent(0, x.heads); i < m.Slots; i = m.NextDifferent(i+1, x.heads) {
			got, want := m.Slot(i), x.heads[i]
			if got == want || open && follow(m, got, s.n) == want {
				continue
			}
			if s.findings++; s.findings > maxKeyFindings {
				continue
			}
			wrong = append(wrong, Finding{
				Kind: KindIndexSlot, File: s.Path(), Offset: m.SlotAt(i),
				Detail: fmt.Sprintf("slot %d: it names entry %d, the newest of its chain is %d", i, got, want),
			})
		}
		return nil
	})
	if expired(err) {
		return nil
	}
	if err != nil {
		return unreadable(err)
	}
	for i := range wrong {
		if err := x.v.finding(&wrong[i]); err != nil {
			return err
		}
	}
	if more := s.findings - maxKeyFindings; more > 0 {
		f := Finding{Kind: KindIndexEntry, File: s.Path(), Offset: -1, Detail: fmt.Sprintf("%d more findings in this file are left out", more)}
		if err := x.v.finding(&f); err != nil {
			return err
		}
	}
	return s.Drop()
}

// follow goes back from an entry that was put after the first n.
func follow(m keyindex.Image, k int32, n int) int32 {
	for int(k) > n && int(k) < m.Entries && int(k) <= m.Len()+1 {
		prev := m.Entry(int(k)).Prev
		if prev >= k {
			break
		}
		k = prev
	}
	return k
}

// ends compares a header with the first and the last entry.
func (x *keyCheck) ends(s *keyFile, open bool) error {
	h := s.header
	if s.n == 0 {
		return nil // it has the end of the file before
	}
	var wrong []string
	if h.BeginOffset != s.first {
		wrong = append(wrong, fmt.Sprintf("it begins with offset %d, the first entry's is %d", h.BeginOffset, s.first))
	}
	last := ""
	switch {
	case h.EndOffset != s.final:
		last = fmt.Sprintf("it ends with offset %d, the last entry's is %d", h.EndOffset, s.final)
	case s.finalTime != 0 && h.EndTime != s.finalTime:
		last = fmt.Sprintf("it ends with time %d, the record of the last entry is of %d", h.EndTime, s.finalTime)
	case int(h.Count) == s.n+1 && h.SlotsUsed != x.used:
		last = fmt.Sprintf("it counts %d slots in use, %d are", h.SlotsUsed, x.used)
	}
	switch {
	case last == "":
	case !open || h.EndOffset < s.final:
		wrong = append(wrong, last)
	case !x.v.abort.Alive: // else it moves with each entry
		if err := x.header(s, true, last+": it was not closed in order"); err != nil {
			return err
		}
	}
	for _, w := range wrong {
		if err := x.header(s, false, w); err != nil {
			return err
		}
	}
	return nil
}

// add counts the keys of one more record.
func (r *keyRun) add(v *verifier, m *message.Message, keys int) {
	if r.keys == 0 {
		r.first = Finding{Kind: KindIndexMissing, File: v.fileAt(m.PhysicalOffset), Offset: int64(m.PhysicalOffset)}
		r.first.of(m)
	}
	r.keys += int64(keys)
	r.records++
	r.last = m.PhysicalOffset
}

// endRun reports the keys that the index lacks, once for records that follow each
// other.
func (x *keyCheck) endRun() error {
	r := x.missing
	if r.keys == 0 {
		return nil
	}
	x.missing = keyRun{}
	r.first.Detail = fmt.Sprintf("%d keys of %d records, from offset %d to %d, are not in the key index", r.keys, r.records, r.first.Offset, r.last)
	return x.v.finding(&r.first)
}

// conclude goes through the entries behind those of the last record, and reports
// what is known only now.
func (x *keyCheck) conclude() error {
	if err := x.endRun(); err != nil {
		return err
	}
	for {
		e, ok, err := x.peek()
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		switch x.ask(e) {
		case ownRecord:
			err = x.extra(e)
		case unknown:
			err = x.take(e, e.Hash, nil)
		default:
			if err = x.entry(KindIndexRecord, nil, fmt.Sprintf("it names offset %d, where no record has a key of its hash %#x", e.Offset, uint32(e.Hash))); err == nil {
				err = x.take(e, e.Hash, nil)
			}
		}
		if err != nil {
			return err
		}
	}
	if x.repeats > 0 {
		f := Finding{
			Kind: KindIndexEntry, Note: true, File: filepath.Join(x.v.d.path, layout.Index), Offset: -1,
			Detail: fmt.Sprintf("%d entries come twice; a broker enters the last record again when it is started", x.repeats),
		}
		if err := x.v.finding(&f); err != nil {
			return err
		}
	}
	return x.concludeTail()
}

// concludeTail reports records behind the last entry. After a kill that is what
// was not entered yet; without a file nobody keeps an index.
func (x *keyCheck) concludeTail() error {
	r := x.tail
	if r.keys == 0 {
		return nil
	}
	f := r.first
	switch {
	case len(x.set.Files()) == 0 && !x.whole:
		f.Note, f.File, f.Offset, f.Queued = true, filepath.Join(x.v.d.path, layout.Index), -1, false
		f.Detail = fmt.Sprintf("there is no key index: %d keys of %d records can't be queried", r.keys, r.records)
	case x.v.abort != nil:
		f.Note = true
		f.Detail = fmt.Sprintf("%d keys of the last %d records are not in the key index yet; opening the store puts them there", r.keys, r.records)
	default:
		// A store of Stele's that was opened without an index says so by having no note.
		f.Note = x.v.stele && !x.whole
		f.Detail = fmt.Sprintf("%d keys of the last %d records, from offset %d to %d, are not in the key index", r.keys, r.records, f.Offset, r.last)
	}
	return x.v.finding(&f)
}
