package main

import (
	"strings"
	"testing"
)

// Short transfers and the start of one, over links with all that can happen to packets.
func TestRunLinkShort(t *testing.T) {
	if err := canLink(); err != nil {
		t.Skip(err)
	}
	t.Setenv("GORACE", "atexit_sleep_ms=0")
	o, err := parseFlags([]string{
		"-quiet", "-spin=false", "-rounds", "1", "-seconds", "1", "-only", "tcp-cubic,quic,vstp-rudp", "-link-tests", "short,start",
		"-link", "50mbit,4ms", "-link", "50mbit,4ms,loss=1%,burst=2,reorder=1%,jitter=2ms",
	})
	if err != nil {
		t.Fatal(err)
	}
	c, err := newController(o)
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	for _, g := range o.linkGroups() {
		if err := c.runGroup(t.Context(), g); err != nil {
			t.Fatal(err)
		}
		for _, r := range g.Rows {
			switch m := r.Median; {
			case strings.HasPrefix(r.Error, "unavailable: "):
			case strings.Contains(r.Error, "operation not permitted"):
				t.Skip(r.Error) // root, and yet without the rights
			case r.Error != "":
				t.Errorf("%s, %s: %s", g.ID, r.Contender, r.Error)
			case g.Spec.Test == "link-short":
				for _, size := range shortSizes {
					whole, dialed, idle := m[shortKey("new", size)], m[shortKey("dialed", size)], m[shortKey("idle", size)]
					// A round trip, and the time on the link.
					least := 4 + float64(size)*8/50e6*1e3
					if dialed < least || idle < least || whole < dialed {
						t.Errorf("%s, %s: %d bytes in %v, %v and %v ms, less than %v", g.ID, r.Contender, size, whole, dialed, idle, least)
					}
				}
			case m["early"] <= 0 || m["early"] > 1.1 || m["start"] < 0:
				t.Errorf("%s, %s: %v", g.ID, r.Contender, m)
			}
		}
		g.table().write(new(strings.Builder))
	}
}
