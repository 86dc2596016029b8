// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/store"
)

// TestInspectDelayOf shows what waits in a store with records of somebody else's,
// cancelled messages, and an owner beside.
func TestInspectDelayOf(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	show := func(args ...string) (status int, out, words string) {
		var stdout, stderr bytes.Buffer
		status = run(t.Context(), append([]string{"inspect", "delay", dir}, args...), strings.NewReader(""), &stdout, &stderr)
		return status, stdout.String(), stderr.String()
	}
	o := store.Options{FileSize: 1 << 20, Delay: store.DelayOptions{Off: true}}
	s, err := store.Open(dir, o)
	require.NoError(t, err)
	put := func(m *message.Message) store.AppendResult {
		t.Helper()
		r, err := s.Append(t.Context(), m)
		require.NoError(t, err)
		require.NoError(t, s.WaitDispatched(t.Context(), r.Offset+message.Offset(r.Size)))
		return r
	}
	status, out, _ := show()
	require.Equal(t, exitOK, status)
	require.Len(t, strings.Split(strings.TrimSpace(out), "\n"), 1, "a header")

	put(&message.Message{Topic: message.TimerTopic, Properties: message.NewProperties(message.PropertyTimerOutMS, "soon")})
	put(&message.Message{Topic: message.DelayTopic, QueueID: 3})
	require.NoError(t, s.Close())
	status, out, words := show("--messages", "-o", "ndjson")
	require.Equal(t, exitFindings, status)
	require.Equal(t, 2, strings.Count(out, "\n"))
	require.Contains(t, words, `rmq_sys_wheel_timer/0, offset 0: undeliverable: no valid time of delivery: TIMER_OUT_MS is "soon"`)
	require.Contains(t, words, "SCHEDULE_TOPIC_XXXX/3, offset 0: undeliverable: no valid topic and queue")
	status, out, _ = show()
	require.Equal(t, exitFindings, status)
	require.Regexp(t, `(?m)^4 +0 +- +- +0 +0$`, out)

	// The owner passes them over, and cancels one of three.
	o.Delay.Off, o.OffsetInterval = false, time.Millisecond
	s, err = store.Open(dir, o)
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	var rs []store.AppendResult
	for _, in := range []time.Duration{3 * time.Hour, 2 * time.Hour, time.Hour} {
		m := &message.Message{Topic: "t", QueueID: 5}
		m.SetDeliverAt(time.Now().Add(in))
		rs = append(rs, put(m))
	}
	res, err := s.Cancel(t.Context(), rs[1].ID())
	require.NoError(t, err)
	require.Equal(t, store.Cancelled, res)
	require.NoError(t, s.WaitDispatched(t.Context(), s.Stats().Appended))
	_, out, _ = show("--messages", "-o", "ndjson")
	for i, r := range rs {
		require.Equal(t, i != 1, strings.Contains(out, `"msgId":"`+r.ID()+`"`), "%d in %s", i, out)
	}
	_, out, _ = show()
	require.Regexp(t, `(?m)^time +2 `, out)
}
