// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package message

import (
	"fmt"
	"strings"
)

// CheckTopic says why topic cannot be appended to, or returns nil. The error wraps
// ErrEmptyTopic, ErrTopicTooLong or ErrTopicChars. The rules are those of HookUtils.java
// and TopicValidator.java; a topic becomes the name of a directory.
func CheckTopic(topic string) error {
	n := len(topic)
	switch {
	case n == 0:
		return ErrEmptyTopic
	case n > MaxRetryTopicLen:
		return fmt.Errorf("%w: %d bytes, limit %d", ErrTopicTooLong, n, MaxRetryTopicLen)
	case n > MaxTopicLen && !strings.HasPrefix(topic, RetryTopicPrefix) && !strings.HasPrefix(topic, DLQTopicPrefix):
		return fmt.Errorf("%w: %d bytes, limit %d without the prefix %s or %s",
			ErrTopicTooLong, n, MaxTopicLen, RetryTopicPrefix, DLQTopicPrefix)
	}
	for i := range n {
		if !topicChar(topic[i]) {
			return fmt.Errorf("%w: byte %#x at %d of %q", ErrTopicChars, topic[i], i, topic)
		}
	}
	return nil
}

func topicChar(c byte) bool {
	lower := c | 0x20
	return lower >= 'a' && lower <= 'z' || c >= '0' && c <= '9' || c == '_' || c == '-' || c == '%' || c == '|'
}

// fitsDirectory is what a decoder asks of a topic. It is less than CheckTopic, so that a
// record which RocketMQ reads is not taken for damage; but no byte sequence from a file
// may lead out of its directory.
func fitsDirectory(topic []byte) bool {
	for _, c := range topic {
		if c == '/' || c == 0 {
			return false
		}
	}
	return len(topic) > 0 && len(topic) <= MaxRetryTopicLen && string(topic) != "." && string(topic) != ".."
}
