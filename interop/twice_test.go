// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package interop_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/store"
)

// TestKeysTwice: at the end of a log stand messages that are in no queue. Each
// time that RocketMQ opens such a directory, one of its own too, it enters the
// keys of the last one again, since it goes by the end of its queues. Its queries
// yield the message as often; Stele's once, after it as well.
func TestKeysTwice(t *testing.T) {
	j := sharedJVM(t)
	t.Parallel()
	for name, writes := range map[string]func(dir string, specs []spec){
		"rocket's": func(dir string, specs []spec) {
			r := j.rocket(t, dir, small)
			r.put(specs)
			r.close()
		},
		"stele's": func(dir string, specs []spec) {
			s := open(t, dir, small)
			s.put(specs)
			s.close()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			specs := newMaker(t, 12, small).make(40)
			for i := range specs[38:] {
				specs[38+i].SysFlag |= int32(message.TransactionPrepared)
			}
			last := key{specs[39].Topic, uniqKey(specs[39])}
			writes(dir, specs)
			for again := range 2 {
				r := j.rocket(t, dir, small)
				require.Len(t, r.query(last), again+2)
				r.close()
			}
			s := openClean(t, dir, small, map[string]store.RecoveryKind{
				"rocket's": store.ForeignClean, "stele's": store.CleanClose,
			}[name])
			require.Len(t, s.query(last), 1)
			requireAsked(t, specs, s.view().Log)
			s.close()
			verify(t, dir)
		})
	}
}
