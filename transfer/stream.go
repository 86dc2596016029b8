// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package transfer

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"

	"github.com/stelelog/stele/inspect"
	"github.com/stelelog/stele/message"
)

// StreamSink is a Sink that writes rows of ndjson.
//
// Into a file a replay that was killed goes on exactly: what was written behind the
// last mark is cut off. Of a pipe nobody knows what the reader took, and rows that
// were written behind the mark come again.
type StreamSink struct {
	Out *bufio.Writer
	// File is what Out writes to, if it may be a file.
	File *os.File

	buf []byte
}

// Put implements Sink.
func (k *StreamSink) Put(_ context.Context, m *message.Message) error {
	row := inspect.Row{Message: m, Body: inspect.BodyStored, Exact: true}
	k.buf = append(row.AppendJSON(k.buf[:0]), '\n')
	_, err := k.Out.Write(k.buf)
	return err
}

// Settle implements Sink. What went into a file is on disk.
func (k *StreamSink) Settle(context.Context, bool) (Mark, error) {
	if err := k.Out.Flush(); err != nil {
		return Mark{}, err
	}
	mark, regular, err := k.mark()
	if err != nil || !regular {
		return mark, err
	}
	return mark, k.File.Sync()
}

// mark is how long the file is; regular is false when there is none.
func (k *StreamSink) mark() (m Mark, regular bool, err error) {
	if k.File == nil {
		return m, false, nil
	}
	info, err := k.File.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return m, false, err
	}
	m.End = info.Size()
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		m.Device, m.Inode = uint64(st.Dev), st.Ino //nolint:unconvert,gosec // of another type elsewhere
	}
	return m, true, nil
}

// Resume implements Sink.
func (k *StreamSink) Resume(_ context.Context, mark *Mark, ended bool) (Tail, error) {
	now, regular, err := k.mark()
	if err != nil || !regular || mark == nil || mark.Inode == 0 {
		return nil, err
	}
	switch {
	case now.Device != mark.Device || now.Inode != mark.Inode:
		if ended {
			return nil, nil //nolint:nilnil // another file gets the rest
		}
		return nil, fmt.Errorf("%w: the replay was cut off while it wrote to another file; append to that one", ErrTargetChanged)
	case now.End < mark.End:
		return nil, fmt.Errorf("%w: the output has %d bytes, the replay had written %d; append to it (>>)", ErrTargetChanged, now.End, mark.End)
	case !ended && now.End > mark.End:
		if err := k.File.Truncate(mark.End); err != nil {
			return nil, err
		}
	}
	_, err = k.File.Seek(0, io.SeekEnd)
	return nil, err
}

// ErrCommand is returned when the command that a replay goes to fails, or ends
// before it has taken all.
var ErrCommand = errors.New("the command failed")

// CommandSink is a Sink that writes rows of ndjson to a command's standard input.
type CommandSink struct {
	StreamSink
	cmd   *exec.Cmd
	stdin io.Closer
	ended bool
	err   error
}

// StartCommand runs a command line with sh. It gets a process group of its own, so
// that an interrupt from the terminal does not end it before it has read what it was
// given. The caller must call Settle with end, as Replay.Run does.
func StartCommand(line string, stdout, stderr io.Writer) (*CommandSink, error) {
	k := &CommandSink{cmd: exec.Command("sh", "-c", line)} //nolint:gosec,noctx // the user's own; it is to end by itself
	k.cmd.Stdout, k.cmd.Stderr = stdout, stderr
	k.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	in, err := k.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	k.Out, k.stdin = bufio.NewWriterSize(in, 64<<10), in
	return k, k.cmd.Start()
}

// Put implements Sink.
func (k *CommandSink) Put(ctx context.Context, m *message.Message) error {
	return k.early(k.StreamSink.Put(ctx, m))
}

// early says what a write failed for: the command has closed its input.
func (k *CommandSink) early(err error) error {
	if err == nil {
		return nil
	}
	k.err = fmt.Errorf("%w: it took no more: %w", ErrCommand, err)
	return k.err
}

// Settle implements Sink: with end it returns when the command has ended.
func (k *CommandSink) Settle(_ context.Context, end bool) (Mark, error) {
	err := k.early(k.Out.Flush())
	if !end || k.ended {
		return Mark{}, err
	}
	k.ended = true
	_ = k.stdin.Close() // the pipe is gone, or it is not
	if err := k.cmd.Wait(); err != nil {
		k.err = fmt.Errorf("%w: %w", ErrCommand, err)
	}
	return Mark{}, k.err
}
