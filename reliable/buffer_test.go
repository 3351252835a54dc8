package reliable

import (
	"testing"
)

// TestDenseBuffer: what comes in order goes into blocks at once, also far ahead of the
// application; behind a gap, all but the first of it.
func TestDenseBuffer(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	const piece, pieces = 1400, 300
	for _, tt := range []struct {
		name string
		gap  bool
		most float64 // allocations for all pieces
	}{
		{"in order", false, 2},
		{"behind a gap", true, blockLen / piece}, // pieces before the run is long
	} {
		var pool blockPool
		r := recvBuffer{busy: true}
		p := make([]byte, piece)
		n := testing.AllocsPerRun(20, func() {
			from := r.read
			for i := range int64(pieces) {
				if i > 0 || !tt.gap {
					r.write(&pool, from+i*piece, p)
				}
			}
			r.write(&pool, from, p)
			for r.ready() > 0 {
				r.skip(&pool, len(r.peek()))
			}
		})
		if r.read != 21*piece*pieces {
			t.Fatal("at", r.read)
		}
		if t.Log(tt.name, n); n > tt.most {
			t.Errorf("%s: %v allocations", tt.name, n)
		}
	}
}

// BenchmarkReceiveBuffer is a MiB in pieces of 1,400 bytes before any of it is read.
func BenchmarkReceiveBuffer(b *testing.B) {
	const piece, pieces = 1400, 749
	var pool blockPool
	r := recvBuffer{busy: true}
	p := make([]byte, piece)
	b.SetBytes(piece * pieces)
	b.ReportAllocs()
	for b.Loop() {
		for range pieces {
			r.write(&pool, r.read+int64(r.ready()), p)
		}
		for r.ready() > 0 {
			r.skip(&pool, len(r.peek()))
		}
	}
}
