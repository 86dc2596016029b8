// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/stelelog/stele/commitlog"
	"github.com/stelelog/stele/consumequeue"
	"github.com/stelelog/stele/message"
)

// run is a sequence of records without an entry.
type run struct {
	n           int64
	first, last message.QueueOffset
	at          message.Offset // of the first one
	why         string
}

// openQueues lists all queues, finds their ends, and how far the dispatcher has
// come.
func (v *verifier) openQueues() error {
	topics, err := os.ReadDir(v.d.queues())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, t := range topics {
		ids, err := os.ReadDir(filepath.Join(v.d.queues(), t.Name()))
		if err != nil {
			if !t.IsDir() {
				continue // RocketMQ looks at directories only
			}
			return err
		}
		for _, sub := range ids {
			id, err := strconv.ParseInt(sub.Name(), 10, 32)
			if err != nil || !sub.IsDir() {
				continue
			}
			if err := v.openQueue(queueKey{t.Name(), int32(id)}); err != nil {
				return err
			}
		}
	}
	slices.SortFunc(v.order, func(a, b *rawQueue) int {
		return cmp.Or(cmp.Compare(a.topic, b.topic), cmp.Compare(a.id, b.id))
	})
	v.sum.Queues = len(v.order)
	return nil
}

func (v *verifier) openQueue(k queueKey) error {
	if v.ctx.Err() != nil {
		return v.ctx.Err()
	}
	q := &rawQueue{queueKey: k, dir: filepath.Join(v.d.queues(), k.topic, strconv.Itoa(int(k.id)))}
	if err := q.list(); err != nil {
		return err
	}
	v.queues[k] = q
	v.order = append(v.order, q)
	for _, p := range q.files.Problems() {
		f := Finding{Kind: KindFile, File: p.Path, Offset: -1, Detail: p.Error(), Queued: true, Topic: k.topic, QueueID: k.id, QueueOffset: message.QueueOffset(q.files.Min() / consumequeue.EntrySize)}
		if err := v.finding(&f); err != nil {
			return err
		}
	}
	return guard(func() error {
		last, err := q.findEnd()
		v.known = max(v.known, last.End())
		return err
	})
}

func (v *verifier) closeQueues() {
	for _, q := range v.order {
		q.page.Release()
		_ = q.files.Close() // read-only: nothing can be lost
	}
}

// recentQueues is how many queues are found without a hash over the name of their
// topic; a power of two.
const recentQueues = 256

// queueOf returns a queue, nil for one that has no directory.
func (v *verifier) queueOf(topic string, id int32) *rawQueue {
	n := len(topic)
	if n == 0 {
		return nil
	}
	at := &v.recent[(n+5*int(topic[n-1])+3*int(topic[n/2])+31*int(id))&(recentQueues-1)]
	if q := *at; q != nil && q.id == id && q.topic == topic {
		return q
	}
	q := v.queues[queueKey{topic, id}]
	if q != nil {
		*at = q
	}
	return q
}

// findEntries notes of which records the entries are as they should be, where
// that takes no more than a look into the files that are open. A fault, too, is
// left to record.
func (v *verifier) findEntries(seen []sighting) {
	_ = guard(func() error {
		for i := range seen {
			r := &seen[i]
			if r.sysFlag&message.InnerBatch != 0 {
				continue
			}
			q := v.queueOf(r.topic, r.queueID)
			if q == nil {
				continue
			}
			if e, there := q.peek(int64(r.queueOffset)); there && e.TagsCode == r.tags && e.Offset == r.offset && e.Size == r.size {
				r.queue = q
			}
		}
		return nil
	})
}

// record looks a record up in its queue. tags is what its entry should have.
func (v *verifier) record(m *message.Message, tags int64) error {
	if m.QueueStep() == 0 || m.SysFlag&message.InnerBatch != 0 {
		return nil // it has no place in a queue of this kind
	}
	q := v.queueOf(m.Topic, m.QueueID)
	if q == nil {
		q = &rawQueue{queueKey: queueKey{m.Topic, m.QueueID}, dir: filepath.Join(v.d.queues(), m.Topic, strconv.Itoa(int(m.QueueID)))}
		if err := q.list(); err != nil {
			return err
		}
		v.queues[q.queueKey] = q
		v.order = append(v.order, q)
	}
	var e consumequeue.Entry
	var there bool
	err := guard(func() (err error) {
		e, there, err = q.entry(int64(m.QueueOffset))
		return err
	})
	if err != nil {
		return err
	}
	switch {
	case there && e.Offset == m.PhysicalOffset && e.Size == m.Size && (e.TagsCode == tags || deliverTime(m, e)):
		q.found(m.QueueOffset)
		return v.endRun(q)
	case !there:
		return v.lacks(q, m, "no file holds its entry")
	case e == (consumequeue.Entry{}) || e.IsBlank():
		return v.lacks(q, m, "its entry was never filled")
	}
	q.suspect = true
	return v.duplicate(m, e)
}

// deliverTime reports whether an entry of a delayed message can be right though
// its time is not what RocketMQ's own levels say: a broker may have others.
func deliverTime(m *message.Message, e consumequeue.Entry) bool {
	return m.Topic == consumequeue.DelayTopic && e.TagsCode >= m.StoreTimestamp
}

// lacks notes a record that has no entry. At the end of the log of a store that
// was not closed that is what the dispatcher had not done yet.
func (v *verifier) lacks(q *rawQueue, m *message.Message, why string) error {
	late := v.checkpoint == nil || m.StoreTimestamp > v.checkpoint.Queues
	if v.abort != nil && m.PhysicalOffset >= v.known && late {
		if v.pending++; v.pending == 1 {
			v.pendFrom = m.PhysicalOffset
		}
		return nil
	}
	if q.run.n > 0 && (q.run.last+1 != m.QueueOffset || q.run.why != why) {
		if err := v.endRun(q); err != nil {
			return err
		}
	}
	if q.run.n == 0 {
		q.run = run{first: m.QueueOffset, at: m.PhysicalOffset, why: why}
	}
	q.run.n++
	q.run.last = m.QueueOffset
	return nil
}

// endRun reports the records that a queue lacks, once for those that follow each
// other.
func (v *verifier) endRun(q *rawQueue) error {
	r := q.run
	if r.n == 0 {
		return nil
	}
	q.run = run{}
	return v.finding(&Finding{
		Kind: KindUnqueued, File: v.fileAt(r.at), Offset: int64(r.at), Queued: true,
		Topic: q.topic, QueueID: q.id, QueueOffset: r.first,
		Detail: fmt.Sprintf("queue offsets %d to %d are not in %s: %s", r.first, r.last, q.dir, r.why),
	})
}

// duplicate reports a record whose place in the queue another record has by
// right. Otherwise it is the entry that is wrong, which is told when the queue is
// gone through.
func (v *verifier) duplicate(m *message.Message, e consumequeue.Entry) error {
	if !e.Valid() || e.Offset == m.PhysicalOffset {
		return nil
	}
	var other message.Message
	intact := v.records.read(e, &other) == nil
	if !intact || other.Topic != m.Topic || other.QueueID != m.QueueID || other.QueueOffset != m.QueueOffset {
		return nil
	}
	return v.finding(&Finding{
		Kind: KindDuplicate, File: v.fileAt(m.PhysicalOffset), Offset: int64(m.PhysicalOffset), Queued: true,
		Topic: m.Topic, QueueID: m.QueueID, QueueOffset: m.QueueOffset,
		Detail: fmt.Sprintf("the record at %d has this queue offset as well, and the queue's entry", e.Offset),
	})
}

// checkQueue goes through the entries of a queue, and reads their records if
// not every one of them was found right already.
func (v *verifier) checkQueue(q *rawQueue) error {
	first := q.files.Min() / consumequeue.EntrySize
	if !q.suspect && q.matched == q.end-first {
		v.sum.Entries += q.matched // there are no others
		return nil
	}
	live, leading, err := v.count(q, first)
	if err != nil {
		return err
	}
	v.sum.Entries += live
	if !q.suspect && live == q.matched {
		return nil
	}
	for at := leading; at < q.end; at++ {
		if at%4096 == 0 && v.ctx.Err() != nil {
			return v.ctx.Err()
		}
		var e consumequeue.Entry
		err := guard(func() (err error) {
			e, _, err = q.entry(at)
			return err
		})
		if err == nil {
			err = v.checkEntry(q, at, e)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// count returns how many entries point to a part of the log that is there, and
// the first entry behind the blank or expired ones that a queue may begin with.
func (v *verifier) count(q *rawQueue, first int64) (live, leading int64, err error) {
	leading = q.end
	err = guard(func() error {
		for at := first; at < q.end; at++ {
			e, there, err := q.entry(at)
			if err != nil {
				return err
			}
			if !there || e.IsBlank() || e.Valid() && e.Offset < v.log.Min() {
				continue
			}
			leading = min(leading, at)
			live++
		}
		return nil
	})
	return live, leading, err
}

// checkEntry compares an entry with the record that it points to.
func (v *verifier) checkEntry(q *rawQueue, at int64, e consumequeue.Entry) error {
	path, pos := q.path(at)
	f := Finding{File: path, Offset: pos, Queued: true, Topic: q.topic, QueueID: q.id, QueueOffset: message.QueueOffset(at)}
	if pos < 0 {
		return nil // the file is missing, which was said
	}
	var m message.Message
	switch {
	case e == (consumequeue.Entry{}) || e.IsBlank():
		f.Kind, f.Detail = KindHole, "an entry that was never filled, with entries behind it"
	case !e.Valid():
		f.Kind, f.Detail = KindNoRecord, fmt.Sprintf("offset %d and size %d can't be a record's", e.Offset, e.Size)
	case e.Offset < v.log.Min() || v.damaged(e.Offset):
		return nil
	case int64(e.End()) > v.log.Files().End():
		f.Kind, f.Detail = KindDangling, fmt.Sprintf("it points to [%d, %d), the log's files end at %d", e.Offset, e.End(), v.log.Files().End())
	default:
		err := v.records.read(e, &m)
		if errors.Is(err, ErrEntry) {
			f.Kind, f.Detail = KindSize, fmt.Sprintf("the record at %d has %d bytes, the entry says %d", e.Offset, m.Size, e.Size)
		} else if err != nil {
			f.Kind, f.Detail = KindNoRecord, fmt.Sprintf("no intact record at %d: %v", e.Offset, cause(err))
			if int64(e.Offset) >= int64(v.last.PhysicalOffset)+int64(v.last.Size) {
				f.Kind, f.Detail = KindDangling, fmt.Sprintf("it points to %d, the last record ends at %d", e.Offset, int64(v.last.PhysicalOffset)+int64(v.last.Size))
			}
		} else if m.Topic != q.topic || m.QueueID != q.id || int64(m.QueueOffset) != at {
			f.Kind, f.Detail = KindWrong, fmt.Sprintf("the record at %d is of topic %q, queue %d, offset %d", e.Offset, m.Topic, m.QueueID, m.QueueOffset)
		} else if want := consumequeue.EntryOf(&m, nil); e.TagsCode != want.TagsCode && !deliverTime(&m, e) {
			f.Kind, f.Detail = KindTag, fmt.Sprintf("it says tag hash %d, its record's is %d", e.TagsCode, want.TagsCode)
		} else {
			return nil
		}
	}
	return v.finding(&f)
}

// cause is an error without its place, which the Finding has.
func cause(err error) error {
	var corrupt *commitlog.CorruptError
	if errors.As(err, &corrupt) {
		return corrupt.Cause
	}
	return err
}
