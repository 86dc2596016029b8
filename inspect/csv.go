// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"encoding/base64"
	"fmt"
	"hash/crc32"
	"strconv"
	"unicode/utf8"

	"github.com/stelelog/stele/message"
)

// CSVHeader names the columns of Row.CSV: the fields of the JSON object, and with
// a body body and bodyBase64, of which each row has one.
func CSVHeader(body Body) []string {
	h := []string{
		"topic", "queueId", "queueOffset", "physicalOffset", "size", "storeTimestamp", "bornTimestamp", "storeHost", "bornHost",
		"sysFlag", "flag", "reconsumeTimes", "msgId", "tags", "keys", "properties", "bodySize", "bodyCRC",
	}
	if body != BodyNone {
		h = append(h, "body", "bodyBase64")
	}
	return h
}

// CSV returns the row as the fields of a line of CSV, unquoted. They hold what
// the JSON object holds; properties are an object in JSON, and what is null there
// is empty.
func (r Row) CSV() []string {
	m := r.Message
	keys, _ := m.Properties.Get(message.PropertyKeys)
	fields := []string{
		m.Topic, decimal(m.QueueID), decimal(m.QueueOffset), decimal(m.PhysicalOffset), decimal(m.Size),
		decimal(m.StoreTimestamp), decimal(m.BornTimestamp), m.StoreHost.String(), m.BornHost.String(),
		decimal(m.SysFlag), decimal(m.Flag), decimal(m.ReconsumeTimes), m.ID(), m.Tags(), keys,
		string(appendProperties(nil, &m.Properties)), decimal(int64(len(m.Body))), fmt.Sprintf("%08x", crc32.ChecksumIEEE(m.Body)),
	}
	if r.Body == BodyNone {
		return fields
	}
	body := r.bytes()
	if utf8.Valid(body) {
		return append(fields, string(body), "")
	}
	return append(fields, "", base64.StdEncoding.EncodeToString(body))
}

// decimal writes a number as JSON does.
func decimal[T ~int32 | ~int64](v T) string { return strconv.FormatInt(int64(v), 10) }
