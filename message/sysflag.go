// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package message

// SysFlag is the bit set in the SYSFLAG field of a record, as MessageSysFlag.java
// and CompressionType.java define it. Bits that are not named here are kept as they are.
type SysFlag int32

const (
	// Compressed says that the body is compressed; the compression bits say how.
	Compressed SysFlag = 1 << 0
	// MultiTags marks a topic with the multi-tag filter type.
	MultiTags SysFlag = 1 << 1

	// TransactionMask covers the transaction type, one of the four values below.
	TransactionMask SysFlag = 3 << 2
	// TransactionNone is an ordinary message.
	TransactionNone SysFlag = 0 << 2
	// TransactionPrepared is a half message. It takes no queue offset.
	TransactionPrepared SysFlag = 1 << 2
	// TransactionCommit is the committed copy of a half message.
	TransactionCommit SysFlag = 2 << 2
	// TransactionRollback cancels a half message. It takes no queue offset.
	TransactionRollback SysFlag = 3 << 2

	// BornHostV6 says that the born host takes 20 bytes. The encoder sets and clears it.
	BornHostV6 SysFlag = 1 << 4
	// StoreHostV6 says that the store host takes 20 bytes. The encoder sets and clears it.
	StoreHostV6 SysFlag = 1 << 5

	// NeedUnwrap marks an inner batch that a reader must take apart.
	NeedUnwrap SysFlag = 1 << 6
	// InnerBatch marks one record that holds many messages in its body.
	InnerBatch SysFlag = 1 << 7

	// CompressionMask covers the compression type, which counts only with Compressed.
	CompressionMask SysFlag = 7 << compressionShift

	compressionShift = 8
)

// Transaction returns the transaction type: one of the Transaction constants.
func (f SysFlag) Transaction() SysFlag { return f & TransactionMask }

// Compression returns how the body is compressed: CompressionNone without the Compressed
// bit. Type 0 is zlib, because old producers set Compressed and no type. A type that the
// format does not define is returned as its number, and Decompress refuses it.
func (f SysFlag) Compression() Compression {
	if f&Compressed == 0 {
		return CompressionNone
	}
	c := Compression(f & CompressionMask >> compressionShift)
	if c == CompressionNone {
		return CompressionZLIB
	}
	return c
}

// WithCompression returns f with the bits that say that a body is compressed by c.
func (f SysFlag) WithCompression(c Compression) SysFlag {
	f &^= Compressed | CompressionMask
	if c == CompressionNone {
		return f
	}
	return f | Compressed | SysFlag(c)<<compressionShift&CompressionMask
}

// takesQueueOffset is false for the two transaction types that no queue ever shows.
func (f SysFlag) takesQueueOffset() bool {
	t := f.Transaction()
	return t != TransactionPrepared && t != TransactionRollback
}
