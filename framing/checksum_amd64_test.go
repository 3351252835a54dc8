//go:build amd64 && !purego

package framing

import "testing"

func TestChecksumFactors(t *testing.T) {
	for i, n := range []int{2048, 512, 128} {
		if want := [2]uint64{xTo(n + 32), xTo(n - 32)}; foldBy[i] != want {
			t.Errorf("by %d bits: %#x, want %#x", n, foldBy[i], want)
		}
	}
	if want := xTo(64); foldBy[3][0] != want {
		t.Errorf("x^64: %#x, want %#x", foldBy[3][0], want)
	}
}

// TestChecksumNarrow is what other CPUs do.
func TestChecksumNarrow(t *testing.T) {
	defer func(was bool) { wide = was }(wide)
	wide = false
	TestChecksumLengths(t)
}
