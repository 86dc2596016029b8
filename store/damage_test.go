// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/message"
)

// recordDamage is what can befall the bytes of one record.
var recordDamage = map[string]func(t *testing.T, rec []byte){
	"bit flip in the body":       func(t *testing.T, b []byte) { b[bodyAt(t, b)+3] ^= 0x10 },
	"bit flip in the properties": func(t *testing.T, b []byte) { b[propertiesAt(t, b)+2] ^= 1 },
	"bit flip in the last byte":  func(_ *testing.T, b []byte) { b[len(b)-2] ^= 2 },
	"bit flip in the queue id":   func(_ *testing.T, b []byte) { b[15] ^= 1 },
	"bit flip in the flag":       func(_ *testing.T, b []byte) { b[19] ^= 1 },
	"bit flip in queue offset":   func(_ *testing.T, b []byte) { b[27] ^= 4 },
	"bit flip in the position":   func(_ *testing.T, b []byte) { b[34] ^= 1 },
	"bit flip in the store time": func(_ *testing.T, b []byte) { b[60] ^= 0x40 },
	"length a little off":        func(_ *testing.T, b []byte) { b[3] ^= 1 },
	"length huge":                func(_ *testing.T, b []byte) { b[0] ^= 0x40 },
	"length negative":            func(_ *testing.T, b []byte) { b[0] ^= 0x80 },
	"length zero":                func(_ *testing.T, b []byte) { clear(b[:4]) },
	"bit flip in the magic":      func(_ *testing.T, b []byte) { b[7] ^= 0x20 },
	"magic of a filler":          func(_ *testing.T, b []byte) { binary.BigEndian.PutUint32(b[4:], fillerMagic) },
	"torn in the middle":         func(_ *testing.T, b []byte) { clear(b[len(b)/2:]) },
	"head lost":                  func(_ *testing.T, b []byte) { clear(b[:len(b)/2]) },
	"all zero":                   func(_ *testing.T, b []byte) { clear(b) },
}

const fillerMagic = 0xCBD43194

// TestDamagedRecord damages one record: no other message is lost, and where the
// damage is was said.
func TestDamagedRecord(t *testing.T) {
	t.Parallel()
	for who, victimOf := range victims {
		for name, damage := range recordDamage {
			t.Run(who+"/"+name, func(t *testing.T) {
				t.Parallel()
				original := victimOf(t)
				for place, i := range original.places() {
					v := victimOf(t)
					k := v.all[i]
					v.change(t, k.offset, int(k.size), func(b []byte) { damage(t, b) })
					said := v.look(t, k)
					// A place without anything in it is the end, to who has no marks.
					atEnd := (name == "all zero" || name == "head lost") && place == "last"
					require.True(t, atEnd || saidAt(said, k.offset), "%s: inspect said %v", place, said)
					out := v.open(t)
					v.requireAll(t, out, k)
					require.False(t, out.found[k.offset], place)
					require.True(t, out.reported(k.offset) || atEnd && (out.recovery.Lost > 0 || !v.stele),
						"%s at %d: %+v, %v", place, k.offset, out.recovery, out.errs)
				}
			})
		}
	}
}

// TestZeroedPage loses a page in the middle of the log, and all messages in it.
func TestZeroedPage(t *testing.T) {
	t.Parallel()
	for who, victimOf := range victims {
		t.Run(who, func(t *testing.T) {
			t.Parallel()
			v := victimOf(t)
			page := v.all[len(v.all)/2].offset / 4096 * 4096
			var lost []kept
			for _, k := range v.all {
				if k.end() > page && k.offset < page+4096 {
					lost = append(lost, k)
				}
			}
			v.change(t, page, 4096, func(b []byte) { clear(b) })
			require.True(t, saidAt(v.look(t, lost...), lost[0].offset))
			out := v.open(t)
			v.requireAll(t, out, lost...)
			require.True(t, out.reported(lost[0].offset))
		})
	}
}

// TestDamagedFiller damages what closes a file: no message is lost.
func TestDamagedFiller(t *testing.T) {
	t.Parallel()
	for who, victimOf := range victims {
		for name, damage := range map[string]func(b []byte){
			"magic":  func(b []byte) { b[5] ^= 1 },
			"length": func(b []byte) { b[3] ^= 1 },
			"zero":   func(b []byte) { clear(b) },
		} {
			t.Run(who+"/"+name, func(t *testing.T) {
				t.Parallel()
				v := victimOf(t)
				filler := v.all[v.places()["last of a file"]].end()
				v.change(t, filler, message.FillerSize, damage)
				require.True(t, saidAt(v.look(t), filler))
				out := v.open(t)
				v.requireAll(t, out)
			})
		}
	}
}

// TestGarbageBehindTheEnd finds bytes of no meaning where the next record goes.
func TestGarbageBehindTheEnd(t *testing.T) {
	t.Parallel()
	for who, victimOf := range victims {
		for name, garbage := range map[string]func(b []byte){
			"noise": func(b []byte) {
				for i := range b {
					b[i] = byte(i*7 + 1)
				}
			},
			"behind a gap": func(b []byte) { b[len(b)-1] = 1 },
			"a magic":      func(b []byte) { copy(b[4:], []byte{0xDA, 0xA3, 0x20, 0xA7}) },
		} {
			t.Run(who+"/"+name, func(t *testing.T) {
				t.Parallel()
				v := victimOf(t)
				v.change(t, v.end(), 300, garbage)
				v.look(t)
				out := v.open(t)
				v.requireAll(t, out)
				require.Empty(t, out.corrupt)
			})
		}
	}
}
