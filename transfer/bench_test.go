// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package transfer_test

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/stelelog/stele/inspect"
	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/transfer"
)

func BenchmarkParseRow(b *testing.B) {
	host := netip.MustParseAddrPort("10.0.0.1:10911")
	m := &message.Message{
		Topic: "orders", QueueID: 3, BornHost: host, StoreHost: host, BornTimestamp: 1795355674178, StoreTimestamp: 1795355674178,
		Body: bytes.Repeat([]byte("abcdefghij"), 30), Properties: message.NewProperties("KEYS", "k", "TAGS", "x", "UNIQ_KEY", "7F0000010000"),
	}
	line := inspect.Row{Message: m, Body: inspect.BodyStored, Exact: true}.AppendJSON(nil)
	b.SetBytes(int64(len(line)))
	for b.Loop() {
		var got message.Message
		if _, err := transfer.ParseRow(line, &got); err != nil {
			b.Fatal(err)
		}
	}
}
