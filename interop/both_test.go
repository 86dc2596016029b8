// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package interop_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/inspect"
	"github.com/stelelog/stele/store"
)

// TestSameBytes has both write the same messages at the same times: not one
// byte of the log, the queues or the index may differ. Then each reads what the
// other wrote.
func TestSameBytes(t *testing.T) {
	j := sharedJVM(t)
	t.Parallel()
	for _, c := range []struct {
		layout layout
		n      int
	}{{tiny, 300}, {small, 1500}, {sealed, 600}, {pooled, 600}, {defaults, 300}} {
		t.Run(c.layout.name, func(t *testing.T) {
			t.Parallel()
			ours, theirs := t.TempDir(), t.TempDir()
			specs := newMaker(t, 1, c.layout).make(c.n)
			s := open(t, ours, c.layout)
			s.put(specs)
			asked := s.answers()
			requireAsked(t, specs, asked.view.Log)
			s.close()
			r := j.rocket(t, theirs, c.layout)
			r.put(specs)
			requireSameAnswers(t, asked, r.answers(asked))
			r.close()
			requireSameFiles(t, ours, theirs)

			// Each in the other's.
			before := snapshot(t, ours)
			r = j.rocket(t, ours, c.layout)
			require.Empty(t, told(r.opened))
			requireSameAnswers(t, asked, r.answers(asked))
			r.close()
			requireUnchanged(t, before, ours)

			s = openClean(t, theirs, c.layout, store.ForeignClean)
			requireSameAnswers(t, s.answers(), asked)
			s.close()
			// The last file of an index whose maker is not known is made anew.
			requireSameFiles(t, ours, theirs)
			verify(t, theirs)
		})
	}
}

// TestRounds has them continue each other's log in turn.
func TestRounds(t *testing.T) {
	j := sharedJVM(t)
	t.Parallel()
	for _, l := range []layout{tiny, small, sealed, pooled} {
		for _, steleFirst := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/stele first %v", l.name, steleFirst), func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				m := newMaker(t, 2, l)
				var specs []spec
				kind := store.NewStore
				for round := range 6 {
					more := m.make(60 + 20*round)
					specs = append(specs, more...)
					if steleFirst == (round%2 == 0) {
						s := openClean(t, dir, l, kind)
						kind = store.CleanClose
						s.put(more)
						requireAsked(t, specs, s.view().Log)
						s.close()
						continue
					}
					before := snapshot(t, dir)
					r := j.rocket(t, dir, l)
					if round > 0 {
						require.Empty(t, told(r.opened))
						requireKept(t, before, dir)
					}
					r.put(more)
					r.close()
					if kind == store.NewStore {
						kind = store.ForeignClean
					}
				}
				s := openClean(t, dir, l, kind)
				asked := s.answers()
				requireAsked(t, specs, asked.view.Log)
				s.close()
				r := j.rocket(t, dir, l)
				require.Empty(t, told(r.opened))
				requireSameAnswers(t, asked, r.answers(asked))
				r.close()
				verify(t, dir)
			})
		}
	}
}

// TestDefaultSizes is about RocketMQ's own sizes: a GiB for a file of the log.
func TestDefaultSizes(t *testing.T) {
	j := sharedJVM(t)
	t.Parallel()
	dir := t.TempDir()
	m := newMaker(t, 7, defaults)
	specs := m.make(100)
	s := openClean(t, dir, defaults, store.NewStore)
	s.put(specs)
	asked := s.answers()
	s.close()
	r := j.rocket(t, dir, defaults)
	require.Empty(t, told(r.opened))
	requireSameAnswers(t, asked, r.answers(asked))
	more := m.make(50)
	r.put(more)
	r.close()
	s = openClean(t, dir, defaults, store.CleanClose)
	requireAsked(t, append(specs, more...), s.view().Log)
	asked = s.answers()
	s.close()
	r = j.rocket(t, dir, defaults)
	require.Empty(t, told(r.opened))
	requireSameAnswers(t, asked, r.answers(asked))
	r.close()
	verify(t, dir)
}

// openClean opens a directory that was closed in order: nothing is wrong with it.
func openClean(t testing.TB, dir string, l layout, kind store.RecoveryKind) *local {
	t.Helper()
	s := open(t, dir, l)
	rec := s.Stats().Recovery
	require.Equal(t, kind, rec.Kind, "%+v", rec)
	require.Empty(t, rec.Damage)
	require.NoError(t, rec.Torn)
	require.Zero(t, rec.Lost)
	require.Empty(t, rec.Unfinished)
	require.False(t, rec.Rebuilt)
	return s
}

// verify has inspect look at every byte of a directory that nobody has open.
func verify(t testing.TB, dir string) {
	t.Helper()
	verifyBut(t, dir, func(*inspect.Finding) bool { return false })
}

// verifyBut is verify, but for findings that are known.
func verifyBut(t testing.TB, dir string, known func(*inspect.Finding) bool) {
	t.Helper()
	d, err := inspect.Open(dir, inspect.Options{})
	require.NoError(t, err)
	_, err = d.Verify(t.Context(), func(f *inspect.Finding) error {
		if f.Note || known(f) || strings.HasPrefix(string(f.Kind), "index-") && os.Getenv(versionEnv) != "" {
			return nil // From 5.4 on the index has tags, which Verify knows nothing of.
		}
		return fmt.Errorf("%s %s %d: %s", f.Kind, f.File, f.Offset, f.Detail)
	})
	require.NoError(t, err)
}
