// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/consumequeue"
	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/store"
)

// entryDamage is what can befall the twenty bytes of a queue entry.
var entryDamage = map[string]func(b []byte){
	"offset a little off": func(b []byte) { b[7] ^= 1 },
	"offset far off":      func(b []byte) { b[2] ^= 1 },
	"offset negative":     func(b []byte) { b[0] ^= 0x80 },
	"size":                func(b []byte) { b[11] ^= 4 },
	"size huge":           func(b []byte) { b[8] ^= 0x40 },
	"size zero":           func(b []byte) { clear(b[8:12]) },
	"all zero":            func(b []byte) { clear(b) },
}

// TestDamagedEntry damages an entry of a queue: no message is lost, since the
// log has them all.
func TestDamagedEntry(t *testing.T) {
	t.Parallel()
	for who, victimOf := range victims {
		for name, damage := range entryDamage {
			t.Run(who+"/"+name, func(t *testing.T) {
				t.Parallel()
				for place, i := range victimOf(t).places() {
					v := victimOf(t)
					path, at := v.queueFile(t, v.all[i])
					changeFile(t, path, at, consumequeue.EntrySize, damage)
					v.look(t)
					out := v.open(t)
					t.Logf("%s: %+v, %v", place, out.recovery, out.errs)
					v.requireAll(t, out)
				}
			})
		}
	}
}

// TestDamagedQueuePage loses a page of a queue file, up to 204 entries.
func TestDamagedQueuePage(t *testing.T) {
	t.Parallel()
	for who, victimOf := range victims {
		for name, fill := range map[string]byte{"zeros": 0, "ones": 0xff} {
			t.Run(who+"/"+name, func(t *testing.T) {
				t.Parallel()
				v := victimOf(t)
				path, _ := v.queueFile(t, v.all[len(v.all)/2])
				info, err := os.Stat(path)
				require.NoError(t, err)
				changeFile(t, path, 0, int(min(info.Size(), 4096)), func(b []byte) {
					for i := range b {
						b[i] = fill
					}
				})
				v.look(t)
				v.requireAll(t, v.open(t))
			})
		}
	}
}

// TestDamagedSmallFiles damages what says how far things are. None of it is
// needed to find the messages.
func TestDamagedSmallFiles(t *testing.T) {
	t.Parallel()
	fill := func(name string, v byte) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			p := filepath.Join(dir, name)
			info, err := os.Stat(p)
			require.NoError(t, err)
			changeFile(t, p, 0, int(info.Size()), func(b []byte) {
				for i := range b {
					b[i] = v
				}
				b[0] ^= 1
			})
		}
	}
	rows := map[string]struct {
		stele bool // only a store of ours has it
		do    func(t *testing.T, dir string)
	}{
		"checkpoint of ones":  {false, fill("checkpoint", 0xff)},
		"checkpoint of zeros": {false, fill("checkpoint", 0)},
		"checkpoint from the future": {false, func(t *testing.T, dir string) {
			changeFile(t, filepath.Join(dir, "checkpoint"), 0, 24, func(b []byte) {
				for i := 0; i < 24; i += 8 {
					binary.BigEndian.PutUint64(b[i:], 1<<45)
				}
			})
		}},
		"marks: newer slot": {true, func(t *testing.T, dir string) {
			changeFile(t, filepath.Join(dir, "stele", "marks"), 512, 1024, func(b []byte) {
				newer := 0
				if binary.BigEndian.Uint64(b) < binary.BigEndian.Uint64(b[512:]) {
					newer = 512
				}
				b[newer+20] ^= 1
			})
		}},
		"marks: both slots": {true, func(t *testing.T, dir string) {
			changeFile(t, filepath.Join(dir, "stele", "marks"), 512, 1024, func(b []byte) { b[20] ^= 1; b[532] ^= 1 })
		}},
		"marks: live position": {true, func(t *testing.T, dir string) {
			changeFile(t, filepath.Join(dir, "stele", "marks"), 2048, 80, func(b []byte) {
				for i := 16; i < 80; i++ {
					b[i] ^= 0x11
				}
			})
		}},
		"marks of zeros": {true, fill("stele/marks", 0)},
		"abort missing": {false, func(t *testing.T, dir string) {
			require.NoError(t, os.RemoveAll(filepath.Join(dir, "abort")))
		}},
		"abort of another":      {false, func(t *testing.T, dir string) { write(t, filepath.Join(dir, "abort"), []byte("77")) }},
		"the note on the index": {true, fill("stele/index", 0x55)},
		"a stray file in the index": {false, func(t *testing.T, dir string) {
			require.NoError(t, os.MkdirAll(filepath.Join(dir, "index"), 0o755))
			write(t, filepath.Join(dir, "index", "notes.txt"), slices.Repeat([]byte{7}, 4096))
		}},
	}
	for who, victimOf := range victims {
		for name, row := range rows {
			if row.stele && !strings.HasPrefix(who, "stele") {
				continue
			}
			t.Run(who+"/"+name, func(t *testing.T) {
				t.Parallel()
				v := victimOf(t)
				if name == "marks of zeros" {
					p := filepath.Join(v.dir, "stele", "marks")
					write(t, p, make([]byte, 4096))
				} else {
					row.do(t, v.dir)
				}
				v.look(t)
				out := v.open(t)
				t.Logf("%+v", out.recovery)
				v.requireAll(t, out)
				require.Empty(t, out.errs)
				require.Zero(t, out.recovery.Lost)
			})
		}
	}
}

// TestRecordsThatCutRocketMQ: RocketMQ takes a record with properties that are no
// numbers for damage, and cuts the log there, acknowledged messages behind it
// and all.
func TestRecordsThatCutRocketMQ(t *testing.T) {
	t.Parallel()
	for who, victimOf := range victims {
		t.Run(who, func(t *testing.T) {
			t.Parallel()
			v := victimOf(t)
			s := openVictim(t, v)
			var bad []kept
			for _, m := range []*message.Message{
				withProperties("orders", "iNNER_NUM", "x", "iNNER_BASE", "y"),
				withProperties("orders", "iNNER_NUM", "99999999999999999999", "iNNER_BASE", "0"),
				withProperties(consumequeue.DelayTopic, "dELAY", "soon", message.PropertyRealTopic, "orders", message.PropertyRealQueueID, "0"),
				withProperties("orders", "dUP_INFO", "a_b_c"),
			} {
				v.appendTo(t, s, m)
				bad = append(bad, v.all[len(v.all)-1])
				v.appendTo(t, s, msg("orders", 0, "behind"))
			}
			require.NoError(t, s.Close())
			for _, k := range bad { // Append refuses some of these
				v.change(t, k.offset, int(k.size), func(b []byte) {
					for _, name := range []string{"INNER_NUM", "INNER_BASE", "DELAY", "DUP_INFO"} {
						lower := append([]byte{name[0] | 0x20}, name[1:]...)
						copy(b, bytes.ReplaceAll(b, lower, []byte(name)))
					}
					message.Record(b).Seal()
				})
			}
			for _, abort := range []bool{false, true} {
				// As a broker would leave it.
				require.NoError(t, os.RemoveAll(filepath.Join(v.dir, "stele")))
				if abort {
					write(t, filepath.Join(v.dir, "abort"), []byte("1"))
				}
				require.Empty(t, v.look(t))
				out := v.open(t)
				v.requireAll(t, out)
				require.Empty(t, out.errs)
				require.Empty(t, out.recovery.Damage)
			}
		})
	}
}

func withProperties(topic string, pairs ...string) *message.Message {
	m := msg(topic, 0, "malformed")
	for i := 0; i < len(pairs); i += 2 {
		m.Properties.Set(pairs[i], pairs[i+1])
	}
	return m
}

// TestOldTail: RocketMQ cuts a log and leaves the old tail where it is. A new
// record of the same length ends where an old one begins.
func TestOldTail(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		who   string
		abort bool
	}{{"stele/closed", false}, {"stele/closed", true}, {"broker/closed", false}, {"broker/closed", true}} {
		abort := c.abort
		t.Run(fmt.Sprintf("%s, abort %t", c.who, abort), func(t *testing.T) {
			t.Parallel()
			v := victims[c.who](t)
			s := openVictim(t, v)
			for range 6 {
				v.appendTo(t, s, msg("tail", 0, "of one length"))
			}
			require.NoError(t, s.Close())
			tail := v.all[len(v.all)-6:]
			// Cut behind the third of them, as RocketMQ does: the queue says so,
			// the log still has the rest. The third is a newer message now.
			v.change(t, tail[2].offset, int(tail[2].size), func(b []byte) {
				rec := message.Record(b)
				binary.BigEndian.PutUint64(b[56:], uint64(rec.StoreTimestamp()+60000))
				rec.Seal()
			})
			path, at := v.queueFile(t, tail[3])
			changeFile(t, path, at, 3*consumequeue.EntrySize, func(b []byte) { clear(b) })
			require.NoError(t, os.RemoveAll(filepath.Join(v.dir, "stele")))
			if abort {
				write(t, filepath.Join(v.dir, "abort"), []byte("1"))
			}
			out := v.open(t)
			v.requireAll(t, out, tail[3:]...)
			for _, k := range tail[3:] {
				require.False(t, out.found[k.offset], "an old message came back")
			}
			require.Equal(t, tail[3].offset, out.recovery.End)
			require.ErrorContains(t, out.recovery.Torn, "old record")
		})
	}
}

// TestDamagedEndOfAnOldQueue: a queue whose last messages lie before what is read
// of a broker's log ends in a damaged entry.
func TestDamagedEndOfAnOldQueue(t *testing.T) {
	t.Parallel()
	for _, who := range []string{"stele/closed", "broker/closed"} {
		for name, damage := range entryDamage {
			if name == "all zero" {
				continue // then the queue ends there, to all who look
			}
			t.Run(who+"/"+name, func(t *testing.T) {
				t.Parallel()
				v := victims[who](t)
				s := openVictim(t, v)
				for range 5 {
					v.appendTo(t, s, msg("early", 0, "early"))
				}
				last := v.all[len(v.all)-1]
				for range 300 {
					v.appendTo(t, s, msg("late", 0, "late, and long enough to fill a file or two before the end of this test"))
				}
				require.NoError(t, s.Close())
				require.NoError(t, os.RemoveAll(filepath.Join(v.dir, "stele")))
				path, at := v.queueFile(t, last)
				changeFile(t, path, at, consumequeue.EntrySize, damage)
				out := v.open(t)
				require.Equal(t, store.ForeignClean, out.recovery.Kind)
				v.requireAll(t, out)
			})
		}
	}
}
