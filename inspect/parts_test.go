// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package inspect_test

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/inspect"
)

func TestPartsAndResidency(t *testing.T) {
	t.Parallel()
	dir := sample(t, closed)
	before := snapshot(t, dir)
	d := open(t, dir)
	o, err := d.Overview(context.Background())
	require.NoError(t, err)
	require.Equal(t, []inspect.PartOverview{
		{Part: "commitlog", Files: 2, Bytes: 2 * 262144}, {Part: "consumequeue", Files: 12, Bytes: 12 * 6000}, {Part: "index", Files: 1, Bytes: 42040},
	}, o.Parts)
	require.Nil(t, o.Reached, "a broker's")
	err = d.Residency(context.Background(), o)
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip(err)
	}
	require.NoError(t, err)
	for _, p := range o.Parts {
		require.Positive(t, p.Resident, "it was just written")
		require.LessOrEqual(t, p.Resident, p.Bytes)
	}
	require.Equal(t, before, snapshot(t, dir))
}

func TestUnconsumed(t *testing.T) {
	t.Parallel()
	o := &inspect.Overview{Queues: []inspect.QueueOverview{{Topic: "a", Min: 10, Max: 30}, {Topic: "a", Queue: 1, Max: 5}, {Topic: "b", Max: 7}}}
	o.AddGroupOffset("g", "a", 0, 3) // what expired can't be consumed any more
	o.AddGroupOffset("g", "a", 1, 9) // ahead of the queue
	o.AddGroupOffset("g", "b", 0, 4)
	o.AddGroupOffset("g", "c", 0, 4) // a topic without a queue
	require.Equal(t, []inspect.GroupOverview{
		{Group: "g", Topic: "a", Queues: 2, Unconsumed: 20}, {Group: "g", Topic: "b", Queues: 1, Unconsumed: 3}, {Group: "g", Topic: "c", Queues: 1},
	}, o.Groups)
}
