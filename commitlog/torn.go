// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package commitlog

import "github.com/stelelog/stele/message"

const (
	// tornZeros is how many zeros at the end of its properties make a record
	// torn wherever it stands. Fewer could be somebody's text, and can't hide
	// that the property CRC is gone: its name alone is as long.
	tornZeros = 8
	// sector is what a disk writes whole, or not at all.
	sector = 512
)

// Torn reports whether a record that was decoded lost bytes of its properties,
// and with them the property CRC that would tell: they end in many zeros, or all
// of them that lie in one sector of the disk are zeros. The second finds an end
// of a few bytes that a power cut took with the sector that it lies in, and a
// sector in the middle of long properties. No encoder writes zeros; a property
// whose text ends in one, without a separator behind it, exactly where a sector
// ends, would be taken for torn.
func Torn(m *message.Message) bool {
	if zerosAtEnd(m) >= tornZeros {
		return true
	}
	props := m.Properties.Encoded()
	end := int64(m.PhysicalOffset) + int64(m.Size) // of the properties, too
	start := end - int64(len(props))
	for end > start {
		// A part that does not begin its sector shares it with the topic, whose
		// loss is noticed.
		from := (end - 1) &^ (sector - 1) // rounds down, whatever the record says of its place
		if from < start {
			return false
		}
		if allZero(props[from-start : end-start]) {
			return true
		}
		end = from
	}
	return false
}

func zerosAtEnd(m *message.Message) int {
	props := m.Properties.Encoded()
	n := len(props)
	for n > 0 && props[n-1] == 0 {
		n--
	}
	return len(props) - n
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
