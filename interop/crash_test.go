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

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/store"
)

// TestRocketKilled ends RocketMQ in the midst of everything. All that it took is
// in the page cache, so Stele finds all of it, and goes on; then RocketMQ does.
func TestRocketKilled(t *testing.T) {
	j := sharedJVM(t)
	t.Parallel()
	for _, l := range []layout{tiny, small, sealed} {
		for _, how := range []string{"kill", "halt"} {
			t.Run(l.name+"/"+how, func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				m := newMaker(t, 3, l)
				specs := m.make(200)
				doomed := ownJVM(t)
				doomed.rocket(t, dir, l).put(specs)
				if how == "kill" {
					doomed.kill(t)
				} else {
					doomed.halt(t)
				}

				s := open(t, dir, l)
				require.Equal(t, store.ForeignCrash, s.Stats().Recovery.Kind)
				require.Empty(t, s.Stats().Recovery.Damage)
				requireAsked(t, specs, s.view().Log)
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

// TestSteleKilled kills a process that has Stele open. RocketMQ recovers its
// directory by its own rules, and goes on; then Stele does.
func TestSteleKilled(t *testing.T) {
	j := sharedJVM(t)
	t.Parallel()
	for _, l := range []layout{tiny, small, sealed} {
		t.Run(l.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			// RocketMQ feeds its index again in one go: see OpenStore.settle.
			l.slots, l.entries = 500, 4000
			m := newMaker(t, 4, l)
			specs := m.make(200)
			putAndDie(t, dir, l, specs)

			// Stele's own answers, from a copy.
			twin := filepath.Join(t.TempDir(), "twin")
			require.NoError(t, os.CopyFS(twin, os.DirFS(dir)))
			s := open(t, twin, l)
			asked := s.answers()
			requireAsked(t, specs, asked.view.Log)
			s.close()

			r := j.rocket(t, dir, l)
			got := r.answers(asked)
			requireSame(t, asked.view, got.view)
			require.Equal(t, asked.times, got.times)
			// RocketMQ drops the last file of the index after a crash, and makes up for it
			// from where its recovery begins: keys may be missing, and be there twice.
			for k, want := range got.queries {
				require.Subset(t, asked.queries[k], want, "%v", k)
			}
			more := m.make(50)
			r.put(more)
			r.close()

			s = open(t, dir, l)
			require.Empty(t, s.Stats().Recovery.Damage)
			requireAsked(t, append(specs, more...), s.view().Log)
			after := s.answers()
			for k, want := range asked.queries {
				require.Subset(t, after.queries[k], want, "%v", k)
			}
			s.close()
			verify(t, dir)
		})
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
}

// putAndDie appends in another process, which is killed then.
func putAndDie(t *testing.T, dir string, l layout, specs []spec) {
	t.Helper()
	text, err := json.Marshal(job{dir, l.name, l.slots, l.entries, specs})
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
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "all is appended\n", line)
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
			open(t, what.Dir, l).put(what.Specs)
		}
	}
	fmt.Println("all is appended")
	_, err = io.Copy(io.Discard, os.Stdin) // until it is killed
	require.NoError(t, err)
}
