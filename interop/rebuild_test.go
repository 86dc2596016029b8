// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package interop_test

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/keyindex"
	"github.com/stelelog/stele/rebuild"
)

// TestRebuilt has RocketMQ open directories whose queues and index package rebuild
// made from a log of either side, in a new place and in the old one.
func TestRebuilt(t *testing.T) {
	j := sharedJVM(t)
	t.Parallel()
	for _, l := range []layout{tiny, sealed} {
		for _, steles := range []bool{true, false} {
			name := l.name + "/rocket's"
			if steles {
				name = l.name + "/stele's"
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				dir, to := t.TempDir(), filepath.Join(t.TempDir(), "new")
				specs := newMaker(t, 13, l).make(300)
				if steles {
					s := open(t, dir, l)
					s.put(specs)
					s.close()
				} else {
					r := j.rocket(t, dir, l)
					r.put(specs)
					r.close()
				}
				s := open(t, dir, l)
				asked := s.answers()
				requireAsked(t, specs, asked.view.Log)
				s.close()
				for _, o := range []rebuild.Options{{To: to}, {}} {
					at := dir
					if o.To != "" {
						at = o.To
					}
					o.Index = keyindex.Sizes{Slots: l.slots, Entries: l.entries}
					o.Report = func(n rebuild.Notice) { require.False(t, n.Damage, "%v", n.Err) }
					_, err := rebuild.Run(t.Context(), dir, o)
					require.NoError(t, err)
					verify(t, at)
					before := snapshot(t, at)
					r := j.rocket(t, at, l)
					require.Empty(t, told(r.opened))
					requireSameAnswers(t, asked, r.answers(asked))
					r.close()
					requireUnchanged(t, before, at)
				}
			})
		}
	}
}
