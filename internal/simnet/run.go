package simnet

import (
	"fmt"
	"os"
	"strconv"
	"testing"
	"testing/synctest"
)

// Run runs f in synctest bubbles, with the seeds 1 to count, each a subtest. If the
// environment has VSTP_SEED, that seed is the only one; VSTP_SEEDS sets the count.
func Run(t *testing.T, count int, f func(t *testing.T, seed uint64)) {
	t.Helper()
	first, last := uint64(1), uint64(count)
	if s, ok := number(t, "VSTP_SEEDS"); ok {
		last = s
	}
	if s, ok := number(t, "VSTP_SEED"); ok {
		first, last = s, s
	}
	for seed := first; seed <= last; seed++ {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			t.Cleanup(func() {
				if t.Failed() {
					t.Logf("repeat with VSTP_SEED=%d", seed)
				}
			})
			synctest.Test(t, func(t *testing.T) { f(t, seed) })
		})
	}
}

// number returns a number from the environment.
func number(t *testing.T, name string) (uint64, bool) {
	s := os.Getenv(name)
	if s == "" {
		return 0, false
	}
	v, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return v, true
}
