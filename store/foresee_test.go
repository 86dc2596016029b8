// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/internal/crashdisk"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/store"
)

// logTail says where the log of a disk ends, and puts bytes there.
func logTail(t *testing.T, d *crashdisk.Disk, change func(end int64, log []byte)) {
	t.Helper()
	s, err := store.Foresee(context.Background(), root, quiet(d), store.Foreseeing{})
	require.NoError(t, err)
	base := int64(s.End) / fileSize * fileSize
	p := path.Join(root, "commitlog", mappedfile.FileName(base))
	b, err := d.ReadFile(p)
	require.NoError(t, err)
	change(int64(s.End)-base, b)
	require.NoError(t, d.WriteFile(p, b))
}

// tails damage the end of the log.
var tails = map[string]func(t *testing.T, d *crashdisk.Disk){
	"the last record lost its end": func(t *testing.T, d *crashdisk.Disk) {
		logTail(t, d, func(end int64, b []byte) { clear(b[end-40 : end]) })
	},
	"the last record has a wrong byte": func(t *testing.T, d *crashdisk.Disk) {
		logTail(t, d, func(end int64, b []byte) { b[end-60] ^= 1 })
	},
	"the last kilobytes are gone": func(t *testing.T, d *crashdisk.Disk) {
		logTail(t, d, func(end int64, b []byte) { clear(b[max(end-3000, 0):]) })
	},
	"a hole with records behind it": func(t *testing.T, d *crashdisk.Disk) {
		logTail(t, d, func(end int64, b []byte) { clear(b[max(end-3000, 200):max(end-2000, 300)]) })
	},
	"something behind the end": func(t *testing.T, d *crashdisk.Disk) {
		logTail(t, d, func(end int64, b []byte) { copy(b[min(end+500, fileSize-20):], "leftover") })
	},
	"a file of the middle has a wrong byte": func(t *testing.T, d *crashdisk.Disk) {
		p := path.Join(root, "commitlog", mappedfile.FileName(fileSize))
		b, err := d.ReadFile(p)
		require.NoError(t, err)
		b[3000] ^= 1
		require.NoError(t, d.WriteFile(p, b))
	},
}

// TestForesee: what is foreseen is what Open does, and foreseeing changes nothing.
func TestForesee(t *testing.T) {
	t.Parallel()
	all := map[string]func(t *testing.T, d *crashdisk.Disk){}
	for _, from := range []map[string]func(t *testing.T, d *crashdisk.Disk){wrecks, tails} {
		for name, wreck := range from {
			all[name] = wreck
		}
	}
	for _, end := range ends {
		for name, wreck := range all {
			for _, owner := range []string{"stele", "broker"} {
				t.Run(fmt.Sprintf("%s/%s/%s", end, owner, name), func(t *testing.T) {
					t.Parallel()
					d, _ := filled(t, end)
					if owner == "broker" {
						broker(t, d)
						if !brokersToo(end, name) {
							return
						}
					}
					wreck(t, d)
					requireForesight(t, d)
				})
			}
		}
	}
}

func requireForesight(t *testing.T, d *crashdisk.Disk) {
	t.Helper()
	before := contents(t, d, root)
	counted := int64(0)
	fc, err := store.Foresee(context.Background(), root, quiet(d), store.Foreseeing{Loss: func(l store.Loss) error {
		if l.Kind != store.LossStale {
			counted++
		}
		return nil
	}})
	require.True(t, maps.Equal(before, contents(t, d, root)), "it only looks")
	s, openErr := store.Open(root, quiet(d))
	if openErr != nil {
		require.Error(t, err, "Open says %v", openErr)
		require.Equal(t, errors.Unwrap(openErr).Error(), errors.Unwrap(err).Error())
		return
	}
	require.NoError(t, err)
	rec := s.Stats().Recovery
	defer func() { require.NoError(t, s.Close()) }()
	rec.Took, rec.Offsets = 0, nil
	want, got := fmt.Sprintf("%+v", rec), fmt.Sprintf("%+v", fc.Recovery)
	require.Equal(t, want, got)
	require.Equal(t, counted, fc.Losses)

	// What was to be cut is gone, and nothing else of the log.
	cut := map[string]store.Cut{}
	for _, c := range fc.Cuts {
		cut[c.Path] = c
	}
	after := contents(t, d, root)
	for p, was := range before {
		c, isCut := cut[p]
		switch {
		case path.Dir(p) != root+"/commitlog" || was == "":
		case !isCut:
			requireBytes(t, p, was, after[p])
		case c.Removed:
			if now, there := after[p]; there { // made again for what comes next
				requireBytes(t, p, string(make([]byte, fileSize)), now)
			}
		default:
			at := int64(c.At) % fileSize
			requireBytes(t, p, was[:at]+string(make([]byte, fileSize-at)), after[p])
			require.NotZero(t, was[at+c.Bytes-1])
		}
	}
}

// requireBytes compares what a file holds, without printing it.
func requireBytes(t *testing.T, path, want, got string) {
	t.Helper()
	if want != got {
		t.Fatalf("%s is not what it should be", path)
	}
}

// TestForeseeLosses: each message that would be lost is named.
func TestForeseeLosses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		stele bool // a power cut of Stele's, with nothing flushed; else a broker's crash
		wipe  func(b []byte, offs []int64)
		want  []string
	}{
		{"nothing", true, func([]byte, []int64) {}, nil},
		{"nothing", false, func([]byte, []int64) {}, nil},
		{"a wrong byte in the last body", false, func(b []byte, o []int64) { b[o[2]+100] ^= 1 }, []string{"torn orders/0/2"}},
		{"the last record is torn", false, func(b []byte, o []int64) { clear(b[o[2]+100 : o[3]]) }, []string{"torn", "missing orders/0/2"}},
		{"an intact one behind a torn one", true, func(b []byte, o []int64) { b[o[1]+100] ^= 1 }, []string{"torn orders/0/1", "message orders/0/2"}},
		{"an intact one behind a torn one", false, func(b []byte, o []int64) { b[o[1]+100] ^= 1 }, []string{"damage"}},
		{"an intact one behind zeros", true, func(b []byte, o []int64) { clear(b[o[1]:o[2]]) }, []string{"message orders/0/2", "missing orders/0/1"}},
		{"the last record never came", false, func(b []byte, o []int64) { clear(b[o[2]:]) }, []string{"missing orders/0/2"}},
		{"all of the log is zeros", true, func(b []byte, o []int64) { clear(b) }, []string{"missing orders/0/0", "missing orders/0/1", "missing orders/0/2"}},
	} {
		t.Run(fmt.Sprintf("%s, stele %v", c.name, c.stele), func(t *testing.T) {
			t.Parallel()
			d := crashdisk.New()
			s := openStore(t, d)
			var offs []int64
			for range 3 {
				r := appendOne(t, s, "orders", 0, string(make([]byte, 200))+"x")
				offs = append(offs, int64(r.Offset))
			}
			offs = append(offs, int64(s.Stats().Appended))
			waitAll(t, s)
			d = d.KillClone()
			p := path.Join(root, "commitlog", mappedfile.FileName(0))
			b, err := d.ReadFile(p)
			require.NoError(t, err)
			c.wipe(b, offs)
			require.NoError(t, d.WriteFile(p, b))
			marks, err := d.ReadFile(root + "/stele/marks")
			require.NoError(t, err)
			if c.stele {
				for _, slot := range [][]byte{marks[512:1024], marks[1024:1536]} {
					slot[78] ^= 1 // another boot id
					sealSlot(slot)
				}
			} else {
				clear(marks[512:])
			}
			require.NoError(t, d.WriteFile(root+"/stele/marks", marks))
			var got []string
			fc, err := store.Foresee(context.Background(), root, quiet(d), store.Foreseeing{Loss: func(l store.Loss) error {
				text := string(l.Kind)
				if l.Queued {
					text += fmt.Sprintf(" %s/%d/%d", l.Topic, l.Queue, l.QueueOffset)
				}
				got = append(got, text)
				return nil
			}})
			require.NoError(t, err)
			require.Equal(t, c.want, got, "%+v", fc)
		})
	}
}

// TestRecover: what is cut can be put back from the file that holds it, and an
// error before the first change leaves all as it is.
func TestRecover(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "store")
	o := store.Options{FileSize: fileSize, QueueFileSize: queueFileSize, Index: smallIndex, MetaFS: vfs.NewMem()}
	s, err := store.Open(dir, o)
	require.NoError(t, err)
	var last store.AppendResult
	for range 100 {
		last, err = s.Append(context.Background(), &message.Message{Topic: "orders", Body: make([]byte, 300)})
		require.NoError(t, err)
	}
	require.NoError(t, s.Close())
	log := filepath.Join(dir, "commitlog", mappedfile.FileName(int64(last.Offset)/fileSize*fileSize))
	at := int64(last.Offset) % fileSize
	changeFile(t, log, at+100, 1, func(b []byte) { b[0] ^= 1 })
	require.NoError(t, os.RemoveAll(filepath.Join(dir, "stele")))
	write(t, filepath.Join(dir, "abort"), []byte("1"))
	before := readTree(t, dir)

	o.MetaFS = vfs.NewMem()
	_, err = store.Recover(context.Background(), dir, o, store.Foreseeing{}, func(*store.Forecast) error { return os.ErrClosed })
	require.ErrorIs(t, err, os.ErrClosed)
	require.Equal(t, before, readTree(t, dir))

	backup := filepath.Join(t.TempDir(), "tail")
	rec, err := store.Recover(context.Background(), dir, o, store.Foreseeing{}, func(fc *store.Forecast) error {
		require.Equal(t, last.Offset, fc.End)
		require.Equal(t, int64(1), fc.Losses)
		saved, err := fc.SaveCuts(context.Background(), backup)
		require.True(t, saved)
		return err
	})
	require.NoError(t, err)
	require.Equal(t, last.Offset, rec.End)
	require.Error(t, rec.Torn)
	was := before[filepath.Join("commitlog", filepath.Base(log))]
	tail, err := os.ReadFile(backup)
	require.NoError(t, err)
	require.Equal(t, was[at:at+int64(len(tail))], tail)
	now, err := os.ReadFile(log)
	require.NoError(t, err)
	require.Equal(t, append(append([]byte(nil), now[:at]...), tail...), was[:at+int64(len(tail))])
	require.NoFileExists(t, filepath.Join(dir, "abort"))

	fc, err := store.Foresee(context.Background(), dir, o, store.Foreseeing{})
	require.NoError(t, err)
	require.Equal(t, store.CleanClose, fc.Kind)
	saved, err := fc.SaveCuts(context.Background(), filepath.Join(t.TempDir(), "none"))
	require.NoError(t, err)
	require.False(t, saved)

	lock, err := mappedfile.OS().Lock(filepath.Join(dir, "lock"))
	require.NoError(t, err)
	_, err = store.Foresee(context.Background(), dir, o, store.Foreseeing{})
	require.ErrorIs(t, err, store.ErrLocked)
	require.NoError(t, lock.Close())
}
