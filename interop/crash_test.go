// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package interop_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/store"
)

// TestRocketKilled ends RocketMQ when it has appended, or while it does. All that it
// took is in the page cache, so Stele finds all of it, and goes on; then RocketMQ does.
func TestRocketKilled(t *testing.T) {
	j := sharedJVM(t)
	t.Parallel()
	for _, l := range []layout{tiny, small, sealed} {
		for _, how := range []struct {
			name string
			end  func(*jvm, testing.TB)
			busy bool // it appends
		}{
			{"kill", (*jvm).kill, false}, {"halt", (*jvm).halt, false},
			{"kill while it appends", (*jvm).kill, true}, {"halt while it appends", (*jvm).halt, true},
		} {
			t.Run(l.name+"/"+how.name, func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				m := newMaker(t, 3, l)
				specs := m.make(200)
				doomed := ownJVM(t)
				dying := doomed.rocket(t, dir, l)
				dying.put(specs)
				least := count(t, specs)
				if how.busy {
					specs = append(specs, m.make(2000)...)
					dying.putUntil(specs[200:], filepath.Join(dir, "commitlog"), how.end)
				} else {
					how.end(doomed, t)
				}

				s := open(t, dir, l)
				require.Equal(t, store.ForeignCrash, s.Stats().Recovery.Kind)
				require.Empty(t, s.Stats().Recovery.Damage)
				specs = requireFirst(t, specs, s.view().Log, least)
				require.True(t, how.busy || len(specs) == least)
				more := m.make(50)
				s.put(more)
				asked := s.answers()
				requireAsked(t, append(specs, more...), asked.view.Log)
				s.close()
				verify(t, dir)

				before := snapshot(t, dir)
				r := j.rocket(t, dir, l)
				require.Empty(t, told(r.opened))
				requireSameAnswers(t, asked, r.answers(asked))
				r.close()
				requireUnchanged(t, before, dir)
			})
		}
	}
}

// putUntil has RocketMQ append messages, and ends it when they have filled a few files.
func (r *remote) putUntil(specs []spec, log string, end func(*jvm, testing.TB)) {
	r.t.Helper()
	done := make(chan error, 1)
	files := func() int {
		list, err := os.ReadDir(log)
		require.NoError(r.t, err)
		return len(list)
	}
	before := files()
	go func() {
		_, err := r.jvm.call(map[string]any{"op": "put", "store": r.name, "messages": specs}, nil)
		done <- err
	}()
	for files() < before+3 {
		select {
		case err := <-done:
			require.NoError(r.t, err)
			require.Fail(r.t, "it was not ended while it appended")
		case <-time.After(time.Millisecond):
		}
	}
	end(r.jvm, r.t)
	require.ErrorIs(r.t, <-done, io.EOF)
}

// requireFirst: a log has the first of the messages that were asked for, at least
// some, and returns them.
func requireFirst(t testing.TB, asked []spec, log []row, least int) []spec {
	t.Helper()
	all := expand(t, asked)
	require.GreaterOrEqual(t, len(log), least)
	require.LessOrEqual(t, len(log), len(all))
	requireAsked(t, all[:len(log)], log)
	return all[:len(log)]
}

// TestSteleKilled kills a process that has Stele open, when it has appended, or
// while it does. RocketMQ recovers its directory by its own rules, and goes on; then
// Stele does.
func TestSteleKilled(t *testing.T) {
	j := sharedJVM(t)
	t.Parallel()
	for _, l := range []layout{tiny, small, sealed} {
		for _, busy := range []bool{false, true} {
			name := l.name
			if busy {
				name += "/while it appends"
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				// RocketMQ feeds its index again in one go: see OpenStore.settle.
				l.slots, l.entries = 500, 4000
				steleKilled(t, j, l, busy)
			})
		}
	}
}

func steleKilled(t *testing.T, j *jvm, l layout, busy bool) {
	dir := t.TempDir()
	m := newMaker(t, 4, l)
	specs := m.make(200)
	least := count(t, specs)
	if busy {
		specs = append(specs, m.make(2000)...)
	}
	putAndDie(t, dir, l, specs, busy)

	// Stele's own answers, from a copy.
	twin := filepath.Join(t.TempDir(), "twin")
	require.NoError(t, os.CopyFS(twin, os.DirFS(dir)))
	s := open(t, twin, l)
	asked := s.answers()
	specs = requireFirst(t, specs, asked.view.Log, least)
	s.close()

	r := j.rocket(t, dir, l)
	got := r.answers(asked)
	requireSame(t, asked.view, got.view)
	require.Equal(t, asked.times, got.times)
	// RocketMQ drops the last file of the index after a crash, and makes up for it
	// from where its recovery begins: keys may be missing, and be there twice.
	requireSubset(t, asked, got)
	more := m.make(50)
	r.put(more)
	r.close()

	s = open(t, dir, l)
	require.Empty(t, s.Stats().Recovery.Damage)
	requireAsked(t, append(specs, more...), s.view().Log)
	after := s.answers()
	requireSubset(t, after, asked)
	s.close()
	verify(t, dir)
}

// requireSubset: all finds what some found, by each key but those with more messages
// than a query yields: it yields the last ones that it knows of.
func requireSubset(t testing.TB, all, some answers) {
	t.Helper()
	for k, want := range some.queries {
		if len(all.queries[k]) < store.DefaultQueryMessages {
			require.Subset(t, all.queries[k], want, "%v", k)
		}
	}
}

// diesEnv has the directory of the child that putAndDie starts.
const diesEnv = "STELE_INTEROP_TEST_DIES"

// job is what the child does.
type job struct {
	Dir            string
	Layout         string
	Slots, Entries int
	Specs          []spec
	Busy           bool // it is killed while it appends
}

// putAndDie appends in another process, which is killed then, or after 200 messages
// while it appends.
func putAndDie(t *testing.T, dir string, l layout, specs []spec, busy bool) {
	t.Helper()
	text, err := json.Marshal(job{dir, l.name, l.slots, l.entries, specs, busy})
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "job")
	require.NoError(t, os.WriteFile(file, text, 0o600))
	c := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestChild$") //nolint:gosec // itself
	c.Env = append(os.Environ(), diesEnv+"="+file)
	c.Stderr = os.Stderr
	in, err := c.StdinPipe()
	require.NoError(t, err)
	out, err := c.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, c.Start())
	last := "all is appended\n"
	if busy {
		last = "message 200\n"
	}
	for lines, line := bufio.NewReader(out), ""; line != last; {
		line, err = lines.ReadString('\n')
		require.NoError(t, err)
		require.False(t, busy && line == "all is appended\n", "it was not killed while it appended")
	}
	require.NoError(t, c.Process.Kill())
	require.Error(t, c.Wait())
	_ = in.Close() // The process is gone.
}

// TestChild is what putAndDie starts.
func TestChild(t *testing.T) {
	file := os.Getenv(diesEnv)
	if file == "" {
		t.Skip("it is the child of another test")
	}
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	var what job
	require.NoError(t, json.Unmarshal(text, &what))
	for _, l := range []layout{tiny, small, sealed} {
		if l.name == what.Layout {
			l.slots, l.entries = what.Slots, what.Entries
			s := open(t, what.Dir, l)
			for i := 0; what.Busy && i < len(what.Specs); i++ {
				s.appendOne(what.Specs[i])
				fmt.Println("message", i+1)
			}
			if !what.Busy {
				s.put(what.Specs)
			}
		}
	}
	fmt.Println("all is appended")
	_, err = io.Copy(io.Discard, os.Stdin) // until it is killed
	require.NoError(t, err)
}
