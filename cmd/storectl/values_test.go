// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestParseSize(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int64{
		"0": 0, "1": 1, "4096": 4096, "7B": 7, "512KiB": 512 << 10, "16MiB": 16 << 20, "1GiB": 1 << 30, "1 GiB": 1 << 30,
		"2TiB": 2 << 40, "1.5GiB": 3 << 29, "0.25KiB": 256, "9223372036854775807": 1<<63 - 1, "8388607TiB": 8388607 << 40,
	} {
		got, err := parseSize(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got, text)
	}
	for text, want := range map[string]string{
		"":                    "is no size",
		"GiB":                 "is no size",
		"12Mb":                "is no size",
		"12kib":               "is no size",
		"1e3":                 "is no size",
		"1e3KiB":              "is no size",
		"0x10":                "is no size",
		"1_000":               "is no size",
		"NaN":                 "is no size",
		"InfKiB":              "is no size",
		"-1":                  "is negative",
		"-1MiB":               "is negative",
		"0.3B":                "no whole number of bytes",
		"0.0001KiB":           "no whole number of bytes",
		"-0.5KiB":             "no whole number of bytes",
		"8388608TiB":          "too large",
		"9223372036854775808": "no whole number of bytes",
	} {
		_, err := parseSize(text)
		require.ErrorContains(t, err, want, text)
	}
}

func TestFormatSize(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{
		0: "0 B", 1: "1 B", 1023: "1023 B", 1024: "1 KiB", 1536: "1.5 KiB", 524288: "512 KiB", 1 << 30: "1 GiB", 3 << 40: "3 TiB",
	} {
		require.Equal(t, want, formatSize(n))
	}
}

func TestMoment(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]string{
		"2026-11-22T13:54:32.452Z":  "2026-11-22T13:54:32.452Z",
		"2026-11-22T13:54:32+02:00": "2026-11-22T11:54:32.000Z",
		"90m":                       "2026-11-22T10:30:00.000Z",
		"1h30m":                     "2026-11-22T10:30:00.000Z",
		"7d":                        "2026-11-15T12:00:00.000Z",
		"0s":                        "2026-11-22T12:00:00.000Z",
	} {
		m := moment{now: func() time.Time { return now }}
		require.NoError(t, m.Set(text), text)
		require.Equal(t, want, m.String(), text)
	}
	for _, text := range []string{"", "yesterday", "-5m", "5", "-1d", "1.5d", "99999d", "2026-11-22", "2026-11-22 13:54:32", "1960-01-01T00:00:00Z"} {
		m := moment{now: func() time.Time { return now }}
		require.Error(t, m.Set(text), text)
		require.Empty(t, m.String(), text)
	}
}

func TestFormat(t *testing.T) {
	t.Parallel()
	f := formatTable
	for _, text := range formats {
		require.NoError(t, f.Set(text))
		require.Equal(t, text, f.String())
	}
	require.ErrorContains(t, f.Set("xml"), "must be one of table, json, ndjson")
}
