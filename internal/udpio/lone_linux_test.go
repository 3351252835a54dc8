package udpio

import "testing"

// TestLonePackets: a socket with one packet at a time is asked for one, until more come
// without a wait.
func TestLonePackets(t *testing.T) {
	r := receiver{depth: minDepth}
	read := func(n int, dry bool) (asked int) {
		r.ask(maxBatch)
		r.n, r.dry = min(n, r.want), dry
		r.adapt()
		return r.want
	}
	for i := range loneReads {
		if got := read(1, true); got != minDepth {
			t.Fatalf("read %d asks for %d", i, got)
		}
	}
	for range 3 {
		if got := read(1, true); got != 1 {
			t.Fatal("lone packets are asked for by", got)
		}
	}
	// The first one of a burst was waited for, the second one not.
	for i, want := range []int{1, 1, minDepth, 2 * minDepth, 4 * minDepth, maxBatch, maxBatch} {
		if got := read(maxBatch, i == 0); got != want {
			t.Errorf("read %d of a burst asks for %d, want %d", i, got, want)
		}
	}
	if got := read(1, true); got != maxBatch || r.lone != 1 {
		t.Errorf("after a burst %d, lone %d", got, r.lone)
	}
}
