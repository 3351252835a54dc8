package reliable

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
)

// TestPartial: fragments in any order, of any cut, some of them twice, are the message, and
// the blocks of its beginning are there for the next one.
func TestPartial(t *testing.T) {
	var pool blockPool
	for seed := range uint64(30) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		want := messageBody(seed, 1+rnd.IntN(40*blockLen))
		m := &partial{total: int64(len(want))}
		most := 0
		for tail := 0; m.got < m.total; {
			off, n := tail, 1+rnd.IntN(3*blockLen)
			if rnd.IntN(3) == 0 {
				off = rnd.IntN(len(want))
			} else {
				tail = min(tail+n, len(want)-1)
			}
			if !m.write(&pool, int64(off), want[off:min(off+n, len(want))]) {
				t.Fatal("no room")
			}
			most = max(most, len(m.blocks))
			if m.body != nil && m.got*bodyShare < m.total/2 {
				t.Fatalf("seed %d: memory for %d when there are %d", seed, m.total, m.got)
			}
		}
		if !bytes.Equal(m.body, want) {
			t.Fatalf("seed %d: not what was sent", seed)
		}
		if m.blocks != nil || len(m.loose) != 0 {
			t.Fatalf("seed %d: %d blocks of %d left, %d loose", seed, len(m.blocks), most, len(m.loose))
		}
	}
	if len(pool.free) == 0 {
		t.Error("no block came back")
	}
}

// BenchmarkPartial is a message of 32 MiB from fragments.
func BenchmarkPartial(b *testing.B) {
	const total = 32 << 20
	for _, size := range []int{1400, 65000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			var pool blockPool
			p := make([]byte, size)
			b.SetBytes(total)
			b.ReportAllocs()
			for b.Loop() {
				m := &partial{total: total}
				for off := int64(0); off < total; off += int64(size) {
					m.write(&pool, off, p[:min(int64(size), total-off)])
				}
				if m.got != total {
					b.Fatal(m.got)
				}
			}
		})
	}
}
