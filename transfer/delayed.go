// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package transfer

import (
	"fmt"

	"github.com/stelelog/stele/delay"
	"github.com/stelelog/stele/message"
)

// Delayed says what a copy does with messages in the topics in which messages
// wait to be delivered later. What was delivered from there is a message of its
// own, in its own topic, and is copied like any other.
type Delayed uint8

const (
	// DelayedWaiting copies those whose time of delivery has not come when the copy
	// begins: they wait on. The others count as delivered.
	DelayedWaiting Delayed = iota
	// DelayedAll copies all. Those whose time has come are delivered, once more,
	// when the target is opened next.
	DelayedAll
	// DelayedNone copies none.
	DelayedNone
)

var delayedNames = [...]string{"waiting", "all", "none"}

// String returns the name that ParseDelayed takes.
func (d Delayed) String() string {
	if int(d) < len(delayedNames) {
		return delayedNames[d]
	}
	return fmt.Sprintf("Delayed(%d)", uint8(d))
}

// ParseDelayed is the inverse of String.
func ParseDelayed(name string) (Delayed, error) {
	for i, n := range delayedNames {
		if n == name {
			return Delayed(i), nil
		}
	}
	return 0, fmt.Errorf("%q is none of %v", name, delayedNames)
}

// wants reports whether m is copied. now is in milliseconds since the Unix epoch.
// A message that does not say when it is due is taken: nothing tells that it was
// delivered.
func (d Delayed) wants(m *message.Message, levels message.DelayLevels, now int64) bool {
	if d == DelayedAll || !message.IsDelayTopic(m.Topic) {
		return true
	}
	if d == DelayedNone {
		return false
	}
	if m.Topic == message.TimerTopic {
		due, err := delay.TimerDue(m)
		return err != nil || due > now
	}
	if m.StoreTimestamp == 0 || m.QueueID < 0 || int(m.QueueID) >= len(levels) {
		return true
	}
	return m.StoreTimestamp+levels[m.QueueID].Milliseconds() > now
}
