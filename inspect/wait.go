// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/stelelog/stele/message"
)

// How often the end of a log is looked at. Nothing tells that a mapped page was
// written, so it takes a timer; docs/decisions/0021 has what else was tried.
const (
	shortestWait = time.Millisecond
	// LongestWait is how late Tail sees a message after a pause.
	LongestWait = 200 * time.Millisecond
	// patience is how long what looks damaged may still be a record that its
	// writer, which has not been given a processor, is in the middle of.
	patience = 5 * time.Second
)

// waitFor returns when something was written at an offset where the log ended, or
// after a while, for whoever looks may find something elsewhere: a file behind, where
// a commit left out its beginning. Each look takes one read of four bytes, and the
// next one comes after twice as long.
func (d *Dir) waitFor(ctx context.Context, off message.Offset) error {
	var spot spot
	defer spot.close()
	for pause := shortestWait; ; pause = min(2*pause, LongestWait) {
		if err := wait(ctx, pause); err != nil {
			return err
		}
		if err := spot.find(d, off); err != nil {
			return err
		}
		if written, err := spot.written(); written || err != nil {
			return err
		}
		if pause == LongestWait {
			_, err := os.Stat(d.log) // the directory may have gone
			return err
		}
	}
}

// wait waits on a timer, or for the end of ctx.
func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

// spot is a place in a file of the log.
type spot struct {
	file *os.File // nil while there is none
	at   int64
}

// find opens the file that holds an offset, if it is there.
func (s *spot) find(d *Dir, off message.Offset) error {
	if s.file != nil {
		return nil
	}
	name, at, err := d.logFileAt(off)
	if err != nil {
		return err
	}
	if s.file, err = os.Open(name); errors.Is(err, fs.ErrNotExist) {
		s.file = nil
		return nil
	}
	s.at = at
	return err
}

// written reports whether the four bytes there, the size of a record, are not
// zeros. They are what an append writes last, or what it writes first: in any case
// there is something to look at.
func (s *spot) written() (bool, error) {
	if s.file == nil {
		return false, nil
	}
	var size [4]byte
	_, err := s.file.ReadAt(size[:], s.at)
	if errors.Is(err, io.EOF) {
		return false, nil
	}
	return size != [4]byte{}, err
}

func (s *spot) close() {
	if s.file != nil {
		_ = s.file.Close() // only read
		s.file = nil
	}
}
