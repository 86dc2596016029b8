// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestDoctorStatus: the status says whether there is a problem. Whether there is
// one depends on the machine, so either may come out.
func TestDoctorStatus(t *testing.T) {
	t.Parallel()
	var out, words bytes.Buffer
	status := run(t.Context(), []string{"doctor", testStore(t), "-o", "json"}, strings.NewReader(""), &out, &words)
	var all []struct{ Level, Check, Found, Advice string }
	require.NoError(t, json.Unmarshal(out.Bytes(), &all))
	require.Greater(t, len(all), 8)
	want := exitOK
	for _, d := range all {
		require.Contains(t, []string{"ok", "note", "problem"}, d.Level)
		if d.Level == "problem" {
			want = exitFindings
		}
	}
	require.Equal(t, want, status)
	require.Empty(t, words.String())
}
