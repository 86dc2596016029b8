// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"io"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/stretchr/testify/require"
)

// givenAnew are the fields of an exported message that a copy need not share:
// where and when the store put it, who stored it, and what follows from that.
// Of sysFlag it is the bit that tells the form of storeHost, of properties the
// checksum over the record.
var givenAnew = []string{"physicalOffset", "queueOffset", "size", "storeTimestamp", "storeHost", "msgId"}

const storeHostV6 = 1 << 5

// exported are the lines of an export without what a store gives anew.
func exported(ts *testscript.TestScript, file string) (rows []string) {
	for line := range strings.Lines(ts.ReadFile(file)) {
		var row map[string]any
		ts.Check(json.Unmarshal([]byte(line), &row))
		for _, name := range givenAnew {
			if _, ok := row[name]; !ok {
				ts.Fatalf("%s: no %s in %s", file, name, line)
			}
			delete(row, name)
		}
		row["sysFlag"] = int(row["sysFlag"].(float64)) &^ storeHostV6
		delete(row["properties"].(map[string]any), "__CRC32#")
		text, err := json.Marshal(row)
		ts.Check(err)
		rows = append(rows, string(text))
	}
	return rows
}

func scriptSameExport(ts *testscript.TestScript, _ bool, args []string) {
	first, second := exported(ts, args[0]), exported(ts, args[1])
	for i := range min(len(first), len(second)) {
		if first[i] != second[i] {
			ts.Fatalf("line %d:\n%s\n%s", i+1, first[i], second[i])
		}
	}
	if len(first) == 0 || len(first) != len(second) {
		ts.Fatalf("%d and %d lines", len(first), len(second))
	}
}

// TestExportIntoItself: an export of a store ends where that ended at first, though
// what is exported is appended to it meanwhile.
func TestExportIntoItself(t *testing.T) {
	t.Parallel()
	const n = 1200
	dir := storeOf(t, n)
	var out bytes.Buffer
	appended := false
	first := writerFunc(func(b []byte) (int, error) {
		if !appended {
			appended = true
			rows := b[:bytes.LastIndexByte(b, '\n')+1]
			require.Equal(t, exitOK, run(t.Context(), []string{"import", dir, "-q"}, bytes.NewReader(rows), io.Discard, io.Discard))
		}
		return out.Write(b)
	})
	var words bytes.Buffer
	require.Equal(t, exitOK, run(t.Context(), []string{"export", dir}, strings.NewReader(""), first, &words), words.String())
	require.True(t, appended)
	require.Equal(t, n, bytes.Count(out.Bytes(), []byte("\n")))
}

type writerFunc func(b []byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }
