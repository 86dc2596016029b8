// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/stelelog/stele/commitlog"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
)

func (f *foresight) lose(l Loss) error {
	if l.Kind != LossStale {
		f.fc.Losses++
	}
	if f.Loss == nil {
		return nil
	}
	return f.Loss(l)
}

// behind reports what lies behind the end of the log. In a log that is untouched
// since it was closed, Open takes the rest of the last file for zeros.
func (f *foresight) behind(found commitlog.Recovery, untouched bool) error {
	files := f.s.log.Files()
	from := found.End
	if file := files.Find(int64(from)); untouched && file != nil && (file.Base() < int64(from) || file == files.First()) {
		from = message.Offset(file.End())
	}
	for _, file := range files.Files() {
		if file.End() <= int64(from) {
			continue
		}
		at := max(int64(from), file.Base())
		_, hi, err := f.written(at, file.End())
		if err != nil {
			return err
		}
		c := Cut{Path: file.Path(), At: message.Offset(at), from: at - file.Base(), Bytes: max(hi-at, 0)}
		// The first file stays: its name says where the log begins.
		c.Removed = c.from == 0 && file != files.First()
		if c.Bytes > 0 || c.Removed {
			f.fc.Cuts = append(f.fc.Cuts, c)
		}
	}
	sc := f.s.log.Scan(from, message.Offset(files.End()), commitlog.ScanOptions{Check: message.CheckAll, Resync: commitlog.ResyncAlways})
	defer sc.Close()
	why := found.Stop.Err // of the first thing only
	for sc.Next() {
		if f.ctx.Err() != nil {
			return context.Cause(f.ctx)
		}
		it := sc.Item()
		f.progress(it.Offset)
		var err error
		switch it.Kind {
		case commitlog.ItemRecord:
			l := f.lossOf(LossMessage, it.Message)
			l.Err = why
			if it.Message.StoreTimestamp < found.LastTime {
				l.Kind = LossStale
			}
			err = f.lose(l)
		case commitlog.ItemDamage:
			err = f.torn(it.Offset, it.Offset+message.Offset(it.Size), it.Err)
		case commitlog.ItemFiller:
		}
		why = nil
		if err != nil {
			return err
		}
	}
	st := sc.Stop()
	if st.Kind == commitlog.StopError {
		return st.Err
	}
	return f.torn(st.Offset, message.Offset(files.End()), st.Err)
}

// torn reports a stretch without an intact record, unless it is all zeros.
func (f *foresight) torn(from, to message.Offset, why error) error {
	lo, hi, err := f.written(int64(from), int64(to))
	if err != nil || lo == hi {
		return err
	}
	l := Loss{Kind: LossTorn, Offset: message.Offset(lo), Size: hi - lo, Err: why}
	file := f.s.log.Files().Find(lo)
	l.Path = file.Path()
	var corrupt *commitlog.CorruptError
	if errors.As(why, &corrupt) {
		l.Offset, l.Size, l.Path, l.Err = from, hi-int64(from), corrupt.Path, corrupt.Cause
	}
	if file = f.s.log.Files().Find(int64(l.Offset)); file != nil {
		f.guess(file, &l)
	}
	return f.lose(l)
}

// guess fills in what the header of a torn record says, if that makes sense.
func (f *foresight) guess(file *mappedfile.File, l *Loss) {
	v, err := file.View(int64(l.Offset)-file.Base(), file.End()-int64(l.Offset))
	if err != nil {
		return
	}
	defer v.Release()
	dec := message.Decoder{Check: message.CheckNone}
	var m message.Message
	if dec.Decode(v.Bytes(), &m) != nil || m.PhysicalOffset != l.Offset {
		return
	}
	r := f.lossOf(l.Kind, &m)
	f.told[l.Offset] = true
	l.Queued, l.Topic, l.Queue, l.QueueOffset, l.StoreTime = r.Queued, r.Topic, r.Queue, r.QueueOffset, r.StoreTime
}

func (f *foresight) lossOf(kind LossKind, m *message.Message) Loss {
	l := Loss{
		Kind: kind, Offset: m.PhysicalOffset, Size: int64(m.Size), Queued: true,
		Topic: m.Topic, Queue: m.QueueID, QueueOffset: m.QueueOffset, StoreTime: m.StoreTimestamp,
	}
	if file := f.s.log.Files().Find(int64(m.PhysicalOffset)); file != nil {
		l.Path = file.Path()
	}
	return l
}

// lookStep is how much of the log is looked through between two questions to the
// file system where the next data is.
const lookStep = 1 << 20

// written returns where the first byte of [from, to) is that is not zero, and the
// place behind the last one; the same place twice without one.
func (f *foresight) written(from, to int64) (lo, hi int64, err error) {
	lo, hi = -1, -1
	for from < to {
		file := f.s.log.Files().Find(from)
		if file == nil {
			break
		}
		v, err := file.View(0, file.Size())
		if err != nil {
			return 0, 0, err
		}
		end := min(to, file.End())
		for at := file.Base() + file.NextData(from-file.Base()); at < end; at = file.Base() + file.NextData(at-file.Base()) {
			if f.ctx.Err() != nil {
				v.Release()
				return 0, 0, context.Cause(f.ctx)
			}
			b := v.Bytes()[at-file.Base() : min(at+lookStep, end)-file.Base()]
			if i, j := span(b); i < j {
				if lo < 0 {
					lo = at + int64(i)
				}
				hi = at + int64(j)
			}
			at += int64(len(b))
		}
		v.Release()
		from = file.End()
	}
	return lo, hi, nil
}

// span is where the first byte of b is that is not zero, and the place behind the
// last one.
func span(b []byte) (lo, hi int) {
	hi = len(bytes.TrimRight(b, "\x00"))
	return hi - len(bytes.TrimLeft(b[:hi], "\x00")), hi
}

// SaveCuts writes what the Cuts would take from the log into a new file, durably:
// the byte at position k is that of the log at the offset of the first cut plus k.
// It returns false, and makes no file, when nothing but zeros would be cut. The
// directory of the file must be there. After an error there is no file.
func (fc *Forecast) SaveCuts(ctx context.Context, path string) (saved bool, err error) {
	var out *os.File
	for _, c := range fc.Cuts {
		if c.Bytes == 0 {
			continue
		}
		if out == nil {
			if out, err = os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644); err != nil { //nolint:gosec // as the log itself
				return false, err
			}
		}
		if err = c.save(ctx, out, int64(c.At-fc.Cuts[0].At)); err != nil {
			break
		}
	}
	if out == nil {
		return false, nil
	}
	if err == nil {
		err = out.Sync()
	}
	if err = errors.Join(err, out.Close()); err == nil {
		err = mappedfile.OS().SyncDir(filepath.Dir(path))
	}
	if err != nil {
		return false, errors.Join(err, os.Remove(path))
	}
	return true, nil
}

// save copies what is cut to a place in out.
func (c *Cut) save(ctx context.Context, out *os.File, at int64) (err error) {
	in, err := os.Open(c.Path)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }() // only read
	buf := make([]byte, lookStep)
	for done := int64(0); done < c.Bytes; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		b := buf[:min(int64(len(buf)), c.Bytes-done)]
		if _, err := io.ReadFull(io.NewSectionReader(in, c.from+done, int64(len(b))), b); err != nil {
			return fmt.Errorf("save what is cut of %s: %w", c.Path, err)
		}
		if lo, hi := span(b); lo < hi {
			if _, err := out.WriteAt(b[lo:hi], at+done+int64(lo)); err != nil {
				return err
			}
		}
		done += int64(len(b))
	}
	return nil
}
