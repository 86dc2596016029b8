// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/stelelog/stele/commitlog"
	"github.com/stelelog/stele/consumequeue"
	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/topicmeta"
)

// queueKey names one queue.
type queueKey struct {
	topic string
	id    int32
}

// queueState is what an append needs to know about a queue.
type queueState struct {
	key queueKey
	seq *commitlog.Sequence
	// refusal is why the queue can't be appended to, or nil. It follows from
	// the topic's declaration.
	refusal error
}

// queueTable holds the queues that were appended to. A declaration empties it:
// what follows from it is worked out anew.
type queueTable struct {
	mu     sync.RWMutex
	states map[queueKey]*queueState
	// seqs outlive the states: the next offset of a queue has one owner.
	seqs map[queueKey]*commitlog.Sequence
	// version grows, under mu, when states go.
	version atomic.Uint64
}

func newQueueTable() *queueTable {
	return &queueTable{states: map[queueKey]*queueState{}, seqs: map[queueKey]*commitlog.Sequence{}}
}

func (t *queueTable) forget(topic string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.version.Add(1)
	for k := range t.states {
		if k.topic == topic {
			delete(t.states, k)
		}
	}
}

// lastQueue is the queue that was looked up last. Whoever appends to a queue
// mostly goes on with the same one, and the lock and the map would be a tenth of
// a short append.
type lastQueue struct {
	table   *queueTable
	version uint64
	state   *queueState
}

// queueFor returns the state of a queue that may be appended to. The topic's
// name was checked.
func (s *Store) queueFor(last *lastQueue, topic string, id int32) (*queueState, error) {
	k := queueKey{topic, id}
	version := s.table.version.Load() // before the state that belongs to it
	if last.table == s.table && last.version == version && last.state.key == k {
		return last.state, last.state.refusal
	}
	q, err := s.lookUpQueue(k)
	if err == nil {
		*last = lastQueue{table: s.table, version: version, state: q}
	}
	return q, err
}

func (s *Store) lookUpQueue(k queueKey) (*queueState, error) {
	s.table.mu.RLock()
	q := s.table.states[k]
	s.table.mu.RUnlock()
	if q == nil {
		var err error
		if q, err = s.newQueueState(k); err != nil {
			return nil, err
		}
	}
	return q, q.refusal
}

// newQueueState works out whether a queue may be appended to, and where its
// next message goes.
func (s *Store) newQueueState(k queueKey) (*queueState, error) {
	s.table.mu.Lock()
	defer s.table.mu.Unlock()
	if q := s.table.states[k]; q != nil {
		return q, nil
	}
	t, declared, err := s.meta.Topic(k.topic)
	if err != nil {
		return nil, metaError(err)
	}
	if err := s.refusal(k, t, declared); err != nil {
		if !declared {
			return nil, err // not remembered: any name could be asked for
		}
		q := &queueState{refusal: err}
		s.remember(k, q)
		return q, nil
	}
	q := &queueState{seq: s.sequenceOf(k)}
	s.remember(k, q)
	return q, nil
}

// sequence is where the next message of a queue goes, whatever the topic's
// declaration says.
func (s *Store) sequence(k queueKey) *commitlog.Sequence {
	s.table.mu.Lock()
	defer s.table.mu.Unlock()
	return s.sequenceOf(k)
}

// sequenceOf does it. s.table.mu is held.
func (s *Store) sequenceOf(k queueKey) *commitlog.Sequence {
	seq := s.table.seqs[k]
	if seq == nil {
		next := message.QueueOffset(0)
		if cq := s.queues.Get(k.topic, k.id); cq != nil {
			next = cq.Max()
		}
		seq = commitlog.NewSequence(next)
		k.topic = string([]byte(k.topic))
		s.table.seqs[k] = seq
	}
	return seq
}

// remember keeps q under a key of its own: the caller's topic may be a view of
// bytes that change. s.table.mu is held.
func (s *Store) remember(k queueKey, q *queueState) {
	k.topic = string([]byte(k.topic))
	q.key = k
	s.table.states[k] = q
}

func (s *Store) refusal(k queueKey, t topicmeta.Topic, declared bool) error {
	switch {
	case message.IsDelayTopic(k.topic):
		return nil // the store's own
	case !declared && s.o.Topics == TopicsDeclared:
		return fmt.Errorf("topic %q: %w", k.topic, ErrNoTopic)
	case !declared && k.id > MaxQueueID:
		return fmt.Errorf("topic %q, queue %d: %w, at most %d", k.topic, k.id, ErrTooManyQueues, MaxQueueID)
	case declared && t.Perm&topicmeta.PermWrite == 0:
		return fmt.Errorf("append to topic %q, permissions %v: %w", k.topic, t.Perm, ErrPermission)
	case declared && k.id >= t.WriteQueues:
		return fmt.Errorf("topic %q, queue %d: %w: it is declared with %d", k.topic, k.id, ErrNoQueue, t.WriteQueues)
	}
	return nil
}

// readable returns the consume queue, or why it can't be fetched from.
func (s *Store) readable(topic string, id int32) (*consumequeue.Queue, error) {
	if s.closing.Load() {
		return nil, ErrClosed
	}
	t, declared, err := s.meta.Topic(topic)
	if err != nil {
		return nil, metaError(err)
	}
	if declared && t.Perm&topicmeta.PermRead == 0 {
		return nil, fmt.Errorf("fetch from topic %q, permissions %v: %w", topic, t.Perm, ErrPermission)
	}
	q := s.queues.Get(topic, id)
	if q == nil && declared && id >= 0 && id < t.ReadQueues {
		return s.queues.GetOrCreate(topic, id) // declared, and empty
	}
	if q == nil {
		return nil, fmt.Errorf("topic %q, queue %d: %w", topic, id, ErrNoQueue)
	}
	return q, nil
}

// PutTopic declares a topic, or changes its declaration: its numbers of queues,
// its permissions and attributes. It is durable on return. A topic with fewer
// queues than it had keeps their messages.
func (s *Store) PutTopic(t topicmeta.Topic) error {
	if s.closing.Load() {
		return ErrClosed
	}
	if err := s.meta.Put(t); err != nil {
		return metaError(err)
	}
	s.table.forget(t.Name)
	return nil
}

// DeleteTopic withdraws a topic's declaration. Its messages stay in the log and
// in its queues until they expire.
func (s *Store) DeleteTopic(name string) error {
	if s.closing.Load() {
		return ErrClosed
	}
	if err := s.meta.Delete(name); err != nil {
		return metaError(err)
	}
	s.table.forget(name)
	return nil
}

// Topic returns a topic's declaration, and false when there is none.
func (s *Store) Topic(name string) (topicmeta.Topic, bool, error) {
	t, ok, err := s.meta.Topic(name)
	return t, ok, metaError(err)
}

// Topics returns all topics, sorted by name: those that are declared, and those
// that only have queues; these come with as many read and write queues as they
// have, and all permissions.
func (s *Store) Topics() ([]topicmeta.Topic, error) {
	declared, err := s.meta.Topics()
	if err != nil {
		return nil, metaError(err)
	}
	return mergeTopics(declared, s.queues.Queues()), nil
}

// QueueInfo describes one queue.
type QueueInfo struct {
	Topic    string
	QueueID  int32
	Min, Max message.QueueOffset // Max is where the next message goes
}

// Queues returns all queues that hold or held messages, sorted by topic and id.
func (s *Store) Queues() []QueueInfo {
	qs := s.queues.Queues()
	infos := make([]QueueInfo, 0, len(qs))
	for _, q := range qs {
		if q.Max() > 0 {
			infos = append(infos, QueueInfo{Topic: q.Topic(), QueueID: q.ID(), Min: q.Min(), Max: q.Max()})
		}
	}
	return infos
}

// Bounds returns the minimum and maximum offset of a queue: fetches begin at
// the first, and the next message goes to the second.
func (s *Store) Bounds(topic string, queue int32) (lo, hi message.QueueOffset, err error) {
	q, err := s.readable(topic, queue)
	if err != nil {
		return 0, 0, err
	}
	return q.Min(), q.Max(), nil
}
