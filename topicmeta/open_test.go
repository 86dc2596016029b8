// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package topicmeta

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
)

func TestSecondOpenIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir, Options{})
	_, err := Open(dir, Options{})
	require.Error(t, err)
	require.NoError(t, s.Put(Topic{Name: "t"}))
}

func TestClaim(t *testing.T) {
	t.Parallel()
	type files map[string]string
	for _, tc := range []struct {
		name  string
		files files
		err   error
	}{
		{"empty", files{}, nil},
		{"a crash while the marker was written", files{markerTemp: "ste"}, nil},
		{"the marker alone", files{markerName: "stele topicmeta 2\n"}, nil},
		{"the version before", files{markerName: "stele topicmeta 1\n"}, nil},
		{"another file", files{"notes.txt": ""}, ErrNotOurs},
		{"RocksDB", files{"CURRENT": "MANIFEST-000005\n", "MANIFEST-000005": "x", "OPTIONS-000007": "[Version]\n"}, ErrNotOurs},
		{"somebody else's Pebble", files{"marker.format-version.000001.013": "", "LOCK": ""}, ErrNotOurs},
		{"newer", files{markerName: "stele topicmeta 3\n"}, ErrVersion},
		{"empty marker", files{markerName: ""}, ErrNotOurs},
		{"other marker", files{markerName: "stele something 1\n"}, ErrNotOurs},
		{"version 0", files{markerName: "stele topicmeta 0\n"}, ErrNotOurs},
		{"no number", files{markerName: "stele topicmeta one\n"}, ErrNotOurs},
	} {
		for _, readOnly := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/readOnly=%v", tc.name, readOnly), func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				for name, text := range tc.files {
					require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
				}
				s, err := Open(dir, Options{ReadOnly: readOnly})
				want := tc.err
				if _, ok := tc.files[markerName]; readOnly && !ok {
					want = ErrNotOurs // nothing to read
				}
				if want == nil {
					require.NoError(t, err)
					require.NoError(t, s.Close())
				} else {
					require.ErrorIs(t, err, want)
				}
				if want == nil && !readOnly {
					return
				}
				// Nothing was touched.
				entries, err := os.ReadDir(dir)
				require.NoError(t, err)
				require.Len(t, entries, len(tc.files))
				for name, text := range tc.files {
					data, err := os.ReadFile(filepath.Join(dir, name))
					require.NoError(t, err)
					require.Equal(t, text, string(data))
				}
			})
		}
	}
}

func TestReadOnly(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "meta")
	_, err := Open(dir, Options{ReadOnly: true})
	require.ErrorIs(t, err, fs.ErrNotExist)

	owner := open(t, dir, Options{})
	require.NoError(t, owner.Put(sampleTopic("t")))
	require.NoError(t, owner.CommitOffset("g", "t", 0, 5))
	require.NoError(t, owner.Sync())
	require.NoError(t, owner.CommitOffset("g", "t", 0, 6)) // not synced: not to be seen

	before, err := os.ReadDir(dir)
	require.NoError(t, err)
	s := open(t, dir, Options{ReadOnly: true}) // beside the owner
	require.Equal(t, sampleTopic("t"), topicOf(t, s, "t"))
	require.EqualValues(t, 5, offsetOf(t, s, "g", "t", 0))
	for i, err := range []error{s.Put(Topic{Name: "x"}), s.CommitOffset("g", "t", 0, 1), s.Sync(), s.Delete("t"), s.SetDelayOffset(1, 1)} {
		require.ErrorIs(t, err, ErrReadOnly, i)
	}
	require.NoError(t, s.Close())
	_, _, err = s.Topic("t")
	require.ErrorIs(t, err, ErrClosed)
	after, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Equal(t, before, after)
	require.NoError(t, owner.Sync())
}

// The owner's files come and go while somebody reads them: what is read is some
// commit of the owner's, as a whole.
func TestReadOnlyBesideABusyOwner(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "meta")
	owner := open(t, dir, Options{})
	require.NoError(t, script(owner, 0, 1, func(int) {}))
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for round := 1; ; round++ {
			select {
			case <-stop:
				return
			default:
			}
			require.NoError(t, script(owner, round, 1, func(int) {}))
			if round%10 == 0 {
				require.NoError(t, owner.flushForTest())
			}
		}
	})
	last := 0
	for range 30 {
		s, err := Open(dir, Options{ReadOnly: true})
		require.NoError(t, err)
		round := state(t, s)
		require.GreaterOrEqual(t, round, last)
		last = round
		require.NoError(t, s.Close())
	}
	close(stop)
	wg.Wait()
}

// Entries that no version of this package writes.
func TestCorruptEntries(t *testing.T) {
	t.Parallel()
	value := appendOffset(nil, 1)
	for name, kv := range map[string][2][]byte{
		"unknown kind":       {{0x7f, 1}, value},
		"empty topic key":    {{kindTopic}, []byte("{}")},
		"short topic key":    {{kindTopic, 5, 'a'}, []byte("{}")},
		"long topic key":     {{kindTopic, 1, 'a', 'b'}, []byte("{}")},
		"empty topic name":   {{kindTopic, 0}, []byte("{}")},
		"topic not JSON":     {{kindTopic, 1, 'a'}, []byte("{")},
		"two values":         {{kindTopic, 1, 'a'}, []byte("{}{}")},
		"unknown field":      {{kindTopic, 1, 'a'}, []byte(`{"x":1}`)},
		"topic out of range": {{kindTopic, 1, 'a'}, []byte(`{"readQueues":-1}`)},
		"short offset key":   {{kindOffset, 1, 'g', 1, 't', 0, 0, 0}, value},
		"negative queue":     {{kindOffset, 1, 'g', 1, 't', 0xff, 0, 0, 0}, value},
		"bad group":          {{kindOffset, 1, '@', 1, 't', 0, 0, 0, 0}, value},
		"short offset":       {{kindOffset, 1, 'g', 1, 't', 0, 0, 0, 0}, value[1:]},
		"negative offset":    {{kindOffset, 1, 'g', 1, 't', 0, 0, 0, 0}, appendOffset(nil, -1)},
		"level 0":            {{kindDelay, 0, 0, 0, 0}, value},
		"short level":        {{kindDelay, 0, 0, 1}, value},
		"empty delay":        {{kindDelay, 0, 0, 0, 1}, nil},
		"timers with a key":  {{kindTimer, 1}, make([]byte, timerSize)},
		"short timers":       {{kindTimer}, make([]byte, timerSize-1)},
		"negative timers":    {{kindTimer}, append([]byte{0x80}, make([]byte, timerSize-1)...)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			mem := vfs.NewMem()
			s := open(t, "meta", Options{FS: mem})
			require.NoError(t, s.db.Set(kv[0], kv[1], pebble.Sync))
			require.NoError(t, s.Close())
			for _, readOnly := range []bool{false, true} {
				_, err := Open("meta", Options{FS: mem, ReadOnly: readOnly})
				require.ErrorIs(t, err, ErrCorrupt)
				require.ErrorContains(t, err, fmt.Sprintf("key %x", kv[0]))
			}
		})
	}
}
