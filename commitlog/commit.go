// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package commitlog

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
)

// segment is a file whose appended bytes wait somewhere to be committed.
type segment struct {
	file   *mappedfile.File
	writer mappedfile.Writer
	end    int64 // position behind the last byte that is Put, once the file is full
}

// segments are those that are not committed to their end, in order: the one that
// is appended to, and with the pool those before it.
type segments struct {
	mu  sync.Mutex // a leaf
	all []*segment
}

func (s *segments) add(x *segment) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, x)
}

// close says that nothing more comes behind the position end of the last one, if
// that is file.
func (s *segments) close(file *mappedfile.File, end int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.all); n > 0 && s.all[n-1].file == file {
		s.all[n-1].end = end
	}
}

// first returns a copy of the first one.
func (s *segments) first() (segment, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.all) == 0 {
		return segment{}, false
	}
	return *s.all[0], true
}

// drop gives up the first one.
func (s *segments) drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all[0].writer.Close()
	s.all = append(s.all[:0], s.all[1:]...)
}

// Commit has everything below end committed, as far as that takes no flush: for
// an append that does not wait for one, in a log with CommitOnFlush. With
// WritePool it does not wait. The error wraps ErrPoisoned; then the record may or
// may not be there after the next Open.
func (l *Log) Commit(end message.Offset) error {
	if l.committed.Load() >= int64(end) {
		return nil
	}
	if l.o.WritePath == WritePool {
		l.kickCommit()
		return nil
	}
	return l.commit(int64(end))
}

func (l *Log) kickCommit() {
	select {
	case l.commits <- struct{}{}:
	default: // it is about to, and will see what was appended before this
	}
}

// WaitCommitted returns once more than past is committed, or with the cause of
// ctx, or with ErrClosed.
func (l *Log) WaitCommitted(ctx context.Context, past message.Offset) error {
	return l.committed.Wait(ctx, int64(past)+1, 0)
}

// commitLoop is the committer, which there is with WritePool: it commits what is
// appended whenever it is asked to. It goes on when the log is poisoned: what was
// acknowledged before can still be brought to where it can be read.
func (l *Log) commitLoop() {
	var again <-chan time.Time
	for {
		select {
		case <-l.quit:
			return // Close commits the rest
		case <-l.commits:
		case <-again:
		}
		again = nil
		if err := l.commit(l.appended.Load()); err != nil {
			again = time.After(commitRetry)
		}
	}
}

// commitRetry is how long the committer waits after a write that failed. The
// buffer still has the bytes, and the disk may have room by then.
const commitRetry = 500 * time.Millisecond

// commit returns once everything below end, which is appended, is in the page
// cache. Whoever finds somebody at it waits, and mostly finds its own part done
// by then. A failure poisons the log; nothing is lost by it yet.
func (l *Log) commit(end int64) error {
	if l.committed.Load() >= end {
		return nil
	}
	l.commitMu.Lock()
	defer l.commitMu.Unlock()
	if l.committed.Load() >= end {
		return nil
	}
	if err := l.commitAll(); err != nil {
		return l.poison(fmt.Errorf("commit: %w", err))
	}
	return nil
}

// commitAll commits everything that is appended. l.commitMu is held.
func (l *Log) commitAll() error {
	to := l.appended.Load() // before the segments: all that begin below it are there
	for from := l.committed.Load(); from < to; from = l.committed.Load() {
		seg, ok := l.uncommitted.first()
		if !ok || seg.file.Base() >= to {
			l.committed.Advance(to) // it was copied into a mapping
			return nil
		}
		if seg.file.Base() > from {
			l.committed.Advance(seg.file.Base())
			continue
		}
		full := to >= seg.file.End()
		end := seg.end
		if !full {
			end = to - seg.file.Base()
		}
		if err := seg.writer.Commit(end); err != nil {
			return err
		}
		l.nCommits.Add(1)
		l.committed.Advance(min(to, seg.file.End()))
		if full {
			l.uncommitted.drop()
		}
	}
	return nil
}

// Commits is how many writes to a file commits took.
func (l *Log) Commits() int64 { return l.nCommits.Load() }

// closePath commits what is left, also in a log that is poisoned: what was
// acknowledged without a flush is in the page cache then, and the next Open finds
// it. It gives back what the write path borrowed. Nothing is appended any more.
func (l *Log) closePath() error {
	l.commitMu.Lock()
	defer l.commitMu.Unlock()
	var err error
	if from, to := l.committed.Load(), l.appended.Load(); from < to {
		if cause := l.commitAll(); cause != nil {
			err = fmt.Errorf("%s: the %d bytes from offset %d on could not be committed and are lost: %w",
				l.o.Dir, to-l.committed.Load(), l.committed.Load(), cause)
		}
	}
	for {
		if _, more := l.uncommitted.first(); !more {
			break
		}
		l.uncommitted.drop()
	}
	if l.pool == nil {
		return err
	}
	if e := l.pool.Close(); err == nil {
		err = e
	}
	return err
}
