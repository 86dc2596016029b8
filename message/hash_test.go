// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package message

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// The wanted numbers are new String(bytes, UTF_8).hashCode() of OpenJDK 17.
func TestHashOfInvalidUTF8(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text string
		want int32
	}{
		{"\x41", 65},
		{"\xff", 65533},
		{"\xc3", 65533},
		{"\xc3\x41", 2031588},
		{"\xc0\xaf", 2097056},
		{"\xe4\xb8", 65533},
		{"\xe4\xb8\x41", 2031588},
		{"\xe0\x80\x80", 65074269},
		{"\xed\xa0\x80", 65533},
		{"\xed\xa0\xbd\xed\xb8\x80", 2097056},
		{"\xed\xa0", 65533},
		{"\xf0\x9f\x98", 65533},
		{"\xf0\x9f\x98\x80", 1772899},
		{"\xf0\x9f\x98\x41", 2031588},
		{"\xf0\x80\x80\x80", 2017367872},
		{"\xf4\x90\x80\x80", 2017367872},
		{"\xf5\x80\x80\x80", 2017367872},
		{"\xf0\x9f", 65533},
		{"\xe4", 65533},
		{"\x80", 65533},
		{"\x61\x61\xe4\xb8\xad\xe6\x96\x87", 3629338},
	} {
		require.Equal(t, c.want, HashString(c.text), "%x", c.text)
		require.Equal(t, c.want, HashBytes([]byte(c.text)), "%x", c.text)
		require.Equal(t, HashString("topic#"+c.text), HashOn(HashString("topic#"), []byte(c.text)), "%x", c.text)
	}
}

func TestTagsCodeIsSignExtended(t *testing.T) {
	t.Parallel()
	require.Equal(t, int64(-2147483648), TagsCode([]byte("polygenelubricants")))
	require.Zero(t, TagsCode(nil))
}
