// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package inspect_test

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/inspect"
	"github.com/stelelog/stele/message"
)

func TestRedact(t *testing.T) {
	t.Parallel()
	secrets := []string{"paid", "order-17", "user-3", "10.1.2.3", "Alice", "0A010203", "198.51.100.7"}
	m := &message.Message{
		Topic: "orders", QueueID: 3, QueueOffset: 7, PhysicalOffset: 4096, Size: 300, StoreTimestamp: 1, BornTimestamp: 2,
		BornHost: netip.MustParseAddrPort("198.51.100.7:4711"), StoreHost: netip.MustParseAddrPort("10.1.2.3:10911"),
		Body: []byte("Alice pays for order-17"),
	}
	for _, kv := range [][2]string{
		{"TAGS", "paid"}, {"KEYS", "order-17 user-3 order-17"}, {"customer", "Alice"}, {"UNIQ_KEY", "0A010203"},
		{"DELAY", "3"}, {"RETRY_TOPIC", "orders"},
	} {
		m.Properties.Set(kv[0], kv[1])
	}
	r := inspect.NewRedactor()
	row, err := json.Marshal(inspect.Row{Message: r.Redact(m), Body: inspect.BodyStored, Exact: true})
	require.NoError(t, err)
	text := string(row)
	for _, s := range secrets {
		require.NotContains(t, text, s)
	}
	require.Equal(t, "Alice pays for order-17", string(m.Body), "the message itself is as it was")
	var got struct {
		Topic, Tags, Keys, MsgID, BornHost, StoreHost string
		QueueID, QueueOffset, PhysicalOffset, Size    int
		BodySize                                      int
		Properties                                    map[string]string
	}
	require.NoError(t, json.Unmarshal(row, &got))
	require.Equal(t, []any{"orders", 3, 7, 4096, 300, 23}, []any{got.Topic, got.QueueID, got.QueueOffset, got.PhysicalOffset, got.Size, got.BodySize})
	require.Equal(t, "0.0.0.0:0", got.BornHost)
	require.Equal(t, "00000000000000000000000000001000", got.MsgID)
	require.Equal(t, "3", got.Properties["DELAY"])
	require.Equal(t, "orders", got.Properties["RETRY_TOPIC"])
	require.Regexp(t, "^~[0-9a-f]{8}$", got.Tags)
	keys := strings.Split(got.Keys, " ")
	require.Len(t, keys, 3)
	require.Equal(t, keys[0], keys[2], "equal texts have equal marks")
	require.NotEqual(t, keys[0], keys[1])
	require.NotEqual(t, got.Tags, inspect.NewRedactor().Redact(m).Tags(), "and other ones the next time")

	v6 := inspect.NewRedactor().Redact(&message.Message{StoreHost: netip.MustParseAddrPort("[2001:db8::1]:1")})
	require.Equal(t, "[::]:0", v6.StoreHost.String())
	require.Equal(t, "0.0.0.0:0", v6.BornHost.String())
}
