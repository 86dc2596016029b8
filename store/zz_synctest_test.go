package store_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stelelog/stele/internal/crashdisk"
	"github.com/stelelog/stele/store"
)

func TestZZ(t *testing.T) {
	n := 200
	st := time.Now()
	for range n {
		synctest.Test(t, func(t *testing.T) {
			d := crashdisk.New()
			o := quiet(d)
			o.Flush = store.FlushSync
			s, err := store.Open(root, o)
			if err != nil {
				t.Fatal(err)
			}
			for i := range 10 {
				_, err := s.Append(context.Background(), msg("t", 0, fmt.Sprint(i)))
				if err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
	fmt.Println(time.Since(st)/time.Duration(n), "per life synctest")
	st = time.Now()
	for range n {
		d := crashdisk.New()
		o := quiet(d)
		s, err := store.Open(root, o)
		if err != nil {
			t.Fatal(err)
		}
		_ = s.Close()
	}
	fmt.Println(time.Since(st)/time.Duration(n), "per open/close")
}

func BenchmarkZZ(b *testing.B) {
	for range b.N {
		d := crashdisk.New()
		o := quiet(d)
		s, err := store.Open(root, o)
		if err != nil {
			b.Fatal(err)
		}
		_ = s.Close()
	}
}
