package stream

import (
	"testing"
	"time"
)

// TestUnsent: what waits unsent follows the rate, and is little again when that falls.
func TestUnsent(t *testing.T) {
	const mb = 1_000_000
	now := time.Unix(1000, 0)
	var u unsent
	pass := func(rate float64, d time.Duration) bool {
		u.begin(now)
		u.bytes += int(rate * d.Seconds())
		now = now.Add(d)
		return u.measure(now)
	}
	for _, step := range []struct {
		rate float64
		want int
	}{
		{10 * mb, minUnsent}, {125 * mb, minUnsent}, {300 * mb, 2 * minUnsent}, {1250 * mb, 8 * minUnsent},
		{1250 * mb, 8 * minUnsent}, {9000 * mb, maxUnsent}, {0.1 * mb, minUnsent}, {2500 * mb, maxUnsent},
	} {
		old := max(u.size, minUnsent)
		if pass(step.rate, unsentEvery/2) {
			t.Errorf("%v: changed too early", step.rate)
		}
		changed := pass(step.rate, unsentEvery/2)
		if got := max(u.size, minUnsent); got != step.want || changed != (got != old) {
			t.Errorf("%v: %d after %d, changed %v, want %d", step.rate, got, old, changed, step.want)
		}
	}
	if pass(9000*mb, unsentEvery/2) || pass(9000*mb, -time.Hour) {
		t.Error("changed by a clock that went backwards")
	}
	// A pause of the application says nothing, a write that takes as long does.
	now = now.Add(time.Second)
	if pass(9000*mb, unsentEvery) || u.size != maxUnsent {
		t.Errorf("%d after a pause", u.size)
	}
	if !pass(mb, time.Second) || u.size != minUnsent {
		t.Errorf("%d after a slow write", u.size)
	}
}
