package simnet

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestDelay(t *testing.T) {
	carriers(t, func(t *testing.T, o Options) {
		o.Path = Path{Delay: 20 * time.Millisecond}
		p := newPair(t, o)
		p.burst(t, 100, 1200, time.Millisecond)
		for i, a := range p.finish() {
			if want := time.Duration(20+i) * time.Millisecond; a.at != want || a.number() != i || len(a.data) != 1200 {
				t.Fatalf("packet %d at %v, want %d at %v", a.number(), a.at, i, want)
			}
		}
	})
}

// TestNoDelay: without any parameter packets arrive at once.
func TestNoDelay(t *testing.T) {
	carriers(t, func(t *testing.T, o Options) {
		p := newPair(t, o)
		p.burst(t, 1000, 4, 0)
		synctest.Wait()
		if got := len(p.arrivals); got != 1000 || time.Since(p.n.start) != 0 {
			t.Errorf("%d arrived in %v", got, time.Since(p.n.start))
		}
	})
}

// TestDelayChanges: a packet takes as long as the path took when it was sent, so that
// with a shorter way it overtakes.
func TestDelayChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, Options{Seed: 1, Path: Path{Delay: 50 * time.Millisecond}})
		p.burst(t, 1, 4, time.Millisecond)
		p.ab.Update(func(p *Path) { p.Delay = 10 * time.Millisecond })
		p.burst(t, 1, 5, 0)
		got := p.finish()
		if len(got) != 2 || len(got[0].data) != 5 || got[0].at != 11*time.Millisecond || got[1].at != 50*time.Millisecond {
			t.Errorf("arrived: %v", got)
		}
	})
}

// TestAsymmetric: the way back is a path of its own.
func TestAsymmetric(t *testing.T) {
	carriers(t, func(t *testing.T, o Options) {
		p := newPair(t, o)
		p.ab.Set(Path{Delay: 30 * time.Millisecond})
		p.ba.Set(Path{Delay: 5 * time.Millisecond, MTU: 1000})
		p.b.WriteTo([]byte("back"), p.a.LocalAddr())
		buf := make([]byte, 10)
		if k, from, err := p.a.ReadFrom(buf); err != nil || string(buf[:k]) != "back" || from.String() != "10.0.0.2:9" {
			t.Fatalf("%q from %v, %v", buf[:k], from, err)
		}
		if d := time.Since(p.n.start); d != 5*time.Millisecond {
			t.Errorf("back in %v", d)
		}
		if p.ab.Stats().Sent != 0 || p.ba.Stats().Sent != 1 || p.ba.Params().MTU != 1000 {
			t.Error("paths are mixed up")
		}
	})
}

// TestRate: packets leave one behind the other at exactly the rate, one that does not
// divide a second, too.
func TestRate(t *testing.T) {
	for _, rate := range []int64{1_000_000, 777_777, 3} {
		synctest.Test(t, func(t *testing.T) {
			const count, size = 300, 1000
			p := newPair(t, Options{Seed: 1, Limit: -1, Path: Path{Rate: rate, Delay: time.Millisecond}})
			p.burst(t, count, size, 0)
			if q := p.ab.Stats().Queue; q != count*size {
				t.Errorf("%d bytes in the queue", q)
			}
			time.Sleep(time.Duration(count*size/rate+1) * time.Second)
			got := p.finish()
			for i, a := range got {
				want := time.Duration(int64(i+1)*size*int64(time.Second)/rate) + time.Millisecond
				if a.at != want {
					t.Fatalf("rate %d: packet %d at %v, want %v", rate, i, a.at, want)
				}
			}
			if s := p.ab.Stats(); len(got) != count || s.Queue != 0 || s.MaxQueue != count*size {
				t.Errorf("%d arrived, %+v", len(got), s)
			}
		})
	}
}

// TestQueue: what does not fit is dropped at the tail; the queue is never longer than
// its bound, and 100 kB at 1 MB/s are 100 ms.
func TestQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size = 1000
		p := newPair(t, Options{Seed: 1, Path: Path{Rate: 1_000_000, Queue: 100_500}})
		p.burst(t, 250, size, 0)
		p.burst(t, 400, size, 500*time.Microsecond) // twice the rate
		got, s := p.finish(), p.ab.Stats()
		if s.MaxQueue != 100*size || got[99].number() != 99 || got[99].at != 100*time.Millisecond {
			t.Errorf("max queue %d, packet %d at %v", s.MaxQueue, got[99].number(), got[99].at)
		}
		// The first one leaves after 1 ms, from then on there is room every other time.
		if s.QueueFull != 150+201 || len(got) != 299 {
			t.Errorf("%d arrived, %+v", len(got), s)
		}
		if old := p.ab.ResetStats(); old != s || p.ab.Stats() != (Stats{}) {
			t.Errorf("reset: %+v, then %+v", old, p.ab.Stats())
		}
	})
}

// TestRateChanges: packets in the queue leave at the new rate.
func TestRateChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, Options{Seed: 1, Path: Path{Rate: 1000, Delay: 5 * time.Millisecond}})
		p.burst(t, 4, 1000, 0)
		for _, step := range []struct {
			wait time.Duration
			rate int64
		}{{1500 * time.Millisecond, 500}, {2 * time.Second, 1}, {time.Second, 0}} {
			time.Sleep(step.wait)
			p.ab.Update(func(p *Path) { p.Rate = step.rate })
		}
		if q := p.ab.Stats().Queue; q != 0 {
			t.Errorf("%d bytes in the queue", q)
		}
		p.burst(t, 1, 7, 0)
		got := p.finish()
		want := []time.Duration{1000, 2500, 4500, 4500, 4500} // 1500 to 2500: the rest of the second
		if len(got) != len(want) {
			t.Fatalf("%d arrived", len(got))
		}
		for i, w := range want {
			if w = w*time.Millisecond + 5*time.Millisecond; got[i].at != w {
				t.Errorf("packet %d at %v, want %v", i, got[i].at, w)
			}
		}
		if len(got[4].data) != 7 {
			t.Error("the order has changed")
		}
	})
}

func TestDown(t *testing.T) {
	carriers(t, func(t *testing.T, o Options) {
		o.Path = Path{Delay: 10 * time.Millisecond}
		p := newPair(t, o)
		p.burst(t, 5, 4, time.Millisecond)
		p.ab.Update(func(p *Path) { p.Down = true })
		p.burst(t, 5, 4, time.Millisecond)
		p.ab.Update(func(p *Path) { p.Down = false })
		p.burst(t, 5, 4, time.Millisecond)
		if got, s := p.finish(), p.ab.Stats(); len(got) != 10 || s.Down != 5 || got[5].at != 20*time.Millisecond {
			t.Errorf("%d arrived, %+v", len(got), s)
		}
	})
}

// TestRealTime: 100 round trips of 40 ms take less than 50 ms of real time.
func TestRealTime(t *testing.T) {
	for _, vnet := range []bool{false, true} {
		start := time.Now()
		synctest.Test(t, func(t *testing.T) { roundTrips(t, vnet) })
		limit := 50 * time.Millisecond
		if raceEnabled {
			limit *= 4
		}
		d := time.Since(start)
		t.Logf("vnet %v: %v", vnet, d)
		if d > limit {
			t.Errorf("vnet %v: %v of real time", vnet, d)
		}
	}
}

func roundTrips(t *testing.T, vnet bool) {
	n := New(t, Options{Seed: 1, VNet: vnet, Path: Path{Delay: 20 * time.Millisecond}})
	a, b := n.Host("10.0.0.1").ListenPacket(0), n.Host("10.0.0.2").ListenPacket(0)
	go func() {
		for buf := make([]byte, 10); ; {
			k, from, err := b.ReadFrom(buf)
			if err != nil {
				return
			}
			b.WriteTo(buf[:k], from)
		}
	}()
	start, buf := time.Now(), make([]byte, 10)
	for range 100 {
		a.WriteTo(buf[:4], b.LocalAddr())
		if _, _, err := a.ReadFrom(buf); err != nil {
			t.Fatal(err)
		}
	}
	if d := time.Since(start); d != 4*time.Second {
		t.Errorf("100 round trips in %v", d)
	}
}
