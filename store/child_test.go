// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/store"
)

// The test binary runs as a child of a test with a job and a directory.
const (
	jobHold   = "hold"   // open the store, say so, wait for the end of stdin
	jobAppend = "append" // append synchronously and print each acknowledged message
	jobLives  = "lives"  // open, append and close, again and again, and print each acknowledged message
	jobDrive  = "drive"  // do what standard input says, line by line
	jobFill   = "fill"   // append as many MiB as the third word says, then say so and wait
)

func runChild(job string) int {
	words := strings.Fields(job)
	run := map[string]func(words []string) error{
		jobDelay: childDelay, jobHold: childHold, jobAppend: childAppend, jobFill: childFill, jobLives: childLives, jobDrive: childDrive,
	}[words[0]]
	if err := run(words); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// startChild runs a job in another process. What it prints on stderr fails the
// test if it ends badly by itself.
func startChild(t testing.TB, words ...string) (c *exec.Cmd, in io.WriteCloser, out *bufio.Reader) {
	t.Helper()
	c = exec.CommandContext(t.Context(), os.Args[0]) //nolint:gosec // itself
	c.Env = append(os.Environ(), childEnv+"="+strings.Join(words, " "))
	c.Stderr = os.Stderr
	in, err := c.StdinPipe()
	require.NoError(t, err)
	pipe, err := c.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, c.Start())
	return c, in, bufio.NewReader(pipe)
}

func childHold(words []string) error {
	s, err := store.Open(words[1], osOptions())
	if err != nil {
		return err
	}
	defer s.Close()
	fmt.Println("open")
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// childTopics is what the appending child writes to.
var childTopics = []string{"orders", "payments"}

const childProducers = 4

// childAppend runs until it is killed.
func childAppend(words []string) error {
	o := osOptions()
	o.Flush, o.CheckpointInterval = store.FlushSync, 3*time.Millisecond
	o.WritePath = store.WritePath(1 + os.Getpid()%3)
	s, err := store.Open(words[1], o)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	errs := make(chan error, childProducers)
	for p := range childProducers {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(os.Getpid()), uint64(p)))
			for {
				body := make([]byte, 8+rng.IntN(600))
				m := &message.Message{Topic: childTopics[rng.IntN(2)], QueueID: int32(rng.IntN(3)), Body: body}
				for i := range body {
					body[i] = 'a' + byte(rng.IntN(26))
				}
				r, err := s.Append(context.Background(), m)
				if err != nil {
					errs <- err
					return
				}
				mu.Lock()
				fmt.Printf("%s %d %d %d %s\n", r.Topic, r.QueueID, r.QueueOffset, r.Offset, body)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return <-errs
}

func childFill(words []string) error {
	var mib int64
	if _, err := fmt.Sscan(words[2], &mib); err != nil {
		return err
	}
	s, err := store.Open(words[1], store.Options{})
	if err != nil {
		return err
	}
	m := &message.Message{Topic: "orders", Body: make([]byte, 1024)}
	for i := int32(0); s.Stats().Appended < message.Offset(mib<<20); i++ {
		m.QueueID = i % 8
		if _, err := s.Append(context.Background(), m); err != nil {
			return err
		}
	}
	if err := s.WaitDispatched(context.Background(), s.Stats().Appended); err != nil {
		return err
	}
	fmt.Println("full")
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// acked is one line of childAppend.
type ackedLine struct {
	topic  string
	queue  int32
	at     message.QueueOffset
	offset message.Offset
	body   string
}

func readAcks(r io.Reader) (acks []ackedLine, err error) {
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return acks, nil //nolint:nilerr // what has no end of line was cut off by the kill
		}
		var a ackedLine
		if _, err := fmt.Sscan(line, &a.topic, &a.queue, &a.at, &a.offset, &a.body); err != nil {
			return nil, fmt.Errorf("%q: %w", line, err)
		}
		acks = append(acks, a)
	}
}

// TestSIGKILL kills a process that appends synchronously, again and again, in
// one directory.
func TestSIGKILL(t *testing.T) {
	t.Parallel()
	kills := 50
	if testing.Short() {
		kills = 8
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	dir := t.TempDir()
	var acks []ackedLine // of all lives
	rolls := 0
	for i := range kills {
		c, _, out := startChild(t, jobAppend, dir)
		// Before it has appended, in its first messages, or far on.
		want := []int{0, 1, rng.IntN(30), rng.IntN(600)}[rng.IntN(4)]
		if i == kills-1 {
			want = 600 // however the dice fell, some file is full
		}
		head := make([]byte, 0, 1<<16)
		for range want {
			line, err := out.ReadBytes('\n')
			require.NoError(t, err)
			head = append(head, line...)
		}
		require.NoError(t, c.Process.Kill())
		rest, err := io.ReadAll(out)
		require.NoError(t, err)
		require.Error(t, c.Wait())
		more, err := readAcks(strings.NewReader(string(head) + string(rest)))
		require.NoError(t, err)
		acks = append(acks, more...)
		rolls = checkKilled(t, dir, acks, (i+1)*childProducers)
	}
	t.Logf("%d kills, %d messages, %d files", kills, len(acks), rolls)
	require.Greater(t, rolls, 1)
}

// checkKilled opens the directory, which the next child goes on with.
// It may hold no more than so many messages that were not acknowledged: those
// that were under way.
func checkKilled(t *testing.T, dir string, acks []ackedLine, underWay int) (files int) {
	t.Helper()
	s, err := store.Open(dir, osOptions())
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	st := s.Stats()
	require.False(t, st.Recovery.Rebuilt)
	require.Empty(t, st.Recovery.Damage)
	require.NotContains(t, []store.RecoveryKind{store.ForeignClean, store.ForeignCrash}, st.Recovery.Kind)
	held := map[string]*message.Message{}
	for _, q := range s.Queues() {
		for _, m := range fetchAll(t, s, q.Topic, q.QueueID) {
			held[fmt.Sprintf("%s/%d/%d", m.Topic, m.QueueID, m.QueueOffset)] = m
		}
	}
	require.LessOrEqual(t, len(held), len(acks)+underWay, "invented")
	for _, a := range acks {
		m := held[fmt.Sprintf("%s/%d/%d", a.topic, a.queue, a.at)]
		require.NotNil(t, m, "acknowledged and lost: %+v", a)
		require.Equal(t, a.offset, m.PhysicalOffset)
		require.Equal(t, a.body, string(m.Body))
	}
	return st.Files
}

// TestLockedByAnotherProcess is refused before anything is touched.
func TestLockedByAnotherProcess(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c, in, out := startChild(t, jobHold, dir)
	line, err := out.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "open\n", line)
	before := hashTree(t, dir)
	_, err = store.Open(dir, osOptions())
	require.ErrorIs(t, err, store.ErrLocked)
	require.ErrorContains(t, err, fmt.Sprint(c.Process.Pid))
	require.Equal(t, before, hashTree(t, dir))
	require.NoError(t, in.Close())
	require.NoError(t, c.Wait())
	s, err := store.Open(dir, osOptions())
	require.NoError(t, err)
	require.Zero(t, s.Stats().Appended)
	require.NoError(t, s.Close())
}
