// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/internal/fusefs"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/store"
)

// childLives opens the store, appends from several goroutines, closes it, and
// begins again, until it is killed. Each append, flush and commit is printed
// once it returned.
func childLives(words []string) error {
	rng := rand.New(rand.NewPCG(uint64(os.Getpid()), uint64(time.Now().UnixNano())))
	for life := 0; ; life++ {
		o := osOptions()
		if rng.IntN(2) == 0 {
			o.Flush = store.FlushSync
		}
		o.WritePath = 1 + store.WritePath(rng.IntN(3))
		o.FlushInterval, o.FlushLeastPages = time.Duration(1+rng.IntN(10))*time.Millisecond, -1
		o.CheckpointInterval = time.Duration(1+rng.IntN(10)) * time.Millisecond
		o.OffsetInterval = time.Duration(1+rng.IntN(10)) * time.Millisecond
		s, err := store.Open(words[1], o)
		if err != nil {
			return err
		}
		var wg sync.WaitGroup
		errs := make(chan error, childProducers)
		for p := range childProducers {
			r := rand.New(rand.NewPCG(rng.Uint64(), 0))
			wg.Go(func() { errs <- livesProducer(s, r, fmt.Sprintf("%d.%d.%d", os.Getpid(), life, p), ackFor(o)) })
		}
		wg.Wait()
		for range childProducers {
			if err := <-errs; err != nil {
				return err
			}
		}
		if err := s.Close(); err != nil {
			return err
		}
	}
}

func livesProducer(s *store.Store, rng *rand.Rand, name string, ack ackKind) error {
	for i := range rng.IntN(150) {
		n := 1
		if rng.IntN(5) == 0 {
			n = 1 + rng.IntN(4)
		}
		msgs, ids := make([]*message.Message, n), make([]string, n)
		for j := range msgs {
			m := &message.Message{Topic: childTopics[rng.IntN(2)], QueueID: int32(rng.IntN(3))}
			ids[j] = fmt.Sprintf("%s.%d.%d", name, i, j)
			m.Body = selfProving(m.Topic, m.QueueID, ids[j], randomPad(rng)/n)
			msgs[j] = m
		}
		res, err := s.AppendBatch(context.Background(), msgs)
		if err != nil {
			return err
		}
		lines := ""
		for j, r := range res {
			lines += ack.line(ids[j], r)
		}
		fmt.Print(lines) // in one write, below the size that a pipe takes whole
		if rng.IntN(20) == 0 {
			if err := s.CommitOffset("group", "orders", 0, message.QueueOffset(i)); err != nil {
				return err
			}
		}
	}
	return nil
}

// ackKind says what an acknowledgement promises about the death of the process.
type ackKind string

const (
	ackSurvives ackKind = "a" // it takes nothing of what was appended
	ackWaits    ackKind = "w" // it takes what waits in the pool
)

func ackFor(o store.Options) ackKind {
	if o.WritePath == store.WritePool && o.Flush == store.FlushAsync {
		return ackWaits
	}
	return ackSurvives
}

func (k ackKind) line(id string, r store.AppendResult) string {
	return fmt.Sprintf("%s %s %s %d %d %d %d\n", k, id, r.Topic, r.QueueID, r.QueueOffset, r.Offset, r.Size)
}

// readAck takes a line of an ackKind; other lines it leaves alone.
func (l *pledges) readAck(line string) error {
	kind, rest, _ := strings.Cut(line, " ")
	since, ok := map[ackKind]int64{ackSurvives: 0, ackWaits: never}[ackKind(kind)]
	if !ok || !strings.HasSuffix(line, "\n") {
		return nil // what has no end was cut off by the kill
	}
	var id string
	var r store.AppendResult
	if _, err := fmt.Sscanf(rest, "%s %s %d %d %d %d", &id, &r.Topic, &r.QueueID, &r.QueueOffset, &r.Offset, &r.Size); err != nil {
		return fmt.Errorf("%q: %w", line, err)
	}
	l.answered(id, r, since)
	return nil
}

var killCount = flag.Int("kills", 15, "how many processes each of 6 chains of kills ends; 12 of 2 chains with -short and with -race")

// TestKills kills a process that opens, appends and closes, in all modes, at any
// moment. The next one goes on in the same directory, unclosed; what it holds is
// looked at in a copy.
func TestKills(t *testing.T) {
	t.Parallel()
	chains, kills := 6, *killCount
	if testing.Short() || raceEnabled {
		chains, kills = 2, 12
	}
	for c := range chains {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			t.Parallel()
			seed := uint64(time.Now().UnixNano())
			rng := rand.New(rand.NewPCG(seed, 0))
			dir, l, kinds := t.TempDir(), newPledges(), map[store.RecoveryKind]int{}
			for i := range kills {
				if i%20 == 19 { // small again, so that reading it all stays cheap
					dir, l = t.TempDir(), newPledges()
				}
				killOne(t, dir, l, rng)
				kinds[checkCopy(t, dir, l)]++
			}
			t.Logf("seed %d: %d kills, found as %v", seed, kills, kinds)
		})
	}
}

// killOne runs a child and kills it: at once, while it opens, or once it printed
// some lines.
func killOne(t *testing.T, dir string, l *pledges, rng *rand.Rand) {
	t.Helper()
	c, _, out := startChild(t, jobLives, dir)
	if want := rng.IntN(400); want > 40 {
		for range want - 40 {
			line, err := out.ReadString('\n')
			require.NoError(t, err)
			require.NoError(t, l.readAck(line))
		}
	} else {
		timer := time.NewTimer(time.Duration(want) * time.Millisecond)
		<-timer.C
	}
	require.NoError(t, c.Process.Kill())
	rest := bufio.NewReader(out)
	for {
		line, err := rest.ReadString('\n')
		require.NoError(t, l.readAck(line))
		if err == io.EOF {
			break
		}
		require.NoError(t, err)
	}
	require.Error(t, c.Wait())
	require.Equal(t, "signal: killed", c.ProcessState.String())
}

// memoryDir is a directory in memory if there is a place for it with room enough:
// a container may have 64 MiB.
func memoryDir(t *testing.T) string {
	t.Helper()
	const shm, room = "/dev/shm", 1 << 30
	if use, err := mappedfile.DiskUsage(mappedfile.OS(), shm); err != nil || use.Free < room {
		return t.TempDir()
	}
	dir, err := os.MkdirTemp(shm, "stele-test-") //nolint:usetesting // not the disk of TempDir
	if err != nil {
		return t.TempDir()
	}
	return dir
}

func checkCopy(t *testing.T, dir string, l *pledges) store.RecoveryKind {
	t.Helper()
	// In memory where there is such a place: it is read once, and writing and
	// removing it on a disk costs more than all the rest.
	left := memoryDir(t)
	defer os.RemoveAll(left)
	require.NoError(t, os.CopyFS(left, os.DirFS(dir)))
	s, err := store.Open(left, osOptions())
	require.NoError(t, err)
	kind := s.Stats().Recovery.Kind
	// One that was killed in the first steps of Open may look like a power cut.
	require.NotContains(t, []store.RecoveryKind{store.ForeignClean, store.ForeignCrash}, kind)
	l.check(t, s, fusefs.Now(), 0)
	require.NoError(t, s.Close())
	return kind
}
