// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package experiment

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/store"
)

// RecoverConfig is what Recover measures. Its Child must be set.
type RecoverConfig struct {
	Schedule Schedule
	// Bytes are the sizes of the logs, records counted whole; empty means 64 and
	// 256 MiB.
	Bytes []int64
	// Size is the length of a body in bytes; 0 means 1024.
	Size int
	// FileSize is the length of the log's files in bytes; 0 means 64 MiB.
	FileSize int64
	// Child returns a process, not yet started, that calls Write with w and its
	// standard output. It is killed in mid-append: an experiment can't do that
	// to the process that it runs in.
	Child func(ctx context.Context, w WriteConfig) (*exec.Cmd, error)
}

// WriteConfig is what Write does.
type WriteConfig struct {
	Dir      string // of the store
	Bytes    int64  // of log, after which it says so
	Size     int    // of a body
	FileSize int64
}

// The defaults of RecoverConfig.
const (
	recoverSize     = 1024
	recoverFileSize = 64 << 20
	recoverQueues   = 8
)

var recoverBytes = []int64{64 << 20, 256 << 20}

// written is the line by which a child says that the log has its bytes.
const written = "written\n"

// Write appends to the store in w.Dir without end. When the log has w.Bytes it
// writes a line to out, and goes on: it is there to be killed. It returns when ctx
// ends, with the cause.
func Write(ctx context.Context, w WriteConfig, out io.Writer) (err error) {
	s, err := store.Open(w.Dir, store.Options{FileSize: w.FileSize})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	m := &message.Message{Topic: topic, Body: make([]byte, w.Size)}
	for told := false; ; m.QueueID = (m.QueueID + 1) % recoverQueues {
		r, err := s.Append(ctx, m)
		if err != nil {
			return err
		}
		if !told && int64(r.Offset)+int64(r.Size) >= w.Bytes {
			if told = true; ctx.Err() == nil {
				if _, err := io.WriteString(out, written); err != nil {
					return err
				}
			}
		}
	}
}

// Recover measures how long Open takes: after a process was killed while it
// appended, after a clean close, and after the consume queues were lost, which
// Open makes again from the log. The page cache is warm each time. A power cut
// can't be had here; after one, Open reads from the last checkpoint on.
//
// Its floor is to open a store that holds nothing, and to read and checksum as
// many bytes of the log as the recovery had to read.
//
// It ends with the cause of ctx as soon as that is done. Errors wrap ErrConfig
// where the configuration is at fault.
func Recover(ctx context.Context, c RecoverConfig) (*Report, error) {
	s, err := c.Schedule.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := c.setDefaults(); err != nil {
		return nil, err
	}
	e := &recoveries{config: c, results: make([]recovered, len(c.Bytes)*len(endings))}
	labels := make([]string, len(c.Bytes))
	for i, n := range c.Bytes {
		labels[i] = formatBytes(n)
	}
	r := s.report("recover")
	if err := s.run(ctx, labels, e.step); err != nil {
		return nil, err
	}
	r.Took = time.Since(r.Time)
	e.fill(r)
	return r, nil
}

func (c *RecoverConfig) setDefaults() error {
	fill(&c.Bytes, recoverBytes)
	if c.Size == 0 {
		c.Size = recoverSize
	}
	if c.FileSize == 0 {
		c.FileSize = recoverFileSize
	}
	switch {
	case c.Child == nil:
		return fmt.Errorf("%w: no child process to kill", ErrConfig)
	case c.Size < 0 || c.Size > store.DefaultMaxBodyLen:
		return fmt.Errorf("%w: size %d, must be 0 to %d", ErrConfig, c.Size, store.DefaultMaxBodyLen)
	case c.FileSize < store.MinFileSize || c.FileSize > store.MaxFileSize:
		return fmt.Errorf("%w: file size %d, must be %d to %d bytes", ErrConfig, c.FileSize, store.MinFileSize, store.MaxFileSize)
	}
	for _, n := range c.Bytes {
		if n < 1 {
			return fmt.Errorf("%w: %d bytes of log", ErrConfig, n)
		}
	}
	return nil
}

// step measures one size of log: in a store that a child leaves behind, one
// ending after the other.
func (e *recoveries) step(ctx context.Context, dir string, i int, keep bool) error {
	empty, err := openEmpty(ctx, filepath.Join(dir, "empty"))
	if err != nil {
		return err
	}
	w := WriteConfig{Dir: filepath.Join(dir, "store"), Bytes: e.config.Bytes[i], Size: e.config.Size, FileSize: e.config.FileSize}
	if err := e.killed(ctx, w); err != nil {
		return err
	}
	for j, end := range endings {
		if err := end.prepare(w.Dir); err != nil {
			return err
		}
		o, err := timeOpen(ctx, w.Dir)
		if err != nil {
			return fmt.Errorf("open after %s: %w", end.name, err)
		}
		if !end.is(o.recovery) {
			return fmt.Errorf("the store was to be found after %s, and was found as: %v", end.name, o.recovery.Kind)
		}
		if o.floor, err = readLog(ctx, w.Dir, w.FileSize, int64(o.recovery.From), int64(o.recovery.End)); err != nil {
			return err
		}
		o.floor += empty
		if keep {
			res := &e.results[i*len(endings)+j]
			res.opens = append(res.opens, o)
		}
	}
	return nil
}

// killed has a child append until it is killed.
func (e *recoveries) killed(ctx context.Context, w WriteConfig) error {
	child, err := e.config.Child(ctx, w)
	if err != nil {
		return err
	}
	out, err := child.StdoutPipe()
	if err != nil {
		return err
	}
	if err := child.Start(); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return err
	}
	said := make([]byte, len(written))
	_, readErr := io.ReadFull(out, said)
	if readErr == nil && string(said) != written {
		readErr = fmt.Errorf("it wrote %q", said)
	}
	killErr := child.Process.Kill()
	err = child.Wait()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case readErr != nil || killErr != nil:
		return fmt.Errorf("the writing process: %w", errors.Join(readErr, killErr, err))
	case !errors.As(err, &exit) || exit.Exited():
		return fmt.Errorf("the writing process was to be killed, but: %w", err)
	}
	return nil
}
