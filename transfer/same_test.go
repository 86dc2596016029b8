// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package transfer_test

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/message"
	"github.com/stelelog/stele/transfer"
)

func TestSame(t *testing.T) {
	t.Parallel()
	base := func() *message.Message {
		m := &message.Message{
			Topic: "a", QueueID: 1, Flag: 2, SysFlag: message.TransactionCommit, BornTimestamp: 3, BornHost: netip.MustParseAddrPort("1.2.3.4:5"),
			ReconsumeTimes: 4, PreparedTransactionOffset: 5, Body: []byte("b"),
			Properties: message.PropertiesFromEncoded([]byte("x\x01y\x02z\x01w")),
		}
		return m
	}
	for name, change := range map[string]func(m *message.Message){
		"nothing":        func(*message.Message) {},
		"place and time": func(m *message.Message) { m.PhysicalOffset, m.QueueOffset, m.StoreTimestamp, m.Size = 9, 9, 9, 9 },
		"store host":     func(m *message.Message) { m.StoreHost = m.BornHost; m.SysFlag |= message.StoreHostV6 },
		"separator":      func(m *message.Message) { m.Properties = message.PropertiesFromEncoded([]byte("x\x01y\x02z\x01w\x02")) },
		"checksum":       func(m *message.Message) { m.Properties.Set("__CRC32#", "0123456789") },
	} {
		m := base()
		change(m)
		require.True(t, transfer.Same(base(), m), name)
	}
	for name, change := range map[string]func(m *message.Message){
		"topic":     func(m *message.Message) { m.Topic = "b" },
		"queue":     func(m *message.Message) { m.QueueID++ },
		"flag":      func(m *message.Message) { m.Flag++ },
		"system":    func(m *message.Message) { m.SysFlag = 0 },
		"born":      func(m *message.Message) { m.BornTimestamp++ },
		"born host": func(m *message.Message) { m.BornHost = netip.MustParseAddrPort("1.2.3.4:6") },
		"reconsume": func(m *message.Message) { m.ReconsumeTimes++ },
		"prepared":  func(m *message.Message) { m.PreparedTransactionOffset++ },
		"body":      func(m *message.Message) { m.Body = []byte("c") },
		"value":     func(m *message.Message) { m.Properties.Set("x", "z") },
		"more":      func(m *message.Message) { m.Properties.Set("q", "z") },
		"less":      func(m *message.Message) { m.Properties.Delete("z") },
		"order":     func(m *message.Message) { m.Properties = message.PropertiesFromEncoded([]byte("z\x01w\x02x\x01y")) },
	} {
		m := base()
		change(m)
		require.False(t, transfer.Same(base(), m), name)
		require.False(t, transfer.Same(m, base()), name)
	}
}
