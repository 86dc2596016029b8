// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package experiment

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stelelog/stele/commitlog"
	"github.com/stelelog/stele/delivery"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/store"
	"github.com/stelelog/stele/warmup"
)

// fixture is a store whose log is one file of records of equal length, in turn
// from each of its queues.
type fixture struct {
	store  *store.Store
	view   mappedfile.View
	source delivery.Source
	record int64 // bytes
	queues int
	size   int64 // bytes of the equal records
	first  int64 // where the first of them begins in the file
	sum    byte  // of what was touched, so that the compiler leaves it in
}

// newFixture makes a store in dir whose records fill size bytes.
func newFixture(ctx context.Context, dir string, size, record int64, queues int) (made *fixture, err error) {
	s, err := store.Open(dir, store.Options{
		FileSize: size + size/8 + 1<<20, Warmup: store.WarmupOptions{Mode: warmup.Off},
		Index: store.IndexOptions{Off: true}, CheckpointInterval: time.Hour,
	})
	if err != nil {
		return nil, err
	}
	f := &fixture{store: s, record: record, queues: queues}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.close())
		}
	}()
	body, err := bodyFor(ctx, s, record)
	if err != nil {
		return nil, err
	}
	begin := s.Log().Appended()
	for n := int64(0); n*record < size; n++ {
		at, err := s.Append(ctx, &message.Message{Topic: topic, QueueID: int32(n % int64(queues)), Body: body})
		if err != nil {
			return nil, err
		}
		if int64(at.Size) != record {
			return nil, fmt.Errorf("a record of %d bytes instead of %d", at.Size, record)
		}
	}
	if err := errors.Join(s.Flush(ctx), s.WaitDispatched(ctx, s.Log().Appended())); err != nil {
		return nil, err
	}
	file := s.Log().Files().First()
	if f.view, err = file.View(0, file.Size()); err != nil {
		return nil, err
	}
	f.source = commitlog.Source(f.view)
	f.first, f.size = int64(begin)-file.Base(), size/record*record
	if f.source.File == nil {
		return nil, errors.New("the log's file has no descriptor")
	}
	return f, nil
}

// bodyFor returns a body whose record has that length. To learn what a record has
// beside its body one is appended to a queue that nobody reads.
func bodyFor(ctx context.Context, s *store.Store, record int64) ([]byte, error) {
	at, err := s.Append(ctx, &message.Message{Topic: topic, QueueID: store.MaxQueueID, Body: make([]byte, leastRecord)})
	if err != nil {
		return nil, err
	}
	n := record - int64(at.Size) + leastRecord
	if n < 1 {
		return nil, fmt.Errorf("%w: a record of %d bytes has no room for a body", ErrConfig, record)
	}
	body := make([]byte, n)
	for i := range body {
		body[i] = byte(i * 7)
	}
	return body, nil
}

func (f *fixture) close() error {
	f.view.Release()
	return f.store.Close()
}

// runs appends the pieces of chunk i of a case to runs: one run, or records that
// lie as far apart as a queue's records do.
func (f *fixture) runs(runs []delivery.Run, d delivered, i int64) []delivery.Run {
	src := &f.source
	if d.pattern == Contiguous {
		from := f.first + i*int64(d.chunk)
		return delivery.Append(runs, src, from, min(from+int64(d.chunk), f.first+f.size))
	}
	perQueue := f.size / f.record / int64(f.queues) / scatter // chunks
	queue, first := i/perQueue, i%perQueue*scatter
	for j := range int64(scatter) {
		from := f.first + ((first+j)*int64(f.queues)+queue)*f.record
		runs = delivery.Append(runs, src, from, from+f.record)
	}
	return runs
}

// chunks is how many whole ones there are, and bytes what they hold.
func (f *fixture) chunks(d delivered) (n, bytes int64) {
	if d.pattern == Contiguous {
		n = f.size / int64(d.chunk)
	} else {
		n = f.size / f.record / int64(f.queues) / scatter * int64(f.queues)
	}
	return n, n * int64(d.chunk)
}

// prepare has the file in memory, or not. It reports whether that went well.
func (f *fixture) prepare(cache string) (bool, error) {
	data := f.source.Data
	if cache == Warm {
		err := mappedfile.Guard(func() error {
			for at := 0; at < len(data); at += os.Getpagesize() {
				f.sum += data[at]
			}
			return nil
		})
		return true, err
	}
	fd := int(f.source.File.Fd())
	err := errors.Join(
		f.source.File.Sync(),
		warmup.Advise(data, warmup.DontNeed),
		unix.Fadvise(fd, 0, 0, unix.FADV_DONTNEED),
	)
	if err != nil {
		return false, err
	}
	n, err := warmup.Resident(data[f.first : f.first+f.size])
	return n < f.size/10, err
}

// fixtures makes each once.
type fixtures struct {
	dir  string
	size int64
	made map[int64]*fixture // by record length; contiguous ones by 0
}

func (fs *fixtures) of(ctx context.Context, d delivered) (*fixture, error) {
	key, record, queues := int64(0), int64(contiguousRecord), 1
	if d.pattern == Scattered {
		record, queues = int64(d.chunk/scatter), scatterQueues
		key = record
	}
	if f := fs.made[key]; f != nil {
		return f, nil
	}
	f, err := newFixture(ctx, filepath.Join(fs.dir, fmt.Sprint(key)), fs.size, record, queues)
	if err == nil {
		fs.made[key] = f
	}
	return f, err
}

func (fs *fixtures) close() error {
	errs := make([]error, 0, len(fs.made)+1)
	for _, f := range fs.made {
		errs = append(errs, f.close())
	}
	return errors.Join(append(errs, os.RemoveAll(fs.dir))...)
}
