// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package transfer

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"time"

	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/store"
)

// ErrLineTooLong is returned for a line of more than MaxLine bytes.
var ErrLineTooLong = errors.New("line too long")

// MaxLine is the longest line that is read, in bytes.
const MaxLine = 256 << 20

// LineError is a line that could not be imported. All lines before it were.
type LineError struct {
	Line   int64 // from 1
	Column int   // in bytes, from 1; 0 when it is not known
	Cause  error
}

// Error implements error.
func (e *LineError) Error() string {
	if e.Column > 0 {
		return fmt.Sprintf("line %d, column %d: %v", e.Line, e.Column, e.Cause)
	}
	return fmt.Sprintf("line %d: %v", e.Line, e.Cause)
}

// Unwrap returns the cause.
func (e *LineError) Unwrap() error { return e.Cause }

// Import appends lines to a store.
type Import struct {
	Store *store.Store
	Input io.Reader
	// Lines makes each line, without its end, the body of a copy of this message.
	// Without it they are rows of ndjson, and blank lines are passed over.
	Lines *message.Message
	// From is the first line to import, from 1; 0 means 1. Lines before it are
	// read over.
	From int64
	// Topics renames topics.
	Topics map[string]string
	// Delayed is about rows of messages that wait.
	Delayed Delayed
	// Now is the born time of messages that have none, and what Delayed goes by.
	Now time.Time
	// Progress, if set, is told how many bytes of the input are done.
	Progress func(bytes int64)
}

// Imported is what an import did.
type Imported struct {
	Lines    int64 // all lines up to this one are done; to go on, begin with the next
	Messages int64
	Bytes    int64 // of the records
	Delayed  int64 // messages that Delayed left out
}

// The lines that are appended together: whatever has arrived, up to these.
const (
	groupLines = 512
	groupBytes = 256 << 10
)

// group is what was read together.
type group struct {
	msgs  []*message.Message
	lines []int64 // of each message
	last  int64   // line that the group ends with
	read  int64   // bytes of the input up to there
	left  int64   // messages that were left out up to there
	err   error   // why nothing follows, behind the messages
}

// Run imports until the input ends. A line that is no message, or that the store
// refuses, ends it with a *LineError; so does ctx, with its cause. Whatever it is,
// exactly the messages of Imported are in the store.
func (im *Import) Run(ctx context.Context) (done Imported, err error) {
	if im.From > 1 {
		done.Lines = im.From - 1
	}
	reading, stop := context.WithCancel(ctx)
	defer stop()
	groups := make(chan *group)
	r := &lineReader{im: im, in: bufio.NewReaderSize(im.Input, groupBytes)}
	r.levels, _ = message.ParseDelayLevels(message.DefaultDelayLevels)
	// An interrupt must not wait for input that may never come, so reading has a
	// goroutine; it ends with its read, or with the process.
	go func() {
		defer close(groups)
		for {
			g := r.next()
			select {
			case groups <- g:
			case <-reading.Done():
				return
			}
			if g.err != nil {
				return
			}
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return done, context.Cause(ctx)
		case g := <-groups:
			if err := im.put(ctx, g, &done); err != nil {
				return done, err
			}
			done.Lines, done.Delayed = max(done.Lines, g.last), g.left
			if im.Progress != nil {
				im.Progress(g.read)
			}
			if errors.Is(g.err, io.EOF) {
				return done, nil
			}
			if g.err != nil {
				return done, g.err
			}
		}
	}
}

// put appends a group: together, or where that is refused one by one, so that the
// line is known.
func (im *Import) put(ctx context.Context, g *group, done *Imported) error {
	rs, err := im.Store.AppendBatch(ctx, g.msgs)
	if err == nil {
		for i := range rs {
			done.Messages, done.Bytes = done.Messages+1, done.Bytes+int64(rs[i].Size)
		}
		return nil
	}
	for i, m := range g.msgs {
		r, err := im.Store.Append(ctx, m)
		if err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return &LineError{Line: g.lines[i], Cause: err}
		}
		done.Messages, done.Bytes, done.Lines = done.Messages+1, done.Bytes+int64(r.Size), g.lines[i]
	}
	return nil
}

// lineReader turns lines into groups of messages.
type lineReader struct {
	im      *Import
	in      *bufio.Reader
	levels  message.DelayLevels
	line    int64
	read    int64
	delayed int64
}

// next reads what is there without waiting, at least a line, and makes messages of
// it.
func (r *lineReader) next() *group {
	g := &group{last: r.line, read: r.read, left: r.delayed}
	var texts [][]byte
	var reads []int64 // bytes of the input behind each line
	first := r.line + 1
	var failure error
	for total := 0; len(texts) < groupLines && total < groupBytes; {
		line, err := r.readLine()
		if err != nil {
			failure = err
			break
		}
		r.line++
		if r.line < r.im.From {
			line, first = nil, r.line+1
		} else {
			texts, reads = append(texts, bytes.Clone(line)), append(reads, r.read)
		}
		total += len(line)
		if next, _ := r.in.Peek(r.in.Buffered()); bytes.IndexByte(next, '\n') < 0 {
			break // the next line has not arrived as a whole
		}
	}
	g.last, g.read = first-1, r.read
	for i, p := range r.parse(texts) {
		n := first + int64(i)
		if p.err != nil {
			g.err = at(n, p.err)
			return g
		}
		g.last, g.read = n, reads[i]
		switch {
		case p.m == nil:
		case r.im.Lines == nil && !r.im.Delayed.wants(p.m, r.levels, r.im.Now.UnixMilli()):
			r.delayed++
		default:
			if to, ok := r.im.Topics[p.m.Topic]; ok {
				p.m.Topic = to
			}
			g.msgs, g.lines = append(g.msgs, p.m), append(g.lines, n)
		}
		g.left = r.delayed
	}
	g.err = failure
	return g
}

// parsed is what became of a line.
type parsed struct {
	m   *message.Message // nil when it is none and need not be
	err error
}

// share is how many lines at least are worth a goroutine: parsing takes longer than
// all the rest.
const share = 32

// parse makes messages of lines, on as many processors as there are.
func (r *lineReader) parse(texts [][]byte) []parsed {
	out := make([]parsed, len(texts))
	each := max(share, (len(texts)+runtime.GOMAXPROCS(0)-1)/runtime.GOMAXPROCS(0))
	var workers sync.WaitGroup
	for from := 0; from < len(texts); from += each {
		workers.Go(func() {
			for i := from; i < min(from+each, len(texts)); i++ {
				out[i].m, out[i].err = r.im.message(texts[i])
			}
		})
	}
	workers.Wait()
	return out
}

// at says which line an error is about.
func at(line int64, err error) error {
	e := &LineError{Line: line, Cause: err}
	var row *RowError
	if errors.As(err, &row) {
		e.Column = row.Column
	}
	return e
}

// readLine returns the next line without its end, in memory that the next call
// reuses; io.EOF behind the last one.
func (r *lineReader) readLine() ([]byte, error) {
	line, err := r.in.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		long := bytes.Clone(line)
		for errors.Is(err, bufio.ErrBufferFull) {
			if len(long) > MaxLine {
				return nil, &LineError{Line: r.line + 1, Cause: fmt.Errorf("%w: more than %d bytes", ErrLineTooLong, MaxLine)}
			}
			line, err = r.in.ReadSlice('\n')
			long = append(long, line...)
		}
		line = long
	}
	if err != nil && (!errors.Is(err, io.EOF) || len(line) == 0) {
		if errors.Is(err, io.EOF) {
			return nil, io.EOF
		}
		return nil, &LineError{Line: r.line + 1, Cause: err}
	}
	r.read += int64(len(line))
	return bytes.TrimSuffix(line, []byte("\n")), nil
}

// message makes a line a message; nil when it is none and need not be. What it
// returns holds on to line.
func (im *Import) message(line []byte) (*message.Message, error) {
	m := new(message.Message)
	if im.Lines != nil {
		*m = *im.Lines
		m.Body, m.BornTimestamp = line, im.Now.UnixMilli()
		return m, nil
	}
	if len(bytes.TrimSpace(line)) == 0 {
		return nil, nil
	}
	born, err := ParseRow(line, m)
	if err != nil {
		return nil, err
	}
	if !born {
		m.BornTimestamp = im.Now.UnixMilli()
	}
	return m, nil
}
