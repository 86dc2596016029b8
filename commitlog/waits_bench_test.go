// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package commitlog

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// BenchmarkAppendWaits is what it costs to tell where an append waits: rounds
// with and without take turns, and their medians are compared.
func BenchmarkAppendWaits(b *testing.B) {
	for _, size := range benchSizes {
		b.Run(fmt.Sprintf("%dB", size), func(b *testing.B) {
			const round = 1024
			l, it := benchLog(b, nil, true), benchItem(b, size, true)
			var w Waits
			took := map[bool][]time.Duration{}
			for told := false; b.Loop(); told = !told {
				it.Waits = nil
				if told {
					it.Waits = &w
				}
				l.rewind(round * size)
				start := time.Now()
				for range round {
					if _, err := l.Append(it); err != nil {
						b.Fatal(err)
					}
				}
				took[told] = append(took[told], time.Since(start))
			}
			median := func(told bool) float64 {
				all := took[told]
				if len(all) == 0 {
					return 0
				}
				slices.Sort(all)
				return float64(all[len(all)/2].Nanoseconds()) / round
			}
			b.ReportMetric(median(true), "told-ns")
			b.ReportMetric(median(false), "untold-ns")
			b.ReportMetric(100*(median(true)/median(false)-1), "%more")
		})
	}
}
