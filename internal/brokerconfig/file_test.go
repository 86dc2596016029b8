// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package brokerconfig

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func put(t *testing.T, path, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
}

func TestReadFallsBack(t *testing.T) {
	t.Parallel()
	const torn = `{"offsetTable":{1:`
	const old = `{"offsetTable":{1:1}}`
	const current = `{"offsetTable":{1:2}}`
	absent := "absent"
	for _, tc := range []struct {
		name      string
		file, bak string
		want      int64 // offset of level 1, 0 for an empty table
		from      string
		passed    error
		err       error
	}{
		{"both whole", current, old, 2, DelayOffsetsFile, nil, nil},
		{"no .bak", current, absent, 2, DelayOffsetsFile, nil, nil},
		{"torn .bak does not matter", current, torn, 2, DelayOffsetsFile, nil, nil},
		{"missing", absent, old, 1, DelayOffsetsFile + ".bak", fs.ErrNotExist, nil},
		{"empty", "", old, 1, DelayOffsetsFile + ".bak", errEmpty, nil},
		{"torn", torn, old, 1, DelayOffsetsFile + ".bak", ErrMalformed, nil},
		{"neither", absent, absent, 0, "", nil, nil},
		{"empty, no .bak", "", absent, 0, "", nil, nil},
		{"both empty", "", "", 0, "", nil, nil},
		{"torn, no .bak", torn, absent, 0, "", nil, ErrMalformed},
		{"torn, empty .bak", torn, "", 0, "", nil, ErrMalformed},
		{"both torn", torn, torn, 0, "", nil, ErrMalformed},
		{"missing, torn .bak", absent, torn, 0, "", nil, ErrMalformed},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			path := filepath.Join(dir, DelayOffsetsFile)
			before := map[string]string{}
			for p, text := range map[string]string{path: tc.file, path + ".bak": tc.bak} {
				if text != absent {
					put(t, p, text)
					before[p] = text
				}
			}
			got, source, err := ReadDelayOffsets(dir)
			if tc.err != nil {
				require.ErrorIs(t, err, tc.err)
				require.ErrorContains(t, err, path)
			} else {
				require.NoError(t, err)
				require.Equal(t, tc.want, got.Table[1])
				require.NotNil(t, got.Table)
				if tc.from != "" {
					require.Equal(t, filepath.Join(dir, tc.from), source.Path)
				} else {
					require.Empty(t, source.Path)
				}
				require.ErrorIs(t, source.Passed, tc.passed)
			}
			// Reading changes nothing.
			entries, err := os.ReadDir(dir)
			require.NoError(t, err)
			require.Len(t, entries, len(before))
			for p, text := range before {
				data, err := os.ReadFile(p)
				require.NoError(t, err)
				require.Equal(t, text, string(data))
			}
		})
	}
}

func TestReadErrorNamesThePlace(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, TopicsFile)
	put(t, path, "{\n\"topicConfigTable\":7}")
	_, _, err := ReadTopics(dir)
	var at *Error
	require.ErrorAs(t, err, &at)
	require.Equal(t, Error{Path: path, Offset: 21, Line: 2, Err: at.Err}, *at)
	require.ErrorContains(t, err, path+": byte 21 (line 2): ")
}

// A file that cannot be read for another reason than its content must not be
// answered from an old copy.
func TestReadErrorIsNoReasonToFallBack(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, TopicsFile), 0o755))
	put(t, filepath.Join(dir, TopicsFile+".bak"), goldenTopics)
	_, _, err := ReadTopics(dir)
	require.Error(t, err)
	require.NotErrorIs(t, err, ErrMalformed)
}

func TestWriteKeepsThePreviousFile(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "store", "config")
	path := filepath.Join(dir, ConsumerOffsetsFile)
	read := func(path string) string {
		data, err := os.ReadFile(path)
		require.NoError(t, err)
		return string(data)
	}
	first, second, third := ConsumerOffsets{DataVersion: version(1)}, ConsumerOffsets{DataVersion: version(2)}, sampleConsumerOffsets()

	require.NoError(t, WriteConsumerOffsets(dir, first))
	require.Equal(t, string(first.Encode()), read(path))
	_, err := os.Stat(path + ".bak")
	require.ErrorIs(t, err, fs.ErrNotExist)

	require.NoError(t, WriteConsumerOffsets(dir, second))
	require.Equal(t, string(second.Encode()), read(path))
	require.Equal(t, string(first.Encode()), read(path+".bak"))

	// A torn file must not replace the whole .bak.
	put(t, path, "{")
	require.NoError(t, WriteConsumerOffsets(dir, third))
	require.Equal(t, goldenConsumerOffsets, read(path))
	require.Equal(t, string(first.Encode()), read(path+".bak"))

	got, source, err := ReadConsumerOffsets(dir)
	require.NoError(t, err)
	require.Equal(t, third, got)
	require.Equal(t, Source{Path: path}, source)

	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 2, "no temporary file stays")
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o644), info.Mode().Perm())
}

func TestWriteFailureLeavesTheFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, TopicsFile)
	require.NoError(t, WriteTopics(dir, sampleTopics()))
	// A directory that is not empty cannot be replaced by a rename.
	require.NoError(t, os.MkdirAll(filepath.Join(path+".bak", "x"), 0o755))
	require.Error(t, WriteTopics(dir, Topics{}))
	got, _, err := ReadTopics(dir)
	require.NoError(t, err)
	require.Equal(t, sampleTopics(), got)
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 2, "no temporary file stays")

	notDir := filepath.Join(dir, "file")
	put(t, notDir, "")
	require.Error(t, WriteTopics(notDir, Topics{}))
}

func TestWriteRoundTrips(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	delays := DelayOffsets{DataVersion: version(3), Table: map[int32]int64{1: 2}}
	require.NoError(t, errors.Join(WriteTopics(dir, sampleTopics()), WriteDelayOffsets(dir, delays)))
	topics, _, err := ReadTopics(dir)
	require.NoError(t, err)
	require.Equal(t, sampleTopics(), topics)
	got, _, err := ReadDelayOffsets(dir)
	require.NoError(t, err)
	require.Equal(t, delays, got)
}
