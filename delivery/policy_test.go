// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package delivery_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/delivery"
)

func TestChoose(t *testing.T) {
	t.Parallel()
	const long, among, middle, short = delivery.SendfileFrom, delivery.SendfileAmongFrom, delivery.WriteFrom, delivery.WriteFrom - 1
	for _, c := range []struct {
		name  string
		shape delivery.Shape
		want  delivery.Method
	}{
		{"nothing", delivery.Shape{}, delivery.Copy},
		{"nothing to a socket", delivery.Shape{Kind: delivery.TCP, Descriptor: true}, delivery.Copy},
		{"a long run", delivery.Shape{Bytes: long, Runs: 1, Kind: delivery.TCP, Descriptor: true}, delivery.Sendfile},
		{"a long run, unix", delivery.Shape{Bytes: long, Runs: 1, Kind: delivery.Unix, Descriptor: true}, delivery.Sendfile},
		{"a long run, cold", delivery.Shape{Bytes: long, Runs: 1, Kind: delivery.TCP, Descriptor: true, Cold: true}, delivery.Sendfile},
		{"long runs", delivery.Shape{Bytes: 9 * among, Runs: 9, Kind: delivery.TCP, Descriptor: true}, delivery.Sendfile},
		{"runs that are long only alone", delivery.Shape{Bytes: 9*among - 1, Runs: 9, Kind: delivery.TCP, Descriptor: true}, delivery.Writev},
		{"the same, cold", delivery.Shape{Bytes: 9*among - 1, Runs: 9, Kind: delivery.TCP, Descriptor: true, Cold: true}, delivery.ReadWrite},
		{"a long run without a file", delivery.Shape{Bytes: long, Runs: 1, Kind: delivery.TCP}, delivery.Write},
		{"long runs without a file", delivery.Shape{Bytes: 2 * long, Runs: 2, Kind: delivery.TCP}, delivery.Writev},
		{"a long run, TLS", delivery.Shape{Bytes: long, Runs: 1, Descriptor: true}, delivery.Copy},
		{"a long run, TLS, cold", delivery.Shape{Bytes: long, Runs: 1, Descriptor: true, Cold: true}, delivery.ReadWrite},
		{"one byte less", delivery.Shape{Bytes: long - 1, Runs: 1, Kind: delivery.TCP, Descriptor: true}, delivery.Write},
		{"a middling run", delivery.Shape{Bytes: middle, Runs: 1, Kind: delivery.TCP, Descriptor: true}, delivery.Write},
		{"middling runs", delivery.Shape{Bytes: 8 * middle, Runs: 8, Kind: delivery.TCP, Descriptor: true}, delivery.Writev},
		{"middling runs, cold", delivery.Shape{Bytes: 8 * middle, Runs: 8, Kind: delivery.TCP, Descriptor: true, Cold: true}, delivery.ReadWrite},
		{"a short run", delivery.Shape{Bytes: short, Runs: 1, Kind: delivery.TCP, Descriptor: true}, delivery.Copy},
		{"scattered records", delivery.Shape{Bytes: 32 << 10, Runs: 32, Kind: delivery.TCP, Descriptor: true}, delivery.Copy},
		{"scattered records, cold", delivery.Shape{Bytes: 32 << 10, Runs: 32, Kind: delivery.TCP, Descriptor: true, Cold: true}, delivery.ReadWrite},
		{"scattered records, cold, without a file", delivery.Shape{Bytes: 32 << 10, Runs: 32, Kind: delivery.TCP, Cold: true}, delivery.Copy},
	} {
		require.Equal(t, c.want.String(), delivery.Choose(c.shape).String(), c.name)
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	require.Equal(t, "read+write", delivery.ReadWrite.String())
	require.Equal(t, "Method(200)", delivery.Method(200).String())
	require.Equal(t, "unix", delivery.Unix.String())
	require.Equal(t, "Kind(9)", delivery.Kind(9).String())
}

// FuzzChoose holds what the policy must never do, whatever its constants are.
func FuzzChoose(f *testing.F) {
	f.Add(int64(1<<20), 1, uint8(1), true, false)
	f.Add(int64(-5), -3, uint8(7), true, true)
	f.Add(int64(1<<62), 1<<30, uint8(2), false, true)
	f.Fuzz(func(t *testing.T, bytes int64, runs int, kind uint8, descriptor, cold bool) {
		s := delivery.Shape{Bytes: bytes, Runs: runs, Kind: delivery.Kind(kind), Descriptor: descriptor, Cold: cold}
		m := delivery.Choose(s)
		require.Equal(t, m, delivery.Choose(s), "a pure function")
		require.NotEqual(t, delivery.Auto, m)
		require.Less(t, m, delivery.Methods)
		if !descriptor {
			require.NotContains(t, []delivery.Method{delivery.Sendfile, delivery.Splice, delivery.ReadWrite}, m)
		}
		if s.Kind != delivery.TCP && s.Kind != delivery.Unix {
			require.Contains(t, []delivery.Method{delivery.Copy, delivery.ReadWrite}, m, "mapped bytes went to a wrapper")
		}
		if cold && descriptor {
			require.Contains(t, []delivery.Method{delivery.Sendfile, delivery.ReadWrite}, m, "a page fault would wait for the disk")
		}
		// More of the same makes nothing shorter.
		if m == delivery.Sendfile && bytes > 0 && bytes < 1<<40 && runs > 0 && runs < 1<<20 {
			s.Bytes *= 2
			require.Equal(t, m, delivery.Choose(s))
		}
	})
}

func TestAppend(t *testing.T) {
	t.Parallel()
	a, b := &delivery.Source{Data: make([]byte, 100)}, &delivery.Source{Data: make([]byte, 100), Base: 100}
	type piece struct {
		src      *delivery.Source
		from, to int64
	}
	for _, c := range []struct {
		name   string
		pieces []piece
		want   []delivery.Run
	}{
		{"none", nil, nil},
		{"empty", []piece{{a, 5, 5}, {a, 9, 3}}, nil},
		{"one", []piece{{a, 0, 10}}, []delivery.Run{{Source: a, From: 0, To: 10}}},
		{"adjacent", []piece{{a, 0, 10}, {a, 10, 20}, {a, 20, 21}}, []delivery.Run{{Source: a, From: 0, To: 21}}},
		{"adjacent with an empty one between", []piece{{a, 0, 10}, {a, 50, 50}, {a, 10, 20}}, []delivery.Run{{Source: a, From: 0, To: 20}}},
		{"a gap of a byte", []piece{{a, 0, 10}, {a, 11, 20}}, []delivery.Run{{Source: a, From: 0, To: 10}, {Source: a, From: 11, To: 20}}},
		{"backwards", []piece{{a, 10, 20}, {a, 0, 10}}, []delivery.Run{{Source: a, From: 10, To: 20}, {Source: a, From: 0, To: 10}}},
		{"twice the same", []piece{{a, 10, 20}, {a, 10, 20}}, []delivery.Run{{Source: a, From: 10, To: 20}, {Source: a, From: 10, To: 20}}},
		{"overlapping", []piece{{a, 10, 20}, {a, 19, 30}}, []delivery.Run{{Source: a, From: 10, To: 20}, {Source: a, From: 19, To: 30}}},
		{"the next file", []piece{{a, 90, 100}, {b, 0, 10}}, []delivery.Run{{Source: a, From: 90, To: 100}, {Source: b, From: 0, To: 10}}},
		{"the same position of another file", []piece{{a, 0, 10}, {b, 10, 20}}, []delivery.Run{{Source: a, From: 0, To: 10}, {Source: b, From: 10, To: 20}}},
	} {
		var runs []delivery.Run
		for _, p := range c.pieces {
			runs = delivery.Append(runs, p.src, p.from, p.to)
		}
		require.Equal(t, c.want, runs, c.name)
	}
}

// FuzzAppend cuts pieces out of two sources: the runs hold the same bytes in the
// same order, and no two of them touch.
func FuzzAppend(f *testing.F) {
	f.Add([]byte{0, 0, 10, 0, 10, 20, 1, 0, 5})
	f.Add([]byte{1, 9, 3, 1, 9, 12, 1, 12, 15, 0, 15, 30})
	f.Fuzz(func(t *testing.T, pieces []byte) {
		sources := [2]*delivery.Source{{Data: make([]byte, 256)}, {Data: make([]byte, 256), Base: 256}}
		for i := range 256 {
			sources[0].Data[i], sources[1].Data[i] = byte(i), ^byte(i)
		}
		var runs []delivery.Run
		var want, got []byte
		for ; len(pieces) >= 3; pieces = pieces[3:] {
			src, from, to := sources[pieces[0]&1], int64(pieces[1]), int64(pieces[2])
			runs = delivery.Append(runs, src, from, to)
			if from < to {
				want = append(want, src.Data[from:to]...)
			}
		}
		for i, r := range runs {
			require.Positive(t, r.Len())
			got = append(got, r.Source.Data[r.From:r.To]...)
			if i > 0 {
				last := runs[i-1]
				require.False(t, last.Source == r.Source && last.To == r.From, "runs %d and %d touch", i-1, i)
			}
		}
		require.Equal(t, want, got)
		require.EqualValues(t, len(want), delivery.Len(runs))
	})
}
