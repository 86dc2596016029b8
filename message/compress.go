// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package message

import (
	"bytes"
	"compress/zlib"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// Compression is a way to compress a body. Its values are those of the compression bits
// in SysFlag (CompressionType.java).
type Compression uint8

const (
	CompressionNone Compression = 0
	CompressionLZ4  Compression = 1 // LZ4 frames
	CompressionZSTD Compression = 2
	CompressionZLIB Compression = 3
)

// maxWindow bounds what a zstd frame can make the decoder allocate before a byte comes
// out. RFC 8878 asks decoders for 8 MiB; RocketMQ's levels stay at or below that.
const maxWindow = 8 << 20

func (c Compression) String() string {
	switch c {
	case CompressionNone:
		return "none"
	case CompressionLZ4:
		return "lz4"
	case CompressionZSTD:
		return "zstd"
	case CompressionZLIB:
		return "zlib"
	}
	return fmt.Sprintf("Compression(%d)", uint8(c))
}

// Compress returns body compressed by c, in new memory; CompressionNone returns body
// itself. An unknown c is an error that wraps ErrBadCompression.
func Compress(c Compression, body []byte) ([]byte, error) {
	var out bytes.Buffer
	var w io.WriteCloser
	switch c {
	case CompressionNone:
		return body, nil
	case CompressionLZ4:
		w = lz4.NewWriter(&out)
	case CompressionZSTD:
		return compressZSTD(body)
	case CompressionZLIB:
		w = zlib.NewWriter(&out)
	default:
		return nil, fmt.Errorf("%w: unknown type %d", ErrBadCompression, c)
	}
	if _, err := w.Write(body); err != nil {
		return nil, fmt.Errorf("message: compress by %v: %w", c, err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("message: compress by %v: %w", c, err)
	}
	return out.Bytes(), nil
}

// Decompress returns what body was before Compress, in new memory; CompressionNone
// returns body itself. max bounds the result in bytes, and 0 or less means
// DefaultMaxBodyLen: a longer result is an error that wraps ErrDecompressedTooLarge, and
// no more than about max bytes are ever held for it. A body that is damaged, cut off or of
// an unknown type is an error that wraps ErrBadCompression.
func Decompress(c Compression, body []byte, max int64) ([]byte, error) {
	if max <= 0 {
		max = DefaultMaxBodyLen
	}
	if len(body) == 0 && c != CompressionNone {
		return nil, badCompression(c, io.ErrUnexpectedEOF) // even nothing compresses to something
	}
	src := bytes.NewReader(body)
	switch c {
	case CompressionNone:
		if int64(len(body)) > max {
			return nil, tooLarge(max)
		}
		return body, nil
	case CompressionLZ4:
		return readPlain(c, lz4.NewReader(src), len(body), max)
	case CompressionZSTD:
		d, err := zstdDecoder(src)
		if err != nil {
			return nil, badCompression(c, err)
		}
		defer releaseZSTD(d)
		return readPlain(c, d, len(body), max)
	case CompressionZLIB:
		r, err := zlib.NewReader(src)
		if err != nil {
			return nil, badCompression(c, err)
		}
		return readPlain(c, r, len(body), max)
	}
	return nil, fmt.Errorf("%w: unknown type %d", ErrBadCompression, c)
}

// readPlain reads r to its end, but not more than one byte past max.
func readPlain(c Compression, r io.Reader, packed int, max int64) ([]byte, error) {
	limit := max
	if limit+1 > limit {
		limit++
	}
	var out bytes.Buffer
	out.Grow(int(min(4*int64(packed), max)) + bytes.MinRead)
	n, err := out.ReadFrom(io.LimitReader(r, limit))
	if n > max {
		return nil, tooLarge(max)
	}
	if err != nil {
		return nil, badCompression(c, err)
	}
	return out.Bytes(), nil
}

func tooLarge(max int64) error {
	return fmt.Errorf("%w: limit %d bytes", ErrDecompressedTooLarge, max)
}

func badCompression(c Compression, err error) error {
	return fmt.Errorf("%w: %v: %w", ErrBadCompression, c, err)
}

// A zstd coder costs far more to make than to use, so idle ones are kept.
var zstdEncoders, zstdDecoders sync.Pool

func compressZSTD(body []byte) ([]byte, error) {
	e, _ := zstdEncoders.Get().(*zstd.Encoder)
	if e == nil {
		var err error
		e, err = zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(maxWindow),
			zstd.WithZeroFrames(true))
		if err != nil {
			return nil, fmt.Errorf("message: compress by %v: %w", CompressionZSTD, err)
		}
	}
	defer zstdEncoders.Put(e)
	return e.EncodeAll(body, nil), nil
}

func zstdDecoder(src io.Reader) (*zstd.Decoder, error) {
	d, _ := zstdDecoders.Get().(*zstd.Decoder)
	if d != nil {
		return d, d.Reset(src)
	}
	// One decoder at a time reads in the caller's goroutine and starts none of its own.
	return zstd.NewReader(src, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow),
		zstd.WithDecodeBuffersBelow(0))
}

// releaseZSTD keeps d for the next body, without the bytes of this one.
func releaseZSTD(d *zstd.Decoder) {
	if d.Reset(nil) == nil {
		zstdDecoders.Put(d)
	}
}
