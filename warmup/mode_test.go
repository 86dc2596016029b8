// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package warmup_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/warmup"
)

func TestModes(t *testing.T) {
	t.Parallel()
	for m, name := range map[warmup.Mode]string{
		warmup.Default: "default", warmup.Off: "off", warmup.Touch: "touch", warmup.Populate: "populate",
	} {
		require.Equal(t, name, m.String())
		got, err := warmup.ParseMode(name)
		require.NoError(t, err)
		require.Equal(t, m, got)
	}
	require.Equal(t, "Mode(9)", warmup.Mode(9).String())
	for _, wrong := range []string{"", "Off", "on"} {
		_, err := warmup.ParseMode(wrong)
		require.ErrorContains(t, err, "want one of default, off, touch, populate")
	}
}

func TestAdvices(t *testing.T) {
	t.Parallel()
	for a := warmup.NoAdvice; a <= warmup.Cold; a++ {
		got, err := warmup.ParseAdvice(a.String())
		require.NoError(t, err)
		require.Equal(t, a, got)
	}
	require.Equal(t, "Advice(9)", warmup.Advice(9).String())
	_, err := warmup.ParseAdvice("perhaps")
	require.ErrorContains(t, err, `advice "perhaps"`)
}
