// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package message

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"
)

var compressions = []Compression{CompressionLZ4, CompressionZSTD, CompressionZLIB}

func TestCompressionRoundTrip(t *testing.T) {
	t.Parallel()
	random := make([]byte, 300_000)
	rng := rand.NewChaCha8([32]byte{1})
	_, _ = rng.Read(random) // it never fails
	for _, c := range compressions {
		for name, body := range map[string][]byte{
			"empty": nil, "short": []byte("hello"), "long": bytes.Repeat([]byte("abc "), 50_000), "random": random,
		} {
			t.Run(c.String()+"/"+name, func(t *testing.T) {
				t.Parallel()
				m := goldenMessage()
				m.Body = body
				require.NoError(t, m.CompressBody(c))
				require.Equal(t, c, m.SysFlag.Compression())

				var got Message
				require.NoError(t, (&Decoder{Check: CheckAll}).Decode(encode(t, Encoder{}, m), &got))
				for range 2 { // the second time with a pooled decoder
					plain, err := got.PlainBody(int64(len(body)))
					require.NoError(t, err)
					require.True(t, bytes.Equal(body, plain))
				}
				if len(body) > 1 {
					_, err := got.PlainBody(int64(len(body)) - 1)
					require.ErrorIs(t, err, ErrDecompressedTooLarge)
				}
				_, err := got.PlainBody(math.MaxInt64)
				require.NoError(t, err)
				require.ErrorIs(t, got.CompressBody(c), ErrBadCompression, "twice")
			})
		}
	}
}

func TestPlainBodyOfPlainMessage(t *testing.T) {
	t.Parallel()
	m := goldenMessage()
	require.NoError(t, m.CompressBody(CompressionNone))
	require.Equal(t, SysFlag(0), m.SysFlag)
	plain, err := m.PlainBody(1)
	require.NoError(t, err)
	require.Same(t, &m.Body[0], &plain[0], "a plain body is not copied")
}

func TestDecompressRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range compressions {
		packed, err := Compress(c, bytes.Repeat([]byte("0123456789"), 1000))
		require.NoError(t, err)
		for _, n := range []int{0, 1, len(packed) / 2, len(packed) - 1} {
			_, err = Decompress(c, packed[:n], 0)
			require.ErrorIs(t, err, ErrBadCompression, "%v: %d of %d bytes", c, n, len(packed))
			require.NotErrorIs(t, err, io.EOF)
		}
		_, err = Decompress(c, []byte("this is no compressed body at all"), 0)
		require.ErrorIs(t, err, ErrBadCompression, c.String())
		damaged := bytes.Clone(packed)
		damaged[len(damaged)-1] ^= 1 // the last checksum
		_, err = Decompress(c, damaged, 0)
		require.ErrorIs(t, err, ErrBadCompression, c.String())

		bomb, err := Compress(c, make([]byte, DefaultMaxBodyLen+1))
		require.NoError(t, err)
		_, err = Decompress(c, bomb, 0)
		require.ErrorIs(t, err, ErrDecompressedTooLarge, c.String())
	}
	for _, c := range []Compression{4, 7, 255} {
		_, err := Decompress(c, []byte("x"), 0)
		require.ErrorIs(t, err, ErrBadCompression)
		m := goldenMessage()
		require.ErrorIs(t, m.CompressBody(c), ErrBadCompression)
		require.Equal(t, "hello", string(m.Body), "an error must leave the message alone")
		require.Zero(t, m.SysFlag)
		require.Equal(t, fmt.Sprintf("Compression(%d)", c), c.String())
	}
	_, err := Decompress(CompressionNone, []byte("xyz"), 2)
	require.ErrorIs(t, err, ErrDecompressedTooLarge)
}

// A frame may ask for a window far larger than its body.
func TestDecompressBoundsTheWindow(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	w, err := zstd.NewWriter(&out, zstd.WithWindowSize(64<<20), zstd.WithSingleSegment(false))
	require.NoError(t, err)
	for range 40 { // no size is known when the header is written
		_, err = w.Write(bytes.Repeat([]byte("x"), 1<<20))
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	_, err = Decompress(CompressionZSTD, out.Bytes(), 100<<20)
	require.ErrorIs(t, err, ErrBadCompression)
	require.ErrorIs(t, err, zstd.ErrWindowSizeExceeded)
}

// Bytes that other programs made: Java's Deflater, lz4 and zstd on the command line.
func TestDecompressForeign(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		by  Compression
		hex string
	}{
		{CompressionZLIB, "785ecb48cdc9c957c8402701680308b1"},
		{CompressionLZ4, "04224d186440a70f0000006868656c6c6f2006005068656c6c6f00000000f26b940b"},
		{CompressionZSTD, "28b52ffd04586500003068656c6c6f200100994b11175eae0d"},
	} {
		b, err := hex.DecodeString(c.hex)
		require.NoError(t, err)
		plain, err := Decompress(c.by, b, 0)
		require.NoError(t, err)
		require.Equal(t, "hello hello hello hello", string(plain), c.by.String())
	}
}
