// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package transfer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/stelelog/stele/inspect"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
)

// Sink takes the messages of a replay.
type Sink interface {
	// Put takes m, which it must not keep.
	Put(ctx context.Context, m *message.Message) error
	// Settle returns once all that was put is as safe as the sink can make it. After
	// the one with end nothing is put any more.
	Settle(ctx context.Context, end bool) (Mark, error)
	// Resume is called before the first Put of a replay that goes on. mark is what
	// Settle returned last, nil if it never did; ended says that nothing was put
	// since. It returns those messages that were put since, as far as the sink holds
	// them, in their order; nil when none was.
	Resume(ctx context.Context, mark *Mark, ended bool) (Tail, error)
}

// Tail yields messages that a sink holds already, each valid until the next call;
// nil behind the last one.
type Tail interface {
	Next() (*message.Message, error)
	Close()
}

// Replay hands the messages of a log to a sink, in the order of the log.
type Replay struct {
	Source *inspect.Dir
	Filter inspect.Filter // but for Reverse
	Sink   Sink
	Topics map[string]string // renames topics
	Speed  Speed
	// Delayed is about messages that wait.
	Delayed Delayed
	// Now is what Delayed goes by, but for a replay that goes on: then it is the time
	// at which it began.
	Now time.Time
	// StatePath is a file that tells how far the replay has come, so that it can go on
	// after an interruption; "" for none. Request is what State.Request says.
	StatePath, Request string
	// Damage, if set, is told what is damaged in the log; the replay goes on behind.
	Damage func(error)
	// Progress, if set, is told up to where in the log all is done.
	Progress func(message.Offset)

	state   State
	began   State     // what state was when this run began to put
	tail    Tail      // what the sink holds beyond the state; nil when that is nothing
	saved   time.Time // when the state was
	unsaved bool      // something was done since
	moved   bool      // something was put since the sink was settled
	every   time.Duration
	pace    pacer
}

// Replayed is what a replay did.
type Replayed struct {
	Messages, Bytes int64 // that were put, in this run; bytes of their records in the source
	Delayed         int64 // messages that Delayed left out, in this run
	Before          int64 // messages of the runs before
	Found           int64 // of Messages: those that the sink held already
	First, Last     int64 // store times of the first and the newest, 0 without any
	// Next is an offset of the source behind all that is done, and before the rest.
	Next message.Offset
}

// saveEvery is how often the state is saved.
const saveEvery = time.Second

// Run replays until the log ends, or with the cause of ctx. Whatever it returns, the
// state says how far it came, if it could be written.
func (r *Replay) Run(ctx context.Context) (done Replayed, err error) {
	if r.every == 0 {
		r.every = saveEvery
	}
	r.Filter.Reverse = false // there is no going on backwards
	if err := r.begin(ctx); err != nil {
		r.closeTail()
		return done, errors.Join(err, r.end(false))
	}
	done.Before, r.began, r.pace.speed = r.state.Messages, r.state, r.Speed
	err = r.run(ctx, &done)
	// While the sink holds messages that the state lacks, the state stays as it is.
	settled := r.tail == nil
	r.closeTail()
	// Also after an error: what was put is put.
	ended := r.end(settled)
	switch {
	case errors.Is(ended, ErrCommand):
		// What the command did with what it was given nobody knows.
		err = ended
		if r.StatePath != "" {
			err = errors.Join(err, r.began.write(r.StatePath))
		}
	case err == nil:
		err = ended
	}
	return done, err
}

// end settles the sink for good, and saves the state if that is wanted. It is not cut
// short by an interrupt: what was put must be counted.
func (r *Replay) end(save bool) error {
	return r.settle(context.Background(), save, true)
}

func (r *Replay) closeTail() {
	if r.tail != nil {
		r.tail.Close()
		r.tail = nil
	}
}

// begin reads the state and has the sink say what it holds beyond it.
func (r *Replay) begin(ctx context.Context) error {
	r.state = State{Request: r.Request, Since: r.Filter.Since, Until: r.Filter.Until, Now: r.Now.UnixMilli()}
	if r.StatePath == "" {
		return nil
	}
	was, err := ReadState(r.StatePath)
	if err != nil {
		return err
	}
	if was != nil {
		if was.Request != r.Request {
			return fmt.Errorf("%s: %w: it is of %q, this is %q", r.StatePath, ErrState, was.Request, r.Request)
		}
		r.state = *was
		if r.tail, err = r.Sink.Resume(ctx, was.Mark, was.Ended); err != nil || r.tail != nil {
			return err // the state stays until what it lacks is found
		}
	}
	return r.settle(ctx, true, false)
}

func (r *Replay) run(ctx context.Context, done *Replayed) error {
	filter, again := r.state.filter(r.Filter)
	levels, _ := message.ParseDelayLevels(message.DefaultDelayLevels)
	for rec, err := range r.Source.Messages(ctx, filter) {
		if err != nil {
			if err = r.damage(err); err != nil {
				return err
			}
			continue
		}
		place := placeOf(rec.Message)
		if again {
			if place != *r.state.Last {
				return r.changed()
			}
			again = false
			continue
		}
		if !r.Delayed.wants(rec.Message, levels, r.state.Now) {
			done.Delayed++
			r.state.Delayed++
		} else if err := r.one(ctx, rec.Message, done); err != nil {
			return err
		}
		r.state.Last, r.unsaved = &place, true
		done.Next = place.Offset + message.Offset(place.Size)
		if r.Progress != nil {
			r.Progress(done.Next)
		}
		if r.StatePath != "" && r.tail == nil && time.Since(r.saved) >= r.every {
			if err := r.settle(ctx, true, false); err != nil {
				return err
			}
		}
	}
	if again {
		return r.changed()
	}
	return r.nothingMore()
}

// damage tells of damage in the log; any other error it returns.
func (r *Replay) damage(err error) error {
	var damage *inspect.DamageError
	var file *mappedfile.FileError
	if !errors.As(err, &damage) && !errors.As(err, &file) {
		return err
	}
	if r.Damage != nil {
		r.Damage(err)
	}
	return nil
}

// nothingMore holds, where the source ends, that the sink has nothing that did not
// come from it.
func (r *Replay) nothingMore() error {
	if r.tail == nil {
		return nil
	}
	switch m, err := r.tail.Next(); {
	case err != nil:
		return err
	case m != nil:
		return fmt.Errorf("%w: from its offset %d on it has messages that the source has not", ErrTargetChanged, m.PhysicalOffset)
	}
	r.closeTail()
	return nil
}

func (r *Replay) changed() error {
	return fmt.Errorf("%w: the record at offset %d, where the replay ended, is gone: it has expired, or this is another store", ErrSourceChanged, r.state.Last.Offset)
}

// one puts a message, unless the sink has it.
func (r *Replay) one(ctx context.Context, m *message.Message, done *Replayed) error {
	c := *m
	if to, ok := r.Topics[c.Topic]; ok {
		c.Topic = to
	}
	found, err := r.held(&c)
	if err != nil {
		return err
	}
	if found {
		done.Found++
	} else {
		if err := r.wait(ctx, m.StoreTimestamp); err != nil {
			return err
		}
		if err := r.Sink.Put(ctx, &c); err != nil {
			return fmt.Errorf("the message at offset %d of the source: %w", m.PhysicalOffset, err)
		}
		r.moved = true
	}
	size := int64(m.Size)
	done.Messages, done.Bytes = done.Messages+1, done.Bytes+size
	r.state.Messages, r.state.Bytes = r.state.Messages+1, r.state.Bytes+size
	if done.First == 0 {
		done.First = m.StoreTimestamp
	}
	done.Last = max(done.Last, m.StoreTimestamp)
	return nil
}

// held reports whether the sink has m, as the next one of its tail.
func (r *Replay) held(m *message.Message) (bool, error) {
	if r.tail == nil {
		return false, nil
	}
	has, err := r.tail.Next()
	switch {
	case err != nil:
		return false, err
	case has == nil:
		r.closeTail()
		return false, nil
	case !Same(m, has):
		return false, fmt.Errorf("%w: at its offset %d there is a message that the replay did not put there", ErrTargetChanged, has.PhysicalOffset)
	}
	return true, nil
}

// Waits that are shorter than these are not worth the trouble: a timer is a
// millisecond late, and what comes after a moment can be settled together.
const (
	shortWait  = time.Millisecond
	settleWait = 10 * time.Millisecond
)

// wait lets the message that was stored at ms wait for its turn.
func (r *Replay) wait(ctx context.Context, ms int64) error {
	now := time.Now()
	d := r.pace.wait(now, ms)
	if d < shortWait {
		return nil
	}
	if d >= settleWait {
		// Whoever follows the sink sees what there is, and a kill finds it saved.
		save := r.unsaved && r.StatePath != "" && (d >= r.every || now.Sub(r.saved) >= r.every)
		if r.moved || save {
			if err := r.settle(ctx, save, false); err != nil {
				return err
			}
		}
	}
	return sleep(ctx, time.Until(now.Add(d)))
}

// settle settles the sink, and saves the state if that is wanted and there is one.
func (r *Replay) settle(ctx context.Context, save, ended bool) error {
	mark, err := r.Sink.Settle(ctx, ended)
	if err != nil {
		return err
	}
	r.moved = false
	if !save || r.StatePath == "" {
		return nil
	}
	r.state.Mark, r.state.Ended = &mark, ended
	if err := r.state.write(r.StatePath); err != nil {
		return err
	}
	r.saved, r.unsaved = time.Now(), false
	return nil
}
