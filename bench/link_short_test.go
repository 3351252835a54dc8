package main

import "testing"

// Short transfers and the start of one, over links with all that can happen to packets.
func TestRunLinkShort(t *testing.T) {
	runLinks(t, []string{
		"-seconds", "1", "-only", "tcp-cubic,quic,vstp-rudp", "-link-tests", "short,start",
		"-link", "50mbit,4ms", "-link", "50mbit,4ms,loss=1%,burst=2,reorder=1%,jitter=2ms",
	}, func(g *group, r *row) {
		m := r.Median
		if g.Spec.Test != "link-short" {
			if m["early"] <= 0 || m["early"] > 1.1 || m["start"] < 0 {
				t.Errorf("%s, %s: %v", g.ID, r.Contender, m)
			}
			return
		}
		for _, size := range shortSizes {
			whole, dialed, idle := m[shortKey("new", size)], m[shortKey("dialed", size)], m[shortKey("idle", size)]
			// A round trip, and the time on the link.
			least := 4 + float64(size)*8/50e6*1e3
			if dialed < least || idle < least || whole < dialed {
				t.Errorf("%s, %s: %d bytes in %v, %v and %v ms, less than %v", g.ID, r.Contender, size, whole, dialed, idle, least)
			}
		}
	})
}
