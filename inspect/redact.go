// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
	"strings"

	"github.com/stelelog/stele/message"
)

// Redactor takes out of messages what people wrote, so that a listing can be
// shown to others. What stays is what a store is about: topics, queues, offsets,
// sizes, times, flags, the names of properties, and the values that are
// RocketMQ's own.
//
// A tag, a key and the value of a property become a mark like ~1f9a3c5e. The same
// text has the same mark from one Redactor, so it can still be seen which messages
// share a key; another Redactor, in the next run, has other marks. The body becomes
// as many zeros. Addresses become unspecified ones, in the message id as well.
//
// It is not safe for concurrent use.
type Redactor struct {
	secret [sha256.Size]byte
	zeros  []byte
}

// NewRedactor returns one with a secret of its own.
func NewRedactor() *Redactor {
	r := &Redactor{}
	_, _ = rand.Read(r.secret[:]) // never fails
	return r
}

// kept are properties that say how a message was handled, and topics.
var kept = map[string]bool{
	message.PropertyWait: true, message.PropertyDelayLevel: true, message.PropertyRealTopic: true, message.PropertyRealQueueID: true,
	message.PropertyTraceOn: true, message.PropertyMsgType: true, message.PropertyBornTimestamp: true,
	message.PropertyRetryTopic: true, message.PropertyReconsumeTime: true, message.PropertyMaxReconsumeTimes: true,
	message.PropertyDLQOriginTopic: true, message.PropertyTransactionPrepared: true,
	message.PropertyTransactionPreparedQueueOffset: true, message.PropertyTransactionCheckTimes: true,
	message.PropertyCheckImmunityTime: true, message.PropertyInnerNum: true, message.PropertyInnerBase: true,
	message.PropertyInnerMultiQueueOffset: true, message.PropertyTimerDelaySec: true, message.PropertyTimerDelayMS: true,
	message.PropertyTimerDeliverMS: true, message.PropertyTimerOutMS: true, message.PropertyTimerEnqueueMS: true,
	message.PropertyTimerDequeueMS: true, message.PropertyTimerRollTimes: true, message.PropertyTimerDelayLevel: true,
}

// Redact returns a copy of m that tells nothing of what it said. The copy's body
// is valid until the next call.
func (r *Redactor) Redact(m *message.Message) *message.Message {
	c := *m
	if len(r.zeros) < len(m.Body) {
		r.zeros = make([]byte, len(m.Body))
	}
	c.Body = r.zeros[:len(m.Body):len(m.Body)]
	c.BornHost, c.StoreHost = nobody(m.BornHost), nobody(m.StoreHost)
	pairs := []string{}
	for name, value := range m.Properties.All() {
		switch {
		case name == message.PropertyKeys:
			words := strings.Split(value, " ")
			for i, w := range words {
				words[i] = r.mark(w)
			}
			value = strings.Join(words, " ")
		case !kept[name]:
			value = r.mark(value)
		}
		pairs = append(pairs, name, value)
	}
	c.Properties = message.NewProperties(pairs...)
	return &c
}

// mark stands for a text. Nothing stays nothing.
func (r *Redactor) mark(text string) string {
	if text == "" {
		return ""
	}
	h := hmac.New(sha256.New, r.secret[:])
	_, _ = h.Write([]byte(text)) // never fails
	return "~" + hex.EncodeToString(h.Sum(nil)[:4])
}

// nobody is an address of the same kind that is nobody's.
func nobody(h netip.AddrPort) netip.AddrPort {
	if h.Addr().Is4() || !h.IsValid() {
		return netip.AddrPortFrom(netip.IPv4Unspecified(), 0)
	}
	return netip.AddrPortFrom(netip.IPv6Unspecified(), 0)
}
