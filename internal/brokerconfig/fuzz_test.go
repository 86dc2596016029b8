// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package brokerconfig

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
)

// refused checks that a decoder's error is of the promised kind.
func refused(t *testing.T, data []byte, err error) {
	var at *Error
	require.True(t, errors.As(err, &at) && errors.Is(err, ErrMalformed), "%v", err)
	require.LessOrEqual(t, at.Offset, int64(len(data)))
}

func FuzzTopics(f *testing.F) {
	for _, s := range []string{"", "{}", goldenTopics, `{"topicConfigTable":{"a":{"perm":1,"x":[1,{2:"\u0000"}]}},"y":-1.5E+3}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		topics, err := DecodeTopics(data)
		if err != nil {
			refused(t, data, err)
			return
		}
		text := topics.Encode()
		again, err := DecodeTopics(text)
		require.NoError(t, err, "%s", text)
		require.Equal(t, string(text), string(again.Encode()))
		require.Len(t, again.Table, len(topics.Table))
	})
}

func FuzzOffsets(f *testing.F) {
	for _, s := range []string{"", "{}", goldenConsumerOffsets, goldenDelayOffsets, `{"offsetTable":{"a@b@c":{"-1":-1},"a@b":{}},"groupTopicMap":[]}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if offsets, err := DecodeConsumerOffsets(data); err != nil {
			refused(t, data, err)
		} else {
			text := offsets.Encode()
			again, err := DecodeConsumerOffsets(text)
			require.NoError(t, err, "%s", text)
			require.Equal(t, offsets, again)
		}
		if delays, err := DecodeDelayOffsets(data); err != nil {
			refused(t, data, err)
		} else {
			text := delays.Encode()
			again, err := DecodeDelayOffsets(text)
			require.NoError(t, err, "%s", text)
			require.Equal(t, delays, again)
		}
	})
}
