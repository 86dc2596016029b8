// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

// Package message is the codec of the commit log: messages to records and back, byte for
// byte as Apache RocketMQ 5.3 writes them. It does no I/O and knows no files.
//
// # The record
//
// Records follow each other without padding and never straddle two files. All integers
// are big-endian and signed.
//
//	 byte            field                     bytes
//	 0               TOTALSIZE                 4         the whole record
//	 4               MAGICCODE                 4         MagicV1, MagicV2
//	 8               BODYCRC                   4         CRC-32 of BODY, 31 bits
//	12               QUEUEID                   4
//	16               FLAG                      4         the user's
//	20               QUEUEOFFSET               8         patched; 0 if PREPARED or ROLLBACK
//	28               PHYSICALOFFSET            8         patched
//	36               SYSFLAG                   4
//	40               BORNTIMESTAMP             8         ms since the Unix epoch
//	48               BORNHOST                  8 or 20   address, port (4 bytes)
//	56 or 68         STORETIMESTAMP            8         patched; ms since the Unix epoch
//	64 or 76         STOREHOST                 8 or 20   address, port (4 bytes)
//	72, 84 or 96     RECONSUMETIMES            4
//	                 PREPAREDTRANSACTIONOFFSET 8
//	                 BODYLEN, BODY             4 + n
//	                 TOPICLEN, TOPIC           1 + t in V1, 2 + t in V2
//	                 PROPLEN, PROPERTIES       2 + p     p up to 32767
//
// A file that has no room for the next record and 8 bytes more ends in a filler: the
// number of bytes left (4), then MagicFiller (4).
//
// Properties are text: name 0x01 value 0x02, repeated. The property CRC is one more pair,
// the last 20 bytes of the record: __CRC32# 0x01 ten decimal digits 0x02. The digits are
// those of the CRC-32 (31 bits) of every byte before the pair, least significant first.
//
// # The life of a record
//
// Encoder.Append checks a message and writes its record; this needs no lock. Under the
// append lock Record.Patch adds what is known only then, and Record.Seal computes the
// property CRC. A reader finds the next record with Peek and reads it with a Decoder.
//
// # Invariants
//
//   - What Append accepts, Decode reads back, and RocketMQ's recovery scan too: values
//     that make that scan fail are refused before they reach a log.
//   - No input makes a decoder panic, read past its slice or allocate by a length that it
//     has not checked.
//   - Decoding copies no body and no property, and nothing here ever writes into bytes
//     that it was given to read.
//
// # Ownership and concurrency
//
// There are no locks. An Encoder is a value and may be shared. A Decoder remembers topics
// and belongs to one goroutine. What a Decoder or SplitBatch fills in borrows from the
// bytes decoded; Message.Clone ends the loan.
//
// # After a crash
//
// A record that was cut off, or that was never written whole, fails Decode: its size, its
// lengths or a CRC do not fit. A record with a property CRC is covered whole. Without one
// only the body is covered, and a damaged header can decode. Bytes of an older record at
// the same place decode as well, so a scan must compare PhysicalOffset with the position.
package message
