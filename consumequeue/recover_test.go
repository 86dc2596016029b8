// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package consumequeue

import (
	"math"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/internal/crashdisk"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
)

const everything = message.Offset(math.MaxInt64)

func TestRecover(t *testing.T) {
	t.Parallel()
	order, nothing, both := []Trust{TrustOrder}, []Trust{TrustNothing}, []Trust{TrustOrder, TrustNothing}
	tests := []struct {
		name   string
		trust  []Trust
		first  int64 // entry number that the first file begins with
		units  [][]byte
		below  message.Offset
		lo, hi int64 // Min and Max
		empty  bool
		files  int // left by Trim
	}{
		{"no files", both, 0, nil, everything, 0, 0, true, 0},
		{"one entry", both, 0, reals(0, 1), everything, 0, 1, false, 1},
		{"part of a file", both, 0, reals(0, 7), everything, 0, 7, false, 1},
		{"a full file", both, 0, reals(0, 10), everything, 0, 10, false, 1},
		{"three files", both, 0, reals(0, 25), everything, 0, 25, false, 3},
		{"older files expired", both, 30, reals(30, 55), everything, 30, 55, false, 3},

		{"limit at the end", both, 0, reals(0, 25), 2500, 0, 25, false, 3},
		{"limit within the last record", both, 0, reals(0, 25), 2499, 0, 24, false, 3},
		{"limit at the end of a file", both, 0, reals(0, 25), 2000, 0, 20, false, 2},
		{"limit in the first file", both, 0, reals(0, 25), 399, 0, 3, false, 1},
		{"limit at 0", both, 0, reals(0, 25), 0, 0, 0, true, 0},
		{"limit below the first file", both, 30, reals(30, 55), 2900, 30, 30, true, 0},

		{"all-zero file", both, 0, zeros(10), everything, 0, 0, true, 0},
		{"all-zero last file, of which RocketMQ counts a unit", both, 0, join(reals(0, 10), zeros(10)), everything, 0, 10, false, 1},
		{"two of them", both, 0, join(reals(0, 10), zeros(20)), everything, 0, 10, false, 1},
		{"all-zero far first file", both, 100, zeros(10), everything, 100, 100, true, 0},

		{"torn entry", both, 0, join(reals(0, 7), [][]byte{tornUnit(7)}), everything, 0, 7, false, 1},
		{"torn entry begins a file", both, 0, join(reals(0, 10), [][]byte{tornUnit(10)}), everything, 0, 10, false, 1},
		{"torn entry ends a file", both, 0, join(reals(0, 9), [][]byte{tornUnit(9)}), everything, 0, 9, false, 1},
		{"only a torn entry", both, 0, [][]byte{tornUnit(0)}, everything, 0, 0, true, 0},

		{"begins at 17", both, 10, join(blanks(7), reals(17, 25)), everything, 17, 25, false, 2},
		{"begins at 17, limit at its record", both, 10, join(blanks(7), reals(17, 25)), 1700, 17, 17, true, 1},
		{"only blank ones", both, 10, blanks(7), everything, 17, 17, true, 1},
		{"a full file of blank ones", both, 10, blanks(10), everything, 20, 20, true, 1},
		{"blank ones, torn", both, 10, join(blanks(4), [][]byte{junkUnit()}), everything, 14, 14, true, 1},
		{"a filled gap", both, 0, join(reals(0, 4), blanks(3), reals(7, 9)), everything, 0, 9, false, 1},
		{"a gap over a file", both, 0, join(reals(0, 4), blanks(18), reals(22, 25)), everything, 0, 25, false, 3},
		{"a gap, limit behind it", both, 0, join(reals(0, 4), blanks(3), reals(7, 9)), 799, 0, 4, false, 1},
		{"a gap, limit before it", both, 0, join(reals(0, 4), blanks(3), reals(7, 9)), 300, 0, 3, false, 1},
		{"a gap over a file, limit before it", both, 0, join(reals(0, 4), blanks(18), reals(22, 25)), 300, 0, 3, false, 1},
		{"blank ones at the end", both, 0, join(reals(0, 4), blanks(3)), everything, 0, 4, false, 1},
		{"a file of blank ones at the end", both, 0, join(reals(0, 4), blanks(20)), everything, 0, 4, false, 1},

		{"garbage behind the end", both, 0, join(reals(0, 7), repeat(junkUnit(), 3)), everything, 0, 7, false, 1},
		{"garbage behind zeros", nothing, 0, join(reals(0, 5), zeros(1), repeat(junkUnit(), 2)), everything, 0, 5, false, 1},
		{"a file of garbage behind the end", both, 0, join(reals(0, 10), repeat(junkUnit(), 10)), everything, 0, 10, false, 1},

		{"zeros in the middle", nothing, 0, join(reals(0, 3), zeros(3), reals(6, 9)), everything, 0, 3, false, 1},
		{"zeros at the begin", nothing, 0, join(zeros(3), reals(3, 9)), everything, 0, 0, true, 0},
		{"zeros at the begin of the last file", nothing, 0, join(reals(0, 10), zeros(3), reals(13, 19)), everything, 0, 10, false, 1},
		{"zeros at the end of the file before", nothing, 0, join(reals(0, 8), zeros(2), reals(10, 15)), everything, 0, 8, false, 1},
		{"garbage in the middle", nothing, 0, join(reals(0, 3), repeat(junkUnit(), 1), reals(4, 9)), everything, 0, 3, false, 1},
		{"offsets fall", nothing, 0, join(reals(5, 9), reals(3, 5)), everything, 0, 4, false, 1},
		{"an offset twice", nothing, 0, join(reals(0, 4), reals(3, 7)), everything, 0, 4, false, 1},
		{"offsets fall behind a gap", nothing, 0, join(reals(0, 4), blanks(2), reals(2, 6)), everything, 0, 4, false, 1},
		{"offsets fall between files", nothing, 0, join(reals(20, 30), reals(3, 7)), everything, 0, 10, false, 1},
		{"older entries behind the end", nothing, 0, join(reals(50, 55), reals(5, 10)), everything, 0, 5, false, 1},
		// Only the limit can tell these from entries of today.
		{"stale entries that line up", both, 0, reals(0, 10), 500, 0, 5, false, 1},
		{"stale entries that line up, in later files", both, 0, reals(0, 30), 500, 0, 5, false, 1},

		// A process that is killed leaves no such thing; it must not be
		// believed beyond reason all the same.
		{"order that is none", order, 0, join(zeros(3), reals(3, 9)), everything, 0, 0, true, 0},
	}
	for _, tt := range tests {
		for _, how := range tt.trust {
			t.Run(tt.name+"/"+map[Trust]string{TrustOrder: "order", TrustNothing: "nothing"}[how], func(t *testing.T) {
				t.Parallel()
				d := crashdisk.New()
				layFiles(t, d, queueDir(0), fileSize, tt.first, tt.units)
				before := snapshot(t, d)
				disk := &mapCounter{Disk: d}
				s := openSet(t, disk)
				q := create(t, s, 0)
				require.NoError(t, s.Recover(tt.below, how, 2))
				requireRange(t, q, tt.lo, tt.hi)
				require.Equal(t, tt.empty, q.empty)
				require.Equal(t, before, snapshot(t, d), "recovery changes nothing on disk")
				require.Zero(t, disk.n.Load(), "recovery leaves nothing mapped")
				kept := all(t, q)
				for i, e := range kept {
					require.Equal(t, DecodeEntry(tt.units[tt.lo-tt.first+int64(i)]), e)
				}

				was := disk.n.Load()
				require.NoError(t, s.Trim(how, 2))
				require.LessOrEqual(t, disk.n.Load(), was, "neither does trimming")
				requireTrimmed(t, d, q, tt.files)
				require.Equal(t, kept, all(t, q))

				// What is left is what it seems, for anybody who trusts nothing.
				again := openSet(t, d.DurableClone())
				if r := again.Get(topic, 0); r != nil {
					require.NoError(t, again.Recover(everything, TrustNothing, 1))
					if !tt.empty {
						requireRange(t, r, tt.lo, tt.hi)
					}
				}

				// The log goes on, behind whatever is there.
				next := max(tt.hi, 100)
				if !tt.empty {
					require.NoError(t, q.Fill(message.QueueOffset(next)))
				}
				put(t, q, next, next+13)
				require.NoError(t, s.Flush())
				after := openSet(t, d.DurableClone())
				require.NoError(t, after.Recover(everything, TrustNothing, 1))
				require.Equal(t, all(t, q), all(t, after.Get(topic, 0)))
			})
		}
	}
}

// snapshot is the content of all files of the queue.
func snapshot(t *testing.T, d *crashdisk.Disk) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	if len(names(t, d, "/")) == 0 {
		return files
	}
	for _, n := range names(t, d, queueDir(0)) {
		b, err := d.ReadFile(queueDir(0) + "/" + n)
		require.NoError(t, err)
		files[n] = b
	}
	return files
}

// mapCounter is a Disk that counts the mappings that are there.
type mapCounter struct {
	*crashdisk.Disk
	n atomic.Int64
}

func (d *mapCounter) Open(path string, m mappedfile.Mapping) (mappedfile.Region, error) {
	r, err := d.Disk.Open(path, m)
	if err != nil {
		return nil, err
	}
	d.n.Add(1)
	return &countedRegion{Region: r, n: &d.n}, nil
}

type countedRegion struct {
	mappedfile.Region
	n *atomic.Int64
}

func (r *countedRegion) Close() error {
	r.n.Add(-1)
	return r.Region.Close()
}

// requireTrimmed checks that only zeros lie behind Max, durably.
func requireTrimmed(t *testing.T, d *crashdisk.Disk, q *Queue, files int) {
	t.Helper()
	require.Equal(t, files, q.files.Len())
	list, err := d.List(queueDir(0))
	if err != nil {
		require.Zero(t, files)
		return
	}
	require.Len(t, list, files)
	for _, f := range q.files.Files() {
		b, named, err := d.Durable(f.Path())
		require.NoError(t, err)
		require.True(t, named)
		behind := min(max(int64(q.Max())*EntrySize-f.Base(), 0), f.Size())
		require.Equal(t, make([]byte, f.Size()-behind), b[behind:])
	}
}

// A rebuild from the log writes over the files that are there, and leaves
// nothing of them.
func TestRebuildOverOldFiles(t *testing.T) {
	t.Parallel()
	for _, first := range []int64{0, 13} {
		d := crashdisk.New()
		s := openSet(t, d)
		put(t, create(t, s, 0), first, 35)
		require.NoError(t, s.Flush())
		d = d.KillClone()
		made := d.Total(crashdisk.OpCreate, crashdisk.AnyKind)

		s = openSet(t, d)
		q := s.Get(topic, 0)
		require.NoError(t, s.Recover(0, TrustNothing, 1))
		e := entry(0)
		for i := first; i < 24; i++ {
			e = Entry{Offset: e.End(), Size: 7} // the log is another one
			r, err := q.Put(message.QueueOffset(i), e)
			require.NoError(t, err)
			require.Equal(t, Appended, r)
		}
		require.NoError(t, s.Trim(TrustNothing, 1))
		require.NoError(t, s.Flush())
		require.Equal(t, made, d.Total(crashdisk.OpCreate, crashdisk.AnyKind))

		after := openSet(t, d.DurableClone())
		require.NoError(t, after.Recover(everything, TrustNothing, 1))
		requireRange(t, after.Get(topic, 0), first, 24)
		require.Equal(t, all(t, q), all(t, after.Get(topic, 0)))
	}
}
