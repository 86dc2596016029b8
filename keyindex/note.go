// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package keyindex

import (
	"bytes"
	"fmt"
)

// Note is a small file of Stele's own beside an index, stele/index. It is there
// while the index is whole: it has every record below the place from which a
// recovery begins.
type Note struct {
	// Sizes are those of the files, which don't hold them.
	Sizes Sizes
	// Newest is the name of the newest file at some flush, "" when there was
	// none. RocketMQ removes the newest file after a crash: when this one is
	// gone, the index has a hole.
	Newest string
}

const (
	noteFormat = "slots=%d entries=%d newest=%s\n"
	noFile     = "-"
)

// Format is the content of the file.
func (n Note) Format() []byte {
	name := n.Newest
	if name == "" {
		name = noFile
	}
	return fmt.Appendf(nil, noteFormat, n.Sizes.Slots, n.Sizes.Entries, name)
}

// ParseNote is the inverse of Format. Anything else is no note, as half of one is.
func ParseNote(b []byte) (Note, bool) {
	var n Note
	if got, _ := fmt.Sscanf(string(b), noteFormat, &n.Sizes.Slots, &n.Sizes.Entries, &n.Newest); got != 3 {
		return Note{}, false
	}
	if n.Newest == noFile {
		n.Newest = ""
	} else if !IsFileName(n.Newest) {
		return Note{}, false
	}
	return n, n.Sizes.Check() == nil && bytes.Equal(n.Format(), b)
}
