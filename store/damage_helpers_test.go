// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/commitlog"
	"github.com/stelelog/stele/inspect"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/store"
)

// kept is a message that a victim holds.
type kept struct {
	topic  string
	queue  int32
	at     message.QueueOffset
	offset message.Offset
	size   int32
	sum    uint32 // CRC-32 of its body
}

func (k kept) end() message.Offset { return k.offset + message.Offset(k.size) }

// victim is a directory that is going to be damaged, and what it holds, in the
// order of the log.
type victim struct {
	dir      string
	all      []kept
	fileSize int64
	stele    bool // written by Stele, else by RocketMQ
	closed   bool // in order, else killed
}

// victims makes each kind of victim once, and copies of it.
var victims = map[string]func(t *testing.T) *victim{
	"stele/closed":  sync1(func(t *testing.T) *victim { return steleVictim(t, true) }),
	"stele/killed":  sync1(func(t *testing.T) *victim { return steleVictim(t, false) }),
	"broker/closed": func(t *testing.T) *victim { return brokerVictim(t, true) },
	"broker/killed": func(t *testing.T) *victim { return brokerVictim(t, false) },
}

// sync1 lets one test make the original, and all of them copy it.
func sync1(make func(t *testing.T) *victim) func(t *testing.T) *victim {
	var mu sync.Mutex
	var files map[string][]byte
	var first *victim
	return func(t *testing.T) *victim {
		t.Helper()
		mu.Lock()
		defer mu.Unlock()
		if files == nil {
			first = make(t)
			files = readTree(t, first.dir)
		}
		v := *first
		v.dir, v.all = t.TempDir(), slices.Clone(first.all)
		for name, data := range files {
			p := filepath.Join(v.dir, name)
			require.NoError(t, os.MkdirAll(filepath.Dir(p), 0o755))
			write(t, p, data)
		}
		return &v
	}
}

func readTree(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	require.NoError(t, filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, p)
		if err == nil {
			all[rel], err = os.ReadFile(p)
		}
		return err
	}))
	return all
}

// steleVictim is a store of several files. Killed, it is what was there while
// the store was open, with messages behind the last flush and checkpoint.
func steleVictim(t *testing.T, closed bool) *victim {
	t.Helper()
	v := &victim{dir: t.TempDir(), fileSize: fileSize, stele: true, closed: closed}
	s, err := store.Open(v.dir, victimOptions(v))
	require.NoError(t, err)
	defer s.Close()
	rng := rand.New(rand.NewPCG(1, 2))
	const n = 240
	for i := range n {
		m := msg([]string{"orders", "payments"}[rng.IntN(2)], int32(rng.IntN(2)), "")
		m.Body = make([]byte, 60+rng.IntN(300))
		for j := range m.Body {
			m.Body[j] = byte(rng.Uint32())
		}
		m.SetKeys(fmt.Sprintf("k%d", i%50), fmt.Sprintf("m%d", i))
		m.SetTags("red") // before the checksum: a flip in its own name goes unnoticed, and harms nothing
		r, err := s.Append(context.Background(), m)
		require.NoError(t, err)
		v.all = append(v.all, kept{m.Topic, m.QueueID, r.QueueOffset, r.Offset, r.Size, crc32.ChecksumIEEE(m.Body)})
		if i == n-40 {
			require.NoError(t, s.Flush(context.Background()))
		}
	}
	waitAll(t, s)
	if closed {
		require.NoError(t, s.Close())
		return v
	}
	// What the process has in its mappings is in the page cache.
	left := t.TempDir()
	require.NoError(t, os.CopyFS(left, os.DirFS(v.dir)))
	v.dir = left
	return v
}

func brokerVictim(t *testing.T, closed bool) *victim {
	t.Helper()
	const name = "append-prop-crc"
	v := &victim{dir: unpack(t, name, !closed), fileSize: 262144, closed: closed}
	for _, l := range brokerLines(t, name) {
		sum, err := strconv.ParseUint(strings.Trim(string(l.BodyCRC), `"`), 16, 32)
		if len(strings.Trim(string(l.BodyCRC), `"`)) != 8 || err != nil {
			sum, err = strconv.ParseUint(string(l.BodyCRC), 10, 32)
		}
		require.NoError(t, err)
		v.all = append(v.all, kept{l.Topic, l.QueueID, l.QueueOffset, l.PhysicalOffset, l.Size, uint32(sum)})
	}
	return v
}

// victimOptions don't flush unless asked to.
func victimOptions(v *victim) store.Options {
	o := store.Options{
		Disk: noSync{mappedfile.OS()}, MetaFS: vfs.NewMem(),
		FlushInterval: long, FlushThoroughInterval: long, CheckpointInterval: long, OffsetInterval: long,
		Delay: store.DelayOptions{Off: true}, // a delivery is a message that nobody here has appended
	}
	if v.stele {
		o.FileSize, o.QueueFileSize, o.Index = fileSize, queueFileSize, smallIndex
		o.TimeIndex.Stretch = 4096
	}
	return o
}

// end is the offset behind the last message.
func (v *victim) end() message.Offset { return v.all[len(v.all)-1].end() }

// logFile is the path of the file that holds an offset, and the offset in it.
func (v *victim) logFile(off message.Offset) (string, int64) {
	base := int64(off) / v.fileSize * v.fileSize
	return filepath.Join(v.dir, "commitlog", mappedfile.FileName(base)), int64(off) - base
}

// change rewrites n bytes of the log.
func (v *victim) change(t *testing.T, off message.Offset, n int, do func(b []byte)) {
	t.Helper()
	p, at := v.logFile(off)
	changeFile(t, p, at, n, do)
}

func changeFile(t *testing.T, path string, at int64, n int, do func(b []byte)) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	defer f.Close()
	b := make([]byte, n)
	_, err = f.ReadAt(b, at)
	require.NoError(t, err)
	old := slices.Clone(b)
	do(b)
	require.NotEqual(t, old, b, "nothing was damaged")
	_, err = f.WriteAt(b, at)
	require.NoError(t, err)
}

// queueFile is the path of the file that holds the entry of a message, and
// where in it.
func (v *victim) queueFile(t *testing.T, k kept) (string, int64) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(v.dir, "consumequeue", k.topic, strconv.Itoa(int(k.queue)), "*"))
	require.NoError(t, err)
	for _, p := range slices.Backward(files) {
		if base, _ := mappedfile.ParseFileName(filepath.Base(p)); base <= int64(k.at)*20 {
			return p, int64(k.at)*20 - base
		}
	}
	t.Fatalf("no queue file for %+v", k)
	return "", 0
}

// places are messages that damage tells apart by where they stand: the first of
// all, some in the middle of a file, first and last of one, the last of all.
func (v *victim) places() map[string]int {
	places := map[string]int{"first": 0, "last": len(v.all) - 1}
	for i, k := range v.all {
		if i == 0 {
			continue
		}
		before := int64(v.all[i-1].offset) / v.fileSize
		if file := int64(k.offset) / v.fileSize; file != before && places["first of a file"] == 0 {
			places["last of a file"], places["first of a file"] = i-1, i
			places["middle"] = i - 5
		}
	}
	places["near the end"] = len(v.all) - 8
	for place := range places {
		// A broker's directory is large, and goes the same ways.
		if few := testing.Short() || !v.stele; few && place != "middle" && place != "last" && place != "last of a file" {
			delete(places, place)
		}
	}
	return places
}

// outcome is what came of a damaged victim.
type outcome struct {
	recovery store.Recovery
	events   []*commitlog.CorruptError
	found    map[message.Offset]bool // messages that Fetch returned
	corrupt  []message.Offset        // places that Fetch named
	errs     []error
	ends     map[string]message.QueueOffset
}

// open opens the victim, fetches everything, appends to each queue, closes and
// opens it again, and requires that nothing is returned that was not appended.
func (v *victim) open(t *testing.T) outcome {
	t.Helper()
	o := victimOptions(v)
	var out outcome
	o.Events.Damaged = func(e *commitlog.CorruptError) { out.events = append(out.events, e) }
	s, err := store.Open(v.dir, o)
	require.NoError(t, err)
	defer s.Close()
	out.recovery = s.Stats().Recovery
	v.fetchAll(t, s, &out)

	news := map[string]store.AppendResult{}
	for k, at := range out.ends {
		topic, id, _ := strings.Cut(k, "|")
		n, err := strconv.Atoi(id)
		require.NoError(t, err)
		r := appendOne(t, s, topic, int32(n), "new")
		require.Equal(t, at, r.QueueOffset)
		news[k] = r
	}
	require.NoError(t, s.Close())

	s, err = store.Open(v.dir, o)
	require.NoError(t, err)
	defer s.Close()
	again := outcome{}
	v.fetchAll(t, s, &again)
	require.Equal(t, out.found, again.found, "after a second opening")
	for k, r := range news {
		topic, _, _ := strings.Cut(k, "|")
		b, err := s.Fetch(context.Background(), topic, r.QueueID, r.QueueOffset, store.Limit{})
		require.NoError(t, err)
		require.Equal(t, 1, b.Len(), k)
		for m, err := range b.All() {
			require.NoError(t, err)
			require.Equal(t, "new", string(m.Body))
			require.Equal(t, r.Offset, m.PhysicalOffset)
		}
		b.Release()
	}
	require.NoError(t, s.Close())
	return out
}

// fetchAll fetches every queue from its first message to its last, and goes on
// behind what it can't get.
func (v *victim) fetchAll(t *testing.T, s *store.Store, out *outcome) {
	t.Helper()
	byPlace := map[string]kept{}
	for _, k := range v.all {
		byPlace[fmt.Sprint(k.topic, "|", k.queue, "|", k.at)] = k
	}
	out.found, out.ends = map[message.Offset]bool{}, map[string]message.QueueOffset{}
	for _, q := range s.Queues() {
		key := fmt.Sprint(q.Topic, "|", q.QueueID)
		out.ends[key] = q.Max
		for from := q.Min; from < q.Max; {
			b, err := s.Fetch(context.Background(), q.Topic, q.QueueID, from, store.Limit{Messages: 50})
			require.NoError(t, err, "queue %s at %d", key, from)
			require.Greater(t, b.Next, from)
			for m, err := range b.All() {
				if err != nil {
					out.errs = append(out.errs, err)
					var c *commitlog.CorruptError
					if errors.As(err, &c) {
						require.NotEmpty(t, c.Path)
						out.corrupt = append(out.corrupt, c.Offset)
					}
					continue
				}
				if string(m.Body) == "new" {
					continue
				}
				k, ok := byPlace[fmt.Sprint(m.Topic, "|", m.QueueID, "|", m.QueueOffset)]
				require.True(t, ok, "never appended: %v/%d/%d", m.Topic, m.QueueID, m.QueueOffset)
				require.Equal(t, k.offset, m.PhysicalOffset)
				require.Equal(t, k.sum, crc32.ChecksumIEEE(m.Body))
				out.found[k.offset] = true
			}
			from = b.Next
			b.Release()
		}
	}
}

// requireAll requires that everything was fetched but for what may be lost.
func (v *victim) requireAll(t *testing.T, out outcome, lost ...kept) {
	t.Helper()
	gone := map[message.Offset]bool{}
	for _, k := range lost {
		gone[k.offset] = true
	}
	for i, k := range v.all {
		if !gone[k.offset] {
			require.True(t, out.found[k.offset], "message %d of %d at %d (%s/%d/%d) is gone; recovery %+v",
				i, len(v.all), k.offset, k.topic, k.queue, k.at, out.recovery)
		}
	}
}

// reported tells whether the damage at an offset of the log was reported, by
// Open or by Fetch.
func (out *outcome) reported(off message.Offset) bool {
	if slices.Contains(out.corrupt, off) {
		return true
	}
	var torn *commitlog.CorruptError
	if errors.As(out.recovery.Torn, &torn) && torn.Offset == off {
		return true
	}
	for _, e := range slices.Concat(out.recovery.Damage, out.events) {
		if e.Offset == off && e.Path != "" {
			return true
		}
	}
	return false
}

// look lists the messages of the directory as it is, read-only: all but the lost
// ones must be there. It returns what was said about the rest.
func (v *victim) look(t *testing.T, lost ...kept) (said []error) {
	t.Helper()
	before := hashTree(t, v.dir)
	d, err := inspect.Open(v.dir, inspect.Options{})
	require.NoError(t, err)
	listed := map[message.Offset]bool{}
	for r, err := range d.Messages(context.Background(), inspect.Filter{}) {
		if err != nil {
			said = append(said, err)
			continue
		}
		listed[r.PhysicalOffset] = true
	}
	for _, k := range v.all {
		if !slices.Contains(lost, k) {
			require.True(t, listed[k.offset], "the message at %d is not listed; said: %v", k.offset, said)
		}
	}
	require.Equal(t, before, hashTree(t, v.dir))
	return said
}

// saidAt tells whether damage at an offset is among the errors.
func saidAt(said []error, off message.Offset) bool {
	return slices.ContainsFunc(said, func(err error) bool {
		var c *commitlog.CorruptError
		return errors.As(err, &c) && c.Offset == off && c.Path != ""
	})
}

// bodyAt and propertiesAt are where they begin in a record.
func bodyAt(t *testing.T, rec []byte) int {
	t.Helper()
	m := decode(t, rec)
	require.NotEmpty(t, m.Body)
	return bytes.Index(rec, m.Body)
}

func propertiesAt(t *testing.T, rec []byte) int {
	t.Helper()
	m := decode(t, rec)
	return bytes.Index(rec, m.Properties.Encoded())
}

func decode(t *testing.T, rec []byte) *message.Message {
	t.Helper()
	var m message.Message
	dec := message.Decoder{Check: message.CheckAll}
	require.NoError(t, dec.Decode(rec, &m))
	return &m
}

// noSync is a disk that makes nothing durable, which takes long. Damage is not
// about that.
type noSync struct{ mappedfile.Disk }

func (noSync) SyncDir(string) error { return nil }

func (d noSync) Open(path string, m mappedfile.Mapping) (mappedfile.Region, error) {
	return lazy(d.Disk.Open(path, m))
}

func (d noSync) Create(path string, size int64, m mappedfile.Mapping) (mappedfile.Region, error) {
	return lazy(d.Disk.Create(path, size, m))
}

func lazy(r mappedfile.Region, err error) (mappedfile.Region, error) {
	if err != nil {
		return nil, err
	}
	return lazyRegion{r}, nil
}

type lazyRegion struct{ mappedfile.Region }

func (lazyRegion) Flush(int64, int64) error { return nil }

func (r lazyRegion) NextData(off int64) int64 {
	if d, ok := r.Region.(interface{ NextData(int64) int64 }); ok {
		return d.NextData(off)
	}
	return off
}

func openVictim(t *testing.T, v *victim) *store.Store {
	t.Helper()
	s, err := store.Open(v.dir, victimOptions(v))
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// appendTo adds a message to what the victim holds.
func (v *victim) appendTo(t *testing.T, s *store.Store, m *message.Message) {
	t.Helper()
	r, err := s.Append(context.Background(), m)
	require.NoError(t, err)
	v.all = append(v.all, kept{m.Topic, m.QueueID, r.QueueOffset, r.Offset, r.Size, crc32.ChecksumIEEE(m.Body)})
}
