// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package delivery

import "os"

// Source is a mapped file, or memory. It belongs to the caller, who keeps it as it
// is, the mapping and the descriptor in place, while a Send uses it.
type Source struct {
	// Data is the whole mapping.
	Data []byte
	// File is the file that Data maps from its first byte on, for system calls
	// that send from one; nil where there is none.
	File *os.File
	// Base is the offset of the first byte in the log. It is told in errors, and
	// keeps apart what is known of the files of one Sender.
	Base int64
	// Path is for errors.
	Path string
}

// Run is the bytes [From, To) of a source, which are positions in it.
type Run struct {
	Source   *Source
	From, To int64
}

// Len is the number of bytes.
func (r Run) Len() int64 { return r.To - r.From }

func (r Run) bytes() []byte { return r.Source.Data[r.From:r.To:r.To] }

// Append appends the bytes [from, to) of src to runs. When they lie right behind
// the last run it grows; an empty range adds nothing. Runs are sent in the order
// in which they were appended. The range must lie in src.Data.
func Append(runs []Run, src *Source, from, to int64) []Run {
	if from >= to {
		return runs
	}
	if n := len(runs); n > 0 && runs[n-1].Source == src && runs[n-1].To == from {
		runs[n-1].To = to
		return runs
	}
	return append(runs, Run{Source: src, From: from, To: to})
}

// Len is the number of bytes of all runs.
func Len(runs []Run) (n int64) {
	for _, r := range runs {
		n += r.Len()
	}
	return n
}
