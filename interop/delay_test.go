// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package interop_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/store"
)

// delayed is a message that asks to be delivered later.
func (m *maker) delayed(name, value string) spec {
	s := m.plain()
	p := message.PropertiesFromEncoded(s.Properties)
	p.Set(name, value)
	s.Properties, s.StoreTimestamp = append([]byte{}, p.Encoded()...), 0
	return s
}

// asBroker is what a broker makes of a delayed message before it stores it.
func asBroker(s spec, topic string, queue int32, more ...string) spec {
	p := message.PropertiesFromEncoded(s.Properties)
	p.Set(message.PropertyRealTopic, s.Topic)
	p.Set(message.PropertyRealQueueID, strconv.Itoa(int(s.QueueID)))
	for i := 0; i < len(more); i += 2 {
		p.Set(more[i], more[i+1])
	}
	s.Topic, s.QueueID, s.Properties = topic, queue, append([]byte{}, p.Encoded()...)
	return s
}

// TestDelayedByStele: what waits in a store of Stele's has the same entries for
// RocketMQ, also when RocketMQ makes them itself.
func TestDelayedByStele(t *testing.T) {
	j := sharedJVM(t)
	t.Parallel()
	for _, l := range []layout{tiny, sealed} {
		t.Run(l.name, func(t *testing.T) {
			t.Parallel()
			l.slots, l.entries = 500, 4000 // see TestSteleKilled
			l.still = firstTime            // nothing becomes due
			dir := t.TempDir()
			m := newMaker(t, 9, l)
			s := open(t, dir, l)
			for level := 1; level <= 18; level++ {
				s.put([]spec{m.delayed(message.PropertyDelayLevel, strconv.Itoa(level))})
			}
			at := time.UnixMilli(l.still).Add(time.Hour)
			for i := range 5 {
				s.put([]spec{m.delayed("TIMER_DELIVER_MS", strconv.FormatInt(at.UnixMilli()+int64(i)*1001, 10))})
			}
			require.Len(t, s.Stats().Delay.Pending, 18)
			sameInBoth(t, j, s, l)

			// RocketMQ makes the queues from the log.
			s = open(t, dir, l)
			asked := s.answers()
			s.close()
			require.NoError(t, os.RemoveAll(filepath.Join(dir, "consumequeue")))
			require.NoError(t, os.RemoveAll(filepath.Join(dir, "index")))
			require.NoError(t, os.WriteFile(filepath.Join(dir, "abort"), []byte("1"), 0o600))
			r := j.rocket(t, dir, l)
			requireSameAnswers(t, asked, r.answers(asked))
			r.close()
			s = open(t, dir, l)
			requireSameAnswers(t, s.answers(), asked)
			require.Len(t, s.Stats().Delay.Pending, 18)
			s.close()
		})
	}
}

// TestDelayedByRocket: what waits in RocketMQ's queues is delivered by Stele, once
// and when it is due, and read by RocketMQ.
func TestDelayedByRocket(t *testing.T) {
	j := sharedJVM(t)
	t.Parallel()
	for _, l := range []layout{tiny, sealed} {
		t.Run(l.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			m := newMaker(t, 10, l)
			soon := m.delayed(message.PropertyDelayLevel, "1")
			late := m.delayed(message.PropertyDelayLevel, "18")
			timed := m.delayed("TIMER_DELIVER_MS", strconv.FormatInt(time.Now().UnixMilli()+1000, 10))
			due, _ := props(timed).Get("TIMER_DELIVER_MS")
			r := j.rocket(t, dir, l)
			r.put([]spec{
				asBroker(soon, message.DelayTopic, 0), asBroker(late, message.DelayTopic, 17),
				asBroker(timed, message.TimerTopic, 0, message.PropertyTimerOutMS, due),
			})
			r.close()

			s := openClean(t, dir, l, store.ForeignClean)
			for _, want := range []spec{soon, timed} {
				batch, err := s.Follow(t.Context(), want.Topic, want.QueueID, 0, store.Limit{})
				require.NoError(t, err)
				found := false
				for got, err := range batch.All() {
					require.NoError(t, err)
					found = found || bytes.Equal(got.Body, want.Body) && got.UniqKey() == uniqKey(want)
				}
				batch.Release()
				require.True(t, found)
			}
			stats := s.Stats().Delay
			require.Equal(t, int64(1), stats.Pending[18])
			require.Zero(t, stats.Pending[1])
			require.NoError(t, s.WaitDispatched(t.Context(), s.Stats().Appended))
			require.Len(t, s.view().Log, 5)
			sameInBoth(t, j, s, l)
		})
	}
}

func props(s spec) *message.Properties {
	p := message.PropertiesFromEncoded(s.Properties)
	return &p
}

func uniqKey(s spec) string {
	key, _ := props(s).Get(message.PropertyUniqKey)
	return key
}
