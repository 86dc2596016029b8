// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package brokerconfig

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// TimerCheckFile is the name of a broker's progress with messages that have a
// time of delivery of their own.
const TimerCheckFile = "timercheck"

const (
	timerCheckLen  = 56   // bytes that have a meaning
	timerCheckSize = 4096 // bytes of the file, which a broker maps
)

// TimerCheck is config/timercheck (TimerCheckpoint.java): seven big-endian numbers
// and zeros.
type TimerCheck struct {
	// Read is up to when messages have been delivered, in milliseconds since the
	// Unix epoch.
	Read int64
	// LogFlushed is up to which byte timerlog is durable.
	LogFlushed int64
	// Next is the queue offset up to which the timer queue was taken over, and
	// MasterNext that of the broker that this one follows.
	Next, MasterNext int64
	// The data version.
	StateVersion, Timestamp, Counter int64
}

// DecodeTimerCheck reads the bytes of a timercheck. The error wraps ErrMalformed.
func DecodeTimerCheck(b []byte) (t TimerCheck, err error) {
	if len(b) < timerCheckLen {
		return t, fmt.Errorf("%w: %d bytes, at least %d", ErrMalformed, len(b), timerCheckLen)
	}
	for i, v := range t.fields() {
		*v = int64(binary.BigEndian.Uint64(b[8*i:]))
	}
	if t.Read < 0 || t.Next < 0 {
		return TimerCheck{}, fmt.Errorf("%w: read up to %d, taken over up to %d", ErrMalformed, t.Read, t.Next)
	}
	return t, nil
}

func (t *TimerCheck) fields() [timerCheckLen / 8]*int64 {
	return [...]*int64{&t.Read, &t.LogFlushed, &t.Next, &t.MasterNext, &t.StateVersion, &t.Timestamp, &t.Counter}
}

// Encode returns the bytes of the file.
func (t TimerCheck) Encode() []byte {
	b := make([]byte, timerCheckSize)
	for i, v := range t.fields() {
		binary.BigEndian.PutUint64(b[8*i:], uint64(*v))
	}
	return b
}

// ReadTimerCheck reads timercheck in a broker's config directory. ok is false when
// there is none.
func ReadTimerCheck(dir string) (t TimerCheck, ok bool, err error) {
	b, err := os.ReadFile(filepath.Join(dir, TimerCheckFile))
	if errors.Is(err, fs.ErrNotExist) {
		return t, false, nil
	}
	if err == nil {
		t, err = DecodeTimerCheck(b)
	}
	return t, err == nil, err
}

// WriteTimerCheck writes timercheck into a broker's config directory, as WriteTopics
// does, but for the copy of its predecessor, which a broker does not look for.
func WriteTimerCheck(dir string, t TimerCheck) error {
	return write(filepath.Join(dir, TimerCheckFile), t.Encode(), func([]byte) bool { return false })
}
