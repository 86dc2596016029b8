// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package inspect_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/inspect"
	"github.com/stelelog/stele/keyindex"
)

// dump returns the fields of a file and checks that nothing lies between them.
func dump(t testing.TB, path string, o inspect.DumpOptions) (fields []inspect.Field, sum inspect.Dumped, err error) {
	t.Helper()
	damaged := int64(0)
	sum, err = inspect.Dump(context.Background(), path, o, func(x *inspect.Field) error {
		if n := len(fields); n > 0 {
			require.Equal(t, fields[n-1].At+fields[n-1].Size, x.At, "between %q and %q", fields[n-1].Name, x.Name)
		}
		require.LessOrEqual(t, int64(len(x.Bytes)), x.Size)
		if x.Damage != nil {
			damaged++
		}
		field := *x
		field.Bytes = nil
		fields = append(fields, field)
		return nil
	})
	require.Equal(t, damaged, sum.Damage)
	return fields, sum, err
}

// TestDumpOfABroker dumps every file of a store whole.
func TestDumpOfABroker(t *testing.T) {
	t.Parallel()
	dir := sample(t, closed)
	items := map[inspect.FileKind]int64{}
	require.NoError(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		require.NoError(t, err)
		if e.IsDir() {
			return nil
		}
		kind, err := inspect.KindOfFile(path)
		if errors.Is(err, inspect.ErrFileKind) {
			return nil
		}
		require.NoError(t, err)
		fields, sum, err := dump(t, path, inspect.DumpOptions{})
		require.NoError(t, err, path)
		require.Zero(t, sum.Damage, path)
		require.Equal(t, kind, sum.Kind)
		info, err := e.Info()
		require.NoError(t, err)
		last := fields[len(fields)-1]
		require.Zero(t, fields[0].At)
		require.Equal(t, info.Size(), last.At+last.Size, path)
		items[kind] += sum.Items
		return nil
	}))
	require.Equal(t, int64(800), items[inspect.FileLog])
	require.Equal(t, int64(800), items[inspect.FileQueue])
	require.Equal(t, int64(669), items[inspect.FileIndex])
	require.Equal(t, int64(5), items[inspect.FileCheckpoint])
}

// indexSizes are those of a store's index files.
func indexSizes(t testing.TB, dir string) keyindex.Sizes {
	t.Helper()
	set, err := keyindex.OpenSet(keyindex.Options{Dir: filepath.Join(dir, "index"), ReadOnly: true})
	require.NoError(t, err)
	defer func() { require.NoError(t, set.Close()) }()
	return set.Sizes()
}

func TestDumpShowsDamageInPlace(t *testing.T) {
	t.Parallel()
	all, _ := collect(t, open(t, sample(t, closed)), inspect.Filter{})
	rec := int64(all[10].PhysicalOffset)
	inBody := rec + int64(all[10].Size)/2
	const queue, index = "consumequeue/topic-0/0/00000000000000000000", "index/20261122135434261"
	const log = "commitlog/00000000000000000000"
	whole := map[string]int64{}
	intact := sample(t, closed)
	for _, file := range []string{log, queue, index} {
		_, sum, err := dump(t, filepath.Join(intact, file), inspect.DumpOptions{})
		require.NoError(t, err)
		whole[file] = sum.Items
	}
	slots := indexSizes(t, intact)
	for name, tt := range map[string]struct {
		file   string
		at     int64
		bytes  []byte
		field  string // that is damaged, and where it begins
		begins int64
		cause  string
	}{
		"body":                {log, inBody, []byte{0}, "CRC of the body", rec + 8, "CRC"},
		"magic":               {log, rec + 4, []byte{0}, "magic", rec + 4, "MAGICCODE"},
		"size too small":      {log, rec, []byte{0, 0, 0, 1}, "size", rec, "TOTALSIZE"},
		"size too large":      {log, rec, []byte{0x7F}, "size", rec, "not enough bytes"},
		"length of the body":  {log, rec + 84, []byte{0x7F}, "length of the body", rec + 84, "BODYLEN"},
		"queue id":            {log, rec + 12, []byte{0xFF}, "queue id", rec + 12, "QUEUEID"},
		"entry of nothing":    {queue, 5*20 + 8, []byte{0, 0, 0, 0}, "its size", 5*20 + 8, "no record"},
		"entry goes back":     {queue, 5 * 20, make([]byte, 8), "record at", 5 * 20, "not behind"},
		"hole":                {queue, 5 * 20, make([]byte, 20), "never filled", 5 * 20, "others behind"},
		"negative offset":     {queue, 5 * 20, []byte{0x80}, "record at", 5 * 20, "negative"},
		"slot of no entry":    {index, slots.SlotAt(7), []byte{0, 1, 0, 0}, "slot 7", slots.SlotAt(7), "no entry"},
		"chain goes forward":  {index, slots.EntryAt(3) + 16, []byte{0, 0, 0, 9}, "the one before it in the chain", slots.EntryAt(3) + 16, "lower numbers"},
		"hash":                {index, slots.EntryAt(3), []byte{0xFF}, "hash of the key", slots.EntryAt(3), "negative"},
		"entry 0":             {index, slots.EntryAt(0), []byte{1}, "never used", slots.EntryAt(0), "not zero"},
		"count beyond room":   {index, 36, []byte{0x7F, 0, 0, 0}, "number of the next entry", 36, "room"},
		"physical offset off": {log, rec + 35, []byte{0xEE}, "property __CRC32#", -1, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := sample(t, closed)
			path := filepath.Join(dir, tt.file)
			patch(t, path, tt.at, tt.bytes)
			fields, sum, err := dump(t, path, inspect.DumpOptions{Sizes: slots})
			require.NoError(t, err)
			require.Positive(t, sum.Damage)
			var damaged []string
			found := false
			for _, x := range fields {
				if x.Damage == nil {
					continue
				}
				damaged = append(damaged, fmt.Sprintf("%d %s: %v", x.At, x.Name, x.Damage))
				found = found || x.Name == tt.field && (x.At == tt.begins || tt.begins < 0) && strings.Contains(x.Damage.Error(), tt.cause)
			}
			require.True(t, found, "%q", damaged)
			require.LessOrEqual(t, len(damaged), 2, "%q", damaged)
			if name != "hole" && name != "count beyond room" { // entries that were not filled are shown then
				require.Equal(t, whole[tt.file], sum.Items, "the dump goes on behind it")
			}
		})
	}
}

func TestDumpFromAndLimit(t *testing.T) {
	t.Parallel()
	dir := sample(t, closed)
	all, _ := collect(t, open(t, dir), inspect.Filter{})
	log := filepath.Join(dir, "commitlog", "00000000000000000000")
	fields, sum, err := dump(t, log, inspect.DumpOptions{From: int64(all[3].PhysicalOffset) + 1, Limit: 2})
	require.NoError(t, err)
	require.Equal(t, int64(2), sum.Items)
	require.Equal(t, int64(all[4].PhysicalOffset), fields[0].At, "the next record")
	last := fields[len(fields)-1]
	require.Equal(t, int64(all[6].PhysicalOffset), last.At+last.Size)

	fields, _, err = dump(t, filepath.Join(dir, "consumequeue/topic-0/0/00000000000000000000"), inspect.DumpOptions{From: 45, Limit: 1})
	require.NoError(t, err)
	require.Equal(t, "queue offset 2", fields[0].Item)

	fields, _, err = dump(t, filepath.Join(dir, "index/20261122135434261"), inspect.DumpOptions{From: indexSizes(t, dir).EntryAt(7), Limit: 2})
	require.NoError(t, err)
	require.Equal(t, "entry 7", fields[0].Item)
	require.Len(t, fields, 8)
}

func TestKindOfFile(t *testing.T) {
	t.Parallel()
	dir := sample(t, closed)
	copied := func(from, name string) string {
		b, err := os.ReadFile(filepath.Join(dir, from))
		require.NoError(t, err)
		to := filepath.Join(t.TempDir(), name)
		require.NoError(t, os.WriteFile(to, b, 0o600))
		return to
	}
	for path, want := range map[string]inspect.FileKind{
		filepath.Join(dir, "commitlog/00000000000000000000"):                          inspect.FileLog,
		filepath.Join(dir, "checkpoint"):                                              inspect.FileCheckpoint,
		copied("commitlog/00000000000000000000", "some-file"):                         inspect.FileLog,
		copied("consumequeue/topic-0/0/00000000000000000000", "00000000000000000000"): inspect.FileQueue,
		filepath.Join(dir, "index/20261122135434261"):                                 inspect.FileIndex,
		filepath.Join(dir, "consumequeue/topic-0/0/00000000000000000000"):             inspect.FileQueue,
	} {
		got, err := inspect.KindOfFile(path)
		require.NoError(t, err)
		require.Equal(t, want, got, path)
	}
	_, err := inspect.KindOfFile(filepath.Join(dir, "lock"))
	require.ErrorIs(t, err, inspect.ErrFileKind)
	_, err = inspect.KindOfFile(filepath.Join(dir, "nothing"))
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, _, err = dump(t, dir, inspect.DumpOptions{Kind: inspect.FileLog})
	require.ErrorIs(t, err, inspect.ErrFileKind)
}

// FuzzDump dumps any bytes as each kind: no panic, no field out of the file, none
// left out.
func FuzzDump(f *testing.F) {
	dir := sample(f, closed)
	for i, file := range []string{"commitlog/00000000000000000000", "consumequeue/topic-0/0/00000000000000000000", "", "checkpoint"} {
		if file == "" {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, file))
		require.NoError(f, err)
		f.Add(uint8(i), b[:min(len(b), 4096)], int64(0))
		f.Add(uint8(i), b[:min(len(b), 1000)], int64(33))
	}
	f.Add(uint8(2), make([]byte, 40+4*3+20*4), int64(0))
	path := filepath.Join(f.TempDir(), "00000000000000000000")
	f.Fuzz(func(t *testing.T, kind uint8, b []byte, from int64) {
		require.NoError(t, os.WriteFile(path, b, 0o600))
		o := inspect.DumpOptions{Kind: inspect.FileKinds[int(kind)%len(inspect.FileKinds)], From: max(from, 0), Sizes: keyindex.Sizes{Slots: 3, Entries: 4}}
		fields, _, err := dump(t, path, o)
		require.NoError(t, err)
		if n := len(fields); n > 0 && o.From == 0 {
			require.Zero(t, fields[0].At)
			require.Equal(t, int64(len(b)), fields[n-1].At+fields[n-1].Size)
		}
	})
}
