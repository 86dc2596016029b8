// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/stelelog/stele/commitlog"
	"github.com/stelelog/stele/keyindex"
	"github.com/stelelog/stele/message"
)

// DefaultQueryMessages is how many messages Query returns at most, unless told
// otherwise: RocketMQ's maxMsgsNumBatch.
const DefaultQueryMessages = 64

// QueryOptions narrow a Query. The zero value asks for any time and either kind
// of key.
type QueryOptions struct {
	// Begin and End are store times in milliseconds; messages of both are
	// returned. An End of 0 is no end.
	Begin, End int64
	// Max is how many messages at most; 0 means DefaultQueryMessages.
	Max int
	// Unique asks for the message whose UNIQ_KEY is the key. Without it a word of
	// KEYS will do as well.
	Unique bool
}

var (
	// ErrIndexOff is returned by Query for a store that keeps no index.
	ErrIndexOff = errors.New("the store keeps no key index")
	// ErrBadKey is returned by Query for a topic or key that no message can have:
	// an empty one, or one that is longer than all properties together may be.
	ErrBadKey = errors.New("impossible key")
	// ErrWrongID is returned by GetByID for an id that is the id of no message of
	// this store, though it could be one.
	ErrWrongID = errors.New("no message of this store has the id")
	// ErrBadID is returned by GetByID for text that is no message id.
	ErrBadID = message.ErrBadID
)

// Query returns the messages of a topic that have a key, newest first, as copies:
// they are the caller's own. Each is looked at: a message that shares no more
// than the hash of the key is passed over, as is one that has expired. Rollbacks
// of transactions have no keys, half messages do. What was not dispatched yet is
// not found: see WaitDispatched.
//
// The error is ErrIndexOff, ErrBadKey, ErrClosed or the cause of ctx; then there
// are no messages. It wraps a *keyindex.DamageError where the index is damaged,
// a *commitlog.CorruptError where a record is that might have the key: what
// could be found comes along with it. The index is made again from the log by an
// opening that finds no directory index/.
func (s *Store) Query(ctx context.Context, topic, key string, o QueryOptions) ([]*message.Message, error) {
	switch {
	case s.closing.Load():
		return nil, ErrClosed
	case s.index == nil:
		return nil, ErrIndexOff
	case topic == "" || key == "":
		return nil, fmt.Errorf("%w: topic %q, key %q: empty", ErrBadKey, topic, key)
	case len(topic) > message.MaxRetryTopicLen || len(key) > message.MaxPropertiesLen:
		return nil, fmt.Errorf("%w: topic of %d bytes, key of %d: no message has room for it", ErrBadKey, len(topic), len(key))
	}
	if o.Max <= 0 {
		o.Max = DefaultQueryMessages
	}
	q := query{s: s, ctx: ctx, topic: topic, key: key, o: o}
	err := s.index.set.Find(topic, key, keyindex.Range{Begin: o.Begin, End: o.End}, q.visit)
	s.counters.queries.Add(1)
	s.counters.queriedMessages.Add(int64(len(q.found)))
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if s.closing.Load() {
		return nil, ErrClosed // files may have gone under it
	}
	s.damagedIndex(err)
	return q.found, errors.Join(append(q.errs, err)...)
}

// query gathers what Query returns.
type query struct {
	s          *Store
	ctx        context.Context
	topic, key string
	o          QueryOptions
	found      []*message.Message
	errs       []error
}

// visit takes the record at an offset if it has the key. It returns whether to
// go on.
func (q *query) visit(off message.Offset) bool {
	if q.ctx.Err() != nil {
		return false
	}
	// A record that has the key twice has two entries.
	if slices.ContainsFunc(q.found, func(m *message.Message) bool { return m.PhysicalOffset == off }) {
		return true
	}
	m, err := q.s.Get(off)
	switch {
	case errors.Is(err, ErrExpired):
	case errors.Is(err, ErrClosed):
		return false
	case err != nil:
		q.errs = append(q.errs, err)
	case m.Topic == q.topic && keyindex.HasKey(m, q.key, q.o.Unique) &&
		m.StoreTimestamp >= q.o.Begin && (q.o.End == 0 || m.StoreTimestamp <= q.o.End):
		q.found = append(q.found, m)
	}
	return len(q.found) < q.o.Max
}

// damagedIndex reports each damage that a search met.
func (s *Store) damagedIndex(err error) {
	all := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		all = joined.Unwrap()
	}
	for _, e := range all {
		var d *keyindex.DamageError
		if !errors.As(e, &d) {
			continue
		}
		s.o.Logger.Warn("damage in the key index", "error", d)
		if f := s.o.Events.DamagedIndex; f != nil {
			f(d)
		}
	}
}

// GetByID returns the message of an id that AppendResult.ID or Message.ID made
// (RocketMQ's offsetMsgId: 32 hex digits, 56 for an IPv6 host), as a copy. The
// error is ErrBadID for text that is no id, ErrWrongID for one of another store
// or of no message, ErrExpired, ErrClosed, or a commitlog.CorruptError when the
// record is damaged.
func (s *Store) GetByID(id string) (*message.Message, error) {
	_, off, err := message.ParseID(id)
	if err != nil {
		return nil, err
	}
	m, err := s.Get(off)
	var corrupt *commitlog.CorruptError
	switch {
	case errors.Is(err, ErrNotFound):
		return nil, fmt.Errorf("%w: %s: %w", ErrWrongID, id, err)
	case errors.As(err, &corrupt) && !s.beginsAt(off):
		return nil, fmt.Errorf("%w: %s: no message begins at offset %d", ErrWrongID, id, off)
	case err != nil:
		return nil, err
	case m.ID() != strings.ToUpper(id):
		return nil, fmt.Errorf("%w: %s: the message at offset %d has %s", ErrWrongID, id, off, m.ID())
	}
	return m, nil
}

// beginsAt reports whether something at an offset claims to be a record there.
func (s *Store) beginsAt(off message.Offset) bool {
	v, err := s.log.ViewRecord(off)
	v.Release()
	return err == nil
}
