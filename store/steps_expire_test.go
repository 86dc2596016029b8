// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"context"
	"math/rand/v2"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/retention"
	"github.com/stelelog/stele/store"
)

// expireOptions lets files go only when an Expire comes.
func (p *player) expireOptions(o *store.Options) {
	if p.keep == 0 {
		p.keep = 1 + int(p.sizes[0]>>12)%4
	}
	o.Retention = store.RetentionOptions{Manual: true, Policy: retention.Policy{
		MaxSize: int64(p.keep) * o.FileSize, FilesPerPass: []int{-1, 1, 2}[len(p.log)%3], RefuseAt: -1,
	}}
	o.Events.Expired = func(e store.Expired) {
		if e.Err == nil {
			p.went(message.Offset(e.End()))
		}
	}
	p.stale = false
}

// doExpire removes files, and requires that those go that the policy says, and no
// other ones.
func (p *player) doExpire(*rand.Rand) {
	st := p.s.Stats()
	files := max(0, min(st.Files-p.keep, st.Files-1))
	if most := p.o.Retention.Policy.FilesPerPass; most > 0 {
		files = min(files, most)
	}
	to := st.Min + message.Offset(int64(files)*st.FileSize)
	p.mayGo(to)
	poisoned := p.s.Err() != nil
	res, err := p.s.Expire(context.Background())
	now := p.s.Stats().Min
	p.say("expire from %d to %d: at %d, %d files and %d of queues: %v", st.Min, to, now, len(res.Removed), res.QueueFiles, err)
	p.expire(now)
	p.stale = err != nil
	p.settled("expire", poisoned, err)
	require.LessOrEqual(p.t, now, to, "more went than the policy says")
	for _, e := range res.Removed {
		require.Equal(p.t, retention.BySize, e.Rule)
	}
	if err != nil {
		return
	}
	// What recovery needs, and what is in no queue yet, stays.
	if n := len(p.entries); n > 0 && st.Dispatched == st.Appended && p.entries[n-1].Offset >= st.Min+message.Offset(int64(st.Files-1)*st.FileSize) {
		require.Equal(p.t, to, now, "less went than the policy says")
	}
	for _, q := range p.s.Queues() {
		if q.Min < q.Max && !p.holed {
			b, err := p.s.Fetch(context.Background(), q.Topic, q.QueueID, q.Min, store.Limit{Messages: 1})
			if err != nil {
				require.True(p.t, p.blind, "fetch: %v", err)
				continue
			}
			require.Equal(p.t, 1, b.Len(), "the minimum of %s/%d is no message", q.Topic, q.QueueID)
			b.Release()
		}
	}
}
