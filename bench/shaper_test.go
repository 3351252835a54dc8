package main

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

func TestParseLinkImpairments(t *testing.T) {
	l, err := parseLink("100mbit,40ms,loss=2%,burst=8,reorder=5%,jitter=20ms,unordered")
	if err != nil {
		t.Fatal(err)
	}
	if l.Loss != 0.02 || l.Burst != 8 || l.Reorder != 0.05 || l.Jitter != 20*time.Millisecond || !l.Unordered || l.Queue != 500_000 {
		t.Errorf("%+v", l)
	}
	for _, r := range reportLinks {
		if _, err := parseLink(r.text); err != nil {
			t.Error(err)
		}
	}
	flows, err := parseFlows("tcp-bbr+3*vstp-rudp")
	if got := strings.Join(flows, " "); err != nil || got != "tcp-bbr vstp-rudp vstp-rudp vstp-rudp" {
		t.Errorf("%s, %v", got, err)
	}
	for _, set := range []string{"", "0*quic", "-1*quic", "x*quic", "quic*2", "65*quic", "40*quic+40*quic", "quic+"} {
		if flows, err := parseFlows(set); err == nil {
			t.Errorf("%q: %v, want an error", set, flows)
		}
	}
}

// Bursts of losses have the length that was asked for, and the share of all packets too.
func TestShaperBursts(t *testing.T) {
	for _, c := range []struct{ loss, burst float64 }{{0.02, 8}, {0.05, 1}, {0.2, 3}, {0.5, 1}} {
		const n = 400_000
		s := newShaper(impairment{Loss: c.loss, Burst: c.burst}, 1, 0)
		var lost, bursts float64
		before := false
		for i := range n {
			_, _, ok := s.enter(int64(i), 100)
			if !ok {
				lost++
				if !before {
					bursts++
				}
			}
			before = !ok
		}
		if share := lost / n; math.Abs(share/c.loss-1) > 0.1 {
			t.Errorf("%+v: %.4f were lost", c, share)
		}
		if mean := lost / bursts; math.Abs(mean/c.burst-1) > 0.1 {
			t.Errorf("%+v: bursts of %.2f", c, mean)
		}
	}
}

// Strays are overtaken, the others keep their order.
func TestShaperReorder(t *testing.T) {
	const n, step = 100_000, int64(100 * time.Microsecond)
	s := newShaper(impairment{Delay: 20 * time.Millisecond, Reorder: 0.05}, 1, 0)
	late := 0
	for i := range n {
		now := int64(i) * step
		due, stray, ok := s.enter(now, 100)
		extra := time.Duration(due-now) - 20*time.Millisecond
		if !ok || !stray && extra != 0 || stray && (extra < reorderMin || extra >= reorderMax) {
			t.Fatalf("packet %d: stray %v, %v too late", i, stray, extra)
		}
		if stray {
			late++
		}
	}
	if late < n*4/100 || late > n*6/100 || s.counts.Strays != uint64(late) {
		t.Errorf("%d of %d strayed, counted %d", late, n, s.counts.Strays)
	}
}

// Jitter makes the delay grow by all of it and by nothing, with the order kept or not.
func TestShaperJitter(t *testing.T) {
	const n, step, jitter = 100_000, int64(100 * time.Microsecond), 20 * time.Millisecond
	for _, unordered := range []bool{false, true} {
		s := newShaper(impairment{Delay: 20 * time.Millisecond, Jitter: jitter, Unordered: unordered}, 1, 0)
		var last int64
		var total time.Duration
		least, most := time.Hour, time.Duration(0)
		overtaken := 0
		for i := range n {
			now := int64(i) * step
			due, stray, ok := s.enter(now, 100)
			extra := time.Duration(due-now) - 20*time.Millisecond
			if !ok || stray != unordered || extra < 0 || extra > jitter+time.Duration(step) {
				t.Fatalf("packet %d: stray %v, %v too late", i, stray, extra)
			}
			if due < last {
				overtaken++
			}
			last = due
			least, most, total = min(least, extra), max(most, extra), total+extra
		}
		if least > jitter/20 || most < jitter*19/20 || (total/n-jitter/2).Abs() > jitter/10 {
			t.Errorf("unordered %v: delays of %v to %v more, %v on average", unordered, least, most, total/n)
		}
		if unordered != (overtaken > 0) {
			t.Errorf("unordered %v: %d came before the packet in front of them", unordered, overtaken)
		}
	}
}

// Whatever comes in which order, what is due next goes out first, and what is due at once
// in the order in which it came.
func TestFlight(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var f flight
	var queued int64
	var last packet
	pushed, popped := 0, 0
	pop := func() {
		p := *f.first()
		if popped > 0 && (p.due < last.due || p.due == last.due && p.order < last.order) {
			t.Fatalf("%d after %d", p.due, last.due)
		}
		last = p
		popped++
		f.drop()
	}
	for range 5000 {
		p := packet{due: max(queued, last.due) + random.Int64N(4)}
		stray := random.IntN(4) == 0
		if stray {
			p.due += random.Int64N(100)
		} else {
			queued = p.due
		}
		f.push(p, stray)
		pushed++
		if random.IntN(3) == 0 {
			pop()
		}
	}
	for f.first() != nil {
		pop()
	}
	if popped != pushed {
		t.Errorf("%d of %d came out", popped, pushed)
	}
}

func TestRateReached(t *testing.T) {
	// 100 bytes a second for ten seconds, then 1000.
	var arrivals []arrival
	var total int64
	for i := range 200 {
		total += 10
		if i >= 100 {
			total += 90
		}
		arrivals = append(arrivals, arrival{time.Duration(i) * 100 * time.Millisecond, total})
	}
	for _, c := range []struct {
		rate float64
		want time.Duration
		ok   bool
	}{{90, 0, true}, {500, 8800 * time.Millisecond, true}, {900, 9800 * time.Millisecond, true}, {2000, 20 * time.Second, false}} {
		if at, ok := rateReached(arrivals, 2*time.Second, c.rate, 20*time.Second); ok != c.ok || (at-c.want).Abs() > 300*time.Millisecond {
			t.Errorf("%v a second: %v, %v; want %v, %v", c.rate, at, ok, c.want, c.ok)
		}
	}
	if n := arrivedBy(arrivals, 5*time.Second); n != 510 {
		t.Errorf("%d bytes after 5 s", n)
	}
	if _, ok := rateReached(nil, time.Second, 1, time.Minute); ok {
		t.Error("nothing has a rate")
	}
}
