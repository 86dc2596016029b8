// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package keyindex

import "fmt"

// The note is a small file of Stele's own beside an index, stele/index. It is
// there while the index is whole: it has every record below the place from which
// a recovery begins. It also says which sizes the files have, which they don't.
const noteFormat = "slots=%d entries=%d\n"

// FormatNote is the content of the note.
func FormatNote(z Sizes) []byte { return fmt.Appendf(nil, noteFormat, z.Slots, z.Entries) }

// ParseNote is the inverse of FormatNote. Anything else is no note, as half of
// one is.
func ParseNote(b []byte) (Sizes, bool) {
	var z Sizes
	if n, _ := fmt.Sscanf(string(b), noteFormat, &z.Slots, &z.Entries); n != 2 {
		return Sizes{}, false
	}
	return z, z.Check() == nil && string(FormatNote(z)) == string(b)
}
